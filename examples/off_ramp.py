"""A forum thread replayed: a table's network, then the very same network put in by hand, and the way out of the framework.

python examples/off_ramp.py [--rows 3000] [--epochs 5] [--seeds 3]

The thread's set-up: continuous columns, two classes of 59 and 41 %, hidden layers of 337, 290 and 82 with dropouts 0.3, 0.3 and 0.07,
a weighted cross-entropy, `lr_find(1e-10, 1, 1000)`. Its learner trained well; one line that replaced the model by one of the same
architecture changed the losses and the curve of the rate finder, without a word. The rows are made up (the thread's are not public).
With sheer the swapped model gives the same numbers, bit for bit, from the same weights, and so does the script without sheer.
fastai is looked at where it is installed (pip install 'sheer[bench]').
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd
import torch
from torch import nn

import sheer
from sheer.plan.table import columns

FEATURES, LAYERS, DROPOUTS = 40, (337, 290, 82), (0.3, 0.3, 0.07)
WEIGHTS = (0.413250185, 0.586749815)
BATCH, RATE = 64, 1e-3
WITHOUT = "import runpy, sys; sys.modules['sheer'] = None; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
SWEEP = {"start": 1e-10, "end": 1.0, "steps": 1000}


def frame_of(rows: int, seed: int) -> pd.DataFrame:
    """Continuous columns in several units and a class of 58.7 or 41.3 %, by a curved rule with noise."""
    draw = np.random.default_rng(seed)
    values = draw.normal(size=(rows, FEATURES))
    score = values[:, 0] * values[:, 1] + values[:, 2:6].sum(axis=1) + 0.7 * draw.normal(size=rows)
    units = 10.0 ** draw.integers(-2, 4, FEATURES)
    frame = pd.DataFrame(values * units + units, columns=[f"x{number}" for number in range(FEATURES)])
    return frame.assign(target=np.where(score > np.quantile(score, WEIGHTS[1]), "yes", "no"))


def network() -> nn.Sequential:
    """The thread's network, written by hand: what `tabular` is for columns that are all continuous."""
    hidden: list[nn.Module] = []
    for (width, out), share in zip(pairwise((FEATURES, *LAYERS)), DROPOUTS, strict=True):
        hidden += [nn.Linear(width, out, bias=False), nn.ReLU(), nn.BatchNorm1d(out), nn.Dropout(share)]
    return nn.Sequential(nn.BatchNorm1d(FEATURES), *hidden, nn.Linear(LAYERS[-1], 2))


def copied(model: nn.Module) -> nn.Sequential:
    """The network by hand with the weights of `model`, tensor by tensor in order."""
    own = network()
    own.load_state_dict(dict(zip(own.state_dict(), model.state_dict().values(), strict=True)))
    return own


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What one way came to: weighted losses of each epoch, accuracy, hashes of weights, the sweep's losses, tensors that moved."""

    train: tuple[float, ...]
    valid: tuple[float, ...]
    accuracy: float
    hashes: tuple[str, ...] = ()
    sweep: tuple[float, ...] = ()
    moved: str = ""


def moved(before: Sequence[torch.Tensor], model: nn.Module) -> str:
    """How many of the model's parameters are others than before."""
    now = list(model.parameters())
    return f"{sum(not torch.equal(old, new) for old, new in zip(before, now, strict=True))} of {len(now)}"


def parameters_of(model: nn.Module) -> list[torch.Tensor]:
    """Copies of the model's parameters."""
    return [parameter.detach().clone() for parameter in model.parameters()]


def fitted(learn: sheer.Learner, epochs: int) -> Seen:
    """The learner swept, then trained at one rate."""
    before, sweep = parameters_of(learn.model), learn.lr_find(RATE, **SWEEP)
    learn.fit_one_cycle(epochs, RATE)
    rows = learn.history
    return Seen(
        train=tuple(row.train_loss for row in rows),
        valid=tuple(row.valid_loss for row in rows),
        accuracy=rows[-1].metrics["accuracy"],
        hashes=tuple(row.weights_sha256 for row in rows),
        sweep=sweep.losses,
        moved=moved(before, learn.model),
    )


