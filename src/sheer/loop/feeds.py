"""Phases before they are carried out: checked on this model and data, and their batches, every photograph read once."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from sheer.data.augmentations import augmentations_of, mix_of
from sheer.data.feed import Feed
from sheer.data.pictures import READERS, Album
from sheer.data.sources import Data
from sheer.errors import PlanError, first_line
from sheer.loop.engine import free_bytes
from sheer.loop.train import optimizer_of, task_of
from sheer.model.branches import sample_items
from sheer.model.build import check_inputs
from sheer.model.stages import set_modes
from sheer.model.surgery import probe_images
from sheer.plan.augmentations import Function
from sheer.plan.looks import Room
from sheer.plan.plan import Phase, Plan
from sheer.streams import borrowed_generators

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
    device, wanted = torch.device(plan.numerics.device), task_of(plan).wanted(data.targets)
    for phase in plan.phases[first:]:
        same = next((f for f in feeds if all(getattr(f.phase, name) == getattr(phase, name) for name in SHOWN)), None)
        memory_format = plan.numerics.memory_format
        feeds.append(same or Feed(data, wanted, phase, plan.seed, device, memory_format, readers, pictures, functions))
    for feed in dict.fromkeys(feeds):
        feed.preflight()
        feed.settle(feeds)
    return feeds


def check_phase(phase: Phase, plan: Plan, model: nn.Module, data: Data | None, functions: Mapping[str, Function]) -> None:
    """Try a phase's parts on this model and data, without a trace.

    Raises:
        PlanError: one cannot be made, or the pictures do not fit.
        ModelError: the model cannot take pictures of the planned size.
    """
    if phase.steps_per_epoch < 1:
        raise PlanError(f"{plan.data.train_items} items make no batch of {phase.batch_size}: give a smaller batch size.")
    augmentations_of(phase, functions, channels=plan.model.channels or 3)
    mix_of(phase)
    if phase.mix and plan.data.inputs:
        raise PlanError(f"mix={phase.mix} is for pictures alone; items with several inputs cannot be averaged. Leave mix away.")
    if phase.mix and plan.data.columns:
        raise PlanError(f"mix={phase.mix} is for pictures: the codes of a table's categories cannot be averaged. Leave mix away.")
    check_optimizer(phase)
    sample: Any = probe_images(max(phase.size, 1), plan.model.channels or 3)
    if plan.data.inputs:
        sample = sample_items(plan.data.inputs, 2, phase.size)
    if data is not None and data.arrays is not None:
        arrays = data.arrays
        sample = arrays[:2] if arrays.dtype != torch.uint8 else probe_images(arrays.shape[-1], arrays.shape[1])
        if arrays.dtype == torch.uint8 and phase.size != arrays.shape[-1]:
            raise PlanError(f"size={phase.size}: pictures in memory keep their {arrays.shape[-1]} px; other sizes are for photographs.")
    check_inputs(model, plan.model, sample, len(plan.data.classes))
    if phase.last_batch == "keep" and plan.data.train_items % phase.batch_size == 1:
        _check_batch_of_one(phase, plan, model, sample)


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


def check_optimizer(phase: Phase) -> None:
    """PlanError where the optimiser cannot be made with its settings; tried on one number."""
    group = {"params": [torch.zeros(1, requires_grad=True)], "peak": 1.0, "lr": 1.0, "weight_decay": 0.0}
    try:
        optimizer_of(phase).build([group])
    except (TypeError, ValueError, RuntimeError, AssertionError) as error:
        raise PlanError(
            f"optimizer {phase.optimizer} cannot be made: {first_line(error)}. timm's are listed by timm.optim.list_optimizers()."
        ) from error
