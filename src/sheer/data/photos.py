"""Photographs to batches, addressed by position: item i of epoch e is the same pixels whoever asks, in any order."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from PIL import Image


class Photos:
    """The photographs of a folder at one working size, kept in memory as uint8 up to `keep_bytes`.

    What is kept has the pixels that a new reading would give. `contents` has the SHA-256 of each file
    read. `resize` is one of RESIZES: `presize` brings the whole picture to its working size, `cut` makes the square.
    """

    def __init__(
        self,
        root: str,
        paths: Sequence[str],
        decode: Callable[[str], Image.Image],
        resize: Any,
        size: int,
        readers: int,
        keep_bytes: int = 1 << 30,
    ) -> None:
        self.root, self.paths, self.decode, self.resize, self.size = root, list(paths), decode, resize, size
        self.readers, self.keep_bytes = readers, keep_bytes
        self.kept: dict[int, np.ndarray] = {}
        self.contents: dict[int, str] = {}

    def read(self, item: int) -> np.ndarray:
        """The item at its working size, uint8 (H, W, 3)."""
        pixels = self.kept.get(item)
        if pixels is None:
            path = os.path.join(self.root, self.paths[item])
            if item not in self.contents:
                with open(path, "rb") as file:
                    self.contents[item] = hashlib.sha256(file.read()).hexdigest()
            pixels = self.resize.presize(self.decode(path), self.size)
            if self.keep_bytes >= pixels.nbytes:
                self.keep_bytes -= pixels.nbytes
                self.kept[item] = pixels
        return pixels

    def batch(self, items: np.ndarray, places: np.ndarray, pool: ThreadPoolExecutor) -> torch.Tensor:
        """uint8 (N, 3, size, size); `places` (N, 2) say where each picture is cut."""
        pictures = pool.map(self.read, items.tolist())
        cuts = [self.resize.cut(pixels, self.size, (place[0], place[1])) for pixels, place in zip(pictures, places.tolist(), strict=True)]
        return torch.from_numpy(np.ascontiguousarray(np.stack(cuts).transpose(0, 3, 1, 2)))

    def batches(self, rows: Sequence[np.ndarray], places: Sequence[np.ndarray]) -> Iterator[torch.Tensor]:
        """The batches of items in `rows`, one made ahead while the one before it is used."""
        with ThreadPoolExecutor(self.readers) as pool, ThreadPoolExecutor(1) as ahead:
            waiting = ahead.submit(self.batch, rows[0], places[0], pool) if rows else None
            for number in range(len(rows)):
                assert waiting is not None
                images = waiting.result()
                if number + 1 < len(rows):
                    waiting = ahead.submit(self.batch, rows[number + 1], places[number + 1], pool)
                yield images


def chunks(items: np.ndarray, batch_size: int, last_batch: str) -> list[np.ndarray]:
    """Items in batches, in order; the short last one is kept or dropped.

    >>> [len(chunk) for chunk in chunks(np.arange(5), 2, "drop")]
    [2, 2]
    """
    end = len(items) - len(items) % batch_size if last_batch == "drop" else len(items)
    return [items[start : start + batch_size] for start in range(0, end, batch_size)]


def augment(images: torch.Tensor, augmentations: Sequence[Any], draws: np.ndarray) -> torch.Tensor:
    """Apply each augmentation to (N, C, H, W) with its own columns of `draws` (N, count)."""
    start = 0
    for augmentation in augmentations:
        images = augmentation(images, draws[:, start : start + augmentation.draws])
        start += augmentation.draws
    return images


def to_network(images: torch.Tensor, mean: torch.Tensor, std: torch.Tensor, memory_format: torch.memory_format) -> torch.Tensor:
    """uint8 (N, C, H, W) to float32 (value / 255 - mean) / std on the device of mean, in the memory format."""
    scaled = images.to(mean.device, non_blocking=True).to(torch.float32, memory_format=memory_format).div_(255)
    return scaled.sub_(mean).div_(std)
