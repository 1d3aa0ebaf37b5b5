"""Mixing the items of a batch with each other: pictures and, through the loss, targets of any kind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch

ItemLoss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass(frozen=True, kw_only=True, eq=False)
class MixedLoss:
    """share * loss(scores, target) + (1 - share) * loss(scores, other): one value an item, for class numbers and float targets alike."""

    loss: ItemLoss
    other: torch.Tensor
    share: torch.Tensor
    other_loss: ItemLoss

    def __call__(self, scores: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return self.share * self.loss(scores, target) + (1 - self.share) * self.other_loss(scores, self.other)

    def counts(self, target: torch.Tensor) -> torch.Tensor:
        """What each mixed item counts, (N,): the weights of both of its parts, for losses that weigh items."""
        own, other = cast(Any, self.loss), cast(Any, self.other_loss)
        counts: torch.Tensor = self.share * own.counts(target) + (1 - self.share) * other.counts(self.other)
        return counts

    def at(self, rows: slice) -> MixedLoss:
        """The loss of some of the batch's items."""
        share = self.share[rows] if self.share.ndim else self.share
        return MixedLoss(loss=loss_at(self.loss, rows), other=self.other[rows], share=share, other_loss=loss_at(self.other_loss, rows))


def loss_at(loss: Any, rows: Any) -> Any:
    """The loss of the items `rows` of a batch, for losses that hold something of each item."""
    return loss.at(rows) if hasattr(loss, "at") else loss


@dataclass(frozen=True, kw_only=True)
class Mixup:
    """Each picture blended with another one: share l ~ Beta(alpha, alpha), at least a half, of its own.

    Source: Zhang et al. 2017 (arXiv 1710.09412), one share an item as in fastai 2.8.
    """

    alpha: float = 0.4

    def __call__(self, images: torch.Tensor, target: torch.Tensor, loss: ItemLoss, key: int) -> tuple[torch.Tensor, MixedLoss]:
        """Images (N, C, H, W) and targets (N, ...) to mixed images and the loss for `target`; all draws follow from `key`."""
        generator = np.random.Generator(np.random.PCG64(key))
        beta = generator.beta(self.alpha, self.alpha, len(images))
        share = torch.from_numpy(np.maximum(beta, 1 - beta).astype(np.float32)).to(images.device, non_blocking=True)
        order = torch.from_numpy(generator.permutation(len(images))).to(images.device, non_blocking=True)
        own = share.view(-1, *[1] * (images.ndim - 1))
        return own * images + (1 - own) * images[order], MixedLoss(
            loss=loss, other=target[order], share=share, other_loss=loss_at(loss, order)
        )


@dataclass(frozen=True, kw_only=True)
class CutMix:
    """A box of each picture replaced by the same box of another one; one box a batch, its area 1 - l, l ~ Beta(alpha, alpha).

    The box is clipped at the edges, and l is what then remains. Source: Yun et al. 2019 (arXiv 1905.04899).
    """

    alpha: float = 1.0

    def __call__(self, images: torch.Tensor, target: torch.Tensor, loss: ItemLoss, key: int) -> tuple[torch.Tensor, MixedLoss]:
        """Images (N, C, H, W) and targets (N, ...) to mixed images and the loss for `target`; all draws follow from `key`."""
        generator = np.random.Generator(np.random.PCG64(key))
        side = float(np.sqrt(1 - generator.beta(self.alpha, self.alpha)))
        high, wide = images.shape[-2:]
        middle_y, middle_x = int(generator.integers(high)), int(generator.integers(wide))
        half_y, half_x = int(high * side) // 2, int(wide * side) // 2
        top, bottom = max(middle_y - half_y, 0), min(middle_y + half_y, high)
        left, right = max(middle_x - half_x, 0), min(middle_x + half_x, wide)
        order = torch.from_numpy(generator.permutation(len(images))).to(images.device, non_blocking=True)
        mixed = images.clone()
        mixed[..., top:bottom, left:right] = images[order][..., top:bottom, left:right]
        share = torch.tensor(1 - (bottom - top) * (right - left) / (high * wide), dtype=torch.float32).to(images.device, non_blocking=True)
        return mixed, MixedLoss(loss=loss, other=target[order], share=share, other_loss=loss_at(loss, order))
