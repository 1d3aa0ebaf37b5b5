"""Techniques that are chosen by name: which names there are, their settings, and where a setting nobody gave comes from."""

from __future__ import annotations

from collections.abc import Mapping

from sheer.errors import PlanError, nearest
from sheer.plan.checks import check_texts, real
from sheer.plan.plan import Part, Value
from sheer.plan.profiles import Choice, Profile

Table = Mapping[str, Mapping[str, str]]

_ADAM = {"beta2": "beta2", "eps": "eps", "implementation": "implementation"}
OPTIMIZER_SETTINGS: Table = {
    "adamw": _ADAM,
    "adam": _ADAM,
    "sgd": {"nesterov": "sgd.nesterov", "implementation": "implementation"},
    "lbfgs": {"folds": "lbfgs.folds", "penalties": "lbfgs.penalties"},
    "rmsprop": {"alpha": "rmsprop.alpha", "eps": "rmsprop.eps", "implementation": "rmsprop.implementation"},
}
LOSS_SETTINGS: dict[str, Table] = {
    "classify": {"cross_entropy": {"label_smoothing": "loss.label_smoothing"}, "focal": {"gamma": "focal.gamma"}},
    "tag": {"binary_cross_entropy": {}},
    "regress": {"squared_error": {}, "huber": {"delta": "huber.delta"}},
}
_ENDS = {"start": "fall.start", "end": "fall.end", "level": "constant_momentum"}
SCHEDULE_SETTINGS: Table = {
    "one_cycle": {
        "warmup": "one_cycle.warmup",
        "start_div": "one_cycle.start_div",
        "end_div": "one_cycle.end_div",
        "momentum_high": "momentum_high",
        "momentum_low": "momentum_low",
    },
    "constant": {"level": "constant_momentum"},
    "flat_cosine": {"start": "flat_cosine.start", "end_div": "one_cycle.end_div", "level": "constant_momentum"},
    "sgdr": {"cycles": "sgdr.cycles", "mult": "sgdr.mult", "level": "constant_momentum"},
    "linear": _ENDS,
    "polynomial": {**_ENDS, "power": "polynomial.power"},
    "exponential": {**_ENDS, "end": "exponential.end"},
    "step": {"every": "step.every", "factor": "step.factor", "level": "constant_momentum"},
}
LORA_SETTINGS: Table = {"lora": {"rank": "lora.rank", "alpha": "lora.alpha", "layers": "lora.layers"}}
ENCODER_SETTINGS: Table = {"encoder": {"pool": "text.pool"}}
MODEL_SETTINGS: Table = {
    "tabular": {"hidden": "tabular.hidden", "dropout": "tabular.dropout", "embedding_dropout": "tabular.embedding_dropout"},
    "tabm": {name: f"tabm.{name}" for name in ("members", "hidden", "dropout", "embedding", "one_hot")},
}
FUSION_SETTINGS: Table = {
    "concat": {},
    "gated_sum": {"width": "fusion.width"},
    "cross_attention": {"width": "fusion.width", "heads": "fusion.heads"},
}
HEAD_SETTINGS = {"concat_pool": ("hidden", "dropout"), "linear": ("dropout",), "plain": ("pool", "hidden", "dropout", "init")}

"""For each name, its settings and the profile's key that fills each where nobody gave it."""


def chosen(given: Choice, table: Table, profile: Profile, field: str) -> Part:
    """The part for a name, or a name with some of its settings; the rest are the profile's.

    Raises:
        PlanError: the name or a setting is not known, or a setting is of another kind than it should be.
    """
    name, settings = (given, {}) if isinstance(given, str) else _pair(given, field, table, profile)
    if name not in table:
        raise PlanError(f"{field}={given!r} is not known. {nearest(name, table)}")
    unknown = sorted(set(settings) - set(table[name]))
    if unknown:
        raise PlanError(f"{field}={given!r}: {name} has no setting {unknown[0]!r}. {nearest(unknown[0], table[name])}")
    values = {key: profile.value(source) for key, source in table[name].items()}
    for key, value in settings.items():
        rows = (kind_of_value(value), key) == ("row", "dropout")  # one share a layer
        if kind_of_value(value) != kind_of_value(values[key]) and not rows:
            example = values[key] if values[key] != () else ("query", "value")
            raise PlanError(f"{field}={given!r}: {key} is {value!r}; a {kind_of_value(values[key])} such as {example!r} is wanted.")
        values[key] = float(value) if isinstance(values[key], float) and isinstance(value, int) else value
    return Part(name=name, settings=tuple(values.items()))


def _pair(given: object, field: str, table: Table, profile: Profile) -> tuple[str, dict[str, Value]]:
    if not (isinstance(given, tuple) and len(given) == 2 and isinstance(given[0], str) and isinstance(given[1], Mapping)):
        name, keys = next(((name, keys) for name, keys in table.items() if keys), (next(iter(table)), {}))
        example = name, {key: profile.value(source) for key, source in list(keys.items())[:1]}
        raise PlanError(f"{field}={given!r}: give a name, or a name with its settings such as {example}.")
    check_texts({f"{field}={given!r}: a setting's name": name for name in given[1]})
    return given[0], dict(given[1])


def kind_of_value(value: Value) -> str:
    """What a setting is, in words: a whole number may stand for a number, but not the other way round.

    >>> kind_of_value(1), kind_of_value(0.5), kind_of_value(True)
    ('number', 'number', 'truth value')
    """
    if isinstance(value, bool):
        return "truth value"
    return {int: "number", float: "number", str: "text", tuple: "row"}.get(type(value), "empty value")


def optimizer_part(given: Choice, profile: Profile) -> Part:
    """An optimiser by name, one of timm's as `timm:NAME`, with its settings.

    Raises:
        PlanError: as in `chosen`.
    """
    name = given if isinstance(given, str) else _pair(given, "optimizer", OPTIMIZER_SETTINGS, profile)[0]
    if not name.startswith("timm:"):
        return chosen(given, OPTIMIZER_SETTINGS, profile, "optimizer")
    settings = () if isinstance(given, str) else tuple(_pair(given, "optimizer", OPTIMIZER_SETTINGS, profile)[1].items())
    return Part(name="timm", settings=(("name", name.partition(":")[2]), ("settings", settings)))


def composed(parts: object, *, profile: Profile) -> Part:
    """Schedules one after another, each with its share of the steps.

    Raises:
        PlanError: as in `chosen`, or the shares are not positive or do not sum to 1.
    """
    pairs = isinstance(parts, tuple | list) and all(isinstance(part, tuple | list) and len(part) == 2 for part in parts)
    if not isinstance(parts, tuple | list) or not pairs:
        raise PlanError(f"schedule={parts!r}: give a name, a name with settings, or several of these, each with its share of the steps.")
    shares = tuple(real(share, "schedule: a share", 0) for _, share in parts)
    if not parts or min(shares) <= 0 or abs(sum(shares) - 1) > 1e-9:
        raise PlanError(f"schedule: the shares are {shares}; give positive numbers that sum to 1.")
    inside = tuple(chosen(choice, SCHEDULE_SETTINGS, profile, "schedule") for choice, _ in parts)
    return Part(name="composed", settings=(("parts", tuple((part.name, part.settings) for part in inside)), ("shares", shares)))


def choice_of(part: Part) -> Choice:
    """How a caller would write the part: the way back from `chosen` and `optimizer_part`."""
    options = part.options()
    if part.name != "timm":
        return part.name, options
    return f"timm:{options['name']}", {str(pair[0]): pair[1] for pair in options["settings"] if isinstance(pair, tuple)}  # type: ignore[union-attr]
