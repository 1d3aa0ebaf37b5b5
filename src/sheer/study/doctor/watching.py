"""Watching a user's own training function: hooks on the model and the optimiser while it runs, and none after it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from sheer.errors import first_line
from sheer.study.doctor.case import NORM_OR_DROPOUT

MOST_KEPT = 64
LARGEST_KEPT = 1_000_000


@dataclass
class Forward:
    """One call of the model: its mode, the norm and dropout layers in train mode, and what came back through its output."""

    training: bool
    grad: bool
    active: frozenset[str]
    items: int
    output: torch.Tensor | None = None
    gradient: torch.Tensor | None = None
    backward: bool = False


@dataclass
class Update:
    """One step of the optimiser: the calls whose gradients it has, what was left of the update before, what became of the gradient.

    `stale` is the norm of the gradients that were there when the first backward pass since the last update began. `scaled` is by
    how much the gradient of one tensor was multiplied between the last backward pass and the step.
    """

    forwards: list[Forward]
    stale: float
    scaled: float


@dataclass
class Watched:
    """What a training function did, in order.

    `schedules` has the number of updates done at each step of the scheduler, `told_when` whether such a step was told the
    epoch. `owned` is how many of the model's trainable tensors the optimiser holds: only their gradients are watched.
    """

    forwards: list[Forward] = field(default_factory=list)
    updates: list[Update] = field(default_factory=list)
    schedules: list[int] = field(default_factory=list)
    told_when: bool = False
    owned: int = 0
    error: str = ""


class _Watch:
    """The hooks, and what they keep between one event and the next."""

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        self.model, self.seen = model, Watched()
        owned = {id(tensor) for group in optimizer.param_groups for tensor in group["params"]}
        self.tensors = [parameter for parameter in model.parameters() if id(parameter) in owned and parameter.requires_grad]
        self.seen.owned = len(self.tensors)
        self.layers = {name: module for name, module in model.named_modules() if isinstance(module, NORM_OR_DROPOUT)}
        self.pending: list[Forward] = []
        self.stale, self.stepped = 0.0, False
        self.last: torch.Tensor | None = None

    def before_forward(self, module: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        tensors = [value for value in (*given, *named.values()) if isinstance(value, torch.Tensor)]
        active = frozenset(name for name, layer in self.layers.items() if layer.training)
        items = len(tensors[0]) if tensors and tensors[0].ndim else 0
        self.seen.forwards.append(Forward(module.training, torch.is_grad_enabled(), active, items))

    def after_forward(self, module: nn.Module, given: tuple[Any, ...], output: Any) -> None:
        forward = self.seen.forwards[-1]
        first = next((one for one in _tensors(output) if one.requires_grad), None)
        if first is None:
            return
        keep = isinstance(output, torch.Tensor) and len(self.seen.forwards) <= MOST_KEPT and output.numel() <= LARGEST_KEPT
        forward.output = output.detach().clone() if keep else None
        first.register_hook(lambda gradient: self.at_backward(forward, gradient))

    def at_backward(self, forward: Forward, gradient: torch.Tensor) -> None:
        if self.stepped:
            self.stale = float(sum(t.grad.detach().double().pow(2).sum() for t in self.tensors if t.grad is not None)) ** 0.5
            self.stepped = False
        if forward.output is not None:
            forward.gradient = gradient.detach().clone() if forward.gradient is None else forward.gradient + gradient
        if not forward.backward:
            forward.backward = True
            self.pending.append(forward)

    def at_gradient(self, parameter: torch.Tensor) -> None:
        self.last = None if parameter.grad is None else parameter.grad.detach().double().clone()

    def before_step(self, optimizer: torch.optim.Optimizer, given: Any, named: Any) -> None:
        gradient = self.tensors[-1].grad if self.tensors else None
        scaled = float("nan")
        if gradient is not None and self.last is not None and float(self.last.pow(2).sum()) > 0:
            scaled = float((gradient.double() * self.last).sum() / self.last.pow(2).sum())
        self.seen.updates.append(Update(self.pending, self.stale, scaled))
        self.pending, self.stale, self.stepped = [], 0.0, True


def _tensors(value: Any) -> list[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value]
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, tuple | list) else ()
    return [tensor for part in parts for tensor in _tensors(part)]


def watched(train: Callable[[], object], model: nn.Module, optimizer: torch.optim.Optimizer, scheduler: Any) -> Watched:
    """Call `train` and report what it did; an exception of its own is part of the report. Every hook is gone afterwards."""
    watch = _Watch(model, optimizer)
    handles = [
        model.register_forward_pre_hook(watch.before_forward, with_kwargs=True),
        model.register_forward_hook(watch.after_forward),
        optimizer.register_step_pre_hook(watch.before_step),
    ]
    if watch.tensors:
        handles.append(watch.tensors[-1].register_post_accumulate_grad_hook(watch.at_gradient))
    if scheduler is not None:
        step = scheduler.step

        def _counted(*given: Any, **named: Any) -> Any:
            watch.seen.schedules.append(len(watch.seen.updates))
            watch.seen.told_when |= bool(given or named)
            return step(*given, **named)

        scheduler.step = _counted  # on this object only; the caller puts its attributes back
    try:
        train()
    except Exception as error:  # whatever a user's loop raises; what it did until then was seen
        watch.seen.error = f"train() raised {type(error).__name__}: {first_line(error)}"
    finally:
        for handle in handles:
            handle.remove()
    return watch.seen
