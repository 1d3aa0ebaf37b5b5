"""Seconds a step of sheer's loop over a hand-written PyTorch loop doing the same work, both in this process in turn.

python benchmarks/overhead.py [--json] [--turns 7]
"""

import argparse
import json
import statistics
import time

import torch
from torch import nn
from torch.nn import functional

import sheer


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))


def lite0() -> nn.Module:
    import timm

    return timm.create_model("tf_efficientnet_lite0", num_classes=10)


def hand_written(make, inputs, labels, batch: int, pictures: bool) -> float:
    """One epoch, hand-written: seconds a step. The same mathematics: norm layers and biases are not decayed."""
    model = make()
    layout = torch.channels_last if pictures else torch.contiguous_format
    model = model.to(memory_format=layout).train()
    thick = [p for p in model.parameters() if p.ndim > 1]
    thin = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": thick, "weight_decay": 0.01}, {"params": thin, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.99), eps=1e-5, fused=True)
    mean, std = torch.tensor([0.485, 0.456, 0.406]).view(-1, 1, 1), torch.tensor([0.229, 0.224, 0.225]).view(-1, 1, 1)
    order = torch.randperm(len(inputs))
    started, steps = time.perf_counter(), len(inputs) // batch
    for step in range(steps):
        rows = order[step * batch : (step + 1) * batch]
        images = inputs[rows]
        if pictures:
            images = torch.where((torch.rand(batch) < 0.5)[:, None, None, None], images.flip(3), images)
            images = images.to(torch.float32, memory_format=layout).div_(255).sub_(mean).div_(std)
        optimizer.zero_grad(set_to_none=True)
        functional.cross_entropy(model(images), labels[rows]).backward()
        optimizer.step()
    return (time.perf_counter() - started) / steps


class Clock:
    """Times the steps of an epoch, without the start and the validation."""

    def on_start(self, position):
        self.times = []

    def on_step(self, position):
        self.times.append(time.perf_counter())

    def on_epoch(self, position, row): ...
    def on_end(self, position): ...


def with_sheer(make, inputs, labels, batch: int) -> float:
    """One epoch of sheer's loop: seconds a step, from the end of the first to the end of the last."""
    data = sheer.arrays(inputs, labels.tolist(), valid=0.1)
    clock = Clock()
    sheer.learner(data, make, batch_size=batch, quiet=True).fit(1, callbacks=[clock])
    return (clock.times[-1] - clock.times[0]) / (len(clock.times) - 1)


def ratios(make, inputs, labels, batch: int, turns: int) -> list[float]:
    pictures = inputs.dtype == torch.uint8
    torch.use_deterministic_algorithms(True)
    found = []
    for turn in range(turns + 1):
        hand = hand_written(make, inputs, labels, batch, pictures)
        found.append(with_sheer(make, inputs, labels, batch) / hand if turn else 0.0)
    return found[1:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--turns", type=int, default=7)
    args = parser.parse_args()
    table = ratios(mlp, torch.rand(64000, 64), torch.arange(64000) % 10, 64, args.turns)
    photos = torch.randint(0, 255, (800, 3, 64, 64), dtype=torch.uint8)
    image = ratios(lite0, photos, torch.arange(800) % 10, 32, args.turns)
    if args.json:
        print(json.dumps({"mlp_ratio": statistics.median(table), "image_ratio": statistics.median(image)}))
        return
    for name, values in (("small MLP", table), ("EfficientNet-Lite0, 64 px", image)):
        print(f"{name}: median {statistics.median(values):.3f}, {min(values):.3f} to {max(values):.3f} in {len(values)} turns")


if __name__ == "__main__":
    main()
