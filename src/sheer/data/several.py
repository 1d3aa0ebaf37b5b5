"""Several inputs of one item (a photograph, columns of a table) out of the columns of a table, fitted on the rows to train on."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from sheer.data.columns import Kinds, cut_texts, fitted, other_columns, read_text, table_inputs, unknown_cells, unread_text
from sheer.data.folders import listing_hash
from sheer.data.frames import cells_of, read_rows, text_cells, with_cells
from sheer.data.inputs import Input, inputs_sha256, places_of
from sheer.data.labels import labelled_rows
from sheer.data.listing import Listing, checked, is_empty
from sheer.data.sources import Data, assemble
from sheer.errors import DataError, nearest, plural
from sheer.plan.checks import path_of, whole
from sheer.plan.facts import HELD
from sheer.plan.plan import InputPlan, Origin, Part


@dataclass(frozen=True, kw_only=True)
class ImageInput:
    """A photograph an item: `column` has its file's name, below the block's `root`; an empty cell means that the item has none."""

    column: str


@dataclass(frozen=True, kw_only=True)
class TableInput:
    """Numbers and categories of an item; a row whose cells are all empty means that the item has none.

    `columns` are those that go in, by default all that no other input and no argument of the block names; `categorical`,
    `continuous` and `ignore` as for `sheer.table`.
    """

    columns: Sequence[str] | None = None
    categorical: Sequence[str] = ()
    continuous: Sequence[str] = ()
    ignore: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class TextInput:
    """A text an item, in `column`; an empty cell means that the item has none. `length` as for `sheer.text`."""

    column: str
    length: int | None = None


AnInput = ImageInput | TableInput | TextInput
KINDS: dict[type[AnInput], str] = {ImageInput: "image", TableInput: "table", TextInput: "text"}


def several(block: Any, source: Any) -> Data:
    """The data that a block with `inputs` makes of a CSV file or a data frame.

    Raises:
        DataError: naming the input and the column that cannot be used, and the remedy.
    """
    wanted = _checked_inputs(block)
    sheet, labels = read_rows(source), block.target_names()
    apart = {*labels, *(one for one in (block.valid, block.group, block.weight) if isinstance(one, str))}
    reads = _read_by(wanted, sheet.name, sheet.columns, apart)
    listing, decided = labelled_rows(sheet, {"label": labels}, block)
    columns = listing.columns
    train = ~decided.held_out
    notes, plans, cells = list[str](), list[InputPlan](), dict[str, list[str]]()
    texts = dict[str, tuple[str, ...]]()
    for key, one in wanted.items():
        own = {column: _texts(KINDS[type(one)], column, columns[column]) for column in reads[key]}
        parts: tuple[Part, ...] = ()
        there = present(list(own.values()))
        if not (there & train).any():
            raise DataError(f"Input {key!r}: no row to train on has it ({', '.join(own)} are empty), so its branch has nothing to train.")
        if isinstance(one, TextInput):
            parts = (unread_text(one.column, one.length),)
            texts |= {column: tuple(values) for column, values in own.items()}
        if isinstance(one, TableInput):
            kinds = Kinds(categorical=tuple(one.categorical), continuous=tuple(one.continuous), ignore=tuple(one.ignore))
            parts, said = fitted(own, there & train, kinds)
            own = {column: own[column] for column in dict.fromkeys(str(part.options()["column"]) for part in parts)}
            there = present(list(own.values()))
            held = np.flatnonzero(decided.held_out & there).tolist()
            unseen = unknown_cells(parts, {column: [values[row] for row in held] for column, values in own.items()}, "held-out")
            notes += [f"input {key!r}: {text}" for text in (*said, *unseen)]
        lacks = int((train & ~there).sum()), int((decided.held_out & ~there).sum())
        if any(lacks):
            learned = "a learned vector stands for it" if lacks[0] else "no row to train on does, so zeros stand for it"
            notes.append(f"input {key!r} is missing in {plural(lacks[0], 'row')} to train on and {lacks[1]} held out: {learned}")
        plans.append(
            InputPlan(name=key, kind=KINDS[type(one)], reads=tuple(own), columns=parts, missing_train=lacks[0], missing_valid=lacks[1])
        )
        cells |= own
    root = str(Path(block.root).expanduser()) if block.root is not None else sheet.folder or "."
    paths, inputs = inputs_of_cells(plans, cells, root, sheet.name)
    made = assemble(
        decided,
        root=str(Path(root).absolute()) if paths else "",
        paths=paths,
        source=sheet.name,
        listing=several_sha256(root, paths, inputs),
        notes=notes,
        listing_text=with_cells(decided.csv(listing.files), cells),
        texts=texts,
    )
    pictures = "files" if paths else "none"
    origins = (
        *(origin for origin in made.plan.origins if origin.field not in ("inputs", "pictures")),
        Origin(field="pictures", by="data", reason=HELD[pictures]),
        Origin(field="inputs", by="you", reason="you named them; what each becomes was fitted on the rows to train on"),
    )
    return replace(made, inputs=inputs, plan=replace(made.plan, pictures=pictures, inputs=tuple(plans), origins=origins))


def _checked_inputs(block: Any) -> dict[str, AnInput]:
    inputs = block.inputs
    if not isinstance(inputs, Mapping) or not inputs:
        raise DataError(f"inputs={inputs!r}: give a dictionary of names and inputs, such as {{'image': sheer.ImageInput(column='file')}}.")
    for key, one in inputs.items():
        if type(one) not in KINDS:
            raise DataError(f"inputs[{key!r}]={one!r} is no input: give {', '.join(f'sheer.{kind.__name__}(...)' for kind in KINDS)}.")
        if not isinstance(key, str) or not key.isidentifier() or hasattr(nn.ModuleDict(), key):
            raise DataError(
                f"inputs[{key!r}]: give another name, one word of letters and digits such as 'image': it names a branch of the model."
            )
        _check_fields(key, one)
    if block.path is not None:
        raise DataError(f"path={block.path!r} is for one input; ImageInput(column=...) names the column of file names.")
    if block.bad_files == "skip":
        raise DataError("bad_files='skip' leaves whole rows out; with several inputs empty the cell of a file that cannot be read.")
    return dict(inputs)


def _check_fields(key: str, one: AnInput) -> None:
    """DataError where a column is no text, or columns are no list of texts; PlanError for a length that is no number."""
    for field in fields(one):
        given, named = getattr(one, field.name), f"inputs[{key!r}]: {field.name}"
        if field.name == "length":
            _ = given is None or whole(given, named, 2, ", the tokens of a text, such as 256")
        elif field.name == "column":
            if not isinstance(given, str):
                raise DataError(f"{named}={given!r}: give the name of the one column, such as 'file'.")
        elif given is None and field.default is None:
            continue
        elif isinstance(given, str) or not isinstance(given, Sequence) or not all(isinstance(name, str) for name in given):
            raise DataError(f"{named}={given!r}: give the names of columns in a list, such as ['age'].")


def _read_by(wanted: Mapping[str, AnInput], source: str, columns: Mapping[str, Any], apart: set[str]) -> dict[str, tuple[str, ...]]:
    """The columns that each input reads; DataError where one is not there, or would be read twice."""
    reads = dict[str, tuple[str, ...]]()
    for key, one in wanted.items():
        named = tuple(one.columns or ()) if isinstance(one, TableInput) else (one.column,)
        more = () if not isinstance(one, TableInput) else (*one.categorical, *one.continuous, *one.ignore)
        for column in (*named, *more):
            if column not in columns:
                raise DataError(f"Input {key!r} reads the column {column!r}: {source} has no such column. {nearest(str(column), columns)}")
        reads[key] = named
    taken = [column for named in reads.values() for column in named]
    twice = sorted({column for column in taken if taken.count(column) > 1 or column in apart})
    if twice:
        what = "is the label, or decides split or weights" if twice[0] in apart else "is read by two inputs"
        raise DataError(f"Column {twice[0]!r} {what}: give it to one input only.")
    for key, one in wanted.items():
        if isinstance(one, TableInput):
            left = reads[key] or tuple(column for column in columns if column not in apart and column not in taken)
            reads[key] = tuple(column for column in left if column not in one.ignore)
            strange = [column for column in (*one.categorical, *one.continuous) if column not in reads[key]]
            if strange or not reads[key]:
                what = f"{strange[0]!r} is not among its columns" if strange else "no column is left for it"
                raise DataError(f"Input {key!r}: {what}. Its columns are {', '.join(reads[key]) or 'none'}.")
            taken += list(reads[key]) if one.columns is None else []
    return reads


def _texts(kind: str, column: str, values: Sequence[Any], further: bool = False) -> list[str]:
    if kind != "image":
        return cells_of(column, values, further) if kind == "table" else text_cells(column, values)
    return ["" if is_empty(value) else str(value) for value in values]


def present(cells: Sequence[Sequence[str]]) -> np.ndarray:
    """bool (items,): whether any of the cells of an item holds something."""
    return np.array([any(row) for row in zip(*cells, strict=True)])


def inputs_of_cells(
    plans: Sequence[InputPlan], cells: Mapping[str, Sequence[str]], root: str, source: str, tokenizer: str = ""
) -> tuple[tuple[str, ...], tuple[Input, ...]]:
    """The files that the cells name, below `root`, and the inputs of each item; texts that no `tokenizer` has read have no ids.

    Raises:
        DataError: a file is not there, or a cell holds what its column cannot.
    """
    paths, inputs = list[str](), list[Input]()
    for plan in plans:
        own = [cells[column] for column in plan.reads]
        if plan.kind == "image":
            places = places_of(own[0], len(paths))
            paths += [cell for cell in own[0] if cell]
            inputs.append(Input(name=plan.name, place=places, present=places >= 0))
        else:
            unread = plan.kind == "text" and not tokenizer
            array = torch.zeros((len(own[0]), 0), dtype=torch.int32)
            if not unread:
                array = torch.from_numpy(table_inputs(plan.columns, {column: cells[column] for column in plan.reads}, tokenizer))
            inputs.append(Input(name=plan.name, array=array, present=present(own)))
    if paths:
        checked(Listing(source=source, root=root, files=tuple(paths), columns={}), False)
    return tuple(paths), tuple(inputs)


def several_sha256(root: str, paths: Sequence[str], inputs: Sequence[Input]) -> str:
    """The hash of what is learned from: names and sizes of the files, numbers, and which items have what."""
    arrays = [array for one in inputs for array in (one.present, *([one.array.numpy()] if one.array is not None else []))]
    return inputs_sha256(listing_hash(root, list(paths)) if paths else "", arrays)


def read_inputs(data: Data, tokenizers: Mapping[str, tuple[str, int, int]]) -> Data:
    """The data with token ids in its inputs of text, each by its encoder's (tokenizer, pad, most tokens), read anew where another has.

    Raises:
        DataError: two inputs have other tokenizers.
    """
    told = {tokenizer for tokenizer, _, _ in tokenizers.values()}
    if len(told) > 1:
        raise DataError("The texts would be read by two tokenizers. Give all inputs of text encoders with one.")
    if not tokenizers or data.tokenizer in told:
        return data
    data = unread(data)
    plans, notes = list[InputPlan](), list[str]()
    for plan in data.plan.inputs:
        if plan.name in tokenizers:
            part, said, _ = read_text(plan.columns[0], *tokenizers[plan.name], data.texts[plan.reads[0]], data.train)
            notes += [f"input {plan.name!r}: {text}" for text in said]
            plan = replace(plan, columns=(part,))
        plans.append(plan)
    return with_token_ids(data, plans, told.pop(), notes)


def unread(data: Data) -> Data:
    """The data before a tokenizer read its texts; DataError where only token ids are left, as in data read from a run folder."""
    if data.tokenizer and data.unread is None:
        raise DataError(
            "The texts were read by another encoder's tokenizer, and data from a run folder has no texts to read anew. Give the data as it "
            "was made: sheer.text(...), or sheer.DataBlock(inputs=...)."
        )
    return data.unread or data


def with_token_ids(data: Data, plans: Sequence[InputPlan], tokenizer: str, notes: Sequence[str]) -> Data:
    """The data with the ids of its texts as these plans' lengths make them."""
    inputs = tuple(
        replace(one, array=torch.from_numpy(table_inputs(plan.columns, data.texts, tokenizer))) if plan.kind == "text" else one
        for plan, one in zip(plans, data.inputs, strict=True)
    )
    listing = several_sha256(data.root, data.paths, inputs)
    plan = replace(data.plan, inputs=tuple(plans), listing_sha256=listing, notes=(*data.plan.notes, *notes))
    return replace(data, inputs=inputs, plan=plan, tokenizer=tokenizer, unread=data)


