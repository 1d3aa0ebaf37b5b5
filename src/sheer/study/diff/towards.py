"""What people compare, as plans: plans, runs, learners, and profiles by name as they would train the same model on the same data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from sheer.errors import PlanError, nearest
from sheer.learner import Learner
from sheer.loop.engine import choose_numerics
from sheer.model.branches import sample_rows
from sheer.model.build import DEFAULT_MODEL, Built, build_named, tensor_facts
from sheer.model.cutting import Facts
from sheer.model.heads import HEADS
from sheer.model.rebuild import own_branches, rebuild
from sheer.model.table import build_table
from sheer.model.text import LIBRARY
from sheer.plan.defaults import Situation, resolve
from sheer.plan.facts import fixed_stages, items_of, source_of_new
from sheer.plan.looks import Room
from sheer.plan.plan import DataPlan, Numerics, Origin, Part, Phase, Plan
from sheer.plan.profiles import PROFILES, Profile, profile_named
from sheer.plan.recipes import Given, merged, of_profile, unrolled
from sheer.plan.training import given_like
from sheer.record.again import read_tokenizer
from sheer.record.run import Row, read_run, read_start
from sheer.study.explain.script_lines import objects_of
from sheer.task.metrics import judges

EPOCHS = 3
Side = Plan | Learner | str | Path


@dataclass(frozen=True, kw_only=True)
class Compared:
    """One side of a comparison: its plan, what it is called, and where it comes from a run or a learner what that needs.

    `tokenizer` is the text of that of an encoder, "" where there is none or it is not known.
    """

    title: str
    plan: Plan
    folder: Path | None = None
    rows: tuple[Row, ...] = ()
    objects: Mapping[str, Callable[..., object]] = field(default_factory=dict)
    start: dict[str, torch.Tensor] | None = None
    tokenizer: str = ""


def compared(a: Side, b: Side) -> tuple[Compared, Compared]:
    """Both sides; a profile trains the other side's model on its data, two profiles the default network on photographs in ten classes.

    A string is a profile's name where there is one, else a run folder. What you gave for the other side holds for the profile too.

    Raises:
        PlanError: a side is none of these, or a profile cannot be resolved for the other side's model.
        RunError: the folder is no finished run.
    """
    left, right = _side(a), _side(b)
    if left is None and right is None:
        standard = _standard(str(a))
        return Compared(title=str(a), plan=standard), Compared(title=str(b), plan=_standard(str(b)))
    left = left or Compared(title=str(a), plan=towards(right.plan, str(a)))  # type: ignore[union-attr]
    right = right or Compared(title=str(b), plan=towards(left.plan, str(b)))
    if left.title == right.title:
        left, right = replace(left, title=f"{left.title} (a)"), replace(right, title=f"{right.title} (b)")
    return left, right


def _side(target: Side) -> Compared | None:
    """A side that has a plan of its own; None for a profile."""
    if isinstance(target, Plan):
        return Compared(title=f"plan {target.short_hash()}", plan=target)
    if isinstance(target, Learner):
        plan = target.plan()
        if not plan.phases:
            plan = target.plan(of_profile(EPOCHS, profile=plan.profile))
        return Compared(
            title=f"learner {plan.short_hash()}",
            plan=plan,
            rows=tuple(target.history),
            objects=objects_of(target),
            start=target._start,
            tokenizer=target._tokenizer,
        )
    if not isinstance(target, str | Path):
        raise PlanError(f"{target!r}: give a plan, a learner, a run folder, or the name of a profile ({', '.join(PROFILES)}).")
    if isinstance(target, str) and target in PROFILES:
        return None
    folder = Path(target).expanduser()
    if not folder.exists():
        raise PlanError(f"{str(target)!r} is neither a run folder nor a profile. {nearest(str(target), PROFILES)}")
    run = read_run(folder)
    return Compared(
        title=folder.name,
        plan=run.plan,
        folder=folder,
        rows=run.rows,
        start=read_start(run),
        tokenizer=read_tokenizer(folder, run.plan.data),
    )


def towards(plan: Plan, name: str) -> Plan:
    """What profile `name` would do with the plan's model and data: its own training, in as many epochs as the plan's last phase.

    Values that you gave, or that were measured, stay; the data and its split stay, and so does the network of a text encoder, with LoRA,
    or of several inputs.

    Raises:
        PlanError: the plan's model, its head or a branch is a module of your own, which is not to be had from the plan.
    """
    constants = profile_named(name)
    library = plan.model.name.partition(":")[0]
    kept = bool(plan.model.branches) or plan.model.lora is not None or library == LIBRARY
    own = ", ".join(own_branches(plan.model).values())
    if library not in ("timm", "torchvision", "sheer", LIBRARY) or own or (plan.model.head and plan.model.head.name not in HEADS):
        what = f"{plan.model.name} with head {plan.model.head}" + (f" and branches of your own ({own})" if own else "")
        raise PlanError(f"{what}: a profile is resolved for networks by name. Give two plans.")
    last = plan.phases[-1] if plan.phases else None
    by = {origin.field: origin.by for origin in plan.model.origins}
    head = plan.model.head if by.get("head") == "you" else None
    if kept:  # no profile knows another network for texts, LoRA or several inputs
        built = rebuild(plan, None, None)
    elif plan.model.body is not None:
        built = build_table(
            (plan.model.body.name, plan.model.body.options()),
            columns=plan.data.columns,
            task=plan.data.task.name,
            classes=len(plan.data.classes),
            profile=constants,
            head=head,
            make_head=None,
            seed=plan.seed,
        )
    else:
        built = build_named(
            plan.model.name,
            weights="none",
            classes=len(plan.data.classes),
            profile=constants,
            head=head,
            seed=plan.seed,
            head_by="you" if head else "default",
        )
    model = replace(
        built.plan, name=plan.model.name, weights=plan.model.weights, weights_sha256=plan.model.weights_sha256, licence=plan.model.licence
    )
    model = replace(model, channels=plan.model.channels, channel_init=plan.model.channel_init)
    theirs = {origin.field: origin for origin in plan.model.origins if origin.field not in ("head", "stages")}
    model = replace(model, origins=tuple(theirs.get(origin.field, origin) for origin in model.origins))
    if by.get("stages") == "you":
        model = replace(model, stages=plan.model.stages)
    model = plan.model if kept else model
    inputs = replace(built.inputs, mean=last.mean, std=last.std) if last else built.inputs
    built = replace(built, plan=model, inputs=inputs, tensors=tensor_facts(built.model, model.stages, model.undecayed))
    given = given_like(last) if last else Given()
    if isinstance(given.norm, tuple) and len(given.norm) != len(model.stages):
        given = replace(given, norm=given.norm[0])
    numerics = _numerics(plan.numerics, constants, plan.data.pictures != "none")
    bare_plan = replace(plan, profile=name, model=model, numerics=numerics, phases=())
    return _resolved(bare_plan, built, given, last.epochs if last else EPOCHS)


def _numerics(was: Numerics, constants: Profile, pictures: bool) -> Numerics:
    """The profile's numerics on the same device; what you gave, or what was measured, stays."""
    fresh = choose_numerics(was.device, constants, pictures=pictures)
    kept = {origin.field: origin for origin in was.origins if origin.by in ("you", "measured", "machine") or origin.field == "device"}
    origins = tuple(kept.get(origin.field, origin) for origin in fresh.origins)
    return replace(fresh, **{name: getattr(was, name) for name in kept}, origins=origins)


