"""Seconds of reading one epoch of photographs: decoded anew, while the cache is made, and from the cache.

python benchmarks/cache.py --data FOLDER [--size 160] [--items 600] [--turns 3] [--batch 32]
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from sheer.data.cache import Cache
from sheer.data.folders import SUFFIXES
from sheer.data.photos import chunks
from sheer.data.pictures import Pictures
from sheer.plan.plan import Part

CROP = Part(name="crop", settings=(("fraction", 0.875), ("interpolation", "bicubic")))


def reading(root: Path, names: tuple[str, ...], cache: Cache | None, args: argparse.Namespace) -> tuple[float, float]:
    """Seconds until every photograph is known to be readable, and seconds of one epoch's batches after that."""
    order = np.random.default_rng(0).permutation(len(names))
    rows = chunks(order, args.batch, "keep")
    pictures = Pictures(str(root), names, cache, 2)
    started = time.perf_counter()
    pictures.read(CROP, args.size, range(len(names)))
    ready = time.perf_counter()
    for _ in pictures.photos(CROP, args.size).batches(rows, [np.full((len(row), 2), 0.5) for row in rows]):
        pass
    return ready - started, time.perf_counter() - ready


def decoding(root: Path, names: tuple[str, ...], args: argparse.Namespace) -> float:
    """Seconds of one epoch's batches where nothing is kept."""
    rows = chunks(np.arange(len(names)), args.batch, "keep")
    photos = Pictures(str(root), names, None, 2).photos(CROP, args.size)
    photos.keep_bytes = 0
    started = time.perf_counter()
    for _ in photos.batches(rows, [np.full((len(row), 2), 0.5) for row in rows]):
        pass
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="a folder with photographs at any depth")
    parser.add_argument("--size", type=int, default=160)
    parser.add_argument("--items", type=int, default=600)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--batch", type=int, default=32)
    args = parser.parse_args()
    found = sorted(str(path.relative_to(args.data)) for path in args.data.rglob("*") if path.suffix.lower() in SUFFIXES)
    names = tuple(np.random.default_rng(0).permutation(found)[: args.items].tolist())
    rows: dict[str, list[float]] = {}
    for _ in range(args.turns):
        with tempfile.TemporaryDirectory() as place:
            cache = Cache(folder=place)
            rows.setdefault("every picture decoded", []).append(decoding(args.data, names, args))
            made = reading(args.data, names, cache, args)
            rows.setdefault("decoded, checked and kept (first fit)", []).append(made[0])
            rows.setdefault("epoch after that", []).append(made[1])
            again = reading(args.data, names, cache, args)
            rows.setdefault("found in the cache (next run)", []).append(again[0])
            rows.setdefault("epoch from the cache", []).append(again[1])
            mebibytes = sum(entry.bytes for entry in cache.entries()) / 2**20
    print(f"{len(names)} photographs at {args.size} px, {mebibytes:.0f} MiB kept; seconds, medians of {args.turns} (lowest to highest):")
    whole = statistics.median(rows["every picture decoded"])
    for name, seconds in rows.items():
        middle = statistics.median(seconds)
        print(f"  {name:<38} {middle:7.3f} ({min(seconds):.3f} to {max(seconds):.3f})  {whole / middle:6.1f} times as fast")


if __name__ == "__main__":
    main()
