"""Where one plan fits the head and the other trains it: what only follows from that, and how a phase goes over from one to the other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from sheer.plan.plan import ModelPlan, Numerics, Part, Phase, Plan
from sheer.plan.prefixes import FITTED_FIELDS
from sheer.plan.profiles import profile_named
from sheer.plan.rates import staged_rates
from sheer.plan.recipes import fine_tune

FIT = "optimizer"
WITH_A_FIT = (FIT, "prefix", *FITTED_FIELDS)
ONE_LAYER = ("linear", "plain")
T = TypeVar("T", ModelPlan, Numerics, Phase)


@dataclass(frozen=True, kw_only=True)
class Match:
    """Two phases that play the same part, for one number of stages; `follows`: fields in which they differ only because of a fit.

    `times`: what the rates of `a` are multiplied by where those of `b` follow from the phase before.
    """

    a: Phase
    b: Phase
    follows: frozenset[str]
    times: float

    def one_fits(self) -> bool:
        """Whether the head is fitted on one side and trained on the other."""
        return fits(self.a) != fits(self.b)


def fits(phase: Phase) -> bool:
    """Whether the phase fits the head instead of training it."""
    return phase.optimizer.name == "lbfgs"


def follows(a: Phase, b: Phase, before: Match | None, plans: tuple[Plan, Plan]) -> tuple[frozenset[str], float]:
    """`follows` and `times` of a match; after a fit the rates follow where all that differs is the profile's lower rate after a fit.

    Phases with different numbers of stages are compared by the rates of the first stage and of the head.
    """
    if fits(a) or fits(b):
        return frozenset(FITTED_FIELDS if fits(a) == fits(b) else WITH_A_FIT[1:]), 1.0
    if before is None or not before.one_fits():
        return frozenset(), 1.0
    number = profile_named(plans[0 if fits(before.a) else 1].profile).number
    factor = number("fine_tune.fitted_divisor") / number("fine_tune.unfrozen_divisor")
    times = factor if fits(before.a) else 1 / factor
    ends = [phase.rates if len(a.rates) == len(b.rates) else (phase.rates[0], phase.rates[-1]) for phase in (a, b)]
    alike = all(math.isclose(mine * times, theirs) for mine, theirs in zip(*ends, strict=True))
    return (frozenset(("rates",)), times) if alike else (frozenset(), 1.0)


def fit_words(optimizer: Any, said: str) -> str:
    """How the head gets its weights, for a phase that one plan fits and the other trains."""
    return f"{'the head is fitted' if isinstance(optimizer, Part) and optimizer.name == 'lbfgs' else 'trained'}: {said}"


def can_fit(head: Part | None, known: Part | None) -> bool:
    """Whether the head is one layer: the one that is known to be fitted, or one of ONE_LAYER."""
    return head == known or (head is not None and head.name in ONE_LAYER and not head.options().get("hidden"))


def still_fits(phase: Phase, head: Part | None, known: Part | None, numerics: Numerics) -> bool:
    """Whether the head can be fitted in the phase: before it everything stands still, and it is one layer."""
    return can_fit(head, known) and set(phase.norm[: phase.trains_from]) == {"frozen"} and not numerics.compile


def moved(one: T, other: T, fields: Sequence[str]) -> T:
    """`one` with these fields of `other`, and the reasons for them."""
    theirs = {origin.field: origin for origin in other.origins if origin.field in fields}
    origins = tuple(theirs.get(origin.field, origin) for origin in one.origins)
    return replace(one, **{field: getattr(other, field) for field in fields}, origins=origins)


def trained(phase: Phase, theirs: Phase, beside: Phase) -> Phase:
    """The phase with its head trained: at the rates of the plan that trains it, in all else as the phase beside it."""
    own = ("rates", "schedule", "prefix")
    return moved(moved(phase, beside, [field for field in WITH_A_FIT if field not in own]), theirs, own)


def stepwise(phase: Phase, plan: Plan) -> Phase:
    """The phase at the rates and the schedule at which `fine_tune` of the plan's profile trains a head."""
    (draft,) = fine_tune(0, freeze_epochs=phase.epochs, profile=plan.profile)
    rest = profile_named(plan.profile).number("rest_divisor")
    theirs = {origin.field: origin for origin in draft.origins if origin.field in ("rates", "schedule")}
    return replace(
        phase,
        rates=staged_rates(draft.rate, len(phase.rates), plan.model.branches, rest),
        schedule=draft.schedule,
        prefix=Part(name="whole"),
        origins=tuple(theirs.get(origin.field, origin) for origin in phase.origins),
    )


def refitted(phase: Phase, items: int) -> Phase:
    """The phase; where the head is fitted, with all items at once."""
    return replace(phase, accumulate=-(-items // phase.batch_size) * phase.batch_size) if fits(phase) else phase
