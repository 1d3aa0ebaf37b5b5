"""One writer a run folder: a lock that the system lets go of with its process, and that names its owner."""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from sheer.errors import RunError

if sys.platform == "win32":
    import msvcrt

    def _try_to_lock(file: IO[str]) -> None:
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _try_to_lock(file: IO[str]) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


LOCK = ".lock"


@dataclass(frozen=True, kw_only=True)
class Owner:
    """The process that writes: `started` is its start in the system's ticks ("" where the system does not say), `since` in seconds."""

    pid: int
    host: str
    started: str
    since: float

    def is_running(self) -> bool:
        """Whether it is another process than this one, and still there."""
        return self.pid != os.getpid() and bool(self.started) and started(self.pid) == self.started

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, since {max(0, time.time() - self.since):.0f} s"


def started(pid: int) -> str:
    """When the process began, so that another one under its number is not taken for it; "" where there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def hold(folder: Path) -> tuple[Callable[[], None], list[str]]:
    """Take the folder's lock; returns what lets go of it, and a note where a lock was left by a process that is gone.

    The system lets go of the lock when its process ends, however it ends. Where a file system does not know such locks,
    the owner's host, number and start say whether it is still there.

    Raises:
        RunError: another process (or this one, from another fit) is writing there.
    """
    path = folder / LOCK
    file = _locked(path)
    before = _owner(file)
    if before and (before.host != socket.gethostname() or before.is_running()):
        file.close()
        raise _taken(path, before)
    mine = Owner(pid=os.getpid(), host=socket.gethostname(), started=started(os.getpid()), since=time.time())
    file.seek(0)
    file.truncate()
    file.write(json.dumps(asdict(mine)))
    file.flush()

    def let_go() -> None:
        path.unlink(missing_ok=True)
        file.close()

    return let_go, [f"The lock of {before} was left behind: that process is gone, and the lock was taken over."] if before else []


def _locked(path: Path) -> IO[str]:
    """The lock file, open and locked; tried again where its owner removed it between our opening and locking it."""
    while True:
        file = os.fdopen(_opened(path), "a+")
        try:
            _try_to_lock(file)
        except OSError as error:
            owner = _owner(file)
            file.close()
            raise _taken(path, owner) from error
        if path.exists() and path.stat().st_ino == os.fstat(file.fileno()).st_ino:
            return file
        file.close()


def _opened(path: Path) -> int:
    """A lock is never a link: what it leads to would be written over."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0), 0o666)


def _owner(file: IO[str]) -> Owner | None:
    file.seek(0)
    try:
        found = json.loads(file.read())
        return Owner(pid=int(found["pid"]), host=str(found["host"]), started=str(found["started"]), since=float(found["since"]))
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return None  # empty: its owner has not written yet, or died before it did


def _taken(path: Path, owner: Owner | None) -> RunError:
    return RunError(
        f"{path.parent} is being written by {owner or 'another process'}. Nothing was touched: wait for it, or give another folder. "
        f"If that process is surely gone, remove {path}."
    )
