"""What is odd in the data, as sentences for the plan: classes out of balance, copies across the split; errors for classes too small."""

from __future__ import annotations

import hashlib
import os
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from sheer.data.formats import oddities_of, told
from sheer.errors import DataError

UNEVEN = 10
MOST_OPENED = 200_000


def check_classes(where: Path, counts: Counter[str], where_is_split: bool, singles: bool = False) -> None:
    """DataError for fewer than two classes, or, unless `singles` are allowed, a class with one item."""
    if len(counts) < 2:
        raise DataError(
            f"{where} has one class only, {next(iter(counts))!r}: to tell things apart takes two. "
            "Add items of another; photographs of each class are in a folder of their own."
        )
    single = sorted(label for label, count in counts.items() if count < 2)
    if single and not singles:
        why = "to learn from" if where_is_split else "so it cannot be both learned from and held out"
        raise DataError(f"{where} has one item only of {', '.join(single[:5])}, {why}. Add items, or take the class out.")


def check_sides(source: str, targets: np.ndarray, held_out: np.ndarray, classes: tuple[str, ...], nothing_out: bool) -> None:
    """DataError for classes too few or too small to be split (unless nothing is held out), or of which all items are held out."""
    check_known(source, targets, held_out, classes)
    check_classes(Path(source), Counter(classes[number] for number in targets.tolist()), where_is_split=False, singles=nothing_out)


def unknown_classes(targets: np.ndarray, held_out: np.ndarray) -> list[int]:
    """Numbers of the classes, or labels (`targets` of 0 and 1, (items, labels)), that held-out items have, and no item to train on."""
    if targets.ndim == 1:
        return sorted(set(targets[held_out].tolist()) - set(targets[~held_out].tolist()))
    return np.flatnonzero(targets[held_out].any(axis=0) & ~targets[~held_out].any(axis=0)).tolist()


def check_known(source: str, targets: np.ndarray, held_out: np.ndarray, classes: tuple[str, ...]) -> None:
    """DataError where classes or labels are unknown to the items to train on, with the number of items that have them."""
    unseen = unknown_classes(targets, held_out)
    if unseen:
        counts = (int((targets == number).sum() if targets.ndim == 1 else targets[:, number].sum()) for number in unseen)
        names = ", ".join(f"{classes[number]} ({count} items)" for number, count in list(zip(unseen, counts, strict=True))[:5])
        raise DataError(
            f"{source}: {names} occurs among the held-out items only, so it cannot be learned. Split otherwise, or leave those items out: "
            "unknown='skip'."
        )


def imbalance(counts: Counter[str]) -> list[str]:
    """A note where the most frequent class has at least 10 times the items of the rarest."""
    (most, high), *_, (least, low) = [*counts.most_common(), *counts.most_common()[-1:]]
    if high < UNEVEN * low:
        return []
    return [
        f"classes are out of balance: {most!r} has {high} items to train on, {least!r} {low}. Read balanced accuracy; class weights or "
        "balanced sampling may help the rare ones."
    ]


def _same_bytes(root: str, files: Sequence[str]) -> list[list[int]] | int:
    """Positions of files that are byte for byte the same, as groups of two or more.

    Only files of equal size are opened, and read as a whole only where their last bytes are equal too. Where more than
    MOST_OPENED files would have to be, none is, and their number is returned.
    """
    by_size: dict[int, list[int]] = defaultdict(list)
    for number, name in enumerate(files):
        by_size[os.stat(os.path.join(root, name)).st_size].append(number)
    alike = [numbers for numbers in by_size.values() if len(numbers) > 1]
    if (count := sum(map(len, alike))) > MOST_OPENED:
        return count
    groups: dict[bytes, list[int]] = defaultdict(list)
    for numbers in alike:
        ends = [_last_bytes(os.path.join(root, files[number])) for number in numbers]
        times = Counter(ends)
        for number, end in zip(numbers, ends, strict=True):
            if times[end] > 1:
                groups[hashlib.sha256(Path(root, files[number]).read_bytes()).digest()].append(number)
    return [group for group in groups.values() if len(group) > 1]


