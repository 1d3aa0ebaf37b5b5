"""What an ejected script for several inputs has in the place of what the main template does with photographs alone."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import nn

from sheer.data.cells import inputs_of, table_cell
from sheer.data.folders import listing_hash
from sheer.data.inputs import Inputs, inputs_sha256, places_of, with_gaps
from sheer.data.photos import Photos
from sheer.data.pixels import decode
from sheer.export.constants_template import (
    BRANCHES,
    CLASSES,
    DEVICE,
    FUSION,
    INPUTS,
    ITEMS,
    LISTING_SHA256,
    MEMORY_FORMAT,
    PHASES,
    SEED,
    TASK,
)
from sheer.export.main_template import csv_rows, network_batches, scores
from sheer.export.model_template import start_head, with_head
from sheer.export.prefix_template import features
from sheer.model.backbones import TorchvisionBody, load_body, timm_body, timm_whole, torchvision_whole
from sheer.model.encoders import TextBody, take_encoder
from sheer.model.fusion import Fused, branch_of
from sheer.model.prefix import Prefix
from sheer.model.tabular import TabularBody
from sheer.streams import stream_key

WIDTHS = tuple(branch.features for branch in BRANCHES.values())


def make_branch(branch: SimpleNamespace) -> nn.Module:
    """The body of a branch, with weights yet to come."""
    if branch.library == "own":  # only own
        body: nn.Module = branch.make()  # only own
        return body  # only own
    if branch.library == "timm":  # only timm
        return timm_body(branch.name, branch.kind)  # only timm
    if branch.library == "torchvision":  # only torchvision
        return TorchvisionBody(torchvision_whole(branch.name), branch.node)  # only torchvision
    if branch.library == "transformers":  # only encoder
        return TextBody(**branch.body)  # only encoder
    return TabularBody(**branch.body)


def start_branch(branch: SimpleNamespace) -> nn.Module:
    """The body of a branch with the weights that its training starts from, from its random stream."""
    torch.manual_seed(stream_key(SEED, "init-body"))
    if branch.library == "timm":  # only timm
        whole = branch.weights.load(timm_whole(branch.name), branch.name)  # only timm
        return load_body(make_branch(branch), whole)  # only timm
    if branch.library == "torchvision":  # only torchvision
        whole = branch.weights.load(torchvision_whole(branch.name), branch.name)  # only torchvision
        return load_body(make_branch(branch), whole, "net.")  # only torchvision
    if branch.library == "transformers":  # only encoder
        return take_encoder(TextBody(**branch.body), branch.weights.whole())  # only encoder
    return make_branch(branch)


def make_fused_model() -> nn.Module:
    """The branches, what fuses them, and the head, with weights yet to come."""
    bodies = {name: make_branch(branch) for name, branch in BRANCHES.items()}
    return with_head(Fused(bodies, WIDTHS, FUSION.build(WIDTHS)))


def start_fused_model(model: Any) -> None:
    """Each branch's own weights, then a new fusion and a new head, each from its own random stream."""
    for name, branch in BRANCHES.items():
        model.body.branches[name] = start_branch(branch)
    torch.manual_seed(stream_key(SEED, "init-fusion"))
    model.body.fusion = FUSION.build(WIDTHS)
    start_head(model)


def find_inputs(root: str) -> tuple[SimpleNamespace, np.ndarray, np.ndarray]:
    """The inputs, the targets, and which items are held out, as the CSV file says that lies beside this script (or is given)."""
    beside = os.path.join(os.path.dirname(os.path.abspath(__file__)), ITEMS)
    if not os.path.isdir(root):  # only photos
        sys.exit(f"{root} is no folder: give the folder of photographs that the run was trained on.")  # only photos
    reads = [f"input {column}" for one in INPUTS.values() for column in one.reads]
    rows = csv_rows(root if os.path.isfile(root) else beside, reads, f" Give {ITEMS}, which was written beside this script.")
    found = inputs_in(rows, "input ", root)
    arrays = [one[name] for name in INPUTS for one in (found.present, found.arrays) if name in one]
    if inputs_sha256(listing_hash(root, found.names) if found.names else "", arrays) != LISTING_SHA256:
        sys.exit(f"{root} does not hold the {len(rows)} items of the run: files or cells differ.")
    return found, TASK.parse(rows, CLASSES), np.array([row["part"] == "valid" for row in rows])


