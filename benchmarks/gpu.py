"""sheer, a hand-written PyTorch loop and fastai on one CUDA device, in turn, each in a process of its own: medians and ratios.

python benchmarks/gpu.py [--data FOLDER] [--model resnet50] [--items 4000] [--size 224] [--batch 64] [--epochs 4] [--turns 3] [--json]

The same network without pretrained weights, bf16, the same folders of classes. Pictures a second are those of the epochs after the
first, validation of a tenth included; the first epoch, which decodes every file, stands beside it. `sheer, copied` is
sheer with `resident=False`. Where there is no CUDA device one line says so, and the exit status is 0.
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image

Marks = Callable[[], None]
CLASSES = 10


def with_sheer(args: argparse.Namespace, mark: Marks, resident: bool | None) -> None:
    import sheer

    class Marked:
        def on_start(self, position): ...
        def on_step(self, position): ...
        def on_end(self, position): ...
        def on_epoch(self, position, row):
            mark()

    options = {"weights": "none", "size": args.size, "batch_size": args.batch, "precision": args.precision, "device": args.device}
    learn = sheer.learner(sheer.images(args.data, valid=0.1), args.model, quiet=True, resident=resident, cache=False, **options)
    learn.unfreeze()
    mark()
    learn.fit(args.epochs, 1e-3, callbacks=[Marked()])


def by_hand(args: argparse.Namespace, mark: Marks) -> None:
    import timm
    from torch.utils.data import DataLoader, Subset
    from torchvision import datasets, transforms

    cuda = args.device == "cuda"
    ready = [transforms.PILToTensor()]
    short = [transforms.Resize(round(args.size / 0.875))]
    train_set = datasets.ImageFolder(args.data, transforms.Compose([*short, transforms.RandomCrop(args.size), *ready]))
    valid_set = datasets.ImageFolder(args.data, transforms.Compose([*short, transforms.CenterCrop(args.size), *ready]))
    order = np.random.default_rng(0).permutation(len(train_set)).tolist()
    held = len(order) // 10
    shared = {"batch_size": args.batch, "num_workers": min(os.cpu_count() or 1, 16), "pin_memory": cuda, "persistent_workers": True}
    train_loader = DataLoader(Subset(train_set, order[held:]), shuffle=True, drop_last=True, **shared)
    valid_loader = DataLoader(Subset(valid_set, order[:held]), **shared)
    model = timm.create_model(args.model, num_classes=len(train_set.classes)).to(args.device, memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    mean, std = (torch.tensor(values, device=args.device).view(-1, 1, 1) for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))

    def inputs(images: torch.Tensor) -> torch.Tensor:
        images = images.to(args.device, non_blocking=True).to(torch.float32, memory_format=torch.channels_last)
        return images.div_(255).sub_(mean).div_(std)

    dtype = torch.bfloat16 if args.precision == "bf16" else torch.float32
    mark()
    for _ in range(args.epochs):
        model.train()
        for images, labels in train_loader:
            pictures = inputs(images)
            flipped = torch.rand(len(pictures), 1, 1, 1, device=args.device) < 0.5
            pictures = torch.where(flipped, pictures.flip(3), pictures)
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast(args.device, dtype=dtype, enabled=args.precision == "bf16"):
                loss = torch.nn.functional.cross_entropy(model(pictures), labels.to(args.device, non_blocking=True))
            loss.backward()
            optimizer.step()
        model.eval()
        with torch.inference_mode(), torch.autocast(args.device, dtype=dtype, enabled=args.precision == "bf16"):
            scores = [model(inputs(images)).float() for images, _ in valid_loader]
        torch.cat(scores).cpu()
        mark()


def with_fastai(args: argparse.Namespace, mark: Marks) -> None:
    from fastai.vision import all as fastai

    class Marked(fastai.Callback):
        def after_epoch(self):
            mark()

    data = fastai.ImageDataLoaders.from_folder(
        args.data,
        valid_pct=0.1,
        seed=0,
        item_tfms=fastai.Resize(round(args.size / 0.875)),
        batch_tfms=[*fastai.aug_transforms(size=args.size, max_rotate=0, max_zoom=1, max_lighting=0, max_warp=0)],
        bs=args.batch,
        num_workers=min(os.cpu_count() or 1, 16),
        device=torch.device(args.device),
    )
    learn = fastai.vision_learner(data, args.model, pretrained=False, loss_func=fastai.CrossEntropyLossFlat())
    if args.precision == "bf16":
        learn.to_bf16()
    learn.unfreeze()
    mark()
    with learn.no_bar(), learn.no_logging():
        learn.fit(args.epochs, 1e-3, cbs=[Marked()])


SIDES: dict[str, Callable[[argparse.Namespace, Marks], None]] = {
    "plain loop": by_hand,
    "sheer": lambda args, mark: with_sheer(args, mark, None),
    "sheer, copied": lambda args, mark: with_sheer(args, mark, False),
    "fastai": with_fastai,
}


def utilisation() -> float | None:
    """Per cent of the last moment in which the device was busy; None where nothing here can say it."""
    try:
        return float(torch.cuda.utilization())
    except Exception:  # without NVML's Python package each version of torch raises its own; nvidia-smi says the same
        asked = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"]
        with contextlib.suppress(OSError, ValueError, IndexError):
            return float(subprocess.run(asked, capture_output=True, text=True, check=False).stdout.splitlines()[0])
    return None


def side(args: argparse.Namespace) -> dict[str, float | None]:
    """Carry out one side in this process."""
    marks, busy, over = list[float](), list[float](), threading.Event()

    def watch() -> None:
        while not over.wait(0.2):
            now = utilisation()
            if now is None:
                return
            if len(marks) > 1:  # after the first epoch
                busy.append(now)

    cuda = args.device == "cuda"
    watcher = threading.Thread(target=watch, daemon=True)
    if cuda:
        watcher.start()
    SIDES[args.side](args, lambda: marks.append(time.perf_counter()))
    over.set()
    trained = 0.9 * sum(path.suffix == ".jpg" for path in Path(args.data).rglob("*"))
    return {
        "pictures_a_second": trained * (args.epochs - 1) / (marks[-1] - marks[1]),
        "first_epoch_seconds": marks[1] - marks[0],
        "utilisation": statistics.mean(busy) if busy else None,
        "peak_gb": torch.cuda.max_memory_allocated() / 1e9 if cuda else None,
    }


@contextlib.contextmanager
def photographs(args: argparse.Namespace) -> Iterator[None]:
    """The folder that was given, or one of generated JPEGs of 500 x 375 pixels in ten classes."""
    if args.data:
        yield
        return
    with tempfile.TemporaryDirectory() as root:
        for number in range(args.items):
            small = np.random.default_rng(number).integers(0, 255, (12, 16, 3), dtype=np.uint8)
            folder = Path(root) / f"class {number % CLASSES}"
            folder.mkdir(exist_ok=True)
            Image.fromarray(small).resize((500, 375), Image.Resampling.BICUBIC).save(folder / f"{number}.jpg")
        args.data = root
        yield


def measured(args: argparse.Namespace, side_of: str) -> dict[str, float | None] | str:
    """What one side gives in a process of its own, or the last line of why it does not run here."""
    python = args.fastai_python if side_of == "fastai" else sys.executable
    values = {name: getattr(args, name) for name in ("data", "model", "size", "batch", "epochs", "device", "precision")}
    command = [python, __file__, "--side", side_of, *(text for name, value in values.items() for text in (f"--{name}", str(value)))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines() or ["it said nothing"]
    return json.loads(lines[-1]) if done.returncode == 0 else lines[-1]


def table(found: dict[str, list[dict[str, float | None]]]) -> dict[str, dict[str, float | None]]:
    """Medians of a side's turns, and ratios of its pictures a second to the plain loop's and fastai's of the same turn."""
    rows: dict[str, dict[str, float | None]] = {}
    for name, turns in found.items():
        middles = {key: [turn[key] for turn in turns if turn[key] is not None] for key in turns[0]}
        rows[name] = {key: statistics.median(values) if values else None for key, values in middles.items()}
        for other in ("plain loop", "fastai"):
            pairs = zip(turns, found.get(other, []), strict=False)
            ratios = [one["pictures_a_second"] / two["pictures_a_second"] for one, two in pairs]
            rows[name][f"times_{other.replace(' ', '_')}"] = statistics.median(ratios) if ratios else None
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="", help="a folder of class folders with JPEGs (default: generated ones)")
    parser.add_argument("--model", default="resnet50")
    parser.add_argument("--items", type=int, default=4000)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--precision", default="bf16", choices=("bf16", "float32"))
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"), help="cpu only shows that it runs: nothing is learnt from it")
    parser.add_argument("--fastai-python", default=sys.executable, help="the Python that has fastai, where it is another")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side:
        print(json.dumps(side(args)))
        return
    if args.device == "cuda" and not torch.cuda.is_available():
        print("skipped: PyTorch finds no CUDA device on this machine, and nothing here says how fast one would be")
        return
    found: dict[str, list[dict[str, float | None]]] = {}
    absent: dict[str, str] = {}
    with photographs(args):
        for _ in range(args.turns):
            for name in [name for name in SIDES if name not in absent]:
                result = measured(args, name)
                if isinstance(result, str):
                    absent[name] = result
                else:
                    found.setdefault(name, []).append(result)
    rows = table(found)
    device = torch.cuda.get_device_name() if args.device == "cuda" else "the CPU"
    if args.json:
        print(json.dumps({"device": device, "torch": torch.__version__, "sides": rows, "absent": absent}))
        return
    print(f"{args.model} at {args.size} px, batches of {args.batch}, {args.precision}, on {device}; medians of {args.turns} turns")
    columns = list(next(iter(rows.values()), {}))
    print(f"{'':<14}" + "".join(f"{name:>21}" for name in columns))
    for name, row in rows.items():
        print(f"{name:<14}" + "".join(f"{'-' if row[key] is None else format(row[key], '.4g'):>21}" for key in columns))
    for name, why in absent.items():
        print(f"{name} does not run here: {why}")


if __name__ == "__main__":
    main()