def _last_bytes(path: str) -> bytes:
    """The hash of a file's last 4 KiB: photographs differ there, behind headers that may be the same."""
    with open(path, "rb", buffering=0) as file:
        file.seek(max(os.fstat(file.fileno()).st_size - 4096, 0))
        return hashlib.blake2b(file.read(4096), digest_size=16).digest()


def copies(root: str, files: Sequence[str], held_out: np.ndarray, targets: np.ndarray) -> list[str]:
    """Notes where files with the same bytes lie on both sides of the split, or have different targets."""
    groups, notes = _same_bytes(root, files), list[str]()
    if isinstance(groups, int):
        return [
            f"{groups:,} files have the size of another one: too many to open before training, so copies among them were not looked for."
        ]
    across = [group for group in groups if len(set(held_out[group].tolist())) > 1]
    if across:
        first = across[0]
        held, seen = next(n for n in first if held_out[n]), next(n for n in first if not held_out[n])
        count = sum(int(held_out[group].sum()) for group in across)
        notes.append(
            f"{count} held-out files are copies of files to train on, so the metrics flatter: {files[held]} = {files[seen]}, for instance."
        )
    torn = [group for group in groups if len(np.unique(targets[group], axis=0)) > 1]
    if torn:
        one, other = torn[0][0], next(n for n in torn[0] if (targets[n] != targets[torn[0][0]]).any())
        notes.append(f"{len(torn)} pictures occur with different targets: {files[one]} = {files[other]}, for instance. One must be wrong.")
    return notes


def look_alikes(classes: Sequence[str]) -> list[str]:
    """A note where names of classes differ only in case, in spaces around them, or in the Unicode form of an accent."""
    groups: dict[str, list[str]] = defaultdict(list)
    for name in classes:
        groups[unicodedata.normalize("NFC", name).casefold().strip()].append(name)
    alike = [names for names in groups.values() if len(names) > 1]
    return [f"classes that look alike are taken for different ones: {', '.join(map(repr, names))}." for names in alike[:5]]


def empty_folders(where: Path, classes: Sequence[str]) -> list[str]:
    """A note where folders beside the classes hold no photographs."""
    names = sorted(path.name for path in where.iterdir() if path.is_dir() and not path.name.startswith("."))
    empty = [name for name in names if name not in classes]
    return [f"folders without photographs are no classes: {', '.join(empty[:5])}."] if empty else []


def picture_sizes(root: str, files: Sequence[str]) -> str:
    """Sides in pixels (smallest, median, largest), formats, modes and oddities, from the headers; files without one are counted."""
    sides: list[tuple[int, int]] = []
    kinds: Counter[str] = Counter()
    named, odd = list[str](), list[tuple[bool, str]]()
    for name in files:
        try:
            with Image.open(Path(root) / name) as picture:
                sides.append(picture.size)
                kinds[f"{picture.format} {picture.mode}"] += 1
                odd.append(oddities_of(name, picture))
                named.append(name)
        except OSError:
            kinds["unreadable"] += 1
    if not sides:
        return "no file has a header that can be read"
    array = np.array(sides)
    low, middle, high = array.min(0).tolist(), np.median(array, 0).astype(int).tolist(), array.max(0).tolist()
    shapes = " to ".join(f"{ratio:.2f}" for ratio in ((array[:, 0] / array[:, 1]).min(), (array[:, 0] / array[:, 1]).max()))
    listed = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
    return (
        f"width x height: smallest {low[0]} x {low[1]}, median {middle[0]} x {middle[1]}, largest {high[0]} x {high[1]}; "
        f"width over height {shapes}; {listed}" + "".join(f"\nnote: {sentence}" for sentence in told(named, odd))
    )
