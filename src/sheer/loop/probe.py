"""Measured numerics: what is faster here, by timing a few steps; observers that train nothing and leave no trace."""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from sheer.data.inputs import Inputs
from sheer.errors import PlanError, first_line
from sheer.loop.engine import prepared, switched
from sheer.model.cutting import cut, parts_of
from sheer.model.prefix import Prefix, fold_norms
from sheer.plan.plan import Numerics, Origin
from sheer.plan.profiles import Profile
from sheer.streams import borrowed_generators

STEPS = 3
PAYS = 1.05
"""How many times as fast as the usual value another one must be to take its place: less is noise."""


def by_profile(given: str | None, field: str, numerics: Numerics, profile: Profile) -> str | None:
    """What was given for `precision` or `memory_format`; where nothing was, on a CUDA device what the profile has, such as `probe`."""
    return str(profile.value(f"{field}.cuda")) if given is None and numerics.device.startswith("cuda") else given


def step_seconds(model: nn.Module, sample: Any, numerics: Numerics) -> float:
    """The shortest of three timed forward and backward passes of a copy of the model, after one that is not timed.

    `sample` (N, ...) are the inputs of a step, float32, or `Inputs`.
    """
    device = torch.device(numerics.device)
    layout = torch.channels_last if numerics.memory_format == "channels_last" else torch.contiguous_format
    trial = copy.deepcopy(model).to(device, memory_format=layout).train()  # type: ignore[call-overload]
    inputs = sample.to(device, memory_format=layout) if isinstance(sample, torch.Tensor) and sample.ndim == 4 else sample.to(device)
    best = float("inf")
    with switched(numerics), borrowed_generators(device), prepared(trial, numerics, compiled=numerics.compile):
        for number in range(STEPS + 1):
            started = time.perf_counter()
            trial(inputs).float().square().mean().backward()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            best = min(best, time.perf_counter() - started) if number else best
    return best


def frozen_seconds(model: nn.Module, modules: Sequence[str], inputs: Any, numerics: Numerics, fold: bool) -> float:
    """The seconds of an item in the shortest of three timed passes of `inputs` through `modules`, after one that is not timed.

    `inputs` are those of a batch, float32, or `Inputs`.
    """
    device = torch.device(numerics.device)
    layout = torch.channels_last if numerics.memory_format == "channels_last" else torch.contiguous_format
    trial = copy.deepcopy(model).to(device, memory_format=layout)  # type: ignore[call-overload]
    parts: dict[str, torch.Tensor] = inputs.parts if isinstance(inputs, Inputs) else {"": inputs}
    best = float("inf")
    with switched(numerics), borrowed_generators(device), prepared(trial, numerics):
        passes = []
        for name, (part, last) in cut(trial, modules).items():
            prefix = Prefix(part, last)
            taken = parts[name].to(device, memory_format=layout) if parts[name].ndim == 4 else parts[name].to(device)
            if fold:
                fold_norms(prefix, taken)
            passes.append((prefix, taken))
        for number in range(STEPS + 1):
            started = time.perf_counter()
            for prefix, taken in passes:
                prefix(taken)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            best = min(best, time.perf_counter() - started) if number else best
    return best / len(inputs)


