"""Columns of a table to numbers: fitted on the rows to train on, applied alike in training, prediction and scripts."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

MISSING_CELLS = frozenset(("", "nan", "NaN", "NA", "N/A", "<NA>", "null", "NULL"))
NUMBER_CELL = re.compile(r"-?((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")


def table_cell(text: str) -> str:
    """A cell as one text, however its source writes it: what means missing is "", a whole number has no point.

    >>> table_cell(" 3.0 "), table_cell("0.50"), table_cell("007"), table_cell("NaN")
    ('3', '0.5', '007', '')
    """
    text = text.strip().replace("\r\n", "\n").replace("\r", "\n")  # a lone \r would end a row of a CSV file
    if text in MISSING_CELLS:
        return ""
    if not NUMBER_CELL.fullmatch(text) or text.lstrip("-").isdigit():
        return "0" if text == "-0" else text
    number = float(text)
    return str(int(number)) if number.is_integer() and abs(number) < 2**53 else repr(number)


@dataclass(frozen=True, kw_only=True)
class Categorical:
    """Code 1 for the first of `categories`, 2 for the second, ...; 0 for a missing cell, and for what no training row had.

    >>> Categorical(column="pet", categories=("cat", "dog")).encode(["dog", "", "cow"]).tolist()
    [2.0, 0.0, 0.0]
    """

    column: str
    categories: tuple[str, ...]

    def encode(self, cells: Sequence[str]) -> np.ndarray:
        """float32 (rows,), exact below 2**24 categories."""
        codes = {name: code for code, name in enumerate(self.categories, 1)}
        return np.array([codes.get(cell, 0) for cell in cells], dtype=np.float32)


@dataclass(frozen=True, kw_only=True)
class Indicator:
    """Code 1 where the column has a cell, 2 where it is missing (0 never occurs).

    >>> Indicator(column="age").encode(["31", ""]).tolist()
    [1.0, 2.0]
    """

    column: str

    def encode(self, cells: Sequence[str]) -> np.ndarray:
        """float32 (rows,)."""
        return np.array([1 if cell else 2 for cell in cells], dtype=np.float32)


@dataclass(frozen=True, kw_only=True)
class Continuous:
    """(value - mean) / std of the rows to train on, a missing cell taken for their median.

    >>> Continuous(column="age", median=30.0, mean=30.0, std=10.0).encode(["40", ""]).tolist()
    [1.0, 0.0]
    """

    column: str
    median: float
    mean: float
    std: float

    def encode(self, cells: Sequence[str]) -> np.ndarray:
        """float32 (rows,); ValueError for a cell that is no finite number, with its column and row."""
        values = np.array(
            [number_in(cell, self.column, row) if cell else self.median for row, cell in enumerate(cells, 1)], dtype=np.float64
        )
        return ((values - self.mean) / self.std).astype(np.float32)


def number_in(cell: str, column: str, row: int) -> float:
    """The cell as a finite number that fits into float32; else ValueError with its column and row, from 1."""
    number = float(cell) if NUMBER_CELL.fullmatch(cell) else float("nan")
    if not abs(number) < 1e38:
        why = "too large for float32, which ends at 3.4e38" if np.isfinite(number) else "no finite number"
        raise ValueError(f"Column {column!r}: row {row} holds {cell[:40]!r}, which is {why}")
    return number


COLUMN_KINDS: dict[str, type[Categorical] | type[Indicator] | type[Continuous]] = {
    "categorical": Categorical,
    "missing": Indicator,
    "continuous": Continuous,
}


def encoded(columns: Sequence[Any], cells: Mapping[str, Sequence[str]]) -> np.ndarray:
    """The table as the network takes it, side by side: a column's codes or numbers float32 (rows, 1), or token ids int32 (rows, length)."""
    return np.ascontiguousarray(np.column_stack([column.encode(cells[column.column]) for column in columns]))


def inputs_of(columns: Sequence[Any], rows: Sequence[Mapping[str, str]], prefix: str) -> np.ndarray:
    """`encoded` of the rows of a CSV file, whose columns are called `prefix` and the name."""
    return encoded(columns, {one.column: [table_cell(row[prefix + one.column]) for row in rows] for one in columns})
