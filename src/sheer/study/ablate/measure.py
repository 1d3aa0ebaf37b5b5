"""Probes: a short paired ablation of one decision, whose result becomes the plan's value with origin "measured"."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from sheer.data.sources import Data
from sheer.data.splits import SPLITS
from sheer.errors import PlanError, RunError
from sheer.learner import Learner
from sheer.loading import begun
from sheer.plan import recipes
from sheer.plan.checks import whole
from sheer.plan.defaults import NORM_POLICIES
from sheer.plan.facts import without_data
from sheer.plan.plan import Origin, Plan
from sheer.plan.table import columns
from sheer.streams import permutation, stream_key
from sheer.study.ablate.ablation import effect_of
from sheer.study.ablate.statistics import half_width
from sheer.study.ablate.variants import Outcome, Surroundings, Variant, all_carried_out, seeded
from sheer.study.checks import check_learner
from sheer.study.explain.script_lines import objects_of
from sheer.task.metrics import LOWER_IS_BETTER

SIZES = (96, 128, 160)
JUDGED = 1 / 3


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What a probe found: each value's scores, a seed each, in order, its mean seconds, and which value was taken.

    `train_items` were learned from and `judged_items` judged on, all of them training items: what is held out was not looked at.
    """

    field: str
    metric: str
    scores: Mapping[str, tuple[float, ...]]
    seconds: Mapping[str, float]
    chosen: str
    runner_up: str
    difference: float
    half: float | None
    seeds: int
    epochs: int
    train_items: int
    judged_items: int

    def reason(self) -> str:
        """The origin's reason: the numbers."""
        said = ", ".join(f"{value} {fmean(scores):.3f}" for value, scores in self.scores.items())
        half = "" if self.half is None else f" ± {self.half:.3f}"
        noise = ", smaller than seed noise" if self.half is not None and abs(self.difference) <= self.half else ""
        return (
            f"{self.metric} {said} (mean of {self.seeds} seeds, {self.epochs} epochs on {self.train_items} items, judged on "
            f"{self.judged_items} other training items); {self.chosen} against {self.runner_up} {self.difference:+.3f}{half}{noise}"
        )

    def __str__(self) -> str:
        rows = []
        for value, scores in self.scores.items():
            half = half_width(scores)
            mark = "taken" if value == self.chosen else ""
            rows.append([value, f"{fmean(scores):.4f}" + ("" if half is None else f" ± {half:.4f}"), f"{self.seconds[value]:.1f}", mark])
        return f"{columns((self.field, self.metric, 'seconds', ''), rows, right=(1, 2))}\n{self.reason()}"


def measure_norm_policy(
    learner: Learner, *, policies: Sequence[str] = NORM_POLICIES, epochs: int = 1, seeds: int = 3, items: int = 600
) -> Measurement:
    """Which norm policy serves the body best here; the learner's next recipes use it, and the plan says what was measured.

    Each policy trains by `fine_tune(epochs)` from the pretrained weights on two thirds of `items` training items (all where there are
    fewer) and is judged on the other third, with the same seeds. Nothing else of the learner changes.

    Raises:
        PlanError: not a learner, fewer than two policies, a policy that is none, or a module of yours that cannot be made anew.
        DataError: the learner has no data.
        RunError: a policy could not be trained.
    """
    check_learner(learner, "measure_norm_policy")
    unknown = [policy for policy in policies if policy not in NORM_POLICIES]
    if unknown or len(set(policies)) < 2:
        raise PlanError(f"policies={policies!r}: give two or more of {', '.join(NORM_POLICIES)}.")
    return _measured(learner, "norm", list(policies), epochs, seeds, items)


def measure_resolution(learner: Learner, *, sizes: Sequence[int] = SIZES, epochs: int = 1, seeds: int = 3, items: int = 600) -> Measurement:
    """Which side of the pictures serves best, with what each costs; used and judged as in `measure_norm_policy`.

    Raises:
        PlanError: not a learner, fewer than two sizes, pictures that are not in files, or a module of yours that cannot be made anew.
        DataError: the learner has no data.
        RunError: a size could not be trained.
    """
    check_learner(learner, "measure_resolution")
    sides = sorted({whole(size, "size", 1) for size in sizes}) if isinstance(sizes, Sequence) and not isinstance(sizes, str) else []
    if len(sides) < 2:
        raise PlanError(f"sizes={sizes!r}: give two or more sides in pixels, such as {SIZES}.")
    if learner.data is not None and not learner.data.paths:
        raise PlanError("Pictures in memory keep their size; measure_resolution is for photographs.")
    return _measured(learner, "size", sides, epochs, seeds, items)


