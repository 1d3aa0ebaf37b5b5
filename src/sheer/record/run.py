"""What happened: rows of history, the record, and the run folder that holds them.

start.safetensors     what the plan starts from, where that is another run's weights or an adapter's
items.csv             the items, where class folders do not list them
skipped.csv           the files that were left out, and why, where some were
plan.json             what was done, every decision with its origin
history.csv           a row an epoch
weights.safetensors   the model's tensors
record.json           versions, fingerprints, times, events, why it stopped; written last, so that a folder
                      with a record is a finished run
data.json             where the data lay, relative to this folder
checkpoints/          of a run that is not finished, or goes on
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from importlib import metadata
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from sheer.errors import DataError, PlanError, RunError, plural
from sheer.model.hashing import weights_sha256
from sheer.plan.checks import path_of
from sheer.plan.document import decode, parse
from sheer.plan.plan import Plan
from sheer.record.commit import BEGUN, check_folder, committed, damage, flush_folder
from sheer.record.lock import LOCK

FORMAT = 1
CHECKPOINTS = "checkpoints"
FINISHED = ("weights.safetensors", "plan.json", "history.csv", "record.json")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One epoch: its losses, metrics by name over the held-out items, `seconds` with validation.

    `train_loss` is the mean over the steps that were taken, of each step's mean loss: all count alike, also that of a short last batch.
    `valid_loss` is the mean over the held-out items, by their weights where they have any.
    `epoch` counts from 1 over the whole plan; `weights_sha256` covers the model's tensors after it.
    """

    phase: str
    epoch: int
    train_loss: float
    valid_loss: float
    metrics: dict[str, float]
    seconds: float
    weights_sha256: str


def history_columns(metrics: Sequence[str]) -> tuple[str, ...]:
    """The header of history.csv: a row's fields, with a column for each metric in the place of `metrics`."""
    return tuple(name for field in fields(Row) for name in (metrics if field.name == "metrics" else (field.name,)))


@dataclass(frozen=True, kw_only=True)
class Event:
    """What happened beside the plan after `step` steps of it.

    `kind` is "skipped" (loss or gradients were no finite numbers, so nothing moved; of a fit: items that had no part in it), "spike" (a
    loss far above those before it; the step was taken), "split" (out of memory: from this step to the end of its phase, `size` items
    go through the network at a time), "split valid" (the same in validation, to the end of the fit), "split frozen" (the batches of the
    phase's frozen part), "early end", "fitted" (a head), "interrupt", "resume", "failed save" or "retried save" (it came about at a later
    attempt). `items` are those of the batch, or those left out, where they matter.
    """

    step: int
    kind: str
    what: str
    items: tuple[str, ...] = ()
    size: int = 0


@dataclass(frozen=True, kw_only=True)
class Module:
    """A module of your own that a run used: kept by name and source hash, never imported by itself."""

    name: str
    source_sha256: str


@dataclass(frozen=True, kw_only=True)
class Record:
    """What a run was made with and how it ended.

    `plan_hash` covers what was decided, `plan_sha256` all of plan.json, `data_sha256` the contents of every file, "" for arrays.
    """

    format: int
    plan_hash: str
    plan_sha256: str
    weights_sha256: str
    data_sha256: str
    stop_reason: str
    events: tuple[Event, ...]
    seconds: float
    device: str
    threads: int
    machine: str
    python: str
    sheer: str
    torch: str
    torchvision: str
    timm: str
    numpy: str
    pillow: str
    own_module: Module | None
    own_head: Module | None
    history_sha256: str

    def is_of(self, plan: Plan) -> bool:
        """Whether it was written for this plan, word for word."""
        return (plan.short_hash(), hashlib.sha256(plan.to_json().encode()).hexdigest()) == (self.plan_hash, self.plan_sha256)


