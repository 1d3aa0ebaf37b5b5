"""Named random streams: every draw is a function of (seed, name, counters), never of what ran before.

The draws that belong to items (augmentation, shuffle, split) come from a counter-based generator,
so that item 7 of epoch 3 gets the same numbers whoever asks, in whatever order. The draws that
PyTorch makes by itself (initialisation, dropout) use its global generator, reseeded from a stream
while sheer works and put back as it was found.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch


def stream_key(seed: int, name: str, *counters: int) -> int:
    """A 63-bit key for the stream `name`, from BLAKE2b of seed, name and counters.

    >>> stream_key(0, "shuffle", 1) == stream_key(0, "shuffle", 1) != stream_key(0, "shuffle", 2)
    True
    """
    text = ":".join([str(seed), name, *map(str, counters)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def uniform_draws(key: int, items: np.ndarray, count: int) -> np.ndarray:
    """Numbers in [0, 1), float64, shape (len(items), count); row r depends on key and items[r] alone.

    SplitMix64 (Steele, Lea, Flood 2014) in counter mode, counter = item * 65536 + column.

    >>> bool((uniform_draws(5, np.array([7, 9]), 2)[1] == uniform_draws(5, np.array([9]), 2)[0]).all())
    True
    """
    counters = items.astype(np.uint64)[:, None] * np.uint64(65536) + np.arange(count, dtype=np.uint64)
    state: Any = np.uint64(key) + (counters + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((state ^ (state >> np.uint64(31))) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def permutation(key: int, length: int) -> np.ndarray:
    """The numbers 0 .. length-1 in the order that `key` gives, int64.

    >>> sorted(permutation(3, 4).tolist())
    [0, 1, 2, 3]
    """
    return np.argsort(uniform_draws(key, np.arange(length), 1)[:, 0], kind="stable")


def reseed(key: int, device: torch.device) -> None:
    """Put PyTorch's global generators (CPU, and that of `device`) at the start of the stream `key`.

    `torch.manual_seed` does the same for every device at about 200 times the cost.
    """
    torch.default_generator.manual_seed(key)
    if device.type == "cuda":
        torch.cuda.default_generators[device.index or 0].manual_seed(key)
    elif device.type == "mps":
        torch.mps.manual_seed(key)


@contextlib.contextmanager
def borrowed_generators(device: torch.device) -> Iterator[None]:
    """Leave PyTorch's global generators, on the CPU and on `device`, as they were found."""
    with contextlib.ExitStack() as undo:
        undo.callback(torch.default_generator.set_state, torch.default_generator.get_state())
        if device.type in ("cuda", "mps"):
            module = getattr(torch, device.type)
            undo.callback(module.set_rng_state, module.get_rng_state())
        yield
