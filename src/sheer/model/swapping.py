"""Another model of several inputs: what is not given anew stays as a plan has it."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

from sheer.errors import ModelError
from sheer.model.branches import is_own
from sheer.model.build import HeadMaker, MadeBy, Source
from sheer.model.made import AnyHead, AnyModel, Weights
from sheer.model.rebuild import OWN
from sheer.plan.parts import choice_of
from sheer.plan.plan import Branch, Part, Plan, origin_of
from sheer.plan.profiles import Choice


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A model as it is asked for; the fields are arguments of `sheer.learner`."""

    model: AnyModel
    head: AnyHead
    weights: Weights
    fusion: Choice | None
    stages: str | None


def with_the_rest(wanted: Wanted, plan: Plan, made_by: MadeBy | None, made_head: HeadMaker | None, network: nn.Module | None) -> Wanted:
    """`wanted` of several inputs by name, and for what it does not name the branches, fusion, head and stages that you gave for `plan`.

    `made_by` and `made_head` are your own of that plan; `network` is its untrained model, None where there is none any more.

    Raises:
        ModelError: a branch that stays is an object whose first weights are not known any more.
    """
    if not plan.model.branches or not isinstance(wanted.model, Mapping):
        return wanted
    models, sources = dict(wanted.model), dict[str, str]()
    for one, branch in zip(plan.data.inputs, plan.model.branches, strict=True):
        if one.name not in models:
            if origin_of(branch.model, "weights").by == "you":
                sources[one.name] = _weights(branch.model.weights)
            if origin_of(branch.model, "name").by == "you":
                models[one.name] = _choice(branch, made_by, network)
        elif isinstance(wanted.weights, str) and one.kind != "table" and not is_own(models[one.name]):
            sources[one.name] = wanted.weights
    yours = {origin.field for origin in plan.model.origins if origin.by == "you"}
    layered = any(origin_of(branch.model, "stages").by == "you" for branch in plan.model.branches)
    return Wanted(
        model=models,
        head=(made_head or plan.model.head) if wanted.head is None and "head" in yours else wanted.head,
        weights=sources | (dict(wanted.weights) if isinstance(wanted.weights, Mapping) else {}),
        fusion=choice_of(plan.model.fusion) if wanted.fusion is None and "fusion" in yours and plan.model.fusion else wanted.fusion,
        stages="layers" if wanted.stages is None and layered else wanted.stages,
    )


def _weights(part: Part) -> str:
    """How the weights were asked for."""
    if part.name == "file":
        return str(part.options()["path"])
    return part.name if part.name in ("package", "none", "given") else "default"


def _choice(branch: Branch, made_by: MadeBy | None, network: nn.Module | None) -> Choice | Source:
    """What makes the branch again."""
    (library, _, name), body = branch.model.name.partition(":"), branch.model.body
    if library == "module" and network is None:
        raise ModelError(
            f"The branch {branch.name!r} was an object of {name}, which has been trained since: what it was is not known any more. Name it "
            "too, or pass a function that makes it."
        )
    if library == "module" and network is not None:
        return copy.deepcopy(network.get_submodule(f"body.branches.{branch.name}"))
    if library in OWN:
        assert isinstance(made_by, Mapping)
        return made_by[branch.name]
    if body is None:
        return branch.model.name
    return (name, {"pool": body.options()["pool"]}) if body.name == "encoder" else choice_of(body)
