"""A rate sweep: training steps at exponentially growing rates on a copy of the model, to see which rates it bears.

What is swept is the profile of the phase that would be run: each stage keeps its ratio to the last
one. Batches, augmentation, norm policy, optimiser and loss are the phase's own; the model, the plan
and every generator stay as they are.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from itertools import count
from typing import cast

import torch
from torch import nn
from tqdm import tqdm

from sheer.data.augmentations import mix_of
from sheer.data.feed import Batch, Feed
from sheer.errors import ModelError, PlanError, first_line
from sheer.loop.batch_loss import batch_loss
from sheer.loop.cached import cached
from sheer.loop.engine import prepared, switched
from sheer.loop.fitting import fit_step
from sheer.loop.optimizers import OPTIMIZERS, set_rates
from sheer.loop.suggestions import DIVERGED, MEANINGS, SUGGESTIONS, smoothed, trimmed
from sheer.loop.train import loss_of, schedule_of, step_of
from sheer.model.prefix import suffix
from sheer.model.stages import parameter_groups, set_modes, set_trainable
from sheer.plan.markup import html_table
from sheer.plan.plan import Phase, Plan
from sheer.plan.table import columns
from sheer.streams import borrowed_generators, permutation, reseed, stream_key

FEWEST_STEPS = 20


@dataclass(frozen=True, kw_only=True)
class RateSweep:
    """The losses of a sweep, and the rates they suggest.

    Attributes:
        phase: The name of the phase whose profile was swept.
        stages: Names of the model's stages.
        trains: Whether anything of the stage trains in the phase.
        profile: The stage's rate as a multiple of the last stage's.
        momentum: Held throughout: the phase's where its rate is highest.
        steps: How many were asked for.
        rates: Of the last stage, one a step done.
        losses: Mean losses of the batches, each before its step.
        smoothed: Their exponentially weighted mean (0.98), corrected for its start at zero.
        stop_reason: Why no more steps were done.
    """

    phase: str
    stages: tuple[str, ...]
    trains: tuple[bool, ...]
    profile: tuple[float, ...]
    momentum: float
    steps: int
    rates: tuple[float, ...]
    losses: tuple[float, ...]
    smoothed: tuple[float, ...]
    stop_reason: str

    def suggestions(self) -> dict[str, float | None]:
        """Rates for the last stage by the name of the rule; None where the curve does not say."""
        rates, losses = trimmed(self.rates, self.smoothed, self.steps)
        return {name: rule(rates, losses) for name, rule in SUGGESTIONS.items()}

    @property
    def valley(self) -> float | None:
        """The rate half way down the longest fall: the suggestion to start with."""
        return self.suggestions()["valley"]

    @property
    def slide(self) -> float | None:
        """The rate before the slope at the end sets in."""
        return self.suggestions()["slide"]

    @property
    def minimum(self) -> float | None:
        """A tenth of the rate with the lowest loss."""
        return self.suggestions()["minimum"]

    @property
    def steep(self) -> float | None:
        """The rate where the loss falls fastest."""
        return self.suggestions()["steep"]

    def stage_rates(self, rate: float) -> tuple[float, ...]:
        """One rate a stage when the last stage has `rate`: what `fit_one_cycle` takes."""
        return tuple(rate * factor for factor in self.profile)

    def record(self) -> dict[str, object]:
        """The fields and the suggestions as values that JSON can hold; a loss that is not finite is None."""
        curves = {name: [value if math.isfinite(value) else None for value in getattr(self, name)] for name in ("losses", "smoothed")}
        return {**asdict(self), **curves, "suggestions": self.suggestions()}

    def table(self) -> tuple[tuple[str, ...], list[list[str]]]:
        """Header and rows of text: a row a suggestion, with the rates of all stages and what it means."""
        header = ("suggestion", "rate", *(f"rate of {name}" for name in self.stages), "meaning")
        rows = []
        for name, rate in self.suggestions().items():
            cells = ["-"] * len(self.stages) if rate is None else [_rate(value) for value in self.stage_rates(rate)]
            shown = [cell if trains else "frozen" for cell, trains in zip(cells, self.trains, strict=True)]
            label = name + " (default)" * (name == "valley")
            rows.append([label, "-" if rate is None else _rate(rate), *shown, MEANINGS[name]])
        return header, rows

    def title(self) -> str:
        """What was swept and how far, in one line."""
        reach = f"{self.rates[0]:.2g} to {self.rates[-1]:.2g}" if self.rates else "no rate"
        return f"Rate sweep for phase {self.phase}: {len(self.rates)} of {self.steps} steps, {reach}; {self.stop_reason}"

    def _unsaid(self) -> str:
        if any(rate is not None for rate in self.suggestions().values()):
            return ""
        return "No suggestion: too few points before the end, or the loss never fell. Give a lower start, or more steps."

    def __str__(self) -> str:
        header, rows = self.table()
        end = self._unsaid() or "Rates are peaks. To use one: learn.fit_one_cycle(epochs, sweep.stage_rates(sweep.valley))"
        return f"{self.title()}\n{columns(header, rows, right=range(1, len(header) - 1))}\n  {end}"

    def _repr_html_(self) -> str:
        header, rows = self.table()
        return html_table(self.title(), header, rows, right=range(1, len(header) - 1), note=self._unsaid())


def _rate(value: float) -> str:
    return f"{value:.2e}"


def fit_head(model: nn.Module, plan: Plan, number: int, feed: Feed) -> None:
    """Fit the head as phase `number` of the plan does, to the items of `feed`."""
    phase, stages = plan.phases[number], [stage.prefixes for stage in plan.model.stages]
    set_trainable(model, stages, phase.trains_from, phase.norm)
    set_modes(model, stages, phase.trains_from, phase.norm)
    kept = cached(feed, phase, model, 0)
    assert kept is not None
    groups = parameter_groups(model, stages, phase.rates, phase.weight_decay, phase.no_decay, plan.model.undecayed)
    items = feed.data.train[permutation(stream_key(plan.seed, "lr_find"), len(feed.data.train))]
    (batch,) = kept.plain(items, len(items))
    weights = None if feed.data.weights is None else torch.from_numpy(feed.data.weights).to(feed.device)
    inputs, loss = batch_loss(loss_of(phase, feed.functions, plan.model.kind), phase, batch, weights)
    modules = cast(tuple[str, ...], phase.prefix.options()["modules"])
    fit_step(suffix(model, modules), loss, phase.optimizer.made(OPTIMIZERS).build(groups), inputs, batch.target)


def lr_find(
    model: nn.Module, plan: Plan, number: int, feed: Feed, *, start: float, end: float, steps: int, quiet: bool, fits: Sequence[int] = ()
) -> RateSweep:
    """Sweep phase `number` of `plan` on a copy of `model`: step i of n is at start (end / start)^(i / n) for the last stage.

    Where phases before it fit the head, whose numbers are `fits`, that is done to the copy first. It stops early where the smoothed
    loss passes four times its best, or is not finite. Source: Smith 2015 (arXiv 1506.01186), with the constants of fastai 2.8.

    Raises:
        PlanError: start, end or steps cannot make a sweep.
        ModelError: the module cannot be copied.
        DataError: a photograph cannot be read.
    """
    check_sweep(start, end, steps)
    phase, device = plan.phases[number], torch.device(plan.numerics.device)
    prefixes, profile = [stage.prefixes for stage in plan.model.stages], tuple(rate / phase.rates[-1] for rate in phase.rates)
    first = sum(earlier.epochs for earlier in plan.phases[:number])
    momentum = momentum_at_peak(phase)
    rates: list[float] = []
    losses: list[float] = []
    stop = "all steps done"
    swept = _copied(model)
    with (
        switched(plan.numerics),
        borrowed_generators(device),
        prepared(swept, plan.numerics, compiled=False),
        closing(_endless(feed, first)) as batches,
    ):
        swept.to(device, memory_format=feed.memory_format)  # type: ignore[call-overload]
        for earlier in fits:
            fit_head(swept, plan, earlier, feed)
        set_trainable(swept, prefixes, phase.trains_from, phase.norm)
        loss, mix = loss_of(phase, feed.functions, plan.model.kind), mix_of(phase)
        weights = None if feed.data.weights is None else torch.from_numpy(feed.data.weights).to(device)
        groups = parameter_groups(swept, prefixes, profile, phase.weight_decay, phase.no_decay, plan.model.undecayed)
        optimizer, update = phase.optimizer.made(OPTIMIZERS).build(groups), step_of(phase, plan.numerics)
        set_modes(swept, prefixes, phase.trains_from, phase.norm)
        for step in tqdm(range(steps), unit="step", leave=False, disable=True if quiet else None):
            batch = next(batches)
            rates.append(start * (end / start) ** (step / steps))
            set_rates(optimizer, rates[-1], momentum)
            reseed(stream_key(plan.seed, "lr_find", step), device)
            inputs, step_loss = batch_loss(loss, phase, batch, weights, mix, stream_key(plan.seed, "lr_find mix", step))
            losses.append(float(update(swept, step_loss, optimizer, inputs, batch.target)))
            curve = smoothed(losses)
            if not math.isfinite(losses[-1]):
                stop = "stopped: the loss is not finite"
                break
            if curve[-1] > DIVERGED * min(curve):
                stop = f"stopped: the smoothed loss passed {DIVERGED:g} times its best"
                break
    return RateSweep(
        phase=phase.name,
        stages=tuple(stage.name for stage in plan.model.stages),
        trains=tuple(any(g.trains for g in phase.groups if g.stage == stage.name) for stage in plan.model.stages),
        profile=profile,
        momentum=momentum,
        steps=steps,
        rates=tuple(rates),
        losses=tuple(losses),
        smoothed=tuple(smoothed(losses)),
        stop_reason=stop,
    )


def check_sweep(start: float, end: float, steps: int) -> None:
    """PlanError unless `start` to `end` in `steps` is a sweep."""
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in (start, end))
    if not numbers or not 0 < start < end < math.inf:
        raise PlanError(f"start={start!r}, end={end!r}: a sweep rises from a rate above 0 to a finite, higher one, such as 1e-7 to 10.")
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < FEWEST_STEPS:
        raise PlanError(f"steps={steps!r}: give a whole number of at least {FEWEST_STEPS}; fewer points make no curve.")


def momentum_at_peak(phase: Phase) -> float:
    """The phase's momentum at the step with its highest rate."""
    schedule = schedule_of(phase)
    total = phase.epochs * phase.steps_per_epoch
    return float(schedule.momentum(max(range(total), key=lambda step: schedule.rate(step / total)) / total))


def _endless(feed: Feed, first: int) -> Generator[Batch, None, None]:
    """The training batches of the epochs from number `first` on, one epoch after the other."""
    for epoch in count(first):
        yield from feed.training(epoch)


def _copied(model: nn.Module) -> nn.Module:
    try:
        return copy.deepcopy(model)
    except Exception as error:  # whatever a module of one's own raises; it becomes one sentence with its reason
        raise ModelError(
            f"The sweep works on a copy of the model, and this module cannot be copied: {first_line(error)}. "
            "Give the class a __deepcopy__, or choose the rate without a sweep."
        ) from error
