"""Your own modules and heads in a record: by name and source hash, never by themselves."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from torch import nn

from sheer.errors import RunError
from sheer.model.build import HeadMaker, MadeBy, Source
from sheer.model.rebuild import OWN, own_branches
from sheer.plan.augmentations import Function, source_sha256
from sheer.plan.plan import Branch, Part, Plan
from sheer.record.run import Module, Record
from sheer.task.metrics import METRICS

__all__ = ["HeadMaker", "MadeBy", "OwnMakers", "Source", "own_functions", "own_makers", "own_module", "own_parts", "uses_own"]


def own_module(made_by: Source | HeadMaker) -> Module:
    """Name and source hash of a module's class or of the function that makes it; "" where the source is not to be had."""
    target = type(made_by) if isinstance(made_by, nn.Module) else made_by
    try:
        source = inspect.getsource(cast(type, target))
    except (OSError, TypeError):
        source = ""
    return Module(name=getattr(target, "__name__", "?"), source_sha256=hashlib.sha256(source.encode()).hexdigest() if source else "")


@dataclass(frozen=True, kw_only=True)
class OwnMakers:
    """What makes the model (or by input, the branches) and the head, where they are yours."""

    made_by: MadeBy | None
    made_head: HeadMaker | None


def own_makers(plan: Plan, objects: Mapping[str, Any], record: Record | None = None) -> OwnMakers:
    """What `objects` has under the names of the plan's model, branches and head; their source must be that of the run.

    Raises:
        RunError: it is not.
    """
    head = plan.model.head.name.partition(":")[2] if plan.model.head else ""
    own = {branch: objects[name] for branch, name in own_branches(plan.model).items() if name in objects}
    made_by = (own or None) if plan.model.branches else objects.get(plan.model.name.partition(":")[2])
    makers = OwnMakers(made_by=made_by, made_head=objects.get(head))
    kept: list[tuple[Any, Module | None]] = [(own[one.name], branch_module(one)) for one in plan.model.branches if one.name in own]
    kept += [(None if own else makers.made_by, record.own_module), (makers.made_head, record.own_head)] if record else []
    for made, was in kept:
        if made is not None and was is not None and own_module(made) != was:
            raise RunError(f"The source of {was.name!r} is not what the run was made with. Give it as it was then.")
    return makers


def branch_module(branch: Branch) -> Module:
    """Name and source hash of your own module that is this branch."""
    options = branch.model.weights.options()
    return Module(name=branch.model.name.partition(":")[2], source_sha256=str(options.get("source_sha256", "")))


def own_parts(plan: Plan) -> list[Part]:
    """The augmentations and losses of your own that the plan names, each once."""
    return list(dict.fromkeys(part for phase in plan.phases for part in (*phase.augmentation, phase.loss) if part.name == "own"))


def uses_own(plan: Plan) -> bool:
    """Whether the model, a branch, the head, an augmentation, a loss or a metric is your own, which no run folder holds."""
    head = plan.model.head.name if plan.model.head else ""
    made = [name.partition(":")[0] in OWN for name in (plan.model.name, head)]
    strange = set(plan.metrics) - set(METRICS[plan.data.task.name])
    return bool(any(made) or own_branches(plan.model) or own_parts(plan) or strange)


def own_functions(plan: Plan, objects: Mapping[str, Any]) -> dict[str, Function]:
    """The augmentations and losses of your own that the plan names, those for later phases too, as far as they are given; their source
    must be the plan's.

    Raises:
        RunError: it is not.
    """
    functions: dict[str, Function] = {}
    later = (part for phase in plan.phases if phase.aside for part in phase.aside.augmentation if part.name == "own")
    for part in (*own_parts(plan), *later):
        name = str(part.options()["function"])
        if name in objects:
            if source_sha256(objects[name]) != part.options()["source_sha256"]:
                raise RunError(f"The source of {name!r} is not what the run was made with. Give it as it was then.")
            functions[name] = objects[name]
    return functions
