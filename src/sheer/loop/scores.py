"""What a model says of items, without leaving a trace in it."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn


def scores_of(model: nn.Module, batches: Iterable[torch.Tensor]) -> torch.Tensor:
    """The raw scores (items, classes), float32 on the CPU, in eval mode; every module's mode is put back."""
    root, modes = model.training, [(module, module.training) for module in model.modules()]
    model.eval()
    with torch.inference_mode():
        parts = [model(inputs).float().cpu() for inputs in batches]
    model.train(root)
    for module, training in modes:
        module.training = training
    return torch.cat(parts)
