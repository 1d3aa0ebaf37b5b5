"""Schedules: pure functions of progress in [0, 1).

Each gives a factor for the peak rate and a momentum. Step s of N is at progress s / N: the first
step is at 0, the last at (N - 1) / N, and the nominal final value is approached, not reached.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


def cosine(start: float, end: float, progress: float) -> float:
    """start + (1 + cos(pi (1 - progress))) / 2 (end - start): half a cosine wave from start to end.

    >>> cosine(0.0, 1.0, 0.5)
    0.5
    """
    return start + (1 + math.cos(math.pi * (1 - progress))) / 2 * (end - start)


@dataclass(frozen=True, kw_only=True)
class OneCycle:
    """Rate up from peak/start_div to the peak, then down to peak/end_div, momentum against it (Smith 2018).

    >>> OneCycle(warmup=0.25).rate(0.0), OneCycle(warmup=0.25).rate(0.25)
    (0.04, 1.0)
    """

    warmup: float = 0.25
    start_div: float = 25.0
    end_div: float = 1e5
    momentum_high: float = 0.95
    momentum_low: float = 0.85

    def rate(self, progress: float) -> float:
        """The factor of the peak rate at `progress`."""
        if progress < self.warmup:
            return cosine(1 / self.start_div, 1.0, progress / self.warmup)
        return cosine(1.0, 1 / self.end_div, (progress - self.warmup) / (1 - self.warmup))

    def momentum(self, progress: float) -> float:
        """The momentum (Adam's beta1) at `progress`."""
        if progress < self.warmup:
            return cosine(self.momentum_high, self.momentum_low, progress / self.warmup)
        return cosine(self.momentum_low, self.momentum_high, (progress - self.warmup) / (1 - self.warmup))


@dataclass(frozen=True, kw_only=True)
class Constant:
    """One rate and one momentum from the first step to the last.

    >>> Constant().rate(0.3)
    1.0
    """

    level: float = 0.9

    def rate(self, progress: float) -> float:
        """The factor of the peak rate: always 1."""
        return 1.0

    def momentum(self, progress: float) -> float:
        """The momentum (Adam's beta1): always `level`."""
        return self.level


@dataclass(frozen=True, kw_only=True)
class FlatCosine:
    """The peak rate up to `start`, then half a cosine wave down to peak/end_div (fastai's fit_flat_cos).

    >>> FlatCosine().rate(0.0), FlatCosine().rate(0.75), FlatCosine(end_div=2.0).rate(1.0)
    (1.0, 1.0, 0.5)
    """

    start: float = 0.75
    end_div: float = 1e5
    level: float = 0.9

    def rate(self, progress: float) -> float:
        """The factor of the peak rate at `progress`."""
        return 1.0 if progress < self.start else cosine(1.0, 1 / self.end_div, (progress - self.start) / (1 - self.start))

    def momentum(self, progress: float) -> float:
        """The momentum: always `level`."""
        return self.level


@dataclass(frozen=True, kw_only=True)
class CosineRestarts:
    """SGDR: the rate falls from the peak to 0 along half a cosine wave, `cycles` times, each `mult` times as long as the one before.

    Source: Loshchilov, Hutter 2017 (arXiv 1608.03983).

    >>> CosineRestarts(cycles=2, mult=1.0).rate(0.25), CosineRestarts(cycles=2, mult=1.0).rate(0.5)
    (0.5, 1.0)
    """

    cycles: int = 2
    mult: float = 2.0
    level: float = 0.9

    def rate(self, progress: float) -> float:
        """The factor of the peak rate at `progress`."""
        lengths = [self.mult**number for number in range(self.cycles)]
        place = progress * sum(lengths)
        for length in lengths[:-1]:
            if place < length:
                return cosine(1.0, 0.0, place / length)
            place -= length
        return cosine(1.0, 0.0, place / lengths[-1])

    def momentum(self, progress: float) -> float:
        """The momentum: always `level`."""
        return self.level


@dataclass(frozen=True, kw_only=True)
class LinearChange:
    """The rate goes from `start` to `end` times the peak along a straight line.

    >>> LinearChange(start=1.0, end=0.0).rate(0.25)
    0.75
    """

    start: float = 1.0
    end: float = 0.0
    level: float = 0.9

    def rate(self, progress: float) -> float:
        """The factor of the peak rate at `progress`."""
        return self.start + progress * (self.end - self.start)

    def momentum(self, progress: float) -> float:
        """The momentum: always `level`."""
        return self.level


@dataclass(frozen=True, kw_only=True)
class Polynomial:
    """The rate goes from `start` to `end` times the peak as (1 - progress) to the `power`.

    >>> Polynomial(power=2.0).rate(0.5)
    0.25
    """

    start: float = 1.0
    end: float = 0.0
    power: float = 2.0
    level: float = 0.9

    def rate(self, progress: float) -> float:
        """The factor of the peak rate at `progress`."""
        return self.end + (self.start - self.end) * (1 - progress) ** self.power

    def momentum(self, progress: float) -> float:
        """The momentum: always `level`."""
        return self.level


@dataclass(frozen=True, kw_only=True)
class Exponential:
    """The rate goes from `start` to `end` times the peak by equal ratios; both are above 0.

    >>> round(Exponential(end=0.01).rate(0.5), 12)
    0.1
    """

    start: float = 1.0
    end: float = 0.01
    level: float = 0.9

    def rate(self, progress: float) -> float:
        """The factor of the peak rate at `progress`."""
        return float(self.start * (self.end / self.start) ** progress)

    def momentum(self, progress: float) -> float:
        """The momentum: always `level`."""
        return self.level


@dataclass(frozen=True, kw_only=True)
class Step:
    """The peak rate, times `factor` after each further share `every` of the steps: torch's StepLR over a whole run.

    >>> [round(Step(every=0.4).rate(progress), 12) for progress in (0.0, 0.4, 0.8)]
    [1.0, 0.1, 0.01]
    """

    every: float = 1 / 3
    factor: float = 0.1
    level: float = 0.9

    def rate(self, progress: float) -> float:
        """The factor of the peak rate at `progress`."""
        return self.factor ** math.floor(progress / self.every + 1e-9)

    def momentum(self, progress: float) -> float:
        """The momentum: always `level`."""
        return self.level


@dataclass(frozen=True, kw_only=True)
class Composed:
    """Schedules one after another; each sees its own progress over its share of the steps. `shares` sum to 1.

    >>> Composed(parts=(LinearChange(start=0.0, end=1.0), Constant()), shares=(0.5, 0.5)).rate(0.25)
    0.5
    """

    parts: tuple[Any, ...]
    shares: tuple[float, ...]

    def rate(self, progress: float) -> float:
        """The factor of the peak rate at `progress`."""
        part, inside = self.place(progress)
        return float(part.rate(inside))

    def momentum(self, progress: float) -> float:
        """The momentum at `progress`."""
        part, inside = self.place(progress)
        return float(part.momentum(inside))

    def place(self, progress: float) -> tuple[Any, float]:
        """The part that `progress` falls into, and how far it is through it."""
        for part, share in zip(self.parts[:-1], self.shares, strict=False):
            if progress < share:
                return part, progress / share
            progress -= share
        return self.parts[-1], min(max(progress / self.shares[-1], 0.0), 1.0)


SCHEDULES: dict[str, Any] = {
    "one_cycle": OneCycle,
    "constant": Constant,
    "flat_cosine": FlatCosine,
    "sgdr": CosineRestarts,
    "linear": LinearChange,
    "polynomial": Polynomial,
    "exponential": Exponential,
    "step": Step,
    "composed": Composed,
}


def schedule_named(name: str, settings: Mapping[str, Any]) -> Any:
    """The schedule of that name in SCHEDULES; the parts of `composed` are (name, settings) pairs.

    >>> schedule_named("composed", {"parts": (("constant", (("level", 0.9),)),), "shares": (1.0,)}).rate(0.5)
    1.0
    """
    if name != "composed":
        return SCHEDULES[name](**settings)
    parts = tuple(schedule_named(inner, dict(pairs)) for inner, pairs in settings["parts"])
    return Composed(parts=parts, shares=settings["shares"])
