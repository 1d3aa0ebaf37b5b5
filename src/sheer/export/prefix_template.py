"""What an ejected script has more where the frozen part of the network runs once an item."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import nn

from sheer.data.photos import Photos, chunks
from sheer.export.constants_template import SEED
from sheer.model.prefix import cached_features
from sheer.streams import stream_key, uniform_draws


def passes(batches: Any, photos: Photos, phase: SimpleNamespace, train: np.ndarray, valid: np.ndarray, epoch: int) -> Iterator[Any]:
    """What goes through the frozen part once: the view, the items and their inputs, which `batches` gives."""
    for view, items in ((0, valid), *((view, train) for view in range(max(phase.cached.views, 1)))):
        rows, augmentations = chunks(items, phase.cached.batch_size, "keep"), ()
        cuts = [np.full((len(row), 2), 0.5) for row in rows]
        if phase.cached.views and items is train:  # only views
            augmentations = phase.augmentations  # only views
            draws = uniform_draws(stream_key(SEED, "augment", epoch + view), items, 2 + sum(a.draws for a in augmentations))  # only views
            cuts = chunks(draws, phase.cached.batch_size, "keep")  # only views
        for row, inputs in zip(rows, batches(photos, phase, rows, cuts, augmentations), strict=True):
            yield view, row, inputs


def features(model: nn.Module, last: str, phase: SimpleNamespace, items: int, batches: Iterator[Any]) -> torch.Tensor:
    """What the part that ends with module `last` gives (views, items, ...)."""
    return list(cached_features(model, last, phase.cached.fold, (max(phase.cached.views, 1), items), batches))[-1][1]
