"""What every sentence of a walk-through is made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sheer.plan.plan import Plan, Value

Rows = tuple[tuple[str, ...], ...]


@dataclass(frozen=True, kw_only=True)
class Sentence:
    """What one or several plan values mean here.

    `values` are dotted paths into the plan, the first one's origin gives `by` and `reason`; `line` is the line of the ejected script
    that carries it out and `code` its text (0 and "" where none does); `rows` is a small table, header first.
    """

    topic: str
    text: str
    values: tuple[str, ...]
    by: str = ""
    reason: str = ""
    line: int = 0
    code: str = ""
    rows: Rows = ()


Words = Callable[[Plan], str]

MEANS = {"weights": "the sum of their weights", "items": "the number of items"}
"""What `loss_mean` divides the sum of a batch's weighted losses by."""


def listed(names: Sequence[object], most: int = 6) -> str:
    """The names with commas, the rest counted.

    >>> listed("abc", 2), listed(())
    ('a, b and 1 more', 'none')
    """
    shown = ", ".join(map(str, names[:most])) or "none"
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")


def number(value: Value, otherwise: float) -> float:
    """A setting that may have been left to its technique's own default."""
    return float(value) if isinstance(value, int | float) else otherwise
