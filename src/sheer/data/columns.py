"""Which columns of a table go in, as what, and what is fitted on the rows to train on; what further rows hold that these did not."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sheer.data.cells import COLUMN_KINDS, NUMBER_CELL, encoded, number_in
from sheer.data.tokens import Text, token_counts
from sheer.errors import DataError, first_line, plural
from sheer.plan.plan import Part

FEW = 20
MIXED = 0.9
OTHER_NUMBER = re.compile(r"[+-]?[0-9]+(,[0-9]+)+(\.[0-9]+)?%?|\+[0-9.]+%?|-?[0-9.]+ ?%")
BINS = 48
MOST_CATEGORIES = 100_000
SHARE = 0.95
ROUND = 8
FARTHEST = 1e30


@dataclass(frozen=True, kw_only=True)
class Kinds:
    """Columns that you call categorical or continuous, or leave out; the others are seen from their cells."""

    categorical: tuple[str, ...]
    continuous: tuple[str, ...]
    ignore: tuple[str, ...]


def fitted(cells: Mapping[str, Sequence[str]], train: np.ndarray, kinds: Kinds) -> tuple[tuple[Part, ...], list[str]]:
    """What each column becomes: categorical ones, indicators of missing numbers, then continuous ones; and notes in words.

    Each of the three in the order of the table (fastai 2.8, `FillMissing`, `Categorify`, `Normalize`). `train` bool (rows,).

    Raises:
        DataError: a column cannot go in as what it is, or no column is left.
    """
    categorical, missing, continuous = list[Part](), list[Part](), list[Part]()
    notes, rows = list[str](), np.flatnonzero(train).tolist()
    for column, values in cells.items():
        learned = [values[row] for row in rows]
        filled = [cell for cell in learned if cell]
        counts = Counter(filled)
        named = column in kinds.categorical or column in kinds.continuous
        if counts and set(counts) <= {"inf", "-inf"}:
            _numbers(column, values)
        if len(counts) < 2 and not (counts and len(filled) < len(learned)):
            what = "is the same in" if counts else "is empty in"
            notes.append(f"column {column!r} is left out: it {what} all rows to train on")
            continue
        is_number = column in kinds.continuous or (column not in kinds.categorical and _continuous(column, counts))
        if not is_number or len(counts) < 2:
            if not named and len(counts) > FEW:
                _check_written(column, counts)
            if not named and len(counts) > FEW and 2 * len(counts) > len(learned):
                notes.append(
                    f"column {column!r} is left out: most of its {len(counts)} values occur once, such as {filled[0][:40]!r}; "
                    f"categorical=[{column!r}] keeps it"
                )
                continue
            if len(counts) > MOST_CATEGORIES:
                raise DataError(
                    f"Column {column!r} has {len(counts):,} categories; at most {MOST_CATEGORIES:,} are taken. Join rare ones, or leave it "
                    f"out: ignore=[{column!r}]."
                )
            names = tuple(sorted(counts, key=_by_value if all(map(NUMBER_CELL.fullmatch, counts)) else None))
            empty = len(learned) - len(filled)
            categorical.append(Part(name="categorical", settings=(("column", column), ("categories", names), ("missing", empty))))
            notes += [f"column {column!r} is missing in {plural(empty, 'row')} to train on: code 0"] if empty else []
            continue
        numbers = _numbers(column, values)[train]
        median = float(np.nanmedian(numbers))
        whole = np.where(np.isnan(numbers), median, numbers)
        mean, std = float(whole.mean()), float(whole.std())
        if std == 0:
            notes.append(f"column {column!r} is left out: its numbers, such as {filled[0][:40]}, are too close together to be told apart")
            continue
        if len(counts) == len(learned) and all(cell.isdigit() for cell in counts):
            notes.append(
                f"column {column!r} is another whole number in every row: if it only counts rows, leave it out: ignore=[{column!r}]"
            )
        if len(filled) < len(learned):
            missing.append(Part(name="missing", settings=(("column", column),)))
            lacks = plural(len(learned) - len(filled), "row")
            notes.append(f"column {column!r} is missing in {lacks} to train on: their median {median:g}, and a mark")
        quantiles = tuple(np.unique(np.quantile(whole, np.linspace(0, 1, BINS + 1))).tolist())
        fit = (("column", column), ("median", median), ("mean", mean), ("std", std), ("quantiles", quantiles))
        continuous.append(Part(name="continuous", settings=fit))
    found = (*categorical, *missing, *continuous)
    if not found:
        raise DataError(f"No column is left to learn from: {'; '.join(notes) or 'the table has no column but the target'}.")
    return found, notes


def _by_value(cell: str) -> Any:
    return float(cell)


def _continuous(column: str, counts: Counter[str]) -> bool:
    """Whether cells are numbers to compute with; DataError where nearly all are, but not all."""
    odd = [cell for cell in counts if not NUMBER_CELL.fullmatch(cell) and cell not in ("inf", "-inf")]
    total, wrong = sum(counts.values()), sum(counts[cell] for cell in odd)
    if odd and total - wrong >= MIXED * total:
        raise DataError(
            f"Column {column!r} holds numbers, but for {wrong} of {total} cells ({', '.join(map(repr, odd[:3]))}). Empty those, or have "
            f"all as categories: categorical=[{column!r}]."
        )
    return not odd and (len(counts) > FEW or any(not cell.lstrip("-").isdigit() for cell in counts))


def _check_written(column: str, counts: Counter[str]) -> None:
    """DataError where nearly all cells are numbers with a decimal comma, separated thousands, a plus or a percent sign."""
    other = [cell for cell in counts if OTHER_NUMBER.fullmatch(cell)]
    if other and sum(bool(NUMBER_CELL.fullmatch(cell)) for cell in counts) + len(other) >= MIXED * len(counts):
        raise DataError(
            f"Column {column!r} holds numbers in another form, such as {other[0]!r}. Write them like 1234.5, or have them as categories: "
            f"categorical=[{column!r}]. If they are no numbers, such as those of telephones, leave the column out: ignore=[{column!r}]."
        )


def _numbers(column: str, values: Sequence[str], leave: bool = True) -> np.ndarray:
    """The cells as numbers float64 (rows,), nan where missing; DataError for what is none, or infinite."""
    try:
        return np.array([number_in(cell, column, row) if cell else np.nan for row, cell in enumerate(values, 1)])
    except ValueError as error:
        what = f"Empty the cell, or leave the column out: ignore=[{column!r}]" if leave else "Give a number, or empty the cell"
        raise DataError(f"{first_line(error)}. {what}.") from error


def columns_of(parts: Sequence[Part], tokenizer: str) -> list[Any]:
    """What the parts say as the objects that encode cells; `tokenizer` is the text of the tokenizer.json of columns of text."""
    made = list[Any]()
    for part in parts:
        options = part.options()
        if part.name == "text":
            made.append(Text(column=str(options["column"]), tokenizer=tokenizer, length=options["length"], pad=options["pad"]))  # type: ignore[arg-type]
        else:
            coded = {name: value for name, value in options.items() if name not in ("quantiles", "missing")}
            made.append(COLUMN_KINDS[part.name](**coded))  # type: ignore[arg-type]
    return made


def table_inputs(parts: Sequence[Part], cells: Mapping[str, Sequence[str]], tokenizer: str = "") -> np.ndarray:
    """The rows as the network takes them (rows, columns); DataError for a cell that its column cannot hold."""
    for part in parts:
        if part.name == "continuous":
            options: Any = part.options()
            column = options["column"]
            with np.errstate(over="ignore"):
                far = np.abs((_numbers(column, cells[column], leave=False) - options["mean"]) / options["std"]) > FARTHEST
            if far.any():
                row = int(far.argmax())
                raise DataError(
                    f"Column {column!r}: row {row + 1} holds {cells[column][row]!r}, too far from what training had, {options['mean']:.3g} "
                    f"+- {options['std']:.3g}, to be computed with. Empty the cell, or mend it."
                )
    return encoded(columns_of(parts, tokenizer), cells)


def bin_edges(part: Part) -> tuple[float, ...]:
    """The quantiles of a continuous column as the network sees the column, in float32, each once."""
    options: Any = part.options()
    seen = (np.array(options["quantiles"]) - options["mean"]) / options["std"]
    return tuple(float(str(edge)) for edge in np.unique(seen.astype(np.float32)))  # the fewest digits that give the same float32


def unknown_cells(parts: Sequence[Part], cells: Mapping[str, Sequence[str]], which: str = "further") -> list[str]:
    """What `which` rows hold that no row to train on did, in words a column."""
    notes = list[str]()
    fills = {str(part.options()["column"]) for part in parts if part.name != "continuous"}
    for part in parts:
        column, names = str(part.options()["column"]), part.options().get("categories")
        filled, found = Counter(cell for cell in cells[column] if cell), list[tuple[int, str]]()
        empty = len(cells[column]) - sum(filled.values())
        if isinstance(names, tuple):
            known = set(names)
            strange = {cell: count for cell, count in filled.items() if cell not in known}
            shown = ", ".join(map(repr, list(strange)[:3]))
            found.append((sum(strange.values()), f"hold {shown}, which no row to train on did: code 0, unknown"))
            found.append((0 if part.options().get("missing") else empty, "are missing, as in no row to train on: code 0"))
        elif part.name == "text":
            found.append((empty, "are empty: texts of no words"))
        elif column not in fills:
            found.append((empty, "are missing, as in no row to train on: the median"))
        notes += [f"column {column!r}: {count} of {len(cells[column])} {which} rows {what}" for count, what in found if count]
    return notes


def other_columns(columns: Sequence[str], read: Collection[str]) -> list[str]:
    """A note where further rows have columns besides those that are read.

    >>> other_columns(["age", "id"], ["age"])
    ["1 of 2 columns is not looked at: 'id'"]
    """
    others = [one for one in columns if one not in read]
    shown = ", ".join(map(repr, others[:5])) + (", ..." if len(others) > 5 else "")
    return [f"{len(others)} of {len(columns)} columns {'is' if len(others) == 1 else 'are'} not looked at: {shown}"] if others else []


def cut_texts(parts: Sequence[Part], cells: Mapping[str, Sequence[str]], tokenizer: str) -> list[str]:
    """How many further texts are longer than their column's length, in words a column."""
    notes = list[str]()
    for part in parts:
        if part.name == "text":
            column, length = str(part.options()["column"]), part.options()["length"]
            cut = int((token_counts(tokenizer, cells[column]) > length).sum())
            notes += (
                [f"column {column!r}: {cut} of {len(cells[column])} further texts are longer than {length} tokens and lose their end"]
                if cut
                else []
            )
    return notes


