"""`Data` is items, targets and split; and its most usual source, a folder of class folders."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from sheer.data.cache import Cache
from sheer.data.check import check_classes, copies, empty_folders, imbalance, look_alikes, picture_sizes
from sheer.data.folders import SUFFIXES, listing_hash, photo_files
from sheer.data.formats import UNKNOWN_FORMATS
from sheer.data.inputs import Input
from sheer.data.leftout import LeftOut
from sheer.data.preflight import FileProblem, problems_csv
from sheer.data.shares import held_out_by, split_part
from sheer.data.targets import check_varied, counted, weighted_prior
from sheer.errors import DataError
from sheer.plan.facts import HELD
from sheer.plan.markup import html_table
from sheer.plan.plan import DataPlan, Origin, Part, Value
from sheer.plan.table import columns as aligned
from sheer.plan.table import schema

TRAIN_NAMES = ("train", "training")
VALID_NAMES = ("valid", "validation", "val")
TEST_NAMES = ("test", "testing")
ONE_CLASS = Origin(field="task", by="data", reason="each item has one class")
LISTED = ("train_items", "valid_items", "train_counts", "valid_counts", "weighted_prior", "inputs")
NO_TABLE = Origin(field="columns", by="data", reason="the items are no rows of a table")


@dataclass(frozen=True, kw_only=True, eq=False)
class Data:
    """Items, targets and split; sizes and pixels belong to the phases of a plan.

    `targets` int64 (items,) class numbers, or float32 (items, labels) of 0 and 1, or float32 (items,
    numbers); `train` and `valid` int64 positions of items; `paths` relative to `root`
    for photographs; `arrays` (items, ...) for data in memory, uint8 (N, C, S, S) if they are pictures;
    `opened` gives the picture of a path where it is no file; `listing` is the CSV text that lists the items
    where class folders do not; `weights` float32 (items,), what an item counts in the loss and weighted metrics, 1 on average in training;
    `skipped` are the files that were left out, and why; `texts` are columns of texts by name, whose token ids are in `arrays` once there
    is a `tokenizer`, the text of its tokenizer.json (`unread` is the data before that). `unscaled` is the
    data with numbers on their own scale, where they have an adapter's. Where an item has several `inputs`, `paths` are the files of all.
    """

    root: str
    paths: tuple[str, ...]
    arrays: torch.Tensor | None
    targets: np.ndarray
    classes: tuple[str, ...]
    train: np.ndarray
    valid: np.ndarray
    plan: DataPlan
    opened: Callable[[str], Image.Image] | None = None
    listing: str = ""
    weights: np.ndarray | None = None
    skipped: tuple[FileProblem, ...] = ()
    inputs: tuple[Input, ...] = ()
    texts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    tokenizer: str = ""
    unread: Data | None = None
    unscaled: Data | None = None

    def __repr__(self) -> str:
        what = {"classify": "classes", "tag": "labels", "regress": "targets"}[self.plan.task.name][: -1 if len(self.classes) == 1 else None]
        return f"<Data {self.plan.source}: {len(self.train)} to train on, {len(self.valid)} to validate on, {len(self.classes)} {what}>"

    def tables(self) -> dict[str, str]:
        """What a run keeps of the data, texts by file name: items that no folder lists, what was left out, the tokenizer."""
        texts = {
            "items.csv": self.listing,
            "skipped.csv": problems_csv(self.skipped) if self.skipped else "",
            "tokenizer.json": self.tokenizer,
        }
        return {name: text for name, text in texts.items() if text}

    def summary(self) -> str:
        """Task, split, items of each class or label on both sides, notes, and the pictures' sizes (headers are read)."""
        plan = self.plan
        rows = self._counted()
        lines = [f"{plan.source}: task {plan.task.name}, split {plan.split}, {len(self.train)} + {len(self.valid)} items"]
        lines += [aligned(("class" if plan.task.name == "classify" else "label", "train", "valid"), rows, right=(1, 2))] if rows else []
        lines += [schema(plan)] if plan.columns or plan.inputs else []
        lines += [f"note: {note}" for note in plan.notes]
        lines += [picture_sizes(self.root, self.paths)] if self.paths and self.opened is None else []
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        if not self.plan.train_counts:
            return html_table(repr(self).strip("<>"), ("number",), [[name] for name in self.classes])
        return html_table(repr(self).strip("<>"), ("class", "to train on", "to validate on"), self._counted(), right=(1, 2))

    def _counted(self) -> list[list[str]]:
        counts = zip(self.classes, self.plan.train_counts, self.plan.valid_counts, strict=True) if self.plan.train_counts else ()
        return [[name, str(train), str(valid)] for name, train, valid in counts]


def class_folders(
    folder: str | Path,
    *,
    valid: float | str | None = None,
    split: str | None = None,
    seed: int = 0,
    profile: str = "default",
    bad_files: str | None = None,
    unknown: str | None = None,
    cache: bool | Cache = True,
) -> Data:
    """Photographs in class folders, `folder/<class>/...`, or `folder/train/<class>/...` and `folder/valid/<class>/...`.

    No file is opened, only listed, unless those that cannot be read are to be left out. Where there is a folder
    `train` (or `training`), one of `valid`, `validation`, `val` beside it is held out; without one, a share of
    `train` is. A `test` folder is left alone, for `sheer evaluate`.

    Args:
        folder: The top folder.
        valid: The share of items to hold out, below 1 (0: none is, and nothing is validated), or the name of the folder to hold out.
        split: `stratified` or `random`; the profile's where not given.
        seed: Of the stream `split`.
        profile: Whose share and split are used where none is given.
        bad_files, unknown, cache: See `DataBlock`.

    Raises:
        DataError: no such folder, no or one class, a class with one photo, a file that is no picture
            by its name, classes that differ between the parts.
    """
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
    left = LeftOut.by(bad_files, unknown, profile, cache)
    try:
        listed = _listed(root, train_part, left)
        held = _listed(root, valid_part, left) if train_part and valid_part else []
    except OSError as error:
        raise DataError(f"{folder} cannot be read: {error}. A class that cannot be read would be missing.") from error
    return _photo_data(root, listed, held, valid, split, seed, profile, train_part, valid_part, left)


