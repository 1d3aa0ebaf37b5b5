"""`ItemLosses`: the training loss of every item in every epoch, watched without a trace: which items are learnt late, or forgotten."""

from __future__ import annotations

import csv
import io
import math
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sheer.data.feed import data_path
from sheer.data.mix import loss_at
from sheer.data.sources import Data
from sheer.errors import PlanError, RunError, plural
from sheer.loop.callbacks import Position
from sheer.plan.checks import path_of, real, whole
from sheer.plan.table import columns
from sheer.record.run import Row, write_atomically

Seen = list[tuple[np.ndarray, torch.Tensor, torch.Tensor | None]]
UNREADABLE = (ValueError, KeyError, EOFError, TypeError, IndexError, RuntimeError, csv.Error, zipfile.BadZipFile, zlib.error)


def right_ones(scores: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Which items' highest score is that of their class, bool (N,); of an ensemble (N, members, classes) that of its members' mean
    probabilities, as its head has it outside training.

    >>> right_ones(torch.tensor([[[9.0, 0.0], [0.0, 1.0]]]), torch.tensor([0])).tolist()
    [True]
    """
    joint = torch.log_softmax(scores, 2).logsumexp(1) if scores.ndim == 3 else scores
    return joint.argmax(1) == target


@dataclass(frozen=True, kw_only=True, eq=False)
class Watched:
    """A batch's loss that keeps what it gives, and which classes are right; `index` (N,) are the items' positions."""

    loss: Any
    index: np.ndarray
    seen: Seen
    told: list[bool] = field(default_factory=list)

    def __call__(self, scores: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        each: torch.Tensor = self.loss(scores, target)
        if not self.told:  # an optimiser that searches along a line asks again within its step
            right = right_ones(scores.detach(), target) if target.ndim == 1 else None
            self.seen.append((self.index, each.detach().clone(), right))
            self.told.append(True)
        return each

    def counts(self, target: torch.Tensor) -> torch.Tensor:
        """What each item counts, as the loss has it."""
        counts: torch.Tensor = self.loss.counts(target)
        return counts

    def at(self, rows: slice) -> Watched:
        """The loss of some of the batch's items, which are kept in the same place."""
        return Watched(loss=loss_at(self.loss, rows), index=self.index[rows], seen=self.seen)


@dataclass(frozen=True, kw_only=True)
class Learning:
    """How one item was learnt. `first` is the epoch in which it was first right, `since` that from which it was right to the end,
    each 0 for never; `events` are how often it was right and then wrong; `loss` is that of its last epoch.
    """

    item: str
    first: int
    since: int
    events: int
    loss: float


class ItemLosses:
    """An observer for `callbacks=[...]` that keeps each item's training loss in each epoch; nothing that is trained changes by it.

    The losses are those the steps took: of augmented and mixed pictures, in training mode, before the step, times the item's
    weights, but not divided by them. An item is right in an epoch where the class with its highest score was its own (of a mixed
    picture, that of its larger part; of an ensemble, by the mean of its members' probabilities); for labels and numbers where its loss
    was at most `below`. An item that an epoch did not draw stays as it was; one that none did is neither learnt nor never learnt. What
    counts as forgotten: Toneva et al. 2019 (arXiv 1812.05159).

    Attributes:
        items: Names of the items to train on, in item order.
        epochs: Their numbers over the whole plan, from 1.
        losses: float32 (epochs, items), nan where an item was not drawn; the mean where it was drawn several times.
        right: int8 (epochs, items), 1 right, 0 wrong, -1 not drawn; None where items have no one class.
    """

    def __init__(self) -> None:
        self.items: tuple[str, ...] = ()
        self.epochs: tuple[int, ...] = ()
        self.losses = np.zeros((0, 0), dtype=np.float32)
        self.right: np.ndarray | None = None
        self._seen: Seen = []
        self._data: Data | None = None
        self._places = np.zeros(0, dtype=np.int64)

    def _begin(self, data: Data) -> None:
        items = tuple(data_path(data, item) for item in data.train.tolist())
        if self.items and items != self.items:
            raise PlanError("These ItemLosses have watched other items already: give each data set its own.")
        self._places = np.zeros(len(data.targets), dtype=np.int64)
        self._places[data.train] = np.arange(len(data.train))
        if not self.items:
            self.items, self.losses = items, np.zeros((0, len(items)), dtype=np.float32)
        self._data = data

    def watched(self, loss: Any, index: np.ndarray, data: Data | None) -> Watched:
        """The loss of the batch of items with these positions in `data`, watched.

        Raises:
            PlanError: the data are not those that were watched before.
        """
        if data is not None and data is not self._data:
            self._begin(data)
        return Watched(loss=loss, index=index, seen=self._seen)

    def on_start(self, position: Position) -> None:
        """A fit begins, or goes on inside an epoch, whose first part was seen if it was watched then."""
        if position.step == 0:
            self._seen.clear()

    def on_step(self, position: Position) -> None:
        """Nothing to do: what was seen stays on the device until the epoch ends."""

    def on_epoch(self, position: Position, row: Row) -> None:
        """Put the epoch's losses in their places."""
        if not self._seen:  # a fitted head: its losses are those of a search
            return
        places = self._places[np.concatenate([index for index, _, _ in self._seen])]
        each = torch.cat([losses for _, losses, _ in self._seen]).float().cpu().double().numpy()
        times = np.bincount(places, minlength=len(self.items))
        with np.errstate(invalid="ignore"):
            means = np.bincount(places, weights=each, minlength=len(self.items)) / times
        rights = [right for _, _, right in self._seen if right is not None]
        if rights:
            last = np.full(len(self.items), -1, dtype=np.int8)
            last[places] = torch.cat(rights).cpu().numpy()
            before = np.zeros((0, len(self.items)), dtype=np.int8) if self.right is None else self.right
            self.right = np.vstack([before, last])
        self.losses = np.vstack([self.losses, means.astype(np.float32)])
        self.epochs = (*self.epochs, row.epoch)
        self._seen.clear()

    def on_end(self, position: Position) -> None:
        """Nothing to do."""

    def learnt(self, below: float | None = None) -> np.ndarray:
        """Which items were right, bool (epochs, items); one that was not drawn is as it was in the epoch before.

        Raises:
            PlanError: nothing was watched yet, or there are no classes and `below` was not given.
        """
        if not self.epochs:
            raise PlanError("No epoch was watched yet: give these ItemLosses as callbacks=[...] to a fit.")
        if below is not None:
            right = self.losses <= real(below, "below", -math.inf)
        elif self.right is not None:
            right = self.right == 1
        else:
            raise PlanError("These items have no one class that could be right: say below which loss an item counts as learnt, below=0.1.")
        states, state = [], np.zeros(len(self.items), dtype=bool)
        for there, now in zip(self._drawn(), right, strict=True):
            state = np.where(there, now, state)
            states.append(state)
        return np.array(states)

    def forgetting_events(self, below: float | None = None) -> np.ndarray:
        """How often each item was right and then wrong, int64 (items,)."""
        states = self.learnt(below)
        return (states[:-1] & ~states[1:]).sum(axis=0)

    def learning(self, below: float | None = None) -> list[Learning]:
        """How each item was learnt, in item order."""
        states, events = self.learnt(below), self.forgetting_events(below)
        numbers = np.array([0, *self.epochs])
        first = numbers[np.where(states.any(axis=0), states.argmax(axis=0) + 1, 0)]
        wrong_last = np.where(states.all(axis=0), 0, len(states) - (~states[::-1]).argmax(axis=0))
        since = np.append(numbers, 0)[np.where(states[-1], wrong_last + 1, 0)]
        found = zip(self.items, first.tolist(), since.tolist(), events.tolist(), self._last().tolist(), strict=True)
        return [Learning(item=item, first=one, since=end, events=times, loss=loss) for item, one, end, times, loss in found]

    def _drawn(self) -> np.ndarray:
        """Which epochs drew which items, bool (epochs, items)."""
        return ~np.isnan(self.losses) if self.right is None else self.right >= 0

    def _last(self) -> np.ndarray:
        """The loss of the last epoch that drew each item, float32 (items,)."""
        last = self.losses[0]
        for losses in self.losses[1:]:
            last = np.where(np.isnan(losses), last, losses)
        return last

    def forgotten(self, below: float | None = None) -> list[Learning]:
        """Items that were right and then wrong at least once, most often first."""
        return sorted((one for one in self.learning(below) if one.events), key=lambda one: (-one.events, -one.loss))

    def unforgettable(self, below: float | None = None) -> list[Learning]:
        """Items that were right once and never wrong afterwards, the earliest first."""
        return sorted((one for one in self.learning(below) if one.first and not one.events), key=lambda one: (one.first, one.loss))

    def never_learnt(self, below: float | None = None) -> list[Learning]:
        """Items that were drawn and never right, the highest last loss first."""
        times = self._drawn().sum(axis=0)
        never = (one for place, one in enumerate(self.learning(below)) if times[place] and not one.first)
        return sorted(never, key=lambda one: -math.inf if math.isnan(one.loss) else -one.loss)

    def never_drawn(self) -> tuple[str, ...]:
        """Items that no epoch drew, such as those of last batches that were dropped, in item order."""
        return tuple(self.items[place] for place in np.flatnonzero(~self._drawn().any(axis=0)))

    def latest_learnt(self, n: int = 10, below: float | None = None) -> list[Learning]:
        """The `n` items that are right at the end and became so last, the latest first."""
        held = sorted((one for one in self.learning(below) if one.since), key=lambda one: (-one.since, -one.loss))
        return held[: whole(n, "n", 1)]

    def report(self, n: int = 10, below: float | None = None) -> str:
        """How many items are never learnt, forgotten and unforgettable, and the `n` with the highest last loss of the first two.

        Items that were never drawn are counted by themselves.
        """
        groups = {"never learnt": self.never_learnt(below), "forgotten": self.forgotten(below), "unforgettable": self.unforgettable(below)}
        counts = ", ".join(f"{len(ones)} {name}" for name, ones in groups.items())
        shown = [*groups["never learnt"], *groups["forgotten"]][: whole(n, "n", 1)]
        rows = [[one.item, str(one.first or "never"), str(one.since or "no"), str(one.events), f"{one.loss:.4f}"] for one in shown]
        header = ("item", "first right", "right since", "forgotten", "last loss")
        text = f"{plural(len(self.items), 'item')} over {plural(len(self.epochs), 'epoch')}: {counts}\n"
        if undrawn := len(self.never_drawn()):
            drew = f"Of {plural(undrawn, 'item')} nothing is known: no epoch drew {'it' if undrawn == 1 else 'them'}"
            text += f"{drew}, as where a last batch that is not full is dropped.\n"
        return text + columns(header, rows, right=(1, 2, 3, 4))

    def save(self, file: str | Path) -> Path:
        """Write them as NAME.npz, or as NAME.csv, a row an item; `ItemLosses.load` reads both. Nothing is overwritten.

        Raises:
            RunError: the file exists, cannot be written, or is neither.
        """
        path = path_of(file, "file")
        if path.suffix not in (".npz", ".csv") or path.exists():
            raise RunError(f"{path}: give the name of a new file that ends in .npz or .csv; nothing is overwritten.")
        try:
            write_atomically(path, self._as_npz() if path.suffix == ".npz" else self._as_csv().encode("utf-8", "surrogateescape"))
        except OSError as error:
            raise RunError(f"{path} cannot be written: {error}.") from error
        return path

    def _as_npz(self) -> bytes:
        out = io.BytesIO()
        right = np.zeros((0, 0), dtype=np.int8) if self.right is None else self.right
        np.savez_compressed(out, losses=self.losses, right=right, items=np.array(self.items, dtype=str), epochs=np.array(self.epochs))
        return out.getvalue()

    def _as_csv(self) -> str:
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)  # a lone carriage return is quoted too
        rights = [] if self.right is None else [f"right {epoch}" for epoch in self.epochs]
        writer.writerow(["item", *(f"loss {epoch}" for epoch in self.epochs), *rights])
        for place, name in enumerate(self.items):
            right = [] if self.right is None else self.right[:, place].tolist()
            writer.writerow([name, *self.losses[:, place].tolist(), *right])
        return out.getvalue()

    @staticmethod
    def load(file: str | Path) -> ItemLosses:
        """What `save` wrote as NAME.npz or as NAME.csv, to the same bits.

        Raises:
            RunError: the file cannot be read, or is none of these.
        """
        path, found = path_of(file, "file"), ItemLosses()
        try:
            content = path.read_bytes()
        except OSError as error:
            raise RunError(f"{path} cannot be read: {error}.") from error
        try:
            if zipfile.is_zipfile(io.BytesIO(content)):
                found._take_npz(content)
            else:
                found._take_csv(content.decode("utf-8", "surrogateescape"))
            table = (len(found.epochs), len(found.items))
            if found.losses.shape != table or (found.right is not None and found.right.shape != table):
                raise ValueError("losses are not one an epoch and item")
        except UNREADABLE as error:
            raise RunError(f"{path} holds no losses of items: give a file that ItemLosses.save wrote, NAME.npz or NAME.csv.") from error
        return found

    def _take_npz(self, content: bytes) -> None:
        with np.load(io.BytesIO(content), allow_pickle=False) as kept:
            self.losses, right = kept["losses"].astype(np.float32), kept["right"].astype(np.int8)
            self.items, self.epochs = tuple(kept["items"].tolist()), tuple(kept["epochs"].tolist())
        self.right = right if right.size else None

    def _take_csv(self, text: str) -> None:
        (first, *names), *rows = csv.reader(io.StringIO(text, newline=""), strict=True)
        self.epochs = tuple(int(name.removeprefix("loss ")) for name in names if name.startswith("loss "))
        losses, rights = [f"loss {epoch}" for epoch in self.epochs], [f"right {epoch}" for epoch in self.epochs]
        if first != "item" or names not in (losses, losses + rights):
            raise ValueError(f"it has the columns {first}, {', '.join(names)}")
        self.items = tuple(row[0] for row in rows)
        table = np.array([row[1:] for row in rows], dtype=np.float64).reshape(len(rows), len(names)).T
        self.losses = table[: len(losses)].astype(np.float32)
        self.right = table[len(losses) :].astype(np.int8) if len(names) > len(losses) else None
