"""The command line: runs the peers in turn, each with each seed in a process of its own, and writes what they measured."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.peers import report
from benchmarks.peers.peers import PEERS
from benchmarks.peers.prepare import lay_out, machine, write_weights
from benchmarks.peers.task import Task, split_hash

from sheer.errors import PlanError, SheerError, nearest
from sheer.interpret.plots import check_plot

ROOT = Path(__file__).resolve().parents[2]


def options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description="Peers side by side: accuracy against seconds.")
    parser.add_argument("--data", metavar="FOLDER", help="class folders, with or without train and valid above them")
    parser.add_argument("--valid", help="the share to hold out, or the name of the folder to hold out, as for `sheer train`")
    parser.add_argument("--model", default="tf_efficientnet_lite0", help="a timm name (default: %(default)s)")
    parser.add_argument("--weights", help="default (timm's own), package, none, or a file (default: package where one has them)")
    parser.add_argument("--size", type=positive, default=160, help="side in pixels (default: %(default)s)")
    parser.add_argument("--epochs", type=positive, default=2, help="after the frozen one (default: %(default)s)")
    parser.add_argument("--seeds", type=positive, default=3, help="(default: %(default)s)")
    parser.add_argument("--turns", type=positive, default=1, help="how often each peer runs with each seed (default: %(default)s)")
    parser.add_argument("--peers", default=",".join(PEERS), help="in this order (default: %(default)s)")
    parser.add_argument("--json", metavar="OUT", help="write every run and what follows from them here")
    parser.add_argument("--plot", metavar="FILE", help="write accuracy against seconds as a picture, such as peers.png")
    parser.add_argument("--report", nargs="+", metavar="OUT", help="run nothing: read what --json wrote, and pool it")
    parser.add_argument("--write", metavar="PAGE", help="with --report: write the page, such as docs/performance.md, over the old one")
    return parser


def positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: give a whole number from 1 on")
    return int(text)


def run(peer: str, task: Task, work: Path) -> dict[str, Any]:
    """The peer's result, from a process with an empty cache of pictures; its output is shown where it fails."""
    given, found = work / "task.json", work / "result.json"
    given.write_text(json.dumps(asdict(task)))
    found.unlink(missing_ok=True)
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")  # of downloads: they stay where they are
    with tempfile.TemporaryDirectory(dir=work) as cache:
        there = {"HF_HOME": str(caches / "huggingface"), "TORCH_HOME": str(caches / "torch")} | os.environ
        path = os.pathsep.join([str(ROOT), *(os.path.abspath(entry) for entry in sys.path if entry)])
        command = [sys.executable, "-m", "benchmarks.peers.child", peer, str(given), str(found), repr(time.time())]
        done = subprocess.run(
            command, env=there | {"XDG_CACHE_HOME": cache, "PYTHONPATH": path}, cwd=work, capture_output=True, text=True, errors="replace"
        )
    result = json.loads(found.read_text()) if found.is_file() else {"failed": f"the process ended with {done.returncode}"}
    if "failed" in result:
        print(done.stderr[-3000:], file=sys.stderr)
    return result


def compared(args: argparse.Namespace, given: str, peers: list[str], work: Path) -> dict[str, Any]:
    """All runs and the facts around them."""
    folder, weights = work / "photographs", work / "weights.pth"
    facts = write_weights(args.model, args.weights, weights)
    data = lay_out(args.data, folder, held_out(args.valid))
    split = split_hash(str(folder), *(map(str, (folder / part).glob("*/*")) for part in ("train", "valid")))
    source = {"name": Path(args.data).resolve().name, "classes": len(data.classes), "split": str(data.plan.split), "split_sha256": split}
    counts = {"train_items": len(data.train), "valid_items": len(data.valid), "unreadable": len(data.skipped)}
    result = {"command": given, "data": source | counts, **facts, "size": args.size, "epochs": args.epochs, "seeds": args.seeds}
    result |= {"turns": args.turns, "machine": machine(), "peers": peers, "skipped": {}, "runs": []}
    for turn in range(args.turns):
        for seed in range(args.seeds):
            for peer in [name for name in peers if name not in result["skipped"]]:
                task = Task(folder=str(folder), model=facts["model"], weights=str(weights), size=args.size, epochs=args.epochs, seed=seed)
                load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
                found = run(peer, task, work)
                if "skipped" in found:
                    result["skipped"][peer] = found["skipped"]
                elif found.get("split_sha256", split) != split:
                    found = {"failed": "it did not learn from, or was not judged on, the files that were laid out"}
                if "skipped" not in found:
                    result["runs"].append({"peer": peer, "seed": seed, "turn": turn, "load_before": load, **found})
                print(f"seed {seed}  {peer:<13} {told(found)}", flush=True)
                if args.json:
                    Path(f"{args.json}.part").write_text(json.dumps(result, indent=1))
    return result


