"""What a frozen part costs that runs once an item: `python benchmarks/frozen.py FOLDER [--size 160]`; FOLDER has class folders.

First the seconds a photograph takes through EfficientNet-Lite0 by batch size, norm layers folded or not, medians of turns; then a
frozen phase's first epoch against those after it, with a linear head and with one of two layers, whose own time is that of the same steps
on the same features by hand.
"""

from __future__ import annotations

import argparse
import functools
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

import sheer
from sheer.model.prefix import Prefix, fold_norms

MODEL = "tf_efficientnet_lite0"


def seconds(action: Callable[[], object], turns: int) -> float:
    taken = []
    for _ in range(turns):
        started = time.perf_counter()
        action()
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)


def passes(learn: sheer.Learner, size: int, turns: int) -> str:
    lines = ["| batch | as it is, ms | folded, ms | ratio |", "|---|---|---|---|"]
    with torch.inference_mode():
        model = learn.model.eval().to(memory_format=torch.channels_last)
        for batch in (4, 8, 16, 32, 64):
            inputs = torch.rand(batch, 3, size, size).to(memory_format=torch.channels_last)
            plain, folded = Prefix(model, "body"), Prefix(model, "body")
            fold_norms(folded, inputs)
            one, two = (1000 * seconds(functools.partial(network, inputs), turns) / batch for network in (plain, folded))
            lines.append(f"| {batch} | {one:.2f} | {two:.2f} | {two / one:.2f} |")
    return "\n".join(lines)


def head_alone(learn: sheer.Learner, features: torch.Tensor, target: torch.Tensor, batch: int, turns: int) -> float:
    """Seconds of an epoch of the same head on features in memory, by a loop written by hand."""
    head: nn.Module = learn.model.head[1:].train()
    optimizer = torch.optim.AdamW(head.parameters(), lr=1e-3, fused=True)

    def epoch() -> None:
        order = torch.randperm(len(features))
        for rows in order.split(batch):
            optimizer.zero_grad(set_to_none=True)
            nn.functional.cross_entropy(head(features[rows]), target[rows]).backward()
            optimizer.step()

    return seconds(epoch, turns)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", type=int, default=160)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--turns", type=int, default=7)
    args = parser.parse_args()
    data = sheer.images(args.folder)
    options = {"weights": "package", "size": args.size, "quiet": True}
    print(passes(sheer.learner(data, MODEL, **options), args.size, args.turns))
    print("\n| head | first epoch, s | later ones, s | later / first | by hand, s | later / by hand |\n|---|---|---|---|---|---|")
    for head in ("linear", "concat_pool"):
        learn = sheer.learner(data, MODEL, head=head, prefix=("cached", {"views": 0}), **options).freeze()
        learn.fit(args.epochs, 1e-3)
        first, later = learn.history[0].seconds, statistics.median(row.seconds for row in learn.history[1:])
        width = learn.plan().model.features * (1 if head == "linear" else 2)
        features, target = torch.rand(len(data.train), width), torch.from_numpy(data.targets[data.train])
        own = head_alone(learn, features, target, 32, args.turns)
        print(f"| {head} | {first:.2f} | {later:.3f} | {later / first:.4f} | {own:.3f} | {later / own:.2f} |")


if __name__ == "__main__":
    main()
