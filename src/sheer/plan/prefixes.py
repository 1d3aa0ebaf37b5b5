"""How what does not train of a network is run, and whether the head is fitted instead of trained."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from sheer.errors import PlanError
from sheer.plan.checks import whole
from sheer.plan.facts import PrefixFact
from sheer.plan.parts import chosen
from sheer.plan.plan import Aside, Origin, Part, Phase, Value
from sheer.plan.profiles import Choice, Profile
from sheer.plan.recipes import Draft, Given

PREFIX_SETTINGS: Mapping[str, Mapping[str, str]] = {
    "whole": {},
    "cached": {"views": "prefix.views", "batch_size": "prefix.batch_size", "fold": "prefix.fold"},
}
MOST_BYTES = 16 << 30
TOO_LARGE = "its features would take more than 16 GiB"
WIDEST = 8192  # features of a fit: their products are a matrix of float64
FITTED = "all items at once, plain; the penalty is chosen by cross-validation"
FITTED_FIELDS = (
    "epochs",
    "accumulate",
    "augmentation",
    "clip",
    "ema",
    "keep",
    "last_batch",
    "mix",
    "rates",
    "sampling",
    "schedule",
    "skip_limit",
    "stop",
    "weight_decay",
)
ASIDE = ("weight_decay", "augmentation", "mix", "sampling", "clip", "accumulate", "ema", "stop", "keep")


def prefix_part(
    given: Given, profile: Profile, fact: PrefixFact, *, mixed: bool, epochs: int, items: int, plain: bool, drawn: bool, device: str
) -> tuple[Part, Origin]:
    """How the frozen part runs in one phase: as given, else cached where the profile says so and it is proved to be the same.

    Args:
        given, profile: What the caller decided, and who decides the rest.
        fact: What is known of the network in this phase.
        mixed, epochs: The phase's; `mixed`: whole inputs are mixed.
        items: How many items are kept, held-out ones included.
        drawn: Items are cut or augmented by draws, as photographs are.
        plain: Items are neither cut at random nor augmented, for the head is fitted to what the frozen part gives, cached.
        device: Where the network runs.

    Raises:
        PlanError: a value is not allowed, or "cached" was given and something is frozen that cannot be cached.
    """
    why = "a head is fitted to kept features" if plain else profile.reason("prefix")
    by, said = ("default", why) if given.prefix is None else ("you", "you gave it")
    silent, probed = "cached" if plain else str(profile.value("prefix")), _settings(given.prefix).get("batch_size") == "probe"
    part = chosen(silent if given.prefix is None else _unprobed(given.prefix), PREFIX_SETTINGS, profile, "prefix")
    if part.name == "whole":
        return part, Origin(field="prefix", by=by, reason=said)
    values = part.options()
    if "views" not in _settings(given.prefix):
        values["views"] = min(int(str(values["views"])), epochs)
    if device != "cpu" and (probed or "batch_size" not in _settings(given.prefix)):
        values["batch_size"] = profile.value("prefix.batch_size.gpu")
    if fact.modules and not drawn and _settings(given.prefix).get("views"):
        raise PlanError(
            f"prefix={given.prefix!r}: every view of these items is the same: only pictures are cut and augmented. Leave views away."
        )
    views = 0 if plain or not drawn else whole(values["views"], "prefix: views", 0, ", drawn ones of each item, 0 for the plain one")
    batch_size = whole(values["batch_size"], "prefix: batch_size", 1)
    why = fact.proof if not fact.modules else "whole inputs are mixed" if mixed else ""
    if 4 * items * max(views, 1) * fact.values > MOST_BYTES:
        why = TOO_LARGE
    if why and fact.frozen and given.prefix is not None:
        raise PlanError(f"prefix={given.prefix!r}: what is frozen cannot be run by itself here: {why}. Give 'whole'.")
    if why:
        return Part(name="whole"), Origin(field="prefix", by="default" if fact.frozen else "data", reason=why)
    if probed and fact.pace is not None:
        (batch_size, told), by = fact.pace(batch_size, bool(values["fold"]) and fact.fold), "measured"
        said = f"a batch of {batch_size} {told}"
    settings: dict[str, Value] = {
        "modules": fact.modules,
        "views": views,
        "batch_size": batch_size,
        "fold": bool(values["fold"]) and fact.fold,
    }
    return Part(name="cached", settings=tuple(settings.items())), Origin(field="prefix", by=by, reason=f"{said}; {fact.proof}")


def _settings(given: Choice | None) -> Mapping[str, Value]:
    """The settings that somebody gave beside the name; `chosen` says what is wrong with what is no mapping."""
    return given[1] if isinstance(given, tuple) and len(given) == 2 and isinstance(given[1], Mapping) else {}


def _unprobed(given: Choice) -> Choice:
    """What was given without a batch size that is to be measured."""
    settings = _settings(given)
    return (given[0], {name: value for name, value in settings.items() if (name, value) != ("batch_size", "probe")}) if settings else given


def _why_not_fitted(given: Given, fact: PrefixFact, items: int, kept: int, folds: int, device: str) -> str:
    """Why the head cannot be fitted in this phase; "" where it can."""
    if given.prefix is not None and "whole" in (given.prefix, given.prefix[0]):
        return "prefix is 'whole'"
    if not fact.modules:
        return fact.proof
    if not fact.linear:
        return "what trains is not one linear layer with a bias"
    if 4 * kept * fact.values > MOST_BYTES:
        return TOO_LARGE
    if fact.values > WIDEST:
        return f"{fact.values:,} features are too many for a fit, which takes at most {WIDEST:,}"
    if device.partition(":")[0] == "mps":
        return "the fit takes float64, which MPS has not"
    return "" if items >= 2 * folds else f"{items} items are too few for {folds} folds"


def fitted_given(given: Given, pictures: str, items: int, batch_size: int) -> Given:
    """What a phase is given in which the head is fitted: what is about steps of an optimiser goes."""
    every = -(-items // batch_size) * batch_size
    augmentation = None if pictures == "none" else "none"
    nobody = dict.fromkeys(("clip", "ema", "stop", "keep", "measured"))
    return replace(
        given,
        optimizer=given.optimizer or "lbfgs",
        accumulate=every,
        augmentation=augmentation,
        mix="none",
        sampling="shuffle",
        weight_decay=0.0,
        **nobody | {"measured": tuple(origin for origin in given.measured if origin.field not in FITTED_FIELDS)},  # type: ignore[arg-type]
    )


def set_aside(given: Given, values: Mapping[str, Any], origins: Iterable[Origin]) -> Aside | None:
    """What a fit has no use for of a phase's `values`, by name, with their `origins`; None where none of it was given or measured."""
    views = _settings(given.prefix).get("views")
    views = None if views is None else whole(views, "prefix: views", 0)
    yours = tuple(origin for origin in origins if origin.field in ASIDE and origin.by in ("you", "measured"))
    return Aside(**{name: values[name] for name in ASIDE}, views=views, origins=yours) if yours or views is not None else None


