"""`table`: rows of a CSV file, a data frame or a dict of columns as data."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from sheer.data.arrays import tensors_hash
from sheer.data.block import DataBlock
from sheer.data.cells import table_cell
from sheer.data.columns import Kinds, cut_texts, fitted, other_columns, table_inputs, unknown_cells
from sheer.data.frames import INPUT, Sheet, cells_of, read_rows, text_cells, with_cells
from sheer.data.inputs import Input
from sheer.data.labels import labelled_rows, target_label
from sheer.data.leftout import policy_of
from sheer.data.listing import is_missing
from sheer.data.several import present, several_sha256
from sheer.data.sources import Data, assemble
from sheer.data.targets import item_weights, label_sets, numbers, several_labels
from sheer.errors import DataError, nearest, shown
from sheer.plan.plan import DataPlan, InputPlan, Origin, Part


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
    unknown: str | None = None,
) -> Data:
    """The rows of a CSV file, or of a data frame of pandas or polars, with one or several columns as target.

    Every other column goes in, in the table's own order: text and truth values as categories, numbers as numbers, whole numbers
    of at most 20 different values as categories. Text of which most values occur once (names, numbers of tickets) is left out,
    and so is what is empty or always the same; the plan's notes say so. Categories, medians, means and deviations are those of
    the rows to train on. Blank cells and NaN, NA, N/A, null are missing, in a CSV file as in a frame; in a target with
    `separator` only blank ones are, for NA may be a label.

    Args:
        source: A CSV file, a data frame, or a dict with a sequence of cells for each column's name.
        target: The column to predict, or several of numbers (or of 0 and 1).
        categorical, continuous: Columns that are to go in as these, whatever they look like.
        ignore: Columns that do not go in.
        separator, task, valid, split, group, folds, fold, weight, seed, profile, unknown: As for `DataBlock`; numbers of more than
            20 different values are a regression. Columns that these name do not go in.

    Raises:
        DataError: naming the column that cannot be used, and the remedy.
    """
    kinds = Kinds(
        categorical=_names(categorical, "categorical"), continuous=_names(continuous, "continuous"), ignore=_names(ignore, "ignore")
    )
    block = DataBlock(
        label=target_label(target),
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
        unknown=unknown,
    )
    sheet, targets = read_rows(source), block.target_names()
    listing, decided = labelled_rows(sheet, {"target": targets, **vars(kinds)}, block)
    columns = listing.columns
    named = Counter(one for names in (kinds.categorical, kinds.continuous, kinds.ignore, targets) for one in set(names))
    both = [one for one, times in named.items() if times > 1]
    if both:
        raise DataError(f"Column {min(both)!r} was given as two things at once (categorical, continuous, ignore, target). Give it once.")
    apart = {*targets, *kinds.ignore, *(one for one in (valid, group, weight) if isinstance(one, str))}
    wanted = [column for column in columns if column not in apart]
    cells = {column: cells_of(column, columns.pop(column)) for column in wanted}  # not kept twice: a million rows are hundreds of MB
    train = ~decided.held_out
    parts, notes = fitted(cells, train, kinds)
    matrix = torch.from_numpy(table_inputs(parts, cells))
    used = list(dict.fromkeys(str(part.options()["column"]) for part in parts))
    held = {column: [cell for cell, trains in zip(cells[column], train.tolist(), strict=True) if not trains] for column in used}
    unseen = unknown_cells(parts, held, "held-out")
    given = bool(kinds.categorical or kinds.continuous or kinds.ignore)
    return assemble(
        decided,
        arrays=matrix,
        source=sheet.name,
        listing=tensors_hash(matrix),
        notes=[*notes, *unseen],
        listing_text=with_cells(decided.csv(listing.files), {column: cells[column] for column in used}),
        columns=parts,
        columns_origin=Origin(
            field="columns",
            by="you" if given else "data",
            reason="kinds that you gave, the others seen from the cells" if given else "kinds seen from the cells, fitted on training rows",
        ),
    )


def _names(given: object, what: str) -> tuple[str, ...]:
    if isinstance(given, str) or not isinstance(given, Sequence) or not all(isinstance(name, str) for name in given):
        raise DataError(f"{what}={given!r}: give the names of columns in a list, such as ['age'].")
    return tuple(given)


def further_targets(
    plan: DataPlan, source: Any, target: str | Sequence[str] | None, unknown: str
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """What a CSV file or data frame says of the targets that a plan was trained on: class numbers, or a column a label or number.

    `target` is the column of one class an item, or of all its labels, by default the one learned from; labels and numbers with a column
    each are found by their names. Besides, the positions of the rows, int64, and a note where rows of a class or label that the plan does
    not know were left out (`unknown="skip"`).

    Raises:
        DataError: a column is missing, has an empty cell, a class that the plan does not know, or no number.
    """
    policy, _ = policy_of("unknown", unknown, "default")
    sheet, task = read_rows(source), plan.task.name
    named = task == "classify" or (task == "tag" and len(plan.target) == 1)  # cells of one column name classes or labels
    given = plan.target if target is None else tuple(target) if isinstance(target, list | tuple) else (target,)
    if given != plan.target and not (named and len(given) == 1):
        what = "classes" if task == "classify" else "labels"
        told = f"one column has the {what}" if named else f"the targets are {', '.join(plan.target)}, found by their names"
        raise DataError(f"target={target!r}: {told}. Leave target away, or call the columns so.")
    wanted = given if named else plan.classes
    for one in wanted:
        if one not in sheet.columns:
            more = "; target=COLUMN names another" if named else ""
            raise DataError(f"{sheet.name} lacks the target {one!r}{more}. {nearest(str(one), sheet.columns)}")
        empty = [row for row, value in enumerate(sheet.columns[one], 1) if is_missing(value)]
        if empty and not plan.separator:
            raise DataError(
                f"{sheet.name}: column {one!r} is empty in {len(empty)} rows, first in row {empty[0]}: nothing to compare with there."
            )
    if not named:
        raw = list(zip(*(sheet.columns[one] for one in wanted), strict=True))
        values = (several_labels if task == "tag" else numbers)(raw, wanted, None)[0]
        return values, np.arange(len(values)), ()
    return _known_classes(plan, sheet, given[0], policy)


def _known_classes(plan: DataPlan, sheet: Sheet, column: str, policy: str) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """The classes, int64 (rows,), or labels, float32 (rows, labels), that the cells of a column name, of the rows whose are all known."""
    cells, one_each = sheet.columns[column], plan.task.name == "classify"
    said = [[str(cell)] for cell in cells] if one_each else list(map(sorted, label_sets(cells, plan.separator or None)))
    places = {table_cell(one): place for place, one in enumerate(plan.classes)} | {one: place for place, one in enumerate(plan.classes)}
    places |= {one: places.get(table_cell(one), -1) for one in {label for row in said for label in row} if one not in places}
    rows = np.array([row for row, labels in enumerate(said) if all(places[label] >= 0 for label in labels)], dtype=np.int64)
    notes: tuple[str, ...] = ()
    if len(rows) < len(said):
        strange = Counter(label for labels in said for label in labels if places[label] < 0)
        shown, what = ", ".join(f"{one!r} ({count} rows)" for one, count in strange.most_common(5)), "classes" if one_each else "labels"
        if policy == "raise" or not len(rows):
            raise DataError(
                f"{sheet.name}: column {column!r} has {what} that the model does not know: {shown}. It knows "
                f"{', '.join(plan.classes[:12])}. Mend them, or leave those rows out: unknown='skip'."
            )
        theirs = "class" if one_each else "labels"
        notes = (f"{len(said) - len(rows)} of {len(said)} rows are left out: the model does not know their {theirs}: {shown}",)
    kept = [[places[label] for label in said[row]] for row in rows.tolist()]
    if one_each:
        return np.array([known[0] for known in kept], dtype=np.int64), rows, notes
    flags = np.zeros((len(rows), len(plan.classes)), dtype=np.float32)
    for row, known in enumerate(kept):
        flags[row, known] = 1
    return flags, rows, notes


def further_weights(source: Any, weight: object, rows: np.ndarray) -> np.ndarray:
    """What the rows, by their positions int64 (rows,), of a CSV file or data frame count by the column `weight`, float32, 1 on average.

    Raises:
        DataError: there is no such column, or it holds what is no weight.
    """
    sheet = read_rows(source)
    if callable(weight):
        raise DataError(
            f"weight={shown(weight)}: functions are of a photograph's path; name the column of {sheet.name} that has the weights."
        )
    if not isinstance(weight, str) or weight not in sheet.columns:
        raise DataError(
            f"{sheet.name} lacks the column of weights {weight!r}, by which metrics are weighted. {nearest(str(weight), sheet.columns)}"
        )
    return item_weights([sheet.columns[weight][row] for row in rows.tolist()], weight, np.ones(len(rows), dtype=bool))


def further_rows(
    parts: Sequence[Part], source: Any, tokenizer: str = "", beside: Collection[str] = ()
) -> tuple[torch.Tensor, tuple[str, ...]]:
    """A CSV file or data frame as the network takes it, by the columns of a plan; and notes on what they did not know.

    `tokenizer` is the text of the tokenizer.json of columns of text; a list of texts does where there is one column, of text.
    Columns that are neither read nor `beside` are noted.

    Raises:
        DataError: a column is missing, or holds what it cannot.
    """
    wanted = list(dict.fromkeys(str(part.options()["column"]) for part in parts))
    texts = [str(part.options()["column"]) for part in parts if part.name == "text"]
    if isinstance(source, list | tuple) and texts == wanted[:1] == wanted:
        sheet = Sheet(name="the list", columns={wanted[0]: list(source)})
        if not source:
            raise DataError("Nothing to predict: the list has no texts.")
    elif isinstance(source, str) and texts == wanted and not source.lower().endswith(".csv"):
        raise DataError(f"{source[:40]!r} is no CSV file. Give texts in a list, a CSV file or a data frame.")
    else:
        sheet = read_rows(source)
    name, columns = sheet.name, sheet.columns
    lacks = [one for one in wanted if one not in columns]
    if lacks:
        shown = f"column{'s' * (len(lacks) > 1)} {', '.join(map(repr, lacks))}"
        raise DataError(f"{name} lacks the {shown}, which the model takes. {nearest(lacks[0], columns)}")
    cells = {one: text_cells(one, columns[one]) if one in texts else cells_of(one, columns[one], further=True) for one in wanted}
    notes = [*unknown_cells(parts, cells), *cut_texts(parts, cells, tokenizer), *other_columns(list(columns), {*wanted, *beside})]
    return torch.from_numpy(table_inputs(parts, cells, tokenizer)), tuple(notes)


def fitted_as(data: Data, was: DataPlan) -> Data:
    """The data with its columns as an earlier plan's schema makes them, not one fitted anew: that is what a trained network knows.

    Raises:
        DataError: the data lacks a column that the network reads, or an input.
    """
    if [(one.name, one.kind) for one in data.plan.inputs] != [(one.name, one.kind) for one in was.inputs]:
        given, had = (", ".join(f"{one.name} ({one.kind})" for one in plan.inputs) or "none" for plan in (data.plan, was))
        raise DataError(f"The data has the inputs {given}; the run has {had}. Give them the names of the run.")
    if not (was.columns or was.inputs):
        return data
    if data.plan.columns == was.columns and [one.columns for one in data.plan.inputs] == [one.columns for one in was.inputs]:
        return data
    listed = zip(*csv.reader(io.StringIO(data.listing)), strict=True)
    cells = {one[0].removeprefix(INPUT): one[1:] for one in listed if one[0].startswith(INPUT)}
    read = [one for one in was.inputs if one.kind == "table"]
    wanted = [*(str(part.options()["column"]) for part in was.columns), *(column for one in read for column in one.reads)]
    lacks = next((column for column in wanted if column not in cells), None)
    if lacks is not None:
        raise DataError(
            f"The run's network reads the column {lacks!r}, which {data.plan.source} lacks, or leaves out. Add it, or have it go in as "
            f"what it is there: categorical=[{lacks!r}] or continuous=[{lacks!r}]."
        )
    notes = [note for note in data.plan.notes if not note.startswith(("column ", "input "))]
    if was.columns:
        if any(part.name == "text" for part in was.columns):
            return data  # its tokenizer and length are the run's as well: tokenised_as
        matrix = torch.from_numpy(table_inputs(was.columns, cells))
        notes += unknown_cells(was.columns, cells, "given")
        plan = replace(data.plan, columns=was.columns, listing_sha256=tensors_hash(matrix), notes=tuple(notes))
        return replace(data, arrays=matrix, plan=_with_origins(plan, was))
    inputs, plans = list[Input](), list[InputPlan]()
    for one, mine, theirs in zip(data.inputs, data.plan.inputs, was.inputs, strict=True):
        plans.append(replace(mine, columns=theirs.columns, reads=theirs.reads if theirs.kind == "table" else mine.reads))
        if theirs.kind == "table":
            notes += [f"input {theirs.name!r}: {text}" for text in unknown_cells(theirs.columns, cells, "given")]
            own = [cells[column] for column in theirs.reads]
            one = replace(one, array=torch.from_numpy(table_inputs(theirs.columns, cells)), present=present(own))
        inputs.append(one)
    listing = several_sha256(data.root, data.paths, inputs)
    plan = replace(data.plan, inputs=tuple(plans), listing_sha256=listing, notes=tuple(notes))
    return replace(data, inputs=tuple(inputs), plan=_with_origins(plan, was))


def _with_origins(plan: DataPlan, was: DataPlan) -> DataPlan:
    """The plan with the reasons of an earlier one for its schema."""
    theirs = {origin.field: origin for origin in was.origins if origin.field in ("columns", "inputs")}
    return replace(plan, origins=tuple(theirs.get(origin.field, origin) for origin in plan.origins))
