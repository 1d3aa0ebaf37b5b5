"""A model swapped into a trainer that keeps its parameter groups: what others do silently, and what sheer says.

python examples/stale_groups.py [--seeds 5]

The riddle: a learner on a table trains well; one line replaces its model by one of the very same architecture, and nothing is
learned any more, without an error; its rate finder draws another curve. The optimiser's groups were made from the first model and
are kept; they move tensors that nobody reads. Rows of numbers, two classes of 41 and 59 %, as in the thread that asked. fastai is
looked at where it is installed (pip install 'sheer[bench]'), before and after its first fit.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import nn

import sheer
from sheer.plan.table import columns

ROWS, FEATURES, HELD_OUT = 1500, 20, 500
EPOCHS, BATCH, RATE = 5, 50, 1e-2


def network() -> nn.Sequential:
    """Two hidden layers with norm layers and dropout, as for tables."""
    return nn.Sequential(
        *(nn.Linear(FEATURES, 64), nn.ReLU(), nn.BatchNorm1d(64), nn.Dropout(0.1)),
        *(nn.Linear(64, 32), nn.ReLU(), nn.BatchNorm1d(32), nn.Linear(32, 2)),
    )


def rows_of(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs (1500, 20) and classes, a curved rule with noise; the last 500 are held out."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(ROWS, FEATURES, generator=generator)
    score = inputs[:, 0] * inputs[:, 1] + inputs[:, 2:5].sum(1) + 0.4 * torch.randn(ROWS, generator=generator)
    return inputs, (score > score.quantile(0.59)).long()


@dataclass
class Trainer:
    """What stores groups when it is made, as learners of that time did: plain PyTorch otherwise."""

    model: nn.Module
    groups: list[nn.Parameter] = field(init=False)
    optimizer: torch.optim.Optimizer | None = None

    def __post_init__(self) -> None:
        self.groups = list(self.model.parameters())

    def batches(self, seed: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """One epoch of training batches, shuffled."""
        inputs, target = rows_of(seed)
        for part in torch.randperm(ROWS - HELD_OUT).split(BATCH):
            yield inputs[part], target[part]

    def step(self, inputs: torch.Tensor, target: torch.Tensor) -> float:
        """One update of what the optimiser holds."""
        assert self.optimizer is not None
        self.optimizer.zero_grad()
        loss = nn.functional.cross_entropy(self.model(inputs), target)
        loss.backward()
        self.optimizer.step()
        return float(loss.detach())

    def fit(self, seed: int, epochs: int = EPOCHS) -> None:
        """Train; the optimiser is made from the stored groups at the first fit, and kept."""
        self.optimizer = self.optimizer or torch.optim.Adam(self.groups, RATE)
        self.model.train()
        for _ in range(epochs):
            for inputs, target in self.batches(seed):
                self.step(inputs, target)

    def sweep(self, seed: int) -> tuple[float, float]:
        """Losses at the start and the lowest (mean of five) of a rate sweep from 1e-6 to 0.1 over 100 steps."""
        self.optimizer = torch.optim.Adam(self.groups, 1e-6)
        self.model.train()
        losses: list[float] = []
        while len(losses) < 100:
            for inputs, target in self.batches(seed):
                self.optimizer.param_groups[0]["lr"] = 1e-6 * 1e5 ** (len(losses) / 99)
                losses.append(self.step(inputs, target))
        means = [statistics.mean(losses[start : start + 5]) for start in range(96)]
        return means[0], min(means)


@dataclass(frozen=True, kw_only=True)
class Seen:
    """One way to swap with one seed: tensors that moved (of all), accuracy on the held-out rows, and what was said."""

    moved: int
    tensors: int
    accuracy: float
    said: str = "nothing"


def judged(model: nn.Module, before: list[torch.Tensor], seed: int, said: str = "nothing") -> Seen:
    """The model against its tensors before training, and on the held-out rows."""
    inputs, target = rows_of(seed)
    model.eval()
    with torch.no_grad():
        right = (model(inputs[-HELD_OUT:]).argmax(1) == target[-HELD_OUT:]).float().mean()
    moved = sum(not torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))
    return Seen(moved=moved, tensors=len(before), accuracy=float(right), said=said)


def copied(model: nn.Module) -> list[torch.Tensor]:
    """The model's parameters as they are now."""
    return [parameter.detach().clone() for parameter in model.parameters()]


def plain(seed: int, *, swap: bool, mend: bool = False) -> Seen:
    """The imitation: swapped before the first fit; mended by storing the groups anew."""
    torch.manual_seed(seed)
    trainer = Trainer(network())
    if swap:
        trainer.model = network()
    if mend:
        trainer = Trainer(trainer.model)
    before = copied(trainer.model)
    trainer.fit(seed)
    return judged(trainer.model, before, seed)


