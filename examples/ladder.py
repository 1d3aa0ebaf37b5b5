"""A flower article's ladder, replayed on any class folders with train and test: each step's worth, over seeds, with a paired test.

python examples/ladder.py FOLDER [--size 64] [--seeds 3] [--epochs 2] [--out docs/ladder.md]

The article trained a baseline, then added presizing, a rate from lr_find, one-cycle, discriminative rates, more epochs and a deeper
network, and left progressive resizing, test-time augmentation, mixup, dropout and weight decay for later. Every row is judged on the
folder `test`, which nothing is chosen on.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

import sheer
from sheer.plan.plan import Part

T_95 = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What every row of one seed shares; `rate` is what lr_find said."""

    data: sheer.Data
    test: str
    size: int
    epochs: int
    seed: int
    rate: float

    def learner(self, model: str = "tf_efficientnet_lite0", **options: object) -> sheer.Learner:
        plain: dict[str, object] = {"augmentation": "light", "size": self.size}
        return sheer.learner(self.data, model, weights="package", seed=self.seed, quiet=True, **(plain | options))  # type: ignore[arg-type]

    def one_cycles(self, learn: sheer.Learner, upper: object, epochs: int) -> sheer.Learner:
        """One epoch of the head, then everything at `upper`."""
        learn.freeze().fit_one_cycle(1, self.rate)
        return learn.unfreeze().fit_one_cycle(epochs, upper)  # type: ignore[arg-type]

    def ladder(self, learn: sheer.Learner) -> sheer.Learner:
        """The row "more epochs", which later rows change in one thing."""
        return self.one_cycles(learn, slice(self.rate / 100, self.rate / 2), self.epochs)


