"""Recipes: plain functions that return the phases of a way to train, as drafts.

A draft holds what the recipe and the caller decided, each with its origin; the values nobody gave
are filled in by `sheer.plan.defaults` when the draft meets a model and data.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from sheer.plan.augmentations import Augmentations, Mix
from sheer.plan.checks import whole
from sheer.plan.plan import Origin, Part
from sheer.plan.profiles import Profile, profile_named
from sheer.plan.rates import Rate, check_rates


@dataclass(frozen=True, kw_only=True)
class Given:
    """What the caller decided beyond the recipe; None: nobody did.

    `norm` is a policy for the frozen stages (`train`, `adapt`, `frozen`), or one policy a stage;
    `augmentation` is the name of a set, or a tuple of names from AUGMENTATIONS, (name, {settings}), Parts and functions;
    `resize` a name from RESIZES, or a Part with settings.
    """

    size: int | None = None
    batch_size: int | None = None
    norm: str | tuple[str, ...] | None = None
    weight_decay: float | None = None
    augmentation: Augmentations | None = None
    mix: Mix | None = None
    resize: str | Part | None = None
    label_smoothing: float | None = None


@dataclass(frozen=True, kw_only=True)
class Draft:
    """A phase before it knows its model and data. `trains_from` counts from the end where negative."""

    profile: str
    name: str
    epochs: int
    rate: Rate
    trains_from: int | None
    schedule: Part
    given: Given = field(default_factory=Given)
    origins: tuple[Origin, ...]


def _origin(name: str, given: bool, reason: str) -> Origin:
    return Origin(field=name, by="you" if given else "recipe", reason="you gave it" if given else reason)


def _one_cycle(profile: Profile, *, warmup: float, start_div: float) -> Part:
    settings = {
        "warmup": warmup,
        "start_div": start_div,
        "end_div": profile.number("one_cycle.end_div"),
        "momentum_high": profile.number("momentum_high"),
        "momentum_low": profile.number("momentum_low"),
    }
    return Part(name="one_cycle", settings=tuple(settings.items()))


def fine_tune(
    epochs: int,
    *,
    rate: float | None = None,
    freeze_epochs: int | None = None,
    profile: str = "default",
) -> tuple[Draft, ...]:
    """First the head alone, then the whole network at discriminative rates.

    Phase 1 (`frozen`, left out where freeze_epochs is 0): the head at `rate`, what moves of the body
    at a tenth of it, warming up throughout. Phase 2 (`unfrozen`): `rate` / 2 for the head, falling
    geometrically to a hundredth of that for the first stage. Source: fastai 2.8 `fine_tune`.

    Raises:
        PlanError: epochs below 1, freeze_epochs below 0, or a rate that is not positive.
    """
    epochs = whole(epochs, "epochs", 1)
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
        schedule=_one_cycle(
            constants,
            warmup=constants.number("fine_tune.frozen_warmup"),
            start_div=constants.number("one_cycle.start_div"),
        ),
        origins=(
            _origin("name", False, "fine_tune's first phase"),
            _origin("epochs", freeze_epochs is not None, constants.reason("fine_tune.freeze_epochs")),
            _origin("trains_from", False, "only the new head starts from random weights"),
            _origin("rates", rate is not None, f"base rate {base:g}; {constants.reason('rest_divisor')}"),
            _origin("schedule", False, constants.reason("fine_tune.frozen_warmup")),
        ),
    )
    top = base / constants.number("fine_tune.unfrozen_divisor")
    unfrozen = Draft(
        profile=profile,
        name="unfrozen",
        epochs=epochs,
        rate=slice(top / constants.number("fine_tune.spread"), top),
        trains_from=0,
        schedule=_one_cycle(
            constants,
            warmup=constants.number("fine_tune.unfrozen_warmup"),
            start_div=constants.number("fine_tune.unfrozen_start_div"),
        ),
        origins=(
            _origin("name", False, "fine_tune's second phase"),
            Origin(field="epochs", by="you", reason="you gave it"),
            _origin("trains_from", False, "the head is warm: everything trains"),
            _origin(
                "rates",
                rate is not None,
                f"base rate {base:g} halved, {constants.reason('fine_tune.spread')}",
            ),
            _origin("schedule", False, constants.reason("fine_tune.unfrozen_warmup")),
        ),
    )
    return (frozen, unfrozen) if frozen_epochs else (unfrozen,)


def one_cycle(epochs: int, *, rate: Rate | None = None, profile: str = "default") -> tuple[Draft, ...]:
    """One phase up to `rate` and down again, on the stages that train as the learner stands.

    Source: Smith 2018 (arXiv 1803.09820), with fastai 2.8's constants.

    Raises:
        PlanError: epochs below 1.
    """
    epochs = whole(epochs, "epochs", 1)
    constants = profile_named(profile)
    schedule = _one_cycle(
        constants,
        warmup=constants.number("one_cycle.warmup"),
        start_div=constants.number("one_cycle.start_div"),
    )
    return (_single(constants, "one_cycle", epochs, rate, schedule, constants.reason("one_cycle.warmup")),)


def constant(epochs: int, *, rate: Rate | None = None, profile: str = "default") -> tuple[Draft, ...]:
    """One phase at one rate and momentum, on the stages that train as the learner stands.

    Raises:
        PlanError: epochs below 1.
    """
    epochs = whole(epochs, "epochs", 1)
    constants = profile_named(profile)
    schedule = Part(name="constant", settings=(("level", constants.number("constant_momentum")),))
    return (_single(constants, "constant", epochs, rate, schedule, "the rate does not move"),)


def linear_probe(epochs: int, *, rate: float | None = None, profile: str = "default") -> tuple[Draft, ...]:
    """The head alone, one cycle; the body stays frozen under the profile's norm policy.

    Raises:
        PlanError: epochs below 1.
    """
    (draft,) = one_cycle(epochs, rate=slice(rate) if rate is not None else None, profile=profile)
    kept = tuple(origin for origin in draft.origins if origin.field not in ("trains_from", "name"))
    why = _origin("trains_from", False, "a probe trains the head alone")
    name = _origin("name", False, "the recipe's only phase")
    return (
        Draft(
            profile=profile,
            name="probe",
            epochs=epochs,
            rate=draft.rate,
            trains_from=-1,
            schedule=draft.schedule,
            origins=(*kept, why, name),
        ),
    )


def _single(constants: Profile, name: str, epochs: int, rate: Rate | None, schedule: Part, why: str) -> Draft:
    return Draft(
        profile=constants.name,
        name=name,
        epochs=epochs,
        rate=constants.number("rate") if rate is None else rate,
        trains_from=None,
        schedule=schedule,
        origins=(
            _origin("name", False, "the recipe's only phase"),
            Origin(field="epochs", by="you", reason="you gave it"),
            _origin("rates", rate is not None, constants.reason("rate")),
            _origin("schedule", False, why),
        ),
    )


RECIPES: dict[str, Callable[..., tuple[Draft, ...]]] = {
    "fine_tune": fine_tune,
    "one_cycle": one_cycle,
    "constant": constant,
    "linear_probe": linear_probe,
}
