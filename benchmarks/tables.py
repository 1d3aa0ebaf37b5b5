"""What sheer, fastai, gradient boosting and a linear model make of four tables, on the same rows; becomes docs/tables_results.md.

python benchmarks/tables.py FOLDER [--seeds 3] [--tables adult titanic] [--models default tabular] [--models-only] [--rows N] [--epochs N]
    [--note TEXT] [--dry]

FOLDER holds adult.csv, california_housing.csv, titanic.csv and petfinder_mini.csv. A seed draws the held-out rows (but for adult, whose
column `split` says them) and every initial weight. Where fastai or scikit-learn cannot be imported, their rows are left out, by name.
"""

from __future__ import annotations

import argparse
import time
import warnings
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

import sheer
from sheer.study.ablate.statistics import half_width
from sheer.task.metrics import METRICS

PAGE = Path(__file__).parent.parent / "docs" / "tables_results.md"
TABLES = {
    "adult": ({"target": "income", "valid": "split"}, 5),
    "california_housing": ({"target": "median_house_value"}, 10),
    "titanic": ({"target": "Survived", "ignore": ["PassengerId"]}, 30),
    "petfinder_mini": ({"target": "AdoptionSpeed", "ignore": [""]}, 10),
}
"""For each table how it is read, and the epochs that both neural networks get."""
MODELS = {
    "default": None,
    "tabm": "tabm",
    "tabm, numbers as they are": ("tabm", {"embedding": 0}),
    "tabm, 32 members": ("tabm", {"members": 32}),
    "tabular": "tabular",
}
HEAD = """# Tables: what came out

Written by `python benchmarks/tables.py{options}`: {machine}.{note}

Means over {seeds} seeds with 95 % intervals of the mean (Student's t) on held-out rows; every model has the same rows to train on and the
same rows held out. The neural networks train by one cycle, in batches of 64, for as many epochs as stated. fastai is `tabular_learner` of
fastai {fastai} with its defaults and rate 1e-3, its numeric targets scaled as sheer's are. Gradient boosting is scikit-learn's
`HistGradientBoosting`, the linear models are its logistic and ridge regression, with their defaults. Nothing was tuned for a table.
"""


def of_fastai(data: sheer.Data, frame: pd.DataFrame, target: str, epochs: int, seed: int) -> tuple[np.ndarray, float]:
    """The outputs of fastai's tabular learner for the held-out rows, in sheer's order of classes, and its seconds."""
    import fastai.callback.all  # noqa: F401, gives a learner fit_one_cycle and no_bar
    from fastai.basics import set_seed
    from fastai.data.block import CategoryBlock, RegressionBlock
    from fastai.tabular.core import Categorify, FillMissing, Normalize, TabularPandas
    from fastai.tabular.learner import tabular_learner

    kinds = {kind: [part.options()["column"] for part in data.plan.columns if part.name == kind] for kind in ("categorical", "continuous")}
    frame, numbers, started = frame.copy(), data.plan.task.name == "regress", time.perf_counter()
    if numbers:
        mean, std = frame[target].iloc[data.train].mean(), frame[target].iloc[data.train].std(ddof=0)
        frame[target] = ((frame[target] - mean) / std).astype("float32")
    set_seed(seed)
    table = TabularPandas(
        frame,
        [Categorify, FillMissing, Normalize],
        cat_names=kinds["categorical"],
        cont_names=kinds["continuous"],
        y_names=target,
        y_block=RegressionBlock() if numbers else CategoryBlock(),
        splits=(data.train.tolist(), data.valid.tolist()),
    )
    learn = tabular_learner(table.dataloaders(64))
    with learn.no_bar(), learn.no_logging():
        learn.fit_one_cycle(epochs, 1e-3)
        outputs = learn.get_preds(ds_idx=1)[0].double().numpy()
    seconds = time.perf_counter() - started
    if numbers:
        return outputs * std + mean, seconds
    places = {str(name): place for place, name in enumerate(learn.dls.vocab)}
    return outputs[:, [places[name] for name in data.classes]], seconds


class Result(NamedTuple):
    """Names of metrics; rows to train on, rows held out, and epochs; for each model its metrics and seconds."""

    measures: tuple[str, ...]
    sizes: tuple[int, int, int]
    found: dict[str, tuple[list[float], float]]


