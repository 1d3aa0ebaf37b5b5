"""Class folders of public sets: python -m benchmarks.peers.sets elpv OUTFOLDER, or any archive: ... sets clothing.tar OUTFOLDER.

`elpv` and `digits` come from packages (pip install "sheer[demo]"). Small pictures such as CIFAR's need nothing else: --size enlarges.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import sheer
from sheer.cli.demo import digits, solar_cells
from sheer.errors import DataError

PACKAGED = {"elpv": solar_cells, "digits": digits}


def made(source: str, out: Path) -> Path:
    """The folder to give as --data: `out`, or the one folder in it where the archive has a top folder.

    Raises:
        DataError: `out` exists, a package is missing, or there is no such archive.
    """
    if out.exists():
        raise DataError(f"{out} exists. Nothing was overwritten: give a new name.")
    if source in PACKAGED:
        return PACKAGED[source](out)
    inside = list(sheer.extract(source, out).iterdir())
    return inside[0] if len(inside) == 1 and inside[0].is_dir() else out


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers.sets", description=__doc__.splitlines()[0])
    parser.add_argument("source", help=f"{', '.join(PACKAGED)}, or an archive of class folders")
    parser.add_argument("out", type=Path, help="the folder to make")
    args = parser.parse_args(words)
    try:
        print(made(args.source, args.out))
    except sheer.SheerError as error:
        print(f"benchmarks.peers.sets: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
