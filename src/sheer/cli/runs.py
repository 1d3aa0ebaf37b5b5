"""The commands about a finished run: what it says of further items, how good it is, and taking it away."""

from __future__ import annotations

import argparse
import csv
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sheer.cli.files import check_new, new_file
from sheer.cli.report import report
from sheer.data.leftout import POLICIES
from sheer.errors import SheerError
from sheer.export.eject import eject
from sheer.export.predictor import load_bundle
from sheer.interpret.predictions import Predictions
from sheer.loading import load
from sheer.loop.engine import DEVICES
from sheer.plan.plan import Plan
from sheer.record.run import read_run

ROOT = "of a CSV file with a column of photographs: the folder that their names start from (default: the file's own)"


def _predict_options(options: argparse.ArgumentParser) -> None:
    options.add_argument("run", help="the run folder, or the bundle that sheer export wrote")
    options.add_argument("files", nargs="+", help="photographs or folders of them; for a table, texts or several inputs one CSV file")
    options.add_argument("--json", action="store_true", help="print one JSON object a line")
    options.add_argument("--csv", metavar="FILE", help="write a CSV file instead of printing")
    options.add_argument("--root", metavar="FOLDER", help=ROOT)
    options.add_argument("--device", choices=DEVICES)


def _evaluate_options(options: argparse.ArgumentParser) -> None:
    options.add_argument("run", help="the run folder")
    options.add_argument("folder", help="class folders; for a table, texts or several inputs one CSV file")
    options.add_argument("--target", metavar="COLUMN", help="of a CSV file: the column of the true classes (default: the one learned from)")
    options.add_argument("--root", metavar="FOLDER", help=ROOT)
    options.add_argument("--weight", metavar="COLUMN", help="of a CSV file: what each row counts in the metrics")
    options.add_argument(
        "--unknown", choices=POLICIES, default="raise", help="items of a class that the model does not know (default: raise)"
    )
    options.add_argument("--json", action="store_true", help="print the metrics as JSON")
    options.add_argument("--device", choices=DEVICES)


def _report_options(options: argparse.ArgumentParser) -> None:
    options.add_argument("run", help="the run folder")
    options.add_argument("--data", metavar="FOLDER", help="the folder learned from, or other class folders (or a CSV file) to judge it on")
    options.add_argument("--target", metavar="COLUMN", help="of a CSV file: the column of the true classes (default: the one learned from)")
    options.add_argument("--root", metavar="FOLDER", help=ROOT)
    options.add_argument("--device", choices=DEVICES)


def _eject_options(options: argparse.ArgumentParser) -> None:
    options.add_argument("run", help="the run folder")
    options.add_argument("script", help="the file to write")


def _export_options(options: argparse.ArgumentParser) -> None:
    options.add_argument("run", help="the run folder")
    options.add_argument("file", help="the file to write, such as flowers.sheer")


def run_predict(args: argparse.Namespace) -> int:
    """`sheer predict RUN FILES...`."""
    if args.csv:
        check_new(Path(args.csv))
    if Path(args.run).expanduser().is_file():
        bundle = load_bundle(args.run, device=args.device or "cpu")
        predictions = bundle.predict(_further(bundle.plan, args.files), root=args.root)
    else:
        learn = load(args.run, device=args.device)
        predictions = learn.predict(_further(learn.plan(), args.files), root=args.root)
    if args.csv:
        write_csv(predictions, Path(args.csv))
        print(f"{len(predictions)} predictions written to {args.csv}", file=sys.stderr)
    if args.json:
        for record in predictions.records():
            print(json.dumps(record))
    elif not args.csv:
        print("\n".join([predictions.table(), *(f"note: {note}" for note in predictions.notes)]))
    return 0


def run_evaluate(args: argparse.Namespace) -> int:
    """`sheer evaluate RUN FOLDER [--target COLUMN] [--root FOLDER] [--weight COLUMN] [--unknown skip]`."""
    learn = load(args.run, device=args.device)
    predictions = learn.evaluate(args.folder, target=args.target, weight=args.weight, unknown=args.unknown, root=args.root)
    print(json.dumps(predictions.metrics()) if args.json else predictions.report())
    return 0


def run_report(args: argparse.Namespace) -> int:
    """`sheer report RUN`."""
    print(report(args.run, args.data, args.device, args.target, args.root))
    return 0


def run_eject(args: argparse.Namespace) -> int:
    """`sheer eject RUN SCRIPT`."""
    script = eject(args.run, args.script)
    items = script.with_name(f"{script.stem}_items.csv") if read_run(args.run).plan.data.pictures == "none" else "FOLDER"
    print(f"{script} written. Run it: {shlex.join(['python', str(script), str(items), '--out', 'DIR'])}")
    return 0


def run_export(args: argparse.Namespace) -> int:
    """`sheer export RUN FILE`."""
    file = load(args.run).export(args.file)
    print(
        f"{file}: {file.stat().st_size / 2**20:.1f} MiB. Predict with it: sheer predict {file} FILES, or sheer.load_bundle({str(file)!r})"
    )
    return 0


def _further(plan: Plan, files: Sequence[str]) -> Any:
    """What `predict` takes: files of photographs, or of a table, texts or several inputs the one CSV file; SheerError for several."""
    if not (plan.data.columns or plan.data.inputs):
        return files
    if len(files) != 1:
        raise SheerError(f"The run is on the columns of a table: give one CSV file, not {len(files)}.")
    return files[0]


def write_csv(predictions: Predictions, path: Path) -> None:
    """The predictions as a new CSV file: file, what is said of it, then each class's probability or each number."""
    with new_file(path) as file:
        writer = csv.writer(file)
        head = {"classify": ["class", "probability"], "tag": ["labels"], "regress": []}[predictions.task]
        kind = "" if predictions.task == "regress" else "p"
        writer.writerow([predictions.of, *head, *(f"{kind}({name})" if kind else name for name in predictions.classes)])
        for item, label, row in zip(predictions.items, predictions.labels, predictions.outputs.tolist(), strict=True):
            said = {"classify": [label, repr(max(row))], "tag": [label], "regress": []}[predictions.task]
            writer.writerow([item, *said, *map(repr, row)])


COMMANDS = {
    "predict": (_predict_options, run_predict),
    "evaluate": (_evaluate_options, run_evaluate),
    "report": (_report_options, run_report),
    "eject": (_eject_options, run_eject),
    "export": (_export_options, run_export),
}