def version_of(package: str) -> str:
    """The installed version, "" where it is not installed; nothing is imported."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def versions() -> dict[str, str]:
    """What computes the bits of a run here, by the names of `Record`."""
    return {
        "machine": platform.machine(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        **{package: version_of(package) for package in ("sheer", "torchvision", "timm", "numpy", "pillow")},
    }


def other_versions(record: Record) -> str:
    """What a record was made with, where that is not what computes here; "" where it is."""
    pairs = ((name, str(getattr(record, name)), now) for name, now in versions().items())
    return ", ".join(f"{name} {was or 'none'} (here {now or 'none'})" for name, was, now in pairs if was != now)


def make_record(
    *,
    plan: Plan,
    rows: Sequence[Row],
    events: Sequence[Event],
    weights_sha256: str,
    data_sha256: str,
    stop_reason: str,
    seconds: float,
    own_module: Module | None,
    own_head: Module | None,
) -> Record:
    """The record of a run that has just ended."""
    return Record(
        format=FORMAT,
        plan_hash=plan.short_hash(),
        plan_sha256=hashlib.sha256(plan.to_json().encode()).hexdigest(),
        weights_sha256=weights_sha256,
        data_sha256=data_sha256,
        stop_reason=stop_reason,
        events=tuple(events),
        seconds=seconds,
        device=plan.numerics.device,
        threads=plan.numerics.threads,
        **versions(),
        own_module=own_module,
        own_head=own_head,
        history_sha256=hashlib.sha256(history_text(plan, rows).encode()).hexdigest(),
    )


def contents_sha256(contents: Sequence[str]) -> str:
    """The hash of a data set whose files have these SHA-256, in item order; "" for items that are no files."""
    return hashlib.sha256("".join(contents).encode()).hexdigest() if contents else ""


def row_cells(row: Row) -> list[str]:
    """The row as text; floats in the shortest form that reads back to the same bits."""
    pairs = (asdict(row) | {"metrics": row.metrics.values()}).items()
    values = [cell for name, value in pairs for cell in (value if name == "metrics" else (value,))]
    return [repr(value) if isinstance(value, float) else str(value) for value in values]


def write_atomically(path: Path, content: bytes) -> None:
    """Write beside `path`, flush to the disk, then rename over it and flush its folder."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    flush_folder(path.parent)


def history_text(plan: Plan, rows: Sequence[Row]) -> str:
    """history.csv as text."""
    lines = [",".join(history_columns(plan.metrics)), *(",".join(row_cells(row)) for row in rows)]
    return "\n".join(lines) + "\n"


def begin(
    folder: Path, plan: Plan, tables: Mapping[str, str], start: dict[str, torch.Tensor] | None, root: str, rows: Sequence[Row]
) -> None:
    """Make a run folder: the plan, what it starts from, and the history so far. `root` is the folder of the data, "" for none.

    `tables` are CSV texts by the names of their files. The plan comes first, so that a folder is this run's from its first file on,
    and the place of the data last, so that a folder without it was not made to its end.

    Raises:
        RunError: the folder cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / "plan.json", plan.to_json().encode())
        if start is not None:
            write_atomically(folder / "start.safetensors", save(_unshared(start)))
        for name, text in tables.items():
            write_atomically(folder / name, text.encode("utf-8", "surrogateescape"))
        write_atomically(folder / "history.csv", history_text(plan, rows).encode())
        relative = os.path.relpath(os.path.realpath(root), os.path.realpath(folder)) if root else ""
        write_atomically(folder / "data.json", json.dumps({"root": relative}).encode())
    except OSError as error:
        raise RunError(f"The run folder {folder} cannot be written: {error}. Give another one.") from error


def _unshared(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Copies where two names share memory, which the file format does not allow."""
    seen: set[int] = set()
    result = {}
    for name, tensor in tensors.items():
        pointer = tensor.untyped_storage().data_ptr()
        result[name] = tensor.clone() if pointer in seen and pointer else tensor
        seen.add(pointer)
    return result


def is_free(folder: Path) -> bool:
    """Whether the folder is not there, or holds nothing but a lock and what a write that was killed left."""
    return not folder.exists() or (folder.is_dir() and all(path.name == LOCK or BEGUN.fullmatch(path.name) for path in folder.iterdir()))


def check_free(folder: Path) -> None:
    """RunError where the folder holds anything; nothing there is ever overwritten."""
    if not is_free(folder):
        raise RunError(f"{folder} exists and is not empty. Nothing was overwritten: give another folder.")


def check_run_folder(folder: Path) -> None:
    """RunError where the folder is neither free nor a run's; whose run it holds is looked at when a fit begins."""
    if not (folder / "plan.json").is_file():
        check_free(folder)


def finished_commit(folder: Path) -> Path | None:
    """The committed files of a finished run that are not in their places yet, or None."""
    last = committed(folder / CHECKPOINTS)[-1:]
    if last and not (last[0] / "state.json").exists() and not damage(last[0]):
        return last[0]
    return None


