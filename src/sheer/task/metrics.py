"""Metrics: numbers about outputs (probabilities, or values in their own unit) and true targets, with their 95 % intervals.

Each takes the items' weights (N,), numbers above 0, as a third argument where they do not count alike: whatever it counts or sums over
items is then counted or summed with them, so equal weights change nothing, whatever their scale.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import numpy as np

Metric = Callable[..., float]
"""A function of (outputs, target), and where items are weighted of (outputs, target, weight)."""


def counting(outputs: np.ndarray, target: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What a metric gets of weighted items: outputs, targets and weights, float64, of those that count more than 0.

    >>> [part.tolist() for part in counting(np.eye(2), np.array([0, 1]), np.array([0, 3]))]
    [[[0.0, 1.0]], [1], [3.0]]
    """
    counts = weight > 0
    return outputs[counts], target[counts], weight[counts].astype(np.float64)


def wilson_interval(hits: float, total: float) -> tuple[float, float]:
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
    return max(0.0, centre - half), min(1.0, centre + half)  # which rounding may miss by a last bit


def effective_items(weight: np.ndarray) -> float:
    """How many items of equal weight say as much as these, (sum of weights)^2 / sum of their squares (Kish 1965, section 11.7).

    >>> effective_items(np.array([1.0, 1.0, 2.0]))
    2.6666666666666665
    """
    return float(weight.sum() ** 2 / (weight**2).sum()) if len(weight) else 0.0


def share_interval(hits: np.ndarray, weight: np.ndarray | None = None) -> tuple[float, float, float]:
    """The share of items that are hits, bool (N,), and its 95 % Wilson interval; nan for no items.

    With weights w the share p = sum(w hit) / sum(w), as if of the effective number of items: the smaller of Kish's and of
    p (1 - p) / v, where v = sum(w^2 (hit - p)^2) / sum(w)^2 is the share's variance by linearisation (Korn, Graubard 1998). The
    first alone is too narrow where heavy items are harder, the second where few items are misses.

    >>> share_interval(np.array([True] * 9 + [False])) == (0.9, *wilson_interval(9, 10))
    True
    """
    if weight is not None:
        hits, weight = hits[weight > 0], weight[weight > 0]
    if weight is None or not len(hits):
        return float(hits.mean()) if len(hits) else math.nan, *wilson_interval(int(hits.sum()), len(hits))
    share, items = float(np.average(hits, weights=weight)), effective_items(weight)
    variance = float((weight**2 * (hits - share) ** 2).sum() / weight.sum() ** 2)
    items = min(items, share * (1 - share) / variance) if variance > 0 and 0 < share < 1 else items  # the sums may round to 1
    return share, *wilson_interval(share * items, items)


def bootstrap_interval(metric: Metric, judged: tuple[np.ndarray, ...], draws: np.ndarray) -> tuple[float, float]:
    """The 95 % percentile interval of a metric over resampled items (Efron 1979); `draws` (times, items) are numbers in [0, 1).

    `judged` is what the metric gets: outputs, targets and perhaps weights; an item is drawn with its weight. Resamples for which the
    metric is not defined (a class without items) are left out.

    >>> bootstrap_interval(accuracy, (np.array([[1.0, 0.0]]), np.array([0])), np.zeros((2, 1)))
    (1.0, 1.0)
    """
    rows = (draws * len(judged[0])).astype(np.int64)
    values = np.array([metric(*(part[drawn] for part in judged)) for drawn in rows])
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


def accuracy(outputs: np.ndarray, target: np.ndarray, weight: np.ndarray | None = None) -> float:
    """The share of items (N, classes) whose largest output is their class (N,); nan for no items.

    >>> accuracy(np.array([[0.9, 0.1], [0.8, 0.2]]), np.array([0, 1]))
    0.5
    """
    return float(np.average(outputs.argmax(axis=1) == target, weights=weight)) if len(target) else math.nan


def balanced_accuracy(outputs: np.ndarray, target: np.ndarray, weight: np.ndarray | None = None) -> float:
    """The mean over the classes that occur of the share of their items found; nan for no items.

    >>> balanced_accuracy(np.array([[0.9, 0.1], [0.8, 0.2], [0.6, 0.4]]), np.array([0, 0, 1]))
    0.5
    """
    hits, there = (outputs.argmax(axis=1) == target) * (1.0 if weight is None else weight), np.bincount(target, weight)
    return float(np.mean(np.bincount(target, hits)[there > 0] / there[there > 0])) if len(target) else math.nan


def top_5_accuracy(outputs: np.ndarray, target: np.ndarray, weight: np.ndarray | None = None) -> float:
    """The share of items whose class is among their five largest outputs, ties broken by the class's number.

    >>> top_5_accuracy(np.eye(6), np.arange(6))
    1.0
    """
    first = np.argsort(-outputs, axis=1, kind="stable")[:, :5]
    return float(np.average((first == target[:, None]).any(axis=1), weights=weight)) if len(target) else math.nan


