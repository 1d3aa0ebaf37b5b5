"""`table`: rows of a CSV file, a data frame or a dict of columns as data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any

import numpy as np
import torch

from sheer.data.arrays import tensors_hash
from sheer.data.block import DataBlock, Decided
from sheer.data.columns import FEW, Kinds, fitted, table_inputs, unknown_cells
from sheer.data.frames import cells_of, read_rows, text_cells, with_cells
from sheer.data.listing import Listing, is_empty
from sheer.data.sources import Data, assemble
from sheer.data.targets import item_weights, items_csv, numbers, several_labels
from sheer.errors import DataError, nearest
from sheer.plan.plan import DataPlan, Origin, Part


def table(
    source: Any,
    *,
    target: str | Sequence[str],
    categorical: Sequence[str] = (),
    continuous: Sequence[str] = (),
    ignore: Sequence[str] = (),
    separator: str | None = None,
    task: str | None = None,
    valid: float | str | Sequence[int] | None = None,
    split: str | None = None,
    group: str | None = None,
    folds: int | None = None,
    fold: int = 0,
    weight: str | None = None,
    seed: int = 0,
    profile: str = "default",
) -> Data:
    """The rows of a CSV file, or of a data frame of pandas or polars, with one or several columns as target.

    Every other column goes in, in the table's own order: text and truth values as categories, numbers as numbers, whole numbers
    of at most 20 different values as categories. Text of which most values occur once (names, numbers of tickets) is left out,
    and so is what is empty or always the same; the plan's notes say so. Categories, medians, means and deviations are those of
    the rows to train on. Blank cells and NaN, NA, N/A, null are missing, in a CSV file as in a frame.

    Args:
        source: A CSV file, a data frame, or a dict with a sequence of cells for each column's name.
        target: The column to predict, or several of numbers (or of 0 and 1).
        categorical, continuous: Columns that are to go in as these, whatever they look like.
        ignore: Columns that do not go in.
        separator, task, valid, split, group, folds, fold, weight, seed, profile: As for `DataBlock`; numbers of more than 20
            different values are a regression. Columns that these name do not go in.

    Raises:
        DataError: naming the column that cannot be used, and the remedy.
    """
    kinds = Kinds(
        categorical=_names(categorical, "categorical"), continuous=_names(continuous, "continuous"), ignore=_names(ignore, "ignore")
    )
    block = DataBlock(
        label=target if isinstance(target, str) else tuple(target),
        separator=separator,
        task=task,
        valid=valid,
        split=split,
        group=group,
        folds=folds,
        fold=fold,
        weight=weight,
        seed=seed,
        profile=profile,
    )
    rows = labelled_rows(source, target, vars(kinds), block)
    name, columns, targets, decided = rows.listing.source, rows.listing.columns, rows.targets, rows.decided
    both = set(kinds.categorical) & set(kinds.continuous) | (set(targets) & {*kinds.categorical, *kinds.continuous})
    if both:
        raise DataError(f"Column {min(both)!r} was given as two things at once (categorical, continuous, target). Give it once.")
    apart = {*targets, *kinds.ignore, *(one for one in (valid, group, weight) if isinstance(one, str))}
    wanted = [column for column in columns if column not in apart]
    cells = {column: cells_of(column, columns.pop(column)) for column in wanted}  # not kept twice: a million rows are hundreds of MB
    train = ~decided.held_out
    parts, notes = fitted(cells, train, kinds)
    matrix = torch.from_numpy(table_inputs(parts, cells))
    used = list(dict.fromkeys(str(part.options()["column"]) for part in parts))
    unseen, _ = unknown_cells(parts, {column: [c for c, t in zip(cells[column], train.tolist(), strict=True) if not t] for column in used})
    given = bool(kinds.categorical or kinds.continuous or kinds.ignore)
    text = items_csv(rows.listing.files, decided.held_out, decided.targets, decided.task, decided.classes, decided.weights)
    return assemble(
        root="",
        paths=(),
        arrays=matrix,
        targets=decided.targets,
        classes=decided.classes,
        held_out=decided.held_out,
        part=decided.part,
        split_origin=decided.split_origin,
        source=name,
        listing=tensors_hash(matrix),
        task=decided.task,
        task_origin=rows.task_origin,
        notes=[*decided.notes, *notes, *unseen],
        listing_text=with_cells(text, {column: cells[column] for column in used}),
        weights=decided.weights,
        weight=weight or "",
        columns=parts,
        columns_origin=Origin(
            field="columns",
            by="you" if given else "data",
            reason="kinds that you gave, the others seen from the cells" if given else "kinds seen from the cells, fitted on training rows",
        ),
    )


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Rows with their targets: the listing with all columns, what the block decided, and who decided the task."""

    listing: Listing
    targets: tuple[str, ...]
    decided: Decided
    task_origin: Origin


