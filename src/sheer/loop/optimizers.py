"""Optimisers: torch's own and timm's, built from parameter groups, moved by a schedule.

`implementation` is "fused" (one kernel), "foreach" or "single" (bit for bit equal to each other).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True, kw_only=True)
class AdamW:
    """torch.optim.AdamW (Loshchilov, Hutter 2019); beta1 is the schedule's momentum.

    >>> type(AdamW().build([{"params": [torch.zeros(1, requires_grad=True)]}])).__name__
    'AdamW'
    """

    beta2: float = 0.99
    eps: float = 1e-5
    implementation: str = "fused"

    def build(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        """The optimiser over `groups`; each has `params`, `lr`, `peak` and `weight_decay`."""
        kind = {"fused": self.implementation == "fused", "foreach": self.implementation == "foreach"}
        return torch.optim.AdamW(groups, betas=(0.9, self.beta2), eps=self.eps, **kind)


@dataclass(frozen=True, kw_only=True)
class Adam:
    """torch.optim.Adam (Kingma, Ba 2015): the decay is added to the gradient; beta1 is the schedule's momentum.

    >>> type(Adam().build([{"params": [torch.zeros(1, requires_grad=True)]}])).__name__
    'Adam'
    """

    beta2: float = 0.99
    eps: float = 1e-5
    implementation: str = "fused"

    def build(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        """The optimiser over `groups`; each has `params`, `lr`, `peak` and `weight_decay`."""
        kind = {"fused": self.implementation == "fused", "foreach": self.implementation == "foreach"}
        return torch.optim.Adam(groups, betas=(0.9, self.beta2), eps=self.eps, **kind)


@dataclass(frozen=True, kw_only=True)
class SGD:
    """torch.optim.SGD with the schedule's momentum, after Nesterov or plain; the decay is added to the gradient.

    >>> type(SGD().build([{"params": [torch.zeros(1, requires_grad=True)], "lr": 0.1}])).__name__
    'SGD'
    """

    nesterov: bool = False
    implementation: str = "fused"

    def build(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        """The optimiser over `groups`; each has `params`, `lr`, `peak` and `weight_decay`."""
        kind = {"fused": self.implementation == "fused", "foreach": self.implementation == "foreach"}
        return torch.optim.SGD(groups, momentum=0.9, nesterov=self.nesterov, **kind)


@dataclass(frozen=True, kw_only=True)
class RMSprop:
    """torch.optim.RMSprop (Hinton 2012) with the schedule's momentum; "fused" does not exist for it.

    >>> type(RMSprop().build([{"params": [torch.zeros(1, requires_grad=True)]}])).__name__
    'RMSprop'
    """

    alpha: float = 0.99
    eps: float = 1e-8
    implementation: str = "foreach"

    def build(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        """The optimiser over `groups`; each has `params`, `lr`, `peak` and `weight_decay`."""
        return torch.optim.RMSprop(groups, alpha=self.alpha, eps=self.eps, momentum=0.9, foreach=self.implementation == "foreach")


@dataclass(frozen=True, kw_only=True)
class Timm:
    """An optimiser of timm.optim by its name there, such as "lamb"; the schedule's momentum is its beta1 or momentum."""

    name: str
    settings: tuple[tuple[str, Any], ...] = ()

    def build(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        """The optimiser over `groups`; each has `params`, `lr`, `peak` and `weight_decay`."""
        from timm import optim

        make: Any = optim.create_optimizer_v2  # type: ignore[attr-defined]
        optimizer: torch.optim.Optimizer = make(groups, opt=self.name, **dict(self.settings))
        return optimizer


@dataclass(frozen=True, kw_only=True)
class LBFGS:
    """Fits the one linear layer that trains, all items at once; see `fit_step`.

    Each of `penalties` is tried, the strongest first, until the loss of items left out of the fit, each of `folds` parts once, gets
    worse; the best one then fits all items.

    >>> LBFGS(folds=2).build([{"params": [torch.zeros(1, requires_grad=True)]}]).defaults["folds"]
    2
    """

    folds: int = 3
    penalties: tuple[float, ...] = (1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001)

    def build(self, groups: list[dict[str, Any]]) -> Fitter:
        """The holder of what is fitted; each group has `params`, `lr`, `peak` and `weight_decay`."""
        return Fitter(groups, {"folds": self.folds, "penalties": self.penalties})


class Fitter(torch.optim.Optimizer):
    """Owns the tensors that `fit_step` fits; state `left_out` is the mean loss of items left out of the fit by penalty, `not_finite`
    the places of items that were never in it."""


def set_rates(optimizer: torch.optim.Optimizer, factor: float, momentum: float) -> None:
    """Set each group's rate to its peak times `factor`, and beta1 (or momentum) to `momentum`."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * factor
        group.update({"betas": (momentum, *group["betas"][1:])} if "betas" in group else {"momentum": momentum})


OPTIMIZERS: dict[str, Any] = {"adamw": AdamW, "adam": Adam, "sgd": SGD, "rmsprop": RMSprop, "timm": Timm, "lbfgs": LBFGS}