def baseline(frame: pd.DataFrame) -> sheer.Learner:
    """The learner as the framework makes it."""
    data = sheer.table(frame, target="target")
    settings = {"hidden": LAYERS, "dropout": DROPOUTS}
    return sheer.learner(data, ("tabular", settings), class_weights=WEIGHTS, batch_size=BATCH, metrics=["accuracy"], quiet=True)


def in_sheer(frame: pd.DataFrame, epochs: int) -> dict[str, Seen]:
    """The baseline, the model by hand in its place, and the script that the baseline leaves behind, run without sheer."""
    learn = baseline(frame)
    swapped = learn.with_model(copied(learn.model))
    seen = {"tabular": fitted(learn, epochs), "by hand, with_model": fitted(swapped, epochs)}
    with tempfile.TemporaryDirectory() as folder:
        run, script = learn.save(f"{folder}/run"), f"{folder}/train.py"
        sheer.eject(run, script)
        command = [sys.executable, "-c", WITHOUT, script, f"{folder}/train_items.csv", "--out", f"{folder}/again"]
        subprocess.run(command, check=True, capture_output=True)
        rows = pd.read_csv(f"{folder}/again/history.csv")
    seen["script, without sheer"] = Seen(
        train=tuple(rows["train_loss"]),
        valid=tuple(rows["valid_loss"]),
        accuracy=float(rows["accuracy"].iloc[-1]),
        hashes=tuple(rows["weights_sha256"]),
    )
    return seen


def said_on_assignment(frame: pd.DataFrame) -> str:
    """What the next fit says after `learn.model = another`."""
    learn = baseline(frame).fit(1, RATE)
    learn.model = network()
    try:
        learn.fit(1, RATE)
    except sheer.SheerError as error:
        return f"{type(error).__name__}: {error}"
    return "nothing"


def stale(frame: pd.DataFrame, epochs: int) -> Seen:
    """Plain PyTorch as learners of that time worked: the optimiser keeps the groups of the model before."""
    data, first = baseline(frame).data, network()
    assert data is not None and data.arrays is not None
    torch.manual_seed(0)
    model, loss = network(), nn.CrossEntropyLoss(weight=torch.tensor(WEIGHTS))
    optimizer, before = torch.optim.AdamW(first.parameters(), RATE), parameters_of(model)
    inputs, target, losses, valid = data.arrays, torch.from_numpy(data.targets), [], []
    for _ in range(epochs):
        model.train()
        steps = []
        for rows in torch.from_numpy(data.train)[torch.randperm(len(data.train))].split(BATCH)[:-1]:
            optimizer.zero_grad()
            value = loss(model(inputs[rows]), target[rows])
            value.backward()
            optimizer.step()
            steps.append(value.item())
        model.eval()
        with torch.no_grad():
            scores, true = model(inputs[data.valid]), target[data.valid]
        losses.append(statistics.mean(steps))
        valid.append(loss(scores, true).item())
    accuracy = (scores.argmax(1) == true).float().mean().item()
    return Seen(train=tuple(losses), valid=tuple(valid), accuracy=accuracy, moved=moved(before, model))


