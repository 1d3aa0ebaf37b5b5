"""What `compare` is given, as a side: learners, run folders, scripts, loops, step functions."""

from __future__ import annotations

import importlib.util
import inspect
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from sheer.data.sources import Data
from sheer.errors import DataError, PlanError, first_line
from sheer.learner import Learner
from sheer.loading import load
from sheer.plan.recipes import Draft
from sheer.record.again import data_again
from sheer.record.run import read_run
from sheer.study.compare.scripts import ScriptSide
from sheer.study.compare.sides import LearnerSide, Loop, LoopSide, Side
from sheer.study.compare.trace import Step

Given = Learner | Loop | Step | tuple[Any, ...] | str | Path


def side_of(given: Given, partner: Given, recipe: Sequence[Draft] | None, data: Data | str | Path | None, *, start: bool) -> Side:
    """What was given, as a side. A step function alone is taken with everything else of its partner.

    `start` says whether a script's model needs its own weights.

    Raises:
        PlanError: it is none of what can be compared.
        DataError: a script or run needs a folder of photographs that was not given, or its own is another.
    """
    step = None
    if callable(given) and not isinstance(given, Learner | nn.Module | type):
        step, given = _checked(given), partner
    if isinstance(given, str | Path):
        given = _read(given, partner, data)
    if isinstance(given, tuple) and len(given) == 4:
        given = Loop(model=given[0], loss=given[1], optimizer=given[2], batches=given[3])
    if isinstance(given, Loop):
        return LoopSide(given, step)
    if isinstance(given, Learner):
        return LearnerSide(given, recipe, step)
    if isinstance(given, Path):
        module = _loaded(given)
        photographs = any(hasattr(module, name) for name in ("find_photos", "find_listed", "with_photos"))
        rows = "" if photographs else getattr(module, "ITEMS", "")
        root = str(given.parent / rows) if rows else _root(given, partner, data)
        return ScriptSide(module, given, root, step, start=start)
    raise PlanError(
        f"A {type(given).__name__} cannot be compared. Give a learner, a run folder, an ejected script, a sheer.Loop, a tuple "
        "(model, loss, optimizer, batches), or, on one side, a step function (model, loss, optimizer, inputs, target)."
    )


def _checked(step: Step) -> Step:
    try:
        inspect.signature(step).bind(None, None, None, None, None)
    except TypeError as error:
        raise PlanError(
            f"The step function {getattr(step, '__name__', step)} cannot be called: {error}. A step takes (model, loss, optimizer, inputs, "
            "target), carries out one update, and returns the loss."
        ) from error
    return step


def _read(given: str | Path, partner: Given, data: Data | str | Path | None) -> Given:
    """A run folder as its learner, FILE.py:NAME as what it names, and FILE.py as its path."""
    path = Path(given).expanduser()
    file, _, name = str(path).rpartition(".py:")
    if file:
        module = _loaded(Path(f"{file}.py"))
        if not hasattr(module, name):
            raise DataError(f"{file}.py has no {name}: name a sheer.Loop, a tuple or a learner of its top level.")
        return getattr(module, name)
    if path.suffix == ".py":
        return path
    known = data if isinstance(data, Data) else _data_of(path, partner, data)
    return load(path, data=known)


def _data_of(run: Path, partner: Given, data: str | Path | None) -> Data:
    """The data of a run, its files where they lay, or below the folder that was given, or in that of the partner."""
    there = partner.data if isinstance(partner, Learner) else None
    moved = data if data is not None else there.root if there is not None and there.paths else None
    return data_again(run, read_run(run).plan, moved)


def _root(path: Path, partner: Given, data: Data | str | Path | None) -> str:
    """The folder of photographs: the one that was given, or the partner's."""
    where = data if data is not None else partner.data if isinstance(partner, Learner) else None
    if where is None and isinstance(partner, str | Path) and Path(partner).expanduser().is_dir():
        where = _data_of(Path(partner).expanduser(), path, None)
    root = where.root if isinstance(where, Data) else str(where or "")
    if not root:
        raise DataError(f"{path} needs its photographs: compare(..., data=FOLDER), or --data FOLDER.")
    return str(Path(root).expanduser())


def _loaded(path: Path) -> ModuleType:
    """The module in a file, which is executed."""
    if not path.is_file():
        raise DataError(f"There is no file {path}.")
    spec = importlib.util.spec_from_file_location(f"compared_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up there
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever a user's own file raises; it becomes one sentence with its reason
        raise DataError(f"{path} cannot be loaded: {type(error).__name__}: {first_line(error)}.") from error
    finally:
        del sys.modules[spec.name]
    return module
