"""The seven rows of an article on transfer learning, with seeds, intervals and paired tests against the first.

python examples/seven_tricks.py [FOLDER ...] [--items 1500] [--epochs 2] [--seeds 3] [--json OUT] [--markdown docs/seven_tricks.md]

The article trained each row once, for two epochs on ResNet-34, and said that the differences might be chance. Each row is a profile here
(`seven-tricks`, `seven-tricks-2`, ...): `sheer diff seven-tricks seven-tricks-4` says what a row changes.
"""

from __future__ import annotations

import json
from pathlib import Path

from common import data_sets, frame, options

import sheer
from sheer.plan.plan import Plan
from sheer.study.ablate.ablation import effect_of
from sheer.study.ablate.statistics import half_width
from sheer.study.ablate.variants import Outcome, Surroundings, Variant, all_carried_out

ROWS = {
    "seven-tricks": ("as feature extractor", 0.983648),
    "seven-tricks-2": ("norm layers in eval mode", 0.987736),
    "seven-tricks-3": ("just the norm layers of the body train", 0.990881),
    "seven-tricks-4": ("norm layers trainable, discriminative rates", 0.993711),
    "seven-tricks-5": ("norm layers not trainable, discriminative rates", 0.991509),
    "seven-tricks-6": ("concatenated pooling", 0.990252),
    "seven-tricks-7": ("a deeper head", 0.992767),
}
ABOUT = (
    "An article showed seven ways to fine-tune a ResNet-34 on 6,360 photographs, each run once for two epochs, from 98.4 to 99.4 %, and "
    "asked to take them with a grain of salt. Its 1,590 held-out photographs give such a value an interval of half a point either way. "
    "Here is every row with seeds, on the same held-out photographs, so that a row is called better only where chance does not explain it."
)


def plans_of(data: sheer.Data, model: str, weights: str, epochs: int, size: int) -> dict[str, Plan]:
    """Each row's plan: its profile's own training."""
    plans = {}
    for name in ROWS:
        learn = sheer.learner(data, model, weights=weights, profile=name, size=size, quiet=True)
        plans[name] = learn.plan(sheer.recipes.of_profile(epochs, profile=name))
    return plans


def table(outcomes: dict[str, list[Outcome]]) -> list[str]:
    """A row a trick, against the first."""
    lines = [
        "| row | accuracy | in the article | against row 1 | p seeds | p items | seconds | verdict |",
        "|---|---|---|---|---|---|---|---|",
    ]
    first = outcomes["seven-tricks"]
    for number, (name, ones) in enumerate(outcomes.items(), 1):
        what, article = ROWS[name]
        values = [one.metrics["accuracy"] for one in ones if not one.failed]
        if not values:
            lines.append(f"| {number}. {what} | failed: {ones[0].failed} | {article:.4f} | | | | | |")
            continue
        half = half_width(values)
        level = f"{sum(values) / len(values):.4f}" + ("" if half is None else f" ± {half:.4f}")
        effect = effect_of(name, ones, "seven-tricks", first, "accuracy") if name != "seven-tricks" else None
        cells = ["", "", "", f"{sum(one.seconds for one in ones) / len(ones):.1f}", ""]
        if effect is not None:
            gap = f"{effect.mean:+.4f}" + ("" if effect.half is None else f" ± {effect.half:.4f}")
            p_seeds, p_items = ("" if value is None else f"{value:.3g}" for value in (effect.p_seeds, effect.p_items))
            cells = [gap, p_seeds, p_items, f"{effect.seconds:.1f}", effect.verdict()]
        lines.append(f"| {number}. {what} | {level} | {article:.4f} | {' | '.join(cells)} |")
    return lines


def main() -> None:
    """Run the command line."""
    parser = options(__doc__.splitlines()[0], archives=("cifar10-12k.tar", "clothing.tar"), items=1500, epochs=2)
    parser.add_argument("--model", default="tf_efficientnet_lite0", help="(default: %(default)s)")
    args = parser.parse_args()
    body: list[str] = []
    kept: list[dict[str, object]] = []
    for name, data in data_sets(args):
        plans = plans_of(data, args.model, args.weights, args.epochs, args.size)
        variants = [Variant(name=row, plan=plan, seed=seed) for row, plan in plans.items() for seed in range(args.seeds)]
        around = Surroundings(data=data, out=Path(args.work) / "seven_tricks" / f"{name}-{args.model}")
        outcomes: dict[str, list[Outcome]] = {row: [] for row in plans}
        for one in all_carried_out(variants, around, processes=args.processes, told=told):
            outcomes[one.variant.name].append(one)
        body += ["", f"## {args.model} on {name}", "", *table(outcomes)]
        kept += [
            {"data": name, "row": row, "accuracy": [one.metrics.get("accuracy") for one in ones], "seconds": [one.seconds for one in ones]}
            for row, ones in outcomes.items()
        ]
    page = frame("Seven tricks, with seeds", ABOUT, args, body)
    print(page)
    if args.markdown:
        Path(args.markdown).write_text(page)
    if args.json:
        Path(args.json).write_text(json.dumps(kept, indent=1))


def told(outcome: Outcome, number: int, count: int) -> None:
    """A line a run."""
    said = outcome.failed or f"{outcome.metrics['accuracy']:.4f}"
    print(
        f"{number} of {count}  {outcome.variant.name}, seed {outcome.variant.seed}: {said}{', already done' if outcome.reused else ''}",
        flush=True,
    )


if __name__ == "__main__":
    main()
