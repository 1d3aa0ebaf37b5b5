"""What the experiments share: their options, their data, and the frame of the page that they write."""

from __future__ import annotations

import argparse
import os
import platform
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import torch

import sheer
from sheer.study.ablate.measure import probe_data


def options(purpose: str, *, archives: tuple[str, ...], items: int, epochs: int) -> argparse.ArgumentParser:
    """The options of an experiment, with its own data and budget as defaults."""
    parser = argparse.ArgumentParser(description=purpose)
    parser.set_defaults(archives=archives)
    parser.add_argument(
        "folders", nargs="*", help=f"class folders, or archives of them (default: {' and '.join(archives)} of the folder $SHEER_DATA)"
    )
    parser.add_argument("--items", type=int, default=items, help="photographs, two thirds to learn from (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=epochs, help="(default: %(default)s)")
    parser.add_argument("--seeds", type=int, default=3, help="(default: %(default)s)")
    parser.add_argument("--size", type=int, default=64, help="side in pixels (default: %(default)s)")
    parser.add_argument("--weights", default="package", help="package, none, or a file (default: %(default)s)")
    parser.add_argument("--processes", type=int, default=1, help="variants that train at a time (default: %(default)s)")
    parser.add_argument("--work", default="runs", help="run folders and unpacked data; an interrupted experiment goes on from there")
    parser.add_argument("--note", default="", help="a sentence for the page, such as what else the machine did")
    parser.add_argument("--json", help="write every run's scores here")
    parser.add_argument("--markdown", help="write the page here")
    return parser


def data_sets(args: argparse.Namespace) -> Iterator[tuple[str, sheer.Data]]:
    """Each data set by name, with as many photographs as were asked for."""
    source = os.environ.get("SHEER_DATA")
    if not args.folders and not source:
        sys.exit("Give class folders or archives of them, or the folder of the archives as SHEER_DATA.")
    folders = []
    for given in args.folders or [str(Path(str(source)) / name) for name in args.archives]:
        folder = Path(given)
        if folder.is_file():
            (Path(args.work) / "data").mkdir(parents=True, exist_ok=True)
            unpacked = Path(args.work) / "data" / folder.stem
            folder = unpacked if unpacked.is_dir() else sheer.extract(folder, unpacked)
        folders.append(folder)
    for folder in folders:
        inside = [path for path in folder.iterdir() if path.is_dir()]
        root = inside[0] if len(inside) == 1 else folder
        yield folder.name, probe_data(sheer.images(root), args.items, seed=0)


def frame(title: str, about: str, args: argparse.Namespace, body: list[str]) -> str:
    """The page: title, what was run by which command and where, and the tables."""
    unsaid = (args.json, args.markdown, args.work, args.note, "--json", "--markdown", "--work", "--note")
    given = [word for word in sys.argv[1:] if word not in unsaid]
    shown = [Path(word).name if word in args.folders else word for word in given]
    command = shlex.join(["python", f"examples/{Path(sys.argv[0]).name}", *shown])
    where = f"{torch.get_num_threads()} threads, {platform.machine()}, torch {torch.__version__}"
    budget = (
        f"{args.items} items of each data set{f' at {args.size} px' if args.size else ''}, "
        f"two thirds to learn from and the others to judge on; {args.seeds} seeds. "
        "Values are means over seeds with 95 % intervals (Student's t); differences are paired by seed. "
        "The p over items is that of a paired t test over held-out items, each one's hits averaged over seeds."
        + (f" {args.note}" if args.note else "")
    )
    return "\n".join([f"# {title}", "", about, "", f"Written by `{command}` ({where}). {budget}", *body]) + "\n"