def frozen_batch(
    numerics: Numerics, items: int, model: nn.Module, modules: Sequence[str], sample: Any, usual: int, fold: bool
) -> tuple[int, str]:
    """The batch size in which an item takes the least time in the frozen `modules`, and what was measured, in words.

    Half the usual one is tried, the usual one, then twice as many each time for as long as that is no slower, fits into memory
    and is not all `items` yet.
    """
    seconds: dict[int, float] = {}
    for size in (usual, max(usual // 2, 1), *(usual << step for step in range(1, 7))):
        if size > usual and size // 2 >= items:
            break
        try:
            seconds[size] = frozen_seconds(model, modules, sample[torch.arange(size) % len(sample)], numerics, fold)
        except RuntimeError as error:  # without memory on a CPU it is no class of its own
            if not isinstance(error, torch.OutOfMemoryError) and "can't allocate memory" not in str(error):
                raise
            break
        if size > usual and seconds[size] > PAYS * min(seconds.values()):
            break
    if not seconds:
        return usual, "does not fit into memory"
    fastest = min(seconds, key=seconds.__getitem__)
    told = ", ".join(f"{_ms(took)} in batches of {size}" for size, took in sorted(seconds.items()))
    return fastest if seconds[fastest] * PAYS < seconds[usual] else usual, f"is used: an item took {told}"


def measured(
    numerics: Numerics,
    model: nn.Module,
    sample: Any,
    *,
    precision: str | None,
    memory_format: str | None,
    compile: bool | str | None,
    threads: int | str | None = None,
) -> Numerics:
    """The numerics with what was to be probed; on a CPU a precision that you gave is probed too.

    Raises:
        PlanError: bf16 was asked for on a CPU where it is slower, or torch.compile does not work here.
    """
    if threads == "probe":
        usual = numerics.threads
        numerics = _fastest(numerics, model, sample, "threads", tuple(dict.fromkeys((usual, max(usual // 2, 1), 1))))
    if memory_format == "probe":
        numerics = _fastest(numerics, model, sample, "memory_format", ("contiguous", "channels_last"))
    if precision == "probe":
        numerics = _fastest(numerics, model, sample, "precision", ("float32", "bf16"))
    elif precision == "bf16" and numerics.device == "cpu":
        numerics = _fastest(numerics, model, sample, "precision", ("float32", "bf16"))
        if numerics.precision != "bf16":
            reason = next(origin.reason for origin in numerics.origins if origin.field == "precision")
            raise PlanError(f"precision='bf16' is slower than float32 on this CPU: {reason}. Leave precision away, or use another device.")
    if compile:
        try:
            plain, started = step_seconds(model, sample, replace(numerics, compile=False)), time.perf_counter()
            compiled = step_seconds(model, sample, replace(numerics, compile=True))
            making = max(time.perf_counter() - started - (STEPS + 1) * compiled, 0.0)
        except Exception as error:  # dynamo, inductor and the compiler each raise their own; all mean the same here
            raise PlanError(f"compile={compile!r}: torch.compile does not work here ({first_line(error)}). Leave compile away.") from error
        if compile == "probe":
            faster = compiled < plain
            back = f", which {making / (plain - compiled):,.0f} steps win back" if faster else ""
            told = f"a step took {_ms(compiled)} compiled, {_ms(plain)} plain; compiling took {making:.3g} s{back}"
            numerics = _decided(numerics, "compile", faster, told, sample)
        else:
            numerics = replace(numerics, compile=True)
    return numerics


def _fastest(numerics: Numerics, model: nn.Module, sample: Any, field: str, values: tuple[str | int, ...]) -> Numerics:
    seconds = {value: step_seconds(model, sample, replace(numerics, **{field: value})) for value in values}  # type: ignore[arg-type]
    told = ", ".join(f"{_ms(took)} with {value}" for value, took in seconds.items())
    fastest = min(seconds, key=seconds.__getitem__)
    pays = seconds[fastest] * PAYS < seconds[values[0]]
    return _decided(numerics, field, fastest if pays else values[0], f"a step took {told}", sample)


def _decided(numerics: Numerics, field: str, value: str | bool | int, told: str, sample: Any) -> Numerics:
    each = " + ".join("x".join(map(str, part.shape[1:])) for part in parts_of(sample).values())
    origin = Origin(field=field, by="measured", reason=f"{told} ({len(sample)} items of {each})")
    others = tuple(kept for kept in numerics.origins if kept.field != field)
    return replace(numerics, origins=(*others, origin), **{field: value})  # type: ignore[arg-type]


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.3g} ms"
