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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from sheer.data.augmentations import mix_of
from sheer.data.feed import Feed
from sheer.errors import FrozenError, RunError
from sheer.loop.batch_loss import batch_loss, own_loss
from sheer.loop.cached import cached
from sheer.loop.callbacks import Callback, Position
from sheer.loop.engine import check_ownership, frozen_sha256, prepared, switched
from sheer.loop.fitting import fit_step
from sheer.loop.item_losses import ItemLosses
from sheer.loop.memory import Halving, half, in_update, split_event, split_valid
from sheer.loop.optimizers import OPTIMIZERS, set_rates
from sheer.loop.step import Loss, Update, hopeless, joint, moving_buffers, put_back, train_step
from sheer.loop.updates import Average, BestEpoch, Patience
from sheer.loop.watch import WINDOW, announced, fitted_events, looked_back, stuck, validated, value_of
from sheer.model.prefix import suffix
from sheer.model.stages import parameter_groups, set_modes, set_trainable
from sheer.plan.augmentations import Function
from sheer.plan.plan import Numerics, Phase, Plan
from sheer.plan.schedules import schedule_named
from sheer.record.checkpoint import COMPLETED, RunState
from sheer.record.keeping import Keeper
from sheer.record.run import Event
from sheer.streams import borrowed_generators, reseed, stream_key
from sheer.task.losses import LOSSES, EnsembleLoss, Weighted
from sheer.task.metrics import Metric
from sheer.task.tasks import TASKS

Metrics = Mapping[str, Metric]


@dataclass(kw_only=True)
class Carried:
    """What a phase carries from step to step beside the model's weights; `state` and `load` are all that a checkpoint needs of it.

    `losses` are those of the epoch, behind the last ones of the epoch before.
    """

    optimizer: torch.optim.Optimizer
    step: Any
    average: Average | None
    patience: Patience | None
    best: BestEpoch | None
    frozen_sha256: str
    losses: list[torch.Tensor] = field(default_factory=list)
    before_epoch: list[float] = field(default_factory=list)

    def state(self) -> dict[str, Any]:
        """Plain values and tensors, the very ones in use."""
        parts = {"average": self.average, "patience": self.patience, "best": self.best}
        return {
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.step.scaler.state_dict() if isinstance(self.step, Update) else {},
            "micro": self.step.micro if isinstance(self.step, Update) else 0,
            "frozen_sha256": self.frozen_sha256,
            "losses": self.losses,
            "before_epoch": self.before_epoch,
            **{name: vars(part) for name, part in parts.items() if part is not None},
        }

    def load(self, state: dict[str, Any], phase: Phase, numerics: Numerics) -> None:
        """Go on from what `state` gave, in this process or in another; its tensors are used from now on.

        Raises:
            RunError: it is not what such a phase carries.
        """
        try:
            self._load(state, phase, numerics)
        except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            raise RunError(
                f"The checkpoint does not hold what phase {phase.name} carries: {error!r}. Remove it to go on from the one before."
            ) from error

    def _load(self, state: dict[str, Any], phase: Phase, numerics: Numerics) -> None:
        device = torch.device(numerics.device)
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = step_of(phase, numerics, state["micro"])
        if isinstance(self.step, Update):
            self.step.scaler.load_state_dict(state["scaler"])
        self.frozen_sha256, self.before_epoch = state["frozen_sha256"], state["before_epoch"]
        self.losses = [loss.to(device) for loss in state["losses"]]
        for name, part in (("average", self.average), ("patience", self.patience), ("best", self.best)):
            if part is not None:
                vars(part).update(state[name])
        for keeps in (self.average, self.best):
            if keeps is not None:
                keeps.values = [tensor.to(device) for tensor in keeps.values]


