"""The items behind a loader: their files, labels and classes, and the order in which they come."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import ConcatDataset, DataLoader, RandomSampler, Subset, TensorDataset

MOST_ITEMS = 2000
READS = 4  # of one item: a flip may fall the same way twice


def dataset_of(loader: Any) -> Any:
    """The loader's data set, or that of the loader it wraps (as timm's does)."""
    return getattr(loader, "dataset", getattr(getattr(loader, "loader", None), "dataset", None))


def is_list(dataset: Any) -> bool:
    """Whether items are reached by number."""
    return hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__")


def innermost(dataset: Any) -> Any:
    """The data set below subsets and wrappers that call it `dataset`."""
    while hasattr(dataset, "dataset"):
        dataset = dataset.dataset
    return dataset


def _through(dataset: Any, attribute: str) -> Sequence[Any] | None:
    """One value an item, of an attribute of the data set below subsets and concatenations; None where there is none."""
    if isinstance(dataset, Subset):
        below = _through(dataset.dataset, attribute)
        return None if below is None else [below[int(index)] for index in dataset.indices]
    if isinstance(dataset, ConcatDataset):
        parts = [_through(part, attribute) for part in dataset.datasets]
        return None if any(part is None for part in parts) else [value for part in parts for value in part or ()]
    if isinstance(dataset, TensorDataset) and attribute in ("targets", "data"):
        return dataset.tensors[-1 if attribute == "targets" else 0]  # type: ignore[return-value]
    values = getattr(dataset, attribute, None)
    return values if values is not None and is_list(values) and is_list(dataset) and len(values) == len(dataset) else None


def labels_of(dataset: Any) -> np.ndarray | None:
    """Every item's class number in the data set's order, without reading pictures; None where only items say it."""
    targets = _through(dataset, "targets")
    if targets is None:
        samples = _through(dataset, "samples")
        targets = None if samples is None else [sample[1] for sample in samples]
    if targets is None:
        return None
    values = targets.numpy() if isinstance(targets, torch.Tensor) else np.asarray(targets)
    return values if values.ndim == 1 and np.issubdtype(values.dtype, np.integer) else None


def files_of(dataset: Any) -> list[str] | None:
    """Every item's file, of data sets that list them as torchvision's folders do."""
    samples = _through(dataset, "samples")
    paths = [sample[0] for sample in samples if isinstance(sample, tuple | list)] if samples is not None else []
    good = samples is not None and len(paths) == len(samples) and all(isinstance(path, str | Path) for path in paths)
    return [str(path) for path in paths] if good and all(Path(path).is_file() for path in paths[:3]) else None


def classes_of(dataset: Any) -> list[str] | None:
    """The classes' names by number, of the data set below subsets."""
    below = innermost(dataset)
    numbers = getattr(below, "class_to_idx", None)
    if isinstance(numbers, dict):
        return sorted(numbers, key=lambda name: numbers[name])
    classes = getattr(below, "classes", None)
    return [str(name) for name in classes] if isinstance(classes, list | tuple) else None


def readings(dataset: Any, count: int = 4) -> int | None:
    """How many different inputs an item read a few times gives, of some items the most: more than one where the data set augments.

    None where that cannot be seen.
    """
    if not is_list(dataset) or not len(dataset):
        return None
    most = 1
    for index in np.linspace(0, len(dataset) - 1, min(count, len(dataset))).astype(int).tolist():
        seen = {item_content(dataset, index) for _ in range(READS)}
        if None in seen:
            return None
        most = max(most, len(seen))
    return most


def item_content(dataset: Any, index: int) -> str | None:
    """The hash of an item's first part; None where it is no tensor or array, or cannot be read."""
    try:
        return _content(dataset[index])
    except Exception:  # whatever a user's data set raises; the loader raised it before, and that was told
        return None


def _content(item: Any) -> str | None:
    first = next(iter(item.values())) if isinstance(item, dict) else item[0] if isinstance(item, tuple | list) and item else item
    if isinstance(first, torch.Tensor):
        first = first.detach().cpu().numpy()
    return hashlib.sha256(np.ascontiguousarray(first).tobytes()).hexdigest() if isinstance(first, np.ndarray) else None


def contents(train: Any, valid: Any) -> tuple[list[Hashable], list[Hashable]] | str:
    """What identifies each item's content in either data set, comparable across the two; or what stands against it."""
    if not is_list(train) or not is_list(valid):
        return "items are not reached by number: give map-style data sets"
    train_files, valid_files = files_of(train), files_of(valid)
    if train_files is not None and valid_files is not None:
        keys = _file_keys([*train_files, *valid_files])
        return keys[: len(train_files)], keys[len(train_files) :]
    arrays = [array for array in (_through(train, "data"), _through(valid, "data")) if array is not None]
    if len(arrays) == 2:
        first, second = ([_content((row,)) or repr(row) for row in array] for array in arrays)
        return list(first), list(second)
    if innermost(train) is innermost(valid) and isinstance(train, Subset) and isinstance(valid, Subset):
        return _indices(train), _indices(valid)
    if readings(train) != 1 or readings(valid) != 1:
        return "the data sets name no files and their items are drawn: give data sets with .samples, or without augmentation"
    if max(len(train), len(valid)) > MOST_ITEMS:
        return f"the data sets name no files and have more than {MOST_ITEMS} items: give data sets with .samples"
    one, other = ([item_content(dataset, index) for index in range(len(dataset))] for dataset in (train, valid))
    return "items are no tensors or arrays" if None in one or None in other else (list(one), list(other))


def _indices(dataset: Any) -> list[Hashable]:
    inner = list(range(len(dataset.dataset))) if not isinstance(dataset.dataset, Subset) else _indices(dataset.dataset)
    return [inner[int(index)] for index in dataset.indices]


def _file_keys(files: Sequence[str]) -> list[Hashable]:
    """A key a file, equal for equal bytes; only files of equal size are read."""
    by_size: dict[int, list[int]] = defaultdict(list)
    for number, name in enumerate(files):
        by_size[Path(name).stat().st_size].append(number)
    keys: list[Hashable] = list(range(len(files)))
    for numbers in by_size.values():
        for number in numbers if len(numbers) > 1 else ():
            keys[number] = hashlib.sha256(Path(files[number]).read_bytes()).hexdigest()
    return keys


def order_of(loader: Any) -> list[Any] | None:
    """The numbers of the items in the order of one pass, drawn from the loader's own sampler; None where it has none."""
    inner = loader if isinstance(loader, DataLoader) else getattr(loader, "loader", None)
    if not isinstance(inner, DataLoader) or inner.sampler is None or not is_list(inner.dataset):
        return None
    return [index for batch in inner.batch_sampler for index in batch] if inner.batch_sampler is not None else list(inner.sampler)


def sampler_of(loader: Any) -> Any:
    """The sampler that orders the items, or None."""
    inner = loader if isinstance(loader, DataLoader) else getattr(loader, "loader", None)
    batches = getattr(inner, "batch_sampler", None)
    return getattr(batches, "sampler", batches) or getattr(inner, "sampler", None)


def shuffles(loader: Any) -> bool | None:
    """Whether two passes come in different orders; None where that cannot be seen."""
    sampler = sampler_of(loader)
    if isinstance(sampler, RandomSampler) or hasattr(sampler, "set_epoch"):
        return isinstance(sampler, RandomSampler) or bool(getattr(sampler, "shuffle", True))
    first, second = order_of(loader), order_of(loader)
    return None if first is None or len(first) < 2 else first != second
