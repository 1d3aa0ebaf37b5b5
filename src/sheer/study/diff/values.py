"""Two plan values side by side: which settings of them differ, of columns, inputs and branches by their names; and values in words."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sheer.plan.plan import Branch, InputPlan, Part, decisions
from sheer.plan.table import column_row

FOLLOWS = (
    *("profile", "steps_per_epoch", "licence", "kind", "node", "features", "stride", "undecayed"),
    *("train_items", "valid_items", "train_counts", "valid_counts", "weighted_prior", "target", "separator", "resident", "prefix.modules"),
)
"""Fields that follow from other decisions, or only name what they come from."""


def words(value: object) -> str:
    """A plan value as people read it.

    >>> words((0.5, 1e-05)), words(()), words("a")
    ('0.5, 1e-05', 'none', 'a')
    """
    if isinstance(value, bool | str):
        return str(value)
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, tuple):
        return ", ".join(words(getattr(item, "name", item) if type(item).__name__ == "Stage" else item) for item in value) or "none"
    if isinstance(value, InputPlan):
        missing = f", missing in {value.missing_train} to learn from and {value.missing_valid} held out"
        return f"{value.kind} of {', '.join(value.reads)}" + missing * bool(value.missing_train or value.missing_valid)
    if isinstance(value, Branch):
        return f"{value.model.name}, {value.model.weights.name} weights, {value.model.features} wide"
    if isinstance(value, Part) and "column" in value.options():
        return " ".join(cell for cell in column_row(value) if cell)
    return "none" if value is None else str(value)


def policies(norm: Any) -> str:
    """Norm policies, one a stage, as people read them: the body's in one word where they agree.

    >>> policies(("frozen", "frozen", "train")), policies(("train", "frozen", "train"))
    ('body frozen, head train', 'train, frozen, train')
    """
    body = set(norm[:-1])
    return f"body {norm[0]}, head {norm[-1]}" if len(body) == 1 else words(norm)


def differing(one: object, other: object) -> list[tuple[str, object, object]]:
    """(".setting", one, other) for each setting that differs of one technique; ("", one, other) for anything else that differs."""
    if one == other:
        return []
    mine, theirs = _named(one), _named(other)
    if mine is not None and theirs is not None:
        found = [row for name in {**mine, **theirs} for row in _differing_item(name, mine.get(name), theirs.get(name))]
        return found or [("", tuple(mine), tuple(theirs))]  # the same ones in another order
    if isinstance(one, Part) and isinstance(other, Part) and one.name == other.name:
        left, right = one.options(), other.options()
        if set(left) == set(right):
            return [(f".{key}", left[key], right[key]) for key in left if left[key] != right[key]]
    return [("", one, other)]


def _named(value: object) -> dict[str, object] | None:
    """Columns of a table, inputs of items, or branches of a network, by name; None for anything else."""
    if not isinstance(value, tuple):
        return None
    found: dict[str, object] = {}
    for item in value:
        if isinstance(item, InputPlan | Branch):
            found[item.name] = item
        elif isinstance(item, Part) and "column" in item.options():
            found[str(item.options()["column"]) + " missing" * (item.name == "missing")] = item
        else:
            return None
    return found


def _differing_item(name: str, one: object, other: object) -> list[tuple[str, object, object]]:
    """As `differing`, of one column, input or branch."""
    if one == other:
        return []
    if isinstance(one, InputPlan) and isinstance(other, InputPlan):
        inside = [(f".{name}{setting}", mine, theirs) for setting, mine, theirs in differing(one.columns, other.columns)]
        mine, theirs = replace(one, columns=()), replace(other, columns=())
        return [*([(f".{name}", mine, theirs)] if mine != theirs else []), *inside]
    if isinstance(one, Branch) and isinstance(other, Branch):
        fields = [field for field in decisions(one.model) if field not in FOLLOWS and field != "stages"]
        return [
            (f".{name}.{field}{setting}", mine, theirs)
            for field in fields
            for setting, mine, theirs in differing(getattr(one.model, field), getattr(other.model, field))
        ]
    return [(f".{name}", one, other)]
