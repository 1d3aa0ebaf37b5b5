"""Seconds, seconds an item and memory of listing, hashing, splitting and planning, and of a run, by the number of items.

python benchmarks/scaling.py [--kinds files csv frame table run] [--items 1000 10000 100000 1000000] [--folder DIR]

files   class folders of tiny JPEG files, every one of other bytes, in 1,000 classes; they are made below DIR and removed afterwards
csv     the same files listed by a CSV file of names and labels (files must be among the kinds)
frame   a data frame of pandas with the same columns
table   `sheer.table` of a CSV file with 5 columns of text and 5 of numbers
run     a training run of one epoch at 32 px without checkpoints, whose memory must not grow; at most --most-run items

Every row is a process of its own. Memory is the peak of what the process holds beyond what it held after its imports; for runs only
what is not mapped from files. Seconds are of this process's CPU, which other programs do not slow as much as the clock.
"""

import argparse
import contextlib
import io
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path


def classes_of(count: int) -> int:
    """1,000 from 10,000 items on, else one for 10 items."""
    return min(1000, max(count // 10, 2))


def memory(name: str) -> float:
    """MiB of one line of this process's status, such as VmRSS."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines[name].split()[0]) / 1024


class Steps:
    """CPU seconds and clock seconds of each step by its name."""

    def __init__(self) -> None:
        self.seconds: dict[str, tuple[float, float]] = {}

    @contextlib.contextmanager
    def step(self, name):
        cpu, clock = time.process_time(), time.perf_counter()
        yield
        self.seconds[name] = time.process_time() - cpu, time.perf_counter() - clock


def make_files(root: Path, count: int) -> None:
    """JPEG files that differ in the bytes behind the picture's end."""
    from PIL import Image

    kept = io.BytesIO()
    Image.new("RGB", (8, 8), (90, 60, 30)).save(kept, "JPEG", quality=50)
    content = kept.getvalue()
    for number in range(classes_of(count)):
        (root / f"class{number:04d}").mkdir()
    for number, (name, _) in enumerate(names(count)):
        (root / name).write_bytes(content + b"%08d" % number)


def names(count: int) -> list[tuple[str, str]]:
    classes = classes_of(count)
    return [(f"class{n % classes:04d}/picture-{n:08d}.jpg", f"label {n % classes}") for n in range(count)]


def table_text(count: int) -> str:
    """10 columns and a target."""
    import numpy as np

    draw = np.random.default_rng(0)
    words = [draw.integers(0, size, count) for size in (2, 5, 20, 100, 1000)]
    numbers = [draw.standard_normal(count).round(4) for _ in range(4)] + [draw.integers(0, 10**6, count)]
    lines = ["a,b,c,d,e,f,g,h,i,j,target"]
    for row in zip(*words, *numbers, draw.integers(0, 3, count), strict=True):
        lines.append(",".join([*(f"w{word}" for word in row[:5]), *(str(number) for number in row[5:10]), f"t{row[10]}"]))
    return "\n".join(lines) + "\n"


def measured(kind: str, count: int, folder: Path) -> dict[str, object]:
    """One row, in this process."""
    import torch
    from torch import nn

    import sheer
    from sheer.data import folders
    from sheer.data.feed import Feed
    from sheer.record.run import begin
    from sheer.task.tasks import TASKS

    source = folder / "files" / str(count)
    if kind == "frame":
        import pandas

        frame = pandas.DataFrame(names(count), columns=["file", "label"])
    if kind == "run":
        return measured_run(source)
    steps, before = Steps(), memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    if kind == "files":
        with steps.step("list"):
            found = folders.photo_files(str(source))
        with steps.step("hash"):
            folders.listing_hash(str(source), [path for path, _ in found])
        del found
    with steps.step("data"):
        if kind == "files":
            data = sheer.images(source)
        elif kind == "csv":
            data = sheer.images(folder / f"{count}.csv", root=source)
        elif kind == "frame":
            data = sheer.images(frame, root=source)
        else:
            data = sheer.table(folder / f"{count}.csv", target="target")

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.out = nn.Linear(3, len(data.classes))

        def forward(self, images):
            return self.out(images.mean((2, 3)))

    with steps.step("plan"):
        learn = sheer.learner(data, "tabular" if kind == "table" else Net, quiet=True, size=None if kind == "table" else 32)
        plan = learn.plan(sheer.recipes.constant(1))
        text = f"{plan} {plan.short_hash()} {plan.to_json()}"
    with steps.step("epoch's order"):
        wanted = plan.data.task.made(TASKS).wanted(data.targets)
        Feed(data, wanted, plan.phases[0], 0, torch.device("cpu"), "contiguous", 0).drawn(0)
    with steps.step("run folder"), tempfile.TemporaryDirectory(dir=folder) as out:
        begin(Path(out) / "run", plan, data.tables(), None, data.root, [])
    return {"seconds": steps.seconds, "mebibytes": memory("VmHWM") - before, "before": before, "plan": len(text)}


def measured_run(source: Path) -> dict[str, object]:
    import torch
    from torch import nn

    import sheer

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.out = nn.Linear(3, len(data.classes))

        def forward(self, images):
            return self.out(images.mean((2, 3)))

    torch.set_num_threads(1)
    steps, before, peak, over = Steps(), memory("RssAnon"), [0.0], threading.Event()

    def watch():
        while not over.wait(0.02):
            peak[0] = max(peak[0], memory("RssAnon"))

    with tempfile.TemporaryDirectory(dir=source.parent) as place:
        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        with steps.step("data and plan"):
            data = sheer.images(source)
            learn = sheer.learner(
                data, Net, size=32, batch_size=64, quiet=True, augmentation="light", metrics=["accuracy"],
                cache=sheer.Cache(folder=place, limit=1 << 40), out=Path(place) / "run",
            )  # fmt: skip
        with steps.step("first fit"):
            learn.fit(1)
        with steps.step("second fit"):
            learn.fit(1)
        over.set()
        watcher.join()
    return {"seconds": steps.seconds, "mebibytes": peak[0] - before, "before": before}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", nargs="+", default=["files", "csv", "frame", "table", "run"])
    parser.add_argument("--items", nargs="+", type=int, default=[1000, 10_000, 100_000, 1_000_000])
    parser.add_argument("--most-run", type=int, default=100_000)
    parser.add_argument("--folder", type=Path, help="where files are made (default: a temporary folder)")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measured(args.one[0], int(args.one[1]), args.folder)))
        return
    rows = []
    with tempfile.TemporaryDirectory(dir=args.folder, prefix="scaling-") as place:
        folder = Path(place)
        for count in sorted(args.items):
            if {"files", "csv", "frame", "run"} & set(args.kinds):
                (folder / "files" / str(count)).mkdir(parents=True)
                make_files(folder / "files" / str(count), count)
            for kind in args.kinds:
                if kind == "run" and count > args.most_run:
                    continue
                if kind == "csv":
                    (folder / f"{count}.csv").write_text("file,label\n" + "".join(f"{file},{label}\n" for file, label in names(count)))
                elif kind == "table":
                    (folder / f"{count}.csv").write_text(table_text(count))
                command = [sys.executable, __file__, "--folder", str(folder), "--one", kind, str(count)]
                done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
                row = {"kind": kind, "items": count, **json.loads(done.stdout.splitlines()[-1])}
                rows.append(row)
                told(row)
            subprocess.run(["rm", "-rf", str(folder / "files" / str(count))], check=True)
    if args.json:
        args.json.write_text(json.dumps(rows, indent=2))


def told(row) -> None:
    cpu = {name: seconds[0] for name, seconds in row["seconds"].items()}
    clock = sum(seconds[1] for name, seconds in row["seconds"].items() if name not in ("list", "hash"))
    each = sum(seconds for name, seconds in cpu.items() if name not in ("list", "hash")) / row["items"] * 1e6
    parts = ", ".join(f"{name} {seconds:.2f}" for name, seconds in cpu.items())
    print(f"| {row['kind']} | {row['items']:,} | {parts} | {each:.1f} | {clock:.1f} | {row['mebibytes']:.0f} |", flush=True)


if __name__ == "__main__":
    main()
