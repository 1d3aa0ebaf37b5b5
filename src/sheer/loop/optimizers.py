"""Optimisers: torch's own, built from parameter groups, moved by a schedule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True, kw_only=True)
class AdamW:
    """torch.optim.AdamW (Loshchilov, Hutter 2019); beta1 is the schedule's momentum.

    `implementation`: "fused" (one kernel), "foreach" or "single" (bit for bit equal to each other).
    """

    beta2: float = 0.99
    eps: float = 1e-5
    implementation: str = "fused"

    def build(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        """The optimiser over `groups`; each has `params`, `lr`, `peak` and `weight_decay`."""
        kind = {"fused": self.implementation == "fused", "foreach": self.implementation == "foreach"}
        return torch.optim.AdamW(groups, betas=(0.9, self.beta2), eps=self.eps, **kind)


def set_rates(optimizer: torch.optim.Optimizer, factor: float, momentum: float) -> None:
    """Set each group's rate to its peak times `factor`, and beta1 to `momentum`."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * factor
        group["betas"] = (momentum, group["betas"][1])


OPTIMIZERS = {"adamw": AdamW}
