"""Items that cannot be used, left out where that was asked for: named, with their reasons, and never replaced by others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from sheer.data.cache import Cache
from sheer.data.check import unknown_classes
from sheer.data.folders import photo_files
from sheer.data.listing import Listing
from sheer.data.preflight import FileProblem, cache_of, check_files
from sheer.data.targets import items_csv
from sheer.errors import DataError, nearest
from sheer.plan.plan import Origin
from sheer.plan.profiles import profile_named

POLICIES = ("raise", "skip")
UNKNOWN = "unknown label"


@dataclass(kw_only=True)
class LeftOut:
    """What the policies for bad files and for unknown labels are, who decided them, and which items they left out so far.

    A label is unknown that items to validate on have, and no item to train on.
    """

    policy: str
    unknown: str
    origins: tuple[Origin, Origin]
    cache: Cache | None
    problems: list[FileProblem] = field(default_factory=list)

    @staticmethod
    def by(bad_files: str | None, unknown: str | None, profile: str, cache: bool | Cache) -> LeftOut:
        """The policies given, or the profile's; DataError for one that is none."""
        files, from_files = policy_of("bad_files", bad_files, profile)
        labels, from_labels = policy_of("unknown", unknown, profile)
        shelf = cache_of(cache) if files == "skip" else None
        return LeftOut(policy=files, unknown=labels, origins=(from_files, from_labels), cache=shelf)

    def sort_out(self, root: str, names: Sequence[str], opened: Callable[[str], Image.Image] | None = None) -> list[str]:
        """The names of the files that can be used, in order; the others are remembered with their reasons."""
        found = [one for one in check_files(root, names, cache=self.cache, opened=opened) if not one.usable]
        self.problems += found
        bad = {one.file for one in found}
        return [name for name in names if name not in bad]

    def from_folders(self, root: Path, where: Path, found: list[tuple[str, str]]) -> list[tuple[str, str]]:
        """The pairs of path and class whose files can be used, in order; DataError where a class below `where` has none left."""
        good = set(self.sort_out(str(root), [path for path, _ in found]))
        lost = sorted({label for _, label in found} - {label for path, label in found if path in good})
        if lost:
            raise DataError(
                f"{where}: no file of {', '.join(lost[:5])} can be read ({self.first(lost[0])}), and a class is not left out by itself. "
                "Take the folder out, or replace its files; `sheer check` lists them."
            )
        return [(path, label) for path, label in found if path in good]

    def from_listing(self, listing: Listing) -> tuple[Listing, np.ndarray]:
        """The items whose files can be used, and their positions in the whole listing, int64 (items,)."""
        kept = np.arange(len(listing.files))
        if self.policy == "skip":
            good = set(self.sort_out(listing.root, list(dict.fromkeys(listing.files)), listing.opened))
            kept = np.array([number for number, name in enumerate(listing.files) if name in good], dtype=np.int64)
        if len(kept) == len(listing.files):
            return listing, kept
        if not len(kept):
            raise DataError(
                f"{listing.source}: none of its {len(listing.files)} files can be used ({self.first()}). Is root the right folder?"
            )
        return listing.only(kept), kept

    def from_labels(self, files: Sequence[str], labels: Sequence[Sequence[str]]) -> np.ndarray:
        """bool (items,): which items stay; `labels` has the unknown ones of each item. The others are remembered."""
        for name, own in zip(files, labels, strict=True):
            if own:
                self.problems.append(FileProblem(file=name, kind=UNKNOWN, reason=f"no item to train on has {', '.join(map(repr, own))}"))
        return np.array([not own for own in labels])

    def without(
        self, unseen: list[int], listing: Listing, targets: np.ndarray, classes: tuple[str, ...], held_out: np.ndarray
    ) -> tuple[Listing, np.ndarray, tuple[str, ...], np.ndarray]:
        """Listing, targets, classes and what is held out, without these classes or labels and the items that have one of them."""
        if targets.ndim == 1:
            gone = np.isin(targets, unseen).tolist()
            labels = [[classes[number]] if lost else [] for number, lost in zip(targets.tolist(), gone, strict=True)]
        else:
            labels = [[classes[unseen[place]] for place in np.flatnonzero(row)] for row in targets[:, unseen]]
        stays = self.from_labels(listing.files, labels)
        seen = np.setdiff1d(np.arange(len(classes)), unseen).tolist()
        targets = np.searchsorted(seen, targets[stays]) if targets.ndim == 1 else targets[stays][:, seen]
        return listing.only(np.flatnonzero(stays)), targets, tuple(classes[number] for number in seen), held_out[stays]

    def from_share(
        self, paths: list[str], labels: np.ndarray, classes: tuple[str, ...], held_out: np.ndarray
    ) -> tuple[list[str], np.ndarray, tuple[str, ...], np.ndarray, str]:
        """Paths, labels, classes and what is held out of class folders, without items of unknown classes where those are skipped.

        Then with the list of items as CSV text, for a split by share of what is left would be another one; "" where all stay.
        """
        unseen = unknown_classes(labels, held_out) if self.unknown == "skip" else []
        if not unseen:
            return paths, labels, classes, held_out, ""
        listing = Listing(source="", root="", files=tuple(paths), columns={})
        listing, labels, classes, held_out = self.without(unseen, listing, labels, classes, held_out)
        return list(listing.files), labels, classes, held_out, items_csv(listing.files, held_out, labels, "classify", classes, None)

    def first(self, folder: str = "") -> str:
        """The first file (in that folder) that was left out, with its reason."""
        one = next(one for one in self.problems if not folder or f"/{folder}/" in f"/{one.file}")
        return f"{one.file}: {one.kind}, {one.reason}"

    def notes(self) -> list[str]:
        """A sentence for the plan where files were left out, and one where items with unknown labels were."""
        bad = [one for one in self.problems if one.kind != UNKNOWN]
        unknown = Counter(one.reason for one in self.problems if one.kind == UNKNOWN)
        kinds = ", ".join(f"{count} {kind}" for kind, count in Counter(one.kind for one in bad).most_common())
        notes = [f"{len(bad)} files cannot be used and are left out ({kinds}), such as {self.first()}."] if bad else []
        if unknown:
            shown = "; ".join(f"{reason} ({count})" for reason, count in unknown.most_common(5))
            notes.append(f"{sum(unknown.values())} held-out items are left out: {shown}{'; ...' if len(unknown) > 5 else ''}.")
        return notes


