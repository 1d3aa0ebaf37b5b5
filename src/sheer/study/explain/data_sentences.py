"""A plan's data in words: for each of its fields one function of the plan."""

from __future__ import annotations

from collections.abc import Sequence

from sheer.plan.facts import items_of
from sheer.plan.plan import DataPlan, Part, Plan
from sheer.study.explain.words import Words, listed


def _read(columns: Sequence[Part]) -> str:
    """The columns of texts by what makes token ids of them."""
    return "; ".join(
        f"{one['column']} as {one['length']} tokens each by the tokenizer with SHA-256 {str(one.get('tokenizer_sha256'))[:8]}..., "
        f"{one.get('pad')} where a text has fewer"
        for one in (part.options() for part in columns)
    )


def _texts(plan: Plan) -> str:
    said = _read(plan.data.columns)
    return f"Texts go in as token ids, read once: {said}. A longer text loses its end, a missing one has no words."


def _cells(columns: Sequence[Part]) -> str:
    """The columns of a table by name and kind."""
    return listed([" ".join((part.name, str(part.options()["column"]))) for part in columns], 8)


def _inputs(plan: Plan) -> str:
    if not plan.data.inputs:
        return "Each item has one input."
    said = []
    for one in plan.data.inputs:
        what = (
            f"the photograph that {listed(one.reads)} names"
            if one.kind == "image"
            else (_read if one.kind == "text" else _cells)(one.columns)
        )
        said.append(f"{one.name} (missing in {one.missing_train} to learn from, {one.missing_valid} held out), which is {what}")
    return (
        f"Each item has several inputs: {'; '.join(said)}. Where one is missing, its branch gives a vector that is learned, zeros at first."
    )


def _numbers(plan: Plan) -> str:
    if plan.data.inputs or plan.data.columns:
        return "cells are made numbers once, by what was fitted on the items to learn from"
    return "the arrays are taken as they are"


def _counts(what: str, data: DataPlan, counts: tuple[int, ...]) -> str:
    if not counts:
        return f"Items {what} are not counted by class: the targets are numbers (counts ())."
    pairs = [f"{name} {count}" for name, count in zip(data.classes, counts, strict=False)]
    return f"Items {what}, by class: {listed(pairs, 12)}; {sum(counts):,} in all, the fewest {min(counts):,}, the most {max(counts):,}."


def _valid(plan: Plan) -> str:
    count = plan.data.valid_items
    if not count:
        return "0 items are held out, so nothing is known of other items than those learned from."
    if plan.data.task.name == "regress":
        return f"{count:,} items are held out and never learned from. Small differences between two runs may be chance: try other seeds."
    half = 196 * (0.9 * 0.1 / count) ** 0.5
    return (
        f"{count:,} items are held out and never learned from. At 90 % right that makes +-{half:.1f} points (95 %): smaller differences "
        "between two runs may be chance; compare item by item, and with other seeds."
    )


DATA: dict[str, Words] = {
    "source": lambda plan: f"What is learned from: {plan.data.source}.",
    "pictures": lambda plan: {
        "files": "The pictures stay in files, and are decoded by one rule for training, validation and prediction.",
        "memory": "The pictures are in memory, squares of one size.",
    }.get(plan.data.pictures, f"The inputs are no pictures ({plan.data.pictures}): {_numbers(plan)}."),
    "task": lambda plan: {
        "classify": "Each item has one class; the outputs are probabilities that sum to 1.",
        "tag": "Each item has any number of labels; each output is a probability of its own.",
    }.get(plan.data.task.name, f"The outputs are numbers (task {plan.data.task})."),
    "target": lambda plan: (
        f"The targets are in the table: {listed(plan.data.target)}." if plan.data.target else "The targets are those that the items have."
    ),
    "separator": lambda plan: (
        f"Several labels of an item stand in one cell, with {plan.data.separator!r} between them."
        if plan.data.separator
        else "Nothing has to be taken apart to read the targets."
    ),
    "classes": lambda plan: f"The model's outputs, in this order: {', '.join(plan.data.classes)}.",
    "train_items": lambda plan: f"{plan.data.train_items:,} items are learned from.",
    "valid_items": _valid,
    "train_counts": lambda plan: _counts("to learn from", plan.data, plan.data.train_counts),
    "valid_counts": lambda plan: _counts("held out", plan.data, plan.data.valid_counts),
    "split": lambda plan: f"Which items are held out was decided by {plan.data.split}.",
    "weight": lambda plan: (
        f"Each item's loss counts as its column {plan.data.weight!r} says." if plan.data.weight else "Every item's loss counts 1."
    ),
    "weighted_prior": lambda plan: (
        "What is usual by weight among the items learned from is the baseline of weighted metrics."
        if plan.data.weighted_prior
        else "What is usual among the items learned from is so by count."
    ),
    "bad_files": lambda plan: (
        "Every file was read beforehand, and those that cannot be used were left out; nothing takes their place."
        if plan.data.bad_files == "skip"
        else "A file that cannot be read stops the run before its first step."
        if plan.data.pictures == "files"
        else f"There are no files to read ({plan.data.bad_files})."
    ),
    "unknown": lambda plan: (
        "Held-out items with a label that no item to learn from has were left out."
        if plan.data.unknown == "skip"
        else f"A label that only held-out items have would have been an error ({plan.data.unknown})."
    ),
    "skipped": lambda plan: (
        f"{len(plan.data.skipped)} items are left out, as the policies above say: {listed(plan.data.skipped)}."
        if plan.data.skipped
        else f"No {'file' if plan.data.pictures == 'files' else 'item'} is left out."
    ),
    "columns": lambda plan: (
        _texts(plan)
        if items_of(plan.data.columns) == "text"
        else f"{len(plan.data.columns)} columns of the table go in, fitted on the items to learn from alone: {_cells(plan.data.columns)}."
        if plan.data.columns
        else "Columns are those of the inputs."
        if plan.data.inputs
        else "The items are no rows of a table."
    ),
    "inputs": _inputs,
    "listing_sha256": lambda plan: (
        f"Names and sizes of the items have the SHA-256 {plan.data.listing_sha256[:16]}...; another folder is refused."
        if plan.data.pictures == "files"
        else f"The inputs as the network gets them have the SHA-256 {plan.data.listing_sha256[:16]}...; others are refused."
    ),
    "targets_sha256": lambda plan: f"Their targets have the SHA-256 {plan.data.targets_sha256[:16]}....",
    "held_out_sha256": lambda plan: (
        f"Which items are held out has the SHA-256 {plan.data.held_out_sha256[:16]}...: figures of runs are comparable only where it is "
        "the same."
    ),
    "notes": lambda plan: f"Odd in the data: {'; '.join(plan.data.notes)}." if plan.data.notes else "Nothing odd was found in the data.",
}
