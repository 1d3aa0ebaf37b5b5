"""The set-ups that can be compared: a learner, an ejected script, or a loop of your own, behind the same few names."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch
from PIL import Image
from torch import nn

from sheer.data.augmentations import mix_of
from sheer.data.feed import data_path
from sheer.data.photos import Photos, to_network
from sheer.errors import DataError, ModelError, PlanError, first_line
from sheer.learner import Learner
from sheer.loop.batch_loss import batch_loss
from sheer.loop.cached import cached
from sheer.loop.engine import prepared, switched
from sheer.loop.feeds import prepared_feeds
from sheer.loop.optimizers import OPTIMIZERS, set_rates
from sheer.loop.step import Loss, train_step
from sheer.loop.train import loss_of, schedule_of, step_of
from sheer.model.prefix import suffix
from sheer.model.stages import parameter_groups, set_modes, set_trainable
from sheer.plan import recipes
from sheer.plan.facts import without_data
from sheer.plan.plan import Phase
from sheer.plan.recipes import Draft
from sheer.streams import stream_key
from sheer.study.compare.keeping import restored
from sheer.study.compare.parts import Parts, parts_of
from sheer.study.compare.trace import Step, is_several

Wrap = Callable[[Step], Step]


@dataclass(frozen=True, kw_only=True, eq=False)
class Loop:
    """A plain PyTorch loop as its parts: `batches` gives pairs (inputs, target) each time it is iterated, like a DataLoader.

    `loss(model(inputs), target)` is a scalar, or one value an item. `step(model, loss, optimizer, inputs, target)` carries out
    one update and returns the loss; the plain one sets the gradients to None, goes forward and backward, and updates.
    `transform` makes the input (C, H, W) of a Pillow picture, as for validation; the steps of a torchvision Compose are compared
    one by one with what the other side, a learner or script, makes of the same photograph.
    """

    model: nn.Module
    loss: Loss
    optimizer: torch.optim.Optimizer
    batches: Iterable[tuple[torch.Tensor, torch.Tensor]]
    step: Step = train_step
    transform: Callable[[Any], torch.Tensor] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.model, nn.Module) or not isinstance(self.optimizer, torch.optim.Optimizer) or not callable(self.loss):
            kinds = ", ".join(type(part).__name__ for part in (self.model, self.loss, self.optimizer))
            raise PlanError(f"A loop needs an nn.Module, a loss that can be called, and a torch optimiser; these are {kinds}.")
        if next(self.model.parameters(), None) is None:
            raise PlanError(f"The {type(self.model).__name__} has no parameters, so no step changes it: give the model that learns.")
        if isinstance(self.batches, Iterator) or not hasattr(self.batches, "__iter__"):
            raise PlanError(
                f"The batches are a {type(self.batches).__name__}: comparing would use them up. Give a list or a DataLoader, which can be "
                "iterated anew."
            )


class Side(ABC):
    """A set-up: its own loop is run with its step wrapped, until the wrapped step raises EnoughError.

    `stream` is the seed and the number of the first step, where the set-up has its own; `about` what it says of its data steps, by
    their names; a run fills `looks` (the first batch after each data step), `items` (the names of each batch's items, if known)
    and `photo`, the file of the first item. `parts` says what each number of an item is, where items are no pictures.
    """

    def __init__(self, name: str, model: nn.Module, stream: tuple[int, int] | None, about: Mapping[str, str]) -> None:
        self.name, self.model, self.stream, self.about = name, model, stream, about
        self.looks: list[tuple[str, torch.Tensor]] = []
        self.items: list[tuple[str, ...]] = []
        self.photo = ""
        self.parts: Parts = ()

    @abstractmethod
    def run(self, wrap: Wrap) -> None: ...

    @abstractmethod
    def looks_of(self, photo: str) -> Iterator[tuple[str, torch.Tensor]]:
        """One photograph after each data step, cut as for validation; nothing where the side makes no inputs of photographs."""


class LoopSide(Side):
    """A loop of your own: it runs on your very objects, which are put back as they were."""

    def __init__(self, loop: Loop, step: Step | None) -> None:
        super().__init__(f"loop of {type(loop.model).__name__}", loop.model, None, {})
        self.loop, self.step = loop, step or loop.step

    def run(self, wrap: Wrap) -> None:
        """Go through the batches."""
        loop, step = self.loop, wrap(self.step)
        device = next(self.model.parameters()).device
        with restored(loop.optimizer, loop.batches):
            for batch in loop.batches:
                pair = isinstance(batch, tuple | list) and len(batch) == 2
                if not pair or not all(isinstance(part, torch.Tensor) or is_several(part) for part in batch):
                    raise DataError(f"A batch of {self.name} is a {type(batch).__name__}: give pairs of tensors, (inputs, target).")
                step(self.model, loop.loss, loop.optimizer, batch[0].to(device), batch[1].to(device))

    def looks_of(self, photo: str) -> Iterator[tuple[str, torch.Tensor]]:
        """The picture as Pillow opens it, after the last resize, after the last crop, and as the network gets it."""
        if self.loop.transform is None:
            return
        with Image.open(photo) as opened:
            value: Any = opened.convert("RGB")
        yield "photo decode", _bytes(value)
        parts = getattr(self.loop.transform, "transforms", [self.loop.transform])
        names = [_data_step(type(part).__name__) for part in parts]
        about = {name: ", ".join(str(part) for part, own in zip(parts, names, strict=True) if own in (name, "resize")) for name in names}
        self.about = {f"photo {name}": text for name, text in about.items() if name}
        for number, (name, part) in enumerate(zip(names, parts, strict=True)):
            value = part(value)
            if name == "resize" and "resize" not in names[number + 1 :]:
                yield "photo resize", _bytes(value)
            if name in ("resize", "cut") and not {"resize", "cut"} & set(names[number + 1 :]):
                yield "photo cut", _bytes(value).permute(2, 0, 1)[None]
        yield "photo normalise", value.detach()[None]


class LearnerSide(Side):
    """The first phase of a learner's plan, or of `recipe`, on a copy of its model as it is now.

    The whole network runs at every step, so that pictures can be compared, but where the phase fits its head.
    """

    def __init__(self, learn: Learner, recipe: Sequence[Draft] | None, step: Step | None) -> None:
        if learn.data is None:
            raise without_data(learn.plan().data)
        done = learn.plan()
        self.plan = learn.plan(recipe) if recipe else done if done.phases else learn.plan(recipes.constant(1, profile=done.profile))
        self.number = len(done.phases) if recipe else 0
        self.data, self.phase = learn.data, self.plan.phases[self.number]
        try:
            model = copy.deepcopy(learn.model)
        except Exception as error:  # whatever a module of one's own raises; it becomes one sentence with its reason
            raise ModelError(f"Comparing works on a copy of the model, and this module cannot be copied: {first_line(error)}.") from error
        only, before = replace(self.plan, phases=self.plan.phases[: self.number + 1]), self.plan.phases[: self.number]
        self.feed = prepared_feeds(self.data, only, self.number, learn._album, learn._functions)[0]
        self.step = step or step_of(self.phase, self.plan.numerics)
        self.first_epoch = sum(phase.epochs for phase in before)
        self.first_step = sum(phase.epochs * phase.steps_per_epoch for phase in before)
        name, about = (
            f"learner {self.plan.model.name} (phase {self.phase.name})",
            about_of(self.feed.source, self.feed.augmentations, self.phase),
        )
        super().__init__(name, model, (self.plan.seed, self.first_step), about)
        self.parts = parts_of(self.data.plan, self.plan.model.channels, self.phase.size)

    def run(self, wrap: Wrap) -> None:
        """What the loop does in this phase, step by step."""
        plan, phase, model = self.plan, self.phase, self.model
        device, stages = torch.device(plan.numerics.device), [stage.prefixes for stage in plan.model.stages]
        loss, mix, schedule = loss_of(phase, self.feed.functions, plan.model.kind), mix_of(phase), schedule_of(phase)
        weights = None if self.data.weights is None else torch.from_numpy(self.data.weights).to(device)
        with switched(plan.numerics), prepared(model, plan.numerics):
            model.to(device, memory_format=self.feed.memory_format)  # type: ignore[call-overload]
            set_trainable(model, stages, phase.trains_from, phase.norm)
            groups = parameter_groups(model, stages, phase.rates, phase.weight_decay, phase.no_decay, plan.model.undecayed)
            optimizer, step, number = phase.optimizer.made(OPTIMIZERS).build(groups), wrap(self.step), 0
            self.looks, self.items = [], []
            if self.data.plan.pictures != "none":
                self.looks = list(self.feed.steps(self.first_epoch))
            modules, feed = (
                cast(tuple[str, ...], phase.prefix.options().get("modules", ())) if phase.optimizer.name == "lbfgs" else (),
                self.feed,
            )
            if modules:  # of features there are no pictures to compare
                self.looks = []
                feed = cached(feed, phase, model, self.first_epoch) or feed
            for epoch in range(self.first_epoch, self.first_epoch + phase.epochs):
                set_modes(model, stages, phase.trains_from, phase.norm)
                run = suffix(model, modules) if modules else model
                for batch in feed.training(epoch):
                    progress = number / (phase.epochs * phase.steps_per_epoch)
                    set_rates(optimizer, schedule.rate(progress), schedule.momentum(progress))
                    key = stream_key(plan.seed, "mix", self.first_step + number)
                    inputs, step_loss = batch_loss(loss, phase, batch, weights, mix, key)
                    if isinstance(self.feed.source, Photos) and not self.data.inputs and not modules:
                        self.photo = self.photo or self.feed.source.paths[batch.index[0]]
                    self.items += [] if modules else [tuple(data_path(self.data, item) for item in batch.index.tolist())]
                    step(run, step_loss, optimizer, inputs, batch.target)
                    number += 1

    def looks_of(self, photo: str) -> Iterator[tuple[str, torch.Tensor]]:
        """By the rules of the phase."""
        if isinstance(self.feed.source, Photos):
            yield from photo_looks(self.feed.source, photo, self.phase)


def photo_looks(photos: Any, photo: str, phase: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """A photograph after each data step of a phase, cut at the centre."""
    picture = photos.decode(photo)
    yield "photo decode", _bytes(picture)
    whole = photos.resize.presize(picture, phase.size)
    yield "photo resize", _bytes(whole)
    cut = _bytes(photos.resize.cut(whole, phase.size, (0.5, 0.5))).permute(2, 0, 1)[None]
    yield "photo cut", cut
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (phase.mean, phase.std))
    yield "photo normalise", to_network(cut, mean, std, torch.contiguous_format)


def _data_step(kind: str) -> str:
    """Which data step a torchvision transform of this class is, "" for none."""
    if "Crop" in kind or "Pad" in kind:
        return "cut"
    return "resize" if "Resize" in kind else "normalise" if "Normalize" in kind else ""


def _bytes(picture: Any) -> torch.Tensor:
    """A picture as uint8 (H, W, C): of Pillow, an array, or a tensor (C, H, W) of bytes or of values in 0..1."""
    if not isinstance(picture, torch.Tensor):
        return torch.from_numpy(np.array(picture))
    values = (picture * 255).round() if picture.is_floating_point() else picture
    return values.to(torch.uint8).permute(1, 2, 0)


def about_of(source: Any, augmentations: Sequence[Any], phase: Phase | Any) -> Mapping[str, str]:
    """The data steps as their settings, from a feed's source or a script's phase; none where there are no pictures."""
    if not getattr(phase, "size", 0):
        return {}
    resize = f"{getattr(source, 'resize', 'pictures in memory')} to {phase.size} px"
    augmented = ", ".join(map(str, augmentations)) or "none"
    normalised = f"mean {phase.mean}, std {phase.std}"
    steps = {"resize": resize, "cut": resize, "augment": augmented, "augment again": augmented, "normalise": normalised}
    return steps | {f"photo {name}": steps[name] for name in ("resize", "cut", "normalise")}
