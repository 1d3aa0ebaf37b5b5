"""What a second input is worth: a fused model beside each of its branches alone, with seeds, intervals and paired tests.

python examples/fusion.py elpv [--items 900] [--epochs 2] [--seeds 3] [--size 64] [--json OUT] [--markdown docs/fusion_elpv.md]
python examples/fusion.py petfinder --items 1500 --probe [--markdown docs/fusion_petfinder.md]

`elpv`: photographs of solar cells (package `elpv-dataset`, Buerhop-Lutz and others 2018) and whether the cell is mono- or polycrystalline:
does a network that sees both find more defects than one that sees the photograph, or the column, alone? `petfinder`: descriptions of
cats and dogs and columns about them (`petfinder_mini.csv` in $SHEER_DATA): which were adopted within a week, which not for 100 days?
"""

from __future__ import annotations

import csv
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from common import frame, options
from PIL import Image

import sheer
from sheer.streams import permutation, stream_key
from sheer.study.ablate.ablation import effect_of
from sheer.study.ablate.statistics import half_width
from sheer.study.ablate.variants import Outcome, Surroundings, Variant, all_carried_out

ABOUT = (
    "Each row is a network for some of the inputs of the same items, trained alike on the same split: by `fine_tune`, whose first "
    "phase trains what is new and the second everything. A gap to the fused network is called one only where chance does not explain it."
)
INPUTS: dict[str, dict[str, Any]] = {
    "elpv": {"image": sheer.ImageInput(column="file"), "table": sheer.TableInput(columns=["type"], categorical=["type"])},
    "petfinder": {"text": sheer.TextInput(column="Description", length=64), "table": sheer.TableInput()},
}
LABELS = {"elpv": "cell", "petfinder": "AdoptionSpeed"}
MODELS = {"elpv": "tf_efficientnet_lite0", "petfinder": "sentence-transformers/all-MiniLM-L6-v2"}


def cells(folder: Path, count: int) -> Path:
    """The first `count` solar cells in an order drawn once, as PNG files and a CSV file; "defective": more likely than not."""
    from elpv_dataset.utils import load_dataset

    table = folder / f"cells-{count}.csv"
    if not table.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        images, shares, types = load_dataset()
        with table.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["file", "type", "cell"])
            for number in permutation(stream_key(0, "elpv"), len(images))[:count].tolist():
                Image.fromarray(images[number]).save(folder / f"{number:04d}.png")
                writer.writerow([f"{number:04d}.png", str(types[number]), "defective" if shares[number] > 0.5 else "sound"])
    return table


def pets(folder: Path, count: int) -> Path:
    """The first `count` pets in an order drawn once that were adopted within a week, or not for 100 days."""
    table = folder / f"pets-{count}.csv"
    if not table.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        with (Path(os.environ["SHEER_DATA"]) / "petfinder_mini.csv").open(newline="") as file:
            header, *rows = list(csv.reader(file))
        speed = header.index("AdoptionSpeed")
        kept = [row for row in rows if row[speed] in ("0", "1", "4")]
        with table.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(header[1:])
            for number in permutation(stream_key(0, "pets"), len(kept))[:count].tolist():
                kept[number][speed] = "late" if kept[number][speed] == "4" else "soon"
                writer.writerow(kept[number][1:])
    return table


def told(outcome: Outcome, number: int, count: int) -> None:
    """A line a run."""
    said = outcome.failed or f"{outcome.metrics['balanced_accuracy']:.4f}"
    print(f"{outcome.variant.name}, seed {outcome.variant.seed}: {said}{', already done' if outcome.reused else ''}", flush=True)


