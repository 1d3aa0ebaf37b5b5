"""Presized photographs on disk, so that a later run reads pixels instead of decoding files again.

    FOLDER/presized/<data set and transform>/<its pictures>.pixels
    FOLDER/checked/<data set>.json     what `sheer check` found in its files, by path, size and times

Each file of pixels is written under another name, flushed and renamed, and never changed again: uint8 pixels one
after the other, then an index as JSON, its length, and a mark. A picture is found by its path, size and
times, so a changed file is never found; the transform holds whatever could change a pixel. Two processes
that keep the same pictures write the same file under the same name. Files used longest ago are removed
where the whole would grow beyond its limit; who has one mapped goes on reading it.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import mmap
import os
import shutil
import sys
import time
from collections.abc import Iterable, Set
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from PIL import features

from sheer.data import pixels
from sheer.errors import DataError
from sheer.plan.checks import path_of, whole

MARK = b"sheerpx1"
FILE_BYTES = 256 << 20
SETTLED_NS = 50_000_000
ROW_BYTES = 512


def default_folder() -> Path:
    """Where this platform keeps what can be made again: `$XDG_CACHE_HOME/sheer`, or the user's own cache folder.

    Raises:
        DataError: there is no home folder.
    """
    # The environment is read because that is how people and platforms say where caches belong (XDG base
    # directories); no result depends on it, and `Cache(folder=...)` overrides it.
    named = os.environ.get("XDG_CACHE_HOME") or (os.environ.get("LOCALAPPDATA") if sys.platform == "win32" else None)
    try:
        home = Path.home() / ("Library/Caches" if sys.platform == "darwin" else ".cache")
        return (Path(named) if named else home) / "sheer"
    except RuntimeError as error:
        raise DataError(f"There is no home folder for the cache ({error}): pass cache=False, or sheer.Cache(folder=...).") from error


class Stamp(NamedTuple):
    """What changes when a file does: size in bytes, time of its content, time of its entry in the folder (ns)."""

    size: int
    modified: int
    changed: int


class Seen(NamedTuple):
    """What was found when a file was read: its stamp, the hash of its bytes, several frames?, the format that its name hides."""

    stamp: Stamp
    sha256: str
    several: bool
    named_wrongly: str


@dataclass(frozen=True, kw_only=True)
class Entry:
    """The kept pictures of one data set under one transform; `last_used` in seconds since 1970."""

    data_set: str
    transform: str
    pictures: int
    bytes: int
    last_used: float


@dataclass(frozen=True, kw_only=True)
class Cache:
    """Where presized photographs are kept between runs, and how many bytes at most."""

    folder: str | Path = field(default_factory=default_folder)
    limit: int = 4 << 30

    def __post_init__(self) -> None:
        path_of(self.folder, "folder")
        whole(self.limit, "limit", 0, ", the bytes that may be kept")

    def files(self) -> list[Path]:
        """Every file of the cache, those being written too, used longest ago first."""
        root = Path(self.folder).expanduser()
        found = [
            (used.st_mtime_ns, path)
            for path in [*root.glob("presized/*/*.pixels*"), *root.glob("checked/*.json*")]
            if (used := _stat(path)) is not None
        ]
        return [path for _, path in sorted(found)]

    def entries(self) -> list[Entry]:
        """What is kept, used last first."""
        groups: dict[tuple[str, str], list[tuple[int, int, float]]] = {}
        for path in self.files():
            index, used = read_index(path), _stat(path)
            if index is not None and used is not None:
                row = (len(index["pictures"]), used.st_size, used.st_mtime)
                groups.setdefault((index["data_set"], index["transform"]), []).append(row)
        listed = [
            Entry(
                data_set=one,
                transform=two,
                pictures=sum(r[0] for r in rows),
                bytes=sum(r[1] for r in rows),
                last_used=max(r[2] for r in rows),
            )
            for (one, two), rows in groups.items()
        ]
        return sorted(listed, key=lambda entry: -entry.last_used)

    def make_room(self, allowed: int, keep: Iterable[Path] = ()) -> int:
        """Remove files used longest ago, but for those to keep, until at most `allowed` bytes are left; returns what was removed.

        A file that another process holds on to stays where the platform does not allow its removal.
        """
        spared = set(keep)
        sizes = {path: used.st_size for path in self.files() if (used := _stat(path)) is not None}
        total, removed = sum(sizes.values()), 0
        for path, size in sizes.items():
            if total - removed <= allowed:
                break
            if path not in spared and _remove(path):
                removed += size
                if not any(path.parent.iterdir()):
                    _remove(path.parent)
        return removed

    def clear(self) -> int:
        """Remove everything that is kept; returns the bytes."""
        return self.make_room(-1)


def _stat(path: Path) -> os.stat_result | None:
    """None for a file that another process has just removed."""
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def _remove(path: Path) -> bool:
    """Whether it is gone: another process may be ahead, or hold on to it."""
    try:
        path.rmdir() if path.is_dir() else path.unlink(missing_ok=True)
    except OSError:
        return False
    return True


def read_index(path: Path) -> dict[str, Any] | None:
    """The index at a cache file's end; None where the file is gone, being written, or not whole."""
    try:
        with path.open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(end - 16, 0))
            tail = file.read(16)
            length = int.from_bytes(tail[:8], "little")
            if tail[8:] != MARK or length > end - 16:
                return None
            file.seek(end - 16 - length)
            index = json.loads(file.read(length))
        rows = [_row(*cells) for cells in index["pictures"]]
        whole_index = isinstance(index["data_set"], str) and isinstance(index["transform"], str)
        pixel_bytes = sum(high * wide * 3 for _, _, high, wide in rows)
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None
    return index if whole_index and pixel_bytes == end - 16 - length else None


