"""sheer, by its public names alone."""

from __future__ import annotations

import timm  # noqa: F401  (else imported when the model is made: imports are counted apart, for every peer)
from benchmarks.peers.task import Curve, Result, Task

from sheer import images, learner


class Watch:
    """A point of the curve after each epoch."""

    def __init__(self, curve: Curve) -> None:
        self.curve = curve

    def on_start(self, position): ...
    def on_step(self, position): ...
    def on_end(self, position): ...

    def on_epoch(self, position, row):
        self.curve.point(row.metrics["accuracy"])


def default(task: Task, curve: Curve, profile: str = "default") -> Result:
    data = images(task.folder, profile=profile)
    learn = learner(
        data, f"timm:{task.model}", weights=task.weights, profile=profile, size=task.size, seed=task.seed, quiet=True
    ).fine_tune(task.epochs, callbacks=[Watch(curve)])
    found = learn.validate()
    right = (found.predicted == found.target).tolist()
    return Result(learned=[data.paths[item] for item in data.train], hits=dict(zip(found.items, right, strict=True)))


def as_fastai(task: Task, curve: Curve) -> Result:
    return default(task, curve, "fastai-2.8")
