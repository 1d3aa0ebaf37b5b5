"""LoRA: linear layers that keep their weights and learn a change of low rank beside them (Hu et al. 2021, arXiv 2106.09685)."""

from __future__ import annotations

import math

import torch
from torch import nn


class LoraWeights(nn.Module):
    """The change B A of a linear layer: `a` (rank, in) as torch initialises linear layers, `b` (out, rank) of zeros."""

    def __init__(self, inputs: int, outputs: int, rank: int) -> None:
        super().__init__()
        self.a, self.b = nn.Parameter(torch.empty(rank, inputs)), nn.Parameter(torch.zeros(outputs, rank))
        nn.init.kaiming_uniform_(self.a, a=math.sqrt(5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.linear(nn.functional.linear(x, self.a), self.b)


class LoraLinear(nn.Module):
    """W x + (alpha / rank) B A x around a linear layer W, which it takes as it is; equal to W at first.

    >>> layer = nn.Linear(4, 3)
    >>> torch.equal(LoraLinear(layer, rank=2, alpha=4.0)(torch.ones(1, 4)), layer(torch.ones(1, 4)))
    True
    """

    def __init__(self, base: nn.Linear, rank: int, alpha: float) -> None:
        super().__init__()
        self.base, self.scale = base, alpha / rank
        self.lora = LoraWeights(base.in_features, base.out_features, rank)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        changed: torch.Tensor = self.base(x) + self.lora(x) * self.scale
        return changed


def lora_layers(body: nn.Module, layers: tuple[str, ...]) -> list[str]:
    """Paths of the linear layers whose names end in one of `layers` (whole dotted parts); of all linear layers for ().

    Subclasses are left out: what looks at their weights without calling them (torch's MultiheadAttention) would not see the change.

    >>> lora_layers(nn.ModuleDict({"query": nn.Linear(2, 2), "key": nn.Linear(2, 2)}), ("query",))
    ['query']
    """
    found = [path for path, module in body.named_modules() if type(module) is nn.Linear]
    return [path for path in found if not layers or f".{path}".endswith(tuple(f".{name}" for name in layers))]


def add_lora(body: nn.Module, rank: int, alpha: float, layers: tuple[str, ...]) -> list[str]:
    """Put a LoraLinear around each of `lora_layers`, in their order, in place; their paths. Draws from torch's generator."""
    paths = lora_layers(body, layers)
    for path in paths:
        parent, _, name = path.rpartition(".")
        owner, base = body.get_submodule(parent), body.get_submodule(path)
        assert isinstance(base, nn.Linear)
        setattr(owner, name, LoraLinear(base, rank, alpha).to(base.weight.device))
    return paths


@torch.no_grad()
def merge_lora(model: nn.Module) -> nn.Module:
    """Put plain linear layers with the weights W + (alpha / rank) B A in the place of every LoraLinear, in place.

    >>> body = nn.Sequential(nn.Linear(4, 3))
    >>> add_lora(body, 2, 4.0, ()), type(merge_lora(body)[0]).__name__
    (['0'], 'Linear')
    """
    for path, module in list(model.named_modules()):
        if isinstance(module, LoraLinear):
            parent, _, name = path.rpartition(".")
            module.base.weight += module.scale * (module.lora.b @ module.lora.a)
            setattr(model.get_submodule(parent), name, module.base)
    return model