def with_fastai(seed: int, *, first: str) -> Seen:
    """fastai 2.8's Learner; `first` is what was called before the swap: nothing, `freeze` (as a vision learner is made), or `fit`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import fastai.callback.progress  # noqa: F401  (gives learners no_bar)
        from fastai.data.core import DataLoaders
        from fastai.learner import Learner
        from fastai.losses import CrossEntropyLossFlat

        torch.manual_seed(seed)
        inputs, target = rows_of(seed)
        items = list(zip(inputs, target, strict=True))
        loaders = [torch.utils.data.DataLoader(part, BATCH, shuffle=True) for part in (items[:-HELD_OUT], items[-HELD_OUT:])]
        learn = Learner(DataLoaders(*loaders), network(), loss_func=CrossEntropyLossFlat(), lr=RATE)
        with learn.no_bar(), learn.no_logging():
            if first == "fit":
                learn.fit(1)
            elif first == "freeze":
                learn.freeze()
            learn.model = network()
            before = copied(learn.model)
            learn.fit(EPOCHS)
    return judged(learn.model.cpu(), before, seed)


def with_sheer(seed: int, *, again: bool) -> Seen:
    """sheer's learner, swapped after its first fit; `again`: as the error says, `with_model`."""
    torch.manual_seed(seed)
    inputs, target = rows_of(seed)
    data = sheer.arrays(inputs[:-HELD_OUT], target[:-HELD_OUT], valid=0.1)  # its own split lies within the rows to train on
    learn = sheer.learner(data, network(), batch_size=BATCH, quiet=True)
    learn.fit(1, RATE)
    learn.model = network()
    before, said = copied(learn.model), "nothing"
    try:
        learn.fit(EPOCHS, RATE)
    except sheer.SheerError as error:
        said = f"{type(error).__name__}: {str(error).split('. ')[0]}"
    if again:
        learn = learn.with_model(network())
        before = copied(learn.model)
        learn.fit(EPOCHS, RATE)
        said = "nothing: there is nothing to say"
    return judged(learn.model, before, seed, said)


WAYS: dict[str, Callable[[int], Seen]] = {
    "stored groups, not swapped": lambda seed: plain(seed, swap=False),
    "stored groups, swapped": lambda seed: plain(seed, swap=True),
    "stored groups, swapped, groups made anew": lambda seed: plain(seed, swap=True, mend=True),
    "sheer, swapped": lambda seed: with_sheer(seed, again=False),
    "sheer, with_model": lambda seed: with_sheer(seed, again=True),
}
FASTAI: dict[str, Callable[[int], Seen]] = {
    "fastai, swapped before its first fit": lambda seed: with_fastai(seed, first=""),
    "fastai, swapped after freeze()": lambda seed: with_fastai(seed, first="freeze"),
    "fastai, swapped after its first fit": lambda seed: with_fastai(seed, first="fit"),
}


def examined(seed: int) -> sheer.Diagnosis:
    """The doctor's look at the swapped imitation."""
    torch.manual_seed(seed)
    trainer = Trainer(network())
    trainer.fit(seed, 1)
    trainer.model = network()
    inputs, target = rows_of(seed)
    rows = torch.utils.data.TensorDataset(inputs[:-HELD_OUT], target[:-HELD_OUT])
    loader = torch.utils.data.DataLoader(rows, BATCH, shuffle=True)
    assert trainer.optimizer is not None
    return sheer.doctor(trainer.model, trainer.optimizer, loader, nn.CrossEntropyLoss(), train=lambda: trainer.fit(seed, 1))


def main() -> None:
    """Print the table, the sweeps and the doctor's report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    seeds = range(parser.parse_args().seeds)
    table = []
    for name, way in (WAYS | (FASTAI if importlib.util.find_spec("fastai") else {})).items():
        seen = [way(seed) for seed in seeds]
        low, high = min(one.accuracy for one in seen), max(one.accuracy for one in seen)
        mean = statistics.mean(one.accuracy for one in seen)
        table.append([name, f"{seen[0].moved} of {seen[0].tensors}", f"{mean:.3f}", f"{low:.3f} to {high:.3f}", seen[0].said])
    print(columns(("way", "tensors moved", "accuracy", f"over {len(seeds)} seeds", "what it said (first seed)"), table, right=(2,)))
    print("\nA rate sweep of the imitation, loss at its start and its lowest (mean of 5 steps):")
    for name, swap in (("own tensors", False), ("another model's", True)):
        trainer = Trainer(network())
        trainer.model = network() if swap else trainer.model
        first, lowest = trainer.sweep(0)
        print(f"  {name:16} {first:.3f} to {lowest:.3f}")
    print("\nsheer.doctor on the swapped imitation:\n")
    print(examined(0))


if __name__ == "__main__":
    main()
