"""Exact symmetries: augmentations that move pixels without changing them. The same draws give the same pixels.

Every augmentation takes a batch (N, C, H, W) and its own columns of uniform draws, one row an item:
`draws` says how many columns it needs, `normalised` whether it sees pixels before or after normalisation.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch


@dataclass(frozen=True, kw_only=True)
class Flip:
    """Mirror left and right with probability `p`.

    >>> Flip()(torch.tensor([[[[1, 2]]]]), np.array([[0.2]])).tolist()
    [[[[2, 1]]]]
    """

    p: float = 0.5
    draws, normalised = 1, False

    def __call__(self, images: torch.Tensor, draws: np.ndarray) -> torch.Tensor:
        """images (N, C, H, W) of any type, draws (N, 1) in [0, 1)."""
        chosen = torch.from_numpy(draws[:, 0] < self.p).to(images.device, non_blocking=True)
        return torch.where(chosen[:, None, None, None], images.flip(3), images)


@dataclass(frozen=True, kw_only=True)
class Dihedral:
    """One of the square's eight symmetries, each as likely: for pictures without an up or a left.

    >>> Dihedral()(torch.tensor([[[[1, 2], [3, 4]]]]), np.array([[0.0]])).tolist()
    [[[[1, 2], [3, 4]]]]
    """

    draws, normalised = 1, False

    def __call__(self, images: torch.Tensor, draws: np.ndarray) -> torch.Tensor:
        """images (N, C, S, S) of any type, draws (N, 1) in [0, 1)."""
        choice = (draws[:, 0] * 8).astype(int)
        turned = [
            torch.rot90(image.flip(2) if number >= 4 else image, int(number) % 4, (1, 2))
            for image, number in zip(images, choice, strict=True)
        ]
        return torch.stack(turned)
