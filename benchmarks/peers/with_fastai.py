"""fastai as its own quick start has it."""

from __future__ import annotations

import timm  # noqa: F401
from benchmarks.peers.task import Curve, Result, Task
from fastai.vision.all import Callback, ImageDataLoaders, Resize, accuracy, set_seed, vision_learner


class Watch(Callback):
    """A point of the curve after each epoch, when the recorder (order 50) has the metrics."""

    order = 60

    def __init__(self, curve: Curve) -> None:
        super().__init__()
        self.curve = curve

    def after_epoch(self):
        self.curve.point(self.recorder.values[-1][-1])


def train(task: Task, curve: Curve) -> Result:
    set_seed(task.seed)
    loaders = ImageDataLoaders.from_folder(task.folder, train="train", valid="valid", item_tfms=Resize(task.size))
    learn = vision_learner(loaders, task.model, metrics=accuracy, pretrained_cfg_overlay={"file": task.weights})
    with learn.no_bar(), learn.no_logging():
        learn.fine_tune(task.epochs, cbs=[Watch(curve)])
        scores, target = learn.get_preds()
    held_out = [str(path) for path in loaders.valid_ds.items]
    hits = dict(zip(held_out, (scores.argmax(1) == target).tolist(), strict=True))
    return Result(learned=[str(path) for path in loaders.train_ds.items], hits=hits)
