"""What plots are made from, as plain data: pictures as the network sees them, and a schedule step by step."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from sheer.data.augmentations import mix_of
from sheer.data.feed import Batch, Feed, data_path
from sheer.data.inputs import Inputs
from sheer.errors import DataError
from sheer.interpret.mistakes import Mistake
from sheer.interpret.predictions import Predictions
from sheer.loop.train import loss_of
from sheer.plan.plan import Phase
from sheer.plan.schedules import schedule_named
from sheer.streams import stream_key


@dataclass(frozen=True, kw_only=True, eq=False)
class Pictures:
    """Pictures with their items: `images` float32 (N, H, W, channels) in [0, 1], after augmentation, normalisation undone.

    `items` are paths or numbers, `titles` what to write above each, `wrong` whether the title names a mistake.
    """

    items: tuple[str, ...]
    images: np.ndarray
    titles: tuple[str, ...]
    wrong: tuple[bool, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Steps:
    """A schedule step by step: `rates` float64 (steps, groups), NaN where the group does not train, `momentum` (steps,).

    `phases` are names with the step at which each begins.
    """

    groups: tuple[str, ...]
    rates: np.ndarray
    momentum: np.ndarray
    phases: tuple[tuple[str, int], ...]


def pictures_of(feed: Feed, batches: Iterable[Batch], count: int) -> tuple[np.ndarray, np.ndarray]:
    """The first `count` pictures of the batches as (images (N, H, W, channels) in [0, 1], items int64 (N,)).

    Raises:
        DataError: the items are no pictures.
    """
    arrays = feed.data.arrays
    if arrays is not None and (arrays.ndim != 4 or arrays.shape[1] not in (1, 3)):
        raise DataError(f"Items of shape {tuple(arrays.shape[1:])} are no pictures: to be shown they are (1 or 3, height, width).")
    images: list[torch.Tensor] = []
    items: list[np.ndarray] = []
    found = 0
    for batch in batches:
        inputs = batch.inputs
        if isinstance(inputs, Inputs):
            inputs = next((part for part in inputs.parts.values() if part.ndim == 4), None)
            if inputs is None:
                raise DataError("The items have no picture among their inputs, so there is nothing to show.")
        images.append(inputs[: count - found].float())
        items.append(batch.index[: count - found])
        found += len(items[-1])
        if found >= count:
            break
    joined = torch.cat(images)
    if arrays is None or arrays.dtype == torch.uint8:
        joined = joined * feed.std + feed.mean
    pixels = joined.clamp(0, 1).permute(0, 2, 3, 1).cpu().numpy()
    return np.ascontiguousarray(pixels), np.concatenate(items)


def training_pictures(feed: Feed, epoch: int, step: int, count: int) -> Pictures:
    """The first pictures of the epoch, which begins with `step`, as the network will get them, with their classes.

    Pictures that are mixed with others have both: "red 0.70 + blue" is 0.7 of a red one and 0.3 of a blue one.
    """
    mix, others = mix_of(feed.phase), list[tuple[int, float]]()

    def batches() -> Iterator[Batch]:
        for number, batch in enumerate(feed.training(epoch)):
            index = torch.from_numpy(batch.index).to(batch.inputs.device)
            inputs, mixed = mix(batch.inputs, index, loss_of(feed.phase, feed.functions), stream_key(feed.seed, "mix", step + number))
            others.extend(zip(mixed.other.tolist(), mixed.share.expand(len(index)).tolist(), strict=True))
            yield replace(batch, inputs=inputs)

    images, items = pictures_of(feed, batches() if mix is not None else feed.training(epoch), count)
    titles = [_target(feed, item) for item in items.tolist()]
    if mix is not None:
        titles = [f"{title} {share:.2f} + {_target(feed, other)}" for title, (other, share) in zip(titles, others, strict=False)]
    return Pictures(
        items=tuple(data_path(feed.data, item) for item in items.tolist()),
        images=images,
        titles=tuple(titles),
        wrong=(False,) * len(items),
    )


def _target(feed: Feed, item: int) -> str:
    return target_text(feed.data.plan.task.name, feed.data.classes, feed.data.targets[item])


def result_pictures(predictions: Predictions, images: np.ndarray) -> Pictures:
    """Pictures under what was predicted, with what is true below it where that is known and another; numbers are never mistakes."""
    titles, wrong = [], []
    for number, label in enumerate(predictions.labels):
        certain = f" {predictions.outputs[number].max():.2f}" if predictions.task == "classify" else ""
        target = None if predictions.target is None else predictions.target[number]
        true = label if target is None else target_text(predictions.task, predictions.classes, target)
        titles.append(f"{label or '-'}{certain}" + (f"\nis {true or '-'}" if true != label else ""))
        wrong.append(true != label and predictions.task != "regress")
    return Pictures(items=predictions.items, images=images, titles=tuple(titles), wrong=tuple(wrong))


def mistake_pictures(worst: Sequence[Mistake], images: np.ndarray, task: str) -> Pictures:
    """Pictures under what was predicted, what is true, and the loss; numbers are never mistakes."""
    return Pictures(
        items=tuple(one.item for one in worst),
        images=images,
        titles=tuple(f"{one.predicted or '-'}\nis {one.true or '-'}, loss {one.loss:.2f}" for one in worst),
        wrong=tuple(one.predicted != one.true and task != "regress" for one in worst),
    )


def target_text(task: str, classes: Sequence[str], target: np.ndarray) -> str:
    """A target in the words that `Predictions.labels` uses: the class, the labels with ";" between them, or the numbers."""
    if task == "classify":
        return classes[int(target)]
    if task == "tag":
        return ";".join(name for name, value in zip(classes, target.tolist(), strict=True) if value > 0.5)
    return ";".join(f"{value:.6g}" for value in target.tolist())


def schedule_steps(phases: Sequence[Phase]) -> Steps:
    """Rate and momentum of every step of the phases; a group is a stage, or part of one where its parts have rates of their own."""
    names = list(dict.fromkeys(name for phase in phases for name in _rates(phase)))
    blocks, momenta, starts, start = [], [], [], 0
    for phase in phases:
        schedule = schedule_named(phase.schedule.name, phase.schedule.options())
        total = phase.epochs * phase.steps_per_epoch
        factors = np.array([schedule.rate(step / total) for step in range(total)])
        peaks = _rates(phase)
        blocks.append(factors[:, None] / factors.max() * np.array([peaks.get(name, np.nan) for name in names]))
        momenta.append([schedule.momentum(step / total) for step in range(total)])
        starts.append((phase.name, start))
        start += total
    return Steps(groups=tuple(names), rates=np.concatenate(blocks), momentum=np.concatenate(momenta), phases=tuple(starts))


def _rates(phase: Phase) -> dict[str, float]:
    """The highest rate by name of each group that trains; groups of one stage with one rate are one."""
    training = [group for group in phase.groups if group.trains]
    result = {}
    for group in training:
        alone = len({other.rate_peak for other in training if other.stage == group.stage}) == 1
        result[group.stage if alone else f"{group.stage} {group.kind}"] = group.rate_peak
    return result