def unread_text(column: str, length: int | None) -> Part:
    """The part of a column of texts that no tokenizer has read yet."""
    return Part(name="text", settings=(("column", column), ("length", length or 0)))


def read_text(part: Part, tokenizer: str, pad: int, most: int, cells: Sequence[str], train: np.ndarray) -> tuple[Part, list[str], str]:
    """What `unread_text` becomes by an encoder's tokenizer, notes on texts that are cut, and why it has its length.

    `train` int64 has the items to train on, `most` the tokens that the encoder takes, `pad` its id for none.

    Raises:
        DataError: more tokens were asked for than that.
    """
    column, given = str(part.options()["column"]), part.options()["length"]
    assert isinstance(given, int)
    if given > most:
        raise DataError(
            f"Column {column!r}: length={given}: the encoder takes at most {most} tokens. Give at most that, or leave length away."
        )
    counts = token_counts(tokenizer, cells)
    usual = -(-int(np.quantile(counts[train], SHARE, method="higher")) // ROUND) * ROUND
    length = given or min(max(usual, ROUND), most)
    cut = int((counts > length).sum())
    more = f"; length={min(most, int(counts.max()))} keeps more" if length < most else ", the most that the encoder takes"
    notes = [f"{cut} of {len(counts)} texts in column {column!r} are longer than {length} tokens and lose their end{more}"] if cut else []
    sha256 = hashlib.sha256(tokenizer.encode()).hexdigest()
    read = Part(name="text", settings=(("column", column), ("tokenizer_sha256", sha256), ("length", length), ("pad", pad)))
    return read, notes, "you gave the length" if given else _why(length, most, usual)


def _why(length: int, most: int, usual: int) -> str:
    if length < usual:
        return f"{length} tokens are the most that the encoder takes"
    return f"{SHARE:.0%} of the texts to train on have at most {length} tokens (rounded up to {ROUND}s); a longer row costs time for all"
