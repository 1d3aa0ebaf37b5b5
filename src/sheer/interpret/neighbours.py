"""Neighbours: pictures that are, or nearly are, the same, by their bytes and by the body's features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

BLOCK = 1024


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two items, in item order: their cosine similarity, whether their bytes are equal, and where they lie.

    `across` is true where one is trained on and the other held out: then the second one judges what was learnt
    by heart. `same_target` is false where their classes, labels or numbers differ.
    """

    first: str
    second: str
    similarity: float
    exact: bool
    across: bool
    same_target: bool


def similar_pairs(features: np.ndarray, threshold: float) -> list[tuple[int, int, float]]:
    """(i, j, similarity) of all i < j with a cosine similarity of at least `threshold`, most similar first.

    `features` float32 (items, width); a row of zeros is similar to nothing. Memory: one block of 1024 x items.

    >>> [(i, j) for i, j, _ in similar_pairs(np.array([[1, 0], [0, 1], [2, 0.1]], np.float32), 0.9)]
    [(0, 2)]
    """
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    unit = features / np.where(lengths > 0, lengths, 1)
    found: list[tuple[int, int, float]] = []
    for start in range(0, len(unit), BLOCK):
        block = unit[start : start + BLOCK] @ unit[start:].T
        rows, places = np.nonzero(np.triu(block >= threshold, 1))
        values = block[rows, places].tolist()
        found += zip((rows + start).tolist(), (places + start).tolist(), values, strict=True)
    return sorted(found, key=lambda pair: (-pair[2], pair[0], pair[1]))


def equal_pairs(contents: Sequence[str]) -> list[tuple[int, int]]:
    """(i, j) for each item j whose content hash is that of an earlier item, with the first such i.

    >>> equal_pairs(["a", "b", "a", "a"])
    [(0, 2), (0, 3)]
    """
    first: dict[str, int] = {}
    return [(first[content], item) for item, content in enumerate(contents) if first.setdefault(content, item) != item]


def duplicate_pairs(
    names: Sequence[str], targets: np.ndarray, held_out: np.ndarray, contents: Sequence[str], features: np.ndarray, threshold: float
) -> list[Pair]:
    """Pairs of equal content, then pairs of similar features, most similar first; each pair once.

    `targets` (items, ...) and `held_out` bool (items,) are like the rows of `features`.
    """
    exact = equal_pairs(contents)
    near = [(i, j, value) for i, j, value in similar_pairs(features, threshold) if contents[i] != contents[j]]
    return [
        Pair(
            first=names[i],
            second=names[j],
            similarity=value,
            exact=is_exact,
            across=bool(held_out[i] != held_out[j]),
            same_target=bool(np.array_equal(targets[i], targets[j])),
        )
        for i, j, value, is_exact in [*((i, j, 1.0, True) for i, j in exact), *((i, j, value, False) for i, j, value in near)]
    ]