@cache
def decode_version() -> str:
    """Changes with whatever could change a decoded or resized pixel: Pillow, its codecs, the source of the decode rule."""
    codecs = [f"{name} {features.version(name)}" for name in ("pil", "jpg", "libjpeg_turbo", "zlib", "webp", "libtiff")]
    return hashlib.sha256("\n".join([*codecs, inspect.getsource(pixels)]).encode()).hexdigest()


def stamp_of(path: str) -> Stamp:
    """The file's stamp now; OSError where there is none."""
    now = os.stat(path)
    return Stamp(now.st_size, now.st_mtime_ns, now.st_ctime_ns)


def stamp_or_none(path: str) -> Stamp | None:
    """None where there is no such file any more: reading it will say so."""
    try:
        return stamp_of(path)
    except OSError:
        return None


def settled(stamp: Stamp) -> bool:
    """Whether the file is old enough for a later change to show in its times, which have steps of some milliseconds."""
    return time.time_ns() - max(stamp.modified, stamp.changed) > SETTLED_NS


Key = tuple[str, Stamp]
Kept = tuple[Seen, np.ndarray]
_Row = tuple[str, Seen, int, int]


class Shelf:
    """The kept pictures of one data set (its folder) under one transform. A key is a picture's path and its file's stamp.

    `put` and `close` raise OSError where the disk cannot be written; what was kept before stays.
    """

    def __init__(self, cache: Cache, data_set: str, transform: str) -> None:
        self.cache, self.data_set, self.transform = cache, data_set, transform
        name = hashlib.sha256("\0".join([data_set, transform, decode_version()]).encode("utf-8", "surrogateescape")).hexdigest()
        self.folder = Path(cache.folder).expanduser() / "presized" / name[:24]
        self.used: list[Path] = []
        self._file: BinaryIO | None = None
        self._rows: list[_Row] = []
        self._bytes = self._room = 0

    def find(self, wanted: Set[Key]) -> dict[Key, Kept]:
        """What was seen of each wanted picture that is kept, and its pixels: mapped, read-only, uint8 (H, W, 3)."""
        found: dict[Key, Kept] = {}
        for path in sorted(self.folder.glob("*.pixels")):
            index = read_index(path)
            if index is not None:
                found |= self._mapped(path, [_row(*cells) for cells in index["pictures"]], wanted - found.keys())
        return found

    def _mapped(self, path: Path, rows: Iterable[_Row], wanted: Set[Key]) -> dict[Key, Kept]:
        places, start = dict[Key, tuple[Seen, int, int, int]](), 0
        for name, seen, high, wide in rows:
            if (name, seen.stamp) in wanted:
                places[name, seen.stamp] = (seen, start, high, wide)
            start += high * wide * 3
        if not places:
            return {}
        try:
            with path.open("rb") as file:
                whole = np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), np.uint8)
            os.utime(path, ns=(time.time_ns(), time.time_ns()))
        except OSError:  # removed by another process since it was listed: as if it had never been there
            return {}
        self.used.append(path)
        return {key: (seen, whole[at : at + h * w * 3].reshape(h, w, 3)) for key, (seen, at, h, w) in places.items()}

    def put(self, name: str, seen: Seen, picture: np.ndarray) -> bool:
        """Write one picture, to be found once `close` has been called; False where there is no room."""
        if self._file is None:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            in_use = sum(used.st_size for path in self.used if (used := _stat(path)) is not None)
            self._room = min(self.cache.limit - in_use, shutil.disk_usage(self.folder).free // 2)
        needed = picture.nbytes + ROW_BYTES
        if self._bytes + needed > self._room:
            return False
        if self._file is None:
            self._file = (self.folder / f"new.pixels.{os.getpid()}.{time.time_ns()}").open("wb")
        self._file.write(np.ascontiguousarray(picture).data)
        self._rows.append((name, seen, picture.shape[0], picture.shape[1]))
        self._bytes += needed
        return True

    def full(self) -> bool:
        """Whether the file being written is large enough to be closed."""
        return self._bytes >= FILE_BYTES

    def close(self) -> dict[Key, Kept]:
        """Finish the file being written and return its pictures as `find` does."""
        if self._file is None:
            return {}
        file, rows = self._file, self._rows
        self._file, self._rows, self._bytes = None, [], 0
        pictures = [[name, *seen.stamp, *seen[1:], high, wide] for name, seen, high, wide in rows]
        index = json.dumps({"data_set": self.data_set, "transform": self.transform, "pictures": pictures}).encode()
        target = self.folder / f"{hashlib.sha256(index).hexdigest()[:24]}.pixels"
        try:
            with file:
                file.write(index + len(index).to_bytes(8, "little") + MARK)
                file.flush()
                os.fsync(file.fileno())
            os.replace(file.name, target)
        except OSError:
            _remove(Path(file.name))
            if not target.exists():  # on Windows another process may have the same pictures mapped: then they are there
                raise
        found = self._mapped(target, rows, {(name, seen.stamp) for name, seen, _, _ in rows})
        self.cache.make_room(self.cache.limit, keep=self.used)
        return found

    def drop(self) -> None:
        """Leave no half-written file behind."""
        if self._file is not None:
            self._file.close()
            _remove(Path(self._file.name))
            self._file, self._rows, self._bytes = None, [], 0


def _row(name: str, size: int, modified: int, changed: int, sha256: str, several: bool, kind: str, high: int, wide: int) -> _Row:
    return name, Seen(Stamp(size, modified, changed), sha256, several, kind), high, wide