def train(
    model: nn.Module,
    state: RunState,
    position: Position,
    feeds: Sequence[Feed],
    metrics: Metrics,
    callbacks: Sequence[Callback],
    keeper: Keeper | None = None,
) -> str:
    """Carry out `state.plan` from where `state` stands, which moves with it; returns why it stopped, "" if it was paused.

    `position` is that of `state`, for callbacks; `feeds` has one feed a phase to do, from `prepared_feeds`; `metrics` are the
    functions of `plan.metrics`; `keeper` writes checkpoints. What was paused goes on to the same bits from `state`, with the
    model's weights as they were then.

    The caller's random generators, thread count and deterministic switch are left as they were found.

    Raises:
        OwnershipError: the optimiser's tensors are not the model's trainable ones.
        FrozenError: a frozen tensor moved.
        DeviceMemoryError: one item at a time is too much for the device.
        DataError: a head could not be fitted, for next to nothing is finite.
    """
    plan, numerics, stages = state.plan, state.plan.numerics, [stage.prefixes for stage in state.plan.model.stages]
    device, task, weighted = torch.device(numerics.device), plan.data.task.made(TASKS), plan.weighted_metrics
    fitting = [event.size for event in state.events if event.kind == "split valid"]
    whole, watching = Halving(model, fitting[-1]) if fitting else model, [one for one in callbacks if isinstance(one, ItemLosses)]
    with (
        switched(numerics),
        borrowed_generators(device),
        prepared(model, numerics, compiled=numerics.compile),
        announced(callbacks, position),
    ):
        model.to(device, memory_format=feeds[0].memory_format)  # type: ignore[call-overload]
        for number, feed in enumerate(feeds, state.phase):
            phase, first_step = plan.phases[number], plan.steps_before(number)
            first_epoch = sum(before.epochs for before in plan.phases[:number])
            position.phase, state.phase = phase.name, number
            if keeper and state.carried is None:
                keeper.save(model, state, None)
            if numerics.compile:
                torch.compiler.reset()
            weights = None if feed.data.weights is None else torch.from_numpy(feed.data.weights).to(device)
            fits, limit = phase.optimizer.name == "lbfgs", min(phase.skip_limit, phase.epochs * phase.steps_per_epoch)
            altered = bool(weights is not None or phase.class_weights or phase.mix or watching)
            set_trainable(model, stages, phase.trains_from, phase.norm)
            schedule, loss, mix = schedule_of(phase), loss_of(phase, feed.functions, plan.model.kind), mix_of(phase) if phase.mix else None
            carried = carried_by(model, plan, phase, stages)
            optimizer, average, patience, best = carried.optimizer, carried.average, carried.patience, carried.best
            if state.carried is not None:
                carried.load(state.carried, phase, numerics)
            modules, started = cast(tuple[str, ...], phase.prefix.options().get("modules", ())), time.perf_counter()
            if modules:
                features = cached(feed, phase, model, first_epoch, position, callbacks, first_step, state.carried is not None)
                if features is None:
                    return ""
                feed = features
                del features
            for epoch in range(state.epoch, phase.epochs):
                epoch_step = first_step + epoch * phase.steps_per_epoch
                set_modes(model, stages, phase.trains_from, phase.norm)
                run = suffix(model, modules) if modules else model
                judged, moving, left = run if modules else whole, moving_buffers(model), False
                for place, batch in enumerate(feed.training(first_epoch + epoch, skip=state.batch), state.batch):
                    step_number = epoch_step + place
                    progress = (step_number - first_step) / (phase.epochs * phase.steps_per_epoch)
                    set_rates(optimizer, schedule.rate(progress), schedule.momentum(progress))
                    inputs, step_loss = batch.inputs, loss
                    if altered:
                        key = stream_key(plan.seed, "mix", step_number)
                        inputs, step_loss = batch_loss(loss, phase, batch, weights, mix, key, () if fits else watching, feed.data)
                    before, value = joint(moving), None
                    while value is None:
                        reseed(stream_key(plan.seed, "step", step_number), device)
                        try:
                            value = carried.step(run, step_loss, optimizer, inputs, batch.target)
                        except torch.OutOfMemoryError as error:
                            updating = in_update(error, optimizer) or fits
                        if value is None:  # here the tensors of the pass that failed are let go
                            put_back(moving, before, torch.tensor(math.nan, device=device))
                            carried.step = split_step(carried.step, model, optimizer, phase, numerics, len(inputs), updating)
                            state.events.append(split_event(step_number, carried.step.micro, model))
                    put_back(moving, before, value)
                    carried.losses.append(value)
                    if average:
                        average.follow(model)
                    state.batch, position.step = place + 1, position.step + 1
                    for callback in callbacks:
                        callback.on_step(position)
                    if (step_number + 1 - first_step) % limit == 0 and hopeless(carried.losses, limit):
                        position.stop = stuck(phase, limit, step_number + 1, first_epoch + epoch + 1)
                        break
                    if keeper:
                        keeper.look(model, state, carried.state)
                    left = bool(position.pause)
                    if left:
                        break
                if left:  # in the epoch, so that it is not done, whatever was to stop after it
                    break
                each = torch.stack(carried.losses[-state.batch :]).cpu().double()
                train_loss = float(each.nanmean())
                state.events += looked_back(np.array(carried.before_epoch), each.numpy(), feed, first_epoch + epoch, epoch_step)
                carried.before_epoch = [*carried.before_epoch[-WINDOW:], *each.tolist()]
                if average:
                    average.swap(model)
                row = None
                while row is None:
                    try:
                        row = validated(judged, model, feed, task, loss, metrics, weighted, phase, first_epoch + epoch, train_loss, started)
                    except torch.OutOfMemoryError:
                        judged = Halving(run)
                        whole = whole if modules else judged
                state.rows.append(row)
                if isinstance(judged, Halving) and (shrunk := judged.shrunk()):
                    state.events.append(split_valid(epoch_step + state.batch, shrunk))
                state.events += fitted_events(optimizer, feed, first_epoch + epoch, epoch_step) if fits else []
                state.epoch, state.batch, carried.losses, started = epoch + 1, 0, carried.losses[-phase.skip_limit :], time.perf_counter()
                position.epoch += 1
                for callback in callbacks:
                    callback.on_epoch(position, row)
                if best:
                    best.look(model, value_of(row, best.metric))
                if average:
                    average.swap(model)
                if patience and patience.over(value_of(row, patience.metric)) and epoch + 1 < phase.epochs:
                    what = (
                        f"phase {phase.name} ended after epoch {epoch + 1} of {phase.epochs}: "
                        f"no better {patience.metric} for {patience.epochs} epochs"
                    )
                    state.events.append(Event(step=state.step, kind="early end", what=what))
                    position.step += (phase.epochs - epoch - 1) * phase.steps_per_epoch
                    position.epoch += phase.epochs - epoch - 1
                    state.epoch = phase.epochs
                left = bool(position.pause) and not position.stop
                if left or position.stop or state.epoch == phase.epochs:
                    break
            if left:
                state.carried = carried.state()
                return ""
            if average:
                average.swap(model)
            if best:
                best.restore(model)
            if frozen_sha256(model, stages, phase) != carried.frozen_sha256:
                raise FrozenError(f"Phase {phase.name}: a tensor that the plan calls frozen has moved. Was it changed by a callback?")
            state.phase, state.epoch, state.batch, state.carried = number + 1, 0, 0, None
            if position.stop:
                break
    first_step = plan.steps_before(state.first)
    early = [event.what for event in state.events if event.kind == "early end" and event.step > first_step]
    return "; ".join([position.stop or COMPLETED, *early])


