"""A phase's augmentations as objects, in the order in which they act: symmetries or one interpolation, colours, yours, erasing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import torch

from sheer.data.augment import Dihedral, Flip
from sheer.data.boxes import RandomErasing, RandomResizedCrop
from sheer.data.colour import Brightness, Contrast, Hue, Lighting, Saturation
from sheer.data.geometry import DihedralMatrix, FlipMatrix, OnePass, Perspective, Rotate, Warp, Zoom
from sheer.data.mix import CutMix, Mixup
from sheer.data.own import PerBatch, PerItem
from sheer.data.policies import RandAugment, TrivialAugment
from sheer.errors import PlanError, nearest
from sheer.plan.augmentations import Function
from sheer.plan.plan import Part, Phase

AUGMENTATIONS: dict[str, Any] = {
    "flip": Flip,
    "dihedral": Dihedral,
    "rotate": Rotate,
    "zoom": Zoom,
    "warp": Warp,
    "perspective": Perspective,
    "random_resized_crop": RandomResizedCrop,
    "lighting": Lighting,
    "brightness": Brightness,
    "contrast": Contrast,
    "saturation": Saturation,
    "hue": Hue,
    "rand_augment": RandAugment,
    "trivial_augment": TrivialAugment,
    "random_erasing": RandomErasing,
}
MIXES: dict[str, Any] = {"mixup": Mixup, "cutmix": CutMix}
NEEDS_RGB = (Saturation, Hue, RandAugment, TrivialAugment)
AS_MATRIX: dict[type, Any] = {Flip: FlipMatrix, Dihedral: DihedralMatrix}
LIMITS = {
    "p": (0.0, 1.0),
    "strength": (0.0, 0.99),
    "distortion": (0.0, 0.99),
    "magnitude": (0.0, 30.0),
    "operations": (1.0, 100.0),
    "low": (0.01, 100.0),
    "high": (0.01, 100.0),
    "alpha": (1e-6, 1e6),
    "area": (0.0, 1.0),
    "ratio": (1e-3, 1e3),
}


def made(part: Part, table: Mapping[str, Any], field: str) -> Any:
    """The object that a part of a plan names.

    Raises:
        PlanError: the name or a setting is not known, or a value is out of its range.
    """
    if part.name not in table:
        raise PlanError(f"{field} {part.name!r} is not known. {nearest(part.name, table)}")
    kind = table[part.name]
    allowed = {entry.name: entry.type for entry in fields(kind)}
    for name, value in part.options().items():
        if name not in allowed:
            raise PlanError(f"{part.name} has no setting {name!r}: it has {', '.join(allowed) or 'none'}.")
        wanted = _wanted(name, value, str(allowed[name]))
        if wanted:
            raise PlanError(f"{part.name}({name}={value!r}): give {wanted}.")
    return kind(**part.options())


def _wanted(name: str, value: Any, kind: str) -> str:
    """What a setting of this name and type should have been, "" where the value is right."""
    low, high = LIMITS.get(name, (-math.inf, math.inf))
    pair, number = kind.startswith("tuple"), int if kind == "int" else int | float
    numbers: Any = value if pair else (value,)
    right = isinstance(numbers, tuple) and len(numbers) == (2 if pair else 1)
    right = right and all(isinstance(n, number) and not isinstance(n, bool) and low <= n <= high for n in numbers)
    if (right and list(numbers) == sorted(numbers)) or (value is None and "None" in kind):
        return ""
    what = "two numbers, the smaller one first," if pair else "a whole number" if kind == "int" else "a number"
    return f"{what} from {low:g} to {high:g}"


def augmentations_of(phase: Phase, functions: Mapping[str, Function], *, photos: bool = True, channels: int = 3) -> tuple[Any, ...]:
    """The phase's augmentations as objects to be called in this order.

    Symmetries alone move bytes and change none. Any other geometric augmentation makes all of them
    one interpolation, a random resized crop first. Within the geometric ones, and within the colours, the plan's order holds.

    Raises:
        PlanError: a name or setting is not known, or needs pictures of red, green and blue.
    """
    own = [_own(part, functions) for part in phase.augmentation if part.name == "own"]
    named = [made(part, AUGMENTATIONS, "augmentation") for part in phase.augmentation if part.name != "own"]
    coloured = next((part for part in named if isinstance(part, NEEDS_RGB)), None)
    if coloured is not None and channels != 3:
        raise PlanError(f"{type(coloured).__name__} needs pictures of red, green and blue; these have {channels} channels. Leave it away.")
    after = [part for part in named if isinstance(part, RandomErasing)]
    symmetries = [part for part in named if isinstance(part, Flip | Dihedral)]
    rest = sorted((part for part in named if part not in after), key=lambda part: not isinstance(part, RandomResizedCrop))
    whole = photos and any(isinstance(part, RandomResizedCrop) for part in rest)
    if any(part.moves for part in rest if part not in symmetries):
        parts = tuple(AS_MATRIX[type(part)](**vars(part)) if part in symmetries else part for part in rest)
        return (OnePass(parts=parts, size=phase.size if whole else None), *own, *after)
    colours = tuple(part for part in rest if part not in symmetries)
    return (*symmetries, *([OnePass(parts=colours)] if colours else []), *own, *after)


def _own(part: Part, functions: Mapping[str, Function]) -> PerItem | PerBatch:
    name = str(part.options()["function"])

    def missing(values: torch.Tensor) -> torch.Tensor:
        raise PlanError(f"The run used your own augmentation {name!r}: sheer.load(run, objects={{{name!r}: {name}}}).")

    return (PerBatch if part.options()["per"] == "batch" else PerItem)(function=functions.get(name, missing))


def cuts_itself(phase: Phase) -> bool:
    """Whether training pictures are to arrive whole, for a random resized crop."""
    return any(part.name == "random_resized_crop" for part in phase.augmentation)


def mix_of(phase: Phase) -> Any:
    """What mixes the items of a batch, or None.

    Raises:
        PlanError: the name or a setting is not known.
    """
    return made(phase.mix, MIXES, "mix") if phase.mix is not None else None
