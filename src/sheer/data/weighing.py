"""Weights of items for data that has none of its own: from numbers, or from a function of each item's path."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from sheer.data.listing import Listing, labels_by
from sheer.data.sources import Data
from sheer.data.targets import item_weights, items_csv, weighted_prior
from sheer.errors import DataError
from sheer.plan.plan import Origin


def weight_name(weight: str | Callable[[str], float] | None) -> str:
    """The column, or "function:NAME", "" for none."""
    return f"function:{getattr(weight, '__name__', '?')}" if callable(weight) else weight or ""


def listed_weights(weight: str | Callable[[str], float], listing: Listing, held_out: np.ndarray) -> np.ndarray:
    """What each item of a listing counts, float32 (items,): by a column, or by a function of its path."""
    values = listing.column(weight, "weight") if isinstance(weight, str) else labels_by(weight, listing.files)
    return item_weights(values, weight_name(weight), ~held_out)


def weighed(data: Data, values: Sequence[Any], name: str) -> Data:
    """The data with what each item's loss counts, in item order; `name` says in the plan where it is from.

    Raises:
        DataError: they are no finite numbers of at least 0, one an item, or all items of a side count 0.
    """
    if len(values) != len(data.targets):
        raise DataError(f"weight has {len(values)} numbers for {len(data.targets)} items: give one an item.")
    held_out = np.zeros(len(values), dtype=bool)
    held_out[data.valid] = True
    weights = item_weights(list(values), name, ~held_out)
    seen = hashlib.sha256(data.targets.tobytes() + weights.tobytes()).hexdigest()
    origins = tuple(origin for origin in data.plan.origins if origin.field != "weight")
    given = Origin(field="weight", by="you", reason="you gave it, scaled to a mean of 1")
    prior = weighted_prior(data.targets[data.train], weights[data.train], data.plan.task.name, len(data.classes))
    plan = replace(data.plan, weight=name, weighted_prior=prior, targets_sha256=seen, origins=(*origins, given))
    listing = items_csv(data.paths, held_out, data.targets, plan.task.name, data.classes, weights) if data.paths else ""
    return replace(data, plan=plan, weights=weights, listing=listing)
