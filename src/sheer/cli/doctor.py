"""`sheer doctor SCRIPT.py:OBJECTS`: run a person's own script and examine the objects of its training loop."""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import json
import runpy
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sheer.errors import StudyError, first_line, nearest
from sheer.study.doctor.doctor import doctor


def add_options(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument(
        "objects",
        metavar="SCRIPT.py:OBJECTS",
        help="a script, which is executed (without its `if __name__ == '__main__'`), and the name of a dictionary in it, or of a "
        "function that returns one: model, optimizer, loader, loss_fn, and what else sheer.doctor takes",
    )
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")


def run_doctor(args: argparse.Namespace) -> int:
    """`sheer doctor SCRIPT.py:OBJECTS`: status 0 without findings, 1 with some."""
    seen = doctor(**objects_of(args.objects))
    print(json.dumps(dataclasses.asdict(seen)) if args.json else seen)
    return 1 if seen.findings else 0


def objects_of(given: str) -> dict[str, Any]:
    """Execute the script and take doctor's arguments from it.

    Raises:
        StudyError: there is no such script or name, the script raises, or an argument is missing or unknown.
    """
    script, _, name = given.rpartition(":")
    if not Path(script).is_file():
        raise StudyError(f"{given!r}: give a script that is there and a name in it, such as train.py:objects.")
    folder = str(Path(script).resolve().parent)
    sys.path.insert(0, folder)  # as python itself does for a script
    try:
        names = runpy.run_path(script, run_name=Path(script).stem)
        if name not in names:
            raise StudyError(f"{script} defines no {name!r}. {nearest(name, [key for key in names if not key.startswith('_')])}")
        held = names[name]() if callable(names[name]) else names[name]
    except StudyError:
        raise
    except Exception as error:  # whatever a user's script raises, told as one line
        raise StudyError(f"{given} raised {type(error).__name__}: {first_line(error)}") from error
    finally:
        sys.path.remove(folder)
    if not isinstance(held, Mapping):
        raise StudyError(f"{given} is a {type(held).__name__}; make it a dictionary with model, optimizer, loader and loss_fn.")
    taken = inspect.signature(doctor).parameters
    unknown = [key for key in held if key not in taken]
    missing = [key for key, parameter in taken.items() if parameter.default is parameter.empty and key not in held]
    if unknown:
        raise StudyError(f"{given} has {unknown[0]!r}, which doctor does not take. {nearest(str(unknown[0]), taken)}")
    if missing:
        raise StudyError(f"{given} lacks {', '.join(missing)}, which doctor needs.")
    return dict(held)
