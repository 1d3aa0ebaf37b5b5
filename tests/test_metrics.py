"""Metrics against scikit-learn's, ties and weights included; intervals of weighted items against draws of them."""

import numpy as np
import pytest

from sheer.task.metrics import METRICS, bootstrap_interval, counting, effective_items, share_interval, wilson_interval

sklearn = pytest.importorskip("sklearn.metrics", reason="pip install '.[demo]'")
GENERATOR = np.random.default_rng(0)
SCORES = GENERATOR.integers(1, 9, (60, 7)).astype(float)
PROBABILITIES = SCORES / SCORES.sum(1, keepdims=True)
LABELS = GENERATOR.integers(0, 7, 60)
TAGS = (GENERATOR.random((60, 7)) < 0.3).astype(np.float32)
CHANCES = np.clip(TAGS * 0.5 + 0.25 + GENERATOR.normal(size=(60, 7)) * 0.15, 0, 1).round(1)
NUMBERS = GENERATOR.normal(size=(60, 7)).astype(np.float32)
ONE_HOT = np.eye(7)[LABELS]
OUTPUTS = {"classify": PROBABILITIES, "tag": CHANCES, "regress": SCORES}
UNTIED = PROBABILITIES + GENERATOR.random((60, 7)) / 1000
WEIGHTS = GENERATOR.lognormal(size=60) * (GENERATOR.random(60) > 0.1)


@pytest.mark.parametrize(
    ("task", "name", "wanted"),
    [
        ("classify", "accuracy", lambda **w: sklearn.accuracy_score(LABELS, PROBABILITIES.argmax(1), **w)),
        ("classify", "balanced_accuracy", lambda **w: sklearn.balanced_accuracy_score(LABELS, PROBABILITIES.argmax(1), **w)),
        ("classify", "top_5_accuracy", lambda **w: sklearn.top_k_accuracy_score(LABELS, UNTIED, k=5, **w)),
        ("classify", "f1", lambda **w: sklearn.f1_score(LABELS, PROBABILITIES.argmax(1), average="macro", zero_division=np.nan, **w)),
        ("classify", "auroc", lambda **w: sklearn.roc_auc_score(ONE_HOT, PROBABILITIES, average="macro", **w)),
        ("classify", "average_precision", lambda **w: sklearn.average_precision_score(ONE_HOT, PROBABILITIES, average="macro", **w)),
        ("tag", "f1", lambda **w: sklearn.f1_score(TAGS, CHANCES >= 0.5, average="macro", zero_division=np.nan, **w)),
        ("tag", "auroc", lambda **w: sklearn.roc_auc_score(TAGS, CHANCES, average="macro", **w)),
        ("tag", "average_precision", lambda **w: sklearn.average_precision_score(TAGS, CHANCES, average="macro", **w)),
        ("tag", "exact_match", lambda **w: sklearn.accuracy_score(TAGS, CHANCES >= 0.5, **w)),
        ("regress", "mean_absolute_error", lambda **w: sklearn.mean_absolute_error(NUMBERS, SCORES, **w)),
        ("regress", "root_mean_squared_error", lambda **w: sklearn.mean_squared_error(NUMBERS, SCORES, **w) ** 0.5),
        ("regress", "r2", lambda **w: sklearn.r2_score(NUMBERS, SCORES, **w)),
    ],
)
@pytest.mark.parametrize("weighted", [False, True])
def test_a_metric_is_scikit_learns(task, name, wanted, weighted):
    target = {"classify": LABELS, "tag": TAGS, "regress": NUMBERS}[task]
    outputs = UNTIED if name == "top_5_accuracy" else OUTPUTS[task]
    if weighted:
        found = METRICS[task][name](*counting(outputs, target, WEIGHTS))
        assert found == pytest.approx(wanted(sample_weight=WEIGHTS), rel=1e-6) and found != pytest.approx(wanted(), rel=1e-4)
    else:
        assert METRICS[task][name](outputs, target) == pytest.approx(wanted(), rel=1e-6)


EVERY = [(task, name) for task, table in METRICS.items() for name in table]


