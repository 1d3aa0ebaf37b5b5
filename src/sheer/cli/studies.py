"""Commands that say why and what if: a few lines each over the public function of the same name."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from sheer.cli.doctor import add_options, run_doctor
from sheer.cli.options import add_plan_options, data_of, prepare
from sheer.loading import load
from sheer.record.again import data_again
from sheer.record.run import read_run
from sheer.study.ablate.ablate import ablate
from sheer.study.compare.compare import compare
from sheer.study.diff.diff import diff
from sheer.study.explain.explain import explain
from sheer.study.inspect.inspect import inspect


def _inspect_options(options: argparse.ArgumentParser) -> None:
    add_plan_options(options)
    options.add_argument("--run", help="look with the model of this run folder")
    options.add_argument("--items", type=int, default=128, help="training items to look at (default: %(default)s)")
    options.add_argument("--json", action="store_true", help="print the report as JSON")


def _compare_options(options: argparse.ArgumentParser) -> None:
    options.add_argument("a", help="a run folder, an ejected script (it is executed), or FILE.py:NAME of a sheer.Loop")
    options.add_argument("b", help="what is described against a")
    options.add_argument("--data", metavar="FOLDER", help="where the photographs lie now, if they were moved, or for a script alone")
    options.add_argument("--steps", type=int, default=3, help="updates (default: %(default)s)")
    options.add_argument("--exact", action="store_true", help="bit for bit")
    options.add_argument("--own-weights", action="store_true", help="compare the weights as they are, instead of giving b those of a")


def _explain_options(options: argparse.ArgumentParser) -> None:
    options.add_argument("run", help="the run folder")
    options.add_argument("--markdown", action="store_true", help="print Markdown")


def _diff_options(options: argparse.ArgumentParser) -> None:
    options.add_argument("a", help="a run folder, or the name of a profile")
    options.add_argument("b", help="the same")
    options.add_argument("--markdown", action="store_true", help="print Markdown")


def _ablate_options(options: argparse.ArgumentParser) -> None:
    options.add_argument("run", help="the run folder")
    options.add_argument("--to", required=True, help="a profile, or another run folder")
    options.add_argument("--data", metavar="FOLDER", help="where the files that the run learned from lie now, if they were moved")
    options.add_argument("--seeds", type=int, default=3, help="(default: %(default)s)")
    options.add_argument("--decisions", help="which, with commas between, in the order in which they are added up (default: all)")
    options.add_argument("--no-waterfall", action="store_true", help="single changes only: nearly half the runs")
    options.add_argument("--processes", type=int, default=1, help="variants that train at a time (default: %(default)s)")
    options.add_argument("--out", help="the folder of the variants' runs (default: RUN/ablation-TO)")
    options.add_argument("--markdown", action="store_true", help="print Markdown")


def run_inspect(args: argparse.Namespace) -> int:
    """`sheer inspect FOLDER`."""
    if args.run:
        report = inspect(load(args.run, data=data_of(args), device=args.device), items=args.items)
    else:
        learn, recipe, _ = prepare(args)
        report = inspect(learn, recipe, items=args.items)
    print(json.dumps(report.record()) if args.json else report)
    return 0


def run_compare(args: argparse.Namespace) -> int:
    """`sheer compare A B`; the status is 1 where they differ."""
    weights = "own" if args.own_weights else "copy"
    found = compare(args.a, args.b, steps=args.steps, exact=args.exact, weights=weights, data=args.data)
    print(found)
    return 0 if found.equal else 1


def run_explain(args: argparse.Namespace) -> int:
    """`sheer explain RUN`."""
    explanation = explain(args.run)
    print(explanation.markdown() if args.markdown else explanation)
    return 0


def run_diff(args: argparse.Namespace) -> int:
    """`sheer diff A B`."""
    found = diff(args.a, args.b)
    print(found.markdown() if args.markdown else found)
    return 0


def run_ablate(args: argparse.Namespace) -> int:
    """`sheer ablate RUN --to PROFILE`."""
    data = data_again(Path(args.run).expanduser(), read_run(args.run).plan, args.data)
    found = ablate(
        args.run,
        args.to,
        data=data,
        out=args.out or Path(args.run) / f"ablation-{Path(args.to).name}",
        seeds=args.seeds,
        decisions=args.decisions.split(",") if args.decisions else None,
        waterfall=not args.no_waterfall,
        processes=args.processes,
    )
    print(found.markdown() if args.markdown else f"\n{found}")
    return 0


COMMANDS = {
    "inspect": (_inspect_options, run_inspect),
    "compare": (_compare_options, run_compare),
    "explain": (_explain_options, run_explain),
    "diff": (_diff_options, run_diff),
    "ablate": (_ablate_options, run_ablate),
    "doctor": (add_options, run_doctor),
}
