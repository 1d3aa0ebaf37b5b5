"""Heads: what turns a backbone's features into one score a class."""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn


class MaxAvgPool(nn.Module):
    """(N, C, H, W) to (N, 2C): global maximum, then global average."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return torch.cat([features.amax(dim=(2, 3)), features.mean(dim=(2, 3))], dim=1)


class AvgPool(nn.Module):
    """(N, C, H, W) to (N, C): global average."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features.mean(dim=(2, 3))


@dataclass(frozen=True, kw_only=True)
class ConcatPool:
    """Pool by maximum and average (maps only), then BatchNorm, Dropout, Linear for each hidden layer and the classes.

    Dropout is half of `dropout` before every layer but the last; linear layers have no bias and Kaiming normal weights. Source:
    fastai 2.8 `create_head`.

    >>> [tuple(p.shape) for p in ConcatPool().build(512, 3, "map").parameters() if p.ndim == 2]
    [(512, 1024), (3, 512)]
    """

    hidden: tuple[int, ...] = (512,)
    dropout: float = 0.5
    norm_bias: float = 1e-3

    def build(self, features: int, classes: int, kind: str) -> nn.Sequential:
        """The head for `features` channels of a "map" (N, C, H, W) or "vector" (N, C)."""
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        if kind == "map":
            layers["pool"] = MaxAvgPool()
        widths = [features * 2 if kind == "map" else features, *self.hidden, classes]
        for index, (width, out) in enumerate(itertools.pairwise(widths)):
            is_last = index == len(widths) - 2
            layers[f"norm{index}"] = nn.BatchNorm1d(width)
            layers[f"drop{index}"] = nn.Dropout(self.dropout if is_last else self.dropout / 2)
            layers[f"linear{index}"] = nn.Linear(width, out, bias=False)
            if not is_last:
                layers[f"act{index}"] = nn.ReLU(inplace=True)
        for layer in layers.values():
            if isinstance(layer, nn.Linear):
                nn.init.kaiming_normal_(layer.weight)
            elif isinstance(layer, nn.BatchNorm1d):
                nn.init.constant_(layer.bias, self.norm_bias)
        return nn.Sequential(layers)


@dataclass(frozen=True, kw_only=True)
class Linear:
    """Average pooling (maps only), dropout, one linear layer: Kaiming normal weights (He et al. 2015: fan in, gain of ReLU), bias 0.

    >>> tuple(Linear().build(8, 3, "vector")(torch.zeros(2, 8)).shape)
    (2, 3)
    """

    dropout: float = 0.0

    def build(self, features: int, classes: int, kind: str) -> nn.Sequential:
        """The head for `features` channels of a "map" (N, C, H, W) or "vector" (N, C)."""
        linear = nn.Linear(features, classes)
        nn.init.kaiming_normal_(linear.weight)
        nn.init.zeros_(linear.bias)
        pool = {"pool": AvgPool()} if kind == "map" else {}
        return nn.Sequential(OrderedDict[str, nn.Module](**pool, drop=nn.Dropout(self.dropout), linear=linear))


class AvgMaxPool(nn.Module):
    """(N, C, H, W) to (N, 2C): global average, then global maximum."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return torch.cat([features.mean(dim=(2, 3)), features.amax(dim=(2, 3))], dim=1)


@dataclass(frozen=True, kw_only=True)
class Plain:
    """What people write themselves: pooling ("avg", or "concat": average, then maximum), then Linear, BatchNorm and ReLU for each
    hidden layer, dropout, and a linear layer to the classes, all with bias.

    `init` of linear layers: "torch" (what nn.Linear does), or "glorot_uniform" with biases 0 (Glorot, Bengio 2010; Keras's own).

    >>> [tuple(p.shape) for p in Plain(pool="concat", hidden=(4,)).build(8, 3, "map").parameters() if p.ndim == 2]
    [(4, 16), (3, 4)]
    """

    pool: str = "avg"
    hidden: tuple[int, ...] = ()
    dropout: float = 0.0
    init: str = "torch"

    def build(self, features: int, classes: int, kind: str) -> nn.Sequential:
        """The head for `features` channels of a "map" (N, C, H, W) or "vector" (N, C)."""
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        if kind == "map":
            layers["pool"] = AvgPool() if self.pool == "avg" else AvgMaxPool()
        widths = [features * 2 if kind == "map" and self.pool == "concat" else features, *self.hidden]
        for index, (width, out) in enumerate(itertools.pairwise(widths)):
            layers[f"linear{index}"], layers[f"norm{index}"], layers[f"act{index}"] = nn.Linear(width, out), nn.BatchNorm1d(out), nn.ReLU()
        layers["drop"] = nn.Dropout(self.dropout)
        layers["linear"] = nn.Linear(widths[-1], classes)
        head = nn.Sequential(layers)
        for layer in head:
            if isinstance(layer, nn.Linear) and self.init == "glorot_uniform":
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)
        return head


@dataclass(frozen=True, kw_only=True)
class OwnHead:
    """A head that your own function of (features, classes) makes; it gets what the body gives, a map or a vector.

    >>> OwnHead(make=nn.Linear).build(8, 3, "vector").weight.shape
    torch.Size([3, 8])
    """

    make: Callable[[int, int], nn.Module]

    def build(self, features: int, classes: int, kind: str) -> nn.Module:
        """The function's module."""
        return self.make(features, classes)


class EnsembleLinear(nn.Module):
    """A linear layer of its own for each member: (N, members, features) to (N, members, classes) in training; else (N, classes), scores
    whose outputs are the mean of the members' outputs: probabilities for `classify` and `tag`, numbers for `regress`.

    >>> tuple(EnsembleLinear(8, 3, members=4, task="classify").eval()(torch.zeros(2, 4, 8)).shape)
    (2, 3)
    """

    def __init__(self, features: int, classes: int, *, members: int, task: str) -> None:
        super().__init__()
        bound = features**-0.5
        self.weight = nn.Parameter(torch.empty(members, features, classes).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(members, classes).uniform_(-bound, bound))
        self.task = task

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        scores = (features.transpose(0, 1) @ self.weight).transpose(0, 1) + self.bias
        if self.training:
            return scores
        if self.task == "classify":  # the logarithm of the mean of p, up to a constant that softmax does not see
            return torch.log_softmax(scores, 2).logsumexp(1)
        if self.task == "tag":  # log(p / (1 - p)) of the mean of p
            return nn.functional.logsigmoid(scores).logsumexp(1) - nn.functional.logsigmoid(-scores).logsumexp(1)
        return scores.mean(1)


@dataclass(frozen=True, kw_only=True)
class Ensemble:
    """The head of a body with several members: one linear layer a member, and the mean of what they say.

    In training each member has its own loss (see `EnsembleLoss`). Source: Gorishniy et al. 2024 (arXiv 2410.24210).

    >>> Ensemble(members=4, task="regress").build(8, 1, "ensemble").weight.shape
    torch.Size([4, 8, 1])
    """

    members: int
    task: str

    def build(self, features: int, classes: int, kind: str) -> EnsembleLinear:
        """The head for `features` numbers a member of an "ensemble" (N, members, features)."""
        return EnsembleLinear(features, classes, members=self.members, task=self.task)


HEADS = {"concat_pool": ConcatPool, "linear": Linear, "plain": Plain, "ensemble": Ensemble}
