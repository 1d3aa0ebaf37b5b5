"""Draws what a person may ask for at random, and carries it out in one go, left and resumed, and by the ejected script.

All three must end with the same bits after every epoch, and what is loaded or exported must say what the learner says. What sheer
refuses must be refused before any work, by an error of its own.

python -m tests.contracts.sweep [--runs 200] [--seed 0] [--only 17]
"""

from __future__ import annotations

import argparse
import csv
import os
import random
import sys
import tempfile
import time
import traceback
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

sys.path[:0] = [str(Path(__file__).parents[1])]

import sheer  # noqa: E402
from conftest import Leave  # noqa: E402
from own_code import hinge, image_net  # noqa: E402
from scripts import run_script  # noqa: E402
from sheer.errors import SheerError  # noqa: E402
from test_text import save_encoder  # noqa: E402

ROWS = 48
APART = ("photo", "words", "kind", "three", "price", "size", "tags", "flag", "mark", "count", "owner")
TARGETS = ("kind", "three", "price", ["price", "size"], "tags", ["flag", "mark"])
KINDS = ("table", "layers", "text", "lora", "image", "image + table", "text + table", "image + text")


def make_place(root: Path) -> None:
    """A folder with photographs, rows in which cells are missing, and a small encoder."""
    draw, rows = np.random.default_rng(0), []
    (root / "photos").mkdir()
    for number in range(ROWS):
        kind = ("good", "bad")[number % 2]
        pixels = draw.integers(0, 120, (40, 36, 3))
        pixels[..., number % 2] += 100
        Image.fromarray(pixels.astype(np.uint8)).save(root / "photos" / f"{number:02d}.jpg")
        width = draw.normal(8 if number % 2 else 2)
        rows.append(
            {
                "photo": f"photos/{number:02d}.jpg" if number % 9 else None,
                "words": f"{' '.join(draw.choice(['the', 'cat', 'dog', 'plays', 'all', 'day'], 5))} {kind}" if number % 11 else None,
                "width": width if number % 7 else None,
                "colour": draw.choice(["red", "blue", "green"]) if number % 5 else None,
                "doors": int(draw.integers(2, 5)),
                "kind": kind,
                "three": "abc"[number % 3],
                "price": 100 * width + draw.normal(),
                "size": draw.normal(30),
                "tags": ("red;big", "red", "", "big ; blue")[number % 4],
                "flag": number % 2,
                "mark": int(number % 3 == 0),
                "count": float(draw.choice([0.5, 1, 4])),
                "owner": f"owner {number // 3}",
            }
        )
    pd.DataFrame(rows).to_csv(root / "items.csv", index=False)
    whole = pd.DataFrame(rows)
    whole[whole.photo.notna()].to_csv(root / "photos.csv", index=False)
    save_encoder(root / "encoder", layers=1)


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What is asked for: a kind of data with options, a learner's options, a recipe with its arguments.

    `leave` is the part of its steps after which it is left, `then` what a second fit of everything is given, `own_image` whether
    photographs go through a network of the user's own.
    """

    kind: str
    target: str | list[str]
    data: dict[str, Any]
    options: dict[str, Any]
    recipe: str
    arguments: dict[str, Any]
    leave: float
    then: dict[str, Any] | None
    own_image: bool

    def made(self) -> sheer.Data:
        """The data."""
        given = dict(self.data)
        if self.kind in ("table", "layers"):
            wanted = [self.target] if isinstance(self.target, str) else self.target
            decides = [one for one in (given.get("weight"), given.get("group")) if one]
            return sheer.table("items.csv", target=self.target, ignore=[one for one in APART if one not in (*wanted, *decides)], **given)
        if self.kind in ("text", "lora"):
            return sheer.text("items.csv", text="words", target=self.target, **given)
        if self.kind == "image":
            return sheer.DataBlock(label=self.target, path="photo", **given).build("photos.csv")
        inputs = {
            "image": sheer.ImageInput(column="photo"),
            "text": sheer.TextInput(column="words"),
            "table": sheer.TableInput(columns=["width", "colour", "doors"]),
        }
        wanted = {name: inputs[name] for name in self.kind.split(" + ")}
        return sheer.DataBlock(inputs=wanted, label=self.target, **given).build("items.csv")

    def learner(self, **more: Any) -> sheer.Learner:
        """A learner."""
        small: dict[str, Any] = {
            "image": image_net if self.own_image else "test_resnet",
            "text": str(Path("encoder").absolute()),
            "table": ("tabular", {"hidden": (8,)}),
        }
        alone = {"table": ("tabm", {"members": 3, "hidden": (8,)}), "layers": small["table"], "lora": small["text"]}
        model = {name: small[name] for name in self.kind.split(" + ")} if "+" in self.kind else alone.get(self.kind, small.get(self.kind))
        pictures = {"size": 32, "cache": False} if "image" in self.kind else {}
        pictures |= {"head": "linear"} if self.kind == "image" and self.own_image else {"weights": "none"} if pictures else {}
        return sheer.learner(self.made(), model, **{"quiet": True} | pictures | self.options | more)

    @property
    def objects(self) -> dict[str, Any]:
        """What is the user's own, by name, as a load asks for it."""
        known = {"image_net": self.own_image, "hinge": self.options.get("loss") is hinge}
        return {name: {"image_net": image_net, "hinge": hinge}[name] for name, there in known.items() if there}

    def more(self, learn: sheer.Learner) -> sheer.Learner:
        """The learner after the second fit, if there is one."""
        return learn if self.then is None else learn.unfreeze().run(sheer.recipes.one_cycle(1, **self.then))

    def steps(self) -> Any:
        """The recipe."""
        return getattr(sheer.recipes, self.recipe)(**self.arguments)


