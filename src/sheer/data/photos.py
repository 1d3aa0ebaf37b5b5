"""Photographs to batches, addressed by position: item i of epoch e is the same pixels whoever asks, in any order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch


class Photos:
    """The photographs of a folder at one working size, kept in memory as uint8 up to `keep_bytes`.

    What is kept has the pixels that a new reading would give. `resize` is one of RESIZES: `presize`
    brings the whole picture to its working size, `cut` makes the square, `join` the batch. `pinned` batches
    lie in page-locked memory, from which a copy to a CUDA device need not be waited for.
    """

    def __init__(
        self, paths: Sequence[str], decode: Any, resize: Any, size: int, readers: int, keep_bytes: int = 1 << 30, pinned: bool = False
    ) -> None:
        self.paths, self.decode, self.resize, self.size = paths, decode, resize, size
        self.readers, self.keep_bytes, self.pinned = readers, keep_bytes, pinned
        self.kept: dict[int, np.ndarray] = {}

    def read(self, item: int) -> np.ndarray:
        """The item at its working size, uint8 (H, W, 3)."""
        pixels = self.kept.get(item)
        return self.keep(item, self.resize.presize(self.decode(self.paths[item]), self.size)) if pixels is None else pixels

    def keep(self, item: int, pixels: np.ndarray) -> np.ndarray:
        """The item's pixels, kept in memory from now on if they fit."""
        if self.keep_bytes >= pixels.nbytes:
            self.keep_bytes -= pixels.nbytes
            self.kept[item] = pixels
        return pixels

    def batch(self, pictures: Iterable[np.ndarray], draws: np.ndarray) -> torch.Tensor:
        """uint8 (N, 3, size, size) of pictures at their working size."""
        cuts = [self.resize.cut(pixels, self.size, draw) for pixels, draw in zip(pictures, draws.tolist(), strict=True)]
        images = torch.from_numpy(np.ascontiguousarray(self.resize.join(cuts).transpose(0, 3, 1, 2)))
        return images.pin_memory() if self.pinned else images

    def batches(self, rows: Sequence[np.ndarray], draws: Sequence[np.ndarray]) -> Iterator[torch.Tensor]:
        """uint8 (N, 3, size, size) of each row of items; the first two draws (N, 2) of an item say where it is cut.

        One batch is made ahead while the one before it is used.
        """
        with ThreadPoolExecutor(self.readers) as pool, ThreadPoolExecutor(1) as ahead:
            batches = map(self.batch, (pool.map(self.read, row.tolist()) for row in rows), draws)
            coming = ahead.submit(next, batches, None)
            while (images := coming.result()) is not None:
                coming = ahead.submit(next, batches, None)
                yield images


class Resident:
    """All photographs of `photos` on one device, each at its working size, cut there: the pixels of `photos`, and nothing left to read.

    For rules that cut by slices alone: `crop` and `squish`.
    """

    def __init__(self, photos: Photos, device: torch.device) -> None:
        self.resize, self.size, self.pixels = photos.resize, photos.size, list[torch.Tensor]()
        with ThreadPoolExecutor(photos.readers or 1) as pool:
            for items in chunks(np.arange(len(photos.paths)), 64):
                self.pixels += [torch.tensor(pixels, device=device) for pixels in pool.map(photos.read, items.tolist())]

    def batches(self, rows: Sequence[np.ndarray], draws: Sequence[np.ndarray]) -> Iterator[torch.Tensor]:
        """uint8 (N, 3, size, size) on the device of each row of items, cut where `Photos.batches` would cut."""
        for row, places in zip(rows, draws, strict=True):
            pairs = zip(row.tolist(), places.tolist(), strict=True)
            cuts = [self.resize.cut(self.pixels[item], self.size, place) for item, place in pairs]
            yield torch.stack(cuts).permute(0, 3, 1, 2).contiguous()


def chunks(items: np.ndarray, batch_size: int, last_batch: str = "keep", together: int = 0) -> list[np.ndarray]:
    """Items (or rows of draws) in batches, in order; the short last one is kept or dropped. `together`: so many items in one, a
    multiple of the batch size; what is left over makes a shorter last one.

    >>> [len(chunk) for chunk in chunks(np.arange(7), 2, "drop")], [len(chunk) for chunk in chunks(np.arange(7), 2, "drop", 4)]
    ([2, 2, 2], [4, 2])
    """
    items = items[: len(items) - len(items) % batch_size] if last_batch == "drop" else items
    return [items[start : start + (together or batch_size)] for start in range(0, len(items), together or batch_size)]


def augment(images: torch.Tensor, augmentations: Sequence[Any], draws: np.ndarray, normalised: bool) -> torch.Tensor:
    """Apply the augmentations for pixels before, or after, normalisation to (N, C, H, W).

    Each has its own columns of `draws` (N, 2 + count); the first two are the cut's.
    """
    start = 2
    for augmentation in augmentations:
        if augmentation.normalised == normalised:
            images = augmentation(images, draws[:, start : start + augmentation.draws])
        start += augmentation.draws
    return images


def to_network(images: torch.Tensor, mean: torch.Tensor, std: torch.Tensor, memory_format: torch.memory_format) -> torch.Tensor:
    """uint8 (N, C, H, W), or float in [0, 1], to float32 (value - mean) / std in the memory format; uint8 is first divided by 255."""
    scaled = images.to(torch.float32, memory_format=memory_format, copy=True)
    return (scaled.div_(255) if images.dtype == torch.uint8 else scaled).sub_(mean).div_(std)
