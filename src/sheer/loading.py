"""A learner from a finished run: as it was, or taken further on other data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import cast

from sheer.api import assembled, training_pixels
from sheer.data.cache import Cache
from sheer.data.sources import Data
from sheer.errors import RunError
from sheer.learner import Learner
from sheer.loop.engine import available, choose_numerics
from sheer.model.build import Built, tensor_facts
from sheer.model.growing import grow_head
from sheer.model.hashing import weights_sha256
from sheer.model.inputs import extended
from sheer.model.rebuild import rebuild
from sheer.plan.plan import DataPlan, Origin, Part, Plan
from sheer.plan.profiles import profile_named
from sheer.plan.recipes import Given
from sheer.plan.training import given_like
from sheer.record.own import HeadMaker, Source, own_functions, own_module
from sheer.record.run import Row, Run, load_weights, read_run, read_start
from sheer.task.metrics import METRICS, Metric


def load(
    run: str | Path,
    *,
    data: Data | None = None,
    objects: Mapping[str, Source | Metric] | None = None,
    device: str | None = None,
    cache: bool | Cache = True,
) -> Learner:
    """The learner of a finished run: model, classes, transforms, plan and history. No network, nothing is executed.

    Args:
        run: The run folder.
        data: To train on or validate with. Where it is not the run's own, a new plan starts from the run's weights;
            it must have all classes of the run, and may have new ones: the old ones' rows of the head are kept.
        objects: Your own module's class or function, head, metrics and augmentations, under their names, for runs that used them.
        device: Another device than the run's to predict on.
        cache: As for `sheer.learner`.

    Raises:
        RunError: the folder is no finished run, is damaged, or the data lacks a class of the run.
        ModelError: the run used a module of your own that `objects` does not give.
    """
    kept = read_run(run)
    if data is not None:
        _check_data(kept, data)
    name = kept.plan.model.name.partition(":")[2]
    made_by = cast(Source | None, (objects or {}).get(name))
    head_name = kept.record.own_head.name if kept.record.own_head else ""
    made_head = cast(HeadMaker | None, (objects or {}).get(head_name))
    for given, was in ((made_by, kept.record.own_module), (made_head, kept.record.own_head)):
        if given is not None and was is not None and own_module(given) != was:
            raise RunError(f"{run}: the source of {was.name!r} is not what the run was made with. Give it as it was then.")
    built = rebuild(kept.plan, made_by, made_head)
    inputs = extended(built.inputs, kept.plan.model.channels, training_pixels(data))
    if kept.plan.phases:
        inputs = replace(inputs, mean=kept.plan.phases[-1].mean, std=kept.plan.phases[-1].std)
    built = replace(built, inputs=inputs)
    load_weights(kept, built.model)
    plan = kept.plan
    if device not in (None, plan.numerics.device) or not available(plan.numerics.device):
        profile = profile_named(plan.profile)
        plan = replace(plan, numerics=choose_numerics(device, profile, pictures=plan.numerics.memory_format == "channels_last"))
    known = METRICS[plan.data.task.name] | {name: cast(Metric, item) for name, item in (objects or {}).items()}
    metrics = {name: known[name] for name in plan.metrics if name in known}
    trains_from = plan.phases[-1].trains_from if plan.phases else None
    rows, start = kept.rows, read_start(kept)
    if data is not None and not _same_items(data.plan, kept.plan.data):
        data = replace(data, plan=replace(data.plan, task=kept.plan.data.task))
        built, plan, rows = _taken_further(kept, built, plan, data)
        start = {name: tensor.clone() for name, tensor in built.model.state_dict().items()}
    loaded = assembled(built, plan, data, _given_before(kept), None, rows, False, metrics, cache)
    loaded._functions = own_functions(kept, objects or {})
    loaded._start = start
    if plan.phases:
        loaded._stop, loaded._seconds, loaded._data_sha256 = kept.record.stop_reason, kept.record.seconds, kept.record.data_sha256
    else:  # weights of classes would have to fit the new ones
        loaded._given = replace(loaded._given, class_weights=None)
    loaded._trains_from = loaded._trains_from if trains_from is None else trains_from
    return loaded


def _check_data(kept: Run, data: Data) -> None:
    old, missing = kept.plan.data, [name for name in kept.plan.data.classes if name not in data.classes]
    if data.plan.listing_sha256 and data.plan.listing_sha256 == old.listing_sha256 and data.plan.held_out_sha256 != old.held_out_sha256:
        raise RunError(
            f"{kept.folder} was trained on the same files under the split {old.split}; the data has {data.plan.split}. Items that it "
            "learned would be held out now, and its metrics flatter. Give sheer.images the split of the run."
        )
    if data.plan.task.name != old.task.name or missing or (old.task.name == "regress" and data.classes != old.classes):
        raise RunError(
            f"{kept.folder} knows {', '.join(old.classes)} (task {old.task.name!r}); the data has {', '.join(data.classes)} "
            f"(task {data.plan.task.name!r}). Data for a trained model has all the classes that it knows, and may have new ones."
        )


def _same_items(one: DataPlan, other: DataPlan) -> bool:
    """Whether two data plans have the same items, targets and split; the name of the folder may differ."""
    return replace(one, source="", origins=(), notes=()) == replace(other, source="", origins=(), notes=())


def _taken_further(kept: Run, built: Built, plan: Plan, data: Data) -> tuple[Built, Plan, tuple[Row, ...]]:
    """A new plan that starts from the run's weights, for other data than the run's; classes may have been added."""
    grow_head(built.model, plan, data.classes)
    tensors = tensor_facts(built.model, plan.model.stages, plan.model.undecayed)
    start = weights_sha256(built.model)
    part = Part(name="run", settings=(("plan", kept.record.plan_hash), ("weights_sha256", kept.record.weights_sha256)))
    reasons = {
        "weights": Origin(field="weights", by="you", reason="the weights of a run, taken further on other data"),
        "weights_sha256": Origin(field="weights_sha256", by="measured", reason="over all tensors before training"),
    }
    origins = tuple(reasons.get(origin.field, origin) for origin in plan.model.origins)
    model = replace(plan.model, weights=part, weights_sha256=start, origins=origins)
    label = f"run {kept.record.plan_hash}"
    return replace(built, plan=model, tensors=tensors, weights_label=label), replace(plan, model=model, data=data.plan, phases=()), ()


def _given_before(kept: Run) -> Given:
    """What you gave for the run's last phase, so that training on goes on with it; the rest is decided anew."""
    if not kept.plan.phases:
        return Given()
    return given_like(kept.plan.phases[-1])
