"""Phases before they are carried out: checked on this model and data, and their batches, every photograph read once."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from sheer.data.augmentations import augmentations_of, mix_of
from sheer.data.feed import Feed
from sheer.data.pictures import READERS, Album
from sheer.data.sources import Data
from sheer.errors import PlanError, first_line
from sheer.loop.engine import free_bytes
from sheer.loop.optimizers import OPTIMIZERS
from sheer.loop.train import loss_of
from sheer.model.branches import sample_items, sample_rows
from sheer.model.build import check_inputs
from sheer.model.cutting import Facts
from sheer.model.stages import set_modes
from sheer.model.surgery import probe_images
from sheer.plan.augmentations import Function
from sheer.plan.looks import Room
from sheer.plan.plan import DataPlan, Part, Phase, Plan
from sheer.plan.prefixes import check_prefix
from sheer.streams import borrowed_generators
from sheer.task.tasks import TASKS

SHOWN = (
    *("size", "resize", "resident", "augmentation", "mean", "std"),
    *("batch_size", "last_batch", "accumulate", "sampling"),
)
"""What two phases have in common where their batches are the same."""


def room_of(plan: Plan, data: Data | None) -> Room:
    """What the plan's device has room for now."""
    device, arrays = torch.device(plan.numerics.device), None if data is None else data.arrays
    items = plan.data.train_items + plan.data.valid_items
    return Room(device=str(device), free=free_bytes(device), items=items, array_bytes=0 if arrays is None else arrays.nbytes)


def prepared_feeds(
    data: Data, plan: Plan, first: int, album: Album | None = None, functions: Mapping[str, Function] | None = None
) -> list[Feed]:
    """One feed for each phase from number `first` on, every photograph read once; phases with the same pictures share one.

    `album` has the data's photographs as a learner keeps them, so that a later fit need not read them again.
    `functions` are the augmentations of your own that the plan names.

    Raises:
        DataError: a photograph cannot be read.
    """
    feeds, pictures = list[Feed](), album.of(data) if album is not None and data.arrays is None else None
    readers = READERS if album is None else album.readers
    device, wanted = torch.device(plan.numerics.device), plan.data.task.made(TASKS).wanted(data.targets)
    for phase in plan.phases[first:]:
        same = next((f for f in feeds if all(getattr(f.phase, name) == getattr(phase, name) for name in SHOWN)), None)
        memory_format = plan.numerics.memory_format
        feeds.append(same or Feed(data, wanted, phase, plan.seed, device, memory_format, readers, pictures, functions))
    for feed in dict.fromkeys(feeds):
        feed.preflight()
        feed.settle(feeds)
    return feeds


def check_phase(phase: Phase, plan: Plan, model: nn.Module, data: Data | None, functions: Mapping[str, Function], facts: Facts) -> None:
    """Try a phase's parts on this model and data, without a trace.

    Raises:
        PlanError: one cannot be made, or the pictures do not fit.
        ModelError: the model cannot take pictures of the planned size.
    """
    if phase.steps_per_epoch < 1:
        raise PlanError(f"{plan.data.train_items} items make no batch of {phase.batch_size}: give a smaller batch size.")
    check_prefix(phase, facts(phase.trains_from, phase.norm, phase.size), plan.data.train_items + plan.data.valid_items)
    augmentations_of(phase, functions, channels=plan.model.channels or 3)
    mix_of(phase)
    if phase.mix:
        check_mix(phase.mix, plan.data)
    check_optimizer(phase)
    if phase.loss.name == "own":
        check_loss(phase, plan, functions)
    sample: Any = probe_images(max(phase.size, 1), plan.model.channels or 3)
    if plan.data.inputs:
        sample = sample_items(plan.data.inputs, 2, phase.size)
    if plan.data.columns:
        sample = sample_rows(plan.data.columns)
    if data is not None and data.arrays is not None:
        arrays = data.arrays
        sample = arrays[:2] if arrays.dtype != torch.uint8 else probe_images(arrays.shape[-1], arrays.shape[1])
        if arrays.dtype == torch.uint8 and phase.size != arrays.shape[-1]:
            raise PlanError(f"size={phase.size}: pictures in memory keep their {arrays.shape[-1]} px; other sizes are for photographs.")
    check_inputs(model, plan.model, sample, len(plan.data.classes))
    if phase.last_batch == "keep" and plan.data.train_items % phase.batch_size == 1:
        _check_batch_of_one(phase, plan, model, sample)


