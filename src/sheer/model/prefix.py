"""The part of a network that does not train, run once an item: cut off by execution order, its norm layers folded into convolutions."""

from __future__ import annotations

import copy
import math
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn


class Reached(Exception):
    """Ends a forward pass; its argument is what the last module of a prefix gave."""


class Prefix(nn.Module):
    """A copy of `model` in eval mode that ends with what module `last` gives, float32, without autograd."""

    def __init__(self, model: nn.Module, last: str) -> None:
        super().__init__()
        self.model = copy.deepcopy(model).eval()
        self.model.get_submodule(last).register_forward_hook(self._end)

    @staticmethod
    def _end(module: nn.Module, inputs: object, output: torch.Tensor) -> None:
        raise Reached(output)

    @torch.inference_mode()
    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """The features (items, ...) of a batch."""
        try:
            self.model(inputs)
        except Reached as reached:
            return torch.as_tensor(reached.args[0]).float()
        raise ValueError("The forward pass did not come to the last module of the prefix.")


@torch.no_grad()
def fold_norms(network: nn.Module, inputs: torch.Tensor) -> None:
    """Make each BatchNorm that takes a convolution's output in a pass of `inputs` part of that convolution, in place.

    In eval mode (x - mean) / sqrt(var + eps) * weight + bias is linear, so it goes into the convolution's weights: one pass over
    memory less a layer. What timm's norm layers do besides, their activation, stays.
    """
    pairs: dict[Any, nn.Conv2d] = {}

    def note(module: nn.Module, given: Any, output: Any) -> None:
        if isinstance(module, nn.Conv2d):
            output.conv = module
        elif hasattr(given[0], "conv"):
            pairs[module] = given[0].conv

    layers = [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.BatchNorm2d)]
    hooks = [layer.register_forward_hook(note, prepend=True) for layer in layers]
    network(inputs)
    for hook in hooks:
        hook.remove()
    for name, norm in [(name, module) for name, module in network.named_modules() if module in pairs]:
        rest = nn.Identity() if type(norm) is nn.BatchNorm2d else nn.Sequential(norm.drop, norm.act) if hasattr(norm, "act") else None
        if rest is not None and norm.weight is not None and norm.running_var is not None:
            conv, scale = pairs[norm], norm.weight / (norm.running_var + norm.eps).sqrt()
            bias = norm.bias - norm.running_mean * scale
            conv.bias = nn.Parameter(bias if conv.bias is None else bias + conv.bias * scale)
            conv.weight = nn.Parameter(conv.weight * scale[:, None, None, None])
            network.set_submodule(name, rest.eval())


def suffix(model: nn.Module, modules: Sequence[str]) -> nn.Module:
    """The model with Identity in the place of `modules`, sharing all others and their tensors: features to scores.

    >>> list(suffix(nn.Sequential(nn.ReLU(), nn.Linear(1, 1)), ["0"]).named_children())
    [('0', Identity()), ('1', Linear(in_features=1, out_features=1, bias=True))]
    """
    copied = copy.copy(model)
    copied._modules = dict(model._modules)
    for first in dict.fromkeys(name.partition(".")[0] for name in modules):
        inside = [name.partition(".")[2] for name in modules if name.startswith(first + ".")]
        copied._modules[first] = nn.Identity() if first in modules else suffix(model.get_submodule(first), inside)
    return copied


def cached_features(
    model: nn.Module, last: str, fold: bool, size: tuple[int, int], batches: Iterable[tuple[int, np.ndarray, torch.Tensor]]
) -> Iterator[tuple[int, torch.Tensor]]:
    """Fill a tensor (views, items, ...) with what module `last` gives; yields how many items a batch had, and the tensor so far.

    Args:
        model: The whole network, as it is at the beginning of the phase.
        last: Where its frozen part ends.
        fold: Whether norm layers are folded into convolutions.
        size: How many views and items there are in all.
        batches: The view, the items' positions and their inputs.
    """
    prefix, kept = Prefix(model, last), None
    for view, row, inputs in batches:
        if kept is None:
            if fold:
                fold_norms(prefix, inputs)
            kept = room((*size, *prefix(inputs[:1]).shape[1:]))
        kept[view, row] = prefix(inputs).cpu()
        yield len(row), kept


MOST_IN_MEMORY = 1 << 30


def room(shape: tuple[int, ...]) -> torch.Tensor:
    """Zeros, float32: in memory up to `MOST_IN_MEMORY` bytes, else in a temporary file that nobody else sees."""
    if 4 * math.prod(shape) <= MOST_IN_MEMORY:
        return torch.zeros(shape)
    with tempfile.TemporaryFile() as file:
        if hasattr(os, "posix_fallocate"):  # else a full disk ends the process where a page is first written
            os.posix_fallocate(file.fileno(), 0, 4 * math.prod(shape))
        return torch.from_numpy(np.memmap(file, np.float32, "w+", shape=shape))
