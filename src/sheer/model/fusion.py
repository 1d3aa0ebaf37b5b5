"""Several branches as one body: each input's features as tokens, a learned vector where an input is missing, one vector of them all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn


class Tokens(nn.Module):
    """Features of a branch as tokens (N, T, width): places of a map, or one for a vector; one, their mean, where `mean`."""

    def __init__(self, mean: bool) -> None:
        super().__init__()
        self.mean = mean

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        if features.ndim != 3:
            features = features.flatten(2).transpose(1, 2) if features.ndim == 4 else features.unsqueeze(1)
        return features.mean(dim=1, keepdim=True) if self.mean else features


class Fused(nn.Module):
    """A body a branch, and what fuses them: takes `Inputs`, gives (N, features).

    Features of a branch become tokens, all of them or their mean as the fusion takes them. Where an input is missing each of them is the
    branch's own learned vector, 0 at first; norm layers of the branch still see it, as zeros.
    """

    def __init__(self, branches: Mapping[str, nn.Module], widths: Sequence[int], fusion: Any) -> None:
        super().__init__()
        self.branches = nn.ModuleDict(branches)
        self.pools = nn.ModuleDict({name: Tokens(fusion.mean) for name in branches})
        self.missing = nn.ParameterDict({name: nn.Parameter(torch.zeros(width)) for name, width in zip(branches, widths, strict=True)})
        self.fusion = fusion

    def tokens(self, inputs: Any) -> list[torch.Tensor]:
        """Each branch's tokens (N, T, width), in the order of the branches."""
        found = []
        for place, (name, branch) in enumerate(self.branches.items()):
            features = self.pools[name](branch(inputs.parts[name]))
            found.append(torch.where(inputs.present[:, place].view(-1, 1, 1), features, self.missing[name]))
        return found

    def forward(self, inputs: Any) -> torch.Tensor:
        fused: torch.Tensor = self.fusion(self.tokens(inputs))
        return fused


def branch_of(model: Any, name: str, modules: Sequence[str]) -> tuple[nn.Module, str]:
    """A branch with what makes tokens of it, and where it ends of `modules` of the whole network, by its name there; "" for none of them.

    >>> model = nn.Sequential()
    >>> model.body = Fused({"a": nn.Sequential(nn.ReLU()), "b": nn.ReLU()}, (1, 1), ConcatBranches())
    >>> [branch_of(model, name, ["body.branches.a.0", "body.pools.b"])[1] for name in "ab"]
    ['0.0', '1']
    """
    whole = nn.Sequential(model.body.branches[name], model.body.pools[name])
    for hooks in ("_forward_pre_hooks", "_forward_hooks", "_forward_hooks_always_called"):  # of autocast
        setattr(whole, hooks, getattr(model, hooks).copy())  # hooks on the part stay there
    inside = [f"body.branches.{name}", f"body.pools.{name}"]
    ends = [f"{place}{one.removeprefix(own)}" for one in modules for place, own in enumerate(inside) if f"{one}.".startswith(f"{own}.")]
    return whole, ends[-1] if ends else ""


class ConcatBranches(nn.Module):
    """The branches' mean tokens side by side."""

    mean = True

    def forward(self, tokens: list[torch.Tensor]) -> torch.Tensor:
        return torch.cat([branch[:, 0] for branch in tokens], dim=1)


class GatedBranches(nn.Module):
    """The branches' mean tokens, each brought to one width and squashed by tanh, added with weights that sum to 1 and depend on all."""

    mean = True

    def __init__(self, widths: Sequence[int], width: int) -> None:
        super().__init__()
        self.project = nn.ModuleList(nn.Linear(each, width) for each in widths)
        self.gate = nn.Linear(width * len(widths), len(widths))

    def forward(self, tokens: list[torch.Tensor]) -> torch.Tensor:
        parts = [torch.tanh(project(branch[:, 0])) for project, branch in zip(self.project, tokens, strict=True)]
        gates = self.gate(torch.cat(parts, dim=1)).softmax(dim=1)
        return (torch.stack(parts, dim=1) * gates.unsqueeze(2)).sum(dim=1)


class CrossBranches(nn.Module):
    """The branches' mean tokens ask all tokens of all branches; what they get is added to them, normalised, and set side by side."""

    mean = False

    def __init__(self, widths: Sequence[int], width: int, heads: int) -> None:
        super().__init__()
        self.project = nn.ModuleList(nn.Linear(each, width) for each in widths)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.norm = nn.LayerNorm(width)

    def forward(self, tokens: list[torch.Tensor]) -> torch.Tensor:
        parts = [project(branch) for project, branch in zip(self.project, tokens, strict=True)]
        asking, asked = torch.stack([part.mean(dim=1) for part in parts], dim=1), torch.cat(parts, dim=1)
        fused: torch.Tensor = self.norm(asking + self.attention(asking, asked, asked, need_weights=False)[0])
        return fused.flatten(1)


@dataclass(frozen=True, kw_only=True)
class Concat:
    """Mean features of the branches side by side; nothing to learn.

    >>> Concat().features((3, 5)), tuple(Concat().build((3, 5))([torch.zeros(2, 1, 3), torch.zeros(2, 1, 5)]).shape)
    (8, (2, 8))
    """

    def features(self, widths: Sequence[int]) -> int:
        """The width of what comes out."""
        return sum(widths)

    def build(self, widths: Sequence[int]) -> nn.Module:
        """The module for branches of these widths."""
        return ConcatBranches()


@dataclass(frozen=True, kw_only=True)
class GatedSum:
    """A sum of the branches with gates that are learned. Source: Arevalo et al. 2017 (gated multimodal units), gates by softmax.

    >>> tuple(GatedSum(width=4).build((3, 5))([torch.zeros(2, 1, 3), torch.zeros(2, 1, 5)]).shape)
    (2, 4)
    """

    width: int = 256

    def features(self, widths: Sequence[int]) -> int:
        """The width of what comes out."""
        return self.width

    def build(self, widths: Sequence[int]) -> nn.Module:
        """The module for branches of these widths."""
        return GatedBranches(widths, self.width)


@dataclass(frozen=True, kw_only=True)
class CrossAttention:
    """One layer of attention from each branch to the tokens of all. Source: Vaswani et al. 2017.

    >>> tuple(CrossAttention(width=4, heads=2).build((3, 5))([torch.zeros(2, 4, 3), torch.zeros(2, 1, 5)]).shape)
    (2, 8)
    """

    width: int = 256
    heads: int = 4

    def features(self, widths: Sequence[int]) -> int:
        """The width of what comes out."""
        return self.width * len(widths)

    def build(self, widths: Sequence[int]) -> nn.Module:
        """The module for branches of these widths."""
        return CrossBranches(widths, self.width, self.heads)


FUSIONS: dict[str, type[Concat] | type[GatedSum] | type[CrossAttention]] = {
    "concat": Concat,
    "gated_sum": GatedSum,
    "cross_attention": CrossAttention,
}
