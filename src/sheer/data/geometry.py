"""Geometric augmentations as 3 x 3 matrices, and the one pass that composes an item's matrices into one interpolation.

A matrix takes a place in the result to the place it is read from. Places are (x, y, 1) with x and y
from -1 to 1 between the outer edges of the picture, y downwards. `shape` is the result's (height, width).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn import functional


def identities(count: int) -> np.ndarray:
    """`count` matrices that leave everything in place, float64 (count, 3, 3)."""
    return np.tile(np.eye(3), (count, 1, 1))


def homographies(sources: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """The matrices (N, 3, 3) that take four points (N, 4, 2) to four others, by the direct linear transformation.

    >>> square = np.array([[[-1.0, -1], [1, -1], [1, 1], [-1, 1]]])
    >>> homographies(square, square).round(9).tolist()
    [[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]]
    """
    x, y, u, v = sources[..., 0], sources[..., 1], targets[..., 0], targets[..., 1]
    one, zero = np.ones_like(x), np.zeros_like(x)
    upper = np.stack([x, y, one, zero, zero, zero, -u * x, -u * y], -1)
    lower = np.stack([zero, zero, zero, x, y, one, -v * x, -v * y], -1)
    solved = np.linalg.solve(np.concatenate([upper, lower], 1), np.concatenate([u, v], 1)[..., None])
    return np.concatenate([solved[..., 0], np.ones((len(x), 1))], 1).reshape(-1, 3, 3) + 0.0


def rotations(degrees: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Matrices that turn pictures of `shape` anticlockwise about their middle, angles (N,) in degrees."""
    matrices, angle, aspect = identities(len(degrees)), np.radians(degrees), shape[0] / shape[1]
    matrices[:, 0, 0] = matrices[:, 1, 1] = np.cos(angle)
    matrices[:, 0, 1], matrices[:, 1, 0] = -np.sin(angle) * aspect, np.sin(angle) / aspect
    return matrices


