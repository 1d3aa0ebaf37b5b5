"""Photographs in class folders as data: `folder/CLASS/...`, or such folders below parts to train and to validate on."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from sheer.data.check import check_classes, copies, empty_folders, imbalance
from sheer.data.folders import SUFFIXES, listing_hash, photo_files
from sheer.data.formats import UNKNOWN_FORMATS
from sheer.data.leftout import LeftOut
from sheer.data.shares import held_out_by, split_part
from sheer.data.sources import Data, Decided, assemble
from sheer.errors import DataError
from sheer.plan.plan import Origin, Part

TRAIN_NAMES = ("train", "training")
VALID_NAMES = ("valid", "validation", "val")
TEST_NAMES = ("test", "testing")


def class_folders(block: Any, folder: str | Path) -> Data:
    """The data that a block makes of photographs in `folder/<class>/...`, or `folder/train/<class>/...` and `folder/valid/<class>/...`.

    No file is opened, only listed, unless those that cannot be read are to be left out. Where there is a folder
    `train` (or `training`), one of `valid`, `validation`, `val` beside it is held out, or that which the block's `valid` names; without
    one, a share of `train` is. A `test` folder is left alone, for `sheer evaluate`.

    Raises:
        DataError: no such folder, no or one class, a class with one photo, a file that is no picture
            by its name, classes that differ between the parts.
    """
    valid: float | str | None = block.valid
    root = Path(folder).expanduser()
    if not root.is_dir():
        raise DataError(f"There is no folder {str(folder)!r}. Give a folder with one folder of photographs a class.")
    part_names = {path.name.lower(): path.name for path in root.iterdir() if path.is_dir()}
    train_part = next((part_names[name] for name in TRAIN_NAMES if name in part_names), None)
    if isinstance(valid, str):
        if train_part is None or not (root / valid).is_dir():
            raise DataError(f"valid={valid!r}: {folder} has no folders train and {valid}; give a share such as 0.2 instead.")
        if valid == train_part:
            raise DataError(f"valid={valid!r} is the folder to learn from: what is held out must be another one.")
        valid_part: str | None = valid
    else:
        valid_part = next((part_names[name] for name in VALID_NAMES if name in part_names), None)
    if train_part and valid_part and valid is not None and not isinstance(valid, str):
        raise DataError(f"valid={valid}: {folder} has its own folder {valid_part}. Leave valid away, or move the photos together.")
    if train_part is None and any(name in part_names for name in (*VALID_NAMES, *TEST_NAMES)):
        named = next(name for name in (*VALID_NAMES, *TEST_NAMES) if name in part_names)
        raise DataError(f"{folder} has a folder {named} but none called train: rename the folder to learn from to train.")
    left = block.left_out()
    try:
        listed = _listed(root, train_part, left)
        held = _listed(root, valid_part, left) if train_part and valid_part else []
    except OSError as error:
        raise DataError(f"{folder} cannot be read: {error}. A class that cannot be read would be missing.") from error
    return _photo_data(block, root, listed, held, train_part, valid_part, left)


def _photo_data(
    block: Any,
    root: Path,
    listed: list[tuple[str, str]],
    held: list[tuple[str, str]],
    train_part: str | None,
    valid_part: str | None,
    left: LeftOut,
) -> Data:
    where = root / train_part if train_part else root
    classes, parted, listing_text = tuple(sorted({label for _, label in listed})), bool(train_part and valid_part), ""
    if parted:
        check_classes(where, Counter(label for _, label in listed), where_is_split=True)
    if left.unknown == "raise" and (counts := Counter(label for _, label in held if label not in classes)):
        unseen = ", ".join(f"{label} ({count} files)" for label, count in sorted(counts.items())[:5])
        raise DataError(
            f"{root / (valid_part or '')} has classes that {where} does not: {unseen}. Give them photos to learn from, or leave them out: "
            "unknown='skip'."
        )
    known = left.from_labels([path for path, _ in held], [[] if label in classes else [label] for _, label in held])
    everything = listed + [row for row, stays in zip(held, known.tolist(), strict=True) if stays]
    numbers = {label: number for number, label in enumerate(classes)}
    labels, paths = np.array([numbers[label] for _, label in everything], dtype=np.int64), [path for path, _ in everything]
    if parted:
        part = Part(name="folders", settings=(("train", train_part or ""), ("valid", valid_part or "")))
        held_out = np.arange(len(paths)) >= len(listed)
        origin = Origin(field="split", by="data", reason="the folder has its own parts")
    else:
        part, origin = split_part(block.valid, block.split, block.seed, block.profile)
        held_out, part = held_out_by(labels, part), Part(name=part.name, settings=(*part.settings, ("part", train_part or "")))
        paths, labels, classes, held_out, listing_text = left.from_share(paths, labels, classes, held_out)
        check_classes(where, Counter(classes[number] for number in labels.tolist()), where_is_split=False)
    return assemble(
        Decided(targets=labels, classes=classes, held_out=held_out, part=part, split_origin=origin, left=left),
        root=os.path.abspath(root),  # so that another current folder does not change what it means
        paths=tuple(paths),
        source=f"folder {root.resolve().name}",
        listing=listing_hash(str(root), paths),
        notes=[
            *imbalance(Counter(classes[number] for number in labels[~held_out].tolist())),
            *copies(str(root), paths, held_out, labels),
            *empty_folders(root / (train_part or ""), tuple(numbers)),
        ],
        listing_text=listing_text,
    )


def _listed(root: Path, part: str | None, left: LeftOut) -> list[tuple[str, str]]:
    """The photographs of one part; DataError where there are none, or, unless bad files are left out, one is none by its name."""
    where = root / part if part else root
    found = photo_files(str(root), part or "")
    if left.policy == "skip" and found:
        found = left.from_folders(root, where, found)
    strangers = [path for path, _ in found if not path.lower().endswith(SUFFIXES)]
    if strangers:
        suffix = Path(strangers[0]).suffix.lower()
        remedy = UNKNOWN_FORMATS.get(suffix, "move it out of the class folders, or save it as one of them")
        more = f" and {len(strangers) - 1} more" if len(strangers) > 1 else ""
        raise DataError(f"{root / strangers[0]}{more} is no photograph by its name; read are {', '.join(SUFFIXES)}. Remedy: {remedy}.")
    broken = [path for path, _ in found if not os.path.isfile(os.path.join(root, path))]
    if broken:
        raise DataError(f"{root / broken[0]} is no file that can be read (a broken link, or a device): {len(broken)} such. Take it out.")
    if not found:
        loose = sum(path.suffix.lower() in SUFFIXES for path in where.iterdir() if path.is_file())
        also = f" There are {loose} photos in it directly: sort them into folders, one a class." if loose else ""
        raise DataError(f"{where} holds no photographs in class folders (read are {', '.join(SUFFIXES)}).{also}")
    return found
