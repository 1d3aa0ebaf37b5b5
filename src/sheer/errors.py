"""Every error that sheer raises, so that one `except sheer.SheerError` catches them all.

    SheerError
    ├── PlanError        a value of the plan is not allowed, or two values contradict each other (a ValueError too)
    ├── DataError        the folder, its classes or a file in it cannot be learned from (a ValueError too)
    ├── ModelError       the model's name, module or size cannot be used, or its surgery cannot be proved (a ValueError too)
    │   └── WeightsError the pretrained weights cannot be found, reached or matched
    ├── OwnershipError   the optimiser's tensors are not the model's, or the model is not the plan's
    ├── DeviceMemoryError one item at a time, the optimiser's state, or all items at once do not fit into the device's memory
    ├── FrozenError      a tensor that the plan calls frozen has moved
    ├── RunError         a run folder is missing, damaged, of another plan, or in the way
    ├── EjectError       a run cannot be written as a plain script
    ├── StudyError       what was given to be explained, compared or examined is not of a kind that can be
    ├── BundleError      a bundle is damaged, of another format, or does not say what it said when it was written
    └── MissingError     an optional package is not installed (an ImportError too)

A message says what was given, what is allowed, and what to do; on the command line it is printed
alone, without a traceback, and the exit status is 2.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path


class SheerError(Exception):
    """Any error that sheer raises on purpose."""


class PlanError(SheerError, ValueError):
    """A value of the plan is not allowed, or two values contradict each other."""


class DataError(SheerError, ValueError):
    """The folder, its classes or a file in it cannot be learned from."""


class ModelError(SheerError, ValueError):
    """The model's name, module or input size cannot be used, or its surgery cannot be proved."""


class WeightsError(ModelError):
    """The pretrained weights cannot be found, reached, or matched to the model."""


class OwnershipError(SheerError):
    """The optimiser's tensors are not the model's trainable ones, or the model is not the plan's."""


class DeviceMemoryError(SheerError):
    """One item at a time, the optimiser's state, or all items at once do not fit into the device's memory."""


class FrozenError(SheerError):
    """A tensor that the plan calls frozen has moved."""


class RunError(SheerError):
    """A run folder is missing, damaged, made by another plan, or in the way."""


class EjectError(SheerError):
    """A run cannot be written as a plain PyTorch script."""


class StudyError(SheerError):
    """What was given to be explained, compared or examined is not of a kind that can be."""


class BundleError(SheerError):
    """A bundle is damaged, of another format, or does not say what it said when it was written."""


class MissingError(SheerError, ImportError):
    """A package that only a part of sheer needs is not installed; the message names the extra that brings it."""


def unwritable(path: Path, error: OSError) -> str:
    """The message about a file that cannot be written, with what to do about it."""
    if isinstance(error, FileNotFoundError):
        return f"{path} cannot be written: there is no folder {path.parent}. Make it first, or give another name."
    return f"{path} cannot be written: {error}. Give another name."


def shown(value: object, most: int = 60) -> str:
    """What was given on one short line of a message: an array of a thousand numbers is not shown whole.

    >>> shown(list(range(100)), 12)
    '[0, 1, 2, 3,...'
    """
    text = " ".join(repr(value).split())
    return text if len(text) <= most else f"{text[:most]}..."


def plural(count: int, what: str) -> str:
    """A count with what is counted, which gets an s unless there is one.

    >>> plural(1, "row"), plural(2000, "item")
    ('1 row', '2,000 items')
    """
    return f"{count:,} {what}{'s' * (count != 1)}"


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its kind where it says nothing."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def known(given: object, allowed: Iterable[str]) -> bool:
    """Whether it is a text, and one of those allowed; an object of any kind may be asked for.

    >>> known("a", ["a"]), known(["a"], {"a": 1})
    (True, False)
    """
    return isinstance(given, str) and given in allowed


def nearest(given: object, allowed: Iterable[str]) -> str:
    """The end of a message about an unknown name: the closest allowed names, or all of a short list.

    >>> nearest("resnet43", ["resnet34", "vgg16"])
    "Did you mean 'resnet34'?"
    """
    names = sorted(allowed)
    if not names:
        return "None is allowed."
    close = difflib.get_close_matches(str(given), names, n=4, cutoff=0.6)
    if close:
        return "Did you mean " + " or ".join(repr(name) for name in close) + "?"
    shown = ", ".join(repr(name) for name in names[:12])
    return f"Allowed: {shown}{', ...' if len(names) > 12 else ''}."