def told(found: dict[str, Any]) -> str:
    """A run in a line."""
    if "skipped" in found or "failed" in found:
        return f"skipped: {found['skipped']}" if "skipped" in found else f"failed: {found['failed']}"
    return "  ".join(f"{seconds:.1f} s {accuracy:.3f}" for seconds, accuracy in found["curve"])


def held_out(text: str | None) -> float | str | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return text


def command(args: argparse.Namespace, words: Sequence[str]) -> str:
    """The command as it can be given anywhere: files by their names alone."""
    files = {args.data, args.json, args.plot, *([args.weights] if args.weights and os.path.exists(args.weights) else [])}
    return shlex.join(["python", "-m", "benchmarks.peers", *(Path(word).name if word in files else word for word in words)])


def check(args: argparse.Namespace) -> list[str]:
    """The peers asked for; a SheerError for what cannot be done, before anything is."""
    if args.write and not args.report:
        raise PlanError("--write is for --report OUT [OUT ...].")
    if not args.data and not args.report:
        raise PlanError("Give --data FOLDER to compare peers on it, or --report OUT [OUT ...] to read what was measured.")
    if args.json and Path(args.json).exists():
        raise PlanError(f"{args.json} exists. Nothing was overwritten: give another name, or remove it.")
    if args.json and not Path(args.json).absolute().parent.is_dir():
        raise PlanError(f"{args.json}: there is no folder {Path(args.json).parent}. Make it first.")
    if args.plot:
        check_plot(args.plot)
    peers = list(dict.fromkeys(name.strip() for name in args.peers.split(",")))
    for name in peers:
        if name not in PEERS:
            raise PlanError(f"--peers: {name!r} is no peer. {nearest(name, PEERS)}")
    return peers


def main(words: Sequence[str] | None = None) -> int:
    """Run the command line; 1 where a peer failed, 2 where nothing could be done."""
    words = sys.argv[1:] if words is None else words
    args = options().parse_args(words)
    try:
        peers = check(args)
        if args.report:
            results = [report.read(file) for file in args.report]
        else:
            with tempfile.TemporaryDirectory(prefix="peers-") as work:
                results = [compared(args, command(args, words), peers, Path(work))]
    except SheerError as error:
        print(f"benchmarks.peers: {error}", file=sys.stderr)
        return 2
    results = [result | report.summary(result) for result in results]
    for result in results:
        print(f"\n{report.text(result)}")
    if len(results) > 1:
        print(f"\n{report.pooled_text(results)}")
    if args.json and not args.report:
        Path(f"{args.json}.part").write_text(json.dumps(results[0], indent=1))
        Path(f"{args.json}.part").rename(args.json)
    if args.plot:
        report.plot(results).savefig(args.plot, dpi=90)
    if args.write:
        words = ["--report", *(Path(file).name for file in args.report), "--write", os.path.relpath(args.write, ROOT)]
        Path(args.write).write_text(report.page(results, shlex.join(["python", "-m", "benchmarks.peers", *words])))
    return int(any("failed" in one for result in results for one in result["runs"]))


if __name__ == "__main__":
    sys.exit(main())
