"""What an ejected script for a table has in the place of what the main template does with photographs."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import nn

from sheer.data.cells import inputs_of
from sheer.export.constants_template import BODY, BODY_WEIGHTS, CLASSES, COLUMNS, DEVICE, ITEMS, LISTING_SHA256, NETWORK, PHASES, SEED, TASK
from sheer.export.main_template import csv_rows, scores
from sheer.export.model_template import start_head, with_head
from sheer.model.encoders import TextBody, take_encoder
from sheer.streams import stream_key


def make_tabular_model() -> nn.Module:
    """The network for the table, with weights yet to come."""
    return with_head(NETWORK(**BODY))


def start_tabular_model(model: Any) -> None:
    """New weights for the body and the head, each from its own random stream."""
    torch.manual_seed(stream_key(SEED, "init-body"))
    model.body = NETWORK(**BODY)
    start_head(model)


def make_encoder_model() -> nn.Module:
    """The text encoder and the head, with weights yet to come."""
    return with_head(TextBody(**BODY))


def start_encoder_model(model: Any) -> None:
    """Give the encoder its pretrained weights, and the head new ones, each from its own random stream."""
    torch.manual_seed(stream_key(SEED, "init-body"))
    model.body = take_encoder(TextBody(**BODY), BODY_WEIGHTS.whole())  # type: ignore[attr-defined]
    start_head(model)


def find_rows(path: str) -> tuple[torch.Tensor, np.ndarray, np.ndarray]:
    """The table as the network takes it, the targets, and which rows are held out: the file must hold the rows of the run."""
    rows = csv_rows(path, [f"input {one.column}" for one in COLUMNS], f" Give {ITEMS}, which was written beside this script.")
    inputs = inputs_of(COLUMNS, rows, "input ")
    if hashlib.sha256(inputs.tobytes()).hexdigest() != LISTING_SHA256:
        sys.exit(f"{path} does not hold the rows of the run: its {len(rows)} rows differ.")
    return torch.from_numpy(inputs), TASK.parse(rows, CLASSES), np.array([row["part"] == "valid" for row in rows])


def table_batches(table: torch.Tensor, phase: SimpleNamespace, rows: Any, draws: Any, augmentations: Any) -> Iterator[torch.Tensor]:
    """The rows of each batch, as the network takes them."""
    for row in rows:
        yield table[torch.from_numpy(row)].to(DEVICE, non_blocking=True)


def predict_rows(model: nn.Module, files: list[str]) -> None:
    """Print what is said of each row of each CSV file."""
    for name in files:
        rows = csv_rows(name, [one.column for one in COLUMNS])
        try:
            inputs = torch.from_numpy(inputs_of(COLUMNS, rows, ""))
        except ValueError as error:
            sys.exit(f"{name}: {error}.")
        outputs = TASK.outputs(scores(model, inputs, PHASES[-1], np.arange(len(inputs))))  # type: ignore[arg-type]
        for number, row in enumerate(outputs, 1):
            print(f"{name} row {number}  {TASK.describe(row, CLASSES)}")