def fitted(draft: Draft, fact: PrefixFact, items: int, kept: int, profile: Profile, device: str) -> tuple[bool, str]:
    """Whether the head is fitted to `items`, and why not where the draft would have it; features of `kept` items would be kept.

    Raises:
        PlanError: the caller would have it, and it cannot be.
    """
    given = draft.given.optimizer
    wanted = given is not None and "lbfgs" in (given, given[0])
    if not wanted and (not draft.fit or given is not None):
        return False, ""
    folds = given[1].get("folds") if isinstance(given, tuple) else None
    parts = int(profile.number("lbfgs.folds")) if folds is None else whole(folds, "lbfgs: folds", 2)
    why = _why_not_fitted(draft.given, fact, items, kept, parts, device)
    if why and wanted:
        raise PlanError(f"optimizer={given!r} fits a head to what a frozen body gives, which is not possible here: {why}.")
    return not why, why


def check_prefix(phase: Phase, fact: PrefixFact, items: int) -> None:
    """PlanError where a phase that was not resolved here caches what this network cannot prove."""
    part, fits = phase.prefix.options(), phase.optimizer.name == "lbfgs"
    views, size = part.get("views"), part.get("batch_size")
    numbers = all(isinstance(value, int) and not isinstance(value, bool) for value in (views, size))
    whole_network = phase.prefix.name == "whole" and not fits
    right = numbers and part.get("modules") == fact.modules != () and (fact.fold or not part.get("fold"))
    right = right and int(str(views)) >= 0 < int(str(size)) and 4 * items * max(int(str(views)), 1) * fact.values <= MOST_BYTES
    if not whole_network and not (right and (not fits or (fact.linear and views == 0))):
        raise PlanError(
            f"Phase {phase.name}: prefix {phase.prefix} and optimizer {phase.optimizer.name} are not what this network can do "
            f"({fact.proof}). Was the plan edited, or made for another network? Make the phase from a recipe."
        )