@dataclass(frozen=True, kw_only=True)
class FlipMatrix:
    """Mirror left and right with probability `p`, as a matrix."""

    p: float = 0.5
    draws, moves, recolours, cuts = 1, True, False, False

    def matrices(self, draws: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
        """draws (N, 1) to (N, 3, 3)."""
        matrices = identities(len(draws))
        matrices[:, 0, 0] = np.where(draws[:, 0] < self.p, -1, 1)
        return matrices


@dataclass(frozen=True, kw_only=True)
class DihedralMatrix:
    """One of the square's eight symmetries, each as likely, as a matrix; the number means what it means to `Dihedral`."""

    draws, moves, recolours, cuts = 1, True, False, False

    def matrices(self, draws: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
        """draws (N, 1) to (N, 3, 3)."""
        choice = (draws[:, 0] * 8).astype(int)
        mirrored = identities(len(draws))
        mirrored[:, 0, 0] = np.where(choice >= 4, -1, 1)
        return mirrored @ rotations(90.0 * (choice % 4), (1, 1)).round()


@dataclass(frozen=True, kw_only=True)
class Rotate:
    """Turn about the middle by an angle uniform within `degrees` either way, with probability `p`. Draws: whether, angle."""

    degrees: float = 10.0
    p: float = 0.75
    draws, moves, recolours, cuts = 2, True, False, False

    def matrices(self, draws: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
        """draws (N, 2) to (N, 3, 3).

        >>> Rotate(degrees=90).matrices(np.array([[0.0, 1.0]]), (8, 8))[0, :2, :2].round().tolist()
        [[0.0, -1.0], [1.0, 0.0]]
        """
        return rotations(np.where(draws[:, 0] < self.p, self.degrees * (2 * draws[:, 1] - 1), 0), shape)


@dataclass(frozen=True, kw_only=True)
class Zoom:
    """Enlarge by a factor uniform in `low` .. `high`, about a uniform point, with probability `p`. Draws: whether, factor, x, y."""

    low: float = 1.0
    high: float = 1.1
    p: float = 0.75
    draws, moves, recolours, cuts = 4, True, False, False

    def matrices(self, draws: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
        """draws (N, 4) to (N, 3, 3).

        >>> Zoom(high=2.0).matrices(np.array([[0.0, 1.0, 0.0, 1.0]]), (8, 8))[0, :2].tolist()
        [[0.5, 0.0, -0.5], [0.0, 0.5, 0.5]]
        """
        share = np.where(draws[:, 0] < self.p, 1 / (self.low + (self.high - self.low) * draws[:, 1]), 1)
        matrices = identities(len(draws))
        matrices[:, 0, 0] = matrices[:, 1, 1] = share
        matrices[:, :2, 2] = (1 - share)[:, None] * (2 * draws[:, 2:] - 1)
        return matrices


@dataclass(frozen=True, kw_only=True)
class Warp:
    """See the picture from another side: a perspective whose tilts are uniform within `magnitude`, each with probability `p`.

    Draws: whether and how much sideways, whether and how much up and down. The corners (-1, -1),
    (-1, 1), (1, -1), (1, 1) are seen at (-1 - b, -1 - a), (-1 + b, 1 + a), (1 + b, -1 + a), (1 - b, 1 - a).
    """

    magnitude: float = 0.2
    p: float = 0.75
    draws, moves, recolours, cuts = 4, True, False, False

    def matrices(self, draws: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
        """draws (N, 4) to (N, 3, 3)."""
        tilts = np.where(draws[:, ::2] < self.p, self.magnitude * (2 * draws[:, 1::2] - 1), 0)
        a, b = tilts[:, 0], tilts[:, 1]
        corners = np.tile(np.array([[-1.0, -1.0], [-1.0, 1.0], [1.0, -1.0], [1.0, 1.0]]), (len(draws), 1, 1))
        moved = np.stack([np.stack([-b, -a], 1), np.stack([b, a], 1), np.stack([b, a], 1), np.stack([-b, -a], 1)], 1)
        return homographies(corners + moved, corners)


@dataclass(frozen=True, kw_only=True)
class Perspective:
    """Move each corner inwards by up to `distortion` of half a side, with probability `p`: torchvision's RandomPerspective.

    Draws: whether, then x and y of the upper left, upper right, lower right and lower left corner.
    """

    distortion: float = 0.5
    p: float = 0.5
    draws, moves, recolours, cuts = 9, True, False, False

    def matrices(self, draws: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
        """draws (N, 9) to (N, 3, 3)."""
        corners = np.tile(np.array([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]]), (len(draws), 1, 1))
        inwards = np.where(draws[:, :1] < self.p, self.distortion * draws[:, 1:], 0).reshape(-1, 4, 2)
        return homographies(corners * (1 - inwards), corners)


def sampled(values: torch.Tensor, matrices: torch.Tensor, shape: tuple[int, int]) -> torch.Tensor:
    """Values (N, C, H, W) read at the places that matrices (N, 3, 3) give: (N, C, *shape), bilinear, reflected at the edges.

    Where `values` are over twice as large as the result, and it does not show so small a part of them
    that this is right, they are first shrunk by area to twice its size, as in fastai 2.8.
    """
    high, wide = shape
    x = ((torch.arange(wide, device=values.device) * 2 + 1) / wide - 1)[None, None, :]
    y = ((torch.arange(high, device=values.device) * 2 + 1) / high - 1)[None, :, None]
    # elementwise, not as a matrix product: an item's bits must not depend on the others in its batch
    m = [[matrices[:, row, column, None, None] for column in range(3)] for row in range(3)]
    across, down, depth = (x * row[0] + y * row[1] + row[2] for row in m)
    grid = torch.stack([across / depth, down / depth], 3)
    shrink = min(values.shape[2] / high, values.shape[3] / wide) / 2
    if shrink > 1 and shrink > 2 / float(grid.max() - grid.min()):
        values = functional.interpolate(values, scale_factor=1 / shrink, mode="area", recompute_scale_factor=True)
    return functional.grid_sample(values, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


@dataclass(frozen=True, kw_only=True)
class OnePass:
    """All geometric augmentations of an item in one interpolation, then its colours, on values in [0, 1].

    `parts` come in the order in which they act. `size` is the side of the result where pictures
    arrive whole on a canvas, their fourth channel 255 inside and 0 outside (see `Whole`).
    """

    parts: tuple[Any, ...]
    size: int | None = None
    normalised = False

    @property
    def draws(self) -> int:
        """Columns of draws that all parts need."""
        return sum(part.draws for part in self.parts)

    def __call__(self, images: torch.Tensor, draws: np.ndarray) -> torch.Tensor:
        """images uint8 or float in [0, 1] (N, C, H, W), draws (N, self.draws); float32 (N, C, H, W).

        From whole pictures (N, C - 1, size, size): their last channel is 255 where they are.
        """
        columns = np.split(draws, np.cumsum([part.draws for part in self.parts])[:-1], 1)
        values = images.to(torch.float32).div_(255) if images.dtype == torch.uint8 else images
        if self.size is not None:
            values = self.read_whole(values, columns)
        elif any(part.moves for part in self.parts):
            shape = (values.shape[2], values.shape[3])
            values = sampled(values, self.composed(columns, shape, shape).to(values.device, non_blocking=True), shape)
        for part, own in zip(self.parts, columns, strict=True):
            values = part.recolour(values, own) if part.recolours else values
        return values

    def read_whole(self, values: torch.Tensor, columns: list[np.ndarray]) -> torch.Tensor:
        """Each item from its own part of the canvas, so that its bits do not depend on the others."""
        shape = (self.size or 0, self.size or 0)
        extents = torch.stack([values[:, -1, :, 0].sum(1), values[:, -1, 0, :].sum(1)], 1).round().int().tolist()
        results = []
        for item, (high, wide) in enumerate(extents):
            matrix = self.composed([own[item : item + 1] for own in columns], shape, (high, wide)).to(values.device, non_blocking=True)
            results.append(sampled(values[item : item + 1, :-1, :high, :wide], matrix, shape))
        return torch.cat(results)

    def composed(self, columns: list[np.ndarray], shape: tuple[int, int], extent: tuple[int, int]) -> torch.Tensor:
        """The product of the items' matrices, float32 (N, 3, 3); a part that `cuts` is told the extent (H, W) of what it cuts from."""
        product = np.eye(3)
        for part, own in zip(self.parts, columns, strict=True):
            product = product @ part.matrices(own, extent if part.cuts else shape) if part.moves else product
        return torch.from_numpy(product.astype(np.float32))
