"""The main part of an ejected script: `eject` copies it below the leaves and a run's constants."""

from __future__ import annotations

import argparse
import copy
import csv
import hashlib
import os
import sys
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import nn

from sheer.data.folders import SUFFIXES, listing_hash, photo_files
from sheer.data.photos import Photos, Resident, augment, chunks, to_network
from sheer.data.pixels import decode
from sheer.data.sampling import balanced_sample
from sheer.export.constants_template import (
    CLASSES,
    DETERMINISTIC,
    DEVICE,
    HELD_OUT_SHA256,
    ITEMS,
    LISTING_SHA256,
    MEASURES,
    MEMORY_FORMAT,
    PHASES,
    PRECISION,
    SEED,
    SHARE,
    SKIPPED,
    SPLIT,
    SPLIT_SEED,
    SPLITS,
    STAGES,
    TARGETS_SHA256,
    TASK,
    THREADS,
    TRAIN_PART,
    UNDECAYED,
    VALID_PART,
    VALID_SIZE,
)
from sheer.export.model_template import make_timm_model, start_timm_model
from sheer.export.prefix_template import features
from sheer.loop.optimizers import set_rates
from sheer.loop.precision import autocast
from sheer.loop.step import hopeless, joint, moving_buffers, put_back
from sheer.model.hashing import weights_sha256
from sheer.model.prefix import Prefix, suffix
from sheer.model.stages import parameter_groups, set_modes, set_trainable
from sheer.streams import permutation, reseed, stream_key, uniform_draws
from sheer.task.losses import ItemWeighted, per_weight
from sheer.task.metrics import counting

HISTORY_COLUMNS = ("phase", "epoch", "train_loss", "valid_loss", *MEASURES, "seconds", "weights_sha256")


def find_photos(root: str) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Paths, class numbers, and which items are held out: the folder must be that of the run."""
    parts = [photo_files(root)]  # only no part
    parts = [photo_files(root, TRAIN_PART)]  # only part
    parts.append(photo_files(root, VALID_PART))  # only parts
    parts = [[row for row in part if row[0] not in SKIPPED] for part in parts]  # only skip
    paths = [path for part in parts for path, _ in part]
    if listing_hash(root, paths) != LISTING_SHA256:
        sys.exit(f"{root} is not the folder of the run: its {len(paths)} files differ in names or sizes.")
    labels = np.array([CLASSES.index(label) for part in parts for _, label in part], dtype=np.int64)
    held_out = np.arange(len(paths)) >= len(parts[0])  # only parts
    held_out = SPLIT(labels, SHARE, permutation(stream_key(SPLIT_SEED, "split"), len(paths)))  # only split
    return [os.path.join(root, path) for path in paths], labels, held_out


def find_listed(root: str) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Paths, targets, and which items are held out, as the CSV file beside this script lists them."""
    beside = os.path.join(os.path.dirname(os.path.abspath(__file__)), ITEMS)
    with open(beside, newline="", encoding="utf-8", errors="surrogateescape") as file:
        rows = list(csv.DictReader(file))
    paths = [row["file"] for row in rows]
    if listing_hash(root, paths) != LISTING_SHA256:
        sys.exit(f"{root} does not hold the {len(paths)} files of the run: names or sizes differ.")
    held_out = np.array([row["part"] == "valid" for row in rows])
    return [os.path.join(root, path) for path in paths], TASK.parse(rows, CLASSES), held_out


def listed_weights() -> torch.Tensor:
    """What each item's loss counts, float32 (items,), as the CSV file beside this script says."""
    beside = os.path.join(os.path.dirname(os.path.abspath(__file__)), ITEMS)
    with open(beside, newline="", encoding="utf-8", errors="surrogateescape") as file:
        return torch.from_numpy(np.array([row["weight"] for row in csv.DictReader(file)], dtype=np.float64).astype(np.float32))


