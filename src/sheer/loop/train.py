"""The only loop. It executes plans and nothing else; nothing else changes learning.

for each phase:   what trains, optimiser, ownership check
  for each epoch: modes, then for each batch: rates, streams, one step
                  validation of the weights (or their average), a row of history, an early end
  the average's or the best epoch's weights are taken, if the plan says so
  frozen tensors are compared with what they were
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from sheer.data.augmentations import mix_of
from sheer.data.feed import Feed
from sheer.data.pictures import Album
from sheer.data.sources import Data
from sheer.errors import FrozenError, OwnershipError, PlanError, first_line
from sheer.loop.callbacks import Callback, Position
from sheer.loop.engine import prepared, switched
from sheer.loop.memory import Halving, half, in_update, split_event, split_valid
from sheer.loop.optimizers import OPTIMIZERS, set_rates
from sheer.loop.step import Loss, Update, hopeless, joint, moving_buffers, put_back, scores_of, train_step
from sheer.loop.updates import Average, BestEpoch, Patience
from sheer.loop.watch import WINDOW, looked_back, stuck
from sheer.model.hashing import tensors_sha256, weights_sha256
from sheer.model.stages import is_norm, parameter_groups, set_modes, set_trainable, stage_of
from sheer.plan.augmentations import Function
from sheer.plan.plan import Numerics, Phase, Plan
from sheer.plan.schedules import schedule_named
from sheer.record.run import Event, Row
from sheer.streams import borrowed_generators, reseed, stream_key
from sheer.task.losses import LOSSES, ItemWeighted, Weighted
from sheer.task.metrics import Metric
from sheer.task.tasks import TASKS, Task

READERS = 2
NOTHING, COMPLETED = "nothing was trained", "plan completed"


def train(
    model: nn.Module,
    plan: Plan,
    first: int,
    feeds: Sequence[Feed],
    metrics: Mapping[str, Metric],
    callbacks: Sequence[Callback],
    events: list[Event],
) -> tuple[list[Row], str]:
    """Carry out the phases of `plan` from number `first` on; returns their rows and why it stopped. What happens goes to `events`.

    `feeds` has one feed a phase to do, from `prepared_feeds`; `metrics` are the functions of `plan.metrics`.

    The caller's random generators, thread count and deterministic switch are left as they were found.

    Raises:
        OwnershipError: the optimiser's tensors are not the model's trainable ones.
        FrozenError: a frozen tensor moved.
        DeviceMemoryError: one item at a time is too much for the device.
    """
    device, seed, task = torch.device(plan.numerics.device), plan.seed, task_of(plan)
    todo = plan.phases[first:]
    rows: list[Row] = []
    early: list[str] = []
    epoch_number = sum(phase.epochs for phase in plan.phases[:first])
    step_number = sum(phase.epochs * phase.steps_per_epoch for phase in plan.phases[:first])
    steps = sum(phase.epochs * phase.steps_per_epoch for phase in todo)
    position = Position(phase="", epoch=0, epochs=sum(p.epochs for p in todo), step=0, steps=steps, metrics=plan.metrics, events=events)
    compiled = plan.numerics.compile
    with switched(plan.numerics), borrowed_generators(device), prepared(model, plan.numerics, compiled=compiled):
        model.to(device, memory_format=feeds[0].memory_format)  # type: ignore[call-overload]
        whole: nn.Module = model
        for callback in callbacks:
            callback.on_start(position)
        for phase, feed in zip(todo, feeds, strict=True):
            position.phase = phase.name
            if compiled:
                torch.compiler.reset()
            weights = None if feed.data.weights is None else torch.from_numpy(feed.data.weights).to(device)
            stages = [stage.prefixes for stage in plan.model.stages]
            set_trainable(model, stages, phase.trains_from, phase.norm)
            schedule, loss, step = schedule_of(phase), loss_of(phase), step_of(phase, plan.numerics)
            average, patience, best = average_of(phase), stop_of(phase), keep_of(phase)
            mix = mix_of(phase) if phase.mix else None
            groups = parameter_groups(model, stages, phase.rates, phase.weight_decay, phase.no_decay, plan.model.undecayed)
            optimizer = optimizer_of(phase).build(groups)
            check_ownership(model, optimizer)
            if average:
                average.start(model)
            frozen_before = frozen_sha256(model, stages, phase)
            recent: deque[torch.Tensor] = deque(maxlen=phase.skip_limit)
            before_epoch = np.empty(0)
            total, first_epoch, first_step = phase.epochs * phase.steps_per_epoch, epoch_number, step_number
            for epoch in range(phase.epochs):
                started = time.perf_counter()
                set_modes(model, stages, phase.trains_from, phase.norm)
                losses, moving = list[torch.Tensor](), moving_buffers(model)
                for number, batch in enumerate(feed.training(epoch_number)):
                    progress = (epoch * phase.steps_per_epoch + number) / total
                    set_rates(optimizer, schedule.rate(progress), schedule.momentum(progress))
                    inputs, step_loss = batch.inputs, loss
                    if weights is not None:
                        step_loss = ItemWeighted(loss=loss, weight=weights[torch.from_numpy(batch.index).to(device)])
                    if mix is not None:
                        inputs, step_loss = mix(inputs, batch.target, step_loss, stream_key(seed, "mix", step_number))
                    before, value = joint(moving), None
                    while value is None:
                        reseed(stream_key(seed, "step", step_number), device)
                        try:
                            value = step(model, step_loss, optimizer, inputs, batch.target)
                        except torch.OutOfMemoryError as error:
                            updating = in_update(error, optimizer)
                        if value is None:  # here the tensors of the pass that failed are let go
                            put_back(moving, before, torch.tensor(math.nan, device=device))
                            step = split_step(step, model, optimizer, phase, plan.numerics, len(inputs), updating)
                            events.append(split_event(step_number, step.micro, model))
                    put_back(moving, before, value)
                    losses.append(value)
                    recent.append(value)
                    if average:
                        average.follow(model)
                    step_number += 1
                    position.step += 1
                    for callback in callbacks:
                        callback.on_step(position)
                    if step_number % phase.skip_limit == 0 and hopeless(recent):
                        position.stop = stuck(phase.skip_limit, step_number, epoch_number + 1)
                        break
                epoch_number += 1
                position.epoch += 1
                each = torch.stack(losses).cpu().double()
                train_loss = float(each[each.isfinite()].mean())
                events += looked_back(before_epoch, each.numpy(), feed, epoch_number - 1, step_number - len(losses))
                before_epoch = np.concatenate([before_epoch[-WINDOW:], each.numpy()])
                if average:
                    average.swap(model)
                row = None
                while row is None:
                    try:
                        row = validated(whole, feed, task, loss, metrics, phase.name, epoch_number, train_loss, started)
                    except torch.OutOfMemoryError:
                        whole = Halving(model)
                rows.append(row)
                if isinstance(whole, Halving) and (fitting := whole.shrunk()):
                    events.append(split_valid(step_number, fitting))
                for callback in callbacks:
                    callback.on_epoch(position, row)
                if best:
                    best.look(model, value_of(row, best.metric))
                if average:
                    average.swap(model)
                if patience and patience.over(value_of(row, patience.metric)) and epoch + 1 < phase.epochs:
                    early.append(
                        f"phase {phase.name} ended after epoch {epoch + 1} of {phase.epochs}: "
                        f"no better {patience.metric} for {patience.epochs} epochs"
                    )
                    position.step += (phase.epochs - epoch - 1) * phase.steps_per_epoch
                    position.epoch += phase.epochs - epoch - 1
                    epoch_number, step_number = first_epoch + phase.epochs, first_step + total
                    break
                if position.stop:
                    break
            if average:
                average.swap(model)
            if best:
                best.restore(model)
            if frozen_sha256(model, stages, phase) != frozen_before:
                raise FrozenError(f"Phase {phase.name}: a tensor that the plan calls frozen has moved. Was it changed by a callback?")
            if position.stop:
                break
        for callback in callbacks:
            callback.on_end(position)
    return rows, "; ".join([position.stop or COMPLETED, *early])


def joined_reasons(before: str, now: str) -> str:
    """Why the fits so far ended: early ends are kept, and a run that was stopped once never counts as completed."""
    if before == NOTHING:
        return now
    if not before.startswith(COMPLETED):
        return f"{before}; then {now}"
    early = before.removeprefix(COMPLETED)
    return COMPLETED + early + now.removeprefix(COMPLETED) if now.startswith(COMPLETED) else now + early


def value_of(row: Row, name: str) -> float:
    """A loss or metric of an epoch by its name."""
    return row.metrics[name] if name in row.metrics else float(getattr(row, name))


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
    device, wanted = torch.device(plan.numerics.device), task_of(plan).wanted(data.targets)
    for phase in plan.phases[first:]:
        same = next(
            (
                f
                for f in feeds
                if all(
                    getattr(f.phase, n) == getattr(phase, n)
                    for n in ("size", "resize", "augmentation", "mean", "std", "batch_size", "last_batch", "accumulate", "sampling")
                )
            ),
            None,
        )
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


def schedule_of(phase: Phase) -> Any:
    """Its `rate` and `momentum` are functions of progress."""
    return schedule_named(phase.schedule.name, phase.schedule.options())


def optimizer_of(phase: Phase) -> Any:
    """Its `build` makes the optimiser from parameter groups."""
    return OPTIMIZERS[phase.optimizer.name](**phase.optimizer.options())


def loss_of(phase: Phase) -> Loss:
    """One value an item, times the weight of its class where there are weights."""
    loss = cast(Loss, LOSSES[phase.loss.name](**phase.loss.options()))
    return Weighted(loss=loss, weights=phase.class_weights) if phase.class_weights else loss


def step_of(phase: Phase, numerics: Numerics, micro: int = 0) -> Any:
    """`train_step`, or an `Update` where the plan clips, accumulates or scales, or where `micro` items are all that fit."""
    scaled = numerics.precision == "fp16"
    if not (phase.clip or phase.accumulate or scaled or micro):
        return train_step
    return Update(micro=micro or (phase.batch_size if phase.accumulate else 0), clip=phase.clip, scaled=scaled)


def split_step(
    step: Any, model: nn.Module, optimizer: torch.optim.Optimizer, phase: Phase, numerics: Numerics, items: int, updating: bool
) -> Any:
    """A step that takes half the items at a time, after one that ran out of memory; the update is still that of all `items`.

    Raises:
        DeviceMemoryError: it was one item already, or it was the update itself that failed, which no split mends.
    """
    now = 1 if updating else min(getattr(step, "micro", 0) or items, items)
    return step_of(phase, numerics, half(now, model, optimizer, "the update" if updating else "a training step"))


def average_of(phase: Phase) -> Average | None:
    """The moving average of the weights, or None."""
    return Average(decay=phase.ema) if phase.ema else None


def stop_of(phase: Phase) -> Patience | None:
    """What ends the phase early, or None."""
    return Patience(**phase.stop.options()) if phase.stop else None  # type: ignore[arg-type]


def keep_of(phase: Phase) -> BestEpoch | None:
    """What keeps the best epoch's weights, or None for the last epoch's."""
    return BestEpoch(**phase.keep.options()) if phase.keep.name == "best" else None  # type: ignore[arg-type]


def check_optimizer(phase: Phase) -> None:
    """PlanError where the optimiser cannot be made with its settings; tried on one number."""
    group = {"params": [torch.zeros(1, requires_grad=True)], "peak": 1.0, "lr": 1.0, "weight_decay": 0.0}
    try:
        optimizer_of(phase).build([group])
    except (TypeError, ValueError, RuntimeError, AssertionError) as error:
        raise PlanError(
            f"optimizer {phase.optimizer} cannot be made: {first_line(error)}. timm's are listed by timm.optim.list_optimizers()."
        ) from error


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