def drawn(dice: random.Random) -> Wish:
    """A wish, in which most of what can be given is left to its default."""
    kind, target = dice.choice(KINDS), dice.choice(TARGETS)
    task = "classify" if target in ("kind", "three") else "regress" if target in ("price", ["price", "size"]) else "tag"

    def some(pairs: dict[str, list[Any]], share: float) -> dict[str, Any]:
        return {name: dice.choice(values) for name, values in pairs.items() if dice.random() < share}

    data = some({"weight": ["count"], "seed": [3]}, 0.3)
    data |= dice.choice(
        [{}, {}, {"valid": 0.3}, {"valid": 0}, {"group": "owner"}, {"folds": 4, "fold": 1}, {"valid": [1, 4, 8, 9, 14, 21, 30]}]
    )
    data |= {"separator": ";"} if target == "tags" else {}
    pairs: dict[str, list[Any]] = {
        "optimizer": ["adamw", ("adamw", {"eps": 1e-6}), "adam", ("sgd", {"nesterov": True}), "rmsprop"],
        "clip": [0.5],
        "ema": [0.9],
        "weight_decay": [0.0, 0.2],
        "norm": ["adapt", "train", "frozen"],
        "sampling": ["balanced", "shuffle"],
        "loss_mean": ["items", "weights"],
        "keep": ["best"],
        "stop": [1],
        "seed": [5],
        "stages": ["layers"],
        "prefix": ["whole", "cached", ("cached", {"views": 2}), ("cached", {"batch_size": 5})],
        "head": ["linear", "concat_pool"],
        "loss": {"classify": ["focal", hinge], "regress": ["huber"], "tag": ["binary_cross_entropy"]}[task],
    }
    pairs |= {"label_smoothing": [0.1], "class_weights": ["balanced"]} if task == "classify" else {}
    pairs |= {"augmentation": ["strong", ("flip",), "none"], "mix": ["mixup", "cutmix"]} if "image" in kind else {}
    pairs |= {"fusion": ["gated_sum", "cross_attention"]} if "+" in kind else {}
    options = some(pairs, 0.22)
    options["batch_size"] = batch = dice.choice([4, 8, 13])
    options |= {"accumulate": 2 * batch} if dice.random() < 0.15 else {}
    options |= {"weighted_metrics": True} if "weight" in data and dice.random() < 0.4 else {}
    options |= {"lora": {"rank": 2}} if kind == "lora" else {}
    recipe = dice.choice(["fine_tune", "fine_tune", "one_cycle", "constant", "flat_cosine", "sgdr", "gradual", "linear_probe"])
    arguments: dict[str, Any] = {"epochs": dice.choice([1, 2])}
    if recipe == "fine_tune":
        arguments |= dice.choice([{}, {}, {"freeze_epochs": 0}, {"freeze_epochs": 2}])
    if recipe == "linear_probe":
        arguments = {"epochs": dice.choice([0, 2])}
    if dice.random() < 0.2:
        arguments["rate"] = 0.003
    then = {"rate": slice(1e-4, 1e-3)} if dice.random() < 0.15 else {} if dice.random() < 0.15 else None
    own = "image" in kind and dice.random() < 0.3
    steps: dict[str, Any] = {"recipe": recipe, "arguments": arguments, "leave": dice.random(), "then": then}
    return Wish(kind=kind, target=target, data=data, options=options, own_image=own, **steps)


