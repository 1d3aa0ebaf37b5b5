"""Listings: what a source says of its items before anything is decided: names, columns, and how a picture is opened."""

from __future__ import annotations

import csv
import itertools
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sheer.data.cells import MISSING_CELLS
from sheer.data.folders import SUFFIXES
from sheer.data.pixels import to_rgb
from sheer.errors import DataError, first_line, nearest
from sheer.plan.checks import path_of

ROWS_AT_A_TIME, FEW_CELLS = 10_000, 20_000
WHOLE = re.compile(r"-?(0|[1-9][0-9]{0,99})")
OTHER_SEPARATORS = (";", "\t", "|")
SOURCES = (
    "Give a folder, a CSV file, a data frame of pandas or polars, a list of paths, or a data set with a length and items (picture, target)."
)
SUFFIX = re.compile(r"\.[A-Za-z][A-Za-z0-9]*$")
NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")


@dataclass(frozen=True, kw_only=True)
class Listing:
    """Items in order: `files` relative to `root`, `columns` by name with a value an item, `opened` where a name is no file."""

    source: str
    root: str
    files: tuple[str, ...]
    columns: dict[str, list[Any]]
    opened: Callable[[str], Image.Image] | None = None

    def column(self, name: str, what: str) -> list[Any]:
        """The column's values; DataError with the nearest names where there is none."""
        if name not in self.columns:
            raise DataError(f"{what}={name!r}: {self.source} has no such column. {nearest(name, self.columns)}")
        return self.columns[name]

    def only(self, items: np.ndarray) -> Listing:
        """The listing of these items, by their positions int64 (items,)."""
        columns = {name: [values[number] for number in items.tolist()] for name, values in self.columns.items()}
        return replace(self, files=tuple(self.files[number] for number in items.tolist()), columns=columns)


def read_listing(source: Any, *, path: str | None, root: str | Path | None, missing_allowed: bool = False) -> Listing:
    """The listing of a folder, a CSV file, a data frame (pandas, polars), a sequence of paths, or a data set.

    A data set is anything with a length and items `(picture, target)`, such as torch.utils.data.Dataset,
    or a Hugging Face data set with an image column. The column of paths is `path`, by default the first. With
    `missing_allowed` files may be missing or no photographs by their names: they are listed all the same.

    Raises:
        DataError: it is none of these, a file is missing or is no photograph by its name.
    """
    if isinstance(source, str | Path):
        where = Path(source).expanduser()
        if where.is_dir():
            found = sorted(name for name in files_below(str(where)) if not any(part.startswith(".") for part in name.split("/")))
            return checked(
                Listing(source=f"files of {where.resolve().name}", root=str(where), files=tuple(found), columns={}), missing_allowed
            )
        if where.suffix.lower() != ".csv" or not where.is_file():
            raise DataError(f"{str(source)!r} is neither a folder nor a CSV file. Give one, a data frame, a list of paths, or a data set.")
        columns = csv_columns(where)
        return _table(f"table {where.name}", columns, path, Path(root).expanduser() if root is not None else where.parent, missing_allowed)
    if isinstance(source, Mapping | bytes):
        raise DataError(f"{type(source).__name__} is no source. {SOURCES}")
    if isinstance(source, Sequence) and all(isinstance(item, str | Path) for item in source):
        base = Path(root).expanduser() if root is not None else Path()
        return checked(
            Listing(source="list of files", root=str(base), files=tuple(str(item) for item in source), columns={}), missing_allowed
        )
    if hasattr(source, "column_names") and hasattr(source, "features"):
        return _hugging_face(source)
    import narwhals  # only where there is a frame: it takes longer to import than the rest of this file

    frame = narwhals.from_native(source, eager_only=True, pass_through=True)
    if isinstance(frame, narwhals.DataFrame):
        columns = {name: frame[name].to_list() for name in frame.columns}
        return _table("data frame", columns, path, Path(root).expanduser() if root is not None else Path(), missing_allowed)
    if hasattr(source, "__getitem__") and hasattr(source, "__len__"):
        return _data_set(source)
    raise DataError(f"{type(source).__name__} is no source. {SOURCES}")