def labelled_rows(source: Any, target: str | Sequence[str], wanted: Mapping[str, Sequence[str]], block: DataBlock) -> Rows:
    """The rows of a CSV file or data frame with their targets and split; `wanted` are columns by the argument that names them.

    Raises:
        DataError: naming the column that is missing or cannot be a target, and the remedy.
    """
    name, columns = read_rows(source)
    targets = (target,) if isinstance(target, str) else tuple(target)
    for what, names in (("target", targets), *wanted.items()):
        for one in names:
            if one not in columns:
                raise DataError(f"{what}={one!r}: {name} has no such column. {nearest(str(one), columns)}")
    block.check()
    for one in targets:
        _check_target(name, one, columns[one])
    count = len(next(iter(columns.values())))
    listing = Listing(source=name, root="", files=tuple(f"row {n}" for n in range(1, count + 1)), columns=columns)
    by_data = block.task is None and block.separator is None and len(targets) == 1 and _is_number(columns[targets[0]])
    decided = (replace(block, task="regress") if by_data else block).decided(listing, False, np.arange(count), count)
    origin = decided.task_origin
    if by_data:
        origin = Origin(field="task", by="data", reason=f"the target is a number of more than {FEW} different values")
    return Rows(listing=listing, targets=targets, decided=decided, task_origin=origin)


def _names(given: object, what: str) -> tuple[str, ...]:
    if isinstance(given, str) or not isinstance(given, Sequence) or not all(isinstance(name, str) for name in given):
        raise DataError(f"{what}={given!r}: give the names of columns in a list, such as ['age'].")
    return tuple(given)


def _check_target(source: str, name: str, values: list[Any]) -> None:
    counts = Counter(str(value) for value in values if not is_empty(value))
    if len(counts) < 2:
        raise DataError(
            f"Column {name!r} of {source} has one value only, {next(iter(counts), '')!r}: as a target it leaves nothing to learn."
        )
    if any(isinstance(value, float) and value in (float("inf"), float("-inf")) for value in values):
        raise DataError(f"Column {name!r} of {source} is infinite in a row: give finite numbers as targets.")


def _is_number(values: list[Any]) -> bool:
    """Whether a target is one of numbers to be predicted as such: more than FEW whole ones, or fractions."""
    filled = [value for value in values if not is_empty(value)]
    numbers = all(isinstance(value, Real) and not isinstance(value, bool) for value in filled)
    return numbers and (len(set(filled)) > FEW or any(value != int(value) for value in filled))


def further_targets(plan: DataPlan, source: Any, target: str | None) -> np.ndarray:
    """What a CSV file or data frame says of the targets that a plan was trained on: class numbers, or a column a label or number.

    `target` is the column of one class an item; labels and numbers are found by their names.

    Raises:
        DataError: a column is missing, has an empty cell, a class that the plan does not know, or no number.
    """
    (name, columns), task = read_rows(source), plan.task.name
    if (target is None) == (task == "classify"):
        told = "name the column of the true classes: target=..." if target is None else f"its targets are found by name: {plan.classes}"
        raise DataError(f"target={target!r}: {told}.")
    wanted = plan.classes if target is None else (target,)
    for one in wanted:
        if one not in columns:
            raise DataError(f"{name} lacks the target {one!r}. {nearest(one, columns)}")
        empty = [row for row, value in enumerate(columns[one], 1) if is_empty(value)]
        if empty:
            raise DataError(
                f"{name}: column {one!r} is empty in {len(empty)} rows, first in row {empty[0]}: nothing to compare with there."
            )
    if target is None:
        raw = list(zip(*(columns[one] for one in wanted), strict=True))
        return (several_labels if task == "tag" and len(wanted) > 1 else numbers)(raw, wanted, None)[0]
    unknown = sorted({str(value) for value in columns[target]} - set(plan.classes))
    if unknown:
        known = ", ".join(plan.classes[:12])
        raise DataError(f"{name}: column {target!r} has the class {unknown[0]!r}, which the model does not know. It knows {known}.")
    return np.array([plan.classes.index(str(value)) for value in columns[target]], dtype=np.int64)


def further_weights(source: Any, weight: object) -> np.ndarray:
    """What the rows of a CSV file or data frame count by the column `weight`, float32 (rows,), 1 on average.

    Raises:
        DataError: there is no such column, or it holds what is no weight.
    """
    name, columns = read_rows(source)
    if not isinstance(weight, str) or weight not in columns:
        raise DataError(f"{name} lacks the column of weights {weight!r}, by which metrics are weighted. {nearest(str(weight), columns)}")
    return item_weights(columns[weight], weight, np.ones(len(columns[weight]), dtype=bool))


def further_rows(parts: Sequence[Part], source: Any, tokenizer: str = "") -> tuple[torch.Tensor, tuple[str, ...]]:
    """A CSV file or data frame as the network takes it, by the columns of a plan; and notes on what they did not know.

    `tokenizer` is the text of the tokenizer.json of columns of text; a list of texts does where there is one column, of text.

    Raises:
        DataError: a column is missing, or holds what it cannot.
    """
    wanted = list(dict.fromkeys(str(part.options()["column"]) for part in parts))
    texts = [str(part.options()["column"]) for part in parts if part.name == "text"]
    if isinstance(source, list | tuple) and source and texts == wanted[:1] == wanted:
        source = {wanted[0]: list(source)}
    name, columns = ("the list", source) if isinstance(source, dict) else read_rows(source)
    for one in wanted:
        if one not in columns:
            raise DataError(f"{name} lacks the column {one!r}, which the model takes. {nearest(one, columns)}")
    cells = {one: (text_cells if one in texts else cells_of)(one, columns[one]) for one in wanted}
    return torch.from_numpy(table_inputs(parts, cells, tokenizer)), tuple(unknown_cells(parts, cells)[0])