def in_fastai(frame: pd.DataFrame, epochs: int) -> dict[str, Seen]:
    """fastai 2.8's tabular learner on the same split from the same weights; and swapped before, and after, its first fit."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import fastai.callback.progress  # gives learners no_bar
        import fastai.callback.schedule  # noqa: F401  (gives them fit_one_cycle)
        from fastai.losses import CrossEntropyLossFlat
        from fastai.metrics import accuracy
        from fastai.tabular.core import CategoryBlock, Normalize, TabularPandas
        from fastai.tabular.learner import tabular_learner
        from fastai.tabular.model import TabularModel

        start = baseline(frame)
        assert start.data is not None
        split = (start.data.train.tolist(), start.data.valid.tolist())
        names = list(frame.columns[:-1])
        rows = TabularPandas(frame.copy(), [Normalize], cont_names=names, y_names="target", y_block=CategoryBlock(), splits=split)

        def own() -> nn.Module:
            model = TabularModel([], FEATURES, 2, list(LAYERS), ps=list(DROPOUTS))
            model.load_state_dict(dict(zip(model.state_dict(), start.model.state_dict().values(), strict=True)))
            return model

        def one(swapped: str) -> Seen:
            torch.manual_seed(0)
            loaders = rows.dataloaders(bs=BATCH, val_bs=len(split[1]))
            loss = CrossEntropyLossFlat(weight=torch.tensor(WEIGHTS))
            learn = tabular_learner(loaders, list(LAYERS), config={"ps": list(DROPOUTS)}, loss_func=loss, metrics=accuracy, wd=0.01)
            with learn.no_bar(), learn.no_logging():
                if swapped == "after":
                    learn.fit(1, RATE)
                learn.model = own()
                before = parameters_of(learn.model)
                untrained = float(learn.validate()[0])
                learn.fit_one_cycle(epochs, RATE)
            values = np.array(learn.recorder.values)
            return Seen(
                train=tuple(values[:, 0].tolist()),
                valid=(untrained, *values[:, 1].tolist()),
                accuracy=float(values[-1, 2]),
                moved=moved(before, learn.model),
            )

        return {"fastai, own model before its first fit": one("before"), "fastai, own model after its first fit": one("after")}


def cells(seen: Sequence[Seen]) -> list[str]:
    """A row of the table: of the first seed, but for the accuracies."""
    first, accuracies = seen[0], [one.accuracy for one in seen]
    swept = f"{first.sweep[0]:.4f} to {min(first.sweep):.4f}" if first.sweep else "-"
    shares = f"{statistics.mean(accuracies):.3f} ({min(accuracies):.3f} to {max(accuracies):.3f})"
    return [first.moved or "-", f"{first.train[-1]:.6f}", f"{first.valid[-1]:.6f}", shares, swept]


def main() -> None:
    """Print the table, what is equal to the bit, and what sheer says of an assignment."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for name, value in (("rows", 3000), ("epochs", 5), ("seeds", 3)):
        parser.add_argument(f"--{name}", type=int, default=value)
    args = parser.parse_args()
    found: dict[str, list[Seen]] = {}
    for seed in range(args.seeds):
        frame = frame_of(args.rows, seed)
        ways: list[Callable[[], dict[str, Seen]]] = [
            lambda frame=frame: in_sheer(frame, args.epochs),
            lambda frame=frame: {"PyTorch, groups of the model before": stale(frame, args.epochs)},
        ]
        ways += [lambda frame=frame: in_fastai(frame, args.epochs)] if importlib.util.find_spec("fastai") else []
        for way in ways:
            for name, one in way().items():
                found.setdefault(name, []).append(one)
    header = ("way", "tensors moved", "last train loss", "last valid loss", f"accuracy ({args.seeds} seeds)", "sweep: first to lowest loss")
    print(columns(header, [[name, *cells(seen)] for name, seen in found.items()], right=(2, 3)))
    table, own, script = (found[name] for name in ("tabular", "by hand, with_model", "script, without sheer"))
    equal = [a.hashes == b.hashes == c.hashes and a.sweep == b.sweep for a, b, c in zip(table, own, script, strict=True)]
    print(f"\nThe first three have equal weights after every epoch, the first two equal sweeps: {sum(equal)} of {len(equal)} seeds.")
    print(f"\nlearn.model = another, then learn.fit: {said_on_assignment(frame_of(args.rows, 0))}")


if __name__ == "__main__":
    main()
