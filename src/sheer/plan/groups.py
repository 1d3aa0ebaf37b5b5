"""Parameter groups of a phase as the plan's table has them: what trains, at which rates, from which weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sheer.errors import PlanError, first_line
from sheer.plan.facts import TensorFact, joint_hash
from sheer.plan.plan import Group, Phase
from sheer.plan.rates import is_new
from sheer.plan.schedules import schedule_named

if TYPE_CHECKING:
    from sheer.plan.defaults import Situation

KINDS = ("decay", "no decay", "fixed")


def kind_of(tensor: TensorFact, phase: Phase) -> str:
    """Whether the tensor trains with decay, trains without, or is fixed in this phase."""
    policy = phase.norm[tensor.stage]
    trains = policy == "train" if tensor.norm else tensor.stage >= phase.trains_from
    if not trains:
        return "fixed"
    return "no decay" if phase.no_decay in tensor.exempt else "decay"


def groups_of(phase: Phase, situation: Situation) -> tuple[Group, ...]:
    """One row a parameter group, in the optimiser's order, the fixed tensors of each stage after them."""
    factors = _rate_factors(phase)
    rows: list[Group] = []
    for index, stage in enumerate(situation.stages):
        for kind in KINDS:
            tensors = [t for t in situation.tensors if t.stage == index and kind_of(t, phase) == kind]
            if not tensors:
                continue
            trains = kind != "fixed"
            peak = phase.rates[index] if trains else 0.0
            changed_by = _last_change(index, tensors, situation.phases_before)
            rows.append(
                Group(
                    stage=stage.name,
                    kind=kind,
                    tensors=len(tensors),
                    values=sum(tensor.values for tensor in tensors),
                    trains=trains,
                    rate_start=peak * factors[0],
                    rate_peak=peak * max(factors),
                    rate_end=peak * factors[-1],
                    weight_decay=phase.weight_decay if kind == "decay" else 0.0,
                    norm=phase.norm[index],
                    weights_from=changed_by or _first_source(stage.name, situation),
                    sha256="" if changed_by else joint_hash(tensors),
                )
            )
    return tuple(rows)


def _rate_factors(phase: Phase) -> list[float]:
    """The schedule's factor at every step; PlanError where there is none, or it is below 0."""
    total = phase.epochs * phase.steps_per_epoch
    try:
        schedule = schedule_named(phase.schedule.name, phase.schedule.options())
        factors = [schedule.rate(step / total) for step in range(total)]
    except (ArithmeticError, IndexError, TypeError, ValueError) as error:
        raise PlanError(f"schedule {phase.schedule}: its settings give no rates ({first_line(error)}).") from error
    if any(isinstance(factor, complex) or not 0 <= factor < float("inf") for factor in factors):
        raise PlanError(f"schedule {phase.schedule}: its settings give rates below 0, or none at all.")
    return factors


def _last_change(stage: int, tensors: Sequence[TensorFact], before: tuple[Phase, ...]) -> str:
    for number in range(len(before), 0, -1):
        if any(kind_of(tensor, before[number - 1]) != "fixed" for tensor in tensors):
            return f"phase {number}"
    return ""


def _first_source(stage: str, situation: Situation) -> str:
    if situation.weights_from == "branches" and stage != "head":
        (branch,) = (one for one in situation.branches if stage in {own.name for own in one.model.stages})
        package = branch.model.weights.options().get("distribution", "")
        return "initialised" if is_new(branch) else f"{branch.model.weights.name} {package}".strip()
    return situation.new_from if stage == "head" or stage.startswith("lora ") else situation.weights_from
