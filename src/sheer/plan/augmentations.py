"""What was given for `augmentation` and `mix`, as parts of a plan: names, settings, named sets, and your own functions."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable
from typing import Any

from sheer.errors import PlanError, nearest
from sheer.plan.plan import Part, Value

Function = Callable[..., Any]
Settings = dict[str, Value]
Augmentation = str | Part | Function | tuple[str | Function, Settings]
Augmentations = str | tuple[Augmentation, ...]
Mix = str | Part | tuple[str, Settings]
Resize = str | Part | tuple[str, Settings]

_FASTAI = (
    Part(name="flip", settings=(("p", 0.5),)),
    Part(name="warp", settings=(("magnitude", 0.2), ("p", 0.75))),
    Part(name="rotate", settings=(("degrees", 10.0), ("p", 0.75))),
    Part(name="zoom", settings=(("low", 1.0), ("high", 1.1), ("p", 0.75))),
    Part(name="lighting", settings=(("strength", 0.2), ("p", 0.75))),
)

_INCEPTION = (
    Part(name="random_resized_crop", settings=(("area", (0.08, 1.0)), ("ratio", (3 / 4, 4 / 3)))),
    Part(name="flip", settings=(("p", 0.5),)),
)

SETS = {
    "none": (),
    "light": (Part(name="flip"),),
    "default": _FASTAI,
    "fastai": _FASTAI,
    "strong": (
        Part(name="random_resized_crop", settings=(("area", (0.35, 1.0)), ("ratio", (3 / 4, 4 / 3)))),
        Part(name="flip"),
        Part(name="trivial_augment"),
        Part(name="random_erasing", settings=(("p", 0.25), ("area", (0.02, 0.33)))),
    ),
    "inception": _INCEPTION,
    "timm": (
        *_INCEPTION,
        *(Part(name=name, settings=(("strength", 0.4), ("p", 1.0))) for name in ("brightness", "contrast", "saturation")),
    ),
    "keras-guide": (Part(name="flip", settings=(("p", 0.5),)), Part(name="rotate", settings=(("degrees", 36.0), ("p", 1.0)))),
}


def source_sha256(function: Function) -> str:
    """The SHA-256 of the function's (or its class's) source text, "" where that is not to be had."""
    try:
        source = inspect.getsource(function if hasattr(function, "__name__") else type(function))
    except (OSError, TypeError):
        return ""
    return hashlib.sha256(source.encode()).hexdigest()


def function_name(function: Function) -> str:
    """The function's name; for an object that is called, its class's."""
    return str(getattr(function, "__name__", type(function).__name__))


def augmentation_parts(given: Augmentations) -> tuple[Part, ...]:
    """Parts of a plan: sets by their name, names, (name, {settings}), Parts, and functions by name and source hash.

    A function is given alone or as (function, {"per": "item" or "batch"}).

    >>> [str(part) for part in augmentation_parts(("flip", ("rotate", {"degrees": 20.0})))]
    ['flip()', 'rotate(degrees=20.0)']

    Raises:
        PlanError: the name of a set is not known, or an entry is none of these.
    """
    if isinstance(given, str):
        if given not in SETS:
            raise PlanError(f"augmentation={given!r} is no set. {nearest(given, SETS)} One augmentation is given as ({given!r},).")
        return SETS[given]
    if not isinstance(given, tuple | list):
        raise PlanError(f"augmentation={given!r}: give the name of a set ({', '.join(SETS)}) or a tuple of names and functions.")
    return tuple(as_part(entry, "augmentation") for entry in given)


def as_part(entry: Any, field: str) -> Part:
    """The part for a name, (name, {settings}) or a Part; for `augmentation` also for a function; PlanError for anything else."""
    settings: Any = {}
    if isinstance(entry, Part):
        return entry
    if isinstance(entry, tuple | list) and len(entry) == 2 and isinstance(entry[1], dict):
        entry, settings = entry
    if isinstance(entry, str):
        return Part(name=entry, settings=tuple((name, _frozen(value)) for name, value in settings.items()))
    if field == "augmentation" and callable(entry):
        per = settings.get("per", "item")
        if per not in ("item", "batch") or set(settings) - {"per"}:
            raise PlanError(f"{function_name(entry)} with {settings!r}: your own function takes the setting per='item' or per='batch'.")
        values = (("function", function_name(entry)), ("per", per), ("source_sha256", source_sha256(entry)))
        return Part(name="own", settings=values)
    own = ", a function" if field == "augmentation" else ""
    raise PlanError(f"{field}: {entry!r} is no name, no (name, {{settings}}){own} and no Part.")


def _frozen(value: Any) -> Value:
    return tuple(_frozen(item) for item in value) if isinstance(value, tuple | list) else value


def functions_of(given: Augmentations | None, loss: object = None) -> dict[str, Function]:
    """Your own functions among the augmentations and the loss that were given, by name.

    Raises:
        PlanError: two different ones have the same name.
    """
    functions: dict[str, Function] = {}
    for entry in (*(given if isinstance(given, tuple | list) else ()), loss):
        function = entry[0] if isinstance(entry, tuple | list) and entry else entry
        if callable(function) and functions.setdefault(function_name(function), function) is not function:
            raise PlanError(f"Two functions of yours are called {function_name(function)!r}: rename one.")
    return functions


def mix_part(given: Mix | None) -> Part | None:
    """The part for `mix`: "mixup", "cutmix", one of them with settings, or None (also for "none").

    >>> str(mix_part(("mixup", {"alpha": 0.2})))
    'mixup(alpha=0.2)'
    """
    return None if given is None or given == "none" else as_part(given, "mix")
