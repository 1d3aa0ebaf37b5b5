"""Losses: from scores and targets to one loss an item; the training step takes their mean."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional


@dataclass(frozen=True, kw_only=True)
class CrossEntropy:
    """Softmax cross-entropy of raw scores (N, classes) and class numbers (N,), giving (N,).

    With label smoothing e: (1 - e) nll + e / classes * sum(-log p) (Szegedy et al. 2016).

    >>> CrossEntropy()(torch.zeros(1, 2), torch.tensor([0])).item() - 0.693147 < 1e-6
    True
    """

    label_smoothing: float = 0.0

    def __call__(self, scores: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(scores, target, reduction="none", label_smoothing=self.label_smoothing)


@dataclass(frozen=True, kw_only=True)
class Focal:
    """Cross-entropy times (1 - p) ** gamma, p the probability of the true class: easy items count less, giving (N,).

    Source: Lin et al. 2017 (arXiv 1708.02002), without their class weight alpha (see `Weighted`).

    >>> abs(Focal()(torch.zeros(1, 2), torch.tensor([0])).item() - 0.25 * 0.693147) < 1e-6
    True
    """

    gamma: float = 2.0

    def __call__(self, scores: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        log = functional.log_softmax(scores, 1).gather(1, target[:, None])[:, 0]
        return -((1 - log.exp()) ** self.gamma) * log


@dataclass(frozen=True, kw_only=True)
class Weighted:
    """Another loss, each item times the weight of its class; the step's mean divides by items, not by weights.

    >>> Weighted(loss=CrossEntropy(), weights=(0.5, 2.0))(torch.zeros(2, 2), torch.tensor([0, 1])).tolist()
    [0.3465735912322998, 1.3862943649291992]
    """

    loss: Any
    weights: tuple[float, ...]

    def __call__(self, scores: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        weights = torch.tensor(self.weights).to(scores.device, non_blocking=True)
        each: torch.Tensor = self.loss(scores, target) * weights[target]
        return each


@dataclass(frozen=True, kw_only=True, eq=False)
class ItemWeighted:
    """Another loss times the weight (N,) of each item of the batch, giving (N,).

    >>> ItemWeighted(loss=SquaredError(), weight=torch.tensor([0.5]))(torch.tensor([[1.0]]), torch.tensor([[3.0]])).tolist()
    [2.0]
    """

    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    weight: torch.Tensor

    def __call__(self, scores: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return self.weight * self.loss(scores, target)

    def at(self, rows: slice | torch.Tensor) -> ItemWeighted:
        """The loss of some of the batch's items."""
        return ItemWeighted(loss=self.loss, weight=self.weight[rows])


@dataclass(frozen=True, kw_only=True)
class BinaryCrossEntropy:
    """Sigmoid cross-entropy of raw scores (N, labels) and targets 0 .. 1 (N, labels), the mean over labels, giving (N,).

    >>> BinaryCrossEntropy()(torch.zeros(1, 2), torch.tensor([[0.0, 1.0]])).item() - 0.693147 < 1e-6
    True
    """

    def __call__(self, scores: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return functional.binary_cross_entropy_with_logits(scores, target, reduction="none").mean(1)


@dataclass(frozen=True, kw_only=True)
class SquaredError:
    """(score - target)^2, the mean over numbers: (N, numbers) twice, giving (N,).

    >>> SquaredError()(torch.tensor([[1.0]]), torch.tensor([[3.0]])).tolist()
    [4.0]
    """

    def __call__(self, scores: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return (scores - target).square().mean(1)


@dataclass(frozen=True, kw_only=True)
class Huber:
    """Squared error up to `delta`, linear beyond (Huber 1964), the mean over numbers: (N, numbers) twice, giving (N,).

    >>> Huber()(torch.tensor([[0.0]]), torch.tensor([[3.0]])).tolist()
    [2.5]
    """

    delta: float = 1.0

    def __call__(self, scores: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return functional.huber_loss(scores, target, reduction="none", delta=self.delta).mean(1)


LOSSES: dict[str, Any] = {
    "cross_entropy": CrossEntropy,
    "focal": Focal,
    "binary_cross_entropy": BinaryCrossEntropy,
    "squared_error": SquaredError,
    "huber": Huber,
}
