"""Data under a phase's decisions: an iterable of named batches, ready for the network."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from sheer.data.augmentations import augmentations_of
from sheer.data.inputs import Input, Inputs, with_gaps
from sheer.data.photos import Photos, augment, chunks, to_network
from sheer.data.pictures import READERS, Pictures, cut_of, room_for
from sheer.data.sampling import balanced_sample
from sheer.data.sources import Data
from sheer.plan.augmentations import Function
from sheer.plan.plan import Phase
from sheer.streams import permutation, stream_key, uniform_draws

MEMORY_FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """Items for one step: `inputs` as the network takes them, `target` as the loss takes it, `index` positions of the items.

    `inputs` is a tensor, or `Inputs` where an item has several.
    """

    inputs: Any
    target: torch.Tensor
    index: np.ndarray


class Arrays:
    """Items in memory behind the same two methods as `Photos`."""

    def __init__(self, inputs: torch.Tensor, pinned: bool) -> None:
        self.inputs, self.pinned = inputs, pinned

    def batches(self, rows: list[np.ndarray], draws: list[np.ndarray]) -> Iterator[torch.Tensor]:
        """The items of each row; the draws are for pictures that are cut, which these are not."""
        for row in rows:
            items = self.inputs[torch.from_numpy(row).to(self.inputs.device, non_blocking=True)]
            yield items.pin_memory() if self.pinned else items


class Feed:
    """The batches of one phase on one device; `target` has an entry an item, as the loss takes it.

    `epoch` counts from the plan's first phase, so that order and draws never repeat. `pictures` are the data's
    photographs where they are shared with other feeds. `functions` are the augmentations of your own
    that the phase names.
    """

    def __init__(
        self,
        data: Data,
        target: torch.Tensor,
        phase: Phase,
        seed: int,
        device: torch.device,
        memory_format: str,
        readers: int | None,
        pictures: Pictures | None = None,
        functions: Mapping[str, Function] | None = None,
    ) -> None:
        self.data, self.phase, self.seed, self.device = data, phase, seed, device
        self.readers, self.memory_format = READERS if readers is None else readers, MEMORY_FORMATS[memory_format]
        self.target = target.to(device)
        self.mean = torch.tensor(phase.mean, device=device).view(-1, 1, 1)
        self.std = torch.tensor(phase.std, device=device).view(-1, 1, 1)
        self.functions = functions or {}
        self.augmentations = augmentations_of(phase, self.functions, photos=data.arrays is None)
        self._contents: list[str] = []
        self.pictures: Pictures | None = None
        self.source: Photos | Arrays
        self.settled = False
        pinned = device.type == "cuda"
        if data.arrays is not None:
            self.source = Arrays(data.arrays, pinned)
        elif not data.paths:  # several inputs, none of them a photograph
            self.source = Arrays(torch.zeros(0), pinned)
        else:
            self.pictures = pictures or Pictures(data.root, data.paths, None, readers, data.opened)
            self.source = self._photos(self.pictures)
            self.source.pinned = pinned

    def _photos(self, pictures: Pictures) -> Photos:
        photos = pictures.photos(self.phase.resize, self.phase.size)
        if cut_of(self.phase) != photos.resize:
            photos = copy.copy(photos)  # what is kept is shared with it
            photos.resize = cut_of(self.phase)
        return photos

    def _batches(self, rows: list[np.ndarray], draws: list[np.ndarray], augmentations: Sequence[Any]) -> Iterator[Batch]:
        for row, inputs in zip(rows, self._inputs(rows, draws, augmentations), strict=True):
            yield Batch(inputs=inputs, target=self.target[torch.from_numpy(row).to(self.device, non_blocking=True)], index=row)

    def _inputs(self, rows: list[np.ndarray], draws: list[np.ndarray], augmentations: Sequence[Any]) -> Iterator[Any]:
        """What the network takes of each row of items."""
        if self.data.inputs:
            yield from self._several(rows, draws, augmentations)
        else:
            for draw, images in zip(draws, self._images(rows, draws), strict=True):
                yield self._ready(images, draw, augmentations)

    def _several(self, rows: list[np.ndarray], draws: list[np.ndarray], augmentations: Sequence[Any]) -> Iterator[Inputs]:
        """What the network takes of each row of items that have several inputs."""
        streams = [
            Arrays(one.array, self.device.type == "cuda").batches(rows, draws)
            if one.array is not None
            else self._pictures_of(one, rows, draws, augmentations)
            for one in self.data.inputs
        ]
        for row, *parts in zip(rows, *streams, strict=True):
            named = {one.name: part for one, part in zip(self.data.inputs, parts, strict=True)}
            present = np.stack([one.present[row] for one in self.data.inputs], axis=1)
            yield Inputs(named, torch.from_numpy(present)).to(self.device)

    def _pictures_of(self, one: Input, rows: list[np.ndarray], draws: list[np.ndarray], augmentations: Sequence[Any]) -> Iterator[Any]:
        """The photographs of one of several inputs, zeros where an item has none."""
        assert one.place is not None
        there = [one.present[row] for row in rows]
        some = [number for number, present in enumerate(there) if present.any()]
        images = self._images([one.place[rows[n][there[n]]] for n in some], [draws[n][there[n]] for n in some])
        for draw, present in zip(draws, there, strict=True):
            found = torch.zeros(0, len(self.phase.mean), self.phase.size, self.phase.size, device=self.device)
            if present.any():
                found = self._ready(next(images), draw[present], augmentations)
            yield with_gaps(found, present, self.memory_format)

    def _ready(self, images: torch.Tensor, draw: np.ndarray, augmentations: Sequence[Any]) -> torch.Tensor:
        """A cut batch as the network takes it."""
        images = images.to(self.device, non_blocking=True)
        if images.dtype == torch.uint8:
            images = to_network(augment(images, augmentations, draw, False), self.mean, self.std, self.memory_format)
            images = augment(images, augmentations, draw, True)
        return images

    def steps(self, epoch: int) -> Iterator[tuple[str, torch.Tensor]]:
        """The first training batch of an epoch after each step: of its first photograph `decode` and `resize`, then the batch."""
        if self.data.inputs:
            return
        rows, draws = self.drawn(epoch)
        if isinstance(self.source, Photos):
            picture = self.source.decode(self.source.paths[rows[0][0]])
            yield "decode", torch.from_numpy(np.asarray(picture).copy())
            yield "resize", torch.from_numpy(np.asarray(self.source.resize.presize(picture, self.source.size)).copy())
        images = next(iter(self.source.batches(rows[:1], draws[:1]))).to(self.device)
        yield "cut", images
        if images.dtype == torch.uint8:
            augmented = augment(images, self.augmentations, draws[0], False)
            yield "augment", augmented
            yield "normalise", to_network(augmented, self.mean, self.std, self.memory_format)
            yield "augment again", self._ready(images, draws[0], self.augmentations)

    def _images(self, rows: list[np.ndarray], draws: list[np.ndarray]) -> Iterator[torch.Tensor]:
        try:
            if self.settled and self.pictures is not None:
                yield from self.pictures.resident(self.phase.resize, self.phase.size, self.device).batches(rows, draws)
            elif self.readers or isinstance(self.source, Arrays):
                yield from self.source.batches(rows, draws)
            else:  # on this thread
                for row, draw in zip(rows, draws, strict=True):
                    yield self.source.batch(map(self.source.read, row.tolist()), draw)
        except Exception:  # Pillow raises many kinds for bad bytes; if every file can still be read, it was something else
            self._check_files(np.unique(np.concatenate(rows)).tolist(), "a file was changed or lost while it was in use")
            raise

    def training(self, epoch: int, skip: int = 0) -> Iterator[Batch]:
        """One epoch's batches from number `skip` on: drawn, cut and augmented by draws that depend on (seed, epoch, item) alone.

        Where items are drawn with replacement, on (seed, epoch, place in the epoch): the same photograph comes each time anew.
        """
        rows, draws = self.drawn(epoch)
        return self._batches(rows[skip:], draws[skip:], self.augmentations)

    def drawn(self, epoch: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """The positions of each batch's items in an epoch, and the draws that cut and augment them."""
        key, count = stream_key(self.seed, "shuffle", epoch), len(self.data.train)
        if self.phase.sampling == "balanced":
            drawn = uniform_draws(key, np.arange(count), 1)[:, 0]
            items, places = self.data.train[balanced_sample(self.data.targets[self.data.train], drawn)], np.arange(count)
        else:
            items = places = self.data.train[permutation(key, count)]
        draws = uniform_draws(stream_key(self.seed, "augment", epoch), places, 2 + sum(a.draws for a in self.augmentations))
        size, last, together = self.phase.batch_size, self.phase.last_batch, self.phase.accumulate
        return chunks(items, size, last, together), chunks(draws, size, last, together)

    def augmented(self, items: np.ndarray, counters: np.ndarray, number: int) -> Iterator[Batch]:
        """The items in the order given, every one once, cut and augmented by draw `number` of the stream `tta` for `counters`."""
        draws = uniform_draws(stream_key(self.seed, "tta", number), counters, 2 + sum(a.draws for a in self.augmentations))
        return self._batches(chunks(items, self.phase.batch_size), chunks(draws, self.phase.batch_size), self.augmentations)

    def view(self, items: np.ndarray, epoch: int, batch_size: int) -> Iterator[Batch]:
        """The items in the order given, cut and augmented as in `epoch` where every item comes once."""
        draws = uniform_draws(stream_key(self.seed, "augment", epoch), items, 2 + sum(a.draws for a in self.augmentations))
        return self._batches(chunks(items, batch_size), chunks(draws, batch_size), self.augmentations)

    def plain(self, items: np.ndarray, batch_size: int = 0) -> Iterator[Batch]:
        """The items in the order given, cut at the centre, not augmented, every one once."""
        rows = chunks(items, batch_size or self.phase.batch_size)
        return self._batches(rows, [np.full((len(row), 2), 0.5) for row in rows], ())

    def preflight(self, items: np.ndarray | None = None) -> None:
        """Make sure that the photographs (of all items, or those given) can be read, and have been.

        Raises:
            DataError: naming the first files that cannot be read, why, and how many there are.
        """
        if items is not None and self.data.inputs:
            items = np.concatenate(
                [one.place[items][one.present[items]] for one in self.data.inputs if one.place is not None] or [items[:0]]
            )
        self._check_files(list(range(len(self.data.paths))) if items is None else items.tolist(), "nothing has been trained or written")

    def _check_files(self, files: list[int], so_far: str) -> None:
        if self.pictures is not None:
            read = self.pictures.read(self.phase.resize, self.phase.size, files, so_far)
            self._contents = [content for content in read if content]
            self.source = self._photos(self.pictures)

    def settle(self, feeds: Sequence[Feed]) -> None:
        """Have the items on the device from now on where the phase says so; those in memory already once for all `feeds`.

        Raises:
            DeviceMemoryError: there is no room for them.
        """
        if self.phase.resident and self.data.arrays is not None:
            there = next((feed.source for feed in feeds if feed.settled), None)
            with room_for(len(self.data.arrays), self.device):
                self.source = there or Arrays(self.data.arrays.to(self.device), False)
        self.settled = self.phase.resident

    def contents(self) -> list[str]:
        """The SHA-256 of each file that `preflight` has read, in item order; empty where items are no files."""
        return self._contents


def data_path(data: Data, item: int) -> str:
    """The item's path below the data's root, or its number for arrays."""
    return data.paths[item] if data.paths and not data.inputs else f"item {item}"
