"""What watching a fit takes: observers are told of its start and end; an epoch's losses say afterwards which steps were skipped or
spikes; the row of an epoch. Looking changes nothing; it costs nothing a step."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from sheer.data.feed import Batch, Feed, data_path
from sheer.errors import DataError
from sheer.loop.batch_loss import batch_loss
from sheer.loop.callbacks import Callback, Position
from sheer.loop.step import Loss, scores_of
from sheer.model.hashing import weights_sha256
from sheer.plan.plan import Phase
from sheer.record.run import Event, Row
from sheer.task.metrics import Metric, counting
from sheer.task.tasks import Task

WINDOW, LEAST, MULTIPLE = 100, 20, 2.0


@contextlib.contextmanager
def announced(callbacks: Sequence[Callback], position: Position) -> Iterator[None]:
    """The callbacks are told of the start, and of the end however it comes."""
    for callback in callbacks:
        callback.on_start(position)
    try:
        yield
    finally:
        for callback in callbacks:
            callback.on_end(position)


def spikes(before: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Positions in `new` of losses above MULTIPLE times the largest of the WINDOW losses before each; both float64 (steps,).

    Losses that are no finite numbers neither count nor are spikes; there must be LEAST losses before.

    >>> spikes(np.full(20, 0.5), np.array([0.9, 1.1, 2.3])).tolist()
    [2]
    """
    values = np.concatenate([np.full(WINDOW, -np.inf), before[-WINDOW:], new])
    counted = np.where(np.isfinite(values), values, -np.inf)
    windows = np.lib.stride_tricks.sliding_window_view(counted, WINDOW)[-len(new) - 1 : -1]
    seen = np.isfinite(windows).sum(axis=1)
    return np.flatnonzero((seen >= LEAST) & np.isfinite(new) & (new > MULTIPLE * windows.max(axis=1)))


def looked_back(before: np.ndarray, new: np.ndarray, feed: Feed, epoch: int, step: int) -> list[Event]:
    """The events of an epoch (its number from 0) whose losses are `new`, the first of them at `step`; `before` are those before it."""
    skipped, high = np.flatnonzero(~np.isfinite(new)), spikes(before, new)
    if not len(skipped) and not len(high):
        return []
    batches = feed.drawn(epoch)[0]
    found = [(int(place), "skipped", "loss or gradients were no finite numbers, so nothing was updated") for place in skipped]
    found += [(int(place), "spike", f"loss {new[place]:.4g}, over {MULTIPLE:g} times the {WINDOW} before it") for place in high]
    return [
        Event(step=step + place, kind=kind, what=what, items=tuple(data_path(feed.data, item) for item in batches[place].tolist()))
        for place, kind, what in sorted(found)
    ]


def fitted_events(optimizer: torch.optim.Optimizer, feed: Feed, epoch: int, step: int) -> list[Event]:
    """What a fit of the head has found, and which items had no part in it; `epoch` is its number from 0."""
    state: Any = optimizer.state
    losses, places = state["left_out"], state["not_finite"]
    if not losses:
        return []
    best = min(losses, key=losses.__getitem__)
    tried = ", ".join(f"{penalty:g}: {loss:.4f}" for penalty, loss in losses.items())
    unfit = [_never_in_it(places, feed, epoch, step)] if places else []
    return [*unfit, Event(step=step, kind="fitted", what=f"penalty {best:g}, by the loss of items left out of the fit ({tried})")]


def _never_in_it(places: Sequence[int], feed: Feed, epoch: int, step: int) -> Event:
    """Which items of a fit, by their places in its batch, had no part in it."""
    batch = feed.drawn(epoch)[0][0]
    items = tuple(data_path(feed.data, batch[place]) for place in places)
    of = f"{len(items)} of {len(batch)} items had no part in the fit, such as {items[0]}"
    return Event(step=step, kind="skipped", what=f"{of}: their features or losses are no finite numbers", items=items)


def stuck(phase: Phase, count: int, step: int, epoch: int) -> str:
    """Why a run stops whose last `count` steps were all skipped.

    Raises:
        DataError: this was a fit, which was the only step of its phase.
    """
    if phase.optimizer.name == "lbfgs":
        raise DataError(
            f"Phase {phase.name}: the head could not be fitted, for what the frozen part gives, or the loss, is no finite number for all "
            "items or nearly all, or the numbers are too large. The head is as it was. Look at one with learn.preview(); are the inputs "
            "finite, the weights whole, and the precision float32? freeze_epochs=1, or optimizer='adamw', trains the head by "
            "steps instead, and skips bad ones."
        )
    return (
        f"the last {count} steps before step {step} (epoch {epoch}) were skipped, because the loss or a gradient was no finite "
        "number; the weights are those before them. Too high a rate, or an input that is no number?"
    )


def value_of(row: Row, name: str) -> float:
    """A loss or metric of an epoch by its name."""
    return row.metrics[name] if name in row.metrics else float(getattr(row, name))


def validated(
    judged: nn.Module,
    model: nn.Module,
    feed: Feed,
    task: Task,
    loss: Loss,
    metrics: Mapping[str, Metric],
    weighted: bool,
    phase: Phase,
    epoch: int,
    train_loss: float,
    started: float,
) -> Row:
    """The row of history for the model as it is now; `judged` gives its scores of what the feed gives.

    With `weighted` the metrics take each item's weight too; `epoch` is counted from 0.
    """
    items, weights = feed.data.valid, feed.data.weights
    scores = scores_of(judged, (b.inputs for b in feed.plain(items))) if len(items) else torch.zeros(0, len(feed.data.classes))
    outputs, true = task.outputs(scores), feed.data.targets[items]
    wanted, seen = task.wanted(true), counting(outputs, true, weights[items]) if weighted and weights is not None else (outputs, true)
    if weights is not None or phase.class_weights:
        batch, counts = Batch(inputs=scores, target=wanted, index=items), None if weights is None else torch.from_numpy(weights)
        loss = batch_loss(loss, phase, batch, counts)[1]
    valid_loss = float(loss(scores, wanted).double().mean())
    values = {name: metric(*seen) for name, metric in metrics.items()}
    seconds, now = time.perf_counter() - started, weights_sha256(model)
    return Row(
        phase=phase.name, epoch=epoch + 1, train_loss=train_loss, valid_loss=valid_loss, metrics=values, seconds=seconds, weights_sha256=now
    )
