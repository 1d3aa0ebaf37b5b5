"""Sampling: which items an epoch draws where not every item is drawn once, and how batches join to larger ones."""

from __future__ import annotations

import numpy as np


def balanced_sample(labels: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """Positions in `labels`, one for each of `draws` (in [0, 1)), with replacement, each class as likely as the next.

    >>> balanced_sample(np.array([0, 0, 0, 1]), np.array([0.1, 0.3, 0.6, 0.9])).tolist()
    [0, 1, 3, 3]
    """
    chances = 1 / np.bincount(labels)[labels]
    ends = np.cumsum(chances)
    return np.minimum(np.searchsorted(ends, draws * ends[-1], side="right"), len(labels) - 1)


def joined(parts: list[np.ndarray], count: int) -> list[np.ndarray]:
    """Every `count` arrays as one, in order; what is left over makes a shorter last one.

    >>> [part.tolist() for part in joined([np.array([1, 2]), np.array([3, 4]), np.array([5, 6])], 2)]
    [[1, 2, 3, 4], [5, 6]]
    """
    return [np.concatenate(parts[start : start + count]) for start in range(0, len(parts), count)]
