"""Why one number instead of a slice took a "frozen" network from 89 to 73 %: the four runs of the thread, and what each decision is worth.

python examples/riddle_89_73.py [FOLDER ...] [--items 900] [--epochs 4] [--seeds 3] [--json OUT] [--markdown docs/riddle.md]

The thread trained a frozen fastai 1 learner on CIFAR-10 as A (`fit(3)`) and B (`fit(3, lr=0.003)`), on pictures enlarged to 64 px (X)
and as they are, 32 px (Y). A number goes to every layer group, nothing given means slice(3e-3), and norm layers of a frozen body train:
so they train at 3e-3 in B and at a tenth in A. Then A-X goes step by step to a plain loop that keeps its norm layers still.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from common import data_sets, frame, options

import sheer
from sheer.plan.plan import Plan
from sheer.study.ablation import Ablation
from sheer.study.variants import Outcome

MODELS = ("tf_efficientnet_lite0", "mobilenetv2_100")
RATE = 3e-3
THREAD = {"A-X": "89 %", "B-X": "73 %", "A-Y": "78 %", "B-Y": "68 %"}
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


def four_runs(found: Ablation) -> dict[str, tuple[Outcome, ...]]:
    """The thread's names of the four combinations of rate and size."""
    return dict(zip(("A-X", "B-X", "A-Y", "B-Y"), (found.outcomes[name] for name in (found.a, "rates", "size", "up to size")), strict=True))


def renamed(found: Ablation, a: str, b: str) -> Ablation:
    """With names that people know for the two ends."""
    outcomes = {a if name == found.a else name: ones for name, ones in found.outcomes.items()}
    return replace(found, a=a, b=b, outcomes=outcomes)


def main() -> None:
    """Run the command line."""
    parser = options(__doc__.splitlines()[0], items=900, epochs=4)
    parser.add_argument("--models", nargs="+", default=list(MODELS), help="(default: %(default)s)")
    args = parser.parse_args()
    body: list[str] = []
    kept: list[dict[str, object]] = []
    for name, data in data_sets(args):
        for model in args.models:
            out = Path(args.work) / "riddle" / f"{name}-{model}"
            shared = {"size": args.size, "rate": slice(RATE), "norm": "train", "decay": 0.01, "beta2": 0.99}
            a_x, b_y, still = (
                plan_of(data, model, args.weights, args.epochs, **(shared | changed))  # type: ignore[arg-type]
                for changed in ({}, {"rate": RATE, "size": args.size // 2}, {"norm": "frozen", "decay": 0.0, "beta2": 0.999})
            )
            common = {"data": data, "out": out, "seeds": args.seeds, "processes": args.processes}
            thread = sheer.ablate(a_x, b_y, decisions=["rates", "size"], **common)
            runs = four_runs(thread)
            plain = sheer.ablate(a_x, still, decisions=["norm", "weight_decay", "optimizer.beta2"], **common)
            first, second = renamed(thread, "A-X", "B-Y"), renamed(plain, "A-X", "a loop that keeps norm layers still")
            body += ["", f"## {model} on {name}", "", "| run | accuracy | in the thread (ResNet-50) |", "|---|---|---|"]
            levels = {"A-X": "A-X", "B-X": "rates", "A-Y": "size", "B-Y": "up to size"}
            body += [f"| {run} | {first.level(levels[run])} | {THREAD[run]} |" for run in runs]
            body += [
                "",
                "Rate and size, from A-X to B-Y:",
                "",
                first.markdown(),
                "From A-X to a loop that keeps norm layers still:",
                "",
                second.markdown(),
            ]
            for run, outcomes in (*runs.items(), *second.outcomes.items()):
                values = [one.metrics.get("accuracy") for one in outcomes]
                kept.append({"data": name, "model": model, "run": run, "accuracy": values, "seconds": [one.seconds for one in outcomes]})
    page = frame("89 or 73 %: what each decision is worth", ABOUT, args, body)
    print(page)
    if args.markdown:
        Path(args.markdown).write_text(page)
    if args.json:
        Path(args.json).write_text(json.dumps(kept, indent=1))


if __name__ == "__main__":
    main()
