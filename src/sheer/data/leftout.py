"""Files that cannot be used, left out where that was asked for: named, with their reasons, and never replaced by others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from PIL import Image

from sheer.data.cache import Cache
from sheer.data.listing import Listing
from sheer.data.preflight import FileProblem, cache_of, check_files
from sheer.errors import DataError, nearest
from sheer.plan.plan import Origin
from sheer.plan.profiles import profile_named

BAD_FILES = ("raise", "skip")


@dataclass(kw_only=True)
class LeftOut:
    """What the policy for files that cannot be used is, who decided it, and which files it left out so far."""

    policy: str
    origin: Origin
    cache: Cache | None
    problems: list[FileProblem] = field(default_factory=list)

    @staticmethod
    def by(given: str | None, profile: str, cache: bool | Cache) -> LeftOut:
        """The policy given, or the profile's; DataError for one that is none."""
        constants = profile_named(profile)
        policy = str(constants.value("bad_files")) if given is None else given
        if policy not in BAD_FILES:
            raise DataError(f"bad_files={given!r} is no policy. {nearest(str(given), BAD_FILES)}")
        reason = constants.reason("bad_files") if given is None else "you gave it"
        origin = Origin(field="bad_files", by="default" if given is None else "you", reason=reason)
        return LeftOut(policy=policy, origin=origin, cache=cache_of(cache) if policy == "skip" else None)

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
        columns = {name: [values[number] for number in kept.tolist()] for name, values in listing.columns.items()}
        return replace(listing, files=tuple(listing.files[number] for number in kept.tolist()), columns=columns), kept

    def first(self, folder: str = "") -> str:
        """The first file (in that folder) that was left out, with its reason."""
        one = next(one for one in self.problems if not folder or f"/{folder}/" in f"/{one.file}")
        return f"{one.file}: {one.kind}, {one.reason}"

    def notes(self) -> list[str]:
        """A sentence for the plan where files were left out."""
        if not self.problems:
            return []
        kinds = ", ".join(f"{count} {kind}" for kind, count in Counter(one.kind for one in self.problems).most_common())
        return [f"{len(self.problems)} files cannot be used and are left out ({kinds}), such as {self.first()}."]
