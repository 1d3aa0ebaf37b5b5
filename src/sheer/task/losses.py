"""Losses: from scores and targets to one loss an item; the training step takes their mean."""

from __future__ import annotations

from dataclasses import dataclass

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


LOSSES = {"cross_entropy": CrossEntropy, "binary_cross_entropy": BinaryCrossEntropy, "squared_error": SquaredError, "huber": Huber}
LOSSES_OF = {"classify": ("cross_entropy",), "tag": ("binary_cross_entropy",), "regress": ("squared_error", "huber")}
