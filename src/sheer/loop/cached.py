"""A phase's feed of what the frozen part of the network gives, computed once an item and view."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import cast

import torch

from sheer.data.feed import Arrays, Batch, Feed
from sheer.errors import DeviceMemoryError
from sheer.loop.callbacks import Callback, Position
from sheer.loop.memory import half, split_frozen
from sheer.model.cutting import cut
from sheer.model.prefix import cached_features
from sheer.plan.plan import Phase


class Cached(Feed):
    """The batches of another feed, each item as its features; each epoch has the next of the `views`, one feed each."""

    def __init__(self, views: Sequence[Feed], first: int) -> None:
        self.__dict__.update(vars(views[0]))
        self.views, self.first = views, first

    def training(self, epoch: int, skip: int = 0) -> Iterator[Batch]:
        """One epoch's batches from number `skip` on, in the order of the other feed."""
        return self.views[(epoch - self.first) % len(self.views)].training(epoch, skip)


def with_features(feed: Feed, features: Mapping[str, torch.Tensor]) -> Feed:
    """The feed with features (items, ...) in the place of what is read, by input; "" for the only one."""
    copied = copy.copy(feed)
    if "" in features:
        copied.pictures, copied.source = None, Arrays(features[""], feed.device.type == "cuda")
        return copied
    inputs = tuple(replace(one, array=features[one.name], place=None) if one.name in features else one for one in feed.data.inputs)
    copied.data = replace(feed.data, inputs=inputs)
    return copied


def _alone(feed: Feed, name: str) -> Feed:
    """The feed of one of several inputs; the feed itself for "", the only one."""
    copied = copy.copy(feed)
    if name:
        copied.data = replace(feed.data, inputs=tuple(one for one in feed.data.inputs if one.name == name))
    return copied


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
    count = int(str(options["views"]))
    parts, views = cut(model, cast(tuple[str, ...], options["modules"])), max(count, 1)
    drawn = {name: 0 if any(one.name == name and one.array is not None for one in feed.data.inputs) else count for name in parts}
    done, kept = 0, dict[str, torch.Tensor]()
    every = sum(len(valid) + max(own, 1) * len(train) for own in drawn.values())
    for name, (part, last) in parts.items():
        alone, own = _alone(feed, name), drawn[name]
        passes = [(0, alone.plain(valid, size)), *((view, alone.view(train, epoch + view, size)) for view in range(own))]
        passes += [] if own else [(0, alone.plain(train, size))]
        batches = ((view, batch.index, batch.inputs.parts[name] if name else batch.inputs) for view, batches in passes for batch in batches)
        for new, features in cached_features(part, last, bool(options["fold"]), (max(own, 1), len(feed.data.targets)), batches):
            done, kept[name] = done + new, features
            if position is None:
                continue
            position.features = (done, every)
            for callback in callbacks:
                if hasattr(callback, "on_features"):
                    callback.on_features(position)
            if position.pause:
                return None
    return Cached(
        [with_features(feed, {name: features[view % len(features)] for name, features in kept.items()}) for view in range(views)], epoch
    )
