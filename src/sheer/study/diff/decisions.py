"""The decisions in which two plans differ, and a plan with some of its decisions taken from another."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from sheer.errors import PlanError
from sheer.plan.defaults import steps_of
from sheer.plan.plan import ModelPlan, Numerics, Part, Phase, Plan, decisions
from sheer.study.diff.fits import FIT, WITH_A_FIT, Match, can_fit, fit_words, fits, follows, moved, refitted, stepwise, still_fits, trained
from sheer.study.diff.values import FOLLOWS, differing, policies, words

TOUCHES = {
    "data": (
        "source",
        "pictures",
        "task",
        "classes",
        "split",
        "weight",
        "listing_sha256",
        "targets_sha256",
        "held_out_sha256",
        "bad_files",
        "unknown",
        "skipped",
        "columns",
        "inputs",
        "sampling",
    ),
    "pixels": ("channels", "size", "resize", "augmentation", "mix", "mean", "std"),
    "model": ("name", "weights", "weights_sha256", "channel_init", "body", "fusion", "branches", "lora", "head", "stages"),
    "what trains": ("trains_from", "norm", "prefix"),
    "rates and schedule": ("epochs", "rates", "schedule", "batch_size", "last_batch", "accumulate", "stop", "keep"),
    "optimiser": ("optimizer", "weight_decay", "no_decay", "clip", "ema", "skip_limit"),
    "loss": ("loss", "class_weights", "loss_mean", "metrics", "weighted_metrics"),
    "numerics": ("seed", "device", "threads", "memory_format", "precision", "compile", "deterministic"),
}
"""What a decision touches, in the order of reading."""

NOT_ABLATED = {
    **dict.fromkeys(
        ("source", "pictures", "task", "classes", "split", "weight", "bad_files", "unknown", "skipped", "columns", "inputs"),
        "other data: scores on other items do not compare",
    ),
    **dict.fromkeys(("listing_sha256", "targets_sha256", "held_out_sha256"), "other data: scores on other items do not compare"),
    **dict.fromkeys(
        ("name", "weights", "weights_sha256", "channels", "channel_init", "body", "fusion", "branches", "lora"),
        "another network is another plan, not a decision of it",
    ),
    **dict.fromkeys(("mean", "std"), "they follow from the weights"),
    **dict.fromkeys(("seed", "device", "threads", "metrics", "weighted_metrics"), "every variant has the same seeds, machine and metrics"),
}

OWN_TO_A_PHASE = ("name", "epochs", "rates", "schedule", "norm", "trains_from")
T = TypeVar("T", ModelPlan, Numerics, Phase)


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where two plans differ in a decision: a phase by its name ("" outside phases), both values and the reason for each."""

    phase: str
    a: str
    b: str
    why_a: str
    why_b: str


@dataclass(frozen=True, kw_only=True)
class Change:
    """A decision that two plans take differently: its field, or a setting of it such as `optimizer.eps`."""

    decision: str
    touches: str
    places: tuple[Place, ...]

    def key(self) -> str:
        """Both values as one text, whatever the phases are called: what an ablation of this very change is known by."""
        return " | ".join(dict.fromkeys(f"{place.a} -> {place.b}" for place in self.places))


def touched(decision: str) -> str:
    """What a decision touches; a phase that only one plan has touches what trains."""
    field, _, setting = decision.partition(".")
    if setting == "implementation":
        return "numerics"
    return next((group for group, names in TOUCHES.items() if field in names), "what trains")


def pairs(a: Sequence[Phase], b: Sequence[Phase]) -> list[tuple[int | None, int | None]]:
    """Phases that play the same part, in order: by position where there are as many, else by whether the head trains alone.

    >>> pairs((), ())
    []
    """
    if len(a) == len(b):
        return [(index, index) for index in range(len(a))]
    found: list[tuple[int | None, int | None]] = []
    later = 0
    for index, phase in enumerate(a):
        same = [number for number in range(later, len(b)) if _alone(b[number]) == _alone(phase)]
        if same:
            found += [*((None, number) for number in range(later, same[0])), (index, same[0])]
            later = same[0] + 1
        else:
            found.append((index, None))
    return [*found, *((None, number) for number in range(later, len(b)))]


def _alone(phase: Phase) -> bool:
    return 0 < phase.trains_from == len(phase.rates) - 1


