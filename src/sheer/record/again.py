"""The data of a run again, from its folder: split and targets as they were, proved by the hashes of the plan."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from sheer.data.again import data_as_before
from sheer.data.arrays import tensors_hash
from sheer.data.cells import inputs_of
from sheer.data.columns import columns_of
from sheer.data.folders import listing_hash
from sheer.data.frames import INPUT
from sheer.data.inputs import Input
from sheer.data.several import inputs_of_cells, several_sha256
from sheer.data.sources import Data
from sheer.errors import DataError, RunError, first_line
from sheer.plan.plan import DataPlan, Part, Plan
from sheer.task.tasks import TASKS


def data_again(run: Path, plan: Plan, moved: str | Path | None = None) -> Data:
    """The run's data: where the run folder says that it lies, or below the folder `moved`.

    Raises:
        RunError: it is not there, is other data now, or was given as objects, which a folder cannot hold.
    """
    if moved is not None and plan.data.pictures == "none" and (plan.data.columns or plan.data.inputs):
        raise RunError(f"data={str(moved)!r}: the rows of {run} are in its own items.csv, so there is no folder to name. Leave data away.")
    if plan.data.columns:
        return _table_again(run / "items.csv", plan)
    if plan.data.inputs and plan.data.pictures == "none":
        return _several_again("", run / "items.csv", plan)
    kept = data_place(run)
    root = Path(moved).expanduser() if moved is not None else run / kept
    given = f"Give it as it was made: sheer.resume({str(run)!r}, data=...)."
    if not kept:
        raise RunError(f"{run} was trained on {plan.data.source}, which is no folder of files. {given}")
    if not root.is_dir():
        raise RunError(f"The data of {run} is no longer in {root}. Give its new folder: sheer resume {run} --data FOLDER.")
    items = run / "items.csv"
    data = (
        _several_again(str(root), items, plan)
        if plan.data.inputs
        else listed_again(root, items, plan)
        if items.is_file()
        else data_as_before(str(root), plan)
    )
    if data is None:
        raise RunError(
            f"{root} does not hold the {plan.data.train_items + plan.data.valid_items} items that {run} was trained on: names, sizes, "
            f"targets or split are others now. Bring them back, or name their new folder: sheer resume {run} --data FOLDER. {given}"
        )
    return data


def data_place(run: Path) -> str:
    """Where the run folder's data.json says that its files lie, relative to the folder; "" for data that is no folder of files.

    Raises:
        RunError: data.json is not there, or is damaged; it is the last file of a folder that is made, which without it is not whole.
    """
    try:
        root = json.loads((run / "data.json").read_text())["root"]
        if not isinstance(root, str):
            raise TypeError(f"root is {root!r}, no text")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise RunError(
            f"{run / 'data.json'} cannot be read: {first_line(error)}. It says where the data of the run lies: bring it back, or write "
            f'{{"root": "FOLDER"}} there, from the run folder on ("" where there is none); or go on: sheer.resume({str(run)!r}, data=...).'
        ) from error
    return root


def check_items(run: Path, plan: Plan) -> None:
    """Prove by the plan's hashes that the run's items.csv, if it has one, has the targets, weights and split that the run had, and the
    cells that its model reads; files that it lists are not looked at.

    Raises:
        RunError: it was changed.
    """
    items = run / "items.csv"
    if not items.is_file():
        return
    if plan.data.columns:
        _table_again(items, plan)
    elif plan.data.inputs and plan.data.pictures == "none":
        _several_again("", items, plan)
    else:
        text, rows = _rows(items)
        if _proved(plan, items, text, rows, "", (), None, plan.data.listing_sha256) is None:
            raise RunError(f"{items} does not have the targets, weights or split of the run: it was changed. Bring it back as it was.")


def listed_again(root: Path, items: Path, plan: Plan) -> Data | None:
    """The items that a run's items.csv lists, where they are those of the plan; else None."""
    text, rows = _rows(items)
    if rows and "file" not in rows[0]:
        raise RunError(f"{items} is damaged: it has no column 'file'.")
    paths = tuple(str(row["file"]) for row in rows)
    if not all((root / path).is_file() for path in paths):
        return None
    return _proved(plan, items, text, rows, str(root), paths, None, listing_hash(str(root), list(paths)))


