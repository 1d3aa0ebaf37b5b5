"""A learning rate as people write it (a number, a slice, a list) to one peak rate per stage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sheer.errors import PlanError
from sheer.plan.plan import Branch, ModelPlan


@dataclass(frozen=True, kw_only=True)
class Decayed:
    """The last stage at `last`, each stage before it at `factor` times the rate of the one after (layer-wise decay)."""

    last: float
    factor: float


Rate = float | slice | Sequence[float] | Decayed


def spread(rate: Rate, stages: int, rest_divisor: float = 10.0) -> tuple[float, ...]:
    """One peak rate per stage, first stage first.

    A number goes to all stages; slice(x) gives x to the last and x / rest_divisor to all others;
    slice(a, b) is the geometric row a (b/a)^(i / (n-1)); a list is taken as it is; Decayed is a geometric
    row down from the last stage. Source: fastai 2.8; Clark et al. 2020 (ELECTRA) for the layer-wise decay.

    Raises:
        PlanError: a rate is not positive and finite, or a list has another length than the stages.

    >>> spread([1e-5, 1e-4, 1e-3], 3), spread(slice(2.0), 2)
    ((1e-05, 0.0001, 0.001), (0.2, 2.0))
    """
    if isinstance(rate, Decayed):
        check_rates([rate.last], rate.last)
        if isinstance(rate.factor, bool) or not isinstance(rate.factor, int | float) or not 0 < rate.factor <= 1:
            raise PlanError(f"decay={rate.factor!r}: give the ratio of a stage's rate to the next one's, above 0 and at most 1.")
        return tuple(rate.last * rate.factor ** (stages - 1 - index) for index in range(stages))
    if isinstance(rate, slice):
        start, stop = rate.start, rate.stop
        if rate.step is not None or stop is None:
            raise PlanError(f"rate={rate!r}: write slice(last) or slice(first, last), without a step.")
        check_rates([stop] if start is None else [start, stop], rate)
        if start is None:
            return (*[stop / rest_divisor] * (stages - 1), float(stop))
        if stages == 1:
            return (float(stop),)
        factor = (stop / start) ** (1 / (stages - 1))
        if not 0 < factor < float("inf"):
            raise PlanError(f"rate={rate!r}: the rates are too far apart to lie on a geometric row.")
        return (*[start * factor**i for i in range(stages - 1)], float(stop))
    if isinstance(rate, str | bytes) or not isinstance(rate, Sequence):
        check_rates([rate], rate)
        return (float(rate),) * stages  # type: ignore[arg-type]
    check_rates(rate, rate)
    rates = tuple(float(value) for value in rate)
    if len(rates) != stages:
        raise PlanError(
            f"rate={rate!r} has {len(rates)} values, but the model has {stages} stages: give one value a stage, a slice, or one number."
        )
    return rates


def is_new(branch: Branch) -> bool:
    """Whether the branch starts from random weights."""
    return branch.model.weights.name == "none"


def depths(stages: int, branches: Sequence[Branch]) -> tuple[int, ...]:
    """How far each stage is from the input, counted back from the head: stages of the same depth of several branches share one rate.

    The last pretrained stage of each branch comes right before the head; what starts from random weights is as deep as the head.
    """
    if not branches:
        return tuple(range(stages))
    known = [len(branch.model.stages) for branch in branches if not is_new(branch)]
    top = max(known, default=0)
    return (*(top - count + place for count in known for place in range(count)), *[top] * (stages - sum(known)))


def first_trained(model: ModelPlan) -> int:
    """The stage from which on a new learner trains: all of what starts from random weights or has no head, else that head."""
    pretrained = model.body is None or model.body.name == "encoder"
    return first_new(len(model.stages), model.branches) if model.head and pretrained else 0


def first_new(stages: int, branches: Sequence[Branch]) -> int:
    """The first stage that starts from random weights: the head, or that of the first new branch."""
    return sum(len(branch.model.stages) for branch in branches if not is_new(branch)) if branches else stages - 1


def staged_rates(rate: Rate, stages: int, branches: Sequence[Branch], rest_divisor: float) -> tuple[float, ...]:
    """One rate a stage: spread over the depths of the branches, but for a list, which has one a stage."""
    if not branches or not isinstance(rate, slice | Decayed):
        return spread(rate, stages, rest_divisor)
    at = depths(stages, branches)
    by_depth = spread(rate, max(at) + 1, rest_divisor)
    return tuple(by_depth[depth] for depth in at)


def check_rates(rates: Sequence[object], given: object) -> None:
    """PlanError unless every rate is a positive, finite number, of Python or NumPy."""
    for rate in rates:
        try:
            allowed = not isinstance(rate, bool | str | bytes) and 0 < float(rate) < float("inf")  # type: ignore[arg-type]
        except (TypeError, ValueError):
            allowed = False
        if not allowed:
            raise PlanError(f"rate={given!r}: a learning rate is a positive, finite number, for instance 2e-3.")
