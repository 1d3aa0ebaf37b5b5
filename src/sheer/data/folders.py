"""Class folders: which photographs there are, by relative path, in an order that every machine shares."""

from __future__ import annotations

import hashlib
import os

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")


def photo_files(root: str, part: str = "") -> list[tuple[str, str]]:
    """(relative path, class) of every file below root/part, sorted by code point; hidden files are left out.

    The class is the first folder below root/part; photos may lie deeper. Paths use "/". A link to a
    folder is followed once.
    """
    top, found = os.path.join(root, part), list[tuple[str, str]]()
    for label in sorted(name for name in os.listdir(top) if not name.startswith(".")):
        visited = set[str]()
        for folder, inside, names in os.walk(os.path.join(top, label), followlinks=True, onerror=stop_at):
            new = os.path.realpath(folder) not in visited
            visited.add(os.path.realpath(folder))
            inside[:] = [name for name in inside if new and not name.startswith(".")]
            prefix = os.path.relpath(folder, root).replace(os.sep, "/")
            found += [(f"{prefix}/{name}", label) for name in names if new and is_listed(name)]
    return sorted(found)


def is_listed(name: str) -> bool:
    """Whether a file of that name is one of the data: hidden files and those that Windows leaves behind are not."""
    return not name.startswith(".") and name.lower() not in ("thumbs.db", "desktop.ini")


def stop_at(error: OSError) -> None:
    """Raise the error of a folder that cannot be read, unless it is no folder: a class would vanish without a word."""
    if not isinstance(error, NotADirectoryError):
        raise error


def listing_hash(root: str, paths: list[str]) -> str:
    """SHA-256 over the relative paths and their sizes in bytes; no file is opened."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(f"{path}\0{os.stat(os.path.join(root, path)).st_size}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()
