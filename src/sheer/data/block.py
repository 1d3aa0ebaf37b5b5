"""`DataBlock`: a description of data (targets, split) that is carried out on a source, whatever kind of source it is."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sheer.data.cache import Cache
from sheer.data.check import check_known, check_sides, copies, imbalance, unknown_classes
from sheer.data.class_folders import TRAIN_NAMES, VALID_NAMES, class_folders
from sheer.data.folders import listing_hash
from sheer.data.leftout import LeftOut
from sheer.data.listing import Listing, is_empty, labels_by, read_listing
from sheer.data.several import AnInput, several
from sheer.data.shares import is_mask, positions_in, split_part
from sheer.data.sources import NO_SEPARATOR, Data, Decided, assemble
from sheer.data.splits import SPLITS, fold_split, group_fold_split, grouped_split
from sheer.data.targets import numbers, one_class, several_labels
from sheer.data.weighing import listed_weights, weighed, weight_name
from sheer.errors import DataError, nearest, shown
from sheer.plan.checks import check_texts, path_of, whole
from sheer.plan.plan import Origin, Part
from sheer.plan.profiles import profile_named
from sheer.streams import permutation, stream_key

ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
VALID_WORDS = {"valid": True, "validation": True, "val": True, "train": False, "training": False, "true": True, "false": False}
VALID_WORDS |= {"1": True, "0": False, "test": True}


@dataclass(frozen=True, kw_only=True)
class DataBlock:
    """What the items' targets are and which items are held out; `build(source)` carries it out.

    Args:
        label: For tables and data sets a column, or several columns; for folders and lists of files a
            regular expression with one group, or a function of the relative path. Without one the first
            column after the path, or class folders.
        path: The column of file names; the first one by default.
        root: The folder that file names start from; by default that of the CSV file.
        separator: What separates several labels in one cell, such as " " or ";".
        task: `classify` (one class an item), `tag` (several labels) or `regress` (numbers); seen from the targets by default.
        valid: A share (0: every item trains, and nothing is validated), a column of 0 and 1 (or "train" and "valid"), positions of
            items, or the name of a class folder's part.
        split: `stratified` or `random`, for shares.
        group: A column, or a function of the relative path; no group is on both sides of the split.
        weight: A column of numbers of at least 0, or a function of the relative path that gives one: what each item's loss counts,
            scaled to a mean of 1 over the items to train on.
        folds, fold: Hold out fold number `fold` of `folds`.
        seed: Of the stream `split`.
        profile: Whose share and split are used where none is given.
        unknown: What happens to held-out items with a label that no item to train on has: `raise` stops when the data is built,
            `skip` leaves them out, named with their labels as files are.
        bad_files: What happens to files that cannot be read: `raise` stops before training, `skip` reads every file
            now and leaves those out, with the reasons in `Data.skipped` and the run's skipped.csv; nothing takes their place.
        cache: Where the verdicts of that reading are kept, so that files that have not changed are not read again.
        inputs: Where an item has several, each under its name: `ImageInput`, `TableInput` and `TextInput`, for CSV files and data frames.
    """

    label: str | Sequence[str] | Callable[[str], Any] | None = None
    path: str | None = None
    root: str | Path | None = None
    separator: str | None = None
    task: str | None = None
    valid: float | str | Sequence[int] | None = None
    split: str | None = None
    group: str | Callable[[str], Any] | None = None
    folds: int | None = None
    fold: int = 0
    weight: str | Callable[[str], float] | None = None
    seed: int = 0
    profile: str = "default"
    bad_files: str | None = None
    unknown: str | None = None
    cache: bool | Cache = True
    inputs: Mapping[str, AnInput] | None = None

    def build(self, source: Any) -> Data:
        """The data that this block makes of a source: see `sheer.data.listing.read_listing`.

        Raises:
            DataError: the source, its targets or the split cannot be used; nothing was read but names and cells.
        """
        self.check()
        if self.inputs is not None:
            return several(self, source)
        if isinstance(source, str | Path) and str(source).lower().endswith(ARCHIVES) and not Path(source).expanduser().is_dir():
            raise DataError(f"{source} is an archive: unpack it with sheer.extract(archive, folder), which checks it, and give the folder.")
        folder = isinstance(source, str | Path) and not str(source).lower().endswith(".csv")
        plain = folder and self.label is None
        ignored = [name for name in ("task", "separator", "path", "root") if plain and getattr(self, name) is not None]
        if ignored:
            raise DataError(f"{ignored[0]}={getattr(self, ignored[0])!r} is for tables and lists; class folders say it themselves.")
        if plain and (self.group is not None or self.folds is not None or positions_in(self.valid) is not None):
            parts = [name for name in (*TRAIN_NAMES, *VALID_NAMES) if (Path(source) / name).is_dir()]
            if parts:
                raise DataError(f"{source} has its own folder {parts[0]}, which decides the split; leave group, folds and positions away.")
        if isinstance(self.weight, str) and folder:
            raise DataError(f"weight={self.weight!r} is a column of a table; a folder has none. Give a function of the path, or CSV file.")
        if folder and self.label is None and self.group is None and self.folds is None and positions_in(self.valid) is None:
            data = class_folders(self, source)
            return data if self.weight is None else weighed(data, labels_by(self.weight, data.paths), weight_name(self.weight))
        left = self.left_out()
        listing = read_listing(source, path=self.path, root=self.root, missing_allowed=left.policy == "skip")
        return self._listed(listing, folder, left)

    def check(self) -> None:
        """DataError where a value is none that it can be, or two contradict each other, whatever the source."""
        texts = {name: getattr(self, name) for name in ("path", "separator", "task", "split", "profile")}
        check_texts(texts, DataError)
        if self.separator == "":
            raise DataError("separator='': give what stands between two labels of a cell, such as ' ' or ';'.")
        if self.separator is not None and (self.task not in (None, "tag") or _names(self.label)):
            what = "the labels have a column each" if self.task in (None, "tag") else f"the task is {self.task!r}"
            raise DataError(f"separator={self.separator!r} is for one column whose cells name several labels; {what}. Leave it away.")
        if not (self.label is None or isinstance(self.label, str) or callable(self.label) or _names(self.label)):
            raise DataError(f"label={self.label!r}: give the name of a column, several names, an expression, or a function of the path.")
        for name, given in (("group", self.group), ("weight", self.weight)):
            if not (given is None or isinstance(given, str) or callable(given)):
                raise DataError(f"{name}={shown(given)}: give the name of a column, or a function of the path.")
        if self.root is not None:
            path_of(self.root, "root")
        whole(self.seed, "seed", 0)
        whole(self.fold, "fold", 0)
        if self.folds is not None:
            whole(self.folds, "folds", 0)
        if self.task is not None and self.task not in TASK_NAMES:
            raise DataError(f"task={self.task!r} is no task. {nearest(self.task, TASK_NAMES)}")
        if self.fold and self.folds is None:
            raise DataError(f"fold={self.fold} is a number among folds: give folds as well.")
        if self.folds is not None and (self.valid is not None or self.split is not None):
            raise DataError("folds decide what is held out: leave valid and split away.")
        if self.group is not None and self.split is not None:
            raise DataError(f"split={self.split!r} beside group: groups are held out at random; leave split away.")

    def target_names(self) -> tuple[str, ...]:
        """The columns that the targets of rows are in; DataError where the label is none."""
        if self.label is None or callable(self.label):
            raise DataError("inputs= needs label=: the name of the column to predict, or several names.")
        return (self.label,) if isinstance(self.label, str) else tuple(self.label)

    def left_out(self) -> LeftOut:
        """The policies for items that cannot be used, with nothing left out yet."""
        return LeftOut.by(self.bad_files, self.unknown, self.profile, self.cache)

    def _listed(self, every: Listing, folder: bool, left: LeftOut) -> Data:
        kept, positions = left.from_listing(every)
        listing, decided = self.decided(kept, folder, positions, len(every.files), left)
        files = listing.opened is None
        return assemble(
            decided,
            root=os.path.abspath(listing.root) if files else "",
            paths=listing.files,
            source=listing.source,
            opened=listing.opened,
            listing=listing_hash(listing.root, list(listing.files)) if files else "",
            listing_text=decided.csv(listing.files) if files else "",
            notes=copies(listing.root, listing.files, decided.held_out, decided.targets) if files else (),
        )

    def decided(
        self, listing: Listing, folder: bool, kept: np.ndarray, listed: int, left: LeftOut | None = None
    ) -> tuple[Listing, Decided]:
        """The listing's items that are left, and what is decided of them.

        `kept` int64 (items,) has the items' positions among the `listed` ones. Where the policy is to skip them, held-out items with
        labels that no item to train on has are left out.

        Raises:
            DataError: as in `build`.
        """
        raw, names = self._raw_targets(listing, folder)
        task, origin = self._task(raw, names)
        targets, classes = {"classify": one_class, "tag": several_labels, "regress": numbers}[task](raw, names, self.separator)
        held_out, part, split_origin = self._split(listing, targets, task, kept, listed)
        if held_out.all():
            raise DataError(f"{listing.source}: all {len(held_out)} items are held out, so none is left to learn from. Split otherwise.")
        left = left or self.left_out()
        if task != "regress" and left.unknown == "skip" and (unseen := unknown_classes(targets, held_out)):
            listing, targets, classes, held_out = left.without(unseen, listing, targets, classes, held_out)
        separator, between = self._separated(raw, names, task)
        weights = None if self.weight is None else listed_weights(self.weight, listing, held_out)
        notes: list[str] = []
        if task == "classify":
            check_sides(listing.source, targets, held_out, classes, nothing_out=part.options().get("share") == 0)
            notes += imbalance(Counter(classes[number] for number in targets[~held_out].tolist()))
        elif task == "tag":
            check_known(listing.source, targets, held_out, classes)
        return listing, Decided(
            targets=targets,
            classes=classes,
            held_out=held_out,
            part=part,
            split_origin=split_origin,
            task=task,
            task_origin=origin,
            weights=weights,
            weight=weight_name(self.weight),
            separator=separator,
            separator_origin=between,
            left=left,
            notes=tuple(notes),
        )

    def _separated(self, raw: list[Any], names: tuple[str, ...], task: str) -> tuple[str, Origin]:
        """What stands between several labels in one cell, and who decided it."""
        if self.separator is not None:
            return self.separator, Origin(field="separator", by="you", reason="you gave it")
        if task == "tag" and len(names) == 1 and any(isinstance(value, str) for value in raw):
            return " ", Origin(field="separator", by="data", reason="labels stand in one cell, with blanks between them")
        return "", NO_SEPARATOR

    def _raw_targets(self, listing: Listing, folder: bool) -> tuple[list[Any], tuple[str, ...]]:
        """Each item's target as the source has it, and the names of its columns (of one, but for several columns)."""
        if not listing.columns:
            if self.label is None and folder:
                return [name.partition("/")[0] for name in listing.files], ("class",)
            if self.label is None or not (isinstance(self.label, str) or callable(self.label)):
                raise DataError("A list of files needs label=: a regular expression with one group, or a function of the path.")
            return self._filled(listing, labels_by(self.label, listing.files), ""), ("target",)
        if callable(self.label):
            return self._filled(listing, labels_by(self.label, listing.files), ""), ("target",)
        wanted = self.label
        if wanted is None:
            others = [name for name in listing.columns if listing.opened is not None or name != (self.path or next(iter(listing.columns)))]
            if not others:
                raise DataError(f"{listing.source} has no column but the files: give label=.")
            wanted = others[0]
        if isinstance(wanted, str):
            return self._filled(listing, listing.column(wanted, "label"), wanted), (wanted,)
        columns = [self._filled(listing, listing.column(name, "label"), name) for name in wanted]
        return list(zip(*columns, strict=True)), tuple(wanted)

    def _filled(self, listing: Listing, values: list[Any], column: str) -> list[Any]:
        """The values, none of them empty; where labels are separated an empty cell means no label."""
        empty = [number for number, value in enumerate(values) if is_empty(value)]
        if empty and self.separator is None:
            shown = ", ".join(str(number + 1) for number in empty[:5])
            where = f" in column {column!r}" if column else ""
            raise DataError(
                f"{listing.source}: {len(empty)} items have an empty target (rows {shown}){where}. Fill them in, or take them out."
            )
        return ["" if is_empty(value) else value for value in values] if empty else values

    def _task(self, raw: list[Any], names: tuple[str, ...]) -> tuple[str, Origin]:
        if self.task is not None:
            return self.task, Origin(field="task", by="you", reason="you gave it")
        if self.separator is not None:
            return "tag", Origin(field="task", by="you", reason=f"labels are separated by {self.separator!r}")
        if len(names) > 1:
            flags = all(value in (0, 1) for row in raw for value in row)
            reason = "several columns of 0 and 1" if flags else "several columns of numbers"
            return "tag" if flags else "regress", Origin(field="task", by="data", reason=reason)
        if all(isinstance(value, list | tuple | set | frozenset) for value in raw):
            return "tag", Origin(field="task", by="data", reason="each target is a collection of labels")
        if all(isinstance(value, float) for value in raw):
            return "regress", Origin(field="task", by="data", reason="the targets are numbers with fractions")
        return "classify", Origin(field="task", by="data", reason="each item has one class")

    def _split(self, listing: Listing, targets: np.ndarray, task: str, kept: np.ndarray, listed: int) -> tuple[np.ndarray, Part, Origin]:
        """Which items are held out; `kept` int64 (items,) has their positions in the source, which positions for valid name."""
        count = len(listing.files)
        order = permutation(stream_key(self.seed, "split"), count)
        given = Origin(field="split", by="you", reason="you gave it")
        positions = positions_in(self.valid)
        asked = [self.group is not None or self.folds is not None, isinstance(self.valid, str), positions is not None]
        if sum(asked) > 1:
            raise DataError("Give one of: group or folds (with a share), a column for valid, or positions for valid.")
        if positions is not None:
            if not positions or min(positions) < 0 or max(positions) >= listed or is_mask(self.valid, other_than=listed):
                raise DataError(
                    f"valid={positions[:5]!r}...: give positions of items, from 0 to {listed - 1}, or a mask of {listed} entries."
                )
            return np.isin(kept, positions), Part(name="positions", settings=(("count", len(set(positions))),)), given
        if isinstance(self.valid, str):
            said = [str(value).strip().lower() for value in listing.column(self.valid, "valid")]
            if "test" in said and {"valid", "validation", "val"} & set(said):
                raise DataError(f"valid={self.valid!r}: some rows say valid, others test. Take those of the test out, for learn.evaluate.")
            flags = [VALID_WORDS.get(word) for word in said]
            if None in flags:
                raise DataError(f"valid={self.valid!r}: row {flags.index(None) + 1} says neither train nor valid (or test; 0 or 1).")
            return np.array(flags, dtype=bool), Part(name="column", settings=(("column", self.valid),)), given
        group = self.group
        groups: np.ndarray | None = None
        if group is not None:
            values = listing.column(group, "group") if isinstance(group, str) else labels_by(group, listing.files)
            if any(is_empty(value) for value in values):
                raise DataError(f"group: {sum(map(is_empty, values))} items have none, and would be taken for one group. Fill them in.")
            groups = np.unique([str(value) for value in values], return_inverse=True)[1]
            if groups.max() == 0:
                raise DataError("All items are in one group, so none can be held out without the others.")
        named = () if not isinstance(group, str) else (("group", group),)
        if self.folds is not None:
            numbered = (("folds", int(self.folds)), ("fold", int(self.fold)), ("seed", int(self.seed)))
            if not 2 <= self.folds <= count or not 0 <= self.fold < self.folds:
                raise DataError(f"folds={self.folds}, fold={self.fold}: give at least 2 folds, and a fold from 0 to folds - 1.")
            labels = targets if task == "classify" else np.zeros(count, dtype=np.int64)
            if groups is None:
                held_out = fold_split(labels, self.folds, self.fold, order)
            else:
                held_out = group_fold_split(groups, self.folds, self.fold, order)
            return held_out, Part(name="fold", settings=(*numbered, *named)), given
        assert not isinstance(self.valid, Sequence)
        part, origin = split_part(self.valid, self.split, self.seed, self.profile)
        share = part.options()["share"]
        assert isinstance(share, float)
        if groups is not None:
            return grouped_split(groups, share, order), Part(name="grouped", settings=(*part.settings, *named)), given
        if part.name == "stratified" and task != "classify":
            if self.split == "stratified":
                raise DataError(f"split='stratified' needs one class an item; the task is {task!r}. Use 'random', or a group.")
            why = f"{profile_named(self.profile).reason('valid')}; at random: there is not one class an item"
            part, origin = Part(name="random", settings=part.settings), Origin(field="split", by="default", reason=why)
        return SPLITS[part.name](targets, share, order), part, origin


TASK_NAMES = ("classify", "tag", "regress")


def _names(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str) and len(value) > 0 and all(isinstance(name, str) for name in value)
