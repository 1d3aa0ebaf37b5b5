"""The commands that make a plan and carry it out."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from sheer.cli import demo
from sheer.cli.options import add_machine_options, add_plan_options, checkpoints_of, prepare
from sheer.interpret.plots import check_plot
from sheer.learner import Learner
from sheer.loading import load, resume
from sheer.loop.estimate import estimate, peak_memory
from sheer.loop.lr_find import check_sweep
from sheer.plan.recipes import Draft
from sheer.record.checkpoint import COMPLETED
from sheer.record.held import is_done
from sheer.record.run import check_run_folder, read_run


def _demo_options(options: argparse.ArgumentParser) -> None:
    options.add_argument("--quick", action="store_true", help="handwritten digits, in under 40 seconds")
    options.add_argument("--out", help="the run folder (default: runs/demo-PLAN)")


def _train_options(options: argparse.ArgumentParser) -> None:
    add_plan_options(options)
    options.add_argument("--no-cache", action="store_true", help="keep no presized photographs on disk; the pixels are the same")
    add_machine_options(options)


def _resume_options(options: argparse.ArgumentParser) -> None:
    options.add_argument("run", help="the run folder")
    options.add_argument("--data", metavar="FOLDER", help="where the files lie now, if they were moved")
    add_machine_options(options)


def _plan_options(options: argparse.ArgumentParser) -> None:
    add_plan_options(options)
    options.add_argument("--json", action="store_true", help="print the plan's JSON and nothing else")


def _lr_find_options(options: argparse.ArgumentParser) -> None:
    add_plan_options(options)
    options.add_argument("--start", type=float, default=1e-7, help="lowest rate of the last stage (default: %(default)s)")
    options.add_argument("--end", type=float, default=10.0, help="highest rate of the last stage (default: %(default)s)")
    options.add_argument("--steps", type=int, default=100, help="training steps (default: %(default)s)")
    options.add_argument("--json", action="store_true", help="print rates, losses and suggestions as JSON")
    options.add_argument("--plot", metavar="FILE", help="write a picture, such as sweep.png")


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
    data = learn.plan().data
    if data.valid_items:
        print(f"\n{learn.validate().report()}\n")
    if data.valid_items and data.columns:
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


COMMANDS = {
    "demo": (_demo_options, run_demo),
    "train": (_train_options, run_train),
    "resume": (_resume_options, run_resume),
    "plan": (_plan_options, run_plan),
    "lr-find": (_lr_find_options, run_lr_find),
}