def files_below(top: str) -> Iterator[str]:
    """Every photograph by its name below `top`, by relative path with "/"; linked folders are not followed."""
    for folder, _, names in os.walk(top):
        inside = os.path.relpath(folder, top).replace(os.sep, "/")
        for name in names:
            if os.path.splitext(name)[1].lower() in SUFFIXES and os.path.isfile(os.path.join(folder, name)):
                yield name if inside == "." else f"{inside}/{name}"


def csv_columns(path: Path) -> dict[str, list[Any]]:
    """The cells of a CSV file by column; DataError where it is none, or a cell's column cannot be told.

    Equal cells of a column are one object: a million rows of a few words take little more than their places.
    """
    header, columns, known = list[str](), list[list[str]](), list[dict[str, str]]()
    wrong, rows, read, count = list[tuple[int, int]](), list[list[str]](), 0, 0
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
            for start in itertools.count(0, ROWS_AT_A_TIME):
                read, rows = start, []
                rows.extend(itertools.islice(reader, ROWS_AT_A_TIME))
                if not rows:
                    break
                cells = [row for row in rows if row]
                if not header and cells:
                    header, *cells = cells
                    columns, known = [[] for _ in header], [{} for _ in header]
                wrong += [(number, len(row)) for number, row in enumerate(cells, count + 1) if len(row) != len(header)]
                count += len(cells)
                for column, seen, values in zip(columns, known, zip(*cells, strict=False), strict=False) if not wrong else ():
                    column += [seen.setdefault(value, value) for value in values] if len(seen) < FEW_CELLS else values
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is no UTF-8 text ({first_line(error)}). Save it as CSV in UTF-8, or give a data frame: "
            "pandas.read_csv(path, encoding=...)."
        ) from error
    except (csv.Error, OSError) as error:
        if "field limit" in str(error):
            raise DataError(
                f"{path} has a cell of more than {csv.field_size_limit():,} characters after line {read + len(rows)}. Shorten it; or is a "
                "quote not closed?"
            ) from error
        raise DataError(f"{path} cannot be read as CSV after line {read + len(rows)}: {error}. Is a quote not closed?") from error
    other = next((mark for mark in OTHER_SEPARATORS if len(header) == 1 and mark in header[0]), None)
    if other:
        raise DataError(
            f"{path} names one column only, {header[0][:60]!r}: its cells seem to be separated by {other!r}. Save it with commas, or "
            f"give a data frame: pandas.read_csv(path, sep={other!r})."
        )
    twice = sorted(name for name, times in Counter(header).items() if times > 1)
    if twice:
        raise DataError(f"{path} has the column {twice[0]!r} twice: which one is meant cannot be told. Rename one.")
    if wrong:
        number, found = wrong[0]
        raise DataError(
            f"{path}: row {number} has {found} cells under {len(header)} columns ({len(wrong)} such rows). "
            "The first line names the columns; put what holds a comma in quotes, and leave empty cells empty."
        )
    return dict(zip(header, columns, strict=True))


def _table(source: str, columns: dict[str, list[Any]], path: str | None, root: Path, missing_allowed: bool) -> Listing:
    if not columns:
        raise DataError(f"{source} has no columns: its first line names them, one of them the files.")
    listing = Listing(source=source, root=str(root), files=(), columns={name: typed(values) for name, values in columns.items()})
    names = listing.column(path, "path") if path is not None else next(iter(listing.columns.values()))
    empty = [number for number, name in enumerate(names) if is_empty(name)]
    if empty:
        raise DataError(f"{source}: row {empty[0] + 1} names no file ({len(empty)} such rows). Fill them in, or take the rows out.")
    files = tuple(str(name) for name in names)
    if files and not any(SUFFIX.search(name) for name in files):
        column = path or next(iter(listing.columns))
        raise DataError(
            f"{source}: column {column!r} names no files: {files[0][:40]!r} is no photograph by its name, nor is any other. If these are "
            "rows of a table, say what is to be predicted: sheer.table(file, target=COLUMN), or --target COLUMN; for texts sheer.text, or "
            "--text COLUMN --target COLUMN. If another column names files: path=COLUMN."
        )
    return checked(Listing(source=source, root=str(root), files=files, columns=listing.columns), missing_allowed)


