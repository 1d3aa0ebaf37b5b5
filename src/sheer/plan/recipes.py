"""Recipes: plain functions that return the phases of a way to train, as drafts.

A draft holds what the recipe and the caller decided, each with its origin; the values nobody gave
are filled in by `sheer.plan.defaults` when the draft meets a model and data.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

from sheer.errors import PlanError
from sheer.plan.augmentations import Augmentations, Function, Mix, Resize
from sheer.plan.checks import whole
from sheer.plan.parts import SCHEDULE_SETTINGS, chosen, composed
from sheer.plan.plan import Origin, Part, Phase
from sheer.plan.profiles import Choice, Profile, profile_named
from sheer.plan.rates import Decayed, Rate, check_rates

Stop = int | tuple[str, int] | tuple[str, int, str]
Keep = str | tuple[str, str] | tuple[str, str, str]


@dataclass(frozen=True, kw_only=True)
class Given:
    """What the caller decided beyond the recipe; None: nobody did. `measured` are the origins of values that a probe decided.

    `norm` is a policy for the body in every phase (`train`, `adapt`, `frozen`), or one policy a stage;
    `augmentation` is the name of a set, or a tuple of names from AUGMENTATIONS, (name, {settings}), Parts and functions;
    `resize` a name from RESIZES, (name, {settings}) or a Part; `optimizer`, `loss` and `prefix` a name, or a name with settings;
    `loss` may be a function of your own.
    """

    size: int | None = None
    batch_size: int | None = None
    norm: str | tuple[str, ...] | None = None
    weight_decay: float | None = None
    augmentation: Augmentations | None = None
    mix: Mix | None = None
    resize: Resize | None = None
    resident: bool | None = None
    label_smoothing: float | None = None
    optimizer: Choice | None = None
    loss: Choice | Function | None = None
    prefix: Choice | None = None
    class_weights: str | Sequence[float] | None = None
    loss_mean: str | None = None
    sampling: str | None = None
    clip: float | None = None
    accumulate: int | None = None
    ema: float | None = None
    stop: Stop | None = None
    keep: Keep | None = None
    measured: tuple[Origin, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Draft:
    """A phase before it knows its model and data. `trains_from` counts from the end where negative; `epochs` are the profile's where None.

    `gradual`: one phase a stage instead, each training one stage more, from the last to all of them. `fit`: the head is fitted
    instead, where it can be. `after_fit`: the rate, and why, where the phase before has fitted the head. `share` of the pictures'
    side that the phase would have otherwise.
    """

    profile: str
    name: str
    epochs: int | None
    rate: Rate
    trains_from: int | None
    schedule: Part
    given: Given = field(default_factory=Given)
    gradual: bool = False
    fit: bool = False
    after_fit: tuple[Rate, str] | None = None
    share: float = 1.0
    origins: tuple[Origin, ...]


def merged(first: Given, second: Given) -> Given:
    """What the recipe's caller gave, and where that is silent what the learner's maker gave."""
    values = {name: value for name, value in vars(second).items() if getattr(first, name) is None}
    measured = tuple(origin for origin in second.measured if getattr(first, origin.field) is None)
    return replace(first, **values, measured=measured)


def checked_recipe(recipe: object) -> tuple[Draft | Phase, ...]:
    """What was given as a recipe: drafts, or phases of a plan.

    Raises:
        PlanError: it is no sequence of these.
    """
    if not isinstance(recipe, Sequence) or not all(isinstance(item, Draft | Phase) for item in recipe):
        raise PlanError(f"{recipe!r} is no recipe: give what a function of sheer.recipes returns, such as sheer.recipes.fine_tune(3).")
    return tuple(recipe)


def unrolled(draft: Draft, stages: int, fixed: int = 0) -> tuple[Draft, ...]:
    """The draft itself, or for a gradual one a draft a stage: the last stage alone, the last two, ..., all but `fixed`."""
    each = (replace(draft, name=f"gradual {stages - at}", trains_from=at, gradual=False) for at in reversed(range(fixed, stages)))
    return tuple(each) if draft.gradual else (draft,)


def _origin(name: str, given: bool, reason: str) -> Origin:
    return Origin(field=name, by="you" if given else "recipe", reason="you gave it" if given else reason)


def _asked(epochs: int | None, least: int, more: str = "") -> int | None:
    """The epochs that were asked for; None where the profile's are wanted."""
    return None if epochs is None else whole(epochs, "epochs", least, more)


