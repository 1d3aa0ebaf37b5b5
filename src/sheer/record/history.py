"""The rows of a run as a list that shows itself in a notebook."""

from __future__ import annotations

import math
from collections.abc import Sequence

from sheer.plan.markup import html_table
from sheer.plan.table import columns
from sheer.record.run import Event, Row, history_columns


class History(list[Row]):
    """One `Row` an epoch, a list in every way; `print(history.text())` is its table."""

    def cells(self) -> tuple[tuple[str, ...], list[list[str]]]:
        """Header and rows of text: every value but the hash of the weights."""
        names = list(dict.fromkeys(name for row in self for name in row.metrics))
        header = tuple(name for name in history_columns(names) if name != "weights_sha256")
        values = [vars(row) | row.metrics for row in self]
        return header, [[_cell(found.get(name, math.nan)) for name in header] for found in values]

    def text(self) -> str:
        """The rows as columns of text."""
        header, rows = self.cells()
        return columns(header, rows, right=range(1, len(header)))

    def _repr_html_(self) -> str:
        header, rows = self.cells()
        return html_table(f"{len(self)} epoch{'s' * (len(self) != 1)}", header, rows, right=range(1, len(header)))


def told(events: Sequence[Event]) -> list[str]:
    """A line a kind of event: at which steps, what the first one was, and how many where there are several."""
    lines = []
    for kind in dict.fromkeys(event.kind for event in events):
        same = [event for event in events if event.kind == kind]
        steps = ", ".join(str(event.step) for event in same[:5]) + (", ..." if len(same) > 5 else "")
        lines.append(
            f"{kind}: {len(same)} (step {steps}), the first: {same[0].what}" if len(same) > 1 else f"{kind}: {same[0].what} (step {steps})"
        )
    return lines


def _cell(value: object) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)
