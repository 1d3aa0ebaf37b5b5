"""A phase's feed of what the frozen part of the network gives, computed once an item and view."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from sheer.data.feed import Batch, Feed
from sheer.errors import DeviceMemoryError
from sheer.loop.callbacks import Callback, Position
from sheer.loop.memory import half, split_frozen
from sheer.model.prefix import cached_features
from sheer.plan.plan import Phase


class Cached(Feed):
    """The batches of another feed, each item as its features (views, items, ...); each epoch has the next view."""

    def __init__(self, feed: Feed, features: torch.Tensor, first: int) -> None:
        self.__dict__.update(vars(feed))
        self.features, self.first = features, first

    def training(self, epoch: int, skip: int = 0) -> Iterator[Batch]:
        """One epoch's batches from number `skip` on, in the order of the other feed."""
        return self._kept(self.drawn(epoch)[0][skip:], epoch - self.first)

    def plain(self, items: np.ndarray, batch_size: int = 0) -> Iterator[Batch]:
        """The items in the order given."""
        size = batch_size or self.phase.batch_size
        return self._kept([items[start : start + size] for start in range(0, len(items), size)], 0)

    def _kept(self, rows: list[np.ndarray], view: int) -> Iterator[Batch]:
        for row in rows:
            inputs = self.features[view % len(self.features), torch.from_numpy(row)].to(self.device, non_blocking=True)
            yield Batch(inputs=inputs, target=self.target[torch.from_numpy(row).to(self.device, non_blocking=True)], index=row)


def cached(
    feed: Feed,
    phase: Phase,
    model: torch.nn.Module,
    epoch: int,
    position: Position | None = None,
    callbacks: Sequence[Callback] = (),
    step: int = 0,
    begun: bool = False,
) -> Cached | None:
    """The feed of a phase's features, from the model as it is; None where `position.pause` was set before all were known.

    Where a batch does not fit into memory all of them are computed anew in batches of half the size, which is an event of the run, so
    that its script and a resume take that size too. `epoch` and `step` are the phase's first: view k is cut and augmented as epoch k from
    there on would be. Held-out items are plain. `begun`: some steps of the phase were done already.

    Raises:
        DeviceMemoryError: one item is too much, or what is left of a phase that was begun would have other features.
    """
    size, events = int(str(phase.prefix.options()["batch_size"])), [] if position is None else position.events
    size = next((event.size for event in reversed(events) if event.kind == "split frozen" and event.step >= step), size)
    while True:
        try:
            return _cached(feed, phase, model, epoch, position, callbacks, size)
        except torch.OutOfMemoryError:
            pass  # what the attempt held is let go with the error
        if begun:
            raise DeviceMemoryError(
                f"Phase {phase.name} was begun with what its frozen part gave in batches of {size}, for which there is not enough memory "
                "now; in smaller ones the bits would be others. Resume it where there is as much memory as there was, or begin anew."
            )
        size = half(min(size, len(feed.data.targets)), model, None, "the frozen part")
        events.append(split_frozen(step, size))


def _cached(
    feed: Feed, phase: Phase, model: torch.nn.Module, epoch: int, position: Position | None, callbacks: Sequence[Callback], size: int
) -> Cached | None:
    """`cached` in batches of `size`."""
    options, train, valid = phase.prefix.options(), feed.data.train, feed.data.valid
    count, modules = int(str(options["views"])), options["modules"]
    assert isinstance(modules, tuple)
    passes = [(0, feed.plain(valid, size)), *((view, feed.view(train, epoch + view, size)) for view in range(count))]
    passes += [] if count else [(0, feed.plain(train, size))]
    batches = ((view, batch.index, batch.inputs) for view, batches in passes for batch in batches)
    done, every, known = 0, len(valid) + max(count, 1) * len(train), feed.target
    shape = max(count, 1), len(feed.data.targets)
    for new, features in cached_features(model, str(modules[-1]), bool(options["fold"]), shape, batches):
        done, known = done + new, features
        if position is None:
            continue
        position.features = (done, every)
        for callback in callbacks:
            if hasattr(callback, "on_features"):
                callback.on_features(position)
        if position.pause:
            return None
    return Cached(feed, known, epoch)
