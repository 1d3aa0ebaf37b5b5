"""Metrics: numbers about predicted and true classes, with their 95 % intervals."""

from __future__ import annotations

import math

import numpy as np


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


def confusion(predicted: np.ndarray, target: np.ndarray, classes: int) -> np.ndarray:
    """Counts, int64, shape (classes, classes): row true, column predicted.

    >>> confusion(np.array([0, 1]), np.array([0, 0]), 2).tolist()
    [[1, 1], [0, 0]]
    """
    return np.bincount(target * classes + predicted, minlength=classes * classes).reshape(classes, classes)


def accuracy(counts: np.ndarray) -> float:
    """The share of items on the diagonal of a confusion table; nan for no items.

    >>> accuracy(np.array([[1, 1], [0, 2]]))
    0.75
    """
    total = int(counts.sum())
    return int(np.trace(counts)) / total if total else math.nan


def balanced_accuracy(counts: np.ndarray) -> float:
    """The mean over classes that occur of the share of their items found; nan for no items.

    >>> balanced_accuracy(np.array([[1, 1], [0, 2]]))
    0.75
    """
    totals = counts.sum(axis=1)
    present = totals > 0
    return float((np.diag(counts)[present] / totals[present]).mean()) if present.any() else math.nan