def restaged(values: tuple[Any, ...], count: int) -> tuple[Any, ...]:
    """One value a stage for another number of stages: the head's stays the last; body stages go on with the nearest one's.

    >>> restaged((1, 2, 9), 2), restaged((1, 9), 3)
    ((1, 9), (1, 1, 9))
    """
    if count == len(values):
        return values
    body = values[:-1] or values
    return (*(body[min(index, len(body) - 1)] for index in range(count - 1)), values[-1])


def _restaged_phase(phase: Phase, count: int) -> Phase:
    """The phase for a model of `count` stages."""
    was = len(phase.rates)
    trains_from = phase.trains_from if was == count else count - 1 if phase.trains_from == was - 1 else min(phase.trains_from, count - 1)
    return replace(phase, rates=restaged(phase.rates, count), norm=restaged(phase.norm, count), trains_from=trains_from)


def changes(a: Plan, b: Plan) -> tuple[Change, ...]:
    """Every resolved decision that differs, in the order of TOUCHES; what follows from others is left out.

    Where one plan fits the head and the other trains it, that is a difference in `optimizer`; FITTED_FIELDS follow.
    """
    found: dict[str, list[Place]] = {}
    plain = frozenset[str]()
    holders: list[tuple[str, Any, Any, frozenset[str]]] = [
        ("", one, other, plain) for one, other in ((a, b), (a.data, b.data), (a.model, b.model), (a.numerics, b.numerics))
    ]
    both = matches(a, b)
    for first, second in pairs(a.phases, b.phases):
        if first is None or second is None:
            phase = a.phases[first] if first is not None else b.phases[second or 0]
            there = f"{phase.epochs} epochs at {words(phase.rates)}"
            left, right = (there, "no such phase") if second is None else ("no such phase", there)
            place = Place(phase=phase.name, a=left, b=right, why_a="", why_b="")
            found.setdefault(f"phase {phase.name}", []).append(place)
            continue
        pair = both[first]
        holders.append((pair.a.name, pair.a, pair.b, pair.follows))
    for where, one, other, because in holders:
        reasons = [{origin.field: f"{origin.by}: {origin.reason}" for origin in holder.origins} for holder in (one, other)]
        for field in decisions(one):
            if field in FOLLOWS or field in because or (where and field == "name"):
                continue
            for setting, mine, theirs in differing(getattr(one, field), getattr(other, field)):
                if field + setting in FOLLOWS:
                    continue
                why = [reason.get(field, "") for reason in reasons]
                said = policies if field == "norm" else words
                left, right = said(mine), said(theirs)
                if field == FIT and not setting and fits(one) != fits(other):
                    left, right = fit_words(mine, left), fit_words(theirs, right)
                place = Place(phase=where, a=left, b=right, why_a=why[0], why_b=why[1])
                found.setdefault(field + setting, []).append(place)
    order = [name for names in TOUCHES.values() for name in names]
    listed = [Change(decision=name, touches=touched(name), places=tuple(places)) for name, places in found.items()]
    groups = list(TOUCHES)

    def rank(change: Change) -> tuple[int, int]:
        field = change.decision.partition(".")[0]
        return groups.index(change.touches), order.index(field) if field in order else -1

    return tuple(sorted(listed, key=rank))


def matches(a: Plan, b: Plan, count: int | None = None) -> dict[int, Match]:
    """Phases that play the same part, by their place in `a`, for a model of `count` stages (that of `b` where not given)."""
    found: dict[int, Match] = {}
    before: Match | None = None
    for first, second in pairs(a.phases, b.phases):
        if first is None or second is None:
            before = None
            continue
        one, other = a.phases[first], b.phases[second]
        stages = len(other.rates) if count is None else count
        because, times = follows(one, other, before, (a, b))
        before = Match(a=_restaged_phase(one, stages), b=_restaged_phase(other, stages), follows=because, times=times)
        found[first] = before
    return found


