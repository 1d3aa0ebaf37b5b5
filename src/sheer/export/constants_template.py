"""What the main template is written against: a phase, and constants such as `eject` writes in the marked place."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from sheer.data.augment import Flip
from sheer.data.cells import Indicator
from sheer.data.pixels import Crop
from sheer.data.splits import stratified_split
from sheer.loop.optimizers import AdamW
from sheer.loop.step import Update, train_step
from sheer.model.backbones import NoWeights
from sheer.model.fusion import Concat
from sheer.model.heads import ConcatPool
from sheer.model.tabular import TabularBody
from sheer.plan.schedules import OneCycle
from sheer.task.losses import CrossEntropy
from sheer.task.metrics import accuracy, balanced_accuracy
from sheer.task.tasks import Classify

# constants: begin
MAKE = nn.Identity
INITIAL_SHA256 = ""
NAME = "resnet18"
KIND = "map"
NODE = ""
NETWORK = TabularBody
BODY: dict[str, Any] = {"codes": (), "continuous": 1, "hidden": (), "dropout": 0.0, "embedding_dropout": 0.0}
ADAPTER_SHA256 = ""
LORA: dict[str, Any] = {"rank": 8, "alpha": 16.0, "layers": ()}
CHANNELS = 3
CHANNEL_INIT = "zero"
FEATURES = 512
BODY_SHA256 = ""
BODY_WEIGHTS = NoWeights()
HEAD = ConcatPool()
STAGES = (("body",), ("head",))
UNDECAYED: tuple[str, ...] = ()
BRANCHES: dict[str, SimpleNamespace] = {}
FUSION = Concat()
INPUTS: dict[str, SimpleNamespace] = {}
COLUMNS = (Indicator(column="age"),)
CLASSES = ("ants", "bees")
TASK = Classify()
MEASURES = {"accuracy": accuracy, "balanced_accuracy": balanced_accuracy}
TRAIN_PART = ""
VALID_PART = ""
SPLIT = stratified_split
SHARE = 0.2
SKIPPED: frozenset[str] = frozenset()
SPLIT_SEED = 0
LISTING_SHA256 = ""
TARGETS_SHA256 = ""
HELD_OUT_SHA256 = ""
ITEMS = ""
START = ""
SEED = 0
DEVICE = "cpu"
THREADS = 2
MEMORY_FORMAT = torch.channels_last
DETERMINISTIC = True
PRECISION = torch.bfloat16
SPLITS = {0: Update(micro=16)}
VALID_SIZE = 16
PHASES = (
    SimpleNamespace(
        name="frozen",
        epochs=1,
        trains_from=1,
        rates=(2e-4, 2e-3),
        norm=("frozen", "train"),
        schedule=OneCycle(),
        optimizer=AdamW(),
        weight_decay=0.01,
        no_decay="norm_bias",
        loss=CrossEntropy(),
        step=train_step,
        skip_limit=10,
        batch_size=32,
        last_batch="drop",
        size=160,
        resize=Crop(fraction=0.875, interpolation="bicubic"),
        augmentations=(Flip(),),
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
    ),
)