def check_root(plans: Sequence[InputPlan], root: object) -> None:
    """DataError where a folder of photographs was given for items of which no column names any."""
    if root is not None and not any(plan.kind == "image" for plan in plans):
        raise DataError(f"root={root!r} is where the photographs lie that a column of a table names; this model reads no such column.")


def further_items(
    plans: Sequence[InputPlan],
    source: Any,
    tokenizer: str,
    root: str | Path | None = None,
    learned: str = "",
    beside: Collection[str] = (),
) -> tuple[str, tuple[str, ...], tuple[Input, ...], tuple[str, ...]]:
    """A CSV file or data frame as the branches take it: the folder of its files, those files, the inputs, notes.

    Files are relative to `root`. Where it is not given: to the CSV file's folder, or to `learned`, the folder that was learned from, if
    more of them lie there; for a frame to `learned`, or to the current folder, if more of them lie there. Columns that are neither read
    nor `beside` are noted.

    Raises:
        DataError: a column or a file is missing, or a cell holds what its column cannot.
    """
    sheet = read_rows(source)
    name, columns = sheet.name, sheet.columns
    cells, notes = dict[str, list[str]](), list[str]()
    for plan in plans:
        lacks = [column for column in plan.reads if column not in columns]
        if lacks:
            shown = f"column{'s' * (len(lacks) > 1)} {', '.join(map(repr, lacks))}"
            raise DataError(f"{name} lacks the {shown}, which the input {plan.name!r} reads. {nearest(lacks[0], columns)}")
        cells |= {column: _texts(plan.kind, column, columns[column], further=True) for column in plan.reads}
        notes += cut_texts(plan.columns, cells, tokenizer)
        if plan.kind == "table":
            rows = np.flatnonzero(present([cells[column] for column in plan.reads])).tolist()
            notes += unknown_cells(plan.columns, {column: [cells[column][row] for row in rows] for column in plan.reads})
    files = [cell for plan in plans if plan.kind == "image" for cell in cells[plan.reads[0]] if cell]
    folder = _root_of(sheet.folder, files, root, learned)
    if root is None and folder == learned and sheet.folder:
        notes.append(f"photographs are those below {folder}, which was learned from: fewer of them lie beside the file")
    paths, inputs = inputs_of_cells(plans, cells, folder, name, tokenizer)
    for plan, one in zip(plans, inputs, strict=True):
        missing = int((~one.present).sum())
        if missing:
            learned = "the learned vector stands for it" if plan.missing_train else "no row to train on lacked it: zeros stand for it"
            notes.append(f"input {plan.name!r} is missing in {missing} of {len(one.present)} rows: {learned}")
    notes += other_columns(list(columns), {*cells, *beside})
    return folder, paths, inputs, tuple(notes)


def _root_of(beside: str, files: Sequence[str], root: str | Path | None, learned: str) -> str:
    """The folder that was given, else the one of two in which the fewest files are missing; the first of them where that is the same."""
    if root is not None:
        return str(path_of(root, "root"))
    folders = [beside, learned] if beside else [learned, "."]
    return min(filter(None, folders), key=lambda folder: sum(not os.path.isfile(os.path.join(folder, file)) for file in files))
