"""Other channels than red, green and blue: how many there are, by which rule they enter, and their statistics."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import nn

from sheer.errors import ModelError, PlanError, known, nearest
from sheer.model.channels import CHANNEL_INITS, widen
from sheer.plan.facts import InputFacts
from sheer.plan.plan import Origin
from sheer.plan.profiles import Profile


@dataclass(frozen=True, kw_only=True)
class Channels:
    """How many channels the inputs have (0: they are no pictures), the rule for the first convolution, and who decided."""

    count: int
    rule: str
    origins: tuple[Origin, ...]


def _origins(count_by: str, count_why: str, rule_by: str, rule_why: str) -> tuple[Origin, ...]:
    return (Origin(field="channels", by=count_by, reason=count_why), Origin(field="channel_init", by=rule_by, reason=rule_why))


RGB = Channels(
    count=3,
    rule="kept",
    origins=_origins("data", "photographs are decoded to red, green and blue", "weights", "the weights know three channels"),
)
NUMBERS = Channels(count=0, rule="kept", origins=_origins("data", "the inputs are no pictures", "data", "the inputs are no pictures"))


def choose_channels(arrays: torch.Tensor | None, count: int | None, rule: str | None, profile: Profile, *, named: bool) -> Channels:
    """The channels of photographs (`arrays` None) or of arrays, checked against what was given.

    Raises:
        PlanError: another count than the data has, or a rule that is not known or not needed.
    """
    if count is not None and (isinstance(count, bool) or not isinstance(count, int) or count < 1):
        raise PlanError(f"channels={count!r}: give a whole number of at least 1.")
    if rule is not None and not known(rule, CHANNEL_INITS):
        raise PlanError(f"channel_init={rule!r} is no rule for the first convolution. {nearest(rule, CHANNEL_INITS)}")
    if arrays is None and count not in (None, 1, 3):
        raise PlanError(
            f"channels={count}: photographs are decoded to three channels, or made grey with channels=1. Give pictures with others as "
            f"sheer.arrays: uint8, (items, {count}, side, side)."
        )
    has = (count or 3) if arrays is None else int(arrays.shape[1]) if arrays.ndim == 4 else 0
    if count not in (None, has):
        raise PlanError(
            f"channels={count}: the arrays have {has or 'none: they are no pictures'}. Leave channels away, or change the arrays."
        )
    if rule is not None and (has in (0, 3) or not named):
        raise PlanError(
            f"channel_init={rule!r} is for networks by name and pictures with other than three channels; "
            "here the first layer stays as it is."
        )
    by, why = ("you", "you gave it") if count is not None else ("data", RGB.origins[0].reason if arrays is None else "as the arrays have")
    if has in (0, 3) or not named:
        why_kept = RGB.origins[1].reason if named else "your own module takes what it takes"
        return Channels(count=has, rule="kept", origins=_origins(by, why, "weights" if named else "you", why_kept))
    chosen = rule or str(profile.value("channel_init"))
    rule_why = "you gave it" if rule else profile.reason("channel_init")
    return Channels(count=has, rule=chosen, origins=_origins(by, why, "you" if rule else "default", rule_why))


def widened(body: nn.Module, name: str, count: int, rule: str) -> nn.Module:
    """The body for `count` channels, its first convolution widened in place by the rule; `kept` leaves it.

    Raises:
        ModelError: it has no single first convolution.
    """
    if rule == "kept":
        return body
    try:
        return widen(body, count, rule)
    except ValueError as error:
        raise ModelError(f"{name} cannot take {count} channels: {error}. Choose another model, or give three channels.") from error


def extended(inputs: InputFacts, count: int, pixels: torch.Tensor | None) -> InputFacts:
    """Mean and std for `count` channels: 1 the average of the known three; else measured, from 4 on behind the known three.

    `pixels` are the training items, uint8 (N, count, S, S); without them the average takes the place of what was not measured.
    """
    if count in (0, 3):
        return inputs
    average = (sum(inputs.mean) / 3, sum(inputs.std) / 3)
    if count == 1 or pixels is None:
        known = 3 if count > 3 else 0
        mean = (*inputs.mean[:known], *[average[0]] * (count - known))
        std = (*inputs.std[:known], *[average[1]] * (count - known))
        return replace(inputs, mean=mean, std=std, source=f"{inputs.source}, averaged over the three channels")
    measured = [_statistics(pixels[:, number]) for number in range(count)]
    known = 3 if count > 3 else 0
    source = f"measured on the {len(pixels)} training items"
    return replace(
        inputs,
        mean=(*inputs.mean[:known], *(mean for mean, _ in measured[known:])),
        std=(*inputs.std[:known], *(std for _, std in measured[known:])),
        source=f"the first three: {inputs.source}; the others {source}" if known else source,
        statistics_by="measured",
    )


def _statistics(pixels: torch.Tensor) -> tuple[float, float]:
    """Mean and standard deviation of uint8 pixels in 0 .. 1; a constant channel gets 1, so that it becomes 0."""
    counts = torch.zeros(256, dtype=torch.float64)
    for items in pixels.split(64):
        counts += torch.bincount(items.reshape(-1).to(torch.int64), minlength=256)
    values, total = torch.arange(256, dtype=torch.float64) / 255, counts.sum()
    mean = (counts * values).sum() / total
    std = ((counts * (values - mean) ** 2).sum() / total).sqrt()
    return float(mean), float(std) if int((counts > 0).sum()) > 1 else 1.0
