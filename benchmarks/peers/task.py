"""What every peer is given, and what it gives back: the protocol, which imports nothing of theirs."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field


class Skipped(Exception):
    """A peer that cannot run here, with the reason."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """Fine-tune the timm network `model` from the file `weights` at `size` pixels: one epoch frozen, then `epochs`.

    `folder` has train/<class>/ and valid/<class>/, the same files for everybody. Batch size, rates, augmentation, evaluation: the peer's.
    """

    folder: str
    model: str
    weights: str
    size: int
    epochs: int
    seed: int


@dataclass(frozen=True, kw_only=True)
class Result:
    """The files that were learned from, and each held-out file with whether it was right at the end (None: the peer does not say).

    Paths are absolute, or relative to the task's folder.
    """

    learned: Iterable[str]
    hits: Mapping[str, bool | None]


@dataclass
class Curve:
    """Accuracy against seconds since the peer's imports were done, evaluation included: `point` at the end of every epoch."""

    started: float = field(default_factory=time.perf_counter)
    points: list[tuple[float, float]] = field(default_factory=list)

    def point(self, accuracy: float) -> None:
        """The accuracy on the held-out files, now."""
        self.points.append((time.perf_counter() - self.started, round(float(accuracy), 6)))  # float32 of some to the same number


def split_hash(folder: str, learned: Iterable[str], held_out: Iterable[str]) -> str:
    """SHA-256 over which files are learned from and which are held out.

    >>> split_hash("/a", ["train/x/1.png"], ["valid/x/2.png"]) == split_hash("/a", ["/a/train/x/1.png"], ["/a/valid/x/2.png"])
    True
    """
    parts = (sorted(os.path.relpath(os.path.join(folder, path), folder) for path in paths) for paths in (learned, held_out))
    return hashlib.sha256("\n\n".join("\n".join(part) for part in parts).encode("utf-8", "surrogateescape")).hexdigest()
