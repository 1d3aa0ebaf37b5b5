"""Sampling: which items an epoch draws where not every item is drawn once."""

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
