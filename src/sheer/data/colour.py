"""Colour augmentations of values in [0, 1], each with its own probability and strength an item."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch


def per_item(numbers: np.ndarray, values: torch.Tensor) -> torch.Tensor:
    """Numbers (N,) as float32 (N, 1, 1, 1) beside `values`."""
    return torch.from_numpy(np.asarray(numbers, np.float32)).to(values.device, non_blocking=True).view(-1, 1, 1, 1)


def relit(values: torch.Tensor, light: np.ndarray, contrast: np.ndarray) -> torch.Tensor:
    """sigmoid(contrast * (logit(values) + logit(light))) for items where either is not neutral (0.5 and 1), the others as they are.

    Brightness and contrast in logit space as in fastai 2.8: nothing saturates.

    >>> round(relit(torch.full((1, 1, 1, 1), 0.5), np.array([0.75]), np.array([1.0])).item(), 4)
    0.75
    """
    changed = torch.sigmoid(per_item(contrast, values) * (torch.logit(values, 1e-7) + torch.logit(per_item(light, values))))
    return torch.where(per_item((light != 0.5) | (contrast != 1), values) > 0, changed, values)


def drawn_light(draws: np.ndarray, strength: float, p: float) -> np.ndarray:
    """0.5 (neutral), or uniform within `strength` of it, by two draws: whether, and how bright.

    >>> drawn_light(np.array([[0.1, 1.0], [0.9, 1.0]]), 0.2, 0.75).tolist()
    [0.6, 0.5]
    """
    return np.where(draws[:, 0] < p, 0.5 * (1 + strength * (2 * draws[:, 1] - 1)), 0.5)


def drawn_contrast(draws: np.ndarray, strength: float, p: float) -> np.ndarray:
    """1 (neutral), or a factor with a logarithm uniform within log(1 - `strength`), by two draws: whether, and which.

    >>> drawn_contrast(np.array([[0.1, 0.5], [0.9, 1.0]]), 0.2, 0.75).tolist()
    [1.0, 1.0]
    """
    return np.where(draws[:, 0] < p, np.exp(np.log(1 - strength) * (1 - 2 * draws[:, 1])), 1.0)


@dataclass(frozen=True, kw_only=True)
class Brightness:
    """Add logit(b) to the logit of every value, b uniform within `strength` of 0.5, with probability `p`. Draws: whether, b."""

    strength: float = 0.2
    p: float = 0.75
    draws, moves, recolours, cuts = 2, False, True, False

    def recolour(self, values: torch.Tensor, draws: np.ndarray) -> torch.Tensor:
        """values (N, C, H, W) in [0, 1], draws (N, 2)."""
        return relit(values, drawn_light(draws, self.strength, self.p), np.ones(len(draws)))


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """Multiply the logit of every value by c, log(c) uniform within log(1 - `strength`), with probability `p`. Draws: whether, c."""

    strength: float = 0.2
    p: float = 0.75
    draws, moves, recolours, cuts = 2, False, True, False

    def recolour(self, values: torch.Tensor, draws: np.ndarray) -> torch.Tensor:
        """values (N, C, H, W) in [0, 1], draws (N, 2)."""
        return relit(values, np.full(len(draws), 0.5), drawn_contrast(draws, self.strength, self.p))


@dataclass(frozen=True, kw_only=True)
class Lighting:
    """Brightness, then contrast, each with probability `p`, in one visit to logit space; fastai 2.8's `max_lighting`.

    Draws: whether and how bright, whether and how much contrast.
    """

    strength: float = 0.2
    p: float = 0.75
    draws, moves, recolours, cuts = 4, False, True, False

    def recolour(self, values: torch.Tensor, draws: np.ndarray) -> torch.Tensor:
        """values (N, C, H, W) in [0, 1], draws (N, 4)."""
        return relit(values, drawn_light(draws, self.strength, self.p), drawn_contrast(draws[:, 2:], self.strength, self.p))


def grey(values: torch.Tensor) -> torch.Tensor:
    """Luma (N, 1, H, W) of red, green and blue, weights 0.2989, 0.587, 0.114 (ITU-R BT.601)."""
    red, green, blue = values.unbind(1)
    return (0.2989 * red + 0.587 * green + 0.114 * blue).unsqueeze(1)


def blended(values: torch.Tensor, other: torch.Tensor, share: np.ndarray) -> torch.Tensor:
    """share * values + (1 - share) * other, kept in [0, 1]; a share (N,) above 1 goes away from `other`."""
    weight = per_item(share, values)
    return torch.where(weight == 1, values, (weight * values + (1 - weight) * other).clamp(0, 1))


@dataclass(frozen=True, kw_only=True)
class Saturation:
    """Blend with grey: colours times a factor uniform within `strength` of 1, with probability `p`. Draws: whether, factor."""

    strength: float = 0.2
    p: float = 0.75
    draws, moves, recolours, cuts = 2, False, True, False

    def recolour(self, values: torch.Tensor, draws: np.ndarray) -> torch.Tensor:
        """values (N, 3, H, W) in [0, 1], draws (N, 2)."""
        factor = np.where(draws[:, 0] < self.p, np.maximum(1 + self.strength * (2 * draws[:, 1] - 1), 0), 1)
        return blended(values, grey(values), factor)


@dataclass(frozen=True, kw_only=True)
class Hue:
    """Turn the colour circle by up to `strength` of a full turn either way (at most 0.5), with probability `p`. Draws: whether, turn."""

    strength: float = 0.1
    p: float = 0.75
    draws, moves, recolours, cuts = 2, False, True, False

    def recolour(self, values: torch.Tensor, draws: np.ndarray) -> torch.Tensor:
        """values (N, 3, H, W) in [0, 1], draws (N, 2)."""
        turn = np.where(draws[:, 0] < self.p, self.strength * (2 * draws[:, 1] - 1), 0)
        return torch.where(per_item(turn, values) == 0, values, turned_hue(values, per_item(turn, values)))


def turned_hue(values: torch.Tensor, turn: torch.Tensor) -> torch.Tensor:
    """RGB (N, 3, H, W) with the hue of its HSV form moved by `turn` (N, 1, 1, 1) turns (Smith 1978).

    >>> turned_hue(torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1), torch.tensor(1 / 3).view(1, 1, 1, 1)).round().flatten().tolist()
    [0.0, 1.0, 0.0]
    """
    high, low = values.amax(1, keepdim=True), values.amin(1, keepdim=True)
    spread = high - low
    red, green, blue = ((high - values) / spread.clamp(min=1e-12)).unbind(1)
    sixths = torch.where(values[:, :1] == high, (blue - green)[:, None], (4 + green - red)[:, None])
    sixths = torch.where((values[:, 1:2] == high) & (values[:, :1] != high), (2 + red - blue)[:, None], sixths)
    sixths = sixths + 6 * turn
    # each channel is `high` less `spread` times a trapezium along the colour circle
    places = torch.tensor([5.0, 3.0, 1.0]).to(values.device, non_blocking=True).view(1, 3, 1, 1)
    along = (places + sixths).remainder(6)
    return high - spread * torch.minimum(along, 4 - along).clamp(0, 1)
