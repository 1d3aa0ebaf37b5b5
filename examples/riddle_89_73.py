"""Why one number instead of a slice took a "frozen" network from 89 to 73 %: the four runs of the thread, and what each decision is worth.

python examples/riddle_89_73.py [FOLDER ...] [--items 900] [--epochs 4] [--seeds 3] [--json OUT] [--markdown docs/riddle.md]

The thread trained a frozen fastai 1 learner on CIFAR-10 as A (`fit(3)`) and B (`fit(3, lr=0.003)`), on pictures enlarged to 64 px (X)
and as they are, 32 px (Y). A number goes to every layer group, nothing given means slice(3e-3), and norm layers of a frozen body train:
so they train at 3e-3 in B and at a tenth in A. Then A-X goes step by step to a plain loop that keeps its norm layers still.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from common import data_sets, frame, options

import sheer
from sheer.plan.plan import Plan
from sheer.study.ablate.ablation import Ablation

MODELS = ("tf_efficientnet_lite0", "mobilenetv2_100")
RATE = 3e-3
ABOUT = (
    'A forum thread asked why fastai reached 89 % on CIFAR-10 where the "same" network in TensorFlow and in plain PyTorch stayed at 80 and '
    "72.5 %, and why `fit(3, lr=0.003)` instead of `fit(3)` took it from 89 to 73 % although the body was frozen. Frozen was not frozen: "
    "the norm layers trained, at a tenth of the head's rate in A (nothing given means `slice(3e-3)`) and at the head's own rate in B, and "
    "`true_wd=False` did not switch weight decay off but put it into Adam's gradients, norm layers included. The mechanism is the same "
    "for every network; what it is worth, and even its sign, is not: it has to be measured."
)


def plan_of(
    data: sheer.Data, model: str, weights: str, epochs: int, *, size: int, rate: float | slice, norm: str, decay: float, beta2: float
) -> Plan:
    """The thread's learner: fastai 1 with true_wd=False (the decay is added to the gradient), frozen, at a constant rate."""
    learn = sheer.learner(
        data,
        model,
        weights=weights,
        profile="fastai-1.0",
        size=size,
        norm=norm,
        weight_decay=decay,
        optimizer=("adam", {"beta2": beta2}),
        quiet=True,
    )
    return learn.plan(sheer.recipes.constant(epochs, rate=rate, profile="fastai-1.0"))


WAYS: tuple[tuple[str, dict[str, object], list[str], str], ...] = (
    ("B-Y", {"rate": RATE, "size": 0.5}, ["rates", "size"], "Rate and size, from A-X to B-Y:"),
    (
        "plain PyTorch",
        {"norm": "adapt", "decay": 0.0, "beta2": 0.999},
        ["norm", "weight_decay", "optimizer.beta2"],
        "To a plain PyTorch loop with requires_grad=False, in which the statistics of norm layers still move:",
    ),
    ("norm layers still", {"norm": "frozen"}, ["norm"], "To norm layers of which nothing moves, as in Keras:"),
)
"""Where each way from A-X ends, what differs there (size as a share), in which order it is added up, and what the page calls it."""

ROWS = (
    ("A-X", 0, "A-X", "89 %"),
    ("B-X", 0, "rates", "73 %"),
    ("A-Y", 0, "size", "78 %"),
    ("B-Y", 0, "up to size", "68 %"),
    ("plain PyTorch", 1, "up to optimizer.beta2", "72.5 %"),
    ("norm layers still", 2, "norm", "80 % (Keras, another network at 224 px)"),
)
"""The runs that the thread compared: which way has it under which name, and what the thread saw with ResNet-50."""


def ways_of(data: sheer.Data, model: str, out: Path, args: argparse.Namespace) -> list[Ablation]:
    """The three ways from A-X; runs that they share are done once."""
    start = {"size": args.size, "rate": slice(RATE), "norm": "train", "decay": 0.01, "beta2": 0.99}
    plans = []
    for changed in ({}, *(way[1] for way in WAYS)):
        values: dict[str, Any] = start | changed
        values["size"] = args.size // 2 if values["size"] == 0.5 else args.size
        plans.append(plan_of(data, model, args.weights, args.epochs, **values))
    found = []
    for (name, _, decisions, _), plan in zip(WAYS, plans[1:], strict=True):
        way = sheer.ablate(
            plans[0],
            plan,
            data=data,
            out=out,
            decisions=decisions,
            seeds=args.seeds,
            processes=args.processes,
            waterfall=len(decisions) > 1,
        )
        outcomes = {"A-X" if key == way.a else key: ones for key, ones in way.outcomes.items()}
        found.append(replace(way, a="A-X", b=name, outcomes=outcomes))
    return found


def main() -> None:
    """Run the command line."""
    parser = options(__doc__.splitlines()[0], archives=("cifar10-12k.tar",), items=900, epochs=4)
    parser.add_argument("--models", nargs="+", default=list(MODELS), help="(default: %(default)s)")
    args = parser.parse_args()
    body: list[str] = []
    kept: list[dict[str, object]] = []
    for name, data in data_sets(args):
        for model in args.models:
            ways = ways_of(data, model, Path(args.work) / "riddle" / f"{name}-{model}", args)
            body += ["", f"## {model} on {name}", "", "| run | accuracy | in the thread (ResNet-50) |", "|---|---|---|"]
            for run, number, variant, thread in ROWS:
                body.append(f"| {run} | {ways[number].level(variant)} | {thread} |")
                ones = ways[number].outcomes[variant]
                values, seconds = [one.metrics.get("accuracy") for one in ones], [one.seconds for one in ones]
                kept.append({"data": name, "model": model, "run": run, "accuracy": values, "seconds": seconds})
            for (_, _, _, title), way in zip(WAYS, ways, strict=True):
                body += ["", title, "", way.markdown().rstrip()]
    page = frame("89 or 73 %: what each decision is worth", ABOUT, args, body)
    print(page)
    if args.markdown:
        Path(args.markdown).write_text(page)
    if args.json:
        Path(args.json).write_text(json.dumps(kept, indent=1))


if __name__ == "__main__":
    main()