def row(name: str, ones: list[Outcome], fused: list[Outcome]) -> str:
    """A network's level, and how far it is from the fused one."""
    values = [one.metrics["balanced_accuracy"] for one in ones if not one.failed]
    if not values:
        return f"| {name} | failed: {ones[0].failed} | | | | | |"
    half = half_width(values)
    effect = effect_of(name, ones, "fused", fused, "balanced_accuracy") if ones is not fused else None
    gap, p_seeds, p_items, verdict = "", "", "", ""
    if effect is not None:
        gap = f"{effect.mean:+.4f}" + ("" if effect.half is None else f" ± {effect.half:.4f}")
        p_seeds, p_items = ("" if value is None else f"{value:.3g}" for value in (effect.p_seeds, effect.p_items))
        verdict = effect.verdict()
    level = f"{np.mean(values):.4f}" + ("" if half is None else f" ± {half:.4f}")
    return f"| {name} | {level} | {gap} | {p_seeds} | {p_items} | {np.mean([one.seconds for one in ones]):.1f} | {verdict} |"


def main() -> None:
    """Run the command line."""
    parser = options(__doc__.splitlines()[0], archives=(), items=900, epochs=2)
    parser.add_argument("--model", help="of the photographs or texts (default: a small one that a package has)")
    parser.add_argument("--fusion", default="concat", help="concat, gated_sum or cross_attention (default: %(default)s)")
    parser.add_argument("--probe", action="store_true", help="train only what is new, and leave the photographs' network frozen")
    args = parser.parse_args()
    (chosen,) = args.folders or ["elpv"]
    inputs, folder, outcomes, worth = INPUTS[chosen], Path(args.work) / "data" / chosen, dict[str, list[Outcome]](), ""
    source = (cells if chosen == "elpv" else pets)(folder, args.items)
    first = next(iter(inputs))
    for subset in (tuple(inputs), *((name,) for name in inputs)):
        block = {name: inputs[name] for name in subset}
        if subset == ("table",):  # the column of the other input is none of the table's
            block = {"table": replace(inputs["table"], ignore=[*inputs["table"].ignore, inputs[first].column])}
        data = sheer.DataBlock(inputs=block, label=LABELS[chosen], valid=1 / 3).build(source)
        pictures = {"size": args.size, "augmentation": ("dihedral",)} if "image" in subset else {}
        learn = sheer.learner(
            data,
            {first: args.model or MODELS[chosen]} if first in subset else None,
            weights=args.weights if first in subset else "default",
            fusion=args.fusion if len(subset) > 1 else None,
            metrics=["balanced_accuracy", "accuracy"],
            class_weights="balanced",
            quiet=True,
            **pictures,
        )
        recipe = sheer.recipes.linear_probe(args.epochs) if args.probe else sheer.recipes.fine_tune(args.epochs)
        plan, name = learn.plan(recipe), " + ".join(subset)
        variants = [Variant(name=name, plan=plan, seed=seed) for seed in range(args.seeds)]
        around = Surroundings(data=learn.data, out=Path(args.work) / "fusion")
        outcomes[name] = all_carried_out(variants, around, processes=args.processes, told=told)
        if len(subset) > 1 and not outcomes[name][0].failed:
            worth = str(sheer.branches(sheer.load(outcomes[name][0].folder, data=learn.data)))
    fused = outcomes[" + ".join(inputs)]
    header = "| inputs | balanced accuracy | against the fused one | p seeds | p items | seconds | verdict |"
    body = ["", header, "|---|---|---|---|---|---|---|", *(row(name, ones, fused) for name, ones in outcomes.items())]
    body += ["", "What the branches of the fused network are worth (seed 0, held-out items):", "", "```", worth, "```"]
    args.size = args.size if "image" in inputs else 0  # which the page then leaves out
    page = frame(f"{chosen}: {' and '.join(inputs)}", ABOUT, args, body)
    print(page)
    if args.markdown:
        Path(args.markdown).write_text(page)
    if args.json:
        kept = [
            {"inputs": name, "balanced_accuracy": [one.metrics.get("balanced_accuracy") for one in ones]} for name, ones in outcomes.items()
        ]
        Path(args.json).write_text(json.dumps(kept, indent=1))


if __name__ == "__main__":
    main()
