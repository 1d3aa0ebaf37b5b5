"""Random and mutated bytes into every reader: whatever comes in, only sheer's own errors come out, soon, in little memory.

python -m tests.faults.fuzz --seconds 600 --seed 0

A new reader is a line in READERS: seeds to mutate, and a function that reads the bytes in a folder of its own.
"""

import argparse
import datetime
import decimal
import io
import json
import random
import resource
import shutil
import sys
import tarfile
import tempfile
import time
import traceback
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import pandas
import torch
from PIL import Image
from safetensors.torch import load, save
from tests.faults.runs import pause_at
from torch import nn

import sheer
from sheer.data.cache import Cache, Shelf
from sheer.data.preflight import content_verdict
from sheer.errors import SheerError
from sheer.model.adapter import adapter_sha256
from sheer.record import checkpoint, commit

SLOWEST = 10.0
MEMORY = 2 << 30
ODD = (None, True, -1, 0, 2**63, 1e308, float("nan"), "", "\0", "../x", "os:system", "x" * 999, [], {}, [[]], {"_target_": "os.system"})
ODD_CELLS = (
    *(None, float("nan"), float("inf"), -float("inf"), True, np.bool_(False), np.float32("nan"), np.int64(3), pandas.NA, pandas.NaT),
    *(
        0,
        -1,
        2.5,
        10**18,
        10**30,
        10**400,
        10**5000,
        1e-320,
        1e300,
        "",
        " ",
        "NaN",
        "NA",
        "0",
        "-0",
        "007",
        "1e999",
        "-1e-999",
        "1,5",
        "3 %",
    ),
    *("\ud800", "\0", "a\nb\r", '"', "😀", "x" * 200_000, "9" * 5000, "2020-01-01", b"a", [1], {"a": 1}, {1}, ("a", "b"), 1j, object()),
    *(datetime.date(2020, 1, 1), datetime.timedelta(1), decimal.Decimal("sNaN"), decimal.Decimal(3), np.zeros(2), np.datetime64("2020")),
)


class TinyNet(nn.Module):
    """Two scores from the mean of each channel."""

    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Linear(3, 2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.out(images.mean((2, 3)))


@dataclass
class Seeds:
    """Whole files of each kind, small, made once."""

    run: Path
    checkpoint: Path
    bundle: bytes
    pictures: list[bytes]
    plan: bytes
    archives: list[bytes]
    cache: dict[str, bytes]
    table: sheer.Learner
    adapter: bytes


def adapted(**options: object) -> sheer.Learner:
    """A small vision transformer on made-up pictures."""
    pixels = torch.randint(0, 255, (8, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return sheer.learner(sheer.arrays(pixels, [0, 1] * 4), "test_vit", weights="none", batch_size=4, quiet=True, **options)


def make_seeds(folder: Path) -> Seeds:
    generator = np.random.default_rng(0)
    photos = folder / "photos"
    for number in range(12):
        path = photos / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 255, (20, 24, 3), dtype=np.uint8)).save(path)
    time.sleep(0.1)
    cache = Cache(folder=folder / "cache")
    data = sheer.images(photos, bad_files="skip", cache=cache)
    learn = sheer.learner(data, TinyNet, size=16, batch_size=4, quiet=True, cache=cache, out=folder / "run")
    learn.fit(1)
    interrupted = sheer.learner(data, TinyNet, size=16, batch_size=4, quiet=True, cache=cache, out=folder / "left", ema=0.9)
    interrupted.run(sheer.recipes.constant(2), callbacks=[pause_at(2)])
    bundle = learn.export(folder / "x.sheer").read_bytes()
    pictures = []
    picture = Image.fromarray(generator.integers(0, 255, (20, 24, 3), dtype=np.uint8))
    frames = {"save_all": True, "append_images": [picture.rotate(90)]}
    kinds = {"JPEG": {}, "PNG": frames, "BMP": {}, "GIF": frames, "WEBP": frames, "TIFF": {"compression": "tiff_lzw"}, "PPM": {}}
    for kind, options in kinds.items():
        for mode in ("RGB", "L", "1", "CMYK", "P", "RGBA", "I;16"):
            stream = io.BytesIO()
            try:
                (Image.new(mode, (9, 7)) if mode == "I;16" else picture.convert(mode)).save(stream, kind, **options)
            except (OSError, ValueError, KeyError, RuntimeError):
                continue  # the format has no such mode
            pictures.append(stream.getvalue())
    archives = []
    for mode in ("w", "w:gz", "w:bz2", "w:xz"):
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode=mode, format=tarfile.PAX_FORMAT) as tar:
            tar.add(photos, arcname="photos é")
        archives.append(stream.getvalue())
    for kind in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA):
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w", kind) as packed:
            for path in photos.rglob("*.png"):
                packed.write(path, path.relative_to(folder))
        archives.append(stream.getvalue())
    table = sheer.learner(sheer.table(table_columns(), target="kind"), quiet=True, batch_size=8).fit_one_cycle(1)
    kept = {str(path.relative_to(cache.folder)): path.read_bytes() for path in cache.files()}
    return Seeds(
        run=folder / "run",
        checkpoint=commit.committed(folder / "left" / "checkpoints")[-1],
        bundle=bundle,
        pictures=pictures,
        plan=(folder / "run" / "plan.json").read_bytes(),
        archives=archives,
        cache=kept,
        adapter=adapted(lora={"rank": 2}).save_adapter(folder / "x.safetensors").read_bytes(),
        table=table,
    )


