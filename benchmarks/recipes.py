"""What candidates for the default recipe reach, sets x backbones x seeds, paired: `python benchmarks/recipes.py FOLDER ... --out FILE`.

Each folder has class folders in `train` and `valid`. Every run is a line of FILE (JSON), written when it is done; what is there
already is not run again, so that a measurement can be stopped, and shared between processes (`--part 0/2`, `--part 1/2`). With
`--table` nothing is run: the differences to the first candidate are printed, paired over sets, backbones and seeds.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import time
from pathlib import Path
from typing import Any

import sheer

BACKBONES = ("tf_efficientnet_lite0", "mobilenetv2_100", "tf_efficientnet_lite2")


def candidates(epochs: int) -> dict[str, tuple[dict[str, Any], Any]]:
    """By name: the learner's keywords, and what trains it."""
    flat = sheer.recipes.one_cycle(epochs, rate=2e-4)
    probe = sheer.recipes.fine_tune(1)[:1]
    return {
        "fitted, then fine_tune": ({}, lambda learn: learn.fine_tune(epochs)),
        "an epoch of the head, two layers": ({"head": "concat_pool"}, lambda learn: learn.fine_tune(epochs, freeze_epochs=1)),
        "an epoch of the head, one layer": ({}, lambda learn: learn.fine_tune(epochs, freeze_epochs=1)),
        "fitted, then the rate of a trained head": ({}, lambda learn: learn.fine_tune(epochs, 2e-3)),
        "fitted, then four times the rate": ({}, lambda learn: learn.fine_tune(epochs, 8e-3)),
        "fitted, then one rate of 2e-4": ({}, lambda learn: learn.run(probe).unfreeze().run(flat)),
        "fitted, then rates 1e-4 to 1e-3": ({}, lambda learn: learn.run(probe).unfreeze().fit_one_cycle(epochs, slice(1e-4, 1e-3))),
    }


def run(folder: Path, backbone: str, seed: int, name: str, args: argparse.Namespace) -> dict[str, Any]:
    """One run: accuracy after each epoch, and the seconds of each."""
    options, train = candidates(args.epochs)[name]
    data = sheer.images(folder)
    learn = sheer.learner(data, backbone, weights="package", size=args.size, seed=seed, quiet=True, **options)
    started = time.perf_counter()
    train(learn)
    return {
        "set": folder.name,
        "backbone": backbone,
        "seed": seed,
        "candidate": name,
        "accuracy": [row.metrics["accuracy"] for row in learn.history],
        "valid_loss": [row.valid_loss for row in learn.history],
        "seconds": [row.seconds for row in learn.history],
        "all_seconds": time.perf_counter() - started,
    }


def table(rows: list[dict[str, Any]], first: str) -> str:
    """Mean accuracy of each candidate where the first one has run too, and the paired difference with its standard error."""
    by = {(row["set"], row["backbone"], row["seed"], row["candidate"]): row for row in rows}
    sets = sorted({row["set"] for row in rows})
    lines = ["| candidate | runs | " + " | ".join(sets) + " | all | difference, paired | seconds |", "|---|---|" + "---|" * (len(sets) + 3)]
    values = {name: {key[:3]: row["accuracy"][-1] for key, row in by.items() if key[3] == name} for name in {key[3] for key in by}}
    values["fitted, nothing after"] = {key[:3]: row["accuracy"][0] for key, row in by.items() if key[3] == first}
    for name in sorted(values, key=lambda one: (one != first, one)):
        both = sorted(set(values[name]) & set(values[first]))
        if not both:
            continue
        gaps = [values[name][key] - values[first][key] for key in both]
        error = statistics.stdev(gaps) / len(gaps) ** 0.5 if len(gaps) > 1 else float("nan")
        means = [statistics.mean([values[name][key] for key in both if key[0] == one] or [float("nan")]) for one in sets]
        every = statistics.mean(values[name][key] for key in both)
        spent = [row["all_seconds"] for key, row in by.items() if key[3] == name]
        cells = [*(f"{mean:.3f}" for mean in means), f"{every:.3f}", f"{statistics.mean(gaps):+.3f} +- {1.96 * error:.3f}"]
        lines.append(f"| {name} | {len(both)} | " + " | ".join(cells) + f" | {statistics.mean(spent) if spent else float('nan'):.0f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="*", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--part", default="0/1")
    parser.add_argument("--candidates", nargs="*")
    parser.add_argument("--table", action="store_true")
    args = parser.parse_args()
    rows = [json.loads(line) for line in args.out.read_text().splitlines()] if args.out.exists() else []
    names = args.candidates or list(candidates(args.epochs))
    part, parts = map(int, args.part.split("/"))
    every = list(itertools.product(range(args.seeds), names, args.folders, BACKBONES))
    for number, (seed, name, folder, backbone) in enumerate(every):
        done = any((r["set"], r["backbone"], r["seed"], r["candidate"]) == (folder.name, backbone, seed, name) for r in rows)
        if args.table or done or number % parts != part:
            continue
        rows.append(run(folder, backbone, seed, name, args))
        with args.out.open("a") as file:
            file.write(json.dumps(rows[-1]) + "\n")
    print(table(rows, names[0]))


if __name__ == "__main__":
    main()
