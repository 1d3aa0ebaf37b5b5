"""Several inputs of the same items: one container for a batch, sliced like a tensor, and what stands for an input that is missing."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch


@dataclass(frozen=True, kw_only=True, eq=False)
class Input:
    """One of several inputs of all items: numbers in `array` (items, ...), or photographs, whose places in a list of files are `place`.

    `place` int64 (items,) is -1, and `present` bool (items,) false, for items that lack it.
    """

    name: str
    present: np.ndarray
    place: np.ndarray | None = None
    array: torch.Tensor | None = None


class Inputs:
    """What several branches take of the same items: `parts` has a tensor (N, ...) a branch, `present` is bool (N, branches).

    >>> inputs = Inputs({"a": torch.zeros(4, 2), "b": torch.zeros(4, 3)}, torch.ones(4, 2, dtype=torch.bool))
    >>> len(inputs[1:]), [len(part) for part in inputs.split(3)]
    (3, [3, 1])
    """

    def __init__(self, parts: Mapping[str, torch.Tensor], present: torch.Tensor) -> None:
        self.parts, self.present = dict(parts), present

    def __len__(self) -> int:
        return len(self.present)

    def __getitem__(self, rows: Any) -> Inputs:
        return Inputs({name: part[rows] for name, part in self.parts.items()}, self.present[rows])

    def split(self, size: int) -> list[Inputs]:
        """The items in parts of at most `size`."""
        return [self[start : start + size] for start in range(0, max(len(self), 1), size)]

    def to(self, device: torch.device | str) -> Inputs:
        """The same on a device."""
        return Inputs({name: part.to(device, non_blocking=True) for name, part in self.parts.items()}, self.present.to(device))


def with_gaps(found: torch.Tensor, present: np.ndarray, memory_format: torch.memory_format) -> torch.Tensor:
    """(N, C, H, W) with `found` (as many as are present) in the places where `present`, bool (N,), is true, and zeros elsewhere.

    >>> with_gaps(torch.ones(1, 1, 1, 1), np.array([False, True]), torch.contiguous_format).flatten().tolist()
    [0.0, 1.0]
    """
    if present.all():
        return found
    whole = torch.zeros((len(present), *found.shape[1:]), dtype=found.dtype, device=found.device).to(memory_format=memory_format)
    whole[torch.from_numpy(np.flatnonzero(present)).to(found.device)] = found
    return whole


def places_of(cells: Sequence[str], before: int) -> np.ndarray:
    """int64 (items,): the place of each item's file in a list of the files that there are, after `before` others; -1 for an empty cell.

    >>> places_of(["a.png", "", "b.png"], 10).tolist()
    [10, -1, 11]
    """
    there = np.array([bool(cell) for cell in cells])
    return np.where(there, np.cumsum(there) - 1 + before, -1)


def inputs_sha256(files: str, arrays: Sequence[np.ndarray]) -> str:
    """SHA-256 over the hash of the listed files and the bytes of arrays: what a run learns from.

    >>> inputs_sha256("", [np.zeros(1)])[:8]
    'af5570f5'
    """
    whole = hashlib.sha256(files.encode())
    for array in arrays:
        whole.update(np.ascontiguousarray(array).tobytes())
    return whole.hexdigest()
