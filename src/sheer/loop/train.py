"""The only loop. It executes plans and nothing else; nothing else changes learning.

for each phase:   what trains, optimiser, ownership check
  for each epoch: modes, then for each batch: rates, streams, one step
                  validation, a row of history
  frozen tensors are compared with what they were
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import nn

from sheer.data.augmentations import MIXES
from sheer.data.feed import Feed
from sheer.data.pictures import Album
from sheer.data.sources import Data
from sheer.errors import FrozenError, OwnershipError
from sheer.loop.callbacks import Callback, Position
from sheer.loop.engine import switched
from sheer.loop.optimizers import OPTIMIZERS, set_rates
from sheer.loop.step import Loss, scores_of, train_step
from sheer.model.hashing import tensors_sha256, weights_sha256
from sheer.model.stages import is_norm, parameter_groups, set_modes, set_trainable, stage_of
from sheer.plan.augmentations import Function
from sheer.plan.plan import Phase, Plan
from sheer.plan.schedules import SCHEDULES
from sheer.record.run import Row
from sheer.streams import borrowed_generators, reseed, stream_key
from sheer.task.losses import LOSSES
from sheer.task.metrics import Metric
from sheer.task.tasks import TASKS, Task

READERS = 2


def train(
    model: nn.Module, plan: Plan, first: int, feeds: Sequence[Feed], metrics: Mapping[str, Metric], callbacks: Sequence[Callback]
) -> tuple[list[Row], str]:
    """Carry out the phases of `plan` from number `first` on; returns their rows and why it stopped.

    `feeds` has one feed a phase to do, from `prepared_feeds`; `metrics` are the functions of `plan.metrics`.

    The caller's random generators, thread count and deterministic switch are left as they were found.

    Raises:
        OwnershipError: the optimiser's tensors are not the model's trainable ones.
        FrozenError: a frozen tensor moved.
    """
    device, seed, task = torch.device(plan.numerics.device), plan.seed, task_of(plan)
    todo = plan.phases[first:]
    rows: list[Row] = []
    epoch_number = sum(phase.epochs for phase in plan.phases[:first])
    step_number = sum(phase.epochs * phase.steps_per_epoch for phase in plan.phases[:first])
    steps = sum(phase.epochs * phase.steps_per_epoch for phase in todo)
    position = Position(phase="", epoch=0, epochs=sum(phase.epochs for phase in todo), step=0, steps=steps, metrics=plan.metrics)
    with switched(plan.numerics), borrowed_generators(device):
        model.to(device, memory_format=feeds[0].memory_format)  # type: ignore[call-overload]
        for callback in callbacks:
            callback.on_start(position)
        for phase, feed in zip(todo, feeds, strict=True):
            position.phase = phase.name
            stages = [stage.prefixes for stage in plan.model.stages]
            set_trainable(model, stages, phase.trains_from, phase.norm)
            schedule = SCHEDULES[phase.schedule.name](**phase.schedule.options())  # type: ignore[arg-type]
            loss = loss_of(phase)
            mix = MIXES[phase.mix.name](**phase.mix.options()) if phase.mix is not None else None
            groups = parameter_groups(model, stages, phase.rates, phase.weight_decay, phase.no_decay, plan.model.undecayed)
            optimizer = OPTIMIZERS[phase.optimizer.name](**phase.optimizer.options()).build(groups)  # type: ignore[arg-type]
            check_ownership(model, optimizer)
            frozen_before = frozen_sha256(model, stages, phase)
            total = phase.epochs * phase.steps_per_epoch
            for epoch in range(phase.epochs):
                started = time.perf_counter()
                set_modes(model, stages, phase.trains_from, phase.norm)
                losses = []
                for number, batch in enumerate(feed.training(epoch_number)):
                    progress = (epoch * phase.steps_per_epoch + number) / total
                    set_rates(optimizer, schedule.rate(progress), schedule.momentum(progress))
                    reseed(stream_key(seed, "step", step_number), device)
                    inputs, step_loss = batch.inputs, loss
                    if mix is not None:
                        inputs, step_loss = mix(inputs, batch.target, loss, stream_key(seed, "mix", step_number))
                    losses.append(train_step(model, step_loss, optimizer, inputs, batch.target))
                    step_number += 1
                    position.step += 1
                    for callback in callbacks:
                        callback.on_step(position)
                epoch_number += 1
                position.epoch += 1
                train_loss = float(torch.stack(losses).cpu().double().mean())
                row = validated(model, feed, task, loss, metrics, phase.name, epoch_number, train_loss, started)
                rows.append(row)
                for callback in callbacks:
                    callback.on_epoch(position, row)
                if not math.isfinite(train_loss):
                    position.stop = f"training loss {train_loss} in epoch {epoch_number}: too high a rate, or an input that is no number"
                if position.stop:
                    break
            if frozen_sha256(model, stages, phase) != frozen_before:
                raise FrozenError(f"Phase {phase.name}: a tensor that the plan calls frozen has moved. Was it changed by a callback?")
            if position.stop:
                break
        for callback in callbacks:
            callback.on_end(position)
    return rows, position.stop or "plan completed"


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
    for phase in plan.phases[first:]:
        same = next(
            (
                f
                for f in feeds
                if all(
                    getattr(f.phase, n) == getattr(phase, n)
                    for n in ("size", "resize", "augmentation", "mean", "std", "batch_size", "last_batch")
                )
            ),
            None,
        )
        device = torch.device(plan.numerics.device)
        wanted = task_of(plan).wanted(data.targets)
        memory_format = plan.numerics.memory_format
        feeds.append(same or Feed(data, wanted, phase, plan.seed, device, memory_format, READERS, pictures, functions))
    for feed in dict.fromkeys(feeds):
        feed.preflight()
    return feeds


def validated(
    model: nn.Module,
    feed: Feed,
    task: Task,
    loss: Loss,
    metrics: Mapping[str, Metric],
    phase: str,
    epoch: int,
    train_loss: float,
    started: float,
) -> Row:
    """The row of history for the model as it is now."""
    items = feed.data.valid
    scores = scores_of(model, (batch.inputs for batch in feed.plain(items)))
    outputs, targets = task.outputs(scores), feed.data.targets[items]
    return Row(
        phase=phase,
        epoch=epoch,
        train_loss=train_loss,
        valid_loss=float(loss(scores, task.wanted(targets)).double().mean()),
        metrics={name: metric(outputs, targets) for name, metric in metrics.items()},
        seconds=time.perf_counter() - started,
        weights_sha256=weights_sha256(model),
    )


def task_of(plan: Plan) -> Task:
    """The plan's kind of task as the object that carries it out."""
    return TASKS[plan.data.task.name](**plan.data.task.options())  # type: ignore[arg-type]