def _resolved(plan: Plan, built: Built, given: Given, epochs: int) -> Plan:
    """The plan with the phases of its profile's own training."""
    constants, phases = profile_named(plan.profile), list[Phase]()
    rows = sample_rows(plan.data.columns) if plan.data.columns else None
    for draft in of_profile(epochs, profile=plan.profile):
        for one in unrolled(draft, len(plan.model.stages), fixed_stages(plan.model.lora)):
            situation = Situation(
                profile=constants,
                stages=plan.model.stages,
                tensors=built.tensors,
                inputs=built.inputs,
                train_items=plan.data.train_items,
                valid_items=plan.data.valid_items,
                task=plan.data.task.name,
                train_counts=plan.data.train_counts,
                judged_by=judges(plan.metrics, plan.data.valid_items),
                room=Room(device=plan.numerics.device, free=0, items=plan.data.train_items, array_bytes=0),
                pictures=plan.data.pictures,
                items=items_of(plan.data.columns),
                body=plan.model.body.name if plan.model.body else "",
                trains_from=0,
                fixed=fixed_stages(plan.model.lora),
                new_from=source_of_new(plan.model.lora),
                weights_from=plan.model.weights.name,
                prefix=Facts(model=built.model, plan=plan.model, arrays=rows, numerics=plan.numerics, inputs=plan.data.inputs),
                phases_before=tuple(phases),
                branches=plan.model.branches,
            )
            phases.append(resolve(replace(one, given=merged(one.given, given)), situation))
    return replace(plan, phases=tuple(phases))


def _standard(name: str) -> Plan:
    """What a profile does with the default network on 1,000 photographs in ten classes, where nothing is given."""
    constants = profile_named(name)
    share = constants.number("valid")
    data = DataPlan(
        source="1,000 photographs",
        pictures="files",
        task=Part(name="classify"),
        classes=tuple(f"class {number}" for number in range(10)),
        train_items=round(1000 * (1 - share)),
        valid_items=round(1000 * share),
        train_counts=(round(100 * (1 - share)),) * 10,
        valid_counts=(round(100 * share),) * 10,
        split=Part(name=str(constants.value("split")), settings=(("share", share),)),
        weight="",
        listing_sha256="",
        targets_sha256="",
        held_out_sha256="",
        bad_files="raise",
        unknown="raise",
        skipped=(),
        columns=(),
        notes=(),
        origins=(Origin(field="split", by="default", reason=constants.reason("split")),),
    )
    built = build_named(DEFAULT_MODEL, weights="none", classes=10, profile=constants, head=None, seed=0, head_by="default")
    plan = Plan(
        profile=name,
        seed=0,
        metrics=("accuracy",),
        weighted_metrics=False,
        model=built.plan,
        data=data,
        numerics=choose_numerics("cpu", constants, pictures=True),
        phases=(),
        origins=(),
    )
    return _resolved(plan, built, Given(), EPOCHS)
