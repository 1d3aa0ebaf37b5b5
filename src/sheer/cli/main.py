"""`sheer COMMAND ...`: each command is a few lines over the public function of the same name."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from sheer.cli import demo
from sheer.cli.files import FILE_COMMANDS, add_file_commands, check_new, table_file, write_csv
from sheer.cli.options import add_machine_options, add_plan_options, checkpoints_of, prepare
from sheer.cli.report import report
from sheer.cli.studies import STUDIES, add_studies
from sheer.data.cache import Cache
from sheer.errors import SheerError
from sheer.export.eject import eject
from sheer.export.predictor import load_bundle
from sheer.interpret.plots import check_plot
from sheer.learner import Learner
from sheer.loading import load, resume
from sheer.loop.engine import DEVICES
from sheer.loop.estimate import estimate, peak_memory
from sheer.loop.lr_find import check_sweep
from sheer.plan.recipes import Draft
from sheer.plan.table import columns
from sheer.record.checkpoint import COMPLETED
from sheer.record.keeping import is_done
from sheer.record.run import check_run_folder, read_run


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="sheer", description="Fine-tune pretrained PyTorch models with nothing hidden.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    shown = commands.add_parser("demo", help="train a real network on real photographs, then eject it")
    shown.add_argument("--quick", action="store_true", help="handwritten digits, in under 40 seconds")
    shown.add_argument("--out", help="the run folder (default: runs/demo-PLAN)")
    trained = commands.add_parser("train", help="train on a folder of photographs")
    add_plan_options(trained)
    trained.add_argument("--no-cache", action="store_true", help="keep no presized photographs on disk; the pixels are the same")
    add_machine_options(trained)
    resumed = commands.add_parser("resume", help="go on with a run that was interrupted or killed, to the same bits")
    resumed.add_argument("run", help="the run folder")
    resumed.add_argument("--data", metavar="FOLDER", help="where the files lie now, if they were moved")
    add_machine_options(resumed)
    planned = commands.add_parser("plan", help="show what train would do, without doing it")
    add_plan_options(planned)
    planned.add_argument("--json", action="store_true", help="print the plan's JSON and nothing else")
    swept = commands.add_parser("lr-find", help="sweep learning rates for the recipe's first phase, on a copy of the model")
    add_plan_options(swept)
    swept.add_argument("--start", type=float, default=1e-7, help="lowest rate of the last stage (default: %(default)s)")
    swept.add_argument("--end", type=float, default=10.0, help="highest rate of the last stage (default: %(default)s)")
    swept.add_argument("--steps", type=int, default=100, help="training steps (default: %(default)s)")
    swept.add_argument("--json", action="store_true", help="print rates, losses and suggestions as JSON")
    swept.add_argument("--plot", metavar="FILE", help="write a picture, such as sweep.png")
    predicted = commands.add_parser("predict", help="classify photographs, or the rows of a table, with a finished run")
    predicted.add_argument("run", help="the run folder, or the bundle that sheer export wrote")
    predicted.add_argument("files", nargs="+", help="photographs or folders of them; for a run on a table one CSV file")
    predicted.add_argument("--json", action="store_true", help="print one JSON object a line")
    predicted.add_argument("--csv", metavar="FILE", help="write a CSV file instead of printing")
    predicted.add_argument("--device", choices=DEVICES)
    judged = commands.add_parser("evaluate", help="metrics of a finished run on labelled folders")
    judged.add_argument("run", help="the run folder")
    judged.add_argument("folder", help="class folders")
    judged.add_argument("--json", action="store_true", help="print the metrics as JSON")
    judged.add_argument("--device", choices=DEVICES)
    reported = commands.add_parser("report", help="what a finished run gets right, wrong and how surely")
    reported.add_argument("run", help="the run folder")
    reported.add_argument("--data", metavar="FOLDER", help="the folder learned from, or other class folders to judge it on")
    reported.add_argument("--device", choices=DEVICES)
    add_studies(commands)
    ejected = commands.add_parser("eject", help="write a finished run as one plain PyTorch script")
    ejected.add_argument("run", help="the run folder")
    ejected.add_argument("script", help="the file to write")
    add_file_commands(commands)
    kept = commands.add_parser("cache", help="list the presized photographs that are kept on disk, or remove them")
    kept.add_argument("--clear", action="store_true", help="remove them all")
    kept.add_argument("--folder", help="another cache folder than this user's own")
    return parser


def run_plan(args: argparse.Namespace) -> int:
    """`sheer plan FOLDER`."""
    learn, _, plan = prepare(args)
    if args.json:
        print(plan.to_json())
    else:
        print(plan)
        print(f"\n{estimate(learn.model, plan)}")
    return 0


def run_lr_find(args: argparse.Namespace) -> int:
    """`sheer lr-find FOLDER`."""
    check_sweep(args.start, args.end, args.steps)
    if args.plot:
        check_plot(args.plot)
    learn, recipe, _ = prepare(args)
    sweep = learn.lr_find(recipe, start=args.start, end=args.end, steps=args.steps)
    print(json.dumps(sweep.record()) if args.json else sweep)
    if args.plot:
        learn.plot_lr_find(sweep).savefig(args.plot)
        print(f"Plot written to {args.plot}", file=sys.stderr)
    return 0


def run_train(args: argparse.Namespace) -> int:
    """`sheer train FOLDER`."""
    started = time.perf_counter()
    if args.out:
        check_run_folder(Path(args.out).expanduser())
    learn, recipe, plan = prepare(args)
    out = Path(args.out or f"runs/{Path(args.folder).resolve().name}-{plan.short_hash()}").expanduser()
    if is_done(out, plan):
        print(f"{out} is the finished run of this very plan: already done, nothing was trained.")
        print(load(out).plan().short_hash())
        return 0
    print(f"{plan}\n")
    return train_into(learn, recipe, out, started)


def train_into(learn: Learner, recipe: Sequence[Draft], out: Path, started: float) -> int:
    """Carry out the recipe into a run folder, and print what a person wants to know then; 1 for a run that was stopped, else 0."""
    return _told(learn.write_to(out).run(recipe), out, started)


def _told(learn: Learner, out: Path, started: float) -> int:
    print(f"\n{learn.validate().report()}\n")
    if learn.data is not None and learn.data.plan.columns:
        print(f"{learn.baselines()}\n")
    seconds, memory = time.perf_counter() - started, peak_memory() / 2**30
    print(f"Run folder: {out}  ({seconds:.0f} s in all, {memory:.2f} GiB of memory at most)")
    return 0 if read_run(out).record.stop_reason.startswith(COMPLETED) else 1


def run_resume(args: argparse.Namespace) -> int:
    """`sheer resume RUN`."""
    started, out = time.perf_counter(), Path(args.run).expanduser()
    learn = resume(out, data=args.data, readers=args.readers, checkpoints=checkpoints_of(args))
    return _told(learn, out, started) if learn.data is not None else 0


def run_demo(args: argparse.Namespace) -> int:
    """`sheer demo`."""
    started = time.perf_counter()
    folder, learn, recipe = demo.prepare(quick=args.quick)
    plan = learn.plan(recipe)
    out = Path(args.out or f"runs/demo-{plan.short_hash()}").expanduser()
    if is_done(out, plan):
        print(f"{out} is the finished run of this very plan: already done. Remove it, or give --out, to see it again.")
    else:
        print(f"{plan}\n")
        if train_into(learn, recipe, out, started):
            return 1
    print("Carry it away as a plain PyTorch script with the same numbers, bit for bit:")
    print(f"  sheer eject {out} train_demo.py")
    print(f"  python train_demo.py {folder} --out demo-again")
    return 0


def run_predict(args: argparse.Namespace) -> int:
    """`sheer predict RUN FILES...`."""
    if args.csv:
        check_new(Path(args.csv))
    if Path(args.run).expanduser().is_file():
        bundle = load_bundle(args.run, device=args.device or "cpu")
        predictions = bundle.predict(table_file(args.files) if bundle.plan.data.columns else args.files)
    else:
        learn = load(args.run, device=args.device)
        predictions = learn.predict(table_file(args.files) if learn.plan().data.columns else args.files)
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
    """`sheer evaluate RUN FOLDER`."""
    predictions = load(args.run, device=args.device).evaluate(args.folder)
    print(json.dumps(predictions.metrics()) if args.json else predictions.report())
    return 0


def run_report(args: argparse.Namespace) -> int:
    """`sheer report RUN`."""
    print(report(args.run, args.data, args.device))
    return 0


def run_eject(args: argparse.Namespace) -> int:
    """`sheer eject RUN SCRIPT`."""
    script = eject(args.run, args.script)
    items = f"{script.stem}_items.csv" if read_run(args.run).plan.data.columns else "FOLDER"
    print(f"{script} written. Run it: python {script} {items} --out DIR")
    return 0


def run_cache(args: argparse.Namespace) -> int:
    """`sheer cache`."""
    cache = Cache(folder=args.folder) if args.folder else Cache()
    if args.clear:
        print(f"{cache.folder}: {cache.clear() / 2**20:.1f} MiB removed")
        return 0
    entries = cache.entries()
    rows = [
        (e.data_set, e.transform, str(e.pictures), f"{e.bytes / 2**20:.1f}", time.strftime("%Y-%m-%d %H:%M", time.localtime(e.last_used)))
        for e in entries
    ]
    if rows:
        print(columns(("data set", "transform", "pictures", "MiB", "last used"), rows, right=(2, 3)))
    total = sum(entry.bytes for entry in entries) / 2**20
    print(f"{cache.folder}: {total:.1f} MiB of at most {cache.limit / 2**20:,.0f}; sheer cache --clear removes them")
    return 0


COMMANDS = {
    "demo": run_demo,
    "train": run_train,
    "resume": run_resume,
    "plan": run_plan,
    "lr-find": run_lr_find,
    "predict": run_predict,
    "evaluate": run_evaluate,
    "report": run_report,
    "eject": run_eject,
    "cache": run_cache,
    **FILE_COMMANDS,
    **STUDIES,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; errors that sheer raises are one paragraph on standard error, status 2."""
    args = _parser().parse_args(arguments)
    try:
        return COMMANDS[args.command](args)
    except SheerError as error:
        print(f"sheer: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("sheer: interrupted; sheer resume RUN, or the same command again, goes on from the last checkpoint.", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 0


if __name__ == "__main__":
    sys.exit(main())
