"""Frozen dataclasses to JSON and back, by their type hints; equal on return, no class paths in the file."""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from typing import Any, TypeVar

from sheer.errors import PlanError

T = TypeVar("T")


def parse(text: str) -> Any:
    """JSON text to Python values; PlanError where it is no JSON."""
    try:
        return json.loads(text)
    except (TypeError, ValueError, RecursionError) as error:
        raise PlanError(f"This is not a plan: the text is not JSON ({error}).") from error


def encode(value: Any, without: tuple[str, ...] = ()) -> Any:
    """A dataclass, tuple or plain value as JSON values, without the fields of these names; a Part's settings become an object."""
    if dataclasses.is_dataclass(value):
        pairs = {field.name: getattr(value, field.name) for field in dataclasses.fields(value) if field.name not in without}
        if set(pairs) == {"name", "settings"}:
            return {"name": pairs["name"], "settings": {key: encode(item) for key, item in pairs["settings"]}}
        return {name: encode(item, without) for name, item in pairs.items()}
    if isinstance(value, tuple):
        return [encode(item, without) for item in value]
    return value


def _plain(value: Any, where: str) -> Any:
    """JSON lists become tuples; objects are not allowed among settings."""
    if isinstance(value, list):
        return tuple(_plain(item, where) for item in value)
    if isinstance(value, dict):
        raise PlanError(f"{where} holds an object; a setting is a number, a text, true, false, null or a list.")
    return value


def decode(kind: type[T], value: Any, where: str) -> T:
    """JSON values to `kind`; every missing, unknown or mistyped field is named.

    Raises:
        PlanError: with the path of the field, what it holds, and what it should.
    """
    try:
        return typing.cast(T, _decode(kind, value, where))
    except (OverflowError, RecursionError) as error:
        raise PlanError(f"{where} holds a number that is too large, or lists too deep in one another ({error}).") from error


def _decode(kind: Any, value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(kind):
        return _decode_dataclass(typing.cast(type, kind), value, where)
    shape = typing.get_origin(kind)
    if shape in (types.UnionType, typing.Union):
        options = typing.get_args(kind)
        if value is None and type(None) in options:
            return None
        return _decode(next(option for option in options if option is not type(None)), value, where)
    if shape is tuple:
        if not isinstance(value, list):
            raise PlanError(f"{where} is {value!r}; a list was expected.")
        inner = typing.get_args(kind)[0]
        return tuple(_decode(inner, item, f"{where}[{index}]") for index, item in enumerate(value))
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not kind:
        raise PlanError(f"{where} is {value!r}; a value of type {kind.__name__} was expected.")
    return value


def _decode_dataclass(kind: type, value: Any, where: str) -> Any:
    if not isinstance(value, dict):
        raise PlanError(f"{where} is {type(value).__name__}; an object with the fields of {kind.__name__} was expected.")
    hints = typing.get_type_hints(kind)
    missing, unknown = sorted(set(hints) - set(value)), sorted(set(value) - set(hints))
    if missing or unknown:
        raise PlanError(
            f"{where} does not have the fields of {kind.__name__}: missing {missing}, unknown {unknown}. "
            "Was it written by another version of sheer, or edited?"
        )
    if set(hints) == {"name", "settings"}:
        if not isinstance(value["name"], str) or not isinstance(value["settings"], dict):
            raise PlanError(f"{where} is {value!r}; a name and an object of settings were expected.")
        pairs = tuple((key, _plain(item, f"{where}.{key}")) for key, item in value["settings"].items())
        return kind(name=value["name"], settings=pairs)
    return kind(**{name: _decode(hint, value[name], f"{where}.{name}") for name, hint in hints.items()})


BESIDE = ("origins", "notes", "source", "target", "separator", "resident", "aside")


def differences(one: Any, other: Any, where: str = "") -> list[str]:
    """What differs between two plans, or parts of them, as `field: this there, that here`.

    Beside the point are reasons, names of the folder, how targets are named and written, where items lie, what is for later phases, and
    what was measured for both: a measurement comes out otherwise now and then, and what was measured first stays.

    >>> differences((1, 2), (1, 3), "sizes")
    ['sizes[1]: 2 there, 3 here']
    """
    if dataclasses.is_dataclass(one) and type(one) is type(other):
        measured = [{o.field for o in getattr(side, "origins", ()) if o.by == "measured"} for side in (one, other)]
        both = measured[0] & measured[1]
        names = [field.name for field in dataclasses.fields(one) if field.name not in (*BESIDE, *both - {"prefix"})]
        pairs = [(n, *(_bare(getattr(side, n)) if n in both else getattr(side, n) for side in (one, other))) for n in names]
        return [line for n, mine, theirs in pairs for line in differences(mine, theirs, f"{where}.{n}".strip("."))]
    if isinstance(one, tuple) and isinstance(other, tuple) and len(one) == len(other):
        return [line for n, pair in enumerate(zip(one, other, strict=True)) for line in differences(*pair, f"{where}[{n}]")]
    return [] if one == other else [f"{where}: {_shown(one)} there, {_shown(other)} here"]


def _bare(prefix: Any) -> Any:
    """How the frozen part runs, without its batch size, which alone can be measured of it."""
    return dataclasses.replace(prefix, settings=tuple(pair for pair in prefix.settings if pair[0] != "batch_size"))


def _shown(value: Any) -> str:
    if isinstance(value, tuple) and value and dataclasses.is_dataclass(value[0]):
        return f"{len(value)} ({', '.join(str(getattr(part, 'name', '?')) for part in value[:4])})"
    text = str(value) if dataclasses.is_dataclass(value) else repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
