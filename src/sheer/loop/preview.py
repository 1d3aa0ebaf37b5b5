"""One item, then one batch, step by step to the loss: what each step gives, or which one fails."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from torch import nn

from sheer.data.feed import Arrays, Feed, data_path
from sheer.data.inputs import Inputs
from sheer.data.photos import Photos
from sheer.errors import DataError, SheerError, first_line
from sheer.loop.step import Loss, scores_of
from sheer.plan.plan import Plan

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Step:
    """A step by its name, and what it gave in words."""

    name: str
    result: str


@dataclass(frozen=True, kw_only=True)
class Preview:
    """The steps in order; `print(preview)` is the table."""

    steps: tuple[Step, ...]

    def __str__(self) -> str:
        width = max(len(step.name) for step in self.steps)
        return "\n".join(f"  {step.name:<{width}}  {step.result}" for step in self.steps)


def preview(model: nn.Module, plan: Plan, feed: Feed, loss: Loss, item: int) -> Preview:
    """Take one item, then the first training batch of the feed, to the loss; nothing is trained and no trace is left.

    Raises:
        DataError: naming the step that failed, what it was given, and why.
    """
    steps: list[Step] = []

    def step(name: str, given: str, action: Callable[[], T], describe: Callable[[T], str]) -> T:
        try:
            value = action()
        except SheerError:
            raise
        except Exception as error:  # whatever a user's file, transform or module raises: the step is what they need to know
            done = "; ".join(f"{one.name}: {one.result}" for one in steps[-2:])
            raise DataError(f"The step {name!r} fails on {given}: {first_line(error)}. Before it: {done or 'nothing'}.") from error
        steps.append(Step(name=name, result=describe(value)))
        return value

    source, name = feed.source, data_path(feed.data, item)
    if isinstance(source, Photos) and not feed.data.inputs:
        picture = step("decode", name, lambda: source.decode(source.paths[item]), lambda p: f"{name}: {p.width} x {p.height}, {p.mode}")
        pixels = step(f"presize {feed.phase.resize.name}", name, lambda: source.resize.presize(picture, source.size), describe)
        step("cut at the centre", name, lambda: source.resize.cut(pixels, source.size, (0.5, 0.5)), describe)
    elif isinstance(source, Arrays) and not feed.data.inputs:
        step("item", name, lambda: source.inputs[item], describe)
    names = ", ".join(feed.data.classes[:8])
    step("target", name, lambda: feed.target[item], lambda t: f"{feed.data.targets[item]} of {names}: the loss sees {t.tolist()}")
    first = "the first training batch"
    batch = step("batch", first, lambda: next(iter(feed.training(0))), lambda b: f"items {b.index[:6].tolist()}...")
    parts = batch.inputs.parts if isinstance(batch.inputs, Inputs) else {"inputs": batch.inputs}
    for key in parts:
        step(key, first, lambda key=key: parts[key], describe)  # type: ignore[misc]
    shapes = ", ".join(f"{key} {tuple(part.shape)}" for key, part in parts.items())
    scores = step("model", shapes, lambda: scores_of(model, [batch.inputs]), describe)
    wanted = batch.target.cpu()
    step(f"loss {plan.phases[-1].loss.name}", f"scores {tuple(scores.shape)}", lambda: loss(scores, wanted), describe)
    return Preview(steps=tuple(steps))


def describe(value: Any) -> str:
    """An array or tensor in words: shape, type, range, mean."""
    array = value.detach().cpu().float().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)
    kind = str(value.dtype).removeprefix("torch.")
    return f"{tuple(array.shape)} {kind}, {array.min():.4g} to {array.max():.4g}, mean {array.mean():.4g}"