def csv_rows(path: str, columns: list[str], remedy: str = "") -> list[dict[str, str]]:
    """The rows of a CSV file that has these columns, else the end of the script; one with a `remedy` was written beside the script."""
    try:
        with open(path, newline="", encoding="utf-8-sig", errors="surrogateescape" if remedy else "strict") as file:
            rows = list(csv.DictReader(file))
    except (OSError, ValueError, csv.Error) as error:
        sys.exit(f"{path} cannot be read as CSV: {error}.{remedy}")
    missing = [column for column in columns if not rows or column not in rows[0]]
    if missing:
        sys.exit(f"{path} has no rows, or lacks the column {missing[0]!r}.{remedy}")
    odd = [number for number, row in enumerate(rows, 1) if None in row or None in row.values()]
    if odd:
        sys.exit(f"{path} row {odd[0]} has more or fewer cells than the first line names columns.{remedy}")
    return rows


def network_batches(photos: Photos, phase: SimpleNamespace, rows: Any, draws: Any, augmentations: Any) -> Iterator[torch.Tensor]:
    """The inputs of each row of items, as the network takes them."""
    mean, std = (torch.tensor(values, device=DEVICE).view(-1, 1, 1) for values in (phase.mean, phase.std))
    for draw, images in zip(draws, photos.batches(rows, draws), strict=True):
        images = augment(images.to(DEVICE, non_blocking=True), augmentations, draw, False)
        yield augment(to_network(images, mean, std, MEMORY_FORMAT), augmentations, draw, True)


def scores(model: nn.Module, photos: Photos, phase: SimpleNamespace, items: np.ndarray, kept: Any = None) -> torch.Tensor:
    """Raw scores (items, classes) of items in order, cut at the centre, not augmented."""
    rows = chunks(items, phase.batch_size)
    rows = chunks(items, min(phase.batch_size, VALID_SIZE))  # only splits
    centres = [np.full((len(row), 2), 0.5) for row in rows]
    batches = network_batches(photos, phase, rows, centres, ())
    batches = batches if kept is None else (kept[0, row].to(DEVICE) for row in rows)  # only cached
    model.eval()
    with torch.inference_mode():
        parts = [model(inputs).float() for inputs in batches]  # read back at the end: a read waits for the device
    return torch.cat([part.cpu() for part in parts])