def loss_of(phase: Phase) -> Loss:
    """The phase's loss as the function that carries it out."""
    return cast(Loss, LOSSES[phase.loss.name](**phase.loss.options()))  # type: ignore[arg-type]


def check_ownership(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Prove that the optimiser holds exactly the model's trainable tensors.

    Raises:
        OwnershipError: naming the first five that one has and the other has not.
    """
    owned = {id(tensor) for group in optimizer.param_groups for tensor in group["params"]}
    trainable = {id(p): name for name, p in model.named_parameters() if p.requires_grad}
    missing = [name for key, name in trainable.items() if key not in owned]
    strangers = len(owned - set(trainable))
    if missing or strangers:
        raise OwnershipError(
            f"The optimiser does not hold the model's trainable tensors: {len(missing)} are missing "
            f"({', '.join(missing[:5]) or 'none'}), {strangers} of its tensors are not the model's or do not train. "
            "Was the model replaced, or requires_grad changed, after the optimiser was made? Make the learner anew."
        )


def frozen_sha256(model: nn.Module, stages: Sequence[Sequence[str]], phase: Phase) -> str:
    """The hash of what must not move: fixed parameters, and statistics of norm layers under policy `frozen`."""
    fixed = [p for p in model.parameters() if not p.requires_grad]
    for path, module in model.named_modules():
        stage = stage_of(path, stages)
        if is_norm(module) and stage is not None and phase.norm[stage] == "frozen":
            fixed += list(module.buffers(recurse=False))
    return tensors_sha256(fixed)
