"""Policies that draw operations at random for each item: RandAugment and TrivialAugment, with torchvision's magnitudes.

An item's geometric operations join its one interpolation; its colour operations follow in the order drawn.
Shears and translations are in pixels from the upper left corner, as in torchvision; edges are reflected.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

OPERATIONS = (
    "identity",
    "shear_x",
    "shear_y",
    "translate_x",
    "translate_y",
    "rotate",
    "brightness",
    "colour",
    "contrast",
    "sharpness",
    "posterize",
    "solarize",
    "auto_contrast",
    "equalize",
)
SIGNED = OPERATIONS[1:10]


def moved_by(operation: str, amount: float, shape: tuple[int, int]) -> np.ndarray:
    """The matrix (3, 3) of a geometric operation in pictures of `shape` (H, W): degrees, pixels, or pixels a pixel.

    >>> moved_by("translate_x", 4.0, (8, 8))[0].tolist()
    [1.0, 0.0, -1.0]
    """
    high, wide = shape
    matrix = np.eye(3)
    if operation == "rotate":
        cosine, sine = np.cos(np.radians(amount)), np.sin(np.radians(amount))
        matrix[:2, :2] = [[cosine, -sine * high / wide], [sine * wide / high, cosine]]
    elif operation == "shear_x":
        matrix[0, 1:] = amount * high / wide
    elif operation == "shear_y":
        matrix[1, :3:2] = amount * wide / high
    elif operation in ("translate_x", "translate_y"):
        row = 0 if operation == "translate_x" else 1
        matrix[row, 2] = -2 * int(amount) / (wide, high)[row]
    return matrix


def luma(values: torch.Tensor) -> torch.Tensor:
    """The weighted sum (N, 1, H, W) of red, green and blue."""
    return (values * torch.tensor([0.2989, 0.587, 0.114]).to(values.device, non_blocking=True).view(1, 3, 1, 1)).sum(1, keepdim=True)


def mixed_with(values: torch.Tensor, other: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
    """share * values + (1 - share) * other, kept in [0, 1]."""
    return (share * values + (1 - share) * other).clamp(0, 1)


def softened(values: torch.Tensor) -> torch.Tensor:
    """Each inner pixel as 5 / 13 of itself and a 13th of each neighbour; the outermost ones as they are."""
    kernel = torch.ones(3, 3, device=values.device)
    kernel[1, 1] = 5
    inner = functional.conv2d(values, (kernel / 13).expand(values.shape[1], 1, 3, 3), groups=values.shape[1])
    result = values.clone()
    result[:, :, 1:-1, 1:-1] = inner
    return result


def stretched(values: torch.Tensor) -> torch.Tensor:
    """Each channel from its smallest to its largest value to 0 .. 1; a channel of one value as it is."""
    low, high = values.amin((2, 3), keepdim=True), values.amax((2, 3), keepdim=True)
    return torch.where(high > low, (values - low) / (high - low).clamp(min=1e-12), values)


def equalized(values: torch.Tensor) -> torch.Tensor:
    """Each channel's 256 levels spread so that each is as frequent, by Pillow's rule."""
    levels = (values * 255).round().long()
    result = []
    for channel in levels.flatten(0, 1).flatten(1):
        counts = torch.bincount(channel, minlength=256)
        step = (counts.sum() - counts[counts.nonzero()[-1]]) // 255
        table = (counts.cumsum(0) - counts + step // 2) // step.clamp(min=1)
        result.append(torch.where(step > 0, table.clamp(0, 255)[channel], channel))
    return torch.stack(result).view_as(values).to(values.dtype) / 255


def bits_kept(values: torch.Tensor, bits: torch.Tensor) -> torch.Tensor:
    """Values at 8 bits, of which the upper `bits` (N, 1, 1, 1) are kept."""
    unit = 2.0 ** (8 - bits)
    return ((values * 255).round() / unit).floor() * unit / 255


RECOLOURED: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "brightness": lambda values, amount: (values * (1 + amount)).clamp(0, 1),
    "colour": lambda values, amount: mixed_with(values, luma(values), 1 + amount),
    "contrast": lambda values, amount: mixed_with(values, luma(values).mean((1, 2, 3), keepdim=True), 1 + amount),
    "sharpness": lambda values, amount: mixed_with(values, softened(values), 1 + amount),
    "posterize": bits_kept,
    "solarize": lambda values, amount: torch.where(values >= amount, 1 - values, values),
    "auto_contrast": lambda values, amount: stretched(values),
    "equalize": lambda values, amount: equalized(values),
}


def recoloured(values: torch.Tensor, operations: np.ndarray, amounts: np.ndarray) -> torch.Tensor:
    """Each item under its own operation: values (N, 3, H, W) in [0, 1], numbers of OPERATIONS (N,), amounts (N,)."""
    result = values.clone()
    for number in np.unique(operations).tolist():
        if OPERATIONS[number] in RECOLOURED:
            chosen = np.flatnonzero(operations == number)
            amount = torch.from_numpy(amounts[chosen].astype(np.float32)).to(values.device, non_blocking=True).view(-1, 1, 1, 1)
            rows = torch.from_numpy(chosen).to(values.device, non_blocking=True)
            result[rows] = RECOLOURED[OPERATIONS[number]](values[rows], amount)
    return result


def all_moved(operations: np.ndarray, amounts: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """The matrices (N, 3, 3) of each item's operation; what does not move has the identity."""
    pairs = zip(operations.tolist(), amounts.tolist(), strict=True)
    return np.stack([moved_by(OPERATIONS[number], amount, shape) for number, amount in pairs])


