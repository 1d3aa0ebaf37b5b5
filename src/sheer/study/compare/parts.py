"""What each number of an item is, where items are rows of a table, texts, or have several inputs."""

from __future__ import annotations

from sheer.plan.facts import width_of
from sheer.plan.plan import DataPlan

Parts = tuple[tuple[str, int], ...]


def parts_of(data: DataPlan, channels: int, size: int) -> Parts:
    """What each number of an item is, side by side: a name and how many numbers it has; () where items are pictures, or unnamed."""
    if not data.inputs:
        return tuple((str(part.options()["column"]), width_of([part])) for part in data.columns)
    found: list[tuple[str, int]] = []
    for one in data.inputs:
        widths = [(f"{one.name}: {part.options()['column']}", width_of([part])) for part in one.columns]
        found += widths if one.kind != "image" else [(f"{one.name}: pixels", channels * size * size)]
    return (*found, *((f"{one.name}: there or missing", 1) for one in data.inputs))
