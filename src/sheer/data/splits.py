"""Splits: which items are held out. Pure functions of the labels, a share and a key."""

from __future__ import annotations

import numpy as np


def random_split(labels: np.ndarray, share: float, order: np.ndarray) -> np.ndarray:
    """True for held-out items: the first int(share * n) of `order`, a permutation of the items.

    >>> random_split(np.zeros(4), 0.5, np.array([2, 0, 1, 3])).tolist()
    [True, False, True, False]
    """
    held_out = np.zeros(len(labels), dtype=bool)
    held_out[order[: int(share * len(labels))]] = True
    return held_out


def stratified_split(labels: np.ndarray, share: float, order: np.ndarray) -> np.ndarray:
    """True for held-out items: of each class the first round(share * n) in `order`, at least 1, never all.

    >>> stratified_split(np.array([0, 0, 1, 1]), 0.5, np.array([2, 0, 1, 3])).tolist()
    [True, False, True, False]
    """
    held_out = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        members = order[labels[order] == label]
        count = min(max(round(share * len(members)), 1), len(members) - 1)
        held_out[members[:count]] = True
    return held_out


SPLITS = {"random": random_split, "stratified": stratified_split}
