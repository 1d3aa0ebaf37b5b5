"""Kinds of task: what the raw scores of a network mean, and what the loss compares them with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch


@dataclass(frozen=True, kw_only=True)
class Classify:
    """One of several classes. Targets are class numbers int64 (N,), outputs probabilities float64 (N, classes) that sum to 1.

    >>> Classify().outputs(torch.zeros(1, 2)).tolist()
    [[0.5, 0.5]]
    """

    def parse(self, rows: Sequence[Mapping[str, str]], names: Sequence[str]) -> np.ndarray:
        """The targets in rows of items.csv, from its column `class`."""
        return np.array([names.index(row["class"]) for row in rows], dtype=np.int64)

    def wanted(self, targets: np.ndarray) -> torch.Tensor:
        """The targets as the loss takes them, int64 (N,)."""
        return torch.from_numpy(targets)

    def outputs(self, scores: torch.Tensor) -> np.ndarray:
        """Softmax of raw scores (N, classes)."""
        return torch.softmax(scores.double(), 1).numpy()

    def describe(self, row: np.ndarray, names: Sequence[str]) -> str:
        """The most likely class and its probability."""
        return f"{names[int(row.argmax())]}  {row.max():.4f}"


@dataclass(frozen=True, kw_only=True)
class Tag:
    """Any number of labels. Targets are 0 or 1, float32 (N, labels), outputs probabilities float64 (N, labels), each by itself.

    >>> Tag().outputs(torch.zeros(1, 2)).tolist()
    [[0.5, 0.5]]
    """

    def parse(self, rows: Sequence[Mapping[str, str]], names: Sequence[str]) -> np.ndarray:
        """The targets in rows of items.csv, from a column `target NAME` each."""
        return np.array([[float(row[f"target {name}"]) for name in names] for row in rows], dtype=np.float32)

    def wanted(self, targets: np.ndarray) -> torch.Tensor:
        """The targets as the loss takes them, float32 (N, labels)."""
        return torch.from_numpy(targets)

    def outputs(self, scores: torch.Tensor) -> np.ndarray:
        """The sigmoid of raw scores (N, labels)."""
        return torch.sigmoid(scores.double()).numpy()

    def describe(self, row: np.ndarray, names: Sequence[str]) -> str:
        """The labels of at least 0.5 with their probabilities."""
        return "  ".join(f"{name} {value:.4f}" for name, value in zip(names, row.tolist(), strict=True) if value >= 0.5) or "-"


@dataclass(frozen=True, kw_only=True)
class Regress:
    """One or more numbers. Targets are float32 (N, numbers) in their own unit; the loss sees (target - mean) / std of the training items.

    >>> Regress(mean=(3.0,), std=(2.0,)).outputs(torch.ones(1, 1)).tolist()
    [[5.0]]
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def parse(self, rows: Sequence[Mapping[str, str]], names: Sequence[str]) -> np.ndarray:
        """The targets in rows of items.csv, from a column `target NAME` each."""
        return np.array([[float(row[f"target {name}"]) for name in names] for row in rows], dtype=np.float32)

    def wanted(self, targets: np.ndarray) -> torch.Tensor:
        """The targets in standard deviations from the mean, float32 (N, numbers)."""
        return torch.from_numpy(((targets - np.array(self.mean)) / np.array(self.std)).astype(np.float32))

    def outputs(self, scores: torch.Tensor) -> np.ndarray:
        """Raw scores (N, numbers) in the targets' own unit, float64."""
        return scores.double().numpy() * np.array(self.std) + np.array(self.mean)

    def describe(self, row: np.ndarray, names: Sequence[str]) -> str:
        """Each number by its name."""
        return "  ".join(f"{name} {value:.6g}" for name, value in zip(names, row.tolist(), strict=True))


Task = Classify | Tag | Regress
TASKS: dict[str, type[Classify] | type[Tag] | type[Regress]] = {"classify": Classify, "tag": Tag, "regress": Regress}
