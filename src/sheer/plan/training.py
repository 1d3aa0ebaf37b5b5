"""How a phase learns: optimiser, loss, updates, averaging and stopping, from what was given and the profile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

from sheer.errors import PlanError, known, nearest
from sheer.plan.augmentations import Function, function_name, source_sha256
from sheer.plan.checks import real, whole
from sheer.plan.parts import LOSS_SETTINGS, choice_of, chosen, optimizer_part
from sheer.plan.plan import Origin, Part, Phase
from sheer.plan.profiles import Choice, Profile
from sheer.plan.recipes import Given, Keep, Stop

SAMPLINGS = ("shuffle", "balanced")
LOSS_MEANS = ("weights", "items")


@dataclass(frozen=True, kw_only=True)
class Training:
    """The values of a phase that are decided here, as the fields of `Phase` of the same names."""

    optimizer: Part
    loss: Part
    class_weights: tuple[float, ...]
    loss_mean: str
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
    optimizer = optimizer_part(str(profile.value("optimizer")) if given.optimizer is None else given.optimizer, profile)
    return Training(
        optimizer=optimizer,
        loss=_loss(given, profile, task),
        class_weights=_class_weights(given.class_weights, counts, task),
        loss_mean=_loss_mean(str(profile.value("loss_mean")) if given.loss_mean is None else given.loss_mean),
        sampling=_sampling(str(profile.value("sampling")) if given.sampling is None else given.sampling, task),
        clip=_number(
            profile.number("clip") if given.clip is None else given.clip,
            "clip",
            "the largest norm of all gradients together, above 0; 0 is off",
            0,
            float("inf"),
        ),
        accumulate=_accumulate(given.accumulate, batch_size),
        ema=_number(given.ema, "ema", "the share of the average that a step keeps, such as 0.99; 0 is off", 0, 1),
        stop=_stop(given.stop, judged_by),
        keep=_keep(str(profile.value("keep")) if given.keep is None else given.keep, judged_by),
        origins=(
            _origin(profile, given.optimizer is None, "optimizer", _optimizer_reason(optimizer, profile)),
            _loss_origin(given, profile, task),
            _origin(profile, given.class_weights is None, "class_weights", "every item counts alike"),
            _origin(profile, given.loss_mean is None, "loss_mean", profile.reason("loss_mean")),
            _origin(profile, given.sampling is None, "sampling", profile.reason("sampling")),
            _origin(profile, given.clip is None, "clip", profile.reason("clip")),
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


def _loss_name(choice: Choice | Function) -> str:
    return repr(choice) if isinstance(choice, str | tuple) else f"your own {function_name(choice)}"


def _loss(given: Given, profile: Profile, task: str) -> Part:
    choice = str(profile.value(f"loss.{task}")) if given.loss is None else given.loss
    if given.label_smoothing is None and (not isinstance(choice, str | tuple) or choice[0] == "own"):
        return own_loss(cast(Function, choice))
    if given.label_smoothing is not None:
        if choice != "cross_entropy":
            what = f"the task here is {task!r}" if task != "classify" else f"the loss here is {_loss_name(choice)}"
            raise PlanError(f"label_smoothing={given.label_smoothing!r} is for the cross-entropy of one class an item; {what}.")
        choice = ("cross_entropy", {"label_smoothing": given.label_smoothing})
    part = chosen(cast(Choice, choice), LOSS_SETTINGS[task], profile, "loss")
    limits = {"label_smoothing": (0, 1), "gamma": (0, float("inf")), "delta": (0, float("inf"))}
    for key, value in part.settings:
        low, high = limits[key]
        if not isinstance(value, int | float) or not low <= value < high:
            raise PlanError(f"{key}={value!r}: give a number of at least {low} and below {high}.")
    return part


def own_loss(given: Choice | Function) -> Part:
    """The part for a loss of your own, by name and source hash: of a function or class, or of what a plan says of one.

    Raises:
        PlanError: an object that is neither a name nor a function or class.
    """
    if isinstance(given, tuple):
        return Part(name="own", settings=tuple(dict(given[1]).items()))
    if not callable(given) or not hasattr(given, "__name__"):
        raise PlanError(
            f"loss={given!r}: give a name, or a function of (output, target) that returns one loss an item, or a class of such objects. Of "
            "an object the plan could not say with what it was made: write a function that calls it, with reduction='none'."
        )
    return Part(name="own", settings=(("function", function_name(given)), ("source_sha256", source_sha256(given))))


def _loss_mean(given: str) -> str:
    if not known(given, LOSS_MEANS):
        raise PlanError(f"loss_mean={given!r}: divide the sum of weighted losses by their 'weights' or by 'items'.")
    return given


def _loss_origin(given: Given, profile: Profile, task: str) -> Origin:
    silent = given.loss is None and given.label_smoothing is None
    reason = profile.reason(f"loss.{task}") + ("; " + profile.reason("loss.label_smoothing") if task == "classify" else "")
    return _origin(profile, silent, "loss", reason)


def _class_weights(given: str | Sequence[float] | None, counts: Sequence[int], task: str) -> tuple[float, ...]:
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
    if not known(given, SAMPLINGS):
        raise PlanError(f"sampling={given!r} is not known. {nearest(str(given), SAMPLINGS)}")
    if given == "balanced" and task != "classify":
        raise PlanError(f"sampling='balanced' is for one class an item; the task here is {task!r}.")
    return given


def _number(given: float | None, field: str, meaning: str, low: float, high: float) -> float:
    try:
        return 0.0 if given is None else real(given, field, low, high)
    except PlanError as error:
        raise PlanError(f"{field}={given!r}: give {meaning}.") from error


def _accumulate(given: int | None, batch_size: int) -> int:
    items = 0 if given is None else whole(given, "accumulate", 0, ", the items that an update takes")
    if items % batch_size:
        raise PlanError(f"accumulate={given!r}: give the items that an update takes, a multiple of the batch size, {batch_size}.")
    return items


def _stop(given: Stop | None, judged_by: Mapping[str, str]) -> Part | None:
    if given is None:
        return None
    metric, patience, *better = given if isinstance(given, tuple | list) and len(given) in (2, 3) else ("valid_loss", given)
    allowed = "give a metric and how many epochs may pass without a better one, such as ('valid_loss', 3)"
    try:
        epochs = whole(patience, "stop", 1)
    except PlanError as error:
        raise PlanError(f"stop={given!r}: {allowed}.") from error
    return Part(name="patience", settings=(*_judged(metric, better, "stop", judged_by), ("epochs", epochs)))


def _keep(given: Keep, judged_by: Mapping[str, str]) -> Part:
    name, metric, *better = given if isinstance(given, tuple | list) and len(given) in (2, 3) else (given, "valid_loss")
    if not isinstance(name, str) or name not in (("last", "best") if name is given else ("best",)):
        raise PlanError(f"keep={given!r}: give 'last', 'best' (by valid_loss) or ('best', METRIC). {nearest(name, ('last', 'best'))}")
    return Part(name=name, settings=_judged(metric, better, "keep", judged_by) if name == "best" else ())


def _judged(metric: object, better: Sequence[object], field: str, judged_by: Mapping[str, str]) -> tuple[tuple[str, str], tuple[str, str]]:
    """The metric, and whether "min" or "max" of it is best: as given, or as is known of it, else "max"."""
    if not isinstance(metric, str) or metric not in judged_by:
        none = "No item is held out (valid=0), so an epoch has its train_loss alone. " if "valid_loss" not in judged_by else ""
        raise PlanError(f"{field}: {metric!r} is no metric of an epoch. {none}{nearest(metric, judged_by)}")
    direction = better[0] if better else judged_by[metric]
    if direction not in ("min", "max"):
        raise PlanError(f"{field}: {direction!r} after the metric {metric!r}: give 'min' or 'max', whichever is best.")
    return ("metric", metric), ("better", str(direction))


def _prefix_choice(phase: Phase) -> Choice:
    own = ("modules", "views") if phase.optimizer.name == "lbfgs" else ("modules",)
    settings = {name: value for name, value in phase.prefix.settings if name not in own}
    settings |= {"views": phase.aside.views} if phase.aside is not None and phase.aside.views is not None else {}
    return (phase.prefix.name, settings) if settings else phase.prefix.name


def given_like(phase: Phase) -> Given:
    """What was given for a phase, so that training on goes on with it; the rest is decided anew."""
    asked = phase.aside or phase
    origins = (*phase.origins, *(phase.aside.origins if phase.aside else ()))
    stop, keep = asked.stop.options() if asked.stop else {}, asked.keep.options()
    given = Given(
        size=phase.size or None,
        batch_size=phase.batch_size,
        norm=phase.norm,
        weight_decay=asked.weight_decay,
        augmentation=asked.augmentation,
        mix=asked.mix or "none",
        resize=phase.resize,
        resident=phase.resident,
        optimizer=choice_of(phase.optimizer),
        loss=choice_of(phase.loss),
        class_weights=phase.class_weights or None,
        loss_mean=phase.loss_mean,
        sampling=asked.sampling,
        clip=asked.clip,
        accumulate=asked.accumulate,
        ema=asked.ema,
        stop=(str(stop["metric"]), int(str(stop["epochs"])), str(stop["better"])) if stop else None,
        prefix=_prefix_choice(phase),
        keep=("best", str(keep["metric"]), str(keep["better"])) if keep else asked.keep.name,
    )
    measured = tuple(origin for origin in origins if origin.by == "measured" and hasattr(given, origin.field))
    yours = {origin.field for origin in origins if origin.by == "you" or (origin.field, origin.by) == ("size", "data")}
    yours |= {"measured", *(origin.field for origin in measured)}
    nobody = {name: None for name in vars(given) if name not in yours}
    return replace(replace(given, measured=measured), **nobody)  # type: ignore[arg-type]