def typed(values: list[Any]) -> list[Any]:
    """Text that is numbers throughout, but for cells that are missing, as numbers: what a CSV file cannot say by itself."""
    if not all(isinstance(value, str) for value in values):
        return values
    cells = [value.strip() for value in values]
    filled = [cell for cell in cells if cell not in MISSING_CELLS]
    if not filled or not all(map(NUMBER.fullmatch, filled)):
        return values
    kind = int if all(map(WHOLE.fullmatch, filled)) else float
    return [None if cell in MISSING_CELLS else kind(cell) for cell in cells]


def checked(listing: Listing, missing_allowed: bool) -> Listing:
    """The listing, if it names photographs that are there; DataError else, unless they may be missing."""
    if not listing.files:
        raise DataError(f"{listing.source} names no photographs (read are {', '.join(SUFFIXES)}).")
    nul = [name for name in listing.files if "\0" in name]
    if nul:
        raise DataError(f"{listing.source}: {nul[0]!r} holds a zero byte, which no file name does ({len(nul)} such items).")
    if missing_allowed:
        return listing
    strangers = [name for name in listing.files if not name.lower().endswith(SUFFIXES)]
    if strangers:
        raise DataError(f"{listing.source}: {strangers[0]!r} is no photograph by its name ({len(strangers)} such items).")
    missing = [name for name in listing.files if not os.path.isfile(os.path.join(listing.root, name))]
    if missing:
        raise DataError(
            f"{listing.source}: there is no file {str(Path(listing.root) / missing[0])!r} ({len(missing)} of {len(listing.files)} are "
            "missing). Paths are relative to root; give root=FOLDER (--root FOLDER)."
        )
    return listing


def _hugging_face(source: Any) -> Listing:
    """A Hugging Face data set: its first image column, the others as columns, class numbers by their names."""
    pictures = [name for name, feature in source.features.items() if type(feature).__name__ == "Image"]
    if not pictures:
        raise DataError(f"The data set has no image column; its columns are {', '.join(source.column_names)}.")
    columns: dict[str, list[Any]] = {}
    for name, feature in source.features.items():
        if name not in pictures:
            values = list(source[name])
            names = getattr(feature, "names", None)
            columns[name] = [names[value] for value in values] if names else values
    return Listing(
        source=f"data set of {len(source)} items",
        root="",
        files=tuple(str(number) for number in range(len(source))),
        columns=columns,
        opened=lambda name: as_picture(source[int(name)][pictures[0]]),
    )


def _data_set(source: Any) -> Listing:
    """Anything with items (picture, target); targets are its `targets` where it has them, else each item is made once."""
    targets = source.targets if hasattr(source, "targets") else [_target(source, number) for number in range(len(source))]
    values = targets.tolist() if hasattr(targets, "tolist") else list(targets)  # tensors and arrays; so are single values
    values = [value.tolist() if hasattr(value, "tolist") else value for value in values]
    names = getattr(source, "classes", None)
    if names is not None and all(isinstance(value, int) for value in values):
        values = [str(names[value]) for value in values]
    return Listing(
        source=f"data set {type(source).__name__}",
        root="",
        files=tuple(str(number) for number in range(len(source))),
        columns={"target": values},
        opened=lambda name: as_picture(source[int(name)][0]),
    )


def _target(source: Any, number: int) -> Any:
    try:
        _, target = source[number]
    except Exception as error:  # whatever a data set of one's own raises; it becomes one sentence that names the item
        raise DataError(f"Item {number} of {type(source).__name__} gives no (picture, target): {first_line(error)}. {SOURCES}") from error
    return target