def amounts_of(operations: np.ndarray, signs: np.ndarray, share: np.ndarray, wide: bool, shape: tuple[int, int]) -> np.ndarray:
    """What each operation takes at `share` (N,) of its greatest magnitude; `wide` for TrivialAugment's ranges."""
    top = {"rotate": 135.0, "shear": 0.99, "colour": 0.99, "bits": 6} if wide else {"rotate": 30.0, "shear": 0.3, "colour": 0.9, "bits": 4}
    amounts = top["colour"] * share
    for number, name in enumerate(OPERATIONS):
        here = operations == number
        if name == "rotate" or name.startswith("shear"):
            amounts = np.where(here, top["rotate" if name == "rotate" else "shear"] * share, amounts)
        elif name.startswith("translate"):
            side = shape[1] if name == "translate_x" else shape[0]
            amounts = np.where(here, (32.0 if wide else 150.0 / 331.0 * side) * share, amounts)
        elif name == "posterize":
            amounts = np.where(here, 8 - np.rint(top["bits"] * share), amounts)
        elif name == "solarize":
            amounts = np.where(here, 1 - share, amounts)
    signed = np.isin(operations, [OPERATIONS.index(name) for name in SIGNED])
    return np.where(signed & (signs < 0.5), -amounts, amounts)


@dataclass(frozen=True, kw_only=True)
class RandAugment:
    """`operations` operations an item, each drawn with equal chance and of one strength, `magnitude` of 30.

    Source: Cubuk et al. 2019 (arXiv 1909.13719), ranges of torchvision. Draws: operation and sign of each.
    """

    operations: int = 2
    magnitude: int = 9
    moves, recolours, cuts = True, True, False

    @property
    def draws(self) -> int:
        """Two columns an operation."""
        return 2 * self.operations

    def drawn(self, draws: np.ndarray, shape: tuple[int, int]) -> list[tuple[np.ndarray, np.ndarray]]:
        """Numbers of operations (N,) and their amounts (N,), layer by layer."""
        numbers = (draws[:, ::2] * len(OPERATIONS)).astype(int)
        share = np.full(len(draws), self.magnitude / 30)
        columns = range(self.operations)
        return [(numbers[:, i], amounts_of(numbers[:, i], draws[:, 2 * i + 1], share, False, shape)) for i in columns]

    def matrices(self, draws: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
        """draws (N, 2 * operations) to (N, 3, 3)."""
        product = np.tile(np.eye(3), (len(draws), 1, 1))
        for numbers, amounts in self.drawn(draws, shape):
            product = product @ all_moved(numbers, amounts, shape)
        return product

    def recolour(self, values: torch.Tensor, draws: np.ndarray) -> torch.Tensor:
        """values (N, 3, H, W) in [0, 1], draws (N, 2 * operations)."""
        for numbers, amounts in self.drawn(draws, (values.shape[2], values.shape[3])):
            values = recoloured(values, numbers, amounts)
        return values


@dataclass(frozen=True, kw_only=True)
class TrivialAugment:
    """One operation an item, its strength uniform over 31 steps of a wide range.

    Source: Müller and Hutter 2021 (arXiv 2103.10158), torchvision's TrivialAugmentWide. Draws: operation, sign, strength.
    """

    draws, moves, recolours, cuts = 3, True, True, False

    def drawn(self, draws: np.ndarray, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """Numbers of operations (N,) and their amounts (N,)."""
        numbers = (draws[:, 0] * len(OPERATIONS)).astype(int)
        return numbers, amounts_of(numbers, draws[:, 1], (draws[:, 2] * 31).astype(int) / 30, True, shape)

    def matrices(self, draws: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
        """draws (N, 3) to (N, 3, 3)."""
        return all_moved(*self.drawn(draws, shape), shape)

    def recolour(self, values: torch.Tensor, draws: np.ndarray) -> torch.Tensor:
        """values (N, 3, H, W) in [0, 1], draws (N, 3)."""
        return recoloured(values, *self.drawn(draws, (values.shape[2], values.shape[3])))
