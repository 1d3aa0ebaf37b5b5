"""What may be wrong with a network's inputs: each alarm with the numbers that say so, and a remedy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sheer.model.pretrained import IMAGENET
from sheer.plan.facts import InputFacts
from sheer.plan.plan import Phase, Plan

FAR = 1.0
FEW = 10
UNEVEN = 10
SMALL = 0.5


@dataclass(frozen=True, kw_only=True)
class Alarm:
    """What is probably wrong or wasteful, the numbers that say so, and what to do."""

    what: str
    evidence: str
    remedy: str


@dataclass(frozen=True, kw_only=True)
class Channel:
    """One channel as the network sees it, after normalisation: values, and `pixel_mean` undone to 0 .. 1.

    `trained_mean` and `trained_std` are those of the pictures that the weights were trained on, in 0 .. 1.
    """

    name: str
    low: float
    high: float
    mean: float
    std: float
    pixel_mean: float
    trained_mean: float
    trained_std: float


def pixel_alarms(found: Sequence[Channel], phase: Phase, inputs: InputFacts, drift: float | None, *, pictures: bool) -> list[Alarm]:
    """Values that are not about 0 and 1, other statistics than the weights', a first norm layer far from what it knows."""
    alarms = []
    worst = max(found, key=lambda one: abs(one.mean))
    if abs(worst.mean) > 2 * FAR or any(one.std > 5 or one.std < 0.1 for one in found):
        seen = f"{worst.name}: mean {worst.mean:.2f}, std {worst.std:.2f}, {worst.low:.4g} to {worst.high:.4g}; about 0 and 1 were expected"
        remedy = "Numbers go in as they are: standardise them."
        if phase.mean:
            remedy = "Are the pictures nearly black, white or of one colour? Look: show_batch()."
        elif pictures and worst.high > 100:
            remedy = "Give bytes (uint8) as pictures, which are normalised, or divide by 255 and normalise yourself."
        alarms.append(Alarm(what="The inputs are not normalised", evidence=seen, remedy=remedy))
    if phase.mean and (phase.mean, phase.std) != (inputs.mean, inputs.std):
        seen = f"mean {phase.mean} and std {phase.std}, the weights' own are {inputs.mean} and {inputs.std}"
        alarms.append(Alarm(what="Normalised by other statistics than the weights'", evidence=seen, remedy="Take the weights' own."))
    if drift is not None and drift > FAR:
        seen = f"they are {drift:.2f} standard deviations from its running means, 0.1 is usual for photographs"
        remedy = "Check range and normalisation; where the pictures really are of another kind, norm='train' adapts to them."
        alarms.append(Alarm(what="The first norm layer gets inputs that it was not trained on", evidence=seen, remedy=remedy))
    return alarms


def order_alarm(found: Sequence[Channel], drift: float, turned: float) -> list[Alarm]:
    """The alarm of red and blue swapped, where `swap_seen` sees it."""
    seen = swap_seen([one.pixel_mean for one in found], drift, turned)
    if seen is None:
        return []
    remedy = "Were the pictures read as blue, green, red (OpenCV)? Reverse the channels of the arrays or files."
    return [Alarm(what="Red and blue may be swapped", evidence=seen, remedy=remedy)]


def swap_seen(means: Sequence[float], drift: float, turned: float) -> str | None:
    """Evidence of red and blue swapped, only where both measurements give it: channel means (in 0 .. 1) nearer to natural pictures'
    when reversed, and the first norm layer's inputs nearer to its running means too (`turned` against `drift`).
    """

    def far(means: Sequence[float]) -> float:
        return sum(abs((m - sum(means) / 3) - (n - sum(IMAGENET.mean) / 3)) for m, n in zip(means, IMAGENET.mean, strict=True))

    straight, reverse = far(means), far(means[::-1])
    if not (reverse < 0.7 * straight and turned < 0.9 * drift):
        return None
    return (
        f"reversed, the channel means are {reverse:.3f} from those of natural pictures instead of {straight:.3f}, and the first norm "
        f"layer's inputs {turned:.2f} standard deviations off instead of {drift:.2f}"
    )


def size_alarms(plan: Plan, phase: Phase, inputs: InputFacts, side: int, scale: float, enlarged: float) -> list[Alarm]:
    """A last map of one cell, objects much smaller than in pretraining, photographs that are blown up."""
    alarms = []
    if side == 1:
        concat = plan.model.head is not None and plan.model.head.name == "concat_pool"
        waste = "concat pooling is redundant: of one cell maximum and average are the same, so half of the head's "
        waste += f"{2 * plan.model.features:,} inputs repeat the other half"
        what = f"The last map is 1 x 1; {waste}" if concat else "The last map is 1 x 1: nothing is left of where things are"
        seen = f"{phase.size} px over a stride of {plan.model.stride}"
        remedy = f"Try sizes from {2 * plan.model.stride} to {inputs.size}: learner(..., size={2 * plan.model.stride})."
        alarms.append(Alarm(what=what, evidence=seen, remedy=remedy))
    if phase.size and scale < SMALL:
        seen = f"{phase.size} px here, {inputs.size} px in pretraining: objects appear at {scale:.2f} of their size there"
        alarms.append(
            Alarm(
                what="Objects are much smaller than in pretraining",
                evidence=seen,
                remedy=f"Try sizes from {max(64, phase.size // 32 * 32 + 32)} to {inputs.size}.",
            )
        )
    if enlarged > 2:
        seen = f"the median photograph is enlarged {enlarged:.1f} times"
        alarms.append(
            Alarm(
                what="The photographs hold less detail than the size",
                evidence=seen,
                remedy="That may still help; a smaller size is faster.",
            )
        )
    return alarms


def label_alarms(labels: Sequence[tuple[str, int, int]]) -> list[Alarm]:
    """Counts far apart, labels with few items, labels that are not held out; a row is (label, to learn from, held out)."""
    alarms = []
    counts = {name: train for name, train, _ in labels}
    if not counts:
        return []
    most, least = max(counts, key=lambda name: counts[name]), min(counts, key=lambda name: counts[name])
    if counts[most] >= UNEVEN * max(counts[least], 1):
        remedy = "Read balanced accuracy; class_weights='balanced' or sampling='balanced' may help the rare ones."
        seen = f"{most!r} has {counts[most]} items to learn from, {least!r} {counts[least]}"
        alarms.append(Alarm(what="Labels are out of balance", evidence=seen, remedy=remedy))
    few = [name for name, train in counts.items() if train < FEW]
    if few:
        seen = ", ".join(f"{name} {counts[name]}" for name in few[:5])
        alarms.append(
            Alarm(
                what=f"Labels with fewer than {FEW} items to learn from: {len(few)}", evidence=seen, remedy="Collect more, or join classes."
            )
        )
    unseen = [name for name, _, valid in labels if not valid]
    if unseen:
        remedy = "Hold out more, or split by class (split='stratified')."
        alarms.append(Alarm(what="Labels without held-out items", evidence=", ".join(unseen[:5]), remedy=remedy))
    return alarms
