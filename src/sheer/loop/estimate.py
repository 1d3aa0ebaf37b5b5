"""What a plan will cost in time, memory and disk: an observer that trains nothing and leaves no trace."""

from __future__ import annotations

import copy
import resource
import sys
import time
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import nn

from sheer.loop.engine import switched
from sheer.model.branches import sample_items
from sheer.model.cutting import features_of
from sheer.model.prefix import suffix
from sheer.model.stages import set_modes, set_trainable
from sheer.plan.facts import width_of
from sheer.plan.plan import Phase, Plan
from sheer.streams import borrowed_generators

RESERVED = 0.25


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Seconds of the whole plan without reading files, peak bytes of memory, bytes of the run folder."""

    seconds: float
    memory: int
    disk: int

    def __str__(self) -> str:
        minutes, seconds = divmod(round(self.seconds), 60)
        return (
            f"Estimate: about {f'{minutes} min ' if minutes else ''}{seconds} s of computing (measured on a few items; other work on the "
            f"machine adds to it), {self.memory / 2**30:.1f} GiB of memory, {self.disk / 2**20:.0f} MiB on disk."
        )


def estimate(model: nn.Module, plan: Plan) -> Estimate:
    """Time two forward (and backward) passes a phase on a copy of the model, and extrapolate."""
    device = torch.device(plan.numerics.device)
    picture_format = torch.channels_last if plan.numerics.memory_format == "channels_last" else torch.contiguous_format
    trial = copy.deepcopy(model).to(device, memory_format=picture_format)  # type: ignore[call-overload]
    tensors = sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values())
    seconds, activations = 0.0, 0
    with switched(plan.numerics), borrowed_generators(device):
        for phase in plan.phases:
            one, kept = _one_item(trial, plan, phase, device, picture_format)
            seconds += _seconds(plan, phase, *one)
            activations = max(activations, kept * phase.batch_size)
    side = max((phase.size for phase in plan.phases), default=0)
    pictures = min((plan.data.train_items + plan.data.valid_items) * side * side * 4, 1 << 30)
    return Estimate(seconds=seconds, memory=peak_memory() + 4 * tensors + 2 * activations + pictures, disk=tensors + 65536)


def _seconds(plan: Plan, phase: Phase, training: float, validating: float) -> float:
    """Of one phase, from those of an item; a frozen part costs a pass without gradients once an item and view, and its epochs the rest."""
    views = phase.prefix.options().get("views")
    if isinstance(views, int):
        once = (plan.data.valid_items + max(views, 1) * plan.data.train_items) * validating
        return once + phase.epochs * phase.steps_per_epoch * phase.batch_size * training
    return phase.epochs * (phase.steps_per_epoch * phase.batch_size * training + plan.data.valid_items * validating)


def epochs_within(model: nn.Module, plan: Plan, seconds: float) -> tuple[int, float]:
    """How many epochs of its last phase, which has one, a plan can have in so many seconds; and the seconds of one.

    `RESERVED` of the time is left for reading files and for other work on the machine.
    """
    every = estimate(model, plan).seconds
    before = estimate(model, replace(plan, phases=plan.phases[:-1])).seconds
    each = max(every - before, 1e-9)
    return max(int((seconds * (1 - RESERVED) - before) / each), 0), each


def _one_item(
    model: nn.Module, plan: Plan, phase: Phase, device: torch.device, picture_format: torch.memory_format
) -> tuple[tuple[float, float], int]:
    """(seconds to train an item, seconds to validate one), and the bytes that backward keeps for it."""
    stages = [stage.prefixes for stage in plan.model.stages]
    count = max(2, min(phase.batch_size, 16))
    shape = (width_of(plan.data.columns),) if plan.data.columns else (plan.model.channels, phase.size, phase.size)
    inputs: Any = torch.rand(count, *shape, device=device)
    inputs = sample_items(plan.data.inputs, count, phase.size).to(device) if plan.data.inputs else inputs.to(memory_format=picture_format)
    set_trainable(model, stages, phase.trains_from, phase.norm)
    set_modes(model, stages, phase.trains_from, phase.norm)
    modules = cast(tuple[str, ...], phase.prefix.options().get("modules", ()))
    trained = suffix(model, modules) if modules else model
    given = features_of(model, modules, inputs) if modules else inputs
    kept = 0

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        nonlocal kept
        kept += tensor.numel() * tensor.element_size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        trained(given).square().mean().backward()
    started = time.perf_counter()
    trained(given).square().mean().backward()
    training = (time.perf_counter() - started) / count
    model.eval()
    started = time.perf_counter()
    with torch.inference_mode():
        model(inputs)
    return (training, (time.perf_counter() - started) / count), kept // count


def peak_memory() -> int:
    """The most bytes this process has had in memory so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
