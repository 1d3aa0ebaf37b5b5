"""Numbers that people give: whole or real, of any kind that Python or NumPy has, or a PlanError that says what is allowed."""

from __future__ import annotations

import math
import operator

from sheer.errors import PlanError


def whole(value: object, name: str, least: int, hint: str = "") -> int:
    """The value as an int of at least `least`; bool is refused, NumPy's whole numbers are taken.

    Raises:
        PlanError: it is no whole number, or too small.

    >>> whole(3, "epochs", 1)
    3
    """
    try:
        number = operator.index(value) if not isinstance(value, bool) else None  # type: ignore[arg-type]
    except TypeError:
        number = None
    if number is None or number < least:
        raise PlanError(f"{name}={value!r}: give a whole number of at least {least}{hint}.")
    return number


def real(value: object, name: str, low: float, high: float = math.inf) -> float:
    """The value as a finite float, low <= value < high; bool and text are refused, NumPy's numbers are taken.

    Raises:
        PlanError: it is no number, or outside the bounds.

    >>> real(0.5, "label_smoothing", 0, 1)
    0.5
    """
    number = math.nan
    if not isinstance(value, bool | str | bytes):
        try:
            number = float(value)  # type: ignore[arg-type]
        except (TypeError, ValueError):
            number = math.nan
    if not (low <= number < high):
        bound = f" and below {high:g}" if high < math.inf else ""
        raise PlanError(f"{name}={value!r}: give a number of at least {low:g}{bound}.")
    return number
