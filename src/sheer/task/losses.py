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


LOSSES = {"cross_entropy": CrossEntropy}