@pytest.mark.parametrize(("task", "name"), EVERY)
def test_equal_weights_change_nothing_whole_ones_are_repeated_items_and_none_is_no_item(task, name):
    metric, target = METRICS[task][name], {"classify": LABELS, "tag": TAGS, "regress": NUMBERS}[task]
    outputs = OUTPUTS[task]
    plain = metric(outputs, target)
    assert metric(outputs, target, np.full(60, 1.0)) == pytest.approx(plain, rel=1e-14)
    assert metric(outputs, target, np.full(60, 0.3)) == pytest.approx(plain, rel=1e-9)
    times = np.where(LABELS == 2, 0, GENERATOR.integers(0, 4, 60))
    repeated = metric(*(np.repeat(values, times, axis=0) for values in (outputs, target)))
    assert metric(*counting(outputs, target, times)) == pytest.approx(repeated, rel=1e-9)


def test_top_5_accuracy_counts_ranks():
    outputs = np.linspace(1, 0, 7)[None].repeat(7, 0)
    assert METRICS["classify"]["top_5_accuracy"](outputs, np.arange(7)) == pytest.approx(5 / 7)


@pytest.mark.parametrize(("task", "name"), EVERY)
def test_every_metric_of_no_items_is_nan(task, name):
    outputs, target = np.zeros((0, 3)), np.zeros((0,), dtype=np.int64) if task == "classify" else np.zeros((0, 3))
    with np.errstate(all="ignore"):
        assert np.isnan(METRICS[task][name](outputs, target))
    with np.errstate(all="ignore"):
        assert np.isnan(METRICS[task][name](*counting(np.ones((4, 3)), np.ones((4, *target.shape[1:]), target.dtype), np.zeros(4))))


def heavy_are_harder(items):
    """A tenth of the items weigh 10 and are right half of the time, the others weigh 1 and nearly always are: (weights, chance)."""
    heavy = GENERATOR.random(items) < 0.1
    return np.where(heavy, 10.0, 1.0), np.where(heavy, 0.5, 0.99)


def any_weight(items):
    return GENERATOR.lognormal(size=items), np.full(items, 0.9)


def covered(draw, interval, times):
    weight, chance = draw(200_000)
    truth, inside = (weight * chance).sum() / weight.sum(), []
    for _ in range(times):
        weight, chance = draw(300)
        low, high = interval(GENERATOR.random(300) < chance, weight)
        inside.append(low <= truth <= high)
    return np.mean(inside)


@pytest.mark.parametrize("draw", [any_weight, heavy_are_harder])
def test_the_interval_of_a_weighted_share_holds_the_truth_in_95_of_100_draws(draw):
    assert covered(draw, lambda hits, weight: share_interval(hits, weight)[1:], 1000) == pytest.approx(0.955, abs=0.025)
    assert covered(draw, lambda hits, weight: wilson_interval(hits.mean(), 300), 200) < 0.9, "as if all counted alike"


def test_the_bootstrap_of_weighted_items_holds_the_truth():
    def interval(hits, weight):
        outputs = np.stack([hits, ~hits], axis=1).astype(float)
        return bootstrap_interval(METRICS["classify"]["accuracy"], (outputs, np.zeros(300, int), weight), GENERATOR.random((200, 300)))

    assert covered(heavy_are_harder, interval, 200) == pytest.approx(0.94, abs=0.045)


def test_the_effective_number_of_items():
    assert effective_items(np.full(7, 0.2)) == pytest.approx(7) and effective_items(np.array([1.0, 0.0])) == 1
    hits = GENERATOR.random(50) < 0.7
    assert share_interval(hits, np.full(50, 3.0)) == pytest.approx(share_interval(hits)), "equal weights are none"
    assert share_interval(hits) == (hits.mean(), *wilson_interval(int(hits.sum()), 50))
    assert share_interval(np.ones(5, bool), np.arange(5.0))[1:] == pytest.approx(wilson_interval(100 / 30, 100 / 30))
    assert np.isnan(share_interval(np.ones(3, bool), np.zeros(3))).all()


def test_a_share_and_its_interval_lie_between_0_and_1():
    """Also in their last bits: what is shown is never -0.000."""
    draw = np.random.default_rng(0)
    for count in range(1, 200):
        weight = draw.random(count)
        for hits in (np.zeros(count, bool), np.ones(count, bool)):
            for bounds in (share_interval(hits)[1:], share_interval(hits, weight)[1:]):
                assert 0 <= bounds[0] < bounds[1] <= 1 and f"{bounds[0]:.3f}"[0] != "-"
