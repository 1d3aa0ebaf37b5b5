"""Data under a phase's decisions: an iterable of named batches, ready for the network."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch

from sheer.data.augment import AUGMENTATIONS, Dihedral, Flip
from sheer.data.formats import unread_format
from sheer.data.photos import Photos, augment, chunks, to_network
from sheer.data.pixels import RESIZES, Crop, Pad, Squish, decode
from sheer.data.sources import Data
from sheer.errors import DataError, PlanError, first_line, nearest
from sheer.plan.plan import Phase
from sheer.streams import permutation, stream_key, uniform_draws

MEMORY_FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """Items for one step: `inputs` as the network takes them, `target` as the loss takes it, `index` positions of the items."""

    inputs: torch.Tensor
    target: torch.Tensor
    index: np.ndarray


class Arrays:
    """Items in memory behind the same two methods as `Photos`."""

    def __init__(self, inputs: torch.Tensor) -> None:
        self.inputs = inputs

    def batches(self, rows: list[np.ndarray], draws: list[np.ndarray]) -> Iterator[torch.Tensor]:
        """The items of each row; the draws are for pictures that are cut, which these are not."""
        for row in rows:
            yield self.inputs[torch.from_numpy(row)]


class Feed:
    """The batches of one phase on one device; `target` has an entry an item, as the loss takes it.

    `epoch` counts from the plan's first phase, so that order and draws never repeat.
    """

    def __init__(
        self, data: Data, target: torch.Tensor, phase: Phase, seed: int, device: torch.device, memory_format: str, readers: int
    ) -> None:
        self.data, self.phase, self.seed, self.device = data, phase, seed, device
        self.memory_format = MEMORY_FORMATS[memory_format]
        self.target = target.to(device)
        self.mean = torch.tensor(phase.mean, device=device).view(-1, 1, 1)
        self.std = torch.tensor(phase.std, device=device).view(-1, 1, 1)
        self.augmentations = augmentations_of(phase)
        self._contents: list[str] = []
        self.source: Photos | Arrays
        if data.arrays is not None:
            self.source = Arrays(data.arrays)
        else:
            paths = [path if data.opened else os.path.join(data.root, path) for path in data.paths]
            self.source = Photos(paths, data.opened or decode, resize_of(phase), phase.size, readers)

    def _batches(self, rows: list[np.ndarray], draws: list[np.ndarray], augmented: bool) -> Iterator[Batch]:
        for row, draw, images in zip(rows, draws, self.source.batches(rows, draws), strict=True):
            if images.dtype == torch.uint8:
                images = augment(images, self.augmentations, draw) if augmented else images
                images = to_network(images, self.mean, self.std, self.memory_format)
            else:
                images = images.to(self.device)
            yield Batch(inputs=images, target=self.target[torch.from_numpy(row).to(self.device)], index=row)

    def training(self, epoch: int) -> Iterator[Batch]:
        """One epoch's batches: shuffled, cut and augmented by draws that depend on (seed, epoch, item) alone."""
        items = self.data.train[permutation(stream_key(self.seed, "shuffle", epoch), len(self.data.train))]
        draws = uniform_draws(stream_key(self.seed, "augment", epoch), items, 2 + sum(a.draws for a in self.augmentations))
        rows, draws_of_rows = (chunks(values, self.phase.batch_size, self.phase.last_batch) for values in (items, draws))
        return self._batches(rows, draws_of_rows, augmented=True)

    def augmented(self, items: np.ndarray, counters: np.ndarray, number: int) -> Iterator[Batch]:
        """The items in the order given, every one once, cut and augmented by draw `number` of the stream `tta` for `counters`."""
        draws = uniform_draws(stream_key(self.seed, "tta", number), counters, 2 + sum(a.draws for a in self.augmentations))
        rows, draws_of_rows = (chunks(values, self.phase.batch_size, "keep") for values in (items, draws))
        return self._batches(rows, draws_of_rows, augmented=True)

    def plain(self, items: np.ndarray) -> Iterator[Batch]:
        """The items in the order given, cut at the centre, not augmented, every one once."""
        rows = chunks(items, self.phase.batch_size, "keep")
        return self._batches(rows, [np.full((len(row), 2), 0.5) for row in rows], augmented=False)

    def preflight(self) -> None:
        """Read every photograph once, in parallel; what fits stays in memory.

        Raises:
            DataError: naming the first files that cannot be read, why, and how many there are.
        """
        if not isinstance(self.source, Photos):
            return
        source = self.source

        def attempt(item: int) -> tuple[str, str]:
            content = b"?"
            try:
                if self.data.opened:
                    source.read(item)
                    return "", ""
                with open(source.paths[item], "rb") as file:
                    content = file.read()
                source.read(item)
                return hashlib.sha256(content).hexdigest(), ""
            except Exception as error:  # Pillow raises many kinds for bad bytes; each becomes a named line below
                return "", f"{data_path(self.data, item)} ({unread_format(content) or first_line(error)})"

        with ThreadPoolExecutor(source.readers) as pool:
            seen = list(pool.map(attempt, range(len(source.paths))))
        bad = [line for _, line in seen if line]
        if bad:
            more = f" and {len(bad) - 5} more" if len(bad) > 5 else ""
            raise DataError(
                f"{len(bad)} of {len(source.paths)} files cannot be read as photographs: {'; '.join(bad[:5])}{more}. "
                "Remove or replace them, then run the same command again; nothing has been trained or written."
            )
        self._contents = [content for content, _ in seen if content]

    def contents(self) -> list[str]:
        """The SHA-256 of each file, in item order; empty for arrays."""
        return self._contents


def data_path(data: Data, item: int) -> str:
    """The item's path below the data's root, or its number for arrays."""
    return data.paths[item] if data.paths else f"item {item}"


def resize_of(phase: Phase) -> Crop | Pad | Squish:
    """The phase's resize rule as the object that carries it out."""
    return cast(Crop | Pad | Squish, RESIZES[phase.resize.name](**phase.resize.options()))


def augmentations_of(phase: Phase) -> list[Flip | Dihedral]:
    """The phase's augmentations as objects; PlanError for a name that is not in the table."""
    for part in phase.augmentation:
        if part.name not in AUGMENTATIONS:
            raise PlanError(f"augmentation {part.name!r} is not known. {nearest(part.name, AUGMENTATIONS)}")
    return [cast(Flip | Dihedral, AUGMENTATIONS[part.name](**part.options())) for part in phase.augmentation]
