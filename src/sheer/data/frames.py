"""Rows of a CSV file, a data frame or a dict of columns: read into columns, cells as text, and items.csv with the cells that went in."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import Any

from sheer.data.cells import table_cell
from sheer.data.listing import csv_columns, is_empty, typed
from sheer.errors import DataError

INPUT = "input "


def read_rows(source: Any) -> tuple[str, dict[str, list[Any]]]:
    """The source in words, and its columns; DataError where it is no table, or has no rows or a name twice."""
    if isinstance(source, str | Path):
        path = Path(source).expanduser()
        if path.suffix.lower() != ".csv" or not path.is_file():
            raise DataError(f"{str(source)!r} is no CSV file. Give one, or a data frame of pandas or polars.")
        name, read = f"table {path.name}", csv_columns(path)
        found = {one: typed(read.pop(one)) for one in list(read)}  # one column at a time, so that few are there as text and as numbers
    elif isinstance(source, Mapping):
        name, found = "columns", {str(one): _listed(str(one), cells) for one, cells in source.items()}
        lengths = {one: len(cells) for one, cells in found.items()}
        if len(set(lengths.values())) > 1:
            short, long = min(lengths, key=lengths.__getitem__), max(lengths, key=lengths.__getitem__)
            raise DataError(f"Column {short!r} has {lengths[short]} cells, {long!r} {lengths[long]}: give as many in each.")
    else:
        names = [str(one) for one in getattr(source, "columns", ())]
        twice = [one for one, times in Counter(names).items() if times > 1]
        if twice:
            raise DataError(f"The data frame has the column {twice[0]!r} twice: which one is meant cannot be told. Rename one.")
        import narwhals  # only where there is a frame: it takes long to import

        frame = narwhals.from_native(source, eager_only=True, pass_through=True)
        if not isinstance(frame, narwhals.DataFrame):
            raise DataError(f"{type(source).__name__} is no table: give a CSV file, a frame of pandas or polars, or a dict of columns.")
        name, found = "data frame", {str(one): frame[one].to_list() for one in frame.columns}
    if not found or not next(iter(found.values())):
        raise DataError(f"{name} has no rows, so there is nothing to learn from.")
    return name, found


def _listed(name: str, cells: Any) -> list[Any]:
    """A column's cells as a list; DataError where they are no sequence."""
    if hasattr(cells, "tolist") and getattr(cells, "ndim", 1) == 1:  # an array or tensor
        return list(cells.tolist())
    if isinstance(cells, str) or not isinstance(cells, Sequence):
        raise DataError(f"Column {name!r} is a {type(cells).__name__}: give its cells in a list or an array of one axis.")
    return list(cells)


def cells_of(column: str, values: Sequence[Any]) -> list[str]:
    """The column's values as `table_cell` writes them.

    Raises:
        DataError: they are neither text, numbers nor truth values, or are text and numbers mixed.
    """
    kinds = dict[str, Any]()
    for value in values:
        if not is_empty(value):
            kinds["text" if isinstance(value, str) else "number" if isinstance(value, Real) else type(value).__name__] = value
    odd = sorted(set(kinds) - {"text", "number"})
    if odd:
        raise DataError(
            f"Column {column!r} holds values of type {odd[0]} ({str(kinds[odd[0]])[:40]!r}). Make text or numbers of them (a date as year, "
            f"month and day), or leave it out: ignore=[{column!r}]."
        )
    if len(kinds) == 2:
        raise DataError(
            f"Column {column!r} mixes numbers ({kinds['number']!r}) and text ({kinds['text']!r}). Make one of them, or leave it out: "
            f"ignore=[{column!r}]."
        )
    return ["" if is_empty(value) else table_cell(value if isinstance(value, str) else str(value)) for value in values]


def text_cells(column: str, values: Sequence[Any]) -> list[str]:
    """The column's values as texts, "" where one is missing; DataError for a value that is no text, or no Unicode."""
    odd = next((value for value in values if not is_empty(value) and not isinstance(value, str)), None)
    if odd is not None:
        raise DataError(
            f"Column {column!r} holds {odd!r}, which is no text ({type(odd).__name__}). Name another column as text, make texts of it, "
            "or take it as numbers with sheer.table."
        )
    cells = ["" if is_empty(value) else table_cell(value) for value in values]
    half = next((row for row, cell in enumerate(cells, 1) if any("\ud800" <= letter <= "\udfff" for letter in cell)), None)
    if half is not None:
        raise DataError(f"Column {column!r}: row {half} holds half of a surrogate pair, which is no Unicode text. Take the row out.")
    return cells


def with_cells(items: str, cells: Mapping[str, Sequence[str]]) -> str:
    """items.csv with a column `input NAME` for each column of the table that goes in."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    for number, row in enumerate(csv.reader(io.StringIO(items))):
        writer.writerow([*row, *(INPUT + name if number == 0 else values[number - 1] for name, values in cells.items())])
    return out.getvalue()
