"""Student's t for means over seeds and paired differences, without a library of statistics; nothing here knows sheer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, stdev


def t_within(t: float, freedom: int) -> float:
    """The probability that a Student t variable of `freedom` degrees lies within -t and t, by its finite sum.

    Source: Abramowitz, Stegun 26.7.3 and 26.7.4.

    >>> round(t_within(12.706, 1), 4), round(t_within(2.776, 4), 4), round(t_within(3.182, 3), 4)
    (0.95, 0.95, 0.95)
    """
    angle = math.atan(abs(t) / math.sqrt(freedom))
    sine, cosine_ = math.sin(angle), math.cos(angle)
    term, total = (cosine_, cosine_) if freedom % 2 else (1.0, 1.0)
    if freedom == 1:
        return 2 * angle / math.pi
    for number in range(3 if freedom % 2 else 2, freedom - 1, 2):
        term *= cosine_ * cosine_ * (number - 1) / number
        total += term
    return 2 / math.pi * (angle + sine * total) if freedom % 2 else sine * total


def t_quantile(freedom: int, within: float = 0.95) -> float:
    """The t with `t_within(t, freedom) == within`, by bisection.

    >>> round(t_quantile(2), 3), round(t_quantile(9), 3)
    (4.303, 2.262)
    """
    low, high = 0.0, 1e6
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if t_within(middle, freedom) < within else (low, middle)
    return high


def half_width(values: Sequence[float]) -> float | None:
    """Half of the 95 % interval of a mean (Student's t); None for one value, which has no interval.

    >>> round(half_width([1.0, 2.0, 3.0]), 3)
    2.484
    """
    if len(values) < 2:
        return None
    return t_quantile(len(values) - 1) * stdev(values) / math.sqrt(len(values))


def paired_p(differences: Sequence[float]) -> float | None:
    """The two-sided p of the paired t test that the mean difference is 0; None for one pair, 1 where all differences are 0.

    >>> round(paired_p([1.0, 2.0, 3.0]), 4)
    0.0742
    """
    if len(differences) < 2:
        return None
    spread = stdev(differences)
    if spread == 0:
        return 1.0 if fmean(differences) == 0 else 0.0
    return max(0.0, 1 - t_within(fmean(differences) / (spread / math.sqrt(len(differences))), len(differences) - 1))