def policy_of(name: str, given: str | None, profile: str) -> tuple[str, Origin]:
    """The policy given, or the profile's, and who decided it; DataError for one that is none."""
    constants = profile_named(profile)
    policy = str(constants.value(name)) if given is None else given
    if policy not in POLICIES:
        raise DataError(f"{name}={given!r} is no policy. {nearest(str(given), POLICIES)}")
    reason = constants.reason(name) if given is None else "you gave it"
    return policy, Origin(field=name, by="default" if given is None else "you", reason=reason)


def further_files(folder: Path, classes: Sequence[str], unknown: str) -> tuple[list[tuple[str, str]], list[str]]:
    """The photographs in class folders that a model knows, as (path, class), and a note on those that `unknown="skip"` leaves out.

    Raises:
        DataError: there are none, or some are of a class that the model does not know, and that policy is "raise".
    """
    policy, every = policy_of("unknown", unknown, "default")[0], photo_files(str(folder))
    found, strange = [row for row in every if row[1] in classes], Counter(label for _, label in every if label not in classes)
    shown = ", ".join(f"{label!r} ({count} files)" for label, count in strange.most_common(5))
    if not found or (strange and policy == "raise"):
        wrong = f"classes that the model does not know: {shown}" if strange else "no photographs in class folders"
        skip = ", or leave them out: unknown='skip'" if strange and found else ""
        raise DataError(f"{folder} has {wrong}. It needs folders named after {', '.join(classes[:8])}{skip}.")
    left = f"{len(every) - len(found)} of {len(every)} files are left out: the model does not know their class: {shown}"
    return found, [left] if strange else []
