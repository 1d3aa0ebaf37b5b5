"""Observers of the loop: called by name, in list order; all they may set are the reasons `position.stop` and `position.pause`.

A fit that is stopped ends after the epoch: it is finished. One that is paused is left after the step (or the epoch's validation),
unfinished, with all that it needs to go on to the same bits.

on_start(position)
for each phase: on_features(position) for each batch of cached features, of observers that have it
                for each epoch: for each step: on_step(position)
                                on_epoch(position, row)
on_end(position), however the fit ends

What a callback raises ends the fit where it is. The model is then somewhere inside the fit, at no state that a plan describes, so it is
neither saved nor trained on; with a run folder the same call goes on from its newest checkpoint.
"""

from __future__ import annotations

import csv
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from tqdm import tqdm

from sheer.errors import PlanError
from sheer.record.checkpoint import RunState
from sheer.record.history import told
from sheer.record.run import Event, Row, row_cells
from sheer.task.metrics import why_undefined


@dataclass(kw_only=True)
class Position:
    """Where the loop is. `step` and `epoch` count from the start of this fit, `steps` and `epochs` are their totals.

    With `weighted` metrics held-out items count by their weights. `events` are those of the whole run so far;
    `features` are the rows of a phase's cached features that are known, and all of them.
    """

    phase: str
    epoch: int
    epochs: int
    step: int
    steps: int
    metrics: tuple[str, ...]
    weighted: bool = False
    events: list[Event] = field(default_factory=list)
    stop: str = ""
    pause: str = ""
    features: tuple[int, int] = (0, 0)


def position_of(state: RunState) -> Position:
    """Where a fit stands, as callbacks see it."""
    fit, before = state.plan.phases[state.first :], state.plan.steps_before(state.first)
    return Position(
        phase="",
        epoch=sum(phase.epochs for phase in state.plan.phases[state.first : state.phase]) + state.epoch,
        epochs=sum(phase.epochs for phase in fit),
        step=state.step - before,
        steps=state.plan.steps_before(len(state.plan.phases)) - before,
        metrics=state.plan.metrics,
        weighted=state.plan.weighted_metrics,
        events=state.events,
    )


class Callback(Protocol):
    """What the loop calls. Whatever changes learning is a field of the plan, not a callback."""

    def on_start(self, position: Position) -> None: ...

    def on_step(self, position: Position) -> None: ...

    def on_epoch(self, position: Position, row: Row) -> None: ...

    def on_end(self, position: Position) -> None: ...


def check_callbacks(given: object) -> None:
    """PlanError unless it is a sequence of objects with the methods of `Callback`."""
    names = ("on_start", "on_step", "on_epoch", "on_end")
    if not isinstance(given, Sequence) or not all(callable(getattr(one, name, None)) for one in given for name in names):
        raise PlanError(f"callbacks={given!r}: give a list of objects that have the methods {', '.join(names)}.")


class Progress:
    """A bar with time left on a terminal, and one line an epoch everywhere."""

    def __init__(self) -> None:
        self.bar: tqdm[None] | None = None
        self.before = 0
        self.undefined: dict[str, str] = {}

    def on_start(self, position: Position) -> None:
        """Print the header and open the bar."""
        names = " ".join(f"{name[:18]:>10}" for name in position.metrics)
        if position.weighted:
            print("Each held-out item counts in the metrics what its weight is.")
        print(f"{'phase':<10} {'epoch':>5} {'train_loss':>10} {'valid_loss':>10} {names} {'seconds':>7}")
        self.before = len(position.events)
        self.bar = tqdm(
            total=position.steps, initial=position.step, unit="step", leave=False, dynamic_ncols=True, disable=not sys.stderr.isatty()
        )

    def on_step(self, position: Position) -> None:
        """Move the bar."""
        assert self.bar is not None
        self.bar.update()

    def on_features(self, position: Position) -> None:
        """Say how far the features are."""
        assert self.bar is not None
        done, every = position.features
        self.bar.set_postfix_str("" if done == every else f"frozen part: {done:,} of {every:,} items")

    def on_epoch(self, position: Position, row: Row) -> None:
        """Print the row."""
        values = " ".join(f"{value:>{max(10, min(len(name), 18))}.4f}" for name, value in row.metrics.items())
        text = f"{row.phase:<10} {row.epoch:>5} {row.train_loss:>10.4f} {row.valid_loss:>10.4f} {values} {row.seconds:>7.1f}"
        tqdm.write(text, file=sys.stdout)
        sys.stdout.flush()
        self.undefined = {name: why_undefined(name, 1) for name, value in row.metrics.items() if math.isnan(value)}

    def on_end(self, position: Position) -> None:
        """Close the bar, and say what happened beside learning, and why a metric is no number."""
        assert self.bar is not None
        self.bar.close()
        undefined = [f"{name} is nan after the last epoch: {why}." for name, why in self.undefined.items()]
        for line in [*undefined, *told(position.events[self.before :]), *([f"Stopped: {position.stop}"] if position.stop else [])]:
            print(line)


class HistoryFile:
    """Appends each epoch's row to history.csv as soon as it is known."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_start(self, position: Position) -> None:
        """Nothing to do: the run folder has made the file with its header."""

    def on_step(self, position: Position) -> None:
        """Nothing to do."""

    def on_epoch(self, position: Position, row: Row) -> None:
        """Append the row; where that fails training goes on, and the end of the fit writes the file as a whole."""
        try:
            with self.path.open("a", newline="") as file:
                csv.writer(file, lineterminator="\n").writerow(row_cells(row))
        except OSError as error:
            print(f"sheer: The row of epoch {row.epoch} could not be written to {self.path}: {error}. Training goes on.", file=sys.stderr)

    def on_end(self, position: Position) -> None:
        """Nothing to do."""
