"""Every file of a data set, read once before anything is learned from it: which cannot be used, which are odd, and why."""

from __future__ import annotations

import csv
import hashlib
import inspect
import io
import json
import os
import stat
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from PIL import Image

from sheer.data import formats
from sheer.data.cache import Cache, Stamp, decode_version, settled, stamp_or_none
from sheer.data.folders import SUFFIXES, is_listed, stop_at
from sheer.data.formats import UNKNOWN_FORMATS, check_bytes, oddities, unread_format
from sheer.data.listing import read_listing
from sheer.data.pixels import decode
from sheer.data.reading import in_threads
from sheer.errors import DataError, first_line
from sheer.plan.markup import html_table
from sheer.plan.table import columns

READERS = 2

KINDS = {
    "missing": "there is no such file",
    "link": "a link that leads nowhere, or in a circle",
    "no file": "a folder, device or pipe",
    "name": "no photograph by its name",
    "access": "the system does not allow it to be read",
    "empty": "no bytes",
    "other format": "a format that is not read",
    "too large": "more pixels or bytes than are read, or too thin",
    "damaged": "cut short, or its bytes are no picture",
    "wrong suffix": "read by content, whatever its name says",
    "several frames": "the first is used",
    "unknown label": "held out, with a label that no item to train on has",
}
USABLE = ("wrong suffix", "several frames")


@dataclass(frozen=True, kw_only=True)
class FileProblem:
    """What is wrong or odd about a file: `kind` is one of KINDS, `reason` says more; files of the kinds in USABLE are read."""

    file: str
    kind: str
    reason: str

    @property
    def usable(self) -> bool:
        """Whether the file is read all the same."""
        return self.kind in USABLE


@dataclass(frozen=True, kw_only=True)
class FileCheck:
    """What was found in the files of a source; `print` it, or keep `csv()`."""

    source: str
    files: int
    problems: tuple[FileProblem, ...]

    @property
    def unusable(self) -> tuple[FileProblem, ...]:
        """The files that cannot be learned from."""
        return tuple(problem for problem in self.problems if not problem.usable)

    def __str__(self) -> str:
        kinds = Counter(problem.kind for problem in self.problems)
        said = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
        odd = len(self.problems) - len(self.unusable)
        head = f"{self.source}: {self.files} files, {len(self.unusable)} cannot be used, {odd} oddities" + (f" ({said})" if said else "")
        return "\n".join([head, columns(HEADER, _cells(self.problems))] if self.problems else [head])

    def _repr_html_(self) -> str:
        return html_table(str(self).partition("\n")[0], HEADER, _cells(self.problems))

    def csv(self) -> str:
        """A line a problem: file, kind, whether it is used, reason."""
        return problems_csv(self.problems)


HEADER = ("file", "kind", "used", "reason")


def _cells(problems: Sequence[FileProblem]) -> list[list[str]]:
    return [[one.file, one.kind, "yes" if one.usable else "no", one.reason] for one in problems]


