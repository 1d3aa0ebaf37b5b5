"""How a phase learns: optimiser, loss, updates, averaging and stopping, from what was given and the profile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from sheer.errors import PlanError, nearest
from sheer.plan.parts import LOSS_SETTINGS, choice_of, chosen, optimizer_part
from sheer.plan.plan import Origin, Part, Phase
from sheer.plan.profiles import Profile
from sheer.plan.recipes import Given

SAMPLINGS = ("shuffle", "balanced")


@dataclass(frozen=True, kw_only=True)
class Training:
    """The values of a phase that are decided here, as the fields of `Phase` of the same names."""

    optimizer: Part
    loss: Part
    class_weights: tuple[float, ...]
    sampling: str
    clip: float
    accumulate: int
    ema: float
    stop: Part | None
    keep: Part
    origins: tuple[Origin, ...]


def training_values(
    given: Given, profile: Profile, *, task: str, batch_size: int, counts: Sequence[int], judged_by: Mapping[str, str]
) -> Training:
    """The values for one phase.

    Args:
        given, profile: What the caller decided, and who decides the rest.
        task: The kind of task, which says what losses there are.
        batch_size: Items that go through the network at a time.
        counts: The training items of each class; empty for numbers.
        judged_by: What an epoch may be judged by, and whether "min" or "max" of it is best.

    Raises:
        PlanError: a value is not allowed.
    """
    optimizer = optimizer_part(given.optimizer or str(profile.value("optimizer")), profile)
    return Training(
        optimizer=optimizer,
        loss=_loss(given, profile, task),
        class_weights=_class_weights(given.class_weights, counts, task),
        sampling=_sampling(given.sampling or str(profile.value("sampling")), task),
        clip=_number(given.clip, "clip", "the largest norm of all gradients together, above 0; 0 is off", 0, float("inf")),
        accumulate=_accumulate(given.accumulate, batch_size),
        ema=_number(given.ema, "ema", "the share of the average that a step keeps, such as 0.99; 0 is off", 0, 1),
        stop=_stop(given.stop, judged_by),
        keep=_keep(given.keep or str(profile.value("keep")), judged_by),
        origins=(
            _origin(profile, given.optimizer is None, "optimizer", _optimizer_reason(optimizer, profile)),
            _loss_origin(given, profile, task),
            _origin(profile, given.class_weights is None, "class_weights", "every item counts alike"),
            _origin(profile, given.sampling is None, "sampling", profile.reason("sampling")),
            _origin(profile, given.clip is None, "clip", "gradients as they are"),
            _origin(profile, given.accumulate is None, "accumulate", "an update a batch"),
            _origin(profile, given.ema is None, "ema", "the weights themselves"),
            _origin(profile, given.stop is None, "stop", "every epoch of the plan"),
            _origin(profile, given.keep is None, "keep", profile.reason("keep")),
        ),
    )


def _origin(profile: Profile, silent: bool, field: str, reason: str) -> Origin:
    return Origin(field=field, by="default", reason=reason) if silent else Origin(field=field, by="you", reason="you gave it")


def _optimizer_reason(optimizer: Part, profile: Profile) -> str:
    keys = [key for key in ("beta2", "eps", "implementation") if key in optimizer.options()]
    return "; ".join([profile.reason("optimizer"), *(profile.reason(key) for key in keys)])


def _loss(given: Given, profile: Profile, task: str) -> Part:
    choice = given.loss or str(profile.value(f"loss.{task}"))
    if given.label_smoothing is not None:
        if choice != "cross_entropy":
            what = f"the task here is {task!r}" if task != "classify" else f"the loss here is {choice!r}"
            raise PlanError(f"label_smoothing={given.label_smoothing!r} is for the cross-entropy of one class an item; {what}.")
        choice = ("cross_entropy", {"label_smoothing": given.label_smoothing})
    part = chosen(choice, LOSS_SETTINGS[task], profile, "loss")
    limits = {"label_smoothing": (0, 1), "gamma": (0, float("inf")), "delta": (0, float("inf"))}
    for key, value in part.settings:
        low, high = limits[key]
        if not isinstance(value, int | float) or not low <= value < high:
            raise PlanError(f"{key}={value!r}: give a number of at least {low} and below {high}.")
    return part


def _loss_origin(given: Given, profile: Profile, task: str) -> Origin:
    silent = given.loss is None and given.label_smoothing is None
    reason = profile.reason(f"loss.{task}") + ("; " + profile.reason("loss.label_smoothing") if task == "classify" else "")
    return _origin(profile, silent, "loss", reason)


def _class_weights(given: str | tuple[float, ...] | None, counts: Sequence[int], task: str) -> tuple[float, ...]:
    """`balanced`: items / (classes * items of the class), so that the mean over items is 1."""
    if given is None:
        return ()
    if task != "classify":
        raise PlanError(f"class_weights={given!r}: they are for one class an item; the task here is {task!r}.")
    if given == "balanced":
        present = [count for count in counts if count]
        return tuple(sum(counts) / (len(present) * count) if count else 0.0 for count in counts)
    numbers = isinstance(given, tuple | list) and all(isinstance(v, int | float) and not isinstance(v, bool) and v >= 0 for v in given)
    if not numbers or len(given) != len(counts) or not 0 < sum(map(float, given)) < float("inf"):
        raise PlanError(f"class_weights={given!r}: give 'balanced', or {len(counts)} numbers of at least 0, one a class.")
    return tuple(float(value) for value in given)


def _sampling(given: str, task: str) -> str:
    if given not in SAMPLINGS:
        raise PlanError(f"sampling={given!r} is not known. {nearest(str(given), SAMPLINGS)}")
    if given == "balanced" and task != "classify":
        raise PlanError(f"sampling='balanced' is for one class an item; the task here is {task!r}.")
    return given


def _number(given: float | None, field: str, meaning: str, low: float, high: float) -> float:
    if given is None:
        return 0.0
    if isinstance(given, bool) or not isinstance(given, int | float) or not low <= given < high:
        raise PlanError(f"{field}={given!r}: give {meaning}.")
    return float(given)


def _accumulate(given: int | None, batch_size: int) -> int:
    if given is None or given == 0:
        return 0
    if isinstance(given, bool) or not isinstance(given, int) or given < 1 or given % batch_size:
        raise PlanError(f"accumulate={given!r}: give the items that an update takes, a multiple of the batch size, {batch_size}.")
    return given


def _stop(given: int | tuple[str, int] | None, judged_by: Mapping[str, str]) -> Part | None:
    if given is None:
        return None
    metric, patience = ("valid_loss", given) if isinstance(given, int) else given
    if isinstance(patience, bool) or not isinstance(patience, int) or patience < 1:
        raise PlanError(f"stop={given!r}: give a metric and how many epochs may pass without a better one, such as ('valid_loss', 3).")
    return Part(name="patience", settings=(*_judged(metric, "stop", judged_by), ("epochs", patience)))


def _keep(given: str | tuple[str, str], judged_by: Mapping[str, str]) -> Part:
    name, metric = (given, "valid_loss") if isinstance(given, str) else given
    if name not in ("last", "best") or (name == "last" and not isinstance(given, str)):
        raise PlanError(f"keep={given!r}: give 'last', 'best' (by valid_loss) or ('best', METRIC). {nearest(str(name), ('last', 'best'))}")
    return Part(name=name, settings=_judged(metric, "keep", judged_by) if name == "best" else ())


def _judged(metric: str, field: str, judged_by: Mapping[str, str]) -> tuple[tuple[str, str], tuple[str, str]]:
    if metric not in judged_by:
        raise PlanError(f"{field}: {metric!r} is no metric of an epoch. {nearest(str(metric), judged_by)}")
    return ("metric", metric), ("better", judged_by[metric])


def given_like(phase: Phase) -> Given:
    """What was given for a phase, so that training on goes on with it; the rest is decided anew."""
    given = Given(
        size=phase.size or None,
        batch_size=phase.batch_size,
        norm=phase.norm,
        weight_decay=phase.weight_decay,
        augmentation=phase.augmentation,
        mix=phase.mix or "none",
        resize=phase.resize,
        optimizer=choice_of(phase.optimizer),
        loss=choice_of(phase.loss),
        class_weights=phase.class_weights or None,
        sampling=phase.sampling,
        clip=phase.clip,
        accumulate=phase.accumulate,
        ema=phase.ema,
        stop=(str(phase.stop.options()["metric"]), int(str(phase.stop.options()["epochs"]))) if phase.stop else None,
        keep=("best", str(phase.keep.options()["metric"])) if phase.keep.settings else phase.keep.name,
    )
    yours = {origin.field for origin in phase.origins if origin.by == "you" or (origin.field, origin.by) == ("size", "data")}
    return replace(given, **{name: None for name in vars(given) if name not in yours})
