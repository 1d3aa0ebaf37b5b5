"""Values that people give, or an error that says what is allowed: numbers of Python or NumPy, texts, paths, objects by name."""

from __future__ import annotations

import inspect
import math
import operator
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from sheer.errors import PlanError, SheerError


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


def check_weighted(weighted: object, metrics: Mapping[str, Callable[..., object]], weight: str) -> None:
    """PlanError where metrics are to be weighted, and the items have no weights (`weight` is "") or a metric does not take any."""
    if not isinstance(weighted, bool):
        raise PlanError(f"weighted_metrics={weighted!r}: give True or False; all metrics of a plan are weighted, or none.")
    if weighted and not weight:
        raise PlanError(
            "weighted_metrics=True weighs metrics by the items' weights, and these items have none: give weight= to what makes the data "
            "(sheer.images, sheer.table, sheer.text, sheer.arrays). class_weights are of the loss alone."
        )
    for name in [name for name, metric in metrics.items() if weighted and not _takes(metric, 3)]:
        raise PlanError(
            f"metric {name!r}: where metrics are weighted yours is called with (outputs, targets, weights), and it does not take three. "
            "Give it a third parameter, or weighted_metrics=False."
        )


def _takes(function: Callable[..., object], count: int) -> bool:
    """Whether the function can be called with that many positional arguments."""
    try:
        inspect.signature(function).bind(*[None] * count)
    except (TypeError, ValueError):  # ValueError: a built-in function that does not say what it takes
        return False
    return True


def check_texts(given: Mapping[str, object], kind: type[SheerError] = PlanError) -> None:
    """An error of `kind` unless every value is a text, or None where nobody gave one.

    >>> check_texts({"split": "random", "path": None})
    """
    for name, value in given.items():
        if value is not None and not isinstance(value, str):
            raise kind(f"{name}={value!r}: give a text.")


def path_of(value: object, name: str) -> Path:
    """The path that was given as text or as a Path, a leading ~ replaced by the home folder.

    Raises:
        PlanError: it is no path.

    >>> path_of("runs/a", "run").name
    'a'
    """
    if not isinstance(value, str | os.PathLike) or isinstance(value, bytes):
        raise PlanError(f"{name}={value!r}: give a path, as text or as a pathlib.Path.")
    return Path(value).expanduser()


def check_objects(given: object) -> None:
    """PlanError unless it is None, or a dict from names to objects of your own.

    >>> check_objects({"my_head": print})
    """
    if given is not None and not isinstance(given, Mapping):
        raise PlanError(f"objects={given!r}: give your own objects by their names, such as {{'my_head': my_head}}.")


def keywords_of(function: Callable[..., object]) -> tuple[str, ...]:
    """The names of a function's keyword-only parameters.

    >>> keywords_of(sorted)
    ('key', 'reverse')
    """
    return tuple(name for name, one in inspect.signature(function).parameters.items() if one.kind is inspect.Parameter.KEYWORD_ONLY)