def _measured(learner: Learner, field: str, values: Sequence[Any], epochs: int, seeds: int, items: int) -> Measurement:
    epochs, seeds, items = whole(epochs, "epochs", 1), whole(seeds, "seeds", 1), whole(items, "items", 6)
    if learner.data is None:
        raise without_data(learner.plan().data)
    if learner.plan().model.name.startswith("module:"):
        raise PlanError("Your module is there once, and a probe needs it fresh each time: give sheer.learner a function that makes it.")
    data = probe_data(learner.data, items, learner.plan().seed)
    around_plan = replace(learner.plan(), phases=(), data=data.plan)
    with tempfile.TemporaryDirectory() as folder:
        around = Surroundings(data=data, out=Path(folder), objects=objects_of(learner), start=learner._start)
        variants = [
            Variant(name=str(value), plan=plan, seed=seed)
            for value, plan in ((value, _plan_with(learner, around_plan, around, field, value, epochs)) for value in values)
            for seed in range(learner.plan().seed, learner.plan().seed + seeds)
        ]
        outcomes = all_carried_out(variants, around)
    failed = next((one for one in outcomes if one.failed), None)
    if failed is not None:
        raise RunError(f"{field} {failed.variant.name} could not be measured: {failed.failed}")
    metric, by_value = around_plan.metrics[0], dict[str, list[Outcome]]()
    for one in outcomes:
        by_value.setdefault(one.variant.name, []).append(one)
    sign = -1 if metric in LOWER_IS_BETTER else 1
    means = {name: sign * fmean(one.metrics[metric] for one in ones) for name, ones in by_value.items()}
    best, second = sorted(means, key=lambda name: -means[name])[:2]
    effect = effect_of(best, by_value[best], second, by_value[second], metric)
    assert effect is not None
    result = Measurement(
        field=field,
        metric=metric,
        scores={name: tuple(one.metrics[metric] for one in ones) for name, ones in by_value.items()},
        seconds={name: fmean(one.seconds for one in ones) for name, ones in by_value.items()},
        chosen=best,
        runner_up=second,
        difference=effect.mean,
        half=effect.half,
        seeds=seeds,
        epochs=sum(phase.epochs for phase in variants[0].plan.phases),
        train_items=len(data.train),
        judged_items=len(data.valid),
    )
    origin = Origin(field=field, by="measured", reason=result.reason())
    others = tuple(one for one in learner._given.measured if one.field != field)
    value = next(value for value in values if str(value) == best)
    learner._given = replace(learner._given, **{field: value}, measured=(*others, origin))
    return result


def _plan_with(learner: Learner, plan: Plan, around: Surroundings, field: str, value: object, epochs: int) -> Plan:
    """The probe's plan with that value, from the beginning."""
    objects: Any = around.objects
    fresh = begun(seeded(plan, plan.seed), around.data, objects=objects, start=around.start, quiet=True)
    fresh._given = replace(learner._given, measured=(), **{field: value})  # type: ignore[arg-type]
    fresh._functions = learner._functions
    return fresh.plan(recipes.fine_tune(epochs, profile=plan.profile))


def probe_data(data: Data, items: int, seed: int) -> Data:
    """At most `items` of the training items, drawn and split anew: two thirds to learn from, a third to judge on."""
    order = permutation(stream_key(seed, "probe"), len(data.train))[:items]
    chosen = data.train[np.sort(order)]
    classify = data.plan.task.name == "classify"
    draw = permutation(stream_key(seed, "probe", 1), len(chosen))
    labels = data.targets[chosen] if classify else np.zeros(len(chosen), np.int64)
    held = SPLITS["stratified" if classify else "random"](labels, JUDGED, draw)
    train, valid = chosen[~held], chosen[held]
    plan = replace(data.plan, train_items=len(train), valid_items=len(valid), held_out_sha256="")
    if plan.train_counts:
        plan = replace(plan, train_counts=_counts(data, train), valid_counts=_counts(data, valid))
    return replace(data, train=train, valid=valid, plan=plan)


def _counts(data: Data, items: np.ndarray) -> tuple[int, ...]:
    """Items of each class or label."""
    targets = data.targets[items]
    found = np.bincount(targets, minlength=len(data.classes)) if targets.ndim == 1 else (targets > 0.5).sum(axis=0)
    return tuple(int(count) for count in found)
