"""Rows of a CSV file, a data frame or a dict of columns: read into columns, cells as text, and items.csv with the cells that went in."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np

from sheer.data.cells import table_cell
from sheer.data.listing import csv_columns, is_empty, typed
from sheer.errors import DataError

INPUT = "input "
MOST_LETTERS = 131_072  # of a cell: more cannot be read again from items.csv, whose reader is Python's own
MOST_BITS = 4096  # Python writes no whole number of more than 4,300 digits
KINDS = ("text", "number", "truth value")
HALF_LETTER = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """Rows as columns of cells; `name` is what they are from, in words, `folder` where the CSV file lies, "" for a frame."""

    name: str
    columns: dict[str, list[Any]]
    folder: str = ""


def read_rows(source: Any) -> Sheet:
    """The rows of a CSV file, a data frame or a dict of columns; DataError where it is no table, or has no rows or a name twice.

    Rows that were read already are given back as they are.
    """
    folder = ""
    if isinstance(source, Sheet):
        return source
    if isinstance(source, str | Path):
        path = Path(source).expanduser()
        if path.suffix.lower() == ".csv" and not path.exists():
            raise DataError(f"There is no file {str(source)!r}. Give a CSV file, or a data frame of pandas or polars.")
        if path.suffix.lower() != ".csv" or not path.is_file():
            raise DataError(f"{str(source)!r} is no CSV file. Give one, or a data frame of pandas or polars.")
        name, folder, read = f"table {path.name}", str(path.parent), csv_columns(path)
        found = {one: typed(read.pop(one)) for one in list(read)}  # one column at a time, so that few are there as text and as numbers
    elif isinstance(source, Mapping):
        name, found = "columns", _by_name("The dict", [(one, _listed(str(one), cells)) for one, cells in source.items()])
        lengths = {one: len(cells) for one, cells in found.items()}
        if len(set(lengths.values())) > 1:
            short, long = min(lengths, key=lengths.__getitem__), max(lengths, key=lengths.__getitem__)
            raise DataError(f"Column {short!r} has {lengths[short]} cells, {long!r} {lengths[long]}: give as many in each.")
    else:
        if hasattr(source, "shape"):  # what has none is no frame yet, and naming its columns may be work
            _by_name("The data frame", [(one, []) for one in getattr(source, "column_names", getattr(source, "columns", ()))])
        import narwhals  # only where there is a frame: it takes long to import

        frame = narwhals.from_native(source, eager_only=True, pass_through=True)
        if not isinstance(frame, narwhals.DataFrame):
            collect = " (frame.collect())" if hasattr(source, "collect") else ""
            raise DataError(
                f"{type(source).__name__} is no table: give a CSV file, a frame of pandas or polars{collect}, or a dict of columns."
            )
        name, found = "data frame", {str(series.name): listed_cells(series) for series in frame.iter_columns()}
    if not found or not next(iter(found.values())):
        raise DataError(f"{name} has no rows: there is nothing to learn from, or to predict. Give at least one.")
    odd = next((one for one in found if HALF_LETTER.search(one)), None)
    huge = next((one for one, cells in found.items() if any(type(cell) is int and cell.bit_length() > MOST_BITS for cell in cells)), None)
    if huge is not None:
        raise DataError(f"Column {huge!r} holds a whole number of a thousand digits or more. Make text of it, or take the column out.")
    if odd is not None:
        raise DataError(f"The name of column {odd!r} holds half of a surrogate pair, which is no Unicode text. Rename it.")
    return Sheet(name=name, columns=found, folder=folder)


def _by_name(what: str, pairs: Sequence[tuple[Any, list[Any]]]) -> dict[str, list[Any]]:
    """Columns by their names as text; DataError where two have one name."""
    twice = [one for one, times in Counter(str(one) for one, _ in pairs).items() if times > 1]
    if twice:
        raise DataError(f"{what} has the column {twice[0]!r} twice: which one is meant cannot be told. Rename one.")
    return {str(one): cells for one, cells in pairs}


def listed_cells(series: Any) -> list[Any]:
    """The cells of a column of a narwhals frame; those of a category type that no column may hold (intervals, dates, a mix) as text."""
    import narwhals  # only where there is a frame: it takes long to import

    cells = list(series.to_list())
    if series.dtype in (narwhals.Categorical, narwhals.Enum):
        kinds = {_kind_of(cell) for cell in cells if not is_empty(cell)}
        if len(kinds) > 1 or not kinds <= {*KINDS}:
            names = {one: str(one) for one in series.to_native().cat.categories}  # a cell may be (0.0, 1.0] where its category is (0, 1]
            return [None if is_empty(cell) else names.get(cell, str(cell)) for cell in cells]
    return cells


def _listed(name: str, cells: Any) -> list[Any]:
    """A column's cells as a list; DataError where they are no sequence."""
    if hasattr(cells, "tolist") and getattr(cells, "ndim", 1) == 1:  # an array or tensor
        return list(cells.tolist())
    if isinstance(cells, str) or not isinstance(cells, Sequence):
        raise DataError(f"Column {name!r} is a {type(cells).__name__}: give its cells in a list or an array of one axis.")
    return list(cells)


