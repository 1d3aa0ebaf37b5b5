"""Looking at other people's objects without leaving a trace: what is run inside is undone, bit for bit."""

from __future__ import annotations

import contextlib
import copy
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from sheer.streams import borrowed_generators


@dataclass(frozen=True)
class _Kept:
    """A tensor, its storage and a copy of its values."""

    tensor: torch.Tensor
    data: torch.Tensor
    values: torch.Tensor

    def put_back(self) -> torch.Tensor:
        if self.tensor.data_ptr() != self.data.data_ptr() or self.tensor.dtype != self.data.dtype:
            self.tensor.data = self.data  # `model.half()` and its like put other storage under the same parameter
        self.data.copy_(self.values)
        return self.tensor


def _kept(tensor: torch.Tensor) -> _Kept:
    return _Kept(tensor, tensor.data, tensor.detach().clone())


def _kept_or_none(tensor: torch.Tensor | None) -> _Kept | None:
    return None if tensor is None else _kept(tensor)


def _back(kept: _Kept | None) -> torch.Tensor | None:
    return None if kept is None else kept.put_back()


def _copied(value: Any) -> Any:
    """Containers anew, tensors as they are to be put back, anything else itself."""
    if isinstance(value, torch.Tensor):
        return _kept(value)
    if isinstance(value, dict):
        again = copy.copy(value)
        again.update({key: _copied(inner) for key, inner in value.items()})
        return again
    return [_copied(inner) for inner in value] if type(value) is list else value


def _put_back(value: Any) -> Any:
    if isinstance(value, _Kept):
        return value.put_back()
    if isinstance(value, dict):
        value.update({key: _put_back(inner) for key, inner in value.items()})
        return value
    return [_put_back(inner) for inner in value] if type(value) is list else value


class _Module:
    """One module's own tensors, children, mode and gradients."""

    def __init__(self, module: nn.Module) -> None:
        self.module, self.training = module, module.training
        self.children = dict(module._modules)
        self.buffers = {name: _kept_or_none(tensor) for name, tensor in module._buffers.items()}
        self.parameters = dict(module._parameters)
        held = [parameter for parameter in self.parameters.values() if parameter is not None]
        self.tensors = [(parameter, _kept(parameter), parameter.requires_grad, _kept_or_none(parameter.grad)) for parameter in held]

    def put_back(self) -> None:
        module = self.module
        module.__dict__["training"] = self.training
        for parameter, kept, trains, grad in self.tensors:
            kept.put_back()
            parameter.requires_grad_(trains)
            parameter.grad = _back(grad)
        module._modules.clear()
        module._modules.update(self.children)
        module._parameters.clear()
        module._parameters.update(self.parameters)
        module._buffers.clear()
        module._buffers.update({name: _back(kept) for name, kept in self.buffers.items()})


def _generators(parts: Iterable[Any]) -> list[torch.Generator]:
    """The random generators of loaders, their samplers and data sets, each once."""
    found = {}
    for part in parts:
        batch_sampler = getattr(part, "batch_sampler", None)
        holders = (
            part,
            getattr(part, "sampler", None),
            batch_sampler,
            getattr(batch_sampler, "sampler", None),
            getattr(part, "dataset", None),
        )
        for holder in holders:
            generator = getattr(holder, "generator", None)
            if isinstance(generator, torch.Generator):
                found[id(generator)] = generator
    return list(found.values())


def _schedulers(scheduler: Any) -> list[Any]:
    if scheduler is None:
        return []
    return [scheduler, *(one for inner in getattr(scheduler, "_schedulers", ()) for one in _schedulers(inner))]


class _Optimizer:
    """An optimiser's groups and state, and those of its tensors that are in none of the `modules`."""

    def __init__(self, optimizer: torch.optim.Optimizer, known: set[int]) -> None:
        self.optimizer = optimizer
        held = [tensor for group in optimizer.param_groups for tensor in group["params"] if id(tensor) not in known]
        self.strangers = [(_kept(tensor), _kept_or_none(tensor.grad)) for tensor in held]
        self.groups = [
            (group, {name: list(value) if name == "params" else _copied(value) for name, value in group.items()})
            for group in optimizer.param_groups
        ]
        self.state = {tensor: _copied(value) for tensor, value in optimizer.state.items()}

    def put_back(self) -> None:
        for stranger, grad in self.strangers:
            stranger.put_back().grad = _back(grad)
        for group, values in self.groups:
            group.clear()
            group.update({name: value if name == "params" else _put_back(value) for name, value in values.items()})
        self.optimizer.param_groups[:] = [group for group, _ in self.groups]
        self.optimizer.state.clear()
        self.optimizer.state.update({tensor: _put_back(value) for tensor, value in self.state.items()})


@contextlib.contextmanager
def untouched(
    modules: Sequence[nn.Module], optimizer: torch.optim.Optimizer, scheduler: Any, loaders: Sequence[Any], device: torch.device
) -> Iterator[None]:
    """Put back, bit for bit: parameters, gradients, buffers, children and modes of the modules; the optimiser's groups and state;
    the scheduler's attributes; every random generator (torch, numpy, Python, and the loaders' own).

    What lies elsewhere (a GradScaler, an averaged model) is not known here, and is not put back.
    """
    kept = [_Module(module) for root in modules for module in root.modules()]
    kept_optimizer = _Optimizer(optimizer, {id(parameter) for root in modules for parameter in root.parameters()})
    schedules = [
        (one, {name: copy.copy(value) if isinstance(value, dict | list) else value for name, value in vars(one).items()})
        for one in _schedulers(scheduler)
    ]
    generators = [(generator, generator.get_state()) for generator in _generators(loaders)]
    workers = [(loader, loader._iterator) for loader in loaders if isinstance(loader, torch.utils.data.DataLoader)]
    numpy_state, python_state = np.random.get_state(), random.getstate()
    with borrowed_generators(device):
        try:
            yield
        finally:
            for module in kept:
                module.put_back()
            kept_optimizer.put_back()
            for one, attributes in schedules:
                vars(one).clear()
                vars(one).update(attributes)
            for generator, drawn in generators:
                generator.set_state(drawn)
            for loader, iterator in workers:
                loader._iterator = iterator
            np.random.set_state(numpy_state)
            random.setstate(python_state)
