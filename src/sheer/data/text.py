"""`text`: a column of texts of a CSV file or data frame as data, and its texts as the token ids that an encoder takes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from sheer.data.arrays import tensors_hash
from sheer.data.block import DataBlock
from sheer.data.columns import columns_of, read_text, unread_text
from sheer.data.frames import read_rows, text_cells, with_cells
from sheer.data.labels import labelled_rows, target_label
from sheer.data.several import unread, with_token_ids
from sheer.data.sources import Data, assemble
from sheer.errors import DataError
from sheer.plan.checks import whole
from sheer.plan.plan import DataPlan, Origin, Part


def text(
    source: Any,
    *,
    text: str,
    target: str | Sequence[str],
    length: int | None = None,
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
    """The texts in one column of a CSV file, or of a data frame of pandas or polars, with one or several columns as target.

    `sheer.learner` makes token ids of them by the tokenizer of its encoder, once. A missing cell is a text of no words; the plan's
    notes say how many there are, and how many texts are cut.

    Args:
        source: A CSV file, or a data frame.
        text: The column of texts.
        target: The column to predict, or several of numbers (or of 0 and 1).
        length: The tokens that a text may have before it is cut; where not given, what 95 of 100 texts to train on have at most,
            but no more than the encoder takes.
        separator, task, valid, split, group, folds, fold, weight, seed, profile, unknown: As for `sheer.table`.

    Raises:
        DataError: naming the column that cannot be used, and the remedy.
    """
    if not isinstance(text, str):
        raise DataError(f"text={text!r}: give the name of the one column of texts.")
    if length is not None:
        whole(length, "length", 2, ", the tokens of a text, such as 256")
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
    listing, decided = labelled_rows(sheet, {"target": targets, "text": (text,)}, block)
    if text in targets:
        raise DataError(f"Column {text!r} was given as text and as target. Give two columns.")
    cells = text_cells(text, listing.columns[text])
    if not any(cells):
        raise DataError(f"Column {text!r} is empty in every row: there is nothing to read. Name another column as text.")
    empty = cells.count("")
    return assemble(
        decided,
        arrays=torch.zeros((len(cells), 0), dtype=torch.int32),
        source=sheet.name,
        notes=[f"column {text!r} is empty in {empty} of {len(cells)} rows: texts of no words"] if empty else [],
        listing_text=with_cells(decided.csv(listing.files), {text: cells}),
        columns=(unread_text(text, length),),
        columns_origin=Origin(field="columns", by="you", reason="you named the column of texts"),
        texts={text: tuple(cells)},
    )


def tokenised(data: Data, tokenizer: str, pad: int, most: int) -> Data:
    """The data with the ids of its texts behind what columns it has, read anew where another tokenizer has read them.

    `most` tokens are what the encoder takes.

    Raises:
        DataError: more tokens were asked for than that, or only the ids of another tokenizer are left of the texts.
    """
    sha256 = hashlib.sha256(tokenizer.encode()).hexdigest()
    if data.tokenizer:
        if sha256 == hashlib.sha256(data.tokenizer.encode()).hexdigest():
            return data
        data = unread(data)
    parts, notes, reasons = list[Part](), list[str](), list[str]()
    for part in data.plan.columns:
        if part.name != "text":
            parts.append(part)
            continue
        column = str(part.options()["column"])
        read, said, why = read_text(part, tokenizer, pad, most, data.texts[column], data.train)
        parts.append(read)
        notes += said
        reasons.append(why)
    origin = Origin(field="columns", by="data", reason=f"{'; '.join(reasons)}; the tokenizer is the encoder's own")
    return _with_ids(data, tuple(parts), tokenizer, notes, origin)


def tokenised_as(data: Data, plan: DataPlan, tokenizer: str) -> Data:
    """The data with the ids of its texts as an earlier plan's tokenizer and length make them; data without unread texts as it is."""
    if not data.texts or data.tokenizer:
        return data
    if data.inputs:
        theirs = {one.name: one for one in plan.inputs if one.kind == "text"}
        plans = [replace(one, columns=theirs.get(one.name, one).columns) for one in data.plan.inputs]
        return with_token_ids(data, plans, tokenizer, [])
    return _with_ids(data, plan.columns, tokenizer, [], next(origin for origin in plan.origins if origin.field == "columns"))


def _with_ids(data: Data, parts: tuple[Part, ...], tokenizer: str, notes: Sequence[str], origin: Origin) -> Data:
    assert data.arrays is not None
    ids = [torch.from_numpy(one.encode(data.texts[one.column])) for one in columns_of([p for p in parts if p.name == "text"], tokenizer)]
    matrix = torch.cat([data.arrays, *ids], dim=1)
    origins = tuple(origin if one.field == "columns" else one for one in data.plan.origins)
    plan = replace(data.plan, columns=parts, listing_sha256=tensors_hash(matrix), notes=(*data.plan.notes, *notes), origins=origins)
    return replace(data, arrays=matrix, plan=plan, tokenizer=tokenizer, unread=data)
