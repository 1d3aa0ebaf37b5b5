"""Everything put back as it was found: a model, an optimiser, the random generators."""

from __future__ import annotations

import contextlib
import copy
import random
from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import nn

from sheer.streams import borrowed_generators


@contextlib.contextmanager
def as_found() -> Iterator[None]:
    """Every global random generator put back afterwards."""
    device = torch.device("cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu")
    numpy_state, python_state = np.random.get_state(), random.getstate()
    try:
        with borrowed_generators(device):
            yield
    finally:
        np.random.set_state(numpy_state)
        random.setstate(python_state)


@contextlib.contextmanager
def restored(optimizer: torch.optim.Optimizer, batches: Iterable[object]) -> Iterator[None]:
    """The optimiser's state and settings, and the generators of a DataLoader, put back afterwards."""
    settings = [{key: copy.deepcopy(value) for key, value in group.items() if key != "params"} for group in optimizer.param_groups]
    state = {parameter: copy.deepcopy(values) for parameter, values in optimizer.state.items()}
    found = (getattr(holder, "generator", None) for holder in (batches, getattr(batches, "sampler", None)))
    generators = [(generator, generator.get_state()) for generator in found if isinstance(generator, torch.Generator)]
    try:
        yield
    finally:
        for group, kept in zip(optimizer.param_groups, settings, strict=True):
            group.update(kept)
        optimizer.state.clear()
        optimizer.state.update(state)
        for generator, numbers in generators:
            generator.set_state(numbers)


@contextlib.contextmanager
def kept(model: nn.Module) -> Iterator[None]:
    """Weights, gradients, what trains and in which mode, put back afterwards."""
    values = [(tensor, tensor.detach().clone()) for tensor in model.state_dict(keep_vars=True).values()]
    trains = [(parameter, parameter.requires_grad, parameter.grad) for parameter in model.parameters()]
    modes = [(module, module.training) for module in model.modules()]
    for parameter in model.parameters():
        parameter.grad = None
    try:
        yield
    finally:
        with torch.no_grad():
            for tensor, value in values:
                tensor.copy_(value)
        for parameter, train, gradient in trains:
            parameter.requires_grad_(train)
            parameter.grad = gradient
        for module, mode in modes:
            module.training = mode