def check_contents(names: Sequence[str], before: Sequence[str], before_sha256: str, now: list[str]) -> list[str]:
    """`now`, the SHA-256 of the files in item order, which are those of the fits before: `before`, and `before_sha256` over all.

    Raises:
        DataError: naming the first of those that have changed, where their own hashes are known.
    """
    if not before_sha256 or contents_sha256(now) == before_sha256:
        return now
    changed = [name for name, one, other in zip(names, before, now, strict=False) if one != other]
    which = f"{plural(len(changed), 'file')} ({', '.join(changed[:5])})" if changed else "files of the data"
    raise DataError(
        f"Other contents than in the fit before: {which}. One plan would have learned from two data sets, so nothing was trained. "
        "Put them back as they were, or make data and learner anew from what is there now."
    )


@dataclass(frozen=True, kw_only=True)
class Run:
    """A finished run as read from its folder."""

    folder: Path
    weights: Path
    plan: Plan
    record: Record
    rows: tuple[Row, ...]


def read_run(folder: str | Path) -> Run:
    """Read plan, record and history of a finished run.

    Raises:
        RunError: the folder is no finished run, or a file in it is damaged or of another format.
    """
    whole = path_of(folder, "run")
    check_folder(whole)
    root = finished_commit(whole) or whole
    missing = [name for name in sorted(FINISHED) if not (root / name).is_file()]
    if missing:
        raise RunError(
            f"{root} is no finished run: {', '.join(missing)} missing. Give the folder that sheer train named; sheer resume ends a run "
            "that was interrupted."
        )
    try:
        plan = Plan.from_json((root / "plan.json").read_text())
        written = parse((root / "record.json").read_text())
        if isinstance(written, dict) and written.get("format") != FORMAT:
            raise RunError(f"{root} is of format {written.get('format')}; this sheer reads {FORMAT}. Use sheer {written.get('sheer')}.")
        record = decode(Record, written, "record")
        if hashlib.sha256((root / "history.csv").read_bytes()).hexdigest() != record.history_sha256:
            raise RunError(f"{root}: history.csv was changed after the run: its hash is not the record's.")
        rows = _read_rows(root / "history.csv", plan.metrics)
    except (OSError, ValueError, csv.Error, PlanError) as error:
        raise RunError(f"{root} is damaged: {error}") from error
    if not record.is_of(plan):
        raise RunError(f"{root}: plan.json was edited after the run: it is not the text whose hash the record has. Put that one back.")
    return Run(folder=whole, weights=root / "weights.safetensors", plan=plan, record=record, rows=rows)


def _read_rows(path: Path, metrics: tuple[str, ...]) -> tuple[Row, ...]:
    with path.open(newline="") as file:
        reader = csv.reader(file)
        header = tuple(next(reader, ()))
        if header != history_columns(metrics):
            raise ValueError(f"history.csv has the columns {header}")
        return tuple(_row_from(dict(zip(header, cells, strict=True)), metrics) for cells in reader)


def _row_from(cells: dict[str, str], metrics: tuple[str, ...]) -> Row:
    return Row(
        phase=cells["phase"],
        epoch=int(cells["epoch"]),
        train_loss=float(cells["train_loss"]),
        valid_loss=float(cells["valid_loss"]),
        metrics={name: float(cells[name]) for name in metrics},
        seconds=float(cells["seconds"]),
        weights_sha256=cells["weights_sha256"],
    )


def read_start(run: Run) -> dict[str, torch.Tensor] | None:
    """The weights that the plan starts from, where they are those of another run; else None."""
    path = run.folder / "start.safetensors"
    return dict(load_file(path)) if path.is_file() else None


def load_weights(run: Run, model: nn.Module) -> None:
    """Load the run's weights into `model`, every tensor, and check their hash.

    Raises:
        RunError: the file is damaged, or its tensors are not the model's.
    """
    path = run.weights
    try:
        model.load_state_dict(load_file(path))
    except (SafetensorError, RuntimeError, OSError) as error:
        raise RunError(f"{path} does not fit the plan's model: {str(error).splitlines()[0]}") from error
    if weights_sha256(model) != run.record.weights_sha256:
        raise RunError(f"{path} is damaged: its tensors do not have the hash that the record states.")