def _several_again(root: str, items: Path, plan: Plan) -> Data:
    """The inputs that a run's items.csv holds, their files below `root`; RunError where they are not those of the plan."""
    text, rows = _rows(items)
    tokenizer = read_tokenizer(items.parent, plan.data)
    try:
        cells = {column: [row[INPUT + column] for row in rows] for one in plan.data.inputs for column in one.reads}
        paths, inputs = inputs_of_cells(plan.data.inputs, cells, root, str(items), tokenizer)
    except KeyError as error:
        raise RunError(f"{items} is damaged: it has no column {error}.") from error
    except DataError as error:
        raise RunError(f"The data of {items} is others now: {error}") from error
    data = _proved(plan, items, text, rows, root, paths, None, several_sha256(root, paths, inputs), inputs)
    if data is None:
        raise RunError(f"{items} does not list what the run was trained on, or files have other sizes now. {_remedy(items.parent)}")
    return replace(data, tokenizer=tokenizer)


def _table_again(items: Path, plan: Plan) -> Data:
    """The table that a run's items.csv holds; RunError where it is not that of the plan."""
    text, rows = _rows(items)
    tokenizer = read_tokenizer(items.parent, plan.data)
    try:
        matrix = torch.from_numpy(inputs_of(columns_of(plan.data.columns, tokenizer), rows, INPUT))
    except (KeyError, ValueError, AttributeError) as error:
        raise RunError(f"{items} is damaged: {error!r}.") from error
    data = _proved(plan, items, text, rows, "", (), matrix, tensors_hash(matrix))
    if data is None:
        raise RunError(f"{items} does not hold the rows that the run was trained on: it was changed. {_remedy(items.parent)}")
    return replace(data, tokenizer=tokenizer)


def _remedy(run: Path) -> str:
    """What helps where the run's data is not what it was; only a run that goes on takes it from its caller."""
    given = "" if (run / "record.json").is_file() else f" Or give the data: sheer.resume({str(run)!r}, data=...)."
    return f"Bring it back as it was.{given}"


def text_columns(data: DataPlan) -> tuple[Part, ...]:
    """The columns of the one input, or of all of several."""
    return (*data.columns, *(part for one in data.inputs for part in one.columns))


def read_tokenizer(run: Path, data: DataPlan) -> str:
    """The tokenizer.json of a run on texts, "" for any other; RunError where it is not there, or another."""
    wanted = {str(part.options()["tokenizer_sha256"]) for part in text_columns(data) if part.name == "text"}
    if not wanted:
        return ""
    try:
        kept = (run / "tokenizer.json").read_bytes()
    except OSError as error:
        raise RunError(f"{run / 'tokenizer.json'} cannot be read: {error}. Without it no text can be read: bring it back.") from error
    if {hashlib.sha256(kept).hexdigest()} != wanted:
        raise RunError(f"{run / 'tokenizer.json'} is not the tokenizer that the run used: it was changed. Bring it back as it was.")
    return kept.decode()


def _rows(items: Path) -> tuple[str, list[dict[str, str]]]:
    try:
        text = items.read_bytes().decode("utf-8", "surrogateescape")
        return text, list(csv.DictReader(io.StringIO(text)))
    except OSError as error:
        raise RunError(f"{items} cannot be read: {error}. Bring it back, or give the data.") from error
    except csv.Error as error:
        raise RunError(f"{items} is damaged: {error!r}.") from error


def _proved(
    plan: Plan,
    items: Path,
    text: str,
    rows: list[dict[str, str]],
    root: str,
    paths: tuple[str, ...],
    arrays: torch.Tensor | None,
    listing: str,
    inputs: tuple[Input, ...] = (),
) -> Data | None:
    """The data of these rows, where its hashes are those of the plan; else None."""
    try:
        targets = plan.data.task.made(TASKS).parse(rows, plan.data.classes)
        held_out = np.array([row["part"] == "valid" for row in rows])
        counts = np.array([row["weight"] for row in rows], dtype=np.float64).astype(np.float32)
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(f"{items} is damaged: {error!r}.") from error
    weights = counts if plan.data.weight else None
    hashes = {
        "listing_sha256": listing,
        "targets_sha256": hashlib.sha256(targets.tobytes() + (b"" if weights is None else weights.tobytes())).hexdigest(),
        "held_out_sha256": hashlib.sha256(held_out.tobytes()).hexdigest(),
    }
    if any(getattr(plan.data, name) != found for name, found in hashes.items()):
        return None
    return Data(
        root=root,
        paths=paths,
        arrays=arrays,
        targets=targets,
        classes=plan.data.classes,
        train=np.flatnonzero(~held_out),
        valid=np.flatnonzero(held_out),
        plan=plan.data,
        listing=text,
        weights=weights,
        inputs=inputs,
    )