Row = Callable[[Setting], sheer.Learner]
ROWS: dict[str, tuple[str, Row]] = {
    "baseline (squished, not augmented)": ("", lambda s: s.learner(resize="squish", augmentation="none").fine_tune(1)),
    "presizing": ("baseline (squished, not augmented)", lambda s: s.learner().fine_tune(1)),
    "rate from lr_find": ("presizing", lambda s: s.learner().fine_tune(1, s.rate)),
    "one-cycle, one rate": ("rate from lr_find", lambda s: s.one_cycles(s.learner(), s.rate / 10, 1)),
    "discriminative rates": ("one-cycle, one rate", lambda s: s.one_cycles(s.learner(), slice(s.rate / 100, s.rate / 2), 1)),
    "more epochs": ("discriminative rates", lambda s: s.ladder(s.learner())),
    "deeper (Lite2)": ("more epochs", lambda s: s.ladder(s.learner("tf_efficientnet_lite2"))),
    "progressive resizing": (
        "more epochs",
        lambda s: s.learner().run(sheer.recipes.progressive(1, sizes=(s.size, s.size * 3 // 2), rate=s.rate)),
    ),
    "test-time augmentation": ("more epochs", lambda s: s.ladder(s.learner())),
    "mixup": ("more epochs", lambda s: s.ladder(s.learner(mix="mixup"))),
    "dropout .25, not .5": ("more epochs", lambda s: s.ladder(s.learner(head=Part(name="concat_pool", settings=(("dropout", 0.25),))))),
    "weight decay .1, not .01": ("more epochs", lambda s: s.ladder(s.learner(weight_decay=0.1))),
}


def hits_of(name: str, learn: sheer.Learner, test: str) -> list[bool]:
    """Whether each test item is right, in item order."""
    files = sorted(str(path) for path in Path(test).rglob("*") if path.is_file())
    table = learn.predict(files, tta=4 if name == "test-time augmentation" else 0)
    return [label == Path(item).parent.name for label, item in zip(table.labels, table.items, strict=True)]


def measured(args: argparse.Namespace) -> dict[str, list[dict[str, object]]]:
    """Every row's result for every seed; what the work file has already is not done again."""
    work = Path(args.work)
    done: dict[str, dict[str, object]] = json.loads(work.read_text()) if work.is_file() else {}
    data = sheer.images(args.folder)
    rates: dict[int, float] = {}
    for seed in range(args.seeds):
        for name, (_, row) in ROWS.items():
            key = f"{name}|{seed}|{args.size}|{args.epochs}"
            if key in done:
                continue
            if seed not in rates:
                blank = Setting(data=data, test="", size=args.size, epochs=args.epochs, seed=seed, rate=1.0)
                found = blank.learner().freeze().lr_find(slice(1.0)).suggestions()["valley"]
                rates[seed] = found if found is not None else 2e-3
            setting = Setting(data=data, test="", size=args.size, epochs=args.epochs, seed=seed, rate=rates[seed])
            started = time.perf_counter()
            learn = row(setting)
            hits = hits_of(name, learn, os.path.join(args.folder, "test"))
            done[key] = {"hits": hits, "seconds": time.perf_counter() - started, "rate": rates[seed]}
            work.write_text(json.dumps(done))
            print(f"seed {seed}  {name}: {statistics.fmean(hits):.4f}", flush=True)
    return {name: [done[f"{name}|{seed}|{args.size}|{args.epochs}"] for seed in range(args.seeds)] for name in ROWS}


def half_width(values: list[float]) -> float:
    """Half of the 95 % interval of a mean over seeds (Student's t)."""
    return T_95[len(values) - 1] * statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan


def mcnemar(one: np.ndarray, other: np.ndarray) -> float:
    """The exact two-sided p-value of McNemar's test on paired hits."""
    only_one, only_other = int((one & ~other).sum()), int((other & ~one).sum())
    count = only_one + only_other
    tail = sum(math.comb(count, k) for k in range(min(only_one, only_other) + 1)) / 2**count
    return min(1.0, 2 * tail)


def hits_matrix(runs: list[dict[str, object]]) -> np.ndarray:
    """Whether each item is right, bool (seeds, items)."""
    return np.array([run["hits"] for run in runs], dtype=bool)


def table(results: dict[str, list[dict[str, object]]]) -> str:
    """The rows as Markdown."""
    lines = ["| step | accuracy | against | difference | McNemar p | verdict | seconds |", "|---|---|---|---|---|---|---|"]
    hits = {name: hits_matrix(runs) for name, runs in results.items()}
    for name, (before, _) in ROWS.items():
        scores = hits[name].mean(axis=1).tolist()
        seconds = statistics.median(float(str(run["seconds"])) for run in results[name])
        cells = [name, f"{statistics.fmean(scores):.3f} ± {half_width(scores):.3f}"]
        if before:
            gaps = (hits[name].mean(axis=1) - hits[before].mean(axis=1)).tolist()
            mean, half = statistics.fmean(gaps), half_width(gaps)
            verdict = "within seed noise" if not abs(mean) > half else "better" if mean > 0 else "worse"
            cells += [before, f"{mean:+.3f} ± {half:.3f}", f"{mcnemar(hits[name].ravel(), hits[before].ravel()):.3g}", verdict]
        else:
            cells += ["", "", "", ""]
        lines.append("| " + " | ".join([*cells, f"{seconds:.0f}"]) + " |")
    return "\n".join(lines)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--work", default="ladder.json", help="results so far; an interrupted ladder goes on from it")
    parser.add_argument("--out", help="write the page here")
    args = parser.parse_args()
    results = measured(args)
    rates = sorted({float(str(run["rate"])) for runs in results.values() for run in runs})
    count = len(hits_matrix(results[next(iter(ROWS))])[0])
    page = (
        f"# The article's ladder on {Path(args.folder).resolve().name}\n\n"
        f"Written by `python examples/ladder.py {Path(args.folder).name} --size {args.size} --seeds {args.seeds} --epochs {args.epochs}` "
        f"on {torch.get_num_threads()} threads ({platform.machine()}), torch {torch.__version__}. EfficientNet-Lite0 with ImageNet "
        f"weights unless said otherwise. Accuracy on {count} test photographs, mean over seeds with "
        "its 95 % interval (Student's t); differences are paired by seed, McNemar's test is over the items of all seeds. A "
        "difference whose interval holds 0 is called seed noise. Rows up to the deeper network add up; each row after it changes one "
        f"thing of `more epochs`. lr_find said {', '.join(f'{rate:.2g}' for rate in rates)}. Seconds are medians of "
        f"whole runs.\n\n{table(results)}\n"
    )
    print(page)
    if args.out:
        Path(args.out).write_text(page)


if __name__ == "__main__":
    main()
