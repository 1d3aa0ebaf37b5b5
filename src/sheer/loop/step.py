"""One training step, and what a model says of items; the library and the ejected script run these very lines."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import nn

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def train_step(model: nn.Module, loss: Loss, optimizer: torch.optim.Optimizer, inputs: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Forward, mean loss, backward, update; returns the loss before the update, a scalar that is not synced.

    `loss` gives one value an item; gradients are None where a tensor does not train, so that no
    optimiser can move it.
    """
    optimizer.zero_grad(set_to_none=True)
    value = loss(model(inputs), target).mean()
    value.backward()
    optimizer.step()
    return value.detach()


def scores_of(model: nn.Module, batches: Iterable[torch.Tensor]) -> torch.Tensor:
    """The raw scores (items, classes), float32 on the CPU, in eval mode; every module's mode is put back."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    with torch.inference_mode():
        parts = [model(inputs).float().cpu() for inputs in batches]
    for module, training in modes:
        module.training = training
    return torch.cat(parts)