def as_picture(value: Any) -> Image.Image:
    """A Pillow picture, a tensor (C, H, W), or an array (H, W) or (H, W, C), as upright RGB; floats are in 0 .. 1.

    Raises ValueError for anything else.
    """
    if hasattr(value, "detach"):  # a tensor; checking files needs no torch
        value = value.detach().cpu().numpy()
        value = value.transpose(1, 2, 0) if value.ndim == 3 else value
    if isinstance(value, np.ndarray):
        if value.dtype.kind == "f":
            if value.min() < 0 or value.max() > 1:
                raise ValueError(f"float pixels from {value.min():g} to {value.max():g}; 0 to 1 is needed, before any normalisation")
            value = (value * 255 + 0.5).astype(np.uint8)
        if value.dtype != np.uint8 or value.ndim not in (2, 3):
            raise ValueError(f"an array of {value.dtype} of shape {value.shape} is no picture")
        value = Image.fromarray(value[..., 0] if value.ndim == 3 and value.shape[2] == 1 else value)
    if not isinstance(value, Image.Image):
        raise ValueError(f"{type(value).__name__} is no picture: give Pillow pictures, tensors or arrays")
    return to_rgb(value)


def is_empty(value: Any) -> bool:
    """Whether a cell holds nothing: None, nan, what pandas calls missing, or blank text."""
    if isinstance(value, str):
        return not value.strip()
    return value is None or type(value).__name__ in ("NAType", "NaTType") or (isinstance(value, float | np.floating) and value != value)


def is_missing(value: Any) -> bool:
    """Whether a table's cell holds nothing, or says so in letters: NaN, NA, null and the like."""
    return value.strip() in MISSING_CELLS if isinstance(value, str) else is_empty(value)


def labels_by(rule: str | Callable[[str], Any], files: Sequence[str]) -> list[Any]:
    """The label of each file by a function of its path, or by a regular expression with one group that is searched in it.

    Raises:
        DataError: the expression is none, has not one group, or does not match a file.
    """
    if not isinstance(rule, str):
        return [_said(rule, name) for name in files]
    try:
        pattern = re.compile(rule)
    except re.error as error:
        raise DataError(f"label={rule!r} is no regular expression: {error}.") from error
    if pattern.groups != 1:
        raise DataError(f"label={rule!r} has {pattern.groups} groups; put the part that is the label in one pair of brackets.")
    found = [pattern.search(name) for name in files]
    missed = [name for name, hit in zip(files, found, strict=True) if hit is None]
    if missed:
        raise DataError(f"label={rule!r} does not match {missed[0]!r} ({len(missed)} of {len(files)} files).")
    return [hit.group(1) for hit in found if hit]


def _said(rule: Callable[[str], Any], name: str) -> Any:
    try:
        return rule(name)
    except Exception as error:  # whatever a function of one's own raises; it becomes one sentence that names the item
        called = getattr(rule, "__name__", type(rule).__name__)
        raise DataError(f"Your function {called} fails on {name!r}: {type(error).__name__}: {first_line(error)}.") from error


def photo_paths(given: object) -> list[str]:
    """Files (one, or several) as they are given, and every photograph below the folders among them, sorted.

    Raises:
        DataError: a path is missing, a folder holds no photographs, or nothing is given.
    """
    paths: list[str] = []
    for item in given if isinstance(given, Sequence) and not isinstance(given, str) else [given]:
        path = path_of(item, "file")
        if path.is_dir():
            inside = sorted(str(path / name) for name in files_below(str(path)))
            if not inside:
                raise DataError(f"The folder {str(item)!r} holds no photographs ({', '.join(SUFFIXES)}).")
            paths += inside
        elif path.is_file():
            paths.append(str(path))
        else:
            raise DataError(f"There is no file or folder {str(item)!r}.")
    if not paths:
        raise DataError("Nothing to predict: give files or folders.")
    return paths
