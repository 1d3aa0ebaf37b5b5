"""The data of a run again, from its folder: split and targets as they were, proved by the hashes of the plan."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from pathlib import Path

import numpy as np

from sheer.data.again import data_as_before
from sheer.data.folders import listing_hash
from sheer.data.sources import Data
from sheer.errors import RunError
from sheer.plan.plan import Plan
from sheer.task.tasks import TASKS


def data_again(run: Path, plan: Plan, moved: str | Path | None = None) -> Data:
    """The run's data: where the run folder says that it lies, or below the folder `moved`.

    Raises:
        RunError: it is not there, is other data now, or was given as objects, which a folder cannot hold.
    """
    try:
        kept = str(json.loads((run / "data.json").read_text())["root"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise RunError(f"{run / 'data.json'} cannot be read: {error}. Give the data: sheer.resume({str(run)!r}, data=...).") from error
    root = Path(moved).expanduser() if moved is not None else run / kept
    given = f"Give it as it was made: sheer.resume({str(run)!r}, data=...)."
    if not kept:
        raise RunError(f"{run} was trained on {plan.data.source}, which is no folder of files. {given}")
    if not root.is_dir():
        raise RunError(f"The data of {run} is no longer in {root}. Give its new folder: sheer resume {run} --data FOLDER.")
    items = run / "items.csv"
    data = _listed(root, items, plan) if items.is_file() else data_as_before(str(root), plan)
    if data is None:
        raise RunError(
            f"{root} does not hold the {plan.data.train_items + plan.data.valid_items} items that {run} was trained on: names, sizes, "
            f"targets or split are others now. Bring them back, or name their new folder: sheer resume {run} --data FOLDER. {given}"
        )
    return data


def _listed(root: Path, items: Path, plan: Plan) -> Data | None:
    """The items that a run's items.csv lists, where they are those of the plan; else None."""
    text = items.read_bytes().decode("utf-8", "surrogateescape")
    try:
        rows = list(csv.DictReader(io.StringIO(text)))
        paths = tuple(str(row["file"]) for row in rows)
        targets = TASKS[plan.data.task.name](**plan.data.task.options()).parse(rows, plan.data.classes)  # type: ignore[arg-type]
        held_out = np.array([row["part"] == "valid" for row in rows])
        counts = np.array([row["weight"] for row in rows], dtype=np.float64).astype(np.float32)
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        raise RunError(f"{items} is damaged: {error!r}.") from error
    weights = counts if plan.data.weight else None
    if not all((root / path).is_file() for path in paths):
        return None
    hashes = {
        "listing_sha256": listing_hash(str(root), list(paths)),
        "targets_sha256": hashlib.sha256(targets.tobytes() + (b"" if weights is None else weights.tobytes())).hexdigest(),
        "held_out_sha256": hashlib.sha256(held_out.tobytes()).hexdigest(),
    }
    if any(getattr(plan.data, name) != found for name, found in hashes.items()):
        return None
    return Data(
        root=str(root),
        paths=paths,
        arrays=None,
        targets=targets,
        classes=plan.data.classes,
        train=np.flatnonzero(~held_out),
        valid=np.flatnonzero(held_out),
        plan=plan.data,
        listing=text,
        weights=weights,
    )