def table_columns() -> dict[str, list[object]]:
    """A small table: text, whole numbers, numbers with gaps, texts, which rows are held out, and two targets."""
    count = range(24)
    return {
        "colour": [("red", "green", "blue")[n % 3] for n in count],
        "doors": [n % 4 for n in count],
        "width": [n / 3 if n % 5 else None for n in count],
        "words": [f"a text of {n % 7} words" for n in count],
        "held": [n % 4 == 0 for n in count],
        "kind": ["good" if n % 2 else "bad" for n in count],
        "price": [n * 1.25 for n in count],
    }


def odd_rows(draw: random.Random, folder: Path) -> object:
    """Rows with odd cells, or other names, as a dict of columns or a frame; or the bytes of a CSV file with changes."""
    columns = table_columns()
    if draw.random() < 0.4:
        path = folder / "rows.csv"
        path.write_bytes(mutated(pandas.DataFrame(columns).to_csv(index=False).encode(), draw))
        return path
    for _ in range(draw.choice((0, 1, 1, 1, 3))):
        name, cell = draw.choice(list(columns)), draw.choice(ODD_CELLS)
        rows = draw.choice(([draw.randrange(24)], range(24), range(0, 24, 4), range(1, 24, 2)))
        columns[name] = [cell if row in rows else old for row, old in enumerate(columns[name])]
    if draw.random() < 0.2:
        columns[draw.choice(("", "width ", "\0", "a\nb", "\ud800", 1, None, "file"))] = columns.pop(draw.choice(list(columns)))
    if draw.random() < 0.6 or "\ud800" in columns:  # such a name is no name for pandas
        return columns
    return pandas.DataFrame({name: pandas.Series(cells, dtype=object) for name, cells in columns.items()})


