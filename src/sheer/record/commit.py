"""Folders that are there whole or not at all: how a checkpoint is committed, verified and removed.

NNNNNN.PID.tmp/   the files, each flushed to the disk; then manifest.json with the size and SHA-256 of each
NNNNNN/           the same folder, renamed: from this moment on it counts, and the folder above is flushed too
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from zipfile import is_zipfile

from sheer.errors import RunError, first_line

MANIFEST = "manifest.json"
PIECE = 1 << 20
NUMBERED = re.compile(r"\d{6,}")
BEGUN = re.compile(r"(\..+|\d{6,})\.\d+\.tmp")


def _nothing(point: str) -> None:
    """What happens at each point of a commit: nothing."""


fault: Callable[[str], None] = _nothing
"""Called with each point that a commit comes to; tests of faults put a function here, nothing else does."""


def check_folder(run: Path) -> None:
    """RunError where a file, such as a bundle, was given in the place of a run folder."""
    if run.is_file():
        raise RunError(
            f"{run} is a bundle, no run folder: it predicts, by sheer predict {run} FILES or sheer.load_bundle({str(run)!r}), and has no "
            "history, data or script. Give the folder of the run."
            if is_zipfile(run)
            else f"{run} is a file. Give the run folder that sheer train named."
        )


def commit(folder: Path, number: int, files: Mapping[str, Callable[[], bytes]]) -> Path:
    """Write the files (each made when its turn comes) as `folder/NNNNNN`, whole or not at all.

    Raises:
        OSError: they cannot be written; what was there stays, and what was begun is removed.
    """
    final = folder / f"{number:06d}"
    temporary = folder / f"{final.name}.{os.getpid()}.tmp"
    fault("before")
    try:
        if not folder.is_dir():
            folder.mkdir(parents=True)
            flush_folder(folder.parent)
        temporary.mkdir()
        sums = {}
        for name, make in files.items():
            content = make()
            fault(f"file {name}")
            _write(temporary / name, content)
            sums[name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        fault("manifest")
        _write(temporary / MANIFEST, json.dumps(sums, indent=2).encode())
        flush_folder(temporary)
        fault("rename")
        temporary.rename(final)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    flush_folder(folder)
    fault("after")
    return final


def _write(path: Path, content: bytes) -> None:
    view = memoryview(content)
    with path.open("wb", buffering=0) as file:
        for start in range(0, max(len(view), 1), PIECE):
            piece = view[start : start + PIECE]
            while piece:
                piece = piece[os.write(file.fileno(), piece) :]
                fault(f"half {path.name}")
        os.fsync(file.fileno())


def flush_folder(folder: Path) -> None:
    """Have the disk keep the names in the folder; systems that cannot open folders keep them anyhow."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems flush no folders
                raise
        finally:
            os.close(descriptor)


def committed(folder: Path) -> list[Path]:
    """The committed folders, oldest first, damaged or not."""
    found = [path for path in folder.iterdir() if NUMBERED.fullmatch(path.name)] if folder.is_dir() else []
    return sorted(found, key=lambda path: int(path.name))


def damage(path: Path) -> str:
    """What is wrong with a committed folder, naming the file; "" where every size and SHA-256 is the manifest's."""
    try:
        sums = json.loads((path / MANIFEST).read_bytes())
        wanted = {name: (entry["bytes"], entry["sha256"]) for name, entry in sums.items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return f"{MANIFEST} is missing or no manifest"
    if not wanted:
        return f"{MANIFEST} names no file"
    for name, (size, sha256) in wanted.items():
        if Path(name).name != name:
            return f"{MANIFEST} names {name!r}, which is no file of this folder"
        try:
            found = (path / name).lstat()
            if not stat.S_ISREG(found.st_mode):
                return f"{name} is a link, a folder or a device"
            if found.st_size != size:
                return f"{name} has {found.st_size} bytes, not {size}"
            with (path / name).open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except (OSError, ValueError) as error:  # ValueError: a name that no file can have
            return f"{name!r} cannot be read ({first_line(error)})"
        if digest != sha256:
            return f"{name} is damaged: its SHA-256 is not the manifest's"
    return ""


def newest(folder: Path) -> tuple[Path | None, list[str]]:
    """The newest committed folder that verifies, and a sentence for each newer one that does not.

    Raises:
        RunError: there are some, and none verifies.
    """
    bad: list[str] = []
    for path in reversed(committed(folder)):
        wrong = damage(path)
        if not wrong:
            return path, [f"{one}; {path.name}, which is whole, is used." for one in bad]
        bad.append(f"Checkpoint {path} is damaged: {wrong}")
    if bad:
        raise RunError(f"{'; '.join(bad)}. None is whole: remove {folder} to begin anew.")
    return None, []


def prune(folder: Path, keep: int) -> None:
    """Remove what is older than the newest `keep` folders that verify, damaged ones included."""
    whole = 0
    for path in reversed(committed(folder)):
        if whole >= keep:
            remove(path)
        else:
            whole += not damage(path)


def remove(path: Path) -> None:
    """Remove a committed folder; it stops counting at once, by its name."""
    gone = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    path.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)


def clean(folder: Path) -> list[str]:
    """Remove what interrupted writes of this package left, known by its name, and name it."""
    left = sorted(path for path in folder.iterdir() if BEGUN.fullmatch(path.name)) if folder.is_dir() else []
    for path in left:
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    return [f"{path} was left by a save that was interrupted, and was removed." for path in left]
