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


def grouped_split(groups: np.ndarray, share: float, order: np.ndarray) -> np.ndarray:
    """True for held-out items: whole groups, in the order in which `order` meets them, until `share` is reached.

    At least one group is held out, never all; no group is on both sides.

    >>> grouped_split(np.array([5, 5, 7, 7]), 0.5, np.array([2, 0, 1, 3])).tolist()
    [False, False, True, True]
    """
    names, first = np.unique(groups[order], return_index=True)
    held_out = np.zeros(len(groups), dtype=bool)
    for name in names[np.argsort(first)][: len(names) - 1]:
        if held_out.sum() < share * len(groups):
            held_out |= groups == name
    return held_out


def fold_split(labels: np.ndarray, folds: int, fold: int, order: np.ndarray) -> np.ndarray:
    """True for the items of fold number `fold` of `folds`: of each label every `folds`-th item in `order`.

    Over all folds each item is held out once. With groups as labels, use `group_fold_split`.

    >>> fold_split(np.array([0, 0, 1, 1]), 2, 0, np.array([2, 0, 1, 3])).tolist()
    [True, False, True, False]
    """
    held_out = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        held_out[order[labels[order] == label][fold::folds]] = True
    return held_out


def group_fold_split(groups: np.ndarray, folds: int, fold: int, order: np.ndarray) -> np.ndarray:
    """True for the items of fold number `fold`: every `folds`-th group in the order in which `order` meets them.

    >>> group_fold_split(np.array([5, 5, 7, 7]), 2, 0, np.array([2, 0, 1, 3])).tolist()
    [False, False, True, True]
    """
    names, first = np.unique(groups[order], return_index=True)
    return np.isin(groups, names[np.argsort(first)][fold::folds])


SPLITS = {"random": random_split, "stratified": stratified_split}
