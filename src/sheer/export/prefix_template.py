"""What an ejected script has more where the frozen part of the network runs once an item."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import nn

from sheer.data.photos import chunks
from sheer.export.constants_template import SEED
from sheer.model.prefix import fold_norms, room
from sheer.streams import stream_key, uniform_draws


@torch.no_grad()
def features(
    frozen: nn.Module, batches: Any, photos: Any, phase: SimpleNamespace, train: np.ndarray, valid: np.ndarray, epoch: int, views: int
) -> Any:
    """What the frozen part gives (views, items, ...), run once an item and view (0: plain); `batches` gives its inputs."""
    kept: Any = None
    for view, items in ((0, valid), *((view, train) for view in range(max(views, 1)))):
        rows, augmentations = chunks(items, phase.cached.batch_size), ()
        cuts = [np.full((len(row), 2), 0.5) for row in rows]
        if views and items is train:  # only views
            augmentations = phase.augmentations  # only views
            draws = uniform_draws(stream_key(SEED, "augment", epoch + view), items, 2 + sum(a.draws for a in augmentations))  # only views
            cuts = chunks(draws, phase.cached.batch_size)  # only views
        for row, inputs in zip(rows, batches(photos, phase, rows, cuts, augmentations), strict=True):
            if kept is None and phase.cached.fold:  # only fold
                fold_norms(frozen, inputs)  # only fold
            given = frozen(inputs).float().cpu()
            shape = max(views, 1), len(train) + len(valid), *given.shape[1:]
            kept = torch.zeros(shape) if kept is None else kept  # only small
            kept = room(shape) if kept is None else kept  # only large
            kept[view, row] = given
    return kept
