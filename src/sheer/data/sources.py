"""`Data` is items, targets and split; and how it is put together, whatever it comes from."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from PIL import Image

from sheer.data.check import look_alikes, picture_sizes
from sheer.data.inputs import Input
from sheer.data.leftout import LeftOut
from sheer.data.preflight import FileProblem, problems_csv
from sheer.data.targets import check_varied, counted, items_csv, weighted_prior
from sheer.errors import DataError
from sheer.plan.facts import HELD
from sheer.plan.markup import html_table
from sheer.plan.plan import DataPlan, Origin, Part, Value
from sheer.plan.table import columns as aligned
from sheer.plan.table import schema

ONE_CLASS = Origin(field="task", by="data", reason="each item has one class")
LISTED = ("train_items", "valid_items", "train_counts", "valid_counts", "weighted_prior", "inputs")
NO_SEPARATOR = Origin(field="separator", by="data", reason="no cell of targets holds several labels as text")
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


@dataclass(frozen=True, kw_only=True)
class Decided:
    """What is decided of items, and who decided it: targets and classes, the task, which are held out, what each counts.

    `targets`, `classes` and `weights` as in `Data`, `held_out` bool (items,); `left` says which items are left out, and why; `weight`,
    `target`, `separator` and `notes` as in `DataPlan`.
    """

    targets: np.ndarray
    classes: tuple[str, ...]
    held_out: np.ndarray
    part: Part
    split_origin: Origin
    task: str = "classify"
    task_origin: Origin = ONE_CLASS
    weights: np.ndarray | None = None
    weight: str = ""
    target: tuple[str, ...] = ()
    separator: str = ""
    separator_origin: Origin = NO_SEPARATOR
    left: LeftOut = field(default_factory=lambda: LeftOut.by(None, None, "default", False))
    notes: tuple[str, ...] = ()

    def csv(self, files: Sequence[str]) -> str:
        """The items of these names as CSV text, as a run folder keeps them."""
        return items_csv(files, self.held_out, self.targets, self.task, self.classes, self.weights)


def assemble(
    decided: Decided,
    *,
    source: str,
    root: str = "",
    paths: tuple[str, ...] = (),
    arrays: torch.Tensor | None = None,
    opened: Callable[[str], Image.Image] | None = None,
    texts: Mapping[str, tuple[str, ...]] | None = None,
    columns: tuple[Part, ...] = (),
    columns_origin: Origin = NO_TABLE,
    listing: str = "",
    listing_text: str = "",
    notes: Sequence[str] = (),
) -> Data:
    """The data with its plan: counts, scale of numbers, origins; DataError where a side of the split is empty.

    `listing` is the hash of what is learned from, `listing_text` its items as CSV text, `notes` what else is odd; the others as in `Data`
    and `DataPlan`.
    """
    targets, classes, task, left, weights = decided.targets, decided.classes, decided.task, decided.left, decided.weights
    held_out, target, separator = decided.held_out, decided.target, decided.separator
    train, valid = np.flatnonzero(~held_out), np.flatnonzero(held_out)
    if (len(valid) == 0 and decided.part.options().get("share") != 0) or len(train) == 0:
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
        check_varied(targets[train], std, classes)
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
        split=decided.part,
        weight=decided.weight,
        bad_files=left.policy,
        unknown=left.unknown,
        skipped=tuple(problem.file for problem in left.problems),
        columns=columns,
        target=target,
        separator=separator,
        weighted_prior=() if weights is None else weighted_prior(targets[train], weights[train], task, len(classes)),
        listing_sha256=listing,
        targets_sha256=hashlib.sha256(targets.tobytes() + (b"" if weights is None else weights.tobytes())).hexdigest(),
        held_out_sha256=hashlib.sha256(held_out.tobytes()).hexdigest(),
        notes=(*decided.notes, *notes, *look_alikes(classes), *left.notes()),
        origins=(
            Origin(field="source", by="you", reason="you gave it"),
            Origin(field="pictures", by="data", reason=HELD[pictures]),
            Origin(field="classes", by="data", reason="the names that the targets have, sorted; several target columns in your order"),
            Origin(field="target", by="you" if target else "data", reason="you named it" if target else "targets come with the items"),
            decided.separator_origin,
            decided.task_origin,
            *(Origin(field=name, by="data", reason="as listed") for name in LISTED),
            decided.split_origin,
            Origin(
                field="weight",
                by="you" if decided.weight else "default",
                reason="scaled to a mean of 1" if decided.weight else "items count alike",
            ),
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