def problems_csv(problems: Sequence[FileProblem]) -> str:
    """A line a problem: file, kind, whether it is used, reason."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([HEADER, *_cells(problems)])
    return text.getvalue()


Verdict = tuple[tuple[str, str], ...]


def verdict(path: str) -> Verdict:
    """What is wrong or odd about one file, as pairs of kind and reason; () where it is a photograph as its name says.

    No file makes it raise: whatever a reader of pictures trips over is a reason.
    """
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        kind = "link" if os.path.islink(path) else "access" if isinstance(error, PermissionError) else "missing"
        return ((kind, error.strerror or KINDS[kind]),)
    if not stat.S_ISREG(mode):
        what = next((name for name, test in _NO_FILES if test(mode)), "no file")
        return (("no file", f"it is {what}"),)
    if not path.lower().endswith(SUFFIXES):
        suffix = PurePath(path).suffix.lower()
        return (("name", UNKNOWN_FORMATS.get(suffix, f"read are {', '.join(SUFFIXES)}")),)
    try:
        check_bytes(os.path.getsize(path))
        content = Path(path).read_bytes()
    except PermissionError as error:
        return (("access", error.strerror or KINDS["access"]),)
    except (OSError, ValueError) as error:
        return (("too large" if isinstance(error, ValueError) else "damaged", first_line(error)),)
    return content_verdict(os.path.basename(path), content)


_NO_FILES = (("a folder", stat.S_ISDIR), ("a pipe", stat.S_ISFIFO), ("a device", stat.S_ISCHR), ("a device", stat.S_ISBLK))


def content_verdict(name: str, content: bytes) -> Verdict:
    """`verdict` for the bytes of a file of that name."""
    try:
        decode(io.BytesIO(content))
        several, named_wrongly = oddities(name, content)
    except Exception as error:  # Pillow raises many kinds for bad bytes; each becomes a line of the table
        kind = "damaged" if content else "empty"
        if "pixels" in str(error) and (isinstance(error, ValueError | Image.DecompressionBombError)):
            kind = "too large"
        other = unread_format(content)
        return (("other format" if other and content else kind, other or first_line(error)),)
    found = [("several frames", "it holds several frames or pages: the first is used")] if several else []
    return (*found, *([("wrong suffix", f"it is {named_wrongly}: read by content")] if named_wrongly else []))


class _Verdicts:
    """Verdicts of earlier checks of files below one folder, by name and stamp; kept in one JSON file of the cache."""

    def __init__(self, cache: Cache | None, root: str) -> None:
        self.file: Path | None = None
        self.known: dict[str, tuple[Stamp, Verdict]] = {}
        if cache is None:
            return
        rules = decode_version() + inspect.getsource(formats) + inspect.getsource(inspect.getmodule(verdict) or formats)
        name = hashlib.sha256(f"{os.path.realpath(root)}\0{rules}".encode("utf-8", "surrogateescape")).hexdigest()
        self.file = Path(cache.folder).expanduser() / "checked" / f"{name[:24]}.json"
        try:
            written = json.loads(self.file.read_bytes())
            self.known = {name: (Stamp(*stamp), tuple((str(kind), str(why)) for kind, why in found)) for name, (stamp, found) in written}
        except (OSError, ValueError, TypeError):
            self.known = {}  # not there yet, or damaged: every file is read again

    def find(self, name: str, stamp: Stamp) -> Verdict | None:
        """What was found in the file of that name and stamp; None where it was not read before."""
        found = self.known.get(name)
        return found[1] if found is not None and found[0] == stamp else None

    def keep(self, fresh: Mapping[str, tuple[Stamp, Verdict]]) -> None:
        """Add what was found; where the disk cannot be written the next check reads the files again."""
        if self.file is None or (not fresh.keys() - self.known.keys() and all(self.known[name] == fresh[name] for name in fresh)):
            return
        temporary = self.file.with_name(f"{self.file.name}.{os.getpid()}")
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            temporary.write_text(json.dumps(list((self.known | dict(fresh)).items())))
            os.replace(temporary, self.file)
        except OSError:
            temporary.unlink(missing_ok=True)


def check_files(
    root: str,
    names: Sequence[str],
    *,
    cache: Cache | None = None,
    opened: Callable[[str], Image.Image] | None = None,
) -> tuple[FileProblem, ...]:
    """What is wrong or odd about the files `names` below `root`, in their order; each is decoded, by threads side by side.

    A file whose path, times and size are those of an earlier check is not read again. `opened` gives the picture where
    names are no files.

    Raises:
        DataError: the disk does not answer.
    """
    earlier = _Verdicts(None if opened else cache, root)

    def look(name: str) -> tuple[Stamp | None, Verdict]:
        if opened is not None:
            try:
                opened(name)
            except Exception as error:  # whatever your own data set raises is the reason
                return None, (("damaged", first_line(error)),)
            return None, ()
        path = os.path.join(root, name)
        stamp = stamp_or_none(path)
        if stamp is None:
            return None, verdict(path)
        found = earlier.find(name, stamp)
        if found is not None:
            return stamp, found
        found = verdict(path)
        return stamp if settled(stamp) and stamp_or_none(path) == stamp else None, found

    problems: list[FileProblem] = []
    fresh: dict[str, tuple[Stamp, Verdict]] = {}
    for name, (stamp, found) in zip(names, in_threads(look, names, READERS, str), strict=True):
        problems += [FileProblem(file=name, kind=kind, reason=reason) for kind, reason in found]
        if stamp is not None:
            fresh[name] = (stamp, found)
    earlier.keep(fresh)
    return tuple(problems)


def check(source: Any, *, path: str | None = None, root: str | Path | None = None, cache: bool | Cache = True) -> FileCheck:
    """Read every file of a folder, or every file that a table, a list or a data set names, and say what is wrong or odd.

    In a folder these are all files below it, whatever their names, but for hidden ones. Nothing is changed.

    Args:
        source: A folder, or what `sheer.images` takes.
        path, root: As for `sheer.images`.
        cache: Where verdicts are kept between checks, so that files that have not changed are not read again.

    Raises:
        DataError: there is no such source, or the disk does not answer.
    """
    kept = cache_of(cache)
    if isinstance(source, str | Path) and os.path.isdir(Path(source).expanduser()):
        top = str(Path(source).expanduser())
        names = _every_file(top)
        return FileCheck(source=str(source), files=len(names), problems=check_files(top, names, cache=kept))
    listing = read_listing(source, path=path, root=root, missing_allowed=True)
    problems = check_files(listing.root, listing.files, cache=kept, opened=listing.opened)
    return FileCheck(source=listing.source, files=len(listing.files), problems=problems)


def cache_of(given: bool | Cache) -> Cache | None:
    """The cache that was given, this user's own, or none."""
    return given if isinstance(given, Cache) else Cache() if given else None


def _every_file(top: str) -> list[str]:
    """Relative paths of every file below `top`, sorted by code point, hidden ones left out; a linked folder is followed once."""
    found, visited = list[str](), set[str]()
    try:
        for folder, inside, names in os.walk(top, followlinks=True, onerror=stop_at):
            new = os.path.realpath(folder) not in visited
            visited.add(os.path.realpath(folder))
            inside[:] = sorted(name for name in inside if new and not name.startswith("."))
            found += [os.path.relpath(os.path.join(folder, name), top).replace(os.sep, "/") for name in names if new and is_listed(name)]
    except OSError as error:
        raise DataError(f"{top} cannot be read: {error}. What lies in it would go unchecked.") from error
    return sorted(found)
