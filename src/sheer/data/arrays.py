"""Items in memory as data."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from sheer.data.check import check_classes
from sheer.data.shares import held_out_by, split_part
from sheer.data.sources import Data, Decided, assemble
from sheer.data.weighing import weighed
from sheer.errors import DataError, first_line


def tensors_hash(inputs: torch.Tensor) -> str:
    """SHA-256 over the raw bytes of the items."""
    return hashlib.sha256(inputs.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data).hexdigest()


def arrays(
    inputs: torch.Tensor | np.ndarray,
    labels: Sequence[int] | np.ndarray | torch.Tensor,
    *,
    classes: Sequence[str] | None = None,
    weight: Sequence[float] | np.ndarray | torch.Tensor | None = None,
    valid: float | None = None,
    split: str | None = None,
    seed: int = 0,
    profile: str = "default",
) -> Data:
    """Items in memory: `inputs` (items, ...), uint8 (items, channels, S, S) if they are pictures, and class numbers (items,).

    `weight` (items,): what each item's loss counts, numbers of at least 0, scaled to a mean of 1 over the items to train on.

    Float inputs enter the network as they are (NumPy's float64 as float32, which networks are made of); pictures
    are augmented and normalised like photographs.
    A run on arrays has everything but an ejected script, which reads folders.

    Raises:
        DataError: inputs that are no numbers, lengths that differ, labels that are no class numbers from 0, or fewer than two classes.
    """
    if isinstance(inputs, np.ndarray) and inputs.dtype.kind in "fiub":
        inputs = torch.from_numpy(np.ascontiguousarray(inputs, np.float32 if inputs.dtype == np.float64 else None))
    if not isinstance(inputs, torch.Tensor) or inputs.ndim == 0:
        what = f"an array of {inputs.dtype}" if isinstance(inputs, np.ndarray) else type(inputs).__name__
        raise DataError(f"inputs are {what}: give a tensor or an array of numbers, its first axis the items.")
    try:
        numbers = np.asarray(labels)
    except ValueError as error:
        raise DataError(f"labels: {first_line(error)}. Give one class number an item.") from error
    if numbers.ndim == 0 or len(inputs) != len(numbers) or numbers.ndim != 1:
        raise DataError(f"{len(inputs)} inputs and labels of shape {numbers.shape}: give one class number an item.")
    if numbers.dtype.kind not in "iu" or numbers.size == 0 or numbers.min() < 0:
        raise DataError(f"labels of type {numbers.dtype}: give class numbers, whole numbers from 0.")
    if inputs.dtype == torch.uint8 and (inputs.ndim != 4 or inputs.shape[1] < 1 or inputs.shape[2] != inputs.shape[3]):
        raise DataError(f"uint8 inputs of shape {tuple(inputs.shape)}: pictures are (items, channels, side, side).")
    if classes is not None and (isinstance(classes, str) or not isinstance(classes, Sequence)):
        raise DataError(f"classes={classes!r}: give the names of the classes in a list, in the order of their numbers.")
    if classes is not None and len(classes) <= int(numbers.max()):
        raise DataError(f"{len(classes)} class names, but a label is {int(numbers.max())}: labels count from 0.")
    names = tuple(map(str, classes)) if classes is not None else tuple(str(number) for number in range(int(numbers.max()) + 1))
    counts = Counter(names[number] for number in numbers.tolist())
    check_classes(Path("arrays"), counts, where_is_split=False)
    part, origin = split_part(valid, split, seed, profile)
    labels64 = numbers.astype(np.int64)
    data = assemble(
        Decided(targets=labels64, classes=names, held_out=held_out_by(labels64, part), part=part, split_origin=origin),
        arrays=inputs,
        source=f"arrays {tuple(inputs.shape)}",
        listing=tensors_hash(inputs),
    )
    return data if weight is None else weighed(data, np.asarray(weight).tolist(), "given")
