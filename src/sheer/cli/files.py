"""The commands about files: which photographs cannot be used, archives of data sets, what is kept of photographs on disk."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from sheer.data.archive import LIMIT, extract
from sheer.data.cache import Cache
from sheer.data.preflight import check
from sheer.errors import SheerError, unwritable
from sheer.plan.table import columns


def _check_options(options: argparse.ArgumentParser) -> None:
    options.add_argument("folder", help="a folder of photographs, or a CSV file that names them")
    options.add_argument("--csv", metavar="FILE", help="write the list as CSV too")
    options.add_argument("--no-cache", action="store_true", help="read every file again, and remember nothing")


def _extract_options(options: argparse.ArgumentParser) -> None:
    options.add_argument("archive", help="a .zip or .tar file, plain or compressed")
    options.add_argument("folder", help="the new folder")
    options.add_argument("--limit", type=int, default=LIMIT, help="the most bytes that it may unpack to (default: %(default)s)")


def _cache_options(options: argparse.ArgumentParser) -> None:
    options.add_argument("--clear", action="store_true", help="remove them all")
    options.add_argument("--folder", help="another cache folder than this user's own")


def run_check(args: argparse.Namespace) -> int:
    """`sheer check FOLDER`; status 1 where a file cannot be used."""
    if args.csv:
        check_new(Path(args.csv))
    found = check(args.folder, cache=not args.no_cache)
    print(found)
    if args.csv:
        with new_file(Path(args.csv)) as file:
            file.write(found.csv())
    return 1 if found.unusable else 0


def run_extract(args: argparse.Namespace) -> int:
    """`sheer extract ARCHIVE FOLDER`."""
    folder = extract(args.archive, args.folder, limit=args.limit)
    print(f"{folder}: {sum(path.is_file() for path in folder.rglob('*'))} files")
    return 0


def run_cache(args: argparse.Namespace) -> int:
    """`sheer cache`."""
    cache = Cache(folder=args.folder) if args.folder else Cache()
    if args.clear:
        print(f"{cache.folder}: {cache.clear() / 2**20:.1f} MiB removed")
        return 0
    entries = cache.entries()
    rows = [
        (e.data_set, e.transform, str(e.pictures), f"{e.bytes / 2**20:.1f}", time.strftime("%Y-%m-%d %H:%M", time.localtime(e.last_used)))
        for e in entries
    ]
    if rows:
        print(columns(("data set", "transform", "pictures", "MiB", "last used"), rows, right=(2, 3)))
    total = sum(entry.bytes for entry in entries) / 2**20
    print(f"{cache.folder}: {total:.1f} MiB of at most {cache.limit / 2**20:,.0f}; sheer cache --clear removes them")
    return 0


def check_new(path: Path) -> None:
    """SheerError where a file cannot be written because it exists, or its folder does not."""
    if path.exists():
        raise SheerError(f"{path} exists. Nothing was overwritten: give another name, or remove it.")
    if not path.resolve().parent.is_dir():
        raise SheerError(f"There is no folder {path.resolve().parent} to write {path.name} into. Make it, or give another name.")


def new_file(path: Path) -> Any:
    """The file, opened as a new one; SheerError where it cannot be."""
    try:
        return path.open("x", newline="", encoding="utf-8", errors="surrogateescape")
    except OSError as error:
        raise SheerError(unwritable(path, error)) from error


COMMANDS = {
    "check": (_check_options, run_check),
    "extract": (_extract_options, run_extract),
    "cache": (_cache_options, run_cache),
}