def train(model: Any, root: str, out: str) -> None:
    """Carry out every phase, writing a row of history.csv after each epoch."""
    device = torch.device(DEVICE)
    paths, targets, held_out = find_photos(root)
    said = targets.tobytes()  # only listed
    said += listed_weights().numpy().tobytes()  # only weight
    if [hashlib.sha256(one).hexdigest() for one in (said, held_out.tobytes())] != [TARGETS_SHA256, HELD_OUT_SHA256]:  # only listed
        sys.exit("The targets, weights or split of the items are not those of the run: was the CSV file changed?")  # only listed
    train_items, valid_items = np.flatnonzero(~held_out), np.flatnonzero(held_out)
    target = TASK.wanted(targets).to(device)
    weight = listed_weights().to(device)  # only weight
    photos: Any = None  # only sizes
    photos = Photos(paths, decode, PHASES[0].resize, PHASES[0].size, readers=2, pinned=device.type == "cuda")  # only one size
    epoch_number = step_number = 0
    for phase in PHASES:
        if photos is None or (photos.size, photos.resize) != (phase.size, phase.resize):  # only reads
            photos = Photos(paths, decode, phase.resize, phase.size, readers=2, pinned=device.type == "cuda")  # only reads
            photos = Resident(photos, device) if phase.resident else photos  # only resident
        torch.compiler.reset()  # only compile
        set_trainable(model, STAGES, phase.trains_from, phase.norm)
        groups = parameter_groups(model, STAGES, phase.rates, phase.weight_decay, phase.no_decay, UNDECAYED)
        optimizer = phase.optimizer.build(groups)
        if phase.average:  # only average
            phase.average.start(model)  # only average
        losses: list[torch.Tensor] = []
        started = time.perf_counter()
        run, kept = model, None
        if phase.cached:  # only cached
            frozen: nn.Module = copy.deepcopy(nn.Sequential(*map(model.get_submodule, phase.cached.modules))).eval()  # only chain
            frozen = Prefix(model, phase.cached.modules[-1])  # only cut
            views = phase.cached.views  # only cached
            kept = features(frozen, network_batches, photos, phase, train_items, valid_items, epoch_number, views)  # only cached
        for epoch in range(phase.epochs):
            set_modes(model, STAGES, phase.trains_from, phase.norm)
            run = model if kept is None else model.head[len(phase.cached.modules) - 1 :]  # only chain
            run = model if kept is None else suffix(model, phase.cached.modules)  # only cut
            items = train_items[permutation(stream_key(SEED, "shuffle", epoch_number), len(train_items))]
            draws = uniform_draws(stream_key(SEED, "augment", epoch_number), items, 2 + sum(a.draws for a in phase.augmentations))
            if phase.sampling == "balanced":  # only sampling
                places = np.arange(len(train_items))  # only sampling
                drawn = uniform_draws(stream_key(SEED, "shuffle", epoch_number), places, 1)[:, 0]  # only sampling
                items = train_items[balanced_sample(targets[train_items], drawn)]  # only sampling
                draws = uniform_draws(stream_key(SEED, "augment", epoch_number), places, draws.shape[1])  # only sampling
            rows, cuts = (chunks(values, phase.batch_size, phase.last_batch, phase.accumulate) for values in (items, draws))
            losses = losses[-phase.skip_limit :]
            moving = moving_buffers(model)  # only moves
            batches = network_batches(photos, phase, rows, cuts, phase.augmentations)
            batches = batches if kept is None else (kept[epoch % len(kept), row].to(DEVICE) for row in rows)  # only cached
            for step, inputs in enumerate(batches):
                progress = (epoch * len(rows) + step) / (phase.epochs * len(rows))
                if phase.schedule:  # only fits
                    set_rates(optimizer, phase.schedule.rate(progress), phase.schedule.momentum(progress))  # only fits
                set_rates(optimizer, phase.schedule.rate(progress), phase.schedule.momentum(progress))  # only no fits
                torch.default_generator.manual_seed(stream_key(SEED, "step", step_number))  # only cpu
                reseed(stream_key(SEED, "step", step_number), device)  # only gpu
                loss, wanted = phase.loss, target[torch.from_numpy(rows[step]).to(device, non_blocking=True)]
                loss = ItemWeighted(loss=loss, weight=weight[torch.from_numpy(rows[step]).to(device, non_blocking=True)])  # only weight
                if phase.mix:  # only mix
                    inputs, loss = phase.mix(inputs, wanted, loss, stream_key(SEED, "mix", step_number))  # only mix
                if phase.per_weight:  # only per_weight
                    loss = per_weight(loss, wanted)  # only per_weight
                phase.step = SPLITS.get(step_number, phase.step)  # only splits
                before = joint(moving)  # only moves
                losses.append(phase.step(run, loss, optimizer, inputs, wanted))
                put_back(moving, before, losses[-1])  # only moves
                if phase.average:  # only average
                    phase.average.follow(model)  # only average
                step_number += 1
                limit = min(phase.skip_limit, phase.epochs * len(rows))
                if (epoch * len(rows) + step + 1) % limit == 0 and hopeless(losses, limit):
                    sys.exit(f"The last {limit} steps before step {step_number} were skipped: no finite loss or gradients.")
            epoch_number += 1
            if phase.average:  # only average
                phase.average.swap(model)  # only average
            predicted = scores(run, photos, phase, valid_items, kept) if len(valid_items) else torch.zeros(0, len(CLASSES))
            outputs, true, loss = TASK.outputs(predicted), targets[valid_items], phase.loss
            loss = ItemWeighted(loss=loss, weight=weight.cpu()[valid_items])  # only weight
            if phase.per_weight:  # only per_weight
                loss = per_weight(loss, TASK.wanted(true))  # only per_weight
            train_loss = float(torch.stack(losses[-len(rows) :]).cpu().double().nanmean())
            valid_loss = float(loss(predicted, TASK.wanted(true)).double().mean())
            metrics = [metric(outputs, true) for metric in MEASURES.values()]  # only alike
            outputs, true, counts = counting(outputs, true, weight.cpu().numpy()[valid_items])  # only weighted_metrics
            metrics = [metric(outputs, true, counts) for metric in MEASURES.values()]  # only weighted_metrics
            row = [phase.name, epoch_number, train_loss, valid_loss, *metrics, time.perf_counter() - started, weights_sha256(model)]
            with open(os.path.join(out, "history.csv"), "a", newline="") as file:
                csv.writer(file, lineterminator="\n").writerow(row)
            print(", ".join(f"{name} {cell}" for name, cell in zip(HISTORY_COLUMNS, row, strict=True)), flush=True)
            if phase.keep:  # only keep
                phase.keep.look(model, row[HISTORY_COLUMNS.index(phase.keep.metric)])  # only keep
            if phase.average:  # only average
                phase.average.swap(model)  # only average
            if phase.stop and phase.stop.over(row[HISTORY_COLUMNS.index(phase.stop.metric)]):  # only stop
                left = phase.epochs - epoch - 1  # only stop
                epoch_number, step_number = epoch_number + left, step_number + left * len(rows)  # only stop
                break  # only stop
        if phase.average:  # only average
            phase.average.swap(model)  # only average
        if phase.keep:  # only keep
            phase.keep.restore(model)  # only keep


