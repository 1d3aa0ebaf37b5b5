"""Mistakes: which classes are taken for which, which items cost most, which labels may be wrong."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from sheer.errors import DataError
from sheer.interpret.predictions import Predictions

Interval = tuple[float, float]

INSTEAD = {
    "regress": "For numbers: top_losses() names the worst items, report() the errors.",
    "tag": "For labels: class_scores() judges each label, top_losses() names the worst items.",
}
"""What to ask where a question is for one class an item, by task."""


@dataclass(frozen=True, kw_only=True)
class ClassScores:
    """One class: items that are it, items that were said to be it, and three shares with their 95 % intervals.

    A share of no items is nan, and so are its bounds.
    """

    name: str
    items: int
    predicted: int
    precision: float
    precision_interval: Interval
    recall: float
    recall_interval: Interval
    f1: float
    f1_interval: Interval


@dataclass(frozen=True, kw_only=True)
class Mistake:
    """One item with its loss: what it is and what was said, in words, and its outputs in the order of the classes."""

    item: str
    true: str
    predicted: str
    loss: float
    outputs: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class LabelCandidate:
    """An item whose label may be wrong: what it was given, what it may be, and the model's probability of each."""

    item: str
    given: str
    suggested: str
    self_confidence: float
    suggested_confidence: float


def true_classes(predictions: Predictions) -> np.ndarray:
    """The true class of each item, int64 (items,).

    Raises:
        DataError: the classes are not known, or the task is not one class an item.
    """
    if predictions.task != "classify":
        raise DataError(f"This is for one class an item; the task here is {predictions.task!r}. {INSTEAD[predictions.task]}")
    return _known(predictions)


def _known(predictions: Predictions) -> np.ndarray:
    if predictions.target is None:
        raise DataError(
            "The targets of these items are not known, so nothing can be compared with them: evaluate(...) or validate() know them."
        )
    return predictions.target


def most_confused(predictions: Predictions, min_count: int = 1) -> list[tuple[str, str, int]]:
    """(true, predicted, count) of every pair of different classes confused at least `min_count` times, most frequent first.

    Equal counts stay in the order of the confusion table's rows.
    """
    counts = predictions.confusion()
    np.fill_diagonal(counts, 0)
    rows, places = np.where(counts >= max(1, min_count))
    names = predictions.classes
    pairs = [(names[row], names[place], int(counts[row, place])) for row, place in zip(rows.tolist(), places.tolist(), strict=True)]
    return sorted(pairs, key=lambda pair: -pair[2])


def f1_of(overlap: float) -> float:
    """F1 = 2 J / (1 + J), where J is the share that are both of the items that are the class, or were said to be it.

    F1 grows with J, and given how many items are either, those of independent items that are both are binomial with
    share J: so the Wilson interval of J, carried through the formula, is one for F1. Unlike a bootstrap it has a
    width where all or none of few items are right, and it draws nothing.

    >>> f1_of(1.0), round(f1_of(0.5), 3)
    (1.0, 0.667)
    """
    return 2 * overlap / (1 + overlap)


def class_scores(predictions: Predictions) -> list[ClassScores]:
    """Precision, recall and F1 (see `f1_of`) with Wilson intervals for each class or label in order, by the items' weights if any.

    Raises:
        DataError: the targets are not known, or are numbers.
    """
    target = _known(predictions)
    if predictions.task == "regress":
        raise DataError(f"Precision and recall are of classes or labels; the task here is 'regress'. {INSTEAD['regress']}")
    said, true = predictions.predicted, target > 0.5
    if predictions.task == "classify":
        numbers = np.arange(len(predictions.classes))
        said, true = said[:, None] == numbers, target[:, None] == numbers
    result = []
    for name, column, truth in zip(predictions.classes, said.T, true.T, strict=True):
        precision, recall = predictions.share(truth, column), predictions.share(column, truth)
        f1, f1_low, f1_high = map(f1_of, predictions.share(column & truth, column | truth))
        result.append(
            ClassScores(
                name=name,
                items=int(truth.sum()),
                predicted=int(column.sum()),
                precision=precision[0],
                precision_interval=precision[1:],
                recall=recall[0],
                recall_interval=recall[1:],
                f1=f1,
                f1_interval=(f1_low, f1_high),
            )
        )
    return result


def top_losses(predictions: Predictions, n: int = 10) -> list[Mistake]:
    """The `n` items with the largest losses, largest first; equal losses in item order.

    Raises:
        DataError: the items' targets, and so their losses, are not known.
    """
    target = _known(predictions)
    if predictions.losses is None:
        raise DataError(
            "These predictions have no column of losses: their outputs were changed after the model gave them. Ask those of validate()."
        )
    right = np.eye(len(predictions.classes))[target] if predictions.task == "classify" else target
    truth = replace(predictions, outputs=right).labels
    worst = np.argsort(-predictions.losses, kind="stable")[: max(0, n)].tolist()
    return [
        Mistake(
            item=predictions.items[item],
            true=truth[item],
            predicted=predictions.labels[item],
            loss=float(predictions.losses[item]),
            outputs=tuple(predictions.outputs[item].tolist()),
        )
        for item in worst
    ]


def label_candidates(predictions: Predictions) -> list[LabelCandidate]:
    """Items whose labels may be wrong, by confident learning, least self-confident first.

    With p_j(x) the probability of class j for item x, the threshold of class j is t_j = mean of p_j(x) over the
    items labelled j. Item x is counted for the class j* that has the largest p_j(x) among those with
    p_j(x) >= t_j; it is a candidate where j* is not its label (the off-diagonal of the confident joint). Sound
    only for items that the model was not trained on. Source: Northcutt, Jiang, Chuang 2021, section 3.1.

    Raises:
        DataError: the classes are not known, or the task is not one class an item.
    """
    target, probabilities = true_classes(predictions), predictions.probabilities
    labelled = [target == number for number in range(len(predictions.classes))]
    thresholds = np.array([probabilities[mask, n].mean() if mask.any() else np.inf for n, mask in enumerate(labelled)])
    confident = np.where(probabilities >= thresholds, probabilities, -1.0)
    counted = confident.argmax(axis=1)
    suspects = np.flatnonzero((confident.max(axis=1) >= 0) & (counted != target))
    own = probabilities[suspects, target[suspects]]
    return [
        LabelCandidate(
            item=predictions.items[item],
            given=predictions.classes[target[item]],
            suggested=predictions.classes[counted[item]],
            self_confidence=float(probabilities[item, target[item]]),
            suggested_confidence=float(probabilities[item, counted[item]]),
        )
        for item in suspects[np.argsort(own, kind="stable")].tolist()
    ]
