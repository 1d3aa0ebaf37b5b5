"""What checkpoints cost a run: seconds a step without a run folder, with one at the default interval, and with one every few steps.

python benchmarks/checkpoints.py [--steps 200] [--turns 5] [--json]
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import torch

import sheer


class Clock:
    """Seconds from the first step to the end of the last."""

    def on_start(self, position):
        self.first = self.last = None

    def on_step(self, position):
        self.last = time.perf_counter()
        self.first = self.first or self.last

    def on_epoch(self, position, row): ...

    def on_end(self, position): ...


def seconds(data, steps, out, checkpoints):
    clock = Clock()
    learn = sheer.learner(data, "resnet18", weights="none", batch_size=8, quiet=True, out=out, checkpoints=checkpoints)
    learn.unfreeze().fit(1, 1e-3, callbacks=[clock])
    return (clock.last - clock.first) / (steps - 1)


def resumed(data, folder):
    """Seconds from a killed run's folder to its first step."""

    class Leave(Clock):
        def on_step(self, position):
            super().on_step(position)
            position.pause = "measured"

    learn = sheer.learner(data, "resnet18", weights="none", batch_size=8, quiet=True, out=folder)
    learn.unfreeze().fit(1, 1e-3, callbacks=[Leave()])
    clock, started = Leave(), time.perf_counter()
    sheer.resume(folder, data=data, quiet=True, callbacks=[clock])
    return clock.first - started


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    items = args.steps * 10
    inputs = torch.randint(0, 255, (items, 3, 32, 32), dtype=torch.uint8)
    data = sheer.arrays(inputs, [0, 1] * (items // 2), valid=0.2)
    kinds = {"none": None, "default": sheer.Checkpoints(), "every 20 steps": sheer.Checkpoints(minutes=0, steps=20)}
    found = {name: [] for name in kinds}
    with tempfile.TemporaryDirectory() as root:
        for turn in range(args.turns):
            for name, every in kinds.items():
                out = Path(root) / f"{turn}-{name}" if every else None
                found[name].append(seconds(data, args.steps, out, every or sheer.Checkpoints()))
        recovery = resumed(data, Path(root) / "resumed")
    middle = {name: statistics.median(values) for name, values in found.items()}
    result = {name: value / middle["none"] for name, value in middle.items()} | {"resume_seconds": recovery}
    if args.json:
        print(json.dumps(result))
    else:
        print("\n".join(f"{name:<16} {value:.3f}" for name, value in result.items()))


if __name__ == "__main__":
    main()