def results(name: str, folder: Path, seed: int, args: argparse.Namespace) -> Result:
    """Every model on one table, with one seed."""
    options, epochs = TABLES[name]
    epochs = args.epochs or epochs
    frame = pd.read_csv(folder / f"{name}.csv").rename(columns={"Unnamed: 0": ""})
    if args.rows and args.rows < len(frame):
        frame = frame.sample(args.rows, random_state=seed).reset_index(drop=True)
    data = sheer.table(frame, seed=seed, **options)
    measures, found = list(METRICS[data.plan.task.name]), {}
    for model in args.models:
        started = time.perf_counter()
        learn = sheer.learner(data, MODELS[model], seed=seed, batch_size=64, quiet=True).fit_one_cycle(epochs)
        seconds = time.perf_counter() - started
        label = f"sheer, {learn.plan().model.name.removeprefix('sheer:')} (default)" if model == "default" else f"sheer, {model}"
        table = learn.validate()
        found[label] = ([value for value, _, _ in table.intervals().values()], seconds)
        measures = list(table.metric_functions)
    if not args.models_only:
        try:
            outputs, seconds = of_fastai(data, frame, options["target"], epochs, seed)
            truth = data.targets[data.valid]
            found["fastai"] = ([METRICS[data.plan.task.name][one](outputs, truth) for one in measures], seconds)
        except ImportError as error:
            print(f"fastai is left out: {error}", flush=True)
        for one in learn.baselines().others:
            if one.predictions is None:
                print(f"{one.name} is left out: {one.skipped}", flush=True)
            else:
                found[one.name] = ([value for value, _, _ in one.predictions.intervals().values()], one.seconds)
    for label, (values, seconds) in found.items():
        said = " ".join(f"{measure} {value:.4f}" for measure, value in zip(measures, values, strict=True))
        print(f"{name} seed {seed} {label}: {said} {seconds:.1f} s", flush=True)
    return Result(tuple(measures), (len(data.train), len(data.valid), epochs), found)


def section(name: str, runs: list[Result]) -> str:
    """The table of one data set, as Markdown."""
    (train, valid, epochs), measures = runs[0].sizes, [one.replace("_", " ") for one in runs[0].measures]
    lines = [f"## {name}", "", f"{train:,} rows to train on, {valid:,} held out; {epochs} epochs.", ""]
    lines += [f"| model | {' | '.join(measures)} | seconds |", "|---|" + "---:|" * (len(measures) + 1)]
    for label in runs[0].found:
        cells = []
        for place in range(len(measures)):
            values = [run.found[label][0][place] for run in runs]
            half, form = half_width(values), ",.0f" if abs(values[0]) > 100 else ".4f"
            cells.append(f"{fmean(values):{form}}" + (f" ± {half:{form}}" if half is not None else ""))
        lines.append(f"| {label} | {' | '.join(cells)} | {fmean(run.found[label][1] for run in runs):.1f} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--tables", nargs="+", default=list(TABLES), choices=list(TABLES))
    parser.add_argument("--models", nargs="+", default=["default"], choices=list(MODELS))
    parser.add_argument("--models-only", action="store_true", help="neither fastai nor scikit-learn")
    parser.add_argument("--rows", type=int, default=0, help="so many rows of each table, drawn by the seed")
    parser.add_argument("--epochs", type=int, default=0, help="for every table")
    parser.add_argument("--note", default="", help="a sentence for the page, such as what else the machine did")
    parser.add_argument("--dry", action="store_true", help="write nothing")
    args = parser.parse_args()
    warnings.simplefilter("ignore")  # of a library about another
    started = time.perf_counter()
    parts = [section(name, [results(name, args.folder, seed, args) for seed in range(args.seeds)]) for name in args.tables]
    try:
        from fastai import __version__ as fastai
    except ImportError:
        fastai = "(not installed)"
    options = f" FOLDER --seeds {args.seeds} --models {' '.join(args.models)}"
    options += "".join(f" --{one} {getattr(args, one)}" for one in ("rows", "epochs") if getattr(args, one))
    spent = time.perf_counter() - started
    machine = f"torch {torch.__version__.partition('+')[0]}, {torch.get_num_threads()} CPU threads, {spent:.0f} s in all"
    note = f" {args.note.strip()}" if args.note else ""
    text = "\n".join([HEAD.format(options=options, seeds=args.seeds, machine=machine, note=note, fastai=fastai), *parts])
    print(text)
    if not args.dry:
        PAGE.write_text(text)


if __name__ == "__main__":
    main()