def _one_cycle(profile: Profile, warmup: str, start_div: str) -> Part:
    """One cycle with the profile's constants of these names."""
    settings = {"warmup": profile.number(warmup), "start_div": profile.number(start_div)}
    return chosen(("one_cycle", settings), SCHEDULE_SETTINGS, profile, "schedule")


def fine_tune(
    epochs: int | None = None,
    *,
    rate: float | None = None,
    freeze_epochs: int | None = None,
    profile: str = "default",
) -> tuple[Draft, ...]:
    """First the head alone, then the whole network at discriminative rates.

    Phase 1 (`frozen`, left out where freeze_epochs is 0): where the profile says so, freeze_epochs is not given and the head is one
    linear layer, it is fitted by L-BFGS to what the frozen body gives (Kumar et al. 2022, arXiv 2202.10054: fine-tuning that starts
    from there keeps more of what the body knows); else the head at `rate`, what moves of the body
    at a tenth of it, warming up throughout. Phase 2 (`unfrozen`): `rate` / 2 for the head, falling
    geometrically to a hundredth of that for the first stage; left out where epochs is 0. Source: fastai 2.8 `fine_tune`.

    Raises:
        PlanError: epochs or freeze_epochs below 0, or both 0, or a rate that is not positive.
    """
    epochs = _asked(epochs, 0, ", of the whole network; 0 for the head alone")
    constants = profile_named(profile)
    base = constants.number("fine_tune.rate") if rate is None else rate
    check_rates([base], base)
    frozen_epochs = int(constants.number("fine_tune.freeze_epochs")) if freeze_epochs is None else freeze_epochs
    frozen_epochs = whole(frozen_epochs, "freeze_epochs", 0)
    frozen = Draft(
        profile=profile,
        name="frozen",
        epochs=max(frozen_epochs, 1),
        rate=slice(base),
        trains_from=-1,
        fit=freeze_epochs is None and constants.value("fine_tune.fit") is True,
        schedule=_one_cycle(constants, "fine_tune.frozen_warmup", "one_cycle.start_div"),
        origins=(
            _origin("name", False, "fine_tune's first phase"),
            _origin("epochs", freeze_epochs is not None, constants.reason("fine_tune.freeze_epochs")),
            _origin("trains_from", False, "only the new head starts from random weights"),
            _origin("rates", rate is not None, f"base rate {base:g}; {constants.reason('rest_divisor')}"),
            _origin("schedule", False, constants.reason("fine_tune.frozen_warmup")),
        ),
    )
    top, low = (base / constants.number(f"fine_tune.{key}_divisor") for key in ("unfrozen", "fitted"))
    spread = constants.number("fine_tune.spread")
    why = f"base rate {base:g}; {constants.reason('fine_tune.fitted_divisor')}; {constants.reason('fine_tune.spread')}"
    unfrozen = Draft(
        profile=profile,
        name="unfrozen",
        epochs=epochs,
        rate=slice(top / spread, top),
        after_fit=(slice(low / spread, low), why) if rate is None else None,
        trains_from=0,
        schedule=_one_cycle(constants, "fine_tune.unfrozen_warmup", "fine_tune.unfrozen_start_div"),
        origins=(
            _origin("name", False, "fine_tune's second phase"),
            Origin(field="epochs", by="you", reason="you gave it"),
            _origin("trains_from", False, "the head is warm: everything trains"),
            _origin("rates", rate is not None, f"base rate {base:g} halved, {constants.reason('fine_tune.spread')}"),
            _origin("schedule", False, constants.reason("fine_tune.unfrozen_warmup")),
        ),
    )
    if not frozen_epochs and epochs == 0:
        raise PlanError("epochs=0 and freeze_epochs=0: there would be nothing to train. Give one of them at least 1.")
    return (*[frozen] * (frozen_epochs > 0), *[unfrozen] * (epochs != 0))


SCHEDULE_REASONS = {
    "one_cycle": "up to the peak and down again",
    "constant": "the rate does not move",
    "flat_cosine": "the peak rate for most of the steps, then down to near 0",
    "sgdr": "cosine cycles, each restarting at the peak",
    "linear": "a straight line",
    "polynomial": "fast at first, then slowly",
    "exponential": "equal ratios",
    "step": "the same rate for a stretch, then a fraction of it",
    "composed": "one schedule after another",
}