def check_mix(mix: Part | None, data: DataPlan) -> None:
    """PlanError where items are to be mixed that are more than a picture, or none."""
    if mix and data.inputs:
        raise PlanError(f"mix={mix} is for pictures alone; items with several inputs cannot be averaged. Leave mix away.")
    if mix and data.columns:
        raise PlanError(
            f"mix={mix} is for pictures: the codes of a table's categories cannot be averaged, nor those of words. Leave mix away."
        )


def _check_batch_of_one(phase: Phase, plan: Plan, model: nn.Module, sample: Any) -> None:
    """PlanError where the network cannot train on one item: BatchNorm after pooling has no statistics then."""
    copied = copy.deepcopy(model)
    set_modes(copied, [stage.prefixes for stage in plan.model.stages], phase.trains_from, phase.norm)
    device = next(copied.parameters()).device
    try:
        with borrowed_generators(device), torch.no_grad():
            copied(sample[:1].to(device))
    except ValueError as error:
        items, size = plan.data.train_items, phase.batch_size
        raise PlanError(
            f"batch_size={size}: {items} items leave a last batch of one, which {plan.model.name} cannot be trained on "
            f"({first_line(error)}). Profile {plan.profile!r} keeps the last batch: give another batch size."
        ) from error


def check_loss(phase: Phase, plan: Plan, functions: Mapping[str, Function]) -> None:
    """Try a loss of your own on made-up scores of two and of three items.

    Raises:
        PlanError: it fails, gives something else than one number an item, or nothing that gradients flow back from.
    """
    name, kind, width = phase.loss.options()["function"], plan.data.task.name, len(plan.data.classes)
    with borrowed_generators(torch.device("cpu")):
        for items in (2, 3):
            scores = torch.linspace(-1, 1, items * width).reshape(items, width).requires_grad_()
            target = torch.arange(items) % width if kind == "classify" else torch.ones(items, width)
            wanted = f"It gets scores {tuple(scores.shape)} and targets {tuple(target.shape)}, and must give one loss an item, ({items},)"
            try:
                each = loss_of(replace(phase, class_weights=()), functions)(scores, target)
            except PlanError:
                raise
            except Exception as error:  # whatever the user's own code raises: it is theirs to mend, and is named
                raise PlanError(f"Your loss {name!r} fails: {type(error).__name__}: {first_line(error)}. {wanted}.") from error
            if not isinstance(each, torch.Tensor) or each.shape != (items,):
                given = f"a tensor {tuple(each.shape)}" if isinstance(each, torch.Tensor) else type(each).__name__
                mean = isinstance(each, torch.Tensor) and each.ndim == 0
                remedy = ": a mean where items are wanted, so leave the mean to the step (reduction='none')" if mean else ""
                raise PlanError(f"Your loss {name!r} gives {given}{remedy}. {wanted}.")
            flows = each.requires_grad and torch.autograd.grad(each.sum(), scores, allow_unused=True)[0] is not None
            if not flows or not each.is_floating_point():
                raise PlanError(
                    f"Your loss {name!r} is not differentiable: no gradient flows back from it to the scores. Does it take "
                    "argmax, detach(), or go through NumPy? Write it with torch's own functions; what only counts is a metric."
                )


def check_optimizer(phase: Phase) -> None:
    """PlanError where the optimiser cannot be made with its settings; tried on one number."""
    group = {"params": [torch.zeros(1, requires_grad=True)], "peak": 1.0, "lr": 1.0, "weight_decay": 0.0}
    try:
        phase.optimizer.made(OPTIMIZERS).build([group])
    except (TypeError, ValueError, RuntimeError, AssertionError) as error:
        raise PlanError(
            f"optimizer {phase.optimizer} cannot be made: {first_line(error)}. timm's are listed by timm.optim.list_optimizers()."
        ) from error
