"""The photographs of one data set for one learner: each read once at each working size, unreadable ones named together."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

import numpy as np
import torch
from PIL import Image

from sheer.data.augmentations import cuts_itself
from sheer.data.boxes import Whole
from sheer.data.cache import Cache, Kept, Key, Seen, Shelf, Stamp, settled, stamp_of, stamp_or_none
from sheer.data.formats import check_bytes, oddities, told, unread_format
from sheer.data.photos import Photos, Resident
from sheer.data.pixels import RESIZES, Crop, Luma, Pad, Squish, decode
from sheer.data.reading import in_threads
from sheer.data.sources import Data
from sheer.errors import DataError, DeviceMemoryError, first_line
from sheer.plan.checks import whole
from sheer.plan.plan import Part, Phase

Result = TypeVar("Result")
NO_FILE = Stamp(0, 0, 0)
READERS = 2  # threads to begin with; no bit depends on them
SHARE = 16  # photographs a thread in which a number of threads is tried


def threads_of(readers: int | None) -> int | None:
    """The threads that were asked for, or None; PlanError where they are no whole number."""
    return None if readers is None else whole(readers, "readers", 0)


def cores() -> int:
    """The processor's cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def next_readers(rates: Mapping[int, float], most: int) -> int:
    """How many threads read next, from photographs a second by number of threads: twice as many while that gains a tenth, else the best.

    >>> next_readers({2: 300.0}, 8), next_readers({2: 300.0, 4: 500.0, 8: 520.0}, 64), next_readers({2: 300.0, 4: 500.0}, 4)
    (4, 8, 4)
    """
    last = max(rates)
    gains = len(rates) == 1 or rates[last] >= 1.1 * rates[last // 2]
    return 2 * last if gains and 2 * last <= most else max(rates, key=lambda count: rates[count])


@contextlib.contextmanager
def room_for(items: int, device: torch.device) -> Iterator[None]:
    """DeviceMemoryError where `items` are more than the device has room for."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise DeviceMemoryError(
            f"The {items:,} items do not all fit on {device} ({first_line(error)}). Give sheer.learner(resident=False): no bit changes."
        ) from error


def resize_of(part: Part) -> Crop | Pad | Squish:
    """The plan's resize rule as the object that carries it out."""
    return cast(Crop | Pad | Squish, part.made(RESIZES))


def cut_of(phase: Phase) -> Any:
    """The phase's resize rule, for a random resized crop left whole, and made grey where the network takes one channel."""
    rule = resize_of(phase.resize)
    whole = Whole(rule=rule) if cuts_itself(phase) else rule
    return Luma(rule=whole) if len(phase.mean) == 1 else whole


@dataclass(kw_only=True)
class _Size:
    """The photographs at one working size: those kept, and what was seen of each file when it was read."""

    photos: Photos
    shelf: Shelf | None
    seen: dict[int, Seen] = field(default_factory=dict)


class Album:
    """The photographs of the data set that a learner has now, kept from one use to the next for as long as it has it."""

    def __init__(self, cache: Cache | None, readers: int | None) -> None:
        self.cache, self.readers = cache, readers
        self._kept: tuple[Data, Pictures] | None = None

    def of(self, data: Data) -> Pictures:
        """The data's photographs; the same object for the same data."""
        if self._kept is None or self._kept[0] is not data:
            self._kept = data, Pictures(data.root, data.paths, self.cache, self.readers, data.opened)
        return self._kept[1]


class Pictures:
    """Photographs below `root` by relative path. What is kept between runs lies in `cache`; None: nothing does.

    `opened` gives the picture of a name where names are no files; such pictures are kept in memory only. `readers` are threads; None:
    as many as the first reading finds fastest, which tries 2, then twice as many for as long as that gains.
    """

    def __init__(
        self,
        root: str,
        names: Sequence[str],
        cache: Cache | None,
        readers: int | None,
        opened: Callable[[str], Image.Image] | None = None,
    ) -> None:
        self.root, self.names, self.opened = root, names, opened
        self.readers = READERS if readers is None else readers
        self._rates: dict[int, float] | None = {} if readers is None and cores() >= 2 * READERS else None
        self.cache = None if opened else cache
        self._notices, self._told = list[str](), list[str]()
        self._sizes: dict[tuple[Part, int], _Size] = {}
        self._resident: tuple[Photos, Resident] | None = None

    def photos(self, resize: Part, size: int) -> Photos:
        """The photographs at one working size; the same object for the same size."""
        return self._at(resize, size).photos

    def resident(self, resize: Part, size: int, device: torch.device) -> Resident:
        """The photographs at one working size on the device; those of the size before are let go."""
        photos = self.photos(resize, size)
        if self._resident is None or self._resident[0] is not photos:
            self._resident = None
            with room_for(len(self.names), device):
                self._resident = photos, Resident(photos, device)
        return self._resident[1]

    def _at(self, resize: Part, size: int) -> _Size:
        if (resize, size) not in self._sizes:
            paths = list(self.names) if self.opened else [os.path.join(self.root, name) for name in self.names]
            shelf = Shelf(self.cache, os.path.realpath(self.root), f"{resize} {size} px") if self.cache else None
            photos = Photos(paths, self.opened or decode, resize_of(resize), size, self.readers)
            self._sizes[resize, size] = _Size(photos=photos, shelf=shelf)
        return self._sizes[resize, size]

    def read(self, resize: Part, size: int, items: Iterable[int], so_far: str = "nothing has been trained or written") -> list[str]:
        """Make sure that every item has been read as its file is now; returns the SHA-256 of each file.

        It is "" for items that were not asked for, or are no files. A file that has not changed since it was read, by this or
        another run, is not read again. `so_far` is what the message says of the time before.

        Raises:
            DataError: naming the first files that cannot be read, why, and how many there are.
        """
        listed, at = list(items), self._at(resize, size)
        stamps = {item: NO_FILE if self.opened else stamp_or_none(at.photos.paths[item]) for item in listed}
        if any(item in at.seen and at.seen[item].stamp != stamps[item] for item in listed):
            del self._sizes[resize, size]  # a file has changed: forget them all, and take what has not changed from the cache
            at = self._at(resize, size)
        todo = [item for item in listed if item not in at.seen]
        if at.shelf is not None and todo:
            wanted = {(self.names[item], stamp) for item in todo if (stamp := stamps[item]) is not None}
            self._take(at, todo, at.shelf.find(wanted), stamps)
            todo = [item for item in todo if item not in at.seen]
        bad = self._decode(at, todo)
        if bad:
            more = f" and {len(bad) - 5} more" if len(bad) > 5 else ""
            raise DataError(
                f"{len(bad)} of {len(listed)} files cannot be read as photographs: {'; '.join(bad[:5])}{more}. "
                "Remove or replace them (`sheer check` lists them all), or leave them out with bad_files='skip'; then run the same "
                f"command again; {so_far}."
            )
        read = sorted(at.seen)
        self._notices += told([self.names[item] for item in read], [(at.seen[item].several, at.seen[item].named_wrongly) for item in read])
        return [at.seen[item].sha256 if item in at.seen else "" for item in range(len(self.names))]

    def fresh_notices(self) -> list[str]:
        """The notices that were not given before."""
        fresh = [notice for notice in self._notices if notice not in self._told]
        self._told += fresh
        return fresh

    def _decode(self, at: _Size, items: Sequence[int]) -> list[str]:
        """Decode the items in parallel, and keep them in the cache, or in memory where it has no room. Returns the failures."""

        def attempt(item: int) -> tuple[Seen, np.ndarray, bool] | str:
            path, content = at.photos.paths[item], b"?"
            try:
                if self.opened:
                    return Seen(NO_FILE, "", False, ""), at.photos.resize.presize(self.opened(path), at.photos.size), False
                stamp = stamp_of(path)
                check_bytes(stamp.size)
                with open(path, "rb") as file:
                    content = file.read()
                pixels = at.photos.resize.presize(decode(io.BytesIO(content)), at.photos.size)
                seen = Seen(stamp, hashlib.sha256(content).hexdigest(), *oddities(path, content))
                return seen, pixels, settled(stamp) and stamp_of(path) == stamp
            except Exception as error:  # Pillow raises many kinds for bad bytes; each becomes a named line of one message
                return f"{self.names[item]} (item {item}: {unread_format(content) or first_line(error)})"

        bad: list[str] = []
        try:
            for item, result in zip(items, self._results(attempt, items, at.photos), strict=True):
                if isinstance(result, str):
                    bad.append(result)
                else:
                    at.seen[item], pixels, lasting = result
                    if not (lasting and self._put(at, item, pixels)):
                        at.photos.keep(item, pixels)
            self._close(at)
        finally:
            if at.shelf is not None:
                at.shelf.drop()
        return bad

    def _results(self, attempt: Callable[[int], Result], items: Sequence[int], photos: Photos) -> Iterator[Result]:
        """What `attempt` gives for each item, in order; the number of threads is found on the way where nobody gave it."""
        while items:
            count, trying = max(1, self.readers), self._rates is not None and len(items) > 2 * SHARE * self.readers
            part, items = (items[: SHARE * count], items[SHARE * count :]) if trying else (items, ())
            started = time.perf_counter()
            yield from in_threads(attempt, part, count, lambda item: self.names[item])
            if trying and self._rates is not None:
                self._rates[count] = len(part) / (time.perf_counter() - started)
                self.readers = photos.readers = next_readers(self._rates, cores())
                if self.readers in self._rates:
                    rates = ", ".join(f"{rate:.0f} with {number}" for number, rate in self._rates.items())
                    self._notices.append(f"Photographs are read by {self.readers} threads (a second: {rates}).")
                    self._rates = None

    def _put(self, at: _Size, item: int, pixels: np.ndarray) -> bool:
        """Whether the cache has taken the picture. A disk that cannot be written ends the caching, not the training."""
        if at.shelf is None:
            return False
        try:
            taken = at.shelf.put(self.names[item], at.seen[item], pixels)
        except OSError as error:
            self._give_up(at, error)
            return False
        if at.shelf.full():
            self._close(at)
        return taken

    def _close(self, at: _Size) -> None:
        try:
            found = at.shelf.close() if at.shelf is not None else {}
        except OSError as error:
            self._give_up(at, error)
        else:
            self._take(at, range(len(self.names)), found, {item: seen.stamp for item, seen in at.seen.items()})

    def _give_up(self, at: _Size, error: OSError) -> None:
        if at.shelf is not None:
            at.shelf.drop()
            folder, at.shelf = at.shelf.cache.folder, None
            self._notices.append(f"The cache {folder} cannot be written ({error}): photographs are decoded anew in every run.")

    def _take(self, at: _Size, items: Iterable[int], found: dict[Key, Kept], stamps: Mapping[int, Stamp | None]) -> None:
        """Give the items the pixels that the cache has of them."""
        for item in items if found else ():
            stamp = stamps.get(item)
            if stamp is not None and (self.names[item], stamp) in found:
                at.seen[item], at.photos.kept[item] = found[self.names[item], stamp]
