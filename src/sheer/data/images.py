"""`images`: photographs as data, the usual way to a `DataBlock`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sheer.data.block import DataBlock
from sheer.data.cache import Cache
from sheer.data.sources import Data


def images(
    source: Any,
    *,
    label: str | Sequence[str] | Callable[[str], Any] | None = None,
    path: str | None = None,
    root: str | Path | None = None,
    separator: str | None = None,
    task: str | None = None,
    valid: float | str | Sequence[int] | None = None,
    split: str | None = None,
    group: str | Callable[[str], Any] | None = None,
    folds: int | None = None,
    fold: int = 0,
    weight: str | Callable[[str], float] | None = None,
    seed: int = 0,
    profile: str = "default",
    bad_files: str | None = None,
    unknown: str | None = None,
    cache: bool | Cache = True,
) -> Data:
    """Photographs from class folders, a table, a list of files or a data set: `DataBlock(...).build(source)`.

    `folder/<class>/...`, or `folder/train/<class>/...` and `folder/valid/<class>/...`, need nothing but the
    folder; a CSV file or data frame names files in its first column and targets in the next. No photograph is
    opened, unless `bad_files="skip"`. The arguments are those of `DataBlock`.

    Raises:
        DataError: the source, its targets or the split cannot be used.
    """
    return DataBlock(
        label=label,
        path=path,
        root=root,
        separator=separator,
        task=task,
        valid=valid,
        split=split,
        group=group,
        folds=folds,
        fold=fold,
        weight=weight,
        seed=seed,
        profile=profile,
        bad_files=bad_files,
        unknown=unknown,
        cache=cache,
    ).build(source)
