"""Losses: from scores and targets to one loss an item; the training step takes their mean, or their weighted mean."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn


@dataclass(frozen=True, kw_only=True)
class CrossEntropy:
    """Softmax cross-entropy of raw scores (N, classes) and class numbers (N,), giving (N,).

    With label smoothing e: (1 - e) nll + e / classes * sum(-log p) (Szegedy et al. 2016).

    >>> CrossEntropy()(torch.zeros(1, 2), torch.tensor([0])).item() - 0.693147 < 1e-6
    True
    """

    label_smoothing: float = 0.0

    def __call__(self, scores: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return nn.functional.cross_entropy(scores, target, reduction="none", label_smoothing=self.label_smoothing)


@dataclass(frozen=True, kw_only=True)
class Focal:
    """Cross-entropy times (1 - p) ** gamma, p the probability of the true class: easy items count less, giving (N,).

    Source: Lin et al. 2017 (arXiv 1708.02002), without their class weight alpha (see `Weighted`).

    >>> abs(Focal()(torch.zeros(1, 2), torch.tensor([0])).item() - 0.25 * 0.693147) < 1e-6
    True
    """

    gamma: float = 2.0

    def __call__(self, scores: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        log = nn.functional.log_softmax(scores, 1).gather(1, target[:, None])[:, 0]
        return -((1 - log.exp()) ** self.gamma) * log


@dataclass(frozen=True, kw_only=True)
class Weighted:
    """Another loss, each item times the weight of its class; `per_weight` makes their mean a weighted one.

    >>> Weighted(loss=CrossEntropy(), weights=(0.5, 2.0))(torch.zeros(2, 2), torch.tensor([0, 1])).tolist()
    [0.3465735912322998, 1.3862943649291992]
    """

    loss: Any
    weights: tuple[float, ...]

    def __call__(self, scores: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        each: torch.Tensor = self.loss(scores, target) * self.counts(target)
        return each

    def counts(self, target: torch.Tensor) -> torch.Tensor:
        """What each item counts, (N,)."""
        return torch.tensor(self.weights).to(target.device, non_blocking=True)[target]


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

    def counts(self, target: torch.Tensor) -> torch.Tensor:
        """What each item counts, (N,): its weight, times that of its class where classes are weighted too."""
        return self.weight * self.loss.counts(target) if hasattr(self.loss, "counts") else self.weight

    def at(self, rows: slice | torch.Tensor) -> ItemWeighted:
        """The loss of some of the batch's items."""
        return ItemWeighted(loss=self.loss, weight=self.weight[rows])


@dataclass(frozen=True, kw_only=True, eq=False)
class PerWeight:
    """Another loss times the same `scale` (a tensor without axes) for every item of the batch; see `per_weight`."""

    loss: Any
    scale: torch.Tensor

    def __call__(self, scores: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        each: torch.Tensor = self.scale * self.loss(scores, target)
        return each

    def at(self, rows: slice | torch.Tensor) -> PerWeight:
        """The loss of some of the batch's items, with the scale of the whole batch."""
        return PerWeight(loss=self.loss.at(rows) if hasattr(self.loss, "at") else self.loss, scale=self.scale)


def per_weight(loss: Any, target: torch.Tensor) -> PerWeight:
    """A weighted loss so scaled that the mean over the whole batch `target` (N, ...) is sum(weight loss) / sum(weight).

    As `torch.nn.CrossEntropyLoss(weight=...)` takes it, but 0 where all weights are 0; the same for a batch that goes through the
    network in parts.

    >>> weighted = Weighted(loss=CrossEntropy(), weights=(0.5, 2.0))
    >>> scores, target = torch.tensor([[1.0, 0.0], [0.0, 3.0]]), torch.tensor([0, 1])
    >>> whole = torch.nn.CrossEntropyLoss(weight=torch.tensor([0.5, 2.0]))(scores, target)
    >>> abs(per_weight(weighted, target)(scores, target).mean() - whole).item() < 1e-7
    True
    """
    total = loss.counts(target).sum()
    return PerWeight(loss=loss, scale=torch.where(total > 0, len(target) / total, torch.zeros_like(total)))


@dataclass(kw_only=True, repr=False, eq=False)
class OwnLoss:
    """Your own function of scores and targets that gives one loss an item, (N,); or a class of such objects, made without arguments.

    >>> OwnLoss(function=SquaredError)(torch.tensor([[1.0]]), torch.tensor([[3.0]])).tolist()
    [4.0]
    """

    function: Any

    def __post_init__(self) -> None:
        self.made = self.function() if isinstance(self.function, type) else self.function

    def __repr__(self) -> str:
        return f"OwnLoss(function={self.function.__name__})"

    def __call__(self, scores: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        if isinstance(self.made, nn.Module):
            self.made.to(scores.device)
        each: torch.Tensor = self.made(scores, target)
        return each


@dataclass(frozen=True, kw_only=True)
class EnsembleLoss:
    """Another loss of each member's scores (N, members, classes), the mean over members; (N, classes) goes to it as it is. Gives (N,).

    The mean of the members' losses, not the loss of their mean: each learns to be right by itself (arXiv 2410.24210).

    >>> EnsembleLoss(loss=SquaredError())(torch.tensor([[[1.0], [5.0]]]), torch.tensor([[3.0]])).tolist()
    [4.0]
    """

    loss: Any

    def __call__(self, scores: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        if scores.ndim == 2:
            return self.loss(scores, target)
        members = scores.shape[1]
        return self.loss(scores.flatten(0, 1), target.repeat_interleave(members, 0)).view(-1, members).mean(1)


@dataclass(frozen=True, kw_only=True)
class BinaryCrossEntropy:
    """Sigmoid cross-entropy of raw scores (N, labels) and targets 0 .. 1 (N, labels), the mean over labels, giving (N,).

    >>> BinaryCrossEntropy()(torch.zeros(1, 2), torch.tensor([[0.0, 1.0]])).item() - 0.693147 < 1e-6
    True
    """

    def __call__(self, scores: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return nn.functional.binary_cross_entropy_with_logits(scores, target, reduction="none").mean(1)


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
        return nn.functional.huber_loss(scores, target, reduction="none", delta=self.delta).mean(1)


LOSSES: dict[str, Any] = {
    "cross_entropy": CrossEntropy,
    "focal": Focal,
    "binary_cross_entropy": BinaryCrossEntropy,
    "squared_error": SquaredError,
    "huber": Huber,
}
