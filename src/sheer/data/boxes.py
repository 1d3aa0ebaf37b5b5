"""Augmentations that draw a box: the random resized crop, which needs the whole picture, and random erasing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

TRIES = 10


def boxes(draws: np.ndarray, extent: tuple[int, int], area: tuple[float, float], ratio: tuple[float, float]) -> np.ndarray:
    """Boxes (N, 4) as (top, left, height, width) in pixels, inside a picture of `extent` (H, W); height 0 where no try fitted.

    A try draws a share of the picture's area and the logarithm of width / height, both uniform; the
    first of 10 that fits counts, and its place is uniform, as in torchvision's RandomResizedCrop.

    Args:
        draws: (N, 22): area and ratio of each try, then the place, y and x.
        extent: Height and width in pixels.
        area: The smallest and largest share of the area.
        ratio: The smallest and largest width / height.

    >>> boxes(np.full((1, 22), 0.5), (8, 8), (0.25, 0.25), (1.0, 1.0)).tolist()
    [[2, 2, 4, 4]]
    """
    high, wide = extent
    pixels = high * wide * (area[0] + (area[1] - area[0]) * draws[:, 0 : 2 * TRIES : 2])
    shapes = np.exp(np.log(ratio[0]) + (np.log(ratio[1]) - np.log(ratio[0])) * draws[:, 1 : 2 * TRIES : 2])
    heights, widths = np.rint(np.sqrt(pixels / shapes)).astype(int), np.rint(np.sqrt(pixels * shapes)).astype(int)
    fits = (heights > 0) & (heights <= high) & (widths > 0) & (widths <= wide)
    rows, first = np.arange(len(draws)), fits.argmax(1)
    height, width = np.where(fits[rows, first], (heights[rows, first], widths[rows, first]), 0)
    top = np.minimum((draws[:, -2] * (high - height + 1)).astype(int), high - height)
    left = np.minimum((draws[:, -1] * (wide - width + 1)).astype(int), wide - width)
    return np.stack([top, left, height, width], 1)


@dataclass(frozen=True, kw_only=True)
class Whole:
    """A resize rule that leaves the cut of training pictures to RandomResizedCrop: they arrive whole, on one canvas.

    Pictures with only the two draws of a cut are for validation: `rule` cuts them.
    """

    rule: Any

    def presize(self, picture: Any, size: int) -> np.ndarray:
        """The whole picture at the working size that `rule` gives it."""
        return self.rule.presize(picture, size)

    def cut(self, pixels: np.ndarray, size: int, draws: Sequence[float]) -> np.ndarray:
        """The cut of `rule` for validation, else all pixels (H, W, 3) with a fourth channel that is 255."""
        if len(draws) == 2:
            return self.rule.cut(pixels, size, draws)
        return np.concatenate([pixels, np.full_like(pixels[:, :, :1], 255)], 2)

    def join(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        """Pictures of any shapes in the upper left corners of equal canvases of zeros, (N, H, W, C)."""
        canvas = np.zeros((len(pictures), *np.max([picture.shape for picture in pictures], 0)), np.uint8)
        for place, picture in zip(canvas, pictures, strict=True):
            place[: picture.shape[0], : picture.shape[1]] = picture
        return canvas


@dataclass(frozen=True, kw_only=True)
class RandomResizedCrop:
    """A box of a random share of the area and a random shape, from the whole presized picture, brought to the full size.

    Where no try fits, the largest middle box of an allowed shape. Settings: Szegedy et al. 2015 as in torchvision.
    """

    area: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    draws, moves, recolours, cuts = 2 * TRIES + 2, True, False, True

    def matrices(self, draws: np.ndarray, extent: tuple[int, int]) -> np.ndarray:
        """draws (N, 22) and the picture's (H, W) to (N, 3, 3).

        >>> RandomResizedCrop(area=(0.25, 0.25), ratio=(1.0, 1.0)).matrices(np.full((1, 22), 0.5), (8, 8))[0, :2].tolist()
        [[0.5, 0.0, 0.0], [0.0, 0.5, 0.0]]
        """
        high, wide = extent
        middle = min(wide, round(high * self.ratio[1])), min(high, round(wide / self.ratio[0]))
        fallback = np.array([(high - middle[1]) // 2, (wide - middle[0]) // 2, middle[1], middle[0]])
        chosen = boxes(draws, extent, self.area, self.ratio)
        top, left, height, width = np.where(chosen[:, 2:3] > 0, chosen, fallback).T
        matrices = np.tile(np.eye(3), (len(draws), 1, 1))
        matrices[:, 0, 0], matrices[:, 0, 2] = width / wide, (2 * left + width) / wide - 1
        matrices[:, 1, 1], matrices[:, 1, 2] = height / high, (2 * top + height) / high - 1
        return matrices


@dataclass(frozen=True, kw_only=True)
class RandomErasing:
    """Fill a box with standard normal noise, or with `fill`, after normalisation, with probability `p`.

    Source: Zhong et al. 2017 (arXiv 1708.04896). Draws: whether, the noise, then the box's.
    """

    p: float = 0.5
    area: tuple[float, float] = (0.02, 0.33)
    ratio: tuple[float, float] = (0.3, 3.3)
    fill: float | None = None
    draws, normalised = 2 * TRIES + 4, True

    def __call__(self, images: torch.Tensor, draws: np.ndarray) -> torch.Tensor:
        """images float (N, C, H, W), draws (N, 24)."""
        erased = images.clone()
        places = boxes(draws[:, 2:], (images.shape[2], images.shape[3]), self.area, self.ratio)
        for item, (top, left, height, width) in enumerate(places.tolist()):
            if draws[item, 0] < self.p and height > 0:
                shape = (images.shape[1], height, width)
                generator = torch.Generator().manual_seed(int(draws[item, 1] * 2**53))
                noise = torch.randn(shape, generator=generator) if self.fill is None else torch.full(shape, self.fill)
                erased[item, :, top : top + height, left : left + width] = noise.to(images, non_blocking=True)
        return erased
