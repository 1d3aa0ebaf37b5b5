"""The doctor's checks of the data: labels, order, and what is on both sides."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from sheer.study.doctor.case import Case, Said, first_batches
from sheer.study.doctor.findings import Unchecked, found
from sheer.study.doctor.items import READS, classes_of, contents, dataset_of, is_list, labels_of, readings, sampler_of, shuffles
from sheer.study.doctor.model import names


def check_labels(case: Case) -> Said:
    """Class numbers against the number of outputs, and whether they start at 0."""
    output = case.look.output
    if output is None or not case.train_batches:
        yield Unchecked(what="labels out of range or shifted", need=case.look.error or case.trouble)
        return
    target = case.train_batches[0][1]
    if target.is_floating_point() or target.ndim != output.ndim - 1 or output.ndim < 2:
        return  # several labels or numbers: no class numbers
    outputs = output.shape[1]
    ignored = getattr(case.loss_fn, "ignore_index", -100)
    listed = labels_of(dataset_of(case.loader)) if target.ndim == 1 else None
    drawn = torch.cat([labels.flatten() for _, labels in case.train_batches]).cpu().numpy()
    if listed is not None and not set(drawn.tolist()) <= set(listed.tolist()):
        listed = None  # the data set changes its labels on their way
    labels = drawn if listed is None else listed
    labels = labels[labels != ignored]
    if not len(labels):
        return
    low, high = int(labels.min()), int(labels.max())
    words: dict[str, object] = {"low": low, "high": high, "outputs": outputs, "items": len(labels)}
    if low < 0 or high >= outputs:
        words["outside"] = int(((labels < 0) | (labels >= outputs)).sum())
        words["mend"] = (
            "target = target - 1  # classes count from 0" if low == 1 and high == outputs else f"nn.Linear(features, {high + 1})"
        )
        yield found("labels_out_of_range", "{outside} of {items} labels, from {low} to {high}, have none of the {outputs} outputs", words)
    elif low == 1 and high == outputs - 1 and outputs > 2 and (listed is not None or len(labels) >= 20 * outputs):
        yield found(
            "labels_shifted", "{items} labels run from {low} to {high} for {outputs} outputs: 0 never occurs", words | {"classes": high}
        )


def check_train_order(case: Case) -> Said:
    """Whether the training set comes in another order each epoch."""
    told = shuffles(case.loader)
    if told is None:
        yield Unchecked(
            what="training set not shuffled", need="the loader shows no sampler: give a torch DataLoader over a map-style data set"
        )
    elif not told and len(case.loader) > 1:  # the order inside one batch changes nothing
        labels = labels_of(dataset_of(case.loader))
        batches = [np.unique(target.cpu().numpy()).size for _, target in case.train_batches if not target.is_floating_point()]
        words: dict[str, object] = {"sampler": type(sampler_of(case.loader)).__name__, "alone": sum(count == 1 for count in batches)}
        words |= {"batches": len(batches), "items": len(dataset_of(case.loader))}
        words["changes"] = int((np.diff(labels) != 0).sum()) if labels is not None else -1
        text = (
            "two passes over {items} items come in the same order ({sampler}); {alone} of the first {batches} batches have one class only"
        )
        yield found("train_not_shuffled", text, words)


def check_valid(case: Case) -> Said:
    """The validation set: drawn anew each time, dropped items, an order held against a list."""
    if case.valid_loader is None:
        yield Unchecked(what="validation set augmented, stale order, class order, overlap by content", need="give valid_loader=")
        return
    dataset = dataset_of(case.valid_loader)
    different = readings(dataset)
    if different is None:
        yield Unchecked(
            what="validation set augmented", need="items are no tensors reached by number: give a map-style data set of tensors"
        )
    elif different > 1:
        text = "an item that was read {times} times gave {different} different pictures"
        yield found("valid_augmented", text, {"times": READS, "different": different})
    yield from _dropped(case.valid_loader, dataset)
    yield from _stale(case)


def _dropped(loader: Any, dataset: Any) -> Said:
    size = getattr(loader, "batch_size", None)
    left = len(dataset) % size if size and is_list(dataset) else 0
    if left and getattr(loader, "drop_last", False):
        yield found("valid_drops_items", "{left} of {items} items are left out at each pass", {"left": left, "items": len(dataset)})


def _stale(case: Case) -> Said:
    if case.valid_targets is None:
        if shuffles(case.valid_loader):
            need = (
                "valid_loader shuffles; give valid_targets= if you hold predictions against a list (the batches' own targets are in order)"
            )
            yield Unchecked(what="validation set shuffled with a stale order", need=need)
        return
    batches, trouble = first_batches(case.valid_loader, len(case.valid_loader))
    if trouble:
        yield Unchecked(what="validation set shuffled with a stale order", need=trouble)
        return
    come = torch.cat([target.flatten() for _, target in batches]).cpu().numpy()
    listed = np.asarray(case.valid_targets).reshape(-1)
    both = min(len(come), len(listed))
    wrong = int((come[:both] != listed[:both]).sum()) + abs(len(come) - len(listed))
    if wrong:
        words: dict[str, object] = {"wrong": wrong, "come": len(come), "listed": len(listed)}
        yield found("valid_stale_order", "{wrong} of {come} targets differ from the list of {listed} at their place", words)


def check_sides(case: Case) -> Said:
    """What training and validation must share (the numbering of classes) and must not (items)."""
    if case.valid_loader is None:
        return
    train, valid = dataset_of(case.loader), dataset_of(case.valid_loader)
    here, there = classes_of(train), classes_of(valid)
    if here is None or there is None:
        yield Unchecked(what="class order of train and validation", need="the data sets have no .classes or .class_to_idx")
    elif here != there:
        moved = [name for number, name in enumerate(here) if number >= len(there) or there[number] != name]
        words: dict[str, object] = {"moved": len(moved), "here": len(here), "there": len(there), "names": names(moved)}
        text = "{moved} of {here} training classes have another number, or none, among the {there} of validation: {names}"
        yield found("class_order", text, words)
    both = contents(train, valid)
    if isinstance(both, str):
        yield Unchecked(what="overlap of train and validation by content", need=both)
        return
    seen = set(both[0])
    copies = [number for number, key in enumerate(both[1]) if key in seen]
    if copies:
        shown = "{" + ", ".join(map(str, copies[:5])) + (", ..." if len(copies) > 5 else "") + "}"
        words = {"copies": len(copies), "held": len(both[1]), "trained": len(both[0]), "positions": shown}
        yield found("overlap", "{copies} of {held} validation items are among the {trained} to train on, by content", words)
