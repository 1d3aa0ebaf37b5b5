"""`table`: rows of a CSV file, a data frame or a dict of columns as data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from sheer.data.arrays import tensors_hash
from sheer.data.block import DataBlock, Decided
from sheer.data.cells import table_cell
from sheer.data.columns import Kinds, cut_texts, fitted, other_columns, table_inputs, unknown_cells
from sheer.data.frames import cells_of, read_rows, text_cells, with_cells
from sheer.data.labels import with_task
from sheer.data.leftout import policy_of
from sheer.data.listing import Listing, is_missing
from sheer.data.sources import Data, assemble
from sheer.data.targets import item_weights, items_csv, numbers, several_labels
from sheer.errors import DataError, nearest, shown
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
        unknown=unknown,
    )
    rows = labelled_rows(source, target, vars(kinds), block)
    name, columns, targets, decided = rows.listing.source, rows.listing.columns, rows.targets, rows.decided
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
        left=decided.left,
        weights=decided.weights,
        weight=weight or "",
        target=targets,
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
    block, origin = with_task(block, name, columns, targets)
    count = len(next(iter(columns.values())))
    listing = Listing(source=name, root="", files=tuple(f"row {n}" for n in range(1, count + 1)), columns=columns)
    decided = block.decided(listing, False, np.arange(count), count)
    return Rows(listing=decided.listing, targets=targets, decided=decided, task_origin=origin or decided.task_origin)


def _names(given: object, what: str) -> tuple[str, ...]:
    if isinstance(given, str) or not isinstance(given, Sequence) or not all(isinstance(name, str) for name in given):
        raise DataError(f"{what}={given!r}: give the names of columns in a list, such as ['age'].")
    return tuple(given)


def further_targets(
    plan: DataPlan, source: Any, target: str | Sequence[str] | None, unknown: str
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """What a CSV file or data frame says of the targets that a plan was trained on: class numbers, or a column a label or number.

    `target` is the column of one class an item, by default the one learned from; labels and numbers are found by their names. Besides
    the positions of the rows, int64, and a note where rows of a class that the plan does not know were left out (`unknown="skip"`).

    Raises:
        DataError: a column is missing, has an empty cell, a class that the plan does not know, or no number.
    """
    policy, _ = policy_of("unknown", unknown, "default")
    (name, columns), task = read_rows(source), plan.task.name
    named = tuple(target) if isinstance(target, list | tuple) else (target,)
    given = plan.target if target is None else named
    if given != plan.target and (task != "classify" or len(given) != 1):
        told = "one column has the classes" if task == "classify" else f"the targets are {', '.join(plan.target)}, found by their names"
        raise DataError(f"target={target!r}: {told}. Leave target away, or call the columns so.")
    wanted = given if task == "classify" else plan.classes
    for one in wanted:
        if one not in columns:
            more = "; target=COLUMN names another" if task == "classify" else ""
            labels = task == "tag" and wanted != plan.target
            more = f": labels of one column {plan.target[0]!r} are read from a column of 0 and 1 each" if labels else more
            raise DataError(f"{name} lacks the target {one!r}{more}. {nearest(str(one), columns)}")
        empty = [row for row, value in enumerate(columns[one], 1) if is_missing(value)]
        if empty:
            raise DataError(
                f"{name}: column {one!r} is empty in {len(empty)} rows, first in row {empty[0]}: nothing to compare with there."
            )
    if task != "classify":
        raw = list(zip(*(columns[one] for one in wanted), strict=True))
        values = (several_labels if task == "tag" and len(wanted) > 1 else numbers)(raw, wanted, None)[0]
        return values, np.arange(len(values)), ()
    places = {table_cell(one): place for place, one in enumerate(plan.classes)} | {one: place for place, one in enumerate(plan.classes)}
    said = [str(value) for value in columns[given[0]]]
    found = np.array([places.get(one, places.get(table_cell(one), -1)) for one in said], dtype=np.int64)
    rows, strange = np.flatnonzero(found >= 0), Counter(one for one, place in zip(said, found.tolist(), strict=True) if place < 0)
    shown = ", ".join(f"{one!r} ({count} rows)" for one, count in strange.most_common(5))
    if strange and (policy == "raise" or not len(rows)):
        raise DataError(
            f"{name}: column {given[0]!r} has classes that the model does not know: {shown}. It knows {', '.join(plan.classes[:12])}. Mend "
            "them, or leave those rows out: unknown='skip'."
        )
    notes = (f"{len(said) - len(rows)} of {len(said)} rows are left out: the model does not know their class: {shown}",) if strange else ()
    return found[rows], rows, notes


def further_weights(source: Any, weight: object, rows: np.ndarray) -> np.ndarray:
    """What the rows, by their positions int64 (rows,), of a CSV file or data frame count by the column `weight`, float32, 1 on average.

    Raises:
        DataError: there is no such column, or it holds what is no weight.
    """
    name, columns = read_rows(source)
    if callable(weight):
        raise DataError(f"weight={shown(weight)}: functions are of a photograph's path; name the column of {name} that has the weights.")
    if not isinstance(weight, str) or weight not in columns:
        raise DataError(f"{name} lacks the column of weights {weight!r}, by which metrics are weighted. {nearest(str(weight), columns)}")
    return item_weights([columns[weight][row] for row in rows.tolist()], weight, np.ones(len(rows), dtype=bool))


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
        name, columns = "the list", {wanted[0]: list(source)}
        if not source:
            raise DataError("Nothing to predict: the list has no texts.")
    elif isinstance(source, str) and texts == wanted and not source.lower().endswith(".csv"):
        raise DataError(f"{source[:40]!r} is no CSV file. Give texts in a list, a CSV file or a data frame.")
    else:
        name, columns = read_rows(source)
    lacks = [one for one in wanted if one not in columns]
    if lacks:
        shown = f"column{'s' * (len(lacks) > 1)} {', '.join(map(repr, lacks))}"
        raise DataError(f"{name} lacks the {shown}, which the model takes. {nearest(lacks[0], columns)}")
    cells = {one: text_cells(one, columns[one]) if one in texts else cells_of(one, columns[one], further=True) for one in wanted}
    notes = [*unknown_cells(parts, cells)[0], *cut_texts(parts, cells, tokenizer), *other_columns(list(columns), {*wanted, *beside})]
    return torch.from_numpy(table_inputs(parts, cells, tokenizer)), tuple(notes)
