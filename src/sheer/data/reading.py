"""Files read by threads side by side, and a reading that never comes back told apart from a slow one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from queue import Empty, SimpleQueue
from typing import TypeVar

from sheer.errors import DataError

Item = TypeVar("Item")
Result = TypeVar("Result")

PATIENCE = 120.0
AHEAD = 16


def in_threads(
    work: Callable[[Item], Result],
    items: Sequence[Item],
    readers: int,
    name_of: Callable[[Item], str],
    patience: float | None = None,
) -> Iterator[Result]:
    """`work(item)` of each item, in order, made by `readers` threads at most 16 items a thread ahead.

    A thread that waits for a disk or network which does not answer cannot be stopped from Python. So that it
    cannot hold up the process for ever, nobody waits for it longer than `patience` seconds (120), nor when the
    process ends: the threads are daemons. What `work` raises is raised here.

    Raises:
        DataError: no reading has ended for that long; the files that are being waited for are named.
    """
    waiting = PATIENCE if patience is None else patience
    done: SimpleQueue[tuple[int, Result | None, BaseException | None]] = SimpleQueue()
    places, taken, lock = iter(range(len(items))), set[int](), threading.Lock()
    room, over = threading.Semaphore(AHEAD * readers), threading.Event()

    def read() -> None:
        while room.acquire() and not over.is_set():
            with lock:
                place = next(places, None)
                if place is None:
                    return
                taken.add(place)
            try:
                done.put((place, work(items[place]), None))
            except BaseException as error:  # raised again where the result is asked for
                done.put((place, None, error))

    threads = [threading.Thread(target=read, daemon=True) for _ in range(min(readers, len(items)))]
    finished: dict[int, tuple[Result | None, BaseException | None]] = {}
    try:
        for thread in threads:
            thread.start()
        for place in range(len(items)):
            while place not in finished:
                try:
                    number, *outcome = done.get(timeout=waiting)
                except Empty:
                    with lock:
                        stuck = sorted(taken - finished.keys() - set(range(place)))
                    raise DataError(
                        f"No file could be read for {waiting:g} s; waited for: {', '.join(name_of(items[one]) for one in stuck[:5])}. "
                        "The disk or network that they lie on does not answer: copy them to a disk of this machine, and run again."
                    ) from None
                finished[number] = outcome[0], outcome[1]  # type: ignore[assignment]
            result, error = finished.pop(place)
            if error is not None:
                raise error
            room.release()
            yield result  # type: ignore[misc]
    finally:
        over.set()
        room.release(len(threads) or 1)
    for thread in threads:
        thread.join()
