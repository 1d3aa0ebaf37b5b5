"""Metrics against scikit-learn's, ties included."""

import numpy as np
import pytest

from sheer.task.metrics import METRICS

sklearn = pytest.importorskip("sklearn.metrics", reason="pip install '.[demo]'")
GENERATOR = np.random.default_rng(0)
SCORES = GENERATOR.integers(1, 9, (60, 7)).astype(float)
PROBABILITIES = SCORES / SCORES.sum(1, keepdims=True)
LABELS = GENERATOR.integers(0, 7, 60)
TAGS = (GENERATOR.random((60, 7)) < 0.3).astype(np.float32)
NUMBERS = GENERATOR.normal(size=(60, 7)).astype(np.float32)
ONE_HOT = np.eye(7)[LABELS]


@pytest.mark.parametrize(
    ("task", "name", "wanted"),
    [
        ("classify", "accuracy", lambda: sklearn.accuracy_score(LABELS, PROBABILITIES.argmax(1))),
        ("classify", "balanced_accuracy", lambda: sklearn.balanced_accuracy_score(LABELS, PROBABILITIES.argmax(1))),
        ("classify", "f1", lambda: sklearn.f1_score(LABELS, PROBABILITIES.argmax(1), average="macro")),
        ("classify", "auroc", lambda: sklearn.roc_auc_score(ONE_HOT, PROBABILITIES, average="macro")),
        ("classify", "average_precision", lambda: sklearn.average_precision_score(ONE_HOT, PROBABILITIES, average="macro")),
        ("tag", "f1", lambda: sklearn.f1_score(TAGS, PROBABILITIES >= 0.5, average="macro", zero_division=np.nan)),
        ("tag", "auroc", lambda: sklearn.roc_auc_score(TAGS, PROBABILITIES, average="macro")),
        ("tag", "average_precision", lambda: sklearn.average_precision_score(TAGS, PROBABILITIES, average="macro")),
        ("tag", "exact_match", lambda: sklearn.accuracy_score(TAGS, PROBABILITIES >= 0.5)),
        ("regress", "mean_absolute_error", lambda: sklearn.mean_absolute_error(NUMBERS, SCORES)),
        ("regress", "root_mean_squared_error", lambda: sklearn.mean_squared_error(NUMBERS, SCORES) ** 0.5),
        ("regress", "r2", lambda: sklearn.r2_score(NUMBERS, SCORES)),
    ],
)
def test_a_metric_is_scikit_learns(task, name, wanted):
    target = {"classify": LABELS, "tag": TAGS, "regress": NUMBERS}[task]
    outputs = SCORES if task == "regress" else PROBABILITIES
    assert METRICS[task][name](outputs, target) == pytest.approx(wanted(), rel=1e-6)


def test_top_5_accuracy_counts_ranks():
    outputs = np.linspace(1, 0, 7)[None].repeat(7, 0)
    assert METRICS["classify"]["top_5_accuracy"](outputs, np.arange(7)) == pytest.approx(5 / 7)


@pytest.mark.parametrize(("task", "name"), [(task, name) for task, table in METRICS.items() for name in table])
def test_every_metric_of_no_items_is_nan(task, name):
    outputs, target = np.zeros((0, 3)), np.zeros((0,), dtype=np.int64) if task == "classify" else np.zeros((0, 3))
    with np.errstate(all="ignore"):
        assert np.isnan(METRICS[task][name](outputs, target))
