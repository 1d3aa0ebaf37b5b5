"""Rows with their targets: what cannot be a target, the task that numbers are for, and what a block decides of rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import isfinite
from numbers import Integral, Real
from typing import Any

import numpy as np

from sheer.data.cells import NUMBER_CELL
from sheer.data.columns import FEW, MIXED, OTHER_NUMBER
from sheer.data.frames import Sheet, written
from sheer.data.listing import Listing, is_empty, is_missing
from sheer.data.sources import Decided
from sheer.data.targets import COLLECTIONS
from sheer.errors import DataError, first_line, nearest, shown
from sheer.plan.plan import Origin


def target_label(target: object) -> str | tuple[str, ...]:
    """What a block takes as label for the `target` of rows; DataError where it names no column."""
    if isinstance(target, str):
        return target
    listed = target.tolist() if hasattr(target, "tolist") else target  # an array, or the columns of a frame
    names = tuple(listed) if isinstance(listed, Sequence) else ()
    if not names or not all(isinstance(name, str) for name in names):
        number = next((name for name in (names or (target,)) if isinstance(name, Integral) and not isinstance(name, bool)), None)
        called = (
            "" if number is None else f" Columns are called by text here, also those of a frame with numbers as names: {str(number)!r}."
        )
        raise DataError(f"target={shown(target)}: give the name of the column to predict, or several names in a list.{called}")
    return names


def labelled_rows(sheet: Sheet, named: Mapping[str, Sequence[str]], block: Any) -> tuple[Listing, Decided]:
    """The rows that are left, with all their columns, and what the `DataBlock` decides of them; the sheet's columns are taken over.

    `named` are columns, the targets among them, by the argument that names them.

    Raises:
        DataError: naming the column that is missing or cannot be a target, and the remedy.
    """
    for what, names in named.items():
        for one in names:
            if one not in sheet.columns:
                raise DataError(f"{what}={one!r}: {sheet.name} has no such column. {nearest(str(one), sheet.columns)}")
    block.check()
    targets = block.target_names()
    block, origin = _with_task(block, sheet.name, sheet.columns, targets)
    count = len(next(iter(sheet.columns.values())))
    every = Listing(source=sheet.name, root="", files=tuple(f"row {n}" for n in range(1, count + 1)), columns=sheet.columns)
    listing, decided = block.decided(every, False, np.arange(count), count)
    return listing, replace(decided, target=targets, task_origin=origin or decided.task_origin)


def _with_task(block: Any, source: str, columns: dict[str, list[Any]], targets: Sequence[str]) -> tuple[Any, Origin | None]:
    """The block with the task of its target columns, and who decided it where their numbers did.

    One column of more than FEW different numbers, or of fractions, is to be predicted as a number; whole numbers that are classes
    are written without a point, in `columns`, whatever the source wrote.

    Raises:
        DataError: naming the column that cannot be a target, and the remedy.
    """
    for name in targets:
        columns[name] = [bool(value) if isinstance(value, np.bool_) else value for value in columns[name]]
        if block.separator is None:  # else "NA" in a cell of labels is one of them
            columns[name] = [None if is_missing(value) else value for value in columns[name]]
        _check_target(source, name, columns[name], block)
    if block.task not in (None, "classify") or block.separator is not None or len(targets) != 1:
        return block, None
    values = columns[targets[0]]
    filled = [value for value in values if not is_empty(value)]
    numbers = all(isinstance(value, Real) and not isinstance(value, bool) for value in filled)
    fractions = numbers and any(value != int(value) for value in filled)
    if not numbers or (fractions and block.task):
        return block, None
    if block.task is None and (len(set(filled)) > FEW or fractions):
        origin = Origin(field="task", by="data", reason=f"the target is a number of more than {FEW} different values, or of fractions")
        return replace(block, task="regress"), origin
    columns[targets[0]] = [value if is_empty(value) else int(value) for value in values]
    return block, None


def _check_target(source: str, name: str, values: Sequence[Any], block: Any) -> None:
    where, filled = f"Column {name!r} of {source}", [value for value in values if not is_empty(value)]
    odd = next((value for value in filled if not isinstance(value, (str, Real, *COLLECTIONS))), None)
    if odd is not None:
        raise DataError(
            f"{where} holds values of type {type(odd).__name__} ({str(odd)[:40]!r}), which are no targets. Make text or numbers of them."
        )
    flag = next((value for value in filled if isinstance(value, bool)), None)
    if flag is not None and any(isinstance(value, Real) and not isinstance(value, bool) for value in filled):
        raise DataError(f"{where} mixes numbers and truth values ({flag}), which are one to Python. Make one of them.")
    written(
        name, [value if isinstance(value, str) else " ".join(map(str, value)) if isinstance(value, COLLECTIONS) else "" for value in values]
    )
    try:
        counts = Counter(str(value) for value in filled)
        infinite = next((row for row, value in enumerate(values, 1) if isinstance(value, Real) and not _finite(value)), 0)
    except (OverflowError, ValueError) as error:  # whole numbers of hundreds of digits
        raise DataError(f"{where} holds a number that is too large ({first_line(error)}): give numbers below 1e38 as targets.") from error
    if infinite:
        raise DataError(f"{where} is infinite in row {infinite}: give finite numbers as targets, below 1e38.")
    if len(counts) < 2:
        raise DataError(f"{where} has one value only, {next(iter(counts), '')!r}: as a target it leaves nothing to learn.")
    numbers = sum(count for value, count in counts.items() if NUMBER_CELL.fullmatch(value) or OTHER_NUMBER.fullmatch(value))
    others = [value for value in counts if not NUMBER_CELL.fullmatch(value)]
    if others and len(counts) > FEW and numbers >= MIXED * len(filled) and block.task != "classify" and block.separator is None:
        raise DataError(
            f"{where} holds numbers, but for {sum(counts[value] for value in others)} of {len(filled)} cells "
            f"({', '.join(repr(value[:40]) for value in others[:3])}). Write those like 1234.5, or have all as classes: task='classify'."
        )


def _finite(value: Real) -> bool:
    return is_empty(value) or isfinite(value)