def cells_of(column: str, values: Sequence[Any], further: bool = False) -> list[str]:
    """The column's values as `table_cell` writes them; those of `further` rows cannot be left out, so no remedy says so.

    Raises:
        DataError: they are neither text, numbers nor truth values, or are of several of these kinds, or no Unicode, or too long.
    """
    kinds = dict[str, Any]()
    for value in values:
        if not is_empty(value):
            kinds[_kind_of(value)] = value
    leave = "" if further else f", or leave it out: ignore=[{column!r}]"
    odd = sorted(set(kinds) - {*KINDS})
    if odd:
        raise DataError(
            f"Column {column!r} holds values of type {odd[0]} ({str(kinds[odd[0]])[:40]!r}). Make text or numbers of them (a date as year, "
            f"month and day){leave}."
        )
    if len(kinds) > 1:
        mixed = " and ".join(f"{what}s ({kinds[what]!r})" if what != "text" else f"text ({kinds[what]!r})" for what in sorted(kinds))
        raise DataError(f"Column {column!r} mixes {mixed}. Make one of them{leave}.")
    cells = ["" if is_empty(value) else table_cell(value if isinstance(value, str) else str(value)) for value in values]
    return written(column, cells)


def _kind_of(value: Any) -> str:
    if isinstance(value, str):
        return "text"
    return "truth value" if isinstance(value, bool | np.bool_) else "number" if isinstance(value, Real) else type(value).__name__


def text_cells(column: str, values: Sequence[Any]) -> list[str]:
    """The column's values as texts, "" where one is missing; DataError for a value that is no text, no Unicode, or too long."""
    odd = next((value for value in values if not is_empty(value) and not isinstance(value, str)), None)
    if odd is not None:
        raise DataError(
            f"Column {column!r} holds {odd!r}, which is no text ({type(odd).__name__}). Name another column as text, make texts of it, "
            "or take it as numbers with sheer.table."
        )
    return written(column, ["" if is_empty(value) else table_cell(value) for value in values])


def written(column: str, cells: list[str]) -> list[str]:
    """The cells, if a file can hold them so that they are read again; DataError with the row else."""
    for cell in dict.fromkeys(cells):
        if len(cell) > MOST_LETTERS:
            raise DataError(
                f"Column {column!r}: row {cells.index(cell) + 1} has {len(cell):,} characters; at most {MOST_LETTERS:,} are taken. "
                "Shorten it."
            )
        if not cell.isascii() and HALF_LETTER.search(cell):
            raise DataError(
                f"Column {column!r}: row {cells.index(cell) + 1} holds half of a surrogate pair, which is no Unicode text. "
                "Take the row out."
            )
    return cells


def with_cells(items: str, cells: Mapping[str, Sequence[str]]) -> str:
    """items.csv with a column `input NAME` for each column of the table that goes in."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    for number, row in enumerate(csv.reader(io.StringIO(items))):
        writer.writerow([*row, *(INPUT + name if number == 0 else values[number - 1] for name, values in cells.items())])
    return out.getvalue()
