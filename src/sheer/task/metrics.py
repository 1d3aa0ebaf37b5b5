"""Metrics: numbers about outputs (probabilities, or values in their own unit) and true targets, with their 95 % intervals."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import numpy as np

Metric = Callable[[np.ndarray, np.ndarray], float]


def wilson_interval(hits: int, total: int) -> tuple[float, float]:
    """The 95 % interval of a share of independent items (Wilson 1927); (nan, nan) for no items.

    >>> tuple(round(bound, 3) for bound in wilson_interval(90, 100))
    (0.826, 0.945)
    """
    if total == 0:
        return math.nan, math.nan
    z = 1.959963984540054
    share = hits / total
    centre = (share + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    return centre - half, centre + half


def bootstrap_interval(metric: Metric, outputs: np.ndarray, target: np.ndarray, draws: np.ndarray) -> tuple[float, float]:
    """The 95 % percentile interval of a metric over resampled items (Efron 1979); `draws` (times, items) are numbers in [0, 1).

    Resamples for which the metric is not defined (a class without items) are left out.

    >>> bootstrap_interval(accuracy, np.array([[1.0, 0.0]]), np.array([0]), np.zeros((2, 1)))
    (1.0, 1.0)
    """
    values = np.array([metric(outputs[rows], target[rows]) for rows in (draws * len(target)).astype(np.int64)])
    known = values[np.isfinite(values)]
    if not len(known):
        return math.nan, math.nan
    return float(np.quantile(known, 0.025)), float(np.quantile(known, 0.975))


def confusion(predicted: np.ndarray, target: np.ndarray, classes: int) -> np.ndarray:
    """Counts, int64, shape (classes, classes): row true, column predicted.

    >>> confusion(np.array([0, 1]), np.array([0, 0]), 2).tolist()
    [[1, 1], [0, 0]]
    """
    return np.bincount(target * classes + predicted, minlength=classes * classes).reshape(classes, classes)


def accuracy(outputs: np.ndarray, target: np.ndarray) -> float:
    """The share of items (N, classes) whose largest output is their class (N,); nan for no items.

    >>> accuracy(np.array([[0.9, 0.1], [0.8, 0.2]]), np.array([0, 1]))
    0.5
    """
    return float((outputs.argmax(axis=1) == target).mean()) if len(target) else math.nan


def balanced_accuracy(outputs: np.ndarray, target: np.ndarray) -> float:
    """The mean over the classes that occur of the share of their items found; nan for no items.

    >>> balanced_accuracy(np.array([[0.9, 0.1], [0.8, 0.2], [0.6, 0.4]]), np.array([0, 0, 1]))
    0.5
    """
    hits = outputs.argmax(axis=1) == target
    return float(np.mean([hits[target == label].mean() for label in np.unique(target)])) if len(target) else math.nan


def top_5_accuracy(outputs: np.ndarray, target: np.ndarray) -> float:
    """The share of items whose class is among their five largest outputs, ties broken by the class's number.

    >>> top_5_accuracy(np.eye(6), np.arange(6))
    1.0
    """
    first = np.argsort(-outputs, axis=1, kind="stable")[:, :5]
    return float((first == target[:, None]).any(axis=1).mean()) if len(target) else math.nan


def _f1(said: np.ndarray, true: np.ndarray) -> float:
    """The mean over columns of 2 tp / (2 tp + fp + fn) without those where that is 0 / 0, nan where none is left; boolean (N, columns)."""
    hits, total = (said & true).sum(axis=0), said.sum(axis=0) + true.sum(axis=0)
    return float(np.mean(2 * hits[total > 0] / total[total > 0])) if total.any() else math.nan


def f1(outputs: np.ndarray, target: np.ndarray) -> float:
    """The mean over the classes that are true or predicted of their F1 (van Rijsbergen 1979).

    >>> f1(np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([0, 1]))
    1.0
    """
    said = outputs.argmax(axis=1)
    known = np.union1d(said, target)
    return _f1(said[:, None] == known, target[:, None] == known)


def _columns(outputs: np.ndarray, target: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """(outputs, whether true) of each class or label that has items on both sides."""
    true = target[:, None] == np.arange(outputs.shape[1]) if target.ndim == 1 else target > 0.5
    return [(outputs[:, k], true[:, k]) for k in range(outputs.shape[1]) if 0 < true[:, k].sum() < len(true)]


def auroc(outputs: np.ndarray, target: np.ndarray) -> float:
    """The mean over classes (each against the rest) or labels of the area under the ROC curve; ties count half.

    Mann, Whitney 1947. Classes without items, or with all of them, are left out; nan where none is left.

    >>> auroc(np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([0, 1]))
    1.0
    """
    areas = []
    for values, true in _columns(outputs, target):
        _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
        ranks = (np.cumsum(counts) - (counts - 1) / 2)[places]
        ones = int(true.sum())
        areas.append((ranks[true].sum() - ones * (ones + 1) / 2) / (ones * (len(true) - ones)))
    return float(np.mean(areas)) if areas else math.nan


def average_precision(outputs: np.ndarray, target: np.ndarray) -> float:
    """The mean over classes (each against the rest) or labels of sum (recall_k - recall_(k-1)) precision_k over thresholds.

    Classes without items, or with all of them, are left out; nan where none is left.

    >>> average_precision(np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([0, 1]))
    1.0
    """
    found = []
    for values, true in _columns(outputs, target):
        order = np.argsort(-values, kind="stable")
        last = np.append(np.diff(values[order]) != 0, True)
        hits, seen = np.cumsum(true[order])[last], np.flatnonzero(last) + 1
        found.append(float((np.diff(np.append(0, hits)) / hits[-1] * (hits / seen)).sum()))
    return float(np.mean(found)) if found else math.nan


def tag_f1(outputs: np.ndarray, target: np.ndarray) -> float:
    """The mean over the labels that are true or predicted of F1 at a threshold of 0.5; nan where none is; (N, labels) both.

    >>> tag_f1(np.array([[0.9, 0.1]]), np.array([[1.0, 0.0]]))
    1.0
    """
    return _f1(outputs >= 0.5, target > 0.5)


def exact_match(outputs: np.ndarray, target: np.ndarray) -> float:
    """The share of items all of whose labels are right at a threshold of 0.5.

    >>> exact_match(np.array([[0.9, 0.1], [0.9, 0.9]]), np.array([[1.0, 0.0], [1.0, 0.0]]))
    0.5
    """
    return float(((outputs >= 0.5) == (target > 0.5)).all(axis=1).mean()) if len(target) else math.nan


def mean_absolute_error(outputs: np.ndarray, target: np.ndarray) -> float:
    """The mean of |output - target|, in the targets' unit.

    >>> mean_absolute_error(np.array([[1.0]]), np.array([[3.0]]))
    2.0
    """
    return float(np.abs(outputs - target).mean()) if len(target) else math.nan


def root_mean_squared_error(outputs: np.ndarray, target: np.ndarray) -> float:
    """The root of the mean of (output - target)^2, in the targets' unit.

    >>> root_mean_squared_error(np.array([[1.0]]), np.array([[3.0]]))
    2.0
    """
    return float(np.sqrt(((outputs - target) ** 2).mean())) if len(target) else math.nan


def r2(outputs: np.ndarray, target: np.ndarray) -> float:
    """The mean over numbers of 1 - sum (output - target)^2 / sum (target - mean)^2; nan where a target does not vary.

    >>> r2(np.array([[1.0], [3.0]]), np.array([[1.0], [3.0]]))
    1.0
    """
    if len(target) == 0:
        return math.nan
    spread = ((target - target.mean(axis=0)) ** 2).sum(axis=0)
    if (spread == 0).any():
        return math.nan
    return float(np.mean(1 - ((outputs - target) ** 2).sum(axis=0) / spread))


METRICS: dict[str, dict[str, Metric]] = {
    "classify": {
        "accuracy": accuracy,
        "balanced_accuracy": balanced_accuracy,
        "top_5_accuracy": top_5_accuracy,
        "f1": f1,
        "auroc": auroc,
        "average_precision": average_precision,
    },
    "tag": {"f1": tag_f1, "exact_match": exact_match, "auroc": auroc, "average_precision": average_precision},
    "regress": {"mean_absolute_error": mean_absolute_error, "root_mean_squared_error": root_mean_squared_error, "r2": r2},
}
"""By kind of task, then by name."""

UNDEFINED = {
    "f1": "no label is true or predicted",
    "auroc": "no class or label has items on both sides",
    "average_precision": "no class or label has items on both sides",
    "r2": "a number does not vary among the items",
}
"""Why a metric of some items is nan; of no items all are."""


def why_undefined(name: str, items: int) -> str:
    """Why the metric of this name gave nan for so many items.

    >>> why_undefined("r2", 3)
    'a number does not vary among the items'
    """
    return UNDEFINED.get(name, "its function gave nan") if items else "there are no items"


LOWER_IS_BETTER = ("mean_absolute_error", "root_mean_squared_error", "valid_loss", "train_loss")


def judges(metrics: Iterable[str], held_out: int) -> dict[str, str]:
    """By what an epoch can be judged, and whether "min" or "max" of it is best; with no items `held_out` the training loss alone.

    >>> judges(["accuracy"], 10), judges(["accuracy"], 0)
    ({'train_loss': 'min', 'valid_loss': 'min', 'accuracy': 'max'}, {'train_loss': 'min'})
    """
    return {name: "min" if name in LOWER_IS_BETTER else "max" for name in ("train_loss", *(("valid_loss", *metrics) if held_out else ()))}
