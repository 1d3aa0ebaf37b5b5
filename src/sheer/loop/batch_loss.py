"""The loss of one batch as a phase has it: your own, weighted, mixed, watched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from sheer.data.feed import Batch
from sheer.data.sources import Data
from sheer.errors import PlanError
from sheer.loop.item_losses import ItemLosses
from sheer.loop.step import Loss
from sheer.plan.augmentations import Function
from sheer.plan.plan import Part, Phase
from sheer.task.losses import ItemWeighted, OwnLoss, per_weight


def own_loss(part: Part, functions: Mapping[str, Function]) -> Loss:
    """The loss of your own that a plan names.

    Raises:
        PlanError: it is not among `functions`.
    """
    name = str(part.options()["function"])
    if name not in functions:
        raise PlanError(f"The run used your own loss {name!r}: sheer.load(run, objects={{{name!r}: {name}}}).")
    return OwnLoss(function=functions[name])


def weighs(phase: Phase, weights: object) -> bool:
    """Whether the phase's mean of losses is divided by weights; `weights` are those of the items, None for none."""
    return phase.loss_mean == "weights" and bool(phase.class_weights or weights is not None)


def batch_loss(
    loss: Loss,
    phase: Phase,
    batch: Batch,
    weights: torch.Tensor | None,
    mix: Any = None,
    key: int = 0,
    watching: Sequence[ItemLosses] = (),
    data: Data | None = None,
) -> tuple[torch.Tensor, Loss]:
    """The batch's inputs, mixed by `mix` with draws from `key`, and the loss whose mean over it is the step's; `weights` (items,).

    Whoever is `watching` the items of `data` gets what it says of each.
    """
    inputs = batch.inputs
    if weights is not None:
        loss = ItemWeighted(loss=loss, weight=weights[torch.from_numpy(batch.index).to(weights.device, non_blocking=True)])
    if mix is not None:
        inputs, loss = mix(inputs, batch.target, loss, key)
    for one in watching:
        loss = one.watched(loss, batch.index, data)
    return inputs, per_weight(loss, batch.target) if weighs(phase, weights) else loss