def mutated(content: bytes, draw: random.Random) -> bytes:
    """The bytes with one to eight changes; now and then bytes that have nothing to do with them."""
    if draw.random() < 0.02:
        return draw.randbytes(draw.randrange(2000))
    changed = bytearray(content)
    for _ in range(draw.choice((1, 1, 2, 4, 8))):
        at = draw.randrange(len(changed) + 1)
        kind = draw.randrange(7)
        if kind == 0 and at < len(changed):
            changed[at] ^= 1 << draw.randrange(8)
        elif kind == 1:
            changed[at : at + draw.randrange(1, 9)] = draw.randbytes(draw.randrange(1, 9))
        elif kind == 2:
            changed[at : at + 4] = draw.choice((b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff", b"\x80\0\0\0"))
        elif kind == 3:
            del changed[at : at + draw.randrange(1, 40)]
        elif kind == 4:
            changed[at:at] = changed[at : at + draw.randrange(1, 100)]
        elif kind == 5 and draw.random() < 0.3:
            del changed[at:]
        else:
            there = draw.randrange(len(changed) + 1)
            changed[at : at + 16] = changed[there : there + 16]
    return bytes(changed)


def odd_json(content: bytes, draw: random.Random) -> bytes:
    """The JSON with one value replaced, or one key lost."""
    value = json.loads(content)
    holder, key = None, None
    inner = value
    while isinstance(inner, dict | list) and inner and (holder is None or draw.random() < 0.85):
        holder, key = inner, draw.choice(list(inner)) if isinstance(inner, dict) else draw.randrange(len(inner))
        inner = holder[key]
    if draw.random() < 0.15:
        del holder[key]
    else:
        holder[key] = draw.choice(ODD)
    return json.dumps(value, indent=2).encode()


def changed_file(content: bytes, name: str, draw: random.Random) -> bytes:
    return odd_json(content, draw) if name.endswith(".json") and draw.random() < 0.7 else mutated(content, draw)


def plan_hash(text: bytes) -> str:
    return sha256(text).hexdigest()[:8]


def read_picture(seeds: Seeds, draw: random.Random, folder: Path) -> None:
    content_verdict("x.jpg", mutated(draw.choice(seeds.pictures), draw))


def read_csv(seeds: Seeds, draw: random.Random, folder: Path) -> None:
    rows = b"".join(b"%s/%d.png,c%d,%d.5\n" % (b"ab"[n % 2 : n % 2 + 1], n, n % 2, n) for n in range(12))
    (folder / "table.csv").write_bytes(mutated(b"file,class,count\n" + rows, draw))
    options = {"bad_files": draw.choice(("raise", "skip")), "label": draw.choice((None, "count", "class"))}
    sheer.images(folder / "table.csv", root=seeds.run.parent / "photos", cache=False, **options)


def read_plan(seeds: Seeds, draw: random.Random, folder: Path) -> None:
    str(sheer.Plan.from_json(changed_file(seeds.plan, "plan.json", draw).decode("utf-8", "replace")))


def read_run(seeds: Seeds, draw: random.Random, folder: Path) -> None:
    """One file of the run is another; half the time the record has the sums that belong to it, as one who means harm would write it."""
    run = folder / "run"
    shutil.copytree(seeds.run, run)
    name = draw.choice(sorted(path.name for path in run.iterdir()))
    (run / name).write_bytes(changed_file((run / name).read_bytes(), name, draw))
    if draw.random() < 0.5 and name != "record.json":
        record = json.loads((run / "record.json").read_bytes())
        record["plan_hash"] = plan_hash((run / "plan.json").read_bytes())
        record["history_sha256"] = sha256((run / "history.csv").read_bytes()).hexdigest()
        (run / "record.json").write_text(json.dumps(record))
    sheer.load(run, objects={"TinyNet": TinyNet}, cache=False)


def read_checkpoint(seeds: Seeds, draw: random.Random, folder: Path) -> None:
    """One file of a committed checkpoint is another; half the time under sums that belong to it."""
    root = shutil.copytree(seeds.checkpoint, folder / "000001")
    name = draw.choice(sorted(path.name for path in root.iterdir()))
    (root / name).write_bytes(changed_file((root / name).read_bytes(), name, draw))
    if draw.random() < 0.5 and name != "manifest.json":
        content = (root / name).read_bytes()
        sums = json.loads((root / "manifest.json").read_bytes()) | {name: {"bytes": len(content), "sha256": sha256(content).hexdigest()}}
        (root / "manifest.json").write_text(json.dumps(sums))
    path, _ = commit.newest(folder)
    checkpoint.read_checkpoint(path)


def read_bundle(seeds: Seeds, draw: random.Random, folder: Path) -> None:
    """Bytes of the file, or of one member under a sum that belongs to it."""
    content = mutated(seeds.bundle, draw)
    if draw.random() < 0.6:
        with zipfile.ZipFile(io.BytesIO(seeds.bundle)) as packed:
            members = {name: packed.read(name) for name in packed.namelist()}
        name = draw.choice(sorted(members))
        members[name] = changed_file(members[name], name, draw)
        if name != "bundle.json":
            head = json.loads(members["bundle.json"])
            record = json.loads(members["record.json"]) if name == "plan.json" else None
            if record is not None:
                record["plan_hash"] = plan_hash(members["plan.json"])
                members["record.json"] = json.dumps(record).encode()
            for row in head["members"]:
                row |= {"size": len(members[row["name"]]), "sha256": sha256(members[row["name"]]).hexdigest()}
            members["bundle.json"] = json.dumps(head).encode()
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w") as packed:
            for member, text in members.items():
                packed.writestr(member, text)
        content = stream.getvalue()
    (folder / "x.sheer").write_bytes(content)
    sheer.load_bundle(folder / "x.sheer", objects={"TinyNet": TinyNet})


def read_archive(seeds: Seeds, draw: random.Random, folder: Path) -> None:
    (folder / "x.tar").write_bytes(mutated(draw.choice(seeds.archives), draw))
    inside = folder / "inside"
    inside.mkdir()
    try:
        sheer.extract(folder / "x.tar", inside / "out")
    finally:
        assert {path.name for path in folder.iterdir()} == {"x.tar", "inside"}, "something was written elsewhere"
        assert {path.name for path in inside.iterdir()} <= {"out"}, "something was left behind"


def read_cache(seeds: Seeds, draw: random.Random, folder: Path) -> None:
    for name, content in seeds.cache.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(changed_file(content, name, draw))
    cache = Cache(folder=folder)
    cache.entries()
    Shelf(cache, "x", "y").find(set())
    sheer.images(seeds.run.parent / "photos", bad_files="skip", cache=cache)


def read_adapter(seeds: Seeds, draw: random.Random, folder: Path) -> None:
    """Bytes of the file, or of what it says of itself, or a tensor under a hash that belongs to it."""
    content = mutated(seeds.adapter, draw)
    if draw.random() < 0.8:
        tensors = load(seeds.adapter)
        said = json.loads(json.loads(seeds.adapter[8 : 8 + int.from_bytes(seeds.adapter[:8], "little")])["__metadata__"]["sheer"])
        if draw.random() < 0.3:
            name = draw.choice(sorted(tensors))
            tensors[name] = draw.choice((tensors[name] * float("nan"), tensors[name].half(), tensors[name].flatten(), torch.zeros(9**7, 0)))
            said["sha256"] = adapter_sha256(tensors)
        content = save(tensors, {"sheer": odd_json(json.dumps(said).encode(), draw).decode()})
    (folder / "x.safetensors").write_bytes(content)
    adapted(adapter=folder / "x.safetensors")


def read_table(seeds: Seeds, draw: random.Random, folder: Path) -> None:
    options = {
        "valid": draw.choice((None, 0, "held", 0.5)),
        "unknown": draw.choice(("raise", "skip")),
        "task": draw.choice((None, "regress")),
    }
    kinds = {what: draw.choice(((), (), ("width",), ("colour",), ("doors", "words"))) for what in ("categorical", "continuous", "ignore")}
    target = draw.choice(("kind", "kind", "price", "doors", ["price", "width"], ["held", "doors"]))
    data = sheer.table(odd_rows(draw, folder), target=target, **options, **kinds)
    model = draw.choice(("tabm", "tabular"))
    str(sheer.Plan.from_json(sheer.learner(data, model, quiet=True).plan(sheer.recipes.one_cycle(1)).to_json()))
    data.listing.encode()


def read_rows(seeds: Seeds, draw: random.Random, folder: Path) -> None:
    seeds.table.predict(odd_rows(draw, folder))
    seeds.table.evaluate(odd_rows(draw, folder), target="kind", unknown=draw.choice(("raise", "skip")))


def read_texts(seeds: Seeds, draw: random.Random, folder: Path) -> None:
    options = {
        "valid": draw.choice((None, 0, "held")),
        "unknown": draw.choice(("raise", "skip")),
        "separator": draw.choice((None, None, " ")),
    }
    target = draw.choice(("kind", "price", "doors", "words"))
    sheer.text(odd_rows(draw, folder), text=draw.choice(("words", "colour")), target=target, **options).listing.encode()
    inputs = {"table": sheer.TableInput(columns=draw.choice((None, ["width"]))), "text": sheer.TextInput(column="words")}
    sheer.DataBlock(inputs=inputs, label=target, **options).build(odd_rows(draw, folder)).listing.encode()


READERS: dict[str, Callable[[Seeds, random.Random, Path], None]] = {
    "picture": read_picture,
    "csv": read_csv,
    "plan": read_plan,
    "run": read_run,
    "checkpoint": read_checkpoint,
    "bundle": read_bundle,
    "archive": read_archive,
    "cache": read_cache,
    "adapter": read_adapter,
    "table": read_table,
    "rows": read_rows,
    "texts": read_texts,
}


def fuzz(seconds: float, seed: int, names: list[str]) -> int:
    """Rounds through the readers until the time is over; returns how many inputs failed."""
    warnings.simplefilter("ignore")
    failures, rounds, refused = 0, Counter[str](), Counter[str]()
    with tempfile.TemporaryDirectory() as place:
        seeds = make_seeds(Path(place) / "seeds")
        before, end, number = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic() + seconds, 0
        while time.monotonic() < end:
            name = names[number % len(names)]
            folder, started = Path(place) / "now", time.monotonic()
            folder.mkdir()
            try:
                READERS[name](seeds, random.Random(f"{seed} {number}"), folder)
            except SheerError:
                refused[name] += 1
            except Exception:
                failures += 1
                print(f"{name}, seed {seed}, input {number}: no error of sheer's own\n{traceback.format_exc(limit=-4)}", flush=True)
            took, grown = time.monotonic() - started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
            if took > SLOWEST or grown * 1024 > MEMORY:
                failures, before = failures + 1, before + max(grown, 0)
                print(f"{name}, seed {seed}, input {number}: {took:.1f} s, {grown / 2**20:.2f} GiB more memory", flush=True)
            shutil.rmtree(folder)
            rounds[name] += 1
            number += 1
    print("; ".join(f"{name}: {rounds[name]} inputs, {refused[name]} refused" for name in names))
    print(f"{failures} failures in {sum(rounds.values())} inputs")
    return failures


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--reader", action="append", choices=sorted(READERS), help="only this one; may be given again")
    args = parser.parse_args()
    return 1 if fuzz(args.seconds, args.seed, args.reader or list(READERS)) else 0


if __name__ == "__main__":
    sys.exit(main())
