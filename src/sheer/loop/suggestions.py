"""Learning rates read off a rate sweep: pure functions of rates and smoothed losses, as fastai 2.8 defines them.

Each takes two float64 arrays of one length, rates rising, and returns a rate, or None where the
curve does not say: too few points, or a loss that never falls (fastai gives a number even then).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

SMOOTHING = 0.98
DIVERGED = 4.0
SKIPPED_END = 5
SLIDE_INTERVAL = 15
SLIDE_THRESHOLD = 0.005


def smoothed(losses: Sequence[float], beta: float = SMOOTHING) -> list[float]:
    """The exponentially weighted mean of the losses so far, corrected for its start at zero (Kingma, Ba 2014).

    >>> smoothed([2.0])
    [2.0]
    """
    mean, result = 0.0, []
    for count, loss in enumerate(losses, 1):
        mean = beta * mean + (1 - beta) * loss
        result.append(mean / (1 - beta**count))
    return result


def trimmed(rates: Sequence[float], losses: Sequence[float], steps: int) -> tuple[np.ndarray, np.ndarray]:
    """The part of a sweep of `steps` that suggestions read: without its first tenth and last five points, up to the first NaN.

    >>> trimmed([1.0] * 20, [0.5] * 20, 20)[0].shape
    (13,)
    """
    window = slice(steps // 10, max(len(losses) - SKIPPED_END, 0))
    rate, loss = np.asarray(rates, dtype=np.float64)[window], np.asarray(losses, dtype=np.float64)[window]
    bad = np.flatnonzero(~np.isfinite(loss))
    return (rate[: bad[0]], loss[: bad[0]]) if len(bad) else (rate, loss)


def valley(rates: np.ndarray, losses: np.ndarray) -> float | None:
    """The rate half way down the longest fall: the longest strictly falling subsequence, which noise may interrupt.

    With its last index e and its length L, s = e - L: the answer has index s + floor((e - s) / 3) + floor((e - s) / 6).

    >>> valley(np.geomspace(1e-5, 1e-1, 5), np.array([5.0, 4.0, 3.0, 2.0, 1.0]))
    1e-05
    """
    if len(losses) < 2:
        return None
    lengths = np.ones(len(losses), dtype=np.int64)
    for i in range(1, len(losses)):
        lengths[i] = 1 + lengths[:i][losses[:i] > losses[i]].max(initial=0)
    end = int(lengths.argmax())
    length = int(lengths[end])
    return float(rates[max(end - length + length // 3 + length // 6, 0)]) if length > 1 else None


def slide(rates: np.ndarray, losses: np.ndarray) -> float | None:
    """The rate where the steep end of the curve begins: a window slides left until the slopes at its ends are alike.

    The window is 15 points wide, and alike is a difference of the slopes (a point) of at most 0.005.

    >>> slide(np.geomspace(1e-5, 1e-1, 5), np.array([5.0, 4.0, 3.0, 2.0, 1.0])) is None
    True
    """
    if len(losses) <= SLIDE_INTERVAL or not (np.diff(losses) < 0).any():
        return None
    slopes = np.gradient(losses)
    right = len(losses) - 1
    left = right - SLIDE_INTERVAL
    found = left
    while left >= 0 and abs(slopes[right] - slopes[left]) > SLIDE_THRESHOLD:
        found, left, right = left, left - 1, right - 1
    return float(rates[found])


def minimum(rates: np.ndarray, losses: np.ndarray) -> float | None:
    """A tenth of the rate with the lowest loss.

    >>> minimum(np.array([0.1, 1.0, 10.0]), np.array([3.0, 1.0, 2.0]))
    0.1
    """
    if len(losses) < 2 or int(losses.argmin()) == 0:
        return None
    return float(rates[losses.argmin()]) / 10


def steep(rates: np.ndarray, losses: np.ndarray) -> float | None:
    """The rate where the loss falls fastest per unit of the rate's logarithm.

    >>> steep(np.array([0.1, 1.0, 10.0]), np.array([3.0, 2.5, 1.0]))
    1.0
    """
    if len(losses) < 2:
        return None
    slopes = np.diff(losses) / np.diff(np.log(rates))
    return float(rates[slopes.argmin()]) if slopes.min() < 0 else None


SUGGESTIONS = {"valley": valley, "slide": slide, "minimum": minimum, "steep": steep}

MEANINGS = {
    "valley": "half way down the longest fall of the loss",
    "slide": "before the slope at the end sets in",
    "minimum": "a tenth of the rate with the lowest loss",
    "steep": "where the loss falls fastest",
}