def scheduled(
    epochs: int | None = None,
    *,
    schedule: Choice | Sequence[tuple[Choice, float]] = "flat_cosine",
    rate: Rate | None = None,
    decay: float | None = None,
    profile: str = "default",
) -> tuple[Draft, ...]:
    """One phase under any schedule, on the stages that train as the learner stands.

    Args:
        epochs: How many.
        schedule: A name from SCHEDULES; a name and settings, `("sgdr", {"cycles": 3})`; or several of
            these one after another, each with its share of the steps,
            `[(("linear", {"start": 0.1, "end": 1.0}), 0.2), ("flat_cosine", 0.8)]`.
        rate: The peak: a number, a slice, or one number a stage.
        decay: Each stage's rate is this times the next one's; `rate` is the last stage's, one number.
        profile: Whose constants fill what is not given.

    Raises:
        PlanError: epochs below 1, an unknown schedule or setting, or decay with a rate that is no number.
    """
    epochs = _asked(epochs, 1)
    constants = profile_named(profile)
    if isinstance(schedule, str) or (isinstance(schedule, tuple) and schedule and isinstance(schedule[0], str)):
        part = chosen(cast(Choice, schedule), SCHEDULE_SETTINGS, constants, "schedule")
    else:
        part = composed(schedule, profile=constants)
    return (_single(constants, part.name, epochs, rate, decay, part, SCHEDULE_REASONS[part.name]),)


def one_cycle(
    epochs: int | None = None, *, rate: Rate | None = None, decay: float | None = None, profile: str = "default"
) -> tuple[Draft, ...]:
    """One phase up to `rate` and down again: `scheduled` with one_cycle.

    Source: Smith 2018 (arXiv 1803.09820), with fastai 2.8's constants.
    """
    return scheduled(epochs, schedule="one_cycle", rate=rate, decay=decay, profile=profile)


def constant(
    epochs: int | None = None, *, rate: Rate | None = None, decay: float | None = None, profile: str = "default"
) -> tuple[Draft, ...]:
    """One phase at one rate and momentum: `scheduled` with constant."""
    return scheduled(epochs, schedule="constant", rate=rate, decay=decay, profile=profile)


def flat_cosine(
    epochs: int | None = None, *, rate: Rate | None = None, decay: float | None = None, profile: str = "default"
) -> tuple[Draft, ...]:
    """One phase at the peak rate, then down: `scheduled` with flat_cosine. Source: fastai's fit_flat_cos."""
    return scheduled(epochs, schedule="flat_cosine", rate=rate, decay=decay, profile=profile)


def sgdr(epochs: int | None = None, *, rate: Rate | None = None, decay: float | None = None, profile: str = "default") -> tuple[Draft, ...]:
    """One phase of cosine cycles: `scheduled` with sgdr. Source: Loshchilov, Hutter 2017."""
    return scheduled(epochs, schedule="sgdr", rate=rate, decay=decay, profile=profile)


def progressive(
    epochs: int | None = None, *, sizes: tuple[int, ...] | None = None, rate: float | None = None, profile: str = "default"
) -> tuple[Draft, ...]:
    """Progressive resizing: `fine_tune` at the first size, then `epochs` of one cycle at each further size.

    The pictures' sides are `sizes`, in pixels; where not given, shares of the learner's own size. The rates of the further
    sizes are those of fine_tune's second phase.

    Raises:
        PlanError: epochs below 1, or sizes that are no positive whole numbers.
    """
    epochs = _asked(epochs, 1)
    constants = profile_named(profile)
    if sizes is not None and (isinstance(sizes, str) or not isinstance(sizes, Sequence) or not sizes):
        raise PlanError(f"sizes={sizes!r}: give the sides of the pictures in pixels, such as (96, 128, 160).")
    steps: list[dict[str, Any]] = [
        {"given": Given(size=whole(size, "sizes", 1, ", the side of the pictures in pixels"))} for size in sizes or ()
    ] or [{"share": share} for share in cast(tuple[float, ...], constants.value("progressive.shares"))]
    names = [f"{size} px" for size in sizes or ()] or [f"{step['share']:.0%} size" for step in steps]
    why = _origin("size", sizes is not None, constants.reason("progressive.shares"))
    first = fine_tune(epochs, rate=rate, profile=profile)
    unfrozen = first[-1]
    further = _one_cycle(constants, "one_cycle.warmup", "one_cycle.start_div")
    drafts = [replace(draft, **steps[0], origins=(*draft.origins, why)) for draft in first]
    for name, step in zip(names[1:], steps[1:], strict=True):
        kept = tuple(origin for origin in unfrozen.origins if origin.field not in ("name", "schedule"))
        named = _origin("name", False, "a further size of progressive")
        cycle = _origin("schedule", False, constants.reason("one_cycle.warmup"))
        drafts.append(replace(unfrozen, name=name, schedule=further, **step, origins=(*kept, named, cycle, why)))
    return tuple(drafts)