def inputs_in(rows: list[dict[str, str]], prefix: str, *roots: str) -> SimpleNamespace:
    """What the rows of a CSV file hold for each input, in columns called `prefix` and the name, with files below one of `roots`."""
    found = SimpleNamespace(names=[], places={}, arrays={}, present={})
    for name, one in INPUTS.items():
        cells = [
            [row[prefix + column] if one.kind == "image" else table_cell(row[prefix + column]) for column in one.reads] for row in rows
        ]
        found.present[name] = np.array([any(cell.strip() for cell in row) for row in cells])
        if one.kind == "image":  # only photos
            files = [row[0] if row[0].strip() else "" for row in cells]  # only photos
            found.places[name] = places_of(files, len(found.names))  # only photos
            found.names += [file for file in files if file]  # only photos
        if one.kind != "image":  # only table
            found.arrays[name] = inputs_of(one.columns, rows, prefix)  # only table
    below = [[os.path.join(root, name) for name in found.names] for root in roots]  # only photos
    found.paths = min(below, key=lambda paths: sum(not os.path.isfile(path) for path in paths))  # only photos
    lost = [name for name, path in zip(found.names, found.paths, strict=True) if not os.path.isfile(path)]  # only photos
    if lost:  # only photos
        sys.exit(f"There is no photograph {lost[0]} below {' or '.join(map(repr, dict.fromkeys(roots)))}.")  # only photos
    return found


def with_photos(found: SimpleNamespace, phase: SimpleNamespace) -> SimpleNamespace:
    """The inputs with their photographs as the phase reads them."""
    photos = Photos(found.paths, decode, phase.resize, phase.size, readers=2, pinned=torch.device(DEVICE).type == "cuda")
    return SimpleNamespace(**(vars(found) | {"photos": photos, "size": phase.size, "resize": phase.resize}))


def photo_batches(found: Any, name: str, phase: SimpleNamespace, rows: Any, draws: Any, augmentations: Any) -> Iterator[torch.Tensor]:
    """The photographs of one input for each row of items, zeros where an item has none."""
    place = found.places[name]
    there = [place[row] >= 0 for row in rows]
    some = [number for number, present in enumerate(there) if present.any()]
    files, cuts = [place[rows[n][there[n]]] for n in some], [draws[n][there[n]] for n in some]
    images = network_batches(found.photos, phase, files, cuts, augmentations)
    for present in there:
        empty = torch.zeros(0, len(phase.mean), phase.size, phase.size, device=DEVICE)
        yield with_gaps(next(images) if present.any() else empty, present, MEMORY_FORMAT)


def array_batches(array: np.ndarray, rows: Any) -> Iterator[torch.Tensor]:
    """The rows of numbers of each batch."""
    for row in rows:
        yield torch.from_numpy(array[row]).to(DEVICE, non_blocking=True)


def input_stream(name: str, found: Any, phase: SimpleNamespace, rows: Any, draws: Any, augmentations: Any) -> Iterator[torch.Tensor]:
    """One input of each row of items, as its branch takes it."""
    if name in found.places:  # only photos
        return photo_batches(found, name, phase, rows, draws, augmentations)  # only photos
    return array_batches(found.arrays[name], rows)


def input_batches(found: Any, phase: SimpleNamespace, rows: Any, draws: Any, augmentations: Any) -> Iterator[Inputs]:
    """The inputs of each row of items, as the network takes them."""
    streams = [input_stream(name, found, phase, rows, draws, augmentations) for name in INPUTS]
    for row, *parts in zip(rows, *streams, strict=True):
        present = np.stack([found.present[name][row] for name in INPUTS], axis=1)
        yield Inputs(dict(zip(INPUTS, parts, strict=True)), torch.from_numpy(present).to(DEVICE))


def cached_views(
    model: Any, found: Any, phase: SimpleNamespace, train: np.ndarray, valid: np.ndarray, epoch: int, count: int
) -> list[SimpleNamespace]:
    """The inputs of each of `count` views (0: plain), with what the frozen parts of branches give, which run here."""
    views = [SimpleNamespace(**(vars(found) | {"arrays": {**found.arrays}, "places": {**found.places}})) for _ in range(max(count, 1))]
    for name in INPUTS:
        branch, last = branch_of(model, name, phase.cached.modules)
        if not last:
            continue
        drawn = count if name in found.places else 0
        kept = features(Prefix(branch, last), partial(input_stream, name), found, phase, train, valid, epoch, drawn)
        for number, view in enumerate(views):
            view.arrays[name] = kept[number % len(kept)].numpy()
            view.places.pop(name, None)
    return views


def predict_inputs(model: nn.Module, files: list[str], folder: str | None) -> None:
    """Print what is said of each row of each CSV file; photographs lie beside it, or below `folder` if more of them do."""
    for name in files:
        rows, beside = csv_rows(name, [column for one in INPUTS.values() for column in one.reads]), os.path.dirname(name) or "."
        try:
            found = inputs_in(rows, "", beside, folder or beside)
        except ValueError as error:
            sys.exit(f"{name}: {error}.")
        found = with_photos(found, PHASES[-1])  # only photos
        outputs = TASK.outputs(scores(model, found, PHASES[-1], np.arange(len(rows))))  # type: ignore[arg-type]
        for number, row in enumerate(outputs, 1):
            print(f"{name} row {number}  {TASK.describe(row, CLASSES)}")