def predict(model: nn.Module, files: list[str]) -> None:
    """Print the most likely class of each file, or of each photograph in a folder."""
    paths: list[str] = []
    for name in files:
        inside = [os.path.join(folder, file) for folder, _, names in os.walk(name) for file in names]
        paths += sorted(path for path in inside if path.lower().endswith(SUFFIXES)) if os.path.isdir(name) else [name]
    missing = [path for path in paths if not os.path.isfile(path)]
    if missing or not paths:
        sys.exit(f"There is no file {missing[0]}." if missing else "There are no photographs to predict.")
    phase = PHASES[-1]
    photos = Photos(paths, decode, phase.resize, phase.size, readers=2, keep_bytes=0)
    for path, row in zip(paths, TASK.outputs(scores(model, photos, phase, np.arange(len(paths)))), strict=True):
        print(f"{path}  {TASK.describe(row, CLASSES)}")


def main() -> None:
    """`python train.py FOLDER --out DIR` trains; with `--predict FILES` it predicts, from DIR's weights if they are there."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("folder", nargs="?", help="the folder of photographs that the run was trained on")
    parser.add_argument("--out", required=True, help="the folder for history.csv and weights.pt")
    parser.add_argument("--predict", nargs="+", default=[], metavar="FILE", help="photographs or folders to classify")
    args = parser.parse_args()
    torch.set_num_threads(THREADS)
    torch.use_deterministic_algorithms(DETERMINISTIC, warn_only=DEVICE != "cpu")
    weights = os.path.join(args.out, "weights.pt")
    model = make_timm_model()
    if args.folder:
        os.makedirs(args.out, exist_ok=True)
        if os.listdir(args.out):
            sys.exit(f"{args.out} is not empty; nothing was overwritten. Give another folder.")
        start_timm_model(model)
    elif os.path.isfile(weights):
        model.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    else:
        sys.exit(f"There is no {weights}: give the folder to train on first.")
    model.to(DEVICE, memory_format=MEMORY_FORMAT)  # type: ignore[call-overload]
    autocast(model, torch.device(DEVICE), PRECISION)  # only autocast
    model.compile()  # only compile
    if args.folder:
        with open(os.path.join(args.out, "history.csv"), "w") as file:
            file.write(",".join(HISTORY_COLUMNS) + "\n")
        train(model, args.folder, args.out)
        torch.save(model.state_dict(), weights)
    if args.predict:
        predict(model, args.predict)


if __name__ == "__main__":
    main()
