"""What the items looked at hold in the columns of a table or of texts, and what may be wrong with it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from sheer.data.sources import Data
from sheer.plan.facts import width_of
from sheer.plan.plan import Part
from sheer.study.inspect.alarms import Alarm

FAR_OUT = 10.0  # standard deviations
MANY = 0.5


@dataclass(frozen=True, kw_only=True)
class Cells:
    """A column by its name (after that of its input, of several) and kind, and in words what of it the items looked at hold.

    `alarm` says what is odd about that.
    """

    column: str
    kind: str
    seen: str
    alarm: Alarm | None = None


def cells_seen(data: Data, items: np.ndarray) -> tuple[Cells, ...]:
    """A row a column, in the order in which the network gets them; of several inputs those of the items that have each."""
    if not data.inputs:
        return tuple(_columns(data.plan.columns, data.arrays, items)) if data.arrays is not None else ()
    found: list[Cells] = []
    for one, plan in zip(data.inputs, data.plan.inputs, strict=True):
        found += _columns(plan.columns, one.array, items[one.present[items]], f"{one.name}: ")
    return tuple(found)


def _columns(parts: tuple[Part, ...], array: torch.Tensor | None, items: np.ndarray, owner: str = "") -> Iterator[Cells]:
    start = 0
    for part in parts if array is not None else ():
        assert array is not None
        values = array[torch.from_numpy(items), start : start + width_of([part])]
        start += width_of([part])
        if len(items):
            column = str(part.options()["column"])
            seen, alarm = KINDS[part.name](part, values.double().numpy())
            yield Cells(column=owner + column, kind=part.name, seen=seen, alarm=alarm)


def _number(part: Part, values: np.ndarray) -> tuple[str, Alarm | None]:
    options, column = part.options(), part.options()["column"]
    mean, std = options["mean"], options["std"]
    assert isinstance(mean, float) and isinstance(std, float)
    far = float(np.abs(values).max())
    seen = f"{values.min():.2f} to {values.max():.2f}, mean {values.mean():.2f}, std {values.std():.2f}; "
    seen += f"in its own unit {values.mean() * std + mean:.4g} +- {values.std() * std:.3g}"
    if far <= FAR_OUT:
        return seen, None
    evidence = f"{far:.1f} standard deviations from the mean of the rows to train on"
    remedy = f"Is it right? Its logarithm, or a bound, keeps such cells from ruling; ignore=[{column!r}] leaves the column out."
    return seen, Alarm(what=f"Column {column!r} has values far out", evidence=evidence, remedy=remedy)


def _codes(part: Part, values: np.ndarray) -> tuple[str, Alarm | None]:
    names, column = part.options().get("categories"), part.options()["column"]
    unknown = int((values == 0).sum())
    known, count = len(set(values.flatten().tolist()) - {0.0}), len(names) if isinstance(names, tuple) else 0
    seen = f"{known} of {count} categories; missing or unknown in {unknown} of {len(values)}"
    if unknown <= MANY * len(values):
        return seen, None
    what = f"Column {column!r} is mostly missing"
    return seen, Alarm(
        what=what, evidence=f"{unknown} of {len(values)} items have code 0", remedy=f"Fill it, or leave it out: ignore=[{column!r}]."
    )


def _missing(part: Part, values: np.ndarray) -> tuple[str, Alarm | None]:
    return f"missing in {int((values == 2).sum())} of {len(values)}", None


def _tokens(part: Part, values: np.ndarray) -> tuple[str, Alarm | None]:
    options = part.options()
    counts, length = (values != options["pad"]).sum(axis=1), options["length"]
    full = int((counts == length).sum())
    return (
        f"{counts.min()} to {counts.max()} tokens a text, {counts.mean():.1f} on average; {full} of {len(values)} fill all {length}",
        None,
    )


KINDS = {"continuous": _number, "categorical": _codes, "missing": _missing, "text": _tokens}