def gradual(epochs: int | None = None, *, rate: float | None = None, profile: str = "default") -> tuple[Draft, ...]:
    """Gradual unfreezing: a phase a stage, the last stage alone, then one stage more each, one cycle of `epochs` each.

    Source: Howard, Ruder 2018 (ULMFiT); the rates fall towards the first stage as in `fine_tune`.

    Raises:
        PlanError: epochs below 1, or a rate that is not positive.
    """
    epochs = _asked(epochs, 1)
    constants = profile_named(profile)
    base = constants.number("fine_tune.rate") if rate is None else rate
    check_rates([base], base)
    (draft,) = one_cycle(epochs, rate=slice(base / constants.number("fine_tune.spread"), base), profile=profile)
    kept = tuple(origin for origin in draft.origins if origin.field not in ("name", "rates"))
    named = _origin("name", False, "how many stages train")
    rates = _origin("rates", rate is not None, f"base rate {base:g}; {constants.reason('fine_tune.spread')}")
    thaws = _origin("trains_from", False, "one stage more a phase, the last first")
    return (replace(draft, name="gradual", gradual=True, origins=(*kept, named, rates, thaws)),)


def linear_probe(epochs: int = 0, *, rate: float | None = None, profile: str = "default") -> tuple[Draft, ...]:
    """The head alone, one cycle, or fitted as by `fine_tune(0)` where epochs is 0; the body stays frozen under the profile's norm policy.

    Raises:
        PlanError: epochs below 0.
    """
    if whole(epochs, "epochs", 0, "; 0 fits the head") == 0:
        return fine_tune(0, rate=rate, profile=profile)
    (draft,) = one_cycle(epochs, rate=slice(rate) if rate is not None else None, profile=profile)
    kept = tuple(origin for origin in draft.origins if origin.field not in ("trains_from", "name"))
    why = _origin("trains_from", False, "a probe trains the head alone")
    name = _origin("name", False, "the recipe's only phase")
    return (replace(draft, name="probe", trains_from=-1, origins=(*kept, why, name)),)


def of_profile(epochs: int | None = None, *, profile: str = "default") -> tuple[Draft, ...]:
    """What the profile's source itself trains: its phases, schedules and rates, in `epochs` of its last phase.

    Phases before it have as many times its epochs as in the source. A profile without phases of its own trains as `fine_tune`.

    Raises:
        PlanError: epochs below 1.
    """
    constants = profile_named(profile)
    usual = cast(tuple[int, int, int], constants.value("epochs"))[0] if epochs is None else whole(epochs, "epochs", 1)
    drafts = []
    for stretch in constants.stretches:
        rate = slice(*stretch.rate) if isinstance(stretch.rate, tuple) else stretch.rate
        count = max(1, round(usual * stretch.times))
        (draft,) = scheduled(count, schedule=stretch.schedule, rate=rate, profile=profile)
        trains_from = -1 if stretch.frozen else 0
        fields = ("name", "epochs", "trains_from", "rates", "schedule")
        origins = tuple(_origin(field, False, stretch.reason) for field in fields)
        drafts.append(replace(draft, name=stretch.name, trains_from=trains_from, origins=origins))
    return tuple(drafts) or fine_tune(epochs, profile=profile)


def _single(constants: Profile, name: str, epochs: int | None, rate: Rate | None, decay: float | None, schedule: Part, why: str) -> Draft:
    own = constants.number("rate")
    peak = (slice(own) if constants.value("rate.sliced") else own) if rate is None else rate
    if decay is not None:
        if isinstance(peak, bool) or not isinstance(peak, int | float):
            raise PlanError(f"rate={rate!r} with decay={decay!r}: with a decay the rate is the last stage's, one number.")
        peak = Decayed(last=peak, factor=decay)
    return Draft(
        profile=constants.name,
        name=name,
        epochs=epochs,
        rate=peak,
        trains_from=None,
        schedule=schedule,
        origins=(
            _origin("name", False, "the recipe's only phase"),
            Origin(field="epochs", by="you", reason="you gave it"),
            _origin("rates", rate is not None or decay is not None, constants.reason("rate")),
            _origin("schedule", False, why),
        ),
    )


RECIPES: dict[str, Callable[..., tuple[Draft, ...]]] = {
    "fine_tune": fine_tune,
    "one_cycle": one_cycle,
    "constant": constant,
    "linear_probe": linear_probe,
    "scheduled": scheduled,
    "flat_cosine": flat_cosine,
    "sgdr": sgdr,
    "progressive": progressive,
    "gradual": gradual,
    "of_profile": of_profile,
}
