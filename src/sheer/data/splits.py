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
    for members in members_by(labels, order):
        count = min(max(round(share * len(members)), 1), len(members) - 1)
        held_out[members[:count]] = True
    return held_out


def members_by(labels: np.ndarray, order: np.ndarray) -> list[np.ndarray]:
    """The items of each label that occurs, in `order`.

    >>> [members.tolist() for members in members_by(np.array([7, 5, 7]), np.array([2, 0, 1]))]
    [[1], [2, 0]]
    """
    ends = np.cumsum(np.unique(labels, return_counts=True)[1])
    return np.split(order[np.argsort(labels[order], kind="stable")], ends[:-1])


def grouped_split(groups: np.ndarray, share: float, order: np.ndarray) -> np.ndarray:
    """True for held-out items: whole groups, in the order in which `order` meets them, until `share` is reached.

    At least one group is held out, never all; no group is on both sides.

    >>> grouped_split(np.array([5, 5, 7, 7]), 0.5, np.array([2, 0, 1, 3])).tolist()
    [False, False, True, True]
    """
    names, first, counts = np.unique(groups[order], return_index=True, return_counts=True)
    met = np.argsort(first)[: len(names) - 1]
    held_before = np.cumsum(counts[met]) - counts[met]
    return np.isin(groups, names[met[held_before < share * len(groups)]])


def fold_split(labels: np.ndarray, folds: int, fold: int, order: np.ndarray) -> np.ndarray:
    """True for the items of fold number `fold` of `folds`: of each label every `folds`-th item in `order`.

    Over all folds each item is held out once. With groups as labels, use `group_fold_split`.

    >>> fold_split(np.array([0, 0, 1, 1]), 2, 0, np.array([2, 0, 1, 3])).tolist()
    [True, False, True, False]
    """
    held_out = np.zeros(len(labels), dtype=bool)
    for members in members_by(labels, order):
        held_out[members[fold::folds]] = True
    return held_out


def group_fold_split(groups: np.ndarray, folds: int, fold: int, order: np.ndarray) -> np.ndarray:
    """True for the items of fold number `fold`: every `folds`-th group in the order in which `order` meets them.

    >>> group_fold_split(np.array([5, 5, 7, 7]), 2, 0, np.array([2, 0, 1, 3])).tolist()
    [False, False, True, True]
    """
    names, first = np.unique(groups[order], return_index=True)
    return np.isin(groups, names[np.argsort(first)][fold::folds])


SPLITS = {"random": random_split, "stratified": stratified_split}
