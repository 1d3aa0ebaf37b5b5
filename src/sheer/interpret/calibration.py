"""Calibration: whether items said to be right with 80 % are right in 80 %, and one number that brings them nearer."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from sheer.errors import PlanError
from sheer.interpret.mistakes import true_classes
from sheer.interpret.predictions import Predictions

BINS = 15
COLDEST, HOTTEST = 0.01, 100.0


@dataclass(frozen=True, kw_only=True)
class Bin:
    """The items whose largest probability p has low < p <= high: how many, their share of all, mean p, and the share that is right.

    `confidence` and `accuracy` are nan where there are no items. Shares and means are by the items' weights if they have any.
    """

    low: float
    high: float
    items: int
    share: float
    confidence: float
    accuracy: float


@dataclass(frozen=True, kw_only=True)
class Temperature:
    """The fitted temperature, and NLL (nats an item) and ECE before and after it, on the items it was fitted on."""

    temperature: float
    nll_before: float
    nll_after: float
    ece_before: float
    ece_after: float
    items: int


def reliability(predictions: Predictions, bins: int = BINS) -> list[Bin]:
    """The reliability table: `bins` of equal width over the largest probability of each item.

    Source: Guo et al. 2017, "On Calibration of Modern Neural Networks", section 2.
    """
    if bins < 1:
        raise PlanError(f"bins={bins}: give at least 1.")
    right = predictions.predicted == true_classes(predictions)
    confidence = predictions.probabilities.max(axis=1)
    counts = predictions.counts()
    place = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    table = []
    for number in range(bins):
        inside = place == number
        known, weights = counts[inside].any(), counts[inside]
        table.append(
            Bin(
                low=number / bins,
                high=(number + 1) / bins,
                items=int(inside.sum()),
                share=float(weights.sum() / counts.sum()),
                confidence=float(np.average(confidence[inside], weights=weights)) if known else float("nan"),
                accuracy=float(np.average(right[inside], weights=weights)) if known else float("nan"),
            )
        )
    return table


def expected_calibration_error(predictions: Predictions, bins: int = BINS) -> float:
    """The mean over items of |accuracy - confidence| of their bin (Naeini et al. 2015, with equal-width bins)."""
    return sum(row.share * abs(row.accuracy - row.confidence) for row in reliability(predictions, bins) if row.share)


def negative_log_likelihood(predictions: Predictions) -> float:
    """The mean of -log p(true class), in nats an item; a probability of 0 counts as the smallest normal float64."""
    logs = _logs(predictions)[np.arange(len(predictions)), true_classes(predictions)]
    return -float(np.average(logs, weights=predictions.weights))


def _logs(predictions: Predictions) -> np.ndarray:
    return np.log(np.maximum(predictions.probabilities, np.finfo(np.float64).tiny))


def scaled(predictions: Predictions, temperature: float) -> Predictions:
    """The same table with softmax(log p / T) as probabilities: the scores over T; the most likely classes stay.

    The column of losses is left out: it was computed from the scores as they were.
    """
    if not temperature > 0:
        raise PlanError(f"temperature={temperature!r}: give a number above 0.")
    scores = _logs(predictions) / temperature
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    return replace(predictions, outputs=weights / weights.sum(axis=1, keepdims=True), losses=None)


def fit_temperature(predictions: Predictions) -> Temperature:
    """Temperature scaling: the T that minimises the NLL of softmax(scores / T) on these items.

    In b = 1 / T the NLL is convex, so its slope, mean(E_p[score] - score of the true class), is brought to zero
    by bisection. T stays within 0.01 to 100: where every item is right, colder is always better. The NLL and ECE
    after it are of the items it was fitted on; one number overfits little, yet judge it on others. Source: Guo
    et al. 2017, section 4.2.

    Raises:
        DataError: the items' classes are not known.
    """
    target, logs = true_classes(predictions), _logs(predictions)
    true = logs[np.arange(len(target)), target]

    def slope(cold: float) -> float:
        scores = logs * cold
        weights = np.exp(scores - scores.max(axis=1, keepdims=True))
        return float(np.average((weights * logs).sum(axis=1) / weights.sum(axis=1) - true, weights=predictions.weights))

    low, high = np.log(1 / HOTTEST), np.log(1 / COLDEST)
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(float(np.exp(middle))) < 0 else (low, middle)
    temperature = float(np.exp(-(low + high) / 2))
    after = scaled(predictions, temperature)
    return Temperature(
        temperature=temperature,
        nll_before=negative_log_likelihood(predictions),
        nll_after=negative_log_likelihood(after),
        ece_before=expected_calibration_error(predictions),
        ece_after=expected_calibration_error(after),
        items=len(predictions),
    )