def _f1(said: np.ndarray, true: np.ndarray, weight: np.ndarray | None) -> float:
    """The mean over columns of 2 tp / (2 tp + fp + fn) without those where that is 0 / 0, nan where none is left; boolean (N, columns)."""
    each = np.ones((len(said), 1)) if weight is None else weight[:, None]
    hits, total = (each * (said & true)).sum(axis=0), (each * said).sum(axis=0) + (each * true).sum(axis=0)
    return float(np.mean(2 * hits[total > 0] / total[total > 0])) if total.any() else math.nan


def f1(outputs: np.ndarray, target: np.ndarray, weight: np.ndarray | None = None) -> float:
    """The mean over the classes that are true or predicted of their F1 (van Rijsbergen 1979).

    >>> f1(np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([0, 1]))
    1.0
    """
    said = outputs.argmax(axis=1)
    known = np.union1d(said, target)
    return _f1(said[:, None] == known, target[:, None] == known, weight)


def _columns(outputs: np.ndarray, target: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """(outputs, whether true) of each class or label that has items on both sides."""
    true = target[:, None] == np.arange(outputs.shape[1]) if target.ndim == 1 else target > 0.5
    return [(outputs[:, k], true[:, k]) for k in range(outputs.shape[1]) if 0 < true[:, k].sum() < len(true)]


def auroc(outputs: np.ndarray, target: np.ndarray, weight: np.ndarray | None = None) -> float:
    """The mean over classes (each against the rest) or labels of the area under the ROC curve; ties count half.

    The share of pairs of an item that is one and an item that is not, each with the product of their weights, in which the first
    has the larger output. Mann, Whitney 1947. Classes without items, or with all of them, are left out; nan where none is left.

    >>> auroc(np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([0, 1]))
    1.0
    """
    areas, weight = [], np.ones(len(target)) if weight is None else weight
    for values, true in _columns(outputs, target):
        places = np.unique(values, return_inverse=True)[1]
        ones, rest = np.bincount(places, weight * true), np.bincount(places, weight * ~true)
        areas.append((ones * (np.cumsum(rest) - rest / 2)).sum() / (ones.sum() * rest.sum()))
    return float(np.mean(areas)) if areas else math.nan


def average_precision(outputs: np.ndarray, target: np.ndarray, weight: np.ndarray | None = None) -> float:
    """The mean over classes (each against the rest) or labels of sum (recall_k - recall_(k-1)) precision_k over thresholds.

    Classes without items, or with all of them, are left out; nan where none is left.

    >>> average_precision(np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([0, 1]))
    1.0
    """
    found, weight = [], np.ones(len(target)) if weight is None else weight
    for values, true in _columns(outputs, target):
        order = np.argsort(-values, kind="stable")
        last = np.append(np.diff(values[order]) != 0, True)
        hits, seen = np.cumsum((weight * true)[order])[last], np.cumsum(weight[order])[last]
        found.append(float((np.diff(np.append(0, hits)) / hits[-1] * (hits / seen)).sum()))
    return float(np.mean(found)) if found else math.nan


def tag_f1(outputs: np.ndarray, target: np.ndarray, weight: np.ndarray | None = None) -> float:
    """The mean over the labels that are true or predicted of F1 at a threshold of 0.5; nan where none is; (N, labels) both.

    >>> tag_f1(np.array([[0.9, 0.1]]), np.array([[1.0, 0.0]]))
    1.0
    """
    return _f1(outputs >= 0.5, target > 0.5, weight)


def exact_match(outputs: np.ndarray, target: np.ndarray, weight: np.ndarray | None = None) -> float:
    """The share of items all of whose labels are right at a threshold of 0.5.

    >>> exact_match(np.array([[0.9, 0.1], [0.9, 0.9]]), np.array([[1.0, 0.0], [1.0, 0.0]]))
    0.5
    """
    return float(np.average(((outputs >= 0.5) == (target > 0.5)).all(axis=1), weights=weight)) if len(target) else math.nan


def mean_absolute_error(outputs: np.ndarray, target: np.ndarray, weight: np.ndarray | None = None) -> float:
    """The mean of |output - target|, in the targets' unit.

    >>> mean_absolute_error(np.array([[1.0]]), np.array([[3.0]]))
    2.0
    """
    return float(np.average(np.abs(outputs - target).mean(axis=1), weights=weight)) if len(target) else math.nan


def root_mean_squared_error(outputs: np.ndarray, target: np.ndarray, weight: np.ndarray | None = None) -> float:
    """The root of the mean of (output - target)^2, in the targets' unit.

    >>> root_mean_squared_error(np.array([[1.0]]), np.array([[3.0]]))
    2.0
    """
    return float(np.sqrt(np.average(((outputs - target) ** 2).mean(axis=1), weights=weight))) if len(target) else math.nan


def r2(outputs: np.ndarray, target: np.ndarray, weight: np.ndarray | None = None) -> float:
    """The mean over numbers of 1 - sum (output - target)^2 / sum (target - mean)^2; nan where a target does not vary.

    >>> r2(np.array([[1.0], [3.0]]), np.array([[1.0], [3.0]]))
    1.0
    """
    if len(target) == 0 or (target == target[0]).all(axis=0).any():
        return math.nan
    middle = np.average(target.astype(np.float64), axis=0, weights=weight)
    spread, wrong = (np.average((values - target) ** 2, axis=0, weights=weight) for values in (middle, outputs))
    return float(np.mean(1 - wrong / spread))


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
