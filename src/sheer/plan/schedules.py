"""Schedules: pure functions of progress in [0, 1).

Each gives a factor for the peak rate and a momentum. Step s of N is at progress s / N: the first
step is at 0, the last at (N - 1) / N, and the nominal final value is approached, not reached.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


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


SCHEDULES = {"one_cycle": OneCycle, "constant": Constant}
