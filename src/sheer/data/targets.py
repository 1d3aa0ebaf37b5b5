"""Targets as a source has them, to arrays: classes, labels, numbers, weights; and the list of items as CSV text."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from sheer.data.cells import table_cell
from sheer.data.listing import is_empty
from sheer.errors import DataError

COLLECTIONS = (list, tuple, set, frozenset)


def one_class(raw: list[Any], names: tuple[str, ...], separator: str | None) -> tuple[np.ndarray, tuple[str, ...]]:
    """Class numbers int64 (items,) and the classes, sorted as numbers where they are, else by code point."""
    if len(names) > 1:
        raise DataError(f"task='classify' takes one column; label has {len(names)}.")
    whole = all(isinstance(value, int) and not isinstance(value, bool) for value in raw)
    classes = tuple(sorted({str(value) for value in raw}, key=int if whole else None))
    place = {name: number for number, name in enumerate(classes)}
    return np.array([place[str(value)] for value in raw], dtype=np.int64), classes


def several_labels(raw: list[Any], names: tuple[str, ...], separator: str | None) -> tuple[np.ndarray, tuple[str, ...]]:
    """0 and 1, float32 (items, labels), and the labels: the columns' names, or what the cells name, by code point."""
    _check_once(names)
    if len(names) > 1:
        if any(value not in (0, 1) for row in raw for value in row):
            place = next(place for row in raw for place, value in enumerate(row) if value not in (0, 1))
            odd = next(row[place] for row in raw if row[place] not in (0, 1))
            raise DataError(f"Several columns of labels hold 0 and 1; {names[place]!r} holds {odd!r}.")
        return np.array(raw, dtype=np.float32), names
    sets = label_sets(raw, separator)
    labels = tuple(sorted(set().union(*sets)))
    if len(labels) < 1:
        raise DataError("No item has any label, so there is nothing to learn.")
    return np.array([[name in found for name in labels] for found in sets], dtype=np.float32), labels


def label_sets(raw: list[Any], separator: str | None) -> list[set[str]]:
    """Which labels each cell names: a collection of them, or text with `separator` (blanks of any kind for " " and None) between them.

    A number alone is a label, written the same with a point as without.
    """
    by = None if separator == " " else separator
    sets = [set(map(str, one)) if isinstance(one, COLLECTIONS) else set(_label_text(one).split(by)) for one in raw]
    return [{part.strip() for part in found if part.strip()} for found in sets]


def _label_text(cell: Any) -> str:
    return "" if is_empty(cell) else cell if isinstance(cell, str) else table_cell(str(cell))


def numbers(raw: list[Any], names: tuple[str, ...], separator: str | None) -> tuple[np.ndarray, tuple[str, ...]]:
    """float32 (items, numbers), and the columns' names."""
    _check_once(names)
    try:
        values = np.array(raw, dtype=np.float64).reshape(len(raw), -1)
    except (ValueError, TypeError) as error:
        raise DataError(f"task='regress' needs numbers: {error}.") from error
    usable = np.abs(values) < 1e38  # fits into float32; false for nan
    if not usable.all():
        rows, places = np.nonzero(~usable)
        column = names[int(places[0])] if len(names) == values.shape[1] else names[0]
        raise DataError(
            f"{column!r} is infinite, no number or too large for float32 in item {int(rows[0]) + 1} ({len(rows)} such cells): give "
            "numbers below 1e38."
        )
    wide = names if len(names) == values.shape[1] else tuple(f"{names[0]}{number}" for number in range(values.shape[1]))
    return values.astype(np.float32), wide


def _check_once(names: tuple[str, ...]) -> None:
    twice = [name for place, name in enumerate(names) if name in names[:place]]
    if twice:
        raise DataError(f"The target column {twice[0]!r} is named twice. Name each column once.")


def check_varied(values: np.ndarray, std: np.ndarray, names: tuple[str, ...]) -> None:
    """DataError where the numbers to train on, float32 (items, numbers), do not vary, or by little more than float32's last digit.

    `std` are their standard deviations, float64 (numbers,).
    """
    coarse = np.spacing(np.abs(values).max(axis=0)) > 0.01 * std
    if (coarse & (std > 0)).any():
        place = int(np.argmax(coarse & (std > 0)))
        raise DataError(
            f"{names[place]!r} has a standard deviation of {std[place]:.3g} around {values[:, place].mean():.6g}, of which float32 keeps 7 "
            "digits: too few to tell its values apart. Subtract their mean first, or count from a nearer point (times from the first day)."
        )
    if (std == 0).any():
        raise DataError(
            f"{names[int(np.argmin(std))]!r} is the same for all items to train on, to the 7 digits that float32 keeps: there is nothing "
            "to learn. If they differ by less (identities, times in nanoseconds), subtract their mean first."
        )


def item_weights(values: list[Any], name: str, train: np.ndarray) -> np.ndarray:
    """What each item counts, float32 (items,), scaled to a mean of 1 over the items to train on; DataError for what is no weight."""
    try:
        weights = np.array(values, dtype=np.float64)
    except (ValueError, TypeError) as error:
        raise DataError(f"weight={name!r} has a cell that is no number: {error}.") from error
    if not np.isfinite(weights).all() or weights.min() < 0 or weights[train].sum() == 0:
        raise DataError(f"weight={name!r}: weights are finite numbers of at least 0, and not all 0.")
    if not train.all() and weights[~train].sum() == 0:
        raise DataError(f"weight={name!r}: all held-out items weigh 0, so their weighted loss is not defined. Hold out items that count.")
    return (weights / weights[train].mean()).astype(np.float32)


def weighted_prior(targets: np.ndarray, weights: np.ndarray, task: str, classes: int) -> tuple[float, ...]:
    """The shares of the classes or labels, or the means of the numbers, of items by their weights."""
    if task == "classify":
        return tuple((np.bincount(targets, weights, classes) / weights.sum(dtype=np.float64)).tolist())
    return tuple(np.average(targets, axis=0, weights=weights.astype(np.float64)).tolist())


def items_csv(
    files: Sequence[str], held_out: np.ndarray, targets: np.ndarray, task: str, classes: tuple[str, ...], weights: np.ndarray | None
) -> str:
    """The items as CSV text: file, part, weight, and the class, or a column for each label or number."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    counts = np.ones(len(files)) if weights is None else weights
    writer.writerow(["file", "part", "weight", *(["class"] if task == "classify" else [f"target {name}" for name in classes])])
    for name, held, count, target in zip(files, held_out.tolist(), counts.tolist(), targets.tolist(), strict=True):
        writer.writerow(
            [name, "valid" if held else "train", repr(count), *([classes[target]] if task == "classify" else map(repr, target))]
        )
    return text.getvalue()


def counted(targets: np.ndarray, task: str, classes: int) -> tuple[int, ...]:
    """Items of each class or label; () for numbers."""
    if task == "regress":
        return ()
    found = np.bincount(targets, minlength=classes) if task == "classify" else targets.sum(axis=0)
    return tuple(int(count) for count in found)