def history(folder: Path) -> list[str]:
    """The hash of the weights after each epoch."""
    with (folder / "history.csv").open(newline="") as file:
        return [row["weights_sha256"] for row in csv.DictReader(file)]


def judged(wish: Wish, folder: Path) -> str:
    """Carry a wish out every way; "" or why it was refused.

    Raises:
        AssertionError: two ways differ.
        Exception: anything else but a refusal before the work.
    """
    try:
        learn = wish.learner(out=folder / "whole")
        plan = learn.plan(wish.steps())
    except SheerError as error:
        return f"{type(error).__name__}: {error}"
    assert sheer.Plan.from_json(plan.to_json()) == plan and not sheer.diff(plan, plan).differences
    assert str(plan) and str(sheer.explain(plan))
    wish.more(learn.run(wish.steps()))
    wanted = history(folder / "whole")
    assert len(wanted) == len(learn.history)

    steps = sum(phase.epochs * phase.steps_per_epoch for phase in plan.phases)
    left = wish.learner(out=folder / "left")
    left.run(wish.steps(), callbacks=[Leave(1 + int(wish.leave * steps))])
    resumed = left if (folder / "left" / "record.json").is_file() else sheer.resume(folder / "left", objects=wish.objects, quiet=True)
    wish.more(resumed)
    assert history(folder / "left") == wanted, "left and resumed: other weights"
    assert [repr(replace(row, seconds=0)) for row in resumed.history] == [repr(replace(row, seconds=0)) for row in learn.history]

    script = Path(sheer.eject(folder / "whole", f"script_{folder.name}.py", objects=wish.objects))  # where the encoder lies
    source = Path() if "image" in wish.kind else Path(f"{script.stem}_items.csv")
    done = run_script(script.absolute(), source.absolute(), "--out", folder / "again")
    assert done.returncode == 0, done.stderr[-2000:]
    assert history(folder / "again") == wanted, "script: other weights"

    loaded, rows = sheer.load(folder / "whole", objects=wish.objects), "photos.csv" if wish.kind == "image" else "items.csv"
    if wish.kind == "image":
        new = [Path("photos") / f"{number:02d}.jpg" for number in range(1, 9)]
        said, again = learn.predict(new), loaded.predict(new)
    else:
        said, again = learn.predict(rows), loaded.predict(rows)
        assert np.array_equal(learn.evaluate(rows).target, loaded.evaluate(rows).target)
        assert all(np.isfinite(value) for value in loaded.evaluate(rows).metrics().values())
    off = np.abs(said.outputs - again.outputs).max(axis=1)
    assert (off == 0).all(), f"loaded: other predictions of items {np.flatnonzero(off).tolist()}, by {off.max()}"
    learn.export(folder / "model.sheer")
    bundle = sheer.load_bundle(folder / "model.sheer", objects=wish.objects)
    told = bundle.predict(new if wish.kind == "image" else rows)
    assert wish.kind not in ("table", "layers") or np.array_equal(told.outputs, said.outputs), "bundle: other last bits"
    assert np.allclose(told.outputs, said.outputs, atol=1e-4, rtol=1e-3), f"bundle: off by {np.abs(told.outputs - said.outputs).max()}"
    return ""


def sweep(runs: int, seed: int, root: Path, only: int | None = None) -> tuple[int, Counter[str], list[int]]:
    """Carry out that many wishes; how many were carried out, why the others were refused, and which failed."""
    before, done, refused, failed = Path.cwd(), 0, Counter[str](), list[int]()
    make_place(root)
    os.chdir(root)
    try:
        for number in range(runs) if only is None else [only]:
            wish = drawn(random.Random(f"{seed} {number}"))
            try:
                with tempfile.TemporaryDirectory() as folder:
                    said = judged(wish, Path(folder))
            except Exception:  # whatever it is, it is a finding, and the next one is wanted too
                failed.append(number)
                print(f"\n{number}: {wish}\n{traceback.format_exc()}", flush=True)
                continue
            done += not said
            refused[said] += bool(said)
    finally:
        os.chdir(before)
    return done, +refused, failed


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="the number of one run")
    args = parser.parse_args()
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as root:
        done, refused, failed = sweep(args.runs, args.seed, Path(root), args.only)
    for why, times in refused.most_common():
        print(f"refused {times} times: {why}")
    print(f"{done} carried out, {refused.total()} refused, {len(failed)} failed {failed}, {time.perf_counter() - started:.0f} s")
    raise SystemExit(bool(failed))


if __name__ == "__main__":
    main()
