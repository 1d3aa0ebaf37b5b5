"""Your own functions as augmentations of values in [0, 1]. What they draw from PyTorch's generator follows from the item's draw."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

Function = Callable[[torch.Tensor], torch.Tensor]


def as_values(images: torch.Tensor) -> torch.Tensor:
    """Pictures as float32 in [0, 1]; uint8 is divided by 255."""
    return images.to(torch.float32).div_(255) if images.dtype == torch.uint8 else images


def seeded(function: Function, values: torch.Tensor, draw: float) -> torch.Tensor:
    """function(values) with PyTorch's generators seeded from `draw`, and left as they were found."""
    devices = [values.device.index or 0] if values.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(int(draw * 2**53))
        return function(values)


@dataclass(frozen=True, kw_only=True, repr=False)
class PerItem:
    """`function` of each picture (C, H, W) alone.

    >>> PerItem(function=torch.neg)(torch.ones(2, 1, 1, 1), np.zeros((2, 1))).flatten().tolist()
    [-1.0, -1.0]
    """

    function: Function
    draws, normalised = 1, False

    def __repr__(self) -> str:
        return f"PerItem(function={self.function.__name__})"

    def __call__(self, images: torch.Tensor, draws: np.ndarray) -> torch.Tensor:
        """images (N, C, H, W), draws (N, 1): the seed of each."""
        pairs = zip(as_values(images), draws[:, 0].tolist(), strict=True)
        return torch.stack([seeded(self.function, values, draw) for values, draw in pairs])


@dataclass(frozen=True, kw_only=True, repr=False)
class PerBatch:
    """`function` of a batch (N, C, H, W) at once, seeded by the draw of its first item."""

    function: Function
    draws, normalised = 1, False

    def __repr__(self) -> str:
        return f"PerBatch(function={self.function.__name__})"

    def __call__(self, images: torch.Tensor, draws: np.ndarray) -> torch.Tensor:
        """images (N, C, H, W), draws (N, 1)."""
        return seeded(self.function, as_values(images), float(draws[0, 0]))
