"""The commands about files: which photographs cannot be used, archives of data sets, bundles, tables of predictions."""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sheer.data.archive import LIMIT, extract
from sheer.data.preflight import check
from sheer.errors import SheerError
from sheer.interpret.predictions import Predictions
from sheer.loading import load


def add_file_commands(commands: Any) -> None:
    """Add the parsers of FILE_COMMANDS to argparse's `commands`."""
    checked = commands.add_parser("check", help="read every file of a folder or table, and list what is wrong or odd")
    checked.add_argument("folder", help="a folder of photographs, or a CSV file that names them")
    checked.add_argument("--csv", metavar="FILE", help="write the list as CSV too")
    checked.add_argument("--no-cache", action="store_true", help="read every file again, and remember nothing")
    exported = commands.add_parser("export", help="write a finished run as one file of data that predicts by itself")
    exported.add_argument("run", help="the run folder")
    exported.add_argument("file", help="the file to write, such as flowers.sheer")
    unpacked = commands.add_parser("extract", help="unpack an archive of a data set by checks of its own")
    unpacked.add_argument("archive", help="a .zip or .tar file, plain or compressed")
    unpacked.add_argument("folder", help="the new folder")
    unpacked.add_argument("--limit", type=int, default=LIMIT, help="the most bytes that it may unpack to (default: %(default)s)")


def run_check(args: argparse.Namespace) -> int:
    """`sheer check FOLDER`; status 1 where a file cannot be used."""
    if args.csv:
        check_new(Path(args.csv))
    found = check(args.folder, cache=not args.no_cache)
    print(found)
    if args.csv:
        with _new(Path(args.csv)) as file:
            file.write(found.csv())
    return 1 if found.unusable else 0


def run_extract(args: argparse.Namespace) -> int:
    """`sheer extract ARCHIVE FOLDER`."""
    folder = extract(args.archive, args.folder, limit=args.limit)
    print(f"{folder}: {sum(path.is_file() for path in folder.rglob('*'))} files")
    return 0


def run_export(args: argparse.Namespace) -> int:
    """`sheer export RUN FILE`."""
    file = load(args.run).export(args.file)
    print(
        f"{file}: {file.stat().st_size / 2**20:.1f} MiB. Predict with it: sheer predict {file} FILES, or sheer.load_bundle({str(file)!r})"
    )
    return 0


def table_file(files: Sequence[str]) -> str:
    """The one CSV file among the arguments of predict; SheerError for several."""
    if len(files) != 1:
        raise SheerError(f"The run is on a table: give one CSV file, not {len(files)}.")
    return files[0]


def check_new(path: Path) -> None:
    """SheerError where a file cannot be written because it exists, or its folder does not."""
    if path.exists():
        raise SheerError(f"{path} exists. Nothing was overwritten: give another name, or remove it.")
    if not path.resolve().parent.is_dir():
        raise SheerError(f"There is no folder {path.resolve().parent} to write {path.name} into. Make it, or give another name.")


def _new(path: Path) -> Any:
    try:
        return path.open("x", newline="", encoding="utf-8", errors="surrogateescape")
    except OSError as error:
        raise SheerError(f"{path} cannot be written: {error}. Give another name.") from error


def write_csv(predictions: Predictions, path: Path) -> None:
    """The predictions as a new CSV file: file, what is said of it, then each class's probability or each number."""
    with _new(path) as file:
        writer = csv.writer(file)
        head = {"classify": ["class", "probability"], "tag": ["labels"], "regress": []}[predictions.task]
        kind = "" if predictions.task == "regress" else "p"
        writer.writerow(["file", *head, *(f"{kind}({name})" if kind else name for name in predictions.classes)])
        for item, label, row in zip(predictions.items, predictions.labels, predictions.outputs.tolist(), strict=True):
            said = {"classify": [label, repr(max(row))], "tag": [label], "regress": []}[predictions.task]
            writer.writerow([item, *said, *map(repr, row)])


FILE_COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {"check": run_check, "export": run_export, "extract": run_extract}
