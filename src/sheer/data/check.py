"""What is odd in the data, as sentences for the plan: classes out of balance, the same picture on both sides of the split."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from sheer.data.formats import oddities_of, told

UNEVEN = 10


def imbalance(counts: Counter[str]) -> list[str]:
    """A note where the most frequent class has at least 10 times the items of the rarest."""
    (most, high), *_, (least, low) = [*counts.most_common(), *counts.most_common()[-1:]]
    if high < UNEVEN * low:
        return []
    return [
        f"classes are out of balance: {most!r} has {high} items to train on, {least!r} {low}. Read balanced accuracy; class weights or "
        "balanced sampling may help the rare ones."
    ]


def copies_across(root: str, files: Sequence[str], held_out: np.ndarray) -> list[str]:
    """A note where a held-out file has the same bytes as one to train on; only files of equal size are read."""
    by_size: dict[int, list[int]] = defaultdict(list)
    for number, name in enumerate(files):
        by_size[(Path(root) / name).stat().st_size].append(number)
    pairs: list[tuple[str, str]] = []
    for numbers in by_size.values():
        sides = {bool(held_out[number]) for number in numbers}
        if len(sides) < 2:
            continue
        learned: dict[str, str] = {}
        digests = {number: hashlib.sha256((Path(root) / files[number]).read_bytes()).hexdigest() for number in numbers}
        learned = {digests[number]: files[number] for number in numbers if not held_out[number]}
        pairs += [(files[n], learned[digests[n]]) for n in numbers if held_out[n] and digests[n] in learned]
    if not pairs:
        return []
    held, seen = pairs[0]
    return [f"{len(pairs)} held-out files are copies of files to train on, so the metrics flatter: {held} = {seen}, for instance."]


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