def taken(a: Plan, b: Plan, wanted: Collection[str]) -> Plan:
    """Plan `a` with the decisions `wanted` (names of `changes(a, b)`) taken from `b`; groups are left to whoever carries it out.

    A phase that only `b` has comes with its own epochs, rates, schedule and what trains; the rest is as in the phase next to it.
    Where `a` fits the head and what is taken makes that impossible (`optimizer`; a head of several layers; norm layers that move), the
    phase trains it at the rates of `b`, in all else as the phase next to it. Where `b` fits it, `optimizer` brings what a fit needs.

    Raises:
        PlanError: a decision is not among those that differ, or cannot be taken alone.
    """
    known = {change.decision for change in changes(a, b)}
    for name in wanted:
        field = name.partition(".")[0]
        if name not in known:
            raise PlanError(f"decision {name!r} does not differ between the two plans. They differ in: {', '.join(sorted(known))}.")
        if field in NOT_ABLATED:
            raise PlanError(f"decision {name!r} cannot be changed alone: {NOT_ABLATED[field]}.")
    heads = _fitting_heads(a, b, wanted)
    model, numerics = _with(a.model, b.model, {*wanted, *heads}), _with(a.numerics, b.numerics, wanted)
    both = _taken_phases(a, b, wanted, model, numerics)
    count = len(model.stages)
    beside = next(iter(both.values()), _restaged_phase(a.phases[0], count))
    phases: list[Phase] = []
    for one, two in pairs(a.phases, b.phases):
        if one in both:
            phases.append(both[one])
        elif one is not None and f"phase {a.phases[one].name}" not in wanted:
            phase = _restaged_phase(a.phases[one], count)
            unfit = fits(phase) and not still_fits(phase, model.head, a.model.head, numerics)
            phases.append(trained(phase, stepwise(phase, a), _stepping(a, b, both, count)) if unfit else phase)
        elif two is not None and f"phase {b.phases[two].name}" in wanted:
            theirs = _restaged_phase(b.phases[two], count)
            phases.append(moved(beside, theirs, OWN_TO_A_PHASE if fits(beside) == fits(theirs) else (*OWN_TO_A_PHASE, *WITH_A_FIT)))
    items = a.data.train_items
    whole = [refitted(phase, items) for phase in phases]
    fresh = [
        replace(phase, groups=(), steps_per_epoch=steps_of(items, phase.batch_size, phase.last_batch, phase.accumulate)) for phase in whole
    ]
    return replace(a, model=model, numerics=numerics, phases=tuple(fresh))


def _fitting_heads(a: Plan, b: Plan, wanted: Collection[str]) -> tuple[str, ...]:
    """("head",) where a phase of `b` that fits its head is taken, and the head of `a` cannot be fitted; else ()."""
    new = [one.b for one in matches(a, b).values() if one.one_fits() and fits(one.b) and FIT in wanted]
    new += [phase for phase in b.phases if f"phase {phase.name}" in wanted and fits(phase)]
    return ("head",) if new and not can_fit(a.model.head, b.model.head) else ()


def _taken_phases(a: Plan, b: Plan, wanted: Collection[str], model: ModelPlan, numerics: Numerics) -> dict[int, Phase]:
    """The phases of `a` that `b` has too, by their place, with what is wanted; where a head can no longer be fitted, it is trained."""
    both = matches(a, b, len(model.stages))
    done = {place: _with(one.a, one.b, {*wanted} - one.follows - ({FIT} if one.one_fits() else set())) for place, one in both.items()}
    changed = False
    for place, one in both.items():
        phase = done[place]
        if changed and one.times != 1:
            own = moved(phase, one.b, ("rates",))
            restages = len(model.stages) != len(b.model.stages)
            done[place] = replace(own, rates=tuple(rate * one.times for rate in one.a.rates)) if restages else own
        changed = False
        if one.one_fits() and fits(one.b) and FIT in wanted:
            done[place], changed = moved(phase, one.b, ("norm", *WITH_A_FIT)), True
        elif one.one_fits() and fits(one.a) and (FIT in wanted or not still_fits(phase, model.head, a.model.head, numerics)):
            done[place], changed = trained(phase, one.b, _stepping(a, b, done, len(model.stages))), True
    return done


def _stepping(a: Plan, b: Plan, done: Mapping[int, Phase], count: int) -> Phase:
    """The first phase that trains by steps: of those that are taken already, of `a`, of `b`."""
    others = (_restaged_phase(phase, count) for phase in (*a.phases, *b.phases))
    return next(phase for phase in (*done.values(), *others) if not fits(phase))


def _with(one: T, other: T, wanted: Collection[str]) -> T:
    """`one` with the fields, or single settings of them, that are wanted of `other`, and their reasons."""
    values: dict[str, Any] = {}
    for field in decisions(one):
        mine, theirs = getattr(one, field), getattr(other, field)
        changed = differing(mine, theirs)
        settings = [setting[1:] for setting, _, _ in changed if setting and field + setting in wanted]
        if field in wanted and any(not setting for setting, _, _ in changed):
            values[field] = theirs
        elif settings and isinstance(mine, Part):
            options: Mapping[str, Any] = theirs.options()
            values[field] = replace(mine, settings=tuple((key, options[key] if key in settings else value) for key, value in mine.settings))
    return replace(moved(one, other, tuple(values)), **values)