def carried_by(model: nn.Module, plan: Plan, phase: Phase, stages: Sequence[Sequence[str]]) -> Carried:
    """What a phase carries at its beginning, its optimiser proved to hold the model's trainable tensors."""
    groups = parameter_groups(model, stages, phase.rates, phase.weight_decay, phase.no_decay, plan.model.undecayed)
    optimizer, (average, patience, best) = phase.optimizer.made(OPTIMIZERS).build(groups), extras_of(phase)
    check_ownership(model, optimizer)
    if average:
        average.start(model)
    step, frozen = step_of(phase, plan.numerics), frozen_sha256(model, stages, phase)
    return Carried(optimizer=optimizer, step=step, average=average, patience=patience, best=best, frozen_sha256=frozen)


def schedule_of(phase: Phase) -> Any:
    """Its `rate` and `momentum` are functions of progress."""
    return schedule_named(phase.schedule.name, phase.schedule.options())


def loss_of(phase: Phase, functions: Mapping[str, Function], kind: str = "") -> Loss:
    """One value an item, times the weight of its class where there are weights; `functions` has those of your own. For a body of `kind`
    ensemble the mean of its members' losses."""
    loss = own_loss(phase.loss, functions) if phase.loss.name == "own" else phase.loss.made(LOSSES)
    loss = EnsembleLoss(loss=loss) if kind == "ensemble" else loss
    return Weighted(loss=loss, weights=phase.class_weights) if phase.class_weights else loss


def step_of(phase: Phase, numerics: Numerics, micro: int = 0) -> Any:
    """`train_step`, `fit_step` for L-BFGS, or an `Update` where the plan clips, accumulates or scales, or `micro` items fit."""
    if phase.optimizer.name == "lbfgs":
        return fit_step
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


def extras_of(phase: Phase) -> tuple[Average | None, Patience | None, BestEpoch | None]:
    """The moving average of the weights, what ends the phase early, and what keeps the best epoch's weights; None for each that is off."""
    average = Average(decay=phase.ema) if phase.ema else None
    patience = Patience(**phase.stop.options()) if phase.stop else None  # type: ignore[arg-type]
    best = BestEpoch(**phase.keep.options()) if phase.keep.name == "best" else None  # type: ignore[arg-type]
    return average, patience, best
