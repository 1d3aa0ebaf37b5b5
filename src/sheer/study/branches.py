"""What each branch of a model with several inputs is worth: held-out items with one branch silenced, or given other items' inputs."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np
import torch
from torch import nn

from sheer.errors import ModelError
from sheer.interpret.predictions import RESAMPLES
from sheer.learner import Learner
from sheer.loop.batch_loss import weighs
from sheer.loop.step import scores_of
from sheer.loop.train import loss_of
from sheer.plan.checks import whole
from sheer.plan.table import columns
from sheer.streams import permutation, stream_key, uniform_draws
from sheer.study.ablate.statistics import half_width
from sheer.study.checks import check_learner
from sheer.task.losses import ItemWeighted, per_weight
from sheer.task.metrics import counting
from sheer.task.tasks import TASKS


@dataclass(frozen=True, kw_only=True)
class Worth:
    """What changes when a branch is `ablated` (its mean features for every item) or `permuted` (those of another item).

    `metric` is what is left; `change` is how far that is from the whole model's, with a 95 % interval from paired resamples of items;
    `loss_change` and its half width are of the mean loss, by Student's t over the same items. `missing` items lack the input.
    """

    branch: str
    how: str
    metric: float
    change: float
    low: float
    high: float
    loss_change: float
    loss_half: float
    missing: int


@dataclass(frozen=True, kw_only=True)
class BranchReport:
    """The whole model's metric over `items`, and what each branch is worth; `print` it."""

    metric: str
    value: float
    loss: float
    items: int
    rows: tuple[Worth, ...]

    def __str__(self) -> str:
        cells = [
            (
                one.branch,
                one.how,
                f"{one.metric:.4f}",
                f"{one.change:+.4f}",
                f"{one.low:+.4f} to {one.high:+.4f}",
                f"{one.loss_change:+.4f} ± {one.loss_half:.4f}",
                str(one.missing),
            )
            for one in self.rows
        ]
        header = ("branch", "is", self.metric, "change", "95 % interval", "change of the loss", "missing")
        return f"{self.metric} {self.value:.4f}, loss {self.loss:.4f} of {self.items} items with all branches\n" + columns(
            header, cells, right=(2, 3, 6)
        )


class Tokens(nn.Module):
    """The tokens of all branches in one row an item; `shapes` are those of each."""

    def __init__(self, body: Any) -> None:
        super().__init__()
        self.body, self.shapes = body, list[torch.Size]()

    def forward(self, inputs: Any) -> torch.Tensor:
        tokens = self.body.tokens(inputs)
        self.shapes = [part.shape[1:] for part in tokens]
        return torch.cat([part.flatten(1) for part in tokens], dim=1)


class Rest(nn.Module):
    """Fusion and head on what `Tokens` gave."""

    def __init__(self, body: Any, head: nn.Module, shapes: list[torch.Size]) -> None:
        super().__init__()
        self.fusion, self.head, self.shapes = body.fusion, head, shapes

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        parts = rows.split([shape.numel() for shape in self.shapes], dim=1)
        scores: torch.Tensor = self.head(self.fusion([part.unflatten(1, shape) for part, shape in zip(parts, self.shapes, strict=True)]))
        return scores


def branches(learn: Learner, part: str = "valid", *, repeats: int = 5) -> BranchReport:
    """Which branch of a model with several inputs its predictions rest on, over the items of `train` or `valid`; nothing is trained.

    Each branch is ablated (its features are their mean over the items that have the input, for every item) and permuted (each item gets
    the features of another, `repeats` times). Both are differences on the same items. What two branches both know shows in neither.
    Where the plan's metrics are weighted, so is the metric here; the loss is that of `valid_loss`, of weighted items and classes.
    Source of the permutation: Breiman 2001; Fisher et al. 2019.

    Raises:
        PlanError: not a learner, or `repeats` below 1.
        ModelError: the model has no branches.
        DataError: there is no data, or a photograph cannot be read.
    """
    check_learner(learn, "branches")
    repeats = whole(repeats, "repeats", 1)
    plan, view = learn.plan(), learn._view()
    if not plan.model.branches:
        raise ModelError(f"{plan.model.name} has one input, so there are no branches to weigh: sheer.DataBlock(inputs=...) makes several.")
    data, items = view._items(part)
    feed = view._read(data, items)
    body, head = learn.model.get_submodule("body"), learn.model.get_submodule("head")
    with view.ready():
        tokens = Tokens(body)
        rows = scores_of(tokens, (batch.inputs for batch in feed.plain(items)))
        rest, device = Rest(body, head, tokens.shapes), next(learn.model.parameters()).device

        def judged(changed: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
            """Outputs and losses of the items with these features."""
            scores = scores_of(rest, (block.to(device) for block in changed.split(view.phase.batch_size)))
            return task.outputs(scores), loss(scores, task.wanted(targets)).double().numpy()

        task, loss, targets = plan.data.task.made(TASKS), loss_of(view.phase, view.functions, plan.model.kind), data.targets[items]
        if data.weights is not None:
            loss = ItemWeighted(loss=loss, weight=torch.from_numpy(data.weights[items]))
        loss = per_weight(loss, task.wanted(targets)) if weighs(view.phase, data.weights) else loss
        name, metric = next(iter(view.metrics.items()))
        whole_outputs, whole_losses = judged(rows)
        draws = (uniform_draws(stream_key(plan.seed, "branches"), np.arange(RESAMPLES), len(items)) * len(items)).astype(np.int64)
        counts = view.weights(data, items)

        def measured(outputs: np.ndarray) -> np.ndarray:
            """The metric of all items, then of each resample of them."""
            rows = (np.arange(len(items)), *draws)
            if counts is None:
                return np.array([metric(outputs[row], targets[row]) for row in rows])
            return np.array([metric(*counting(outputs[row], targets[row], counts[row])) for row in rows])

        base, found, start = measured(whole_outputs), list[Worth](), 0
        for one, shape in zip(data.inputs, tokens.shapes, strict=True):
            own = slice(start, start + shape.numel())
            start = own.stop
            there = torch.from_numpy(one.present[items])
            mean = rows[there if bool(there.any()) else slice(None), own].mean(dim=0)
            orders = [permutation(stream_key(plan.seed, "branches", number), len(items)) for number in range(repeats)]
            for how, parts in (("ablated", [mean.expand(len(rows), -1)]), ("permuted", [rows[torch.from_numpy(o), own] for o in orders])):
                said = [judged(torch.cat([rows[:, : own.start], changed, rows[:, own.stop :]], dim=1)) for changed in parts]
                left = np.mean([measured(outputs) for outputs, _ in said], axis=0)
                changes = left[1:] - base[1:]
                low, high = np.quantile(changes[np.isfinite(changes)], (0.025, 0.975)).tolist()
                worse = (np.mean([losses for _, losses in said], axis=0) - whole_losses).tolist()
                found.append(
                    Worth(
                        branch=one.name,
                        how=how,
                        metric=float(left[0]),
                        change=float(left[0] - base[0]),
                        low=low,
                        high=high,
                        loss_change=fmean(worse),
                        loss_half=half_width(worse) or 0.0,
                        missing=int((~there).sum()),
                    )
                )
    return BranchReport(metric=name, value=float(base[0]), loss=float(whole_losses.mean()), items=len(items), rows=tuple(found))
