"""A list of independent plans, each with a seed, carried out one after another or in processes; what is done already is not done again."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from sheer.data.cache import Cache
from sheer.data.pictures import READERS, Album
from sheer.data.sources import Data
from sheer.errors import PlanError, first_line
from sheer.interpret.predictions import Predictions
from sheer.learner import Learner
from sheer.loading import begun
from sheer.plan.defaults import Situation
from sheer.plan.groups import groups_of
from sheer.plan.plan import Part, Phase, Plan, Value
from sheer.plan.profiles import profile_named
from sheer.record.run import read_run

ITEMS = "items.npy"


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A plan to carry out from its beginning with a seed; its groups are filled in when its model is there."""

    name: str
    plan: Plan
    seed: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Outcome:
    """What became of a variant: metrics on the held-out items, float64 `items` (one number an item, more is better), and cost.

    `seconds` are those of training; `failed` is the error's first line, "" where it finished; `reused`: it was done already.
    """

    variant: Variant
    metrics: Mapping[str, float]
    items: np.ndarray
    seconds: float
    folder: Path
    failed: str
    reused: bool


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What all variants share: data, your own objects, the weights that a run started from, and where to write."""

    data: Data
    out: Path
    objects: Mapping[str, Callable[..., object]] = field(default_factory=dict)
    start: dict[str, torch.Tensor] | None = None


def seeded(plan: Plan, seed: int) -> Plan:
    """The plan with another seed; what the model starts from is measured anew."""
    if seed == plan.seed:
        return plan
    return replace(plan, seed=seed, model=replace(plan.model, weights_sha256=""))


def folder_of(variant: Variant, out: Path) -> Path:
    """Where a variant's run lies: its name, its seed and eight digits of the plan as it was asked for."""
    plan = replace(variant.plan, phases=tuple(replace(phase, groups=()) for phase in variant.plan.phases), origins=())
    plain = replace(plan, model=replace(plan.model, weights_sha256=""))
    name = re.sub(r"[^A-Za-z0-9]+", "-", variant.name).strip("-")[:60]
    return out / f"{name}-seed{variant.seed}-{hashlib.sha256(plain.to_json().encode()).hexdigest()[:8]}"


def grouped(learn: Learner, phases: Sequence[Phase]) -> tuple[Phase, ...]:
    """The phases with the parameter groups of the learner's own model, and what of it does not train found anew.

    Raises:
        PlanError: a phase fits the head, and of this model it cannot be fitted.
    """
    done: list[Phase] = []
    for phase in phases:
        situation = learn._situation(profile_named(learn.plan().profile), tuple(done))
        own = replace(phase, prefix=_proved(phase, situation))
        done.append(replace(own, groups=groups_of(own, situation)))
    return tuple(done)


def _proved(phase: Phase, situation: Situation) -> Part:
    """How what does not train is run: as in the phase, with the modules of this model; whole where they cannot be run by themselves."""
    if phase.prefix.name != "cached":
        return phase.prefix
    fact = situation.prefix(phase.trains_from, phase.norm, phase.size)
    if phase.optimizer.name == "lbfgs" and not fact.linear:
        raise PlanError(f"phase {phase.name!r} fits the head, which is not possible here: {fact.proof}.")
    if not fact.modules or phase.mix is not None:
        return Part(name="whole")
    own: dict[str, Value] = {"modules": fact.modules, "fold": bool(phase.prefix.options()["fold"]) and fact.fold}
    return replace(phase.prefix, settings=tuple((key, own.get(key, value)) for key, value in phase.prefix.settings))


def carried_out(variant: Variant, around: Surroundings, album: Album | None = None) -> Outcome:
    """Train the variant and judge it on the held-out items; errors are its outcome.

    The run folder appears whole or not at all.
    """
    folder = folder_of(variant, around.out)
    try:
        if (folder / "record.json").is_file():
            return _outcome(variant, folder, reused=True)
        unfinished = folder.with_name(f".{folder.name}.{os.getpid()}")
        shutil.rmtree(unfinished, ignore_errors=True)
        plan = seeded(variant.plan, variant.seed) if around.start is None else replace(variant.plan, seed=variant.seed)
        learn = begun(plan, around.data, objects=cast(Any, around.objects), start=around.start, quiet=True)
        if album is not None:
            learn._album = album
        learn.run(grouped(learn, plan.phases))
        if not learn._state.stop.startswith("plan completed"):
            raise PlanError(f"it did not come to its end: {learn._state.stop}.")
        items = scores(learn.validate())
        learn.save(unfinished)
        np.save(unfinished / ITEMS, items)
        unfinished.rename(folder)
        return _outcome(variant, folder, reused=False)
    except Exception as error:  # whatever a variant dies of, its own code included, is its outcome, and the others go on
        return failed(variant, around, error)


def failed(variant: Variant, around: Surroundings, error: Exception) -> Outcome:
    """The outcome of a variant that an error ended."""
    said = f"{type(error).__name__}: {first_line(error)}"
    return Outcome(
        variant=variant, metrics={}, items=np.zeros(0), seconds=0.0, folder=folder_of(variant, around.out), failed=said, reused=False
    )


def _outcome(variant: Variant, folder: Path, *, reused: bool) -> Outcome:
    run = read_run(folder)
    return Outcome(
        variant=variant,
        metrics=run.rows[-1].metrics | {"valid_loss": run.rows[-1].valid_loss},
        items=np.load(folder / ITEMS),
        seconds=sum(row.seconds for row in run.rows),
        folder=folder,
        failed="",
        reused=reused,
    )


def scores(table: Predictions) -> np.ndarray:
    """One number an item, float64 (items,), more is better: right or not, the share of labels right, or minus the absolute error.

    Of weighted items each times its weight, which is 1 on average: a paired test of them is one of the weighted mean being the same.
    """
    target = table._known()
    if table.task == "classify":
        each = (table.predicted == target).astype(np.float64)
    elif table.task == "tag":
        each = ((table.outputs >= 0.5) == (target > 0.5)).mean(axis=1)
    else:
        each = -np.abs(table.outputs - target).mean(axis=1)
    return each if table.weights is None else each * (table.counts() / table.counts().mean())


def all_carried_out(
    variants: Sequence[Variant], around: Surroundings, *, processes: int = 1, told: Callable[[Outcome, int, int], None] | None = None
) -> list[Outcome]:
    """The outcome of each variant, in order; `told` hears of each as it ends, with its number and how many there are.

    With `processes`, several train at a time, each in a process of its own; the weights are the same.

    Raises:
        PlanError: processes is no positive whole number.
    """
    if isinstance(processes, bool) or not isinstance(processes, int) or processes < 1:
        raise PlanError(f"processes={processes!r}: give how many variants train at a time, at least 1.")
    around.out.mkdir(parents=True, exist_ok=True)
    tell: Callable[[Outcome, int, int], Any] = told or (lambda outcome, number, count: None)
    if processes == 1:
        done, album = list[Outcome](), Album(Cache() if around.data.paths else None, READERS)
        for number, variant in enumerate(variants, 1):
            done.append(carried_out(variant, around, album))
            tell(done[-1], number, len(variants))
        return done
    found: dict[int, Outcome] = {}
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        waiting: dict[Future[Outcome], int] = {pool.submit(carried_out, one, around): index for index, one in enumerate(variants)}
        for future in as_completed(waiting):
            index = waiting[future]
            try:
                found[index] = future.result()
            except Exception as error:  # the process died, or what it needs cannot be sent to it
                found[index] = failed(variants[index], around, error)
            tell(found[index], len(found), len(variants))
    return [found[index] for index in range(len(variants))]