def _photo_data(
    root: Path,
    listed: list[tuple[str, str]],
    held: list[tuple[str, str]],
    valid: float | str | None,
    split: str | None,
    seed: int,
    profile: str,
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
        part, origin = split_part(valid, split, seed, profile)
        held_out, part = held_out_by(labels, part), Part(name=part.name, settings=(*part.settings, ("part", train_part or "")))
        paths, labels, classes, held_out, listing_text = left.from_share(paths, labels, classes, held_out)
        check_classes(where, Counter(classes[number] for number in labels.tolist()), where_is_split=False)
    return assemble(
        root=os.path.abspath(root),  # so that another current folder does not change what it means
        paths=tuple(paths),
        arrays=None,
        targets=labels,
        classes=classes,
        held_out=held_out,
        part=part,
        split_origin=origin,
        source=f"folder {root.resolve().name}",
        listing=listing_hash(str(root), paths),
        left=left,
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


def assemble(
    *,
    root: str,
    paths: tuple[str, ...],
    arrays: torch.Tensor | None,
    targets: np.ndarray,
    classes: tuple[str, ...],
    held_out: np.ndarray,
    part: Part,
    split_origin: Origin,
    source: str,
    listing: str,
    task: str = "classify",
    task_origin: Origin = ONE_CLASS,
    notes: Sequence[str] = (),
    left: LeftOut | None = None,
    opened: Callable[[str], Image.Image] | None = None,
    listing_text: str = "",
    weights: np.ndarray | None = None,
    weight: str = "",
    columns: tuple[Part, ...] = (),
    columns_origin: Origin = NO_TABLE,
    texts: Mapping[str, tuple[str, ...]] | None = None,
    target: Sequence[str] = (),
) -> Data:
    """The data with its plan: counts, scale of numbers, origins; DataError where a side of the split is empty."""
    train, valid, left = np.flatnonzero(~held_out), np.flatnonzero(held_out), left or LeftOut.by(None, None, "default", False)
    if (len(valid) == 0 and part.options().get("share") != 0) or len(train) == 0:
        why = "".join(f" ({note.rstrip('.')})" for note in left.notes())
        raise DataError(
            f"The split leaves {len(train)} items to train on and {len(valid)} to validate on{why}: hold out another share or other items; "
            "valid=0 holds none out."
        )
    if task == "classify" and (lost := set(range(len(classes))) - set(targets[train].tolist())):
        raise DataError(f"The split leaves no item of {classes[min(lost)]!r} to learn from. Split otherwise, or add items.")
    settings: tuple[tuple[str, Value], ...] = ()
    if task == "regress":
        mean, std = targets[train].mean(axis=0, dtype=np.float64), targets[train].std(axis=0, dtype=np.float64)
        check_varied(std, classes)
        settings = (("mean", tuple(mean.tolist())), ("std", tuple(std.tolist())))
    pictures = "files" if arrays is None else "memory" if arrays.dtype == torch.uint8 else "none"
    plan = DataPlan(
        source=source,
        pictures=pictures,
        task=Part(name=task, settings=settings),
        classes=classes,
        train_items=len(train),
        valid_items=len(valid),
        train_counts=counted(targets[train], task, len(classes)),
        valid_counts=counted(targets[valid], task, len(classes)),
        split=part,
        weight=weight,
        bad_files=left.policy,
        unknown=left.unknown,
        skipped=tuple(problem.file for problem in left.problems),
        columns=columns,
        target=tuple(target),
        weighted_prior=() if weights is None else weighted_prior(targets[train], weights[train], task, len(classes)),
        listing_sha256=listing,
        targets_sha256=hashlib.sha256(targets.tobytes() + (b"" if weights is None else weights.tobytes())).hexdigest(),
        held_out_sha256=hashlib.sha256(held_out.tobytes()).hexdigest(),
        notes=(*notes, *look_alikes(classes), *left.notes()),
        origins=(
            Origin(field="source", by="you", reason="you gave it"),
            Origin(field="pictures", by="data", reason=HELD[pictures]),
            Origin(field="classes", by="data", reason="the names that the targets have, sorted; several target columns in your order"),
            Origin(field="target", by="you" if target else "data", reason="you named it" if target else "targets come with the items"),
            task_origin,
            *(Origin(field=name, by="data", reason="as listed") for name in LISTED),
            split_origin,
            Origin(field="weight", by="you" if weight else "default", reason="scaled to a mean of 1" if weight else "items count alike"),
            *left.origins,
            Origin(field="skipped", by="data", reason="what the policies leave out" if left.problems else "nothing had to be left out"),
            columns_origin,
            Origin(field="listing_sha256", by="data", reason="over relative names and sizes of the files, or over the arrays"),
            Origin(field="targets_sha256", by="data", reason="over the items' targets and weights"),
            Origin(field="held_out_sha256", by="data", reason="over which items are held out"),
        ),
    )
    return Data(
        root=root,
        paths=paths,
        arrays=arrays,
        targets=targets,
        classes=classes,
        train=train,
        valid=valid,
        plan=plan,
        opened=opened,
        listing=listing_text,
        weights=weights,
        skipped=tuple(left.problems),
        texts=texts or {},
    )
