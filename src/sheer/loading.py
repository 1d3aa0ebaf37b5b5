"""A learner from a run: finished, taken further on other data, or interrupted and resumed; and one at the beginning of a plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import torch
from safetensors.torch import load_file

from sheer.api import assembled
from sheer.data.cache import Cache
from sheer.data.feed import MEMORY_FORMATS
from sheer.data.pictures import threads_of
from sheer.data.sources import Data
from sheer.data.tabular import fitted_as
from sheer.data.text import tokenised_as
from sheer.errors import DataError, ModelError, PlanError, RunError, first_line
from sheer.learner import Learner
from sheer.loop.callbacks import Callback
from sheer.loop.engine import available, choose_numerics
from sheer.model.adapter import adapter_sha256, take_adapter
from sheer.model.build import Built, tensor_facts
from sheer.model.growing import grow_head
from sheer.model.hashing import weights_sha256
from sheer.model.inputs import extended
from sheer.model.made import training_pixels
from sheer.model.rebuild import rebuild
from sheer.plan.checks import check_objects, check_weighted
from sheer.plan.document import differences
from sheer.plan.facts import adapter_of, lora_settings
from sheer.plan.plan import DataPlan, Origin, Part, Plan
from sheer.plan.profiles import profile_named
from sheer.plan.recipes import Given
from sheer.plan.training import given_like
from sheer.record.again import data_again, data_place, read_tokenizer
from sheer.record.held import begun_plan, last_checkpoint
from sheer.record.keeping import EVERY, Checkpoints
from sheer.record.own import Source, own_functions, own_makers
from sheer.record.run import Row, Run, finished_commit, load_weights, read_run, read_start
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
            it must have all classes of the run, and may have new ones: the old ones' rows of the head are kept. Columns become what the
            run's schema says, which its network knows; texts are read by its tokenizer.
        objects: Your own module's class or function, head, metrics and augmentations, under their names, for runs that used them.
        device: Another device than the run's to predict on.
        cache: As for `sheer.learner`.

    Raises:
        RunError: the folder is no finished run, is damaged, or the data lacks a class of the run.
        ModelError: the run used a module of your own that `objects` does not give.
    """
    kept = read_run(run)
    check_objects(objects)
    if not isinstance(cache, bool | Cache):
        raise PlanError(f"cache={cache!r}: give True, False, or a sheer.Cache with the folder and the limit.")
    data_place(kept.folder)
    tokenizer = read_tokenizer(kept.folder, kept.plan.data)
    if data is not None:
        data = _checked(kept, data, tokenizer)
    given = objects or {}
    own = own_makers(kept.plan, given, kept.record)
    try:
        built = _as_trained(rebuild(kept.plan, own.made_by, own.made_head), kept.plan, data)
    except (KeyError, TypeError, RuntimeError) as error:  # names and settings of a plan that something else has written
        raise RunError(f"The model of {run} cannot be made from its plan: {first_line(error)}. Was it edited?") from error
    load_weights(kept, built.model)
    plan = kept.plan
    layout = MEMORY_FORMATS[plan.numerics.memory_format]  # as training left it: in another layout sums are taken in another order
    built.model.to(memory_format=layout)  # type: ignore[call-overload]
    if device not in (None, plan.numerics.device) or not available(plan.numerics.device):
        profile = profile_named(plan.profile)
        plan = replace(plan, numerics=choose_numerics(device, profile, pictures=plan.numerics.memory_format == "channels_last"))
    trains_from = plan.phases[-1].trains_from if plan.phases else None
    rows, start = kept.rows, read_start(kept)
    if data is not None and not _same_items(data.plan, kept.plan.data):
        built, plan, rows = _taken_further(kept, built, plan, data)
        start = {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in built.model.state_dict().items()}
    metrics = _metrics(plan, given)
    check_weighted(plan.weighted_metrics, metrics, plan.data.weight)
    loaded = assembled(built, plan, data, _given_before(kept.plan), None, rows, False, metrics, cache)
    loaded._functions = own_functions(kept.plan, given)
    loaded._start, loaded._tokenizer = start, tokenizer
    if plan.phases:
        was = kept.record
        loaded._state.stop, loaded._state.seconds, loaded._state.data_sha256 = was.stop_reason, was.seconds, was.data_sha256
        loaded._state.events = list(was.events)
    else:  # weights of classes would have to fit the new ones
        loaded._given = replace(loaded._given, class_weights=None)
    loaded._trains_from = loaded._trains_from if trains_from is None else trains_from
    return loaded


def begun(
    plan: Plan,
    data: Data,
    *,
    objects: Mapping[str, Source | Metric] | None = None,
    start: dict[str, torch.Tensor] | None = None,
    out: Path | None = None,
    quiet: bool = False,
    cache: bool | Cache = True,
    readers: int | None = None,
    checkpoints: Checkpoints = EVERY,
) -> Learner:
    """A learner at the very beginning of `plan`, with none of its phases done: `begun(plan, data).run(plan.phases)` carries it out.

    Args:
        plan: Resolved; where its `model.weights_sha256` is "" (another seed than it was made with) what is measured fills it.
        data: The plan's own.
        objects: As for `load`.
        start: The tensors that the plan starts from, for plans whose weights are another run's, or that have an adapter.
        out: The run folder.
        quiet, cache, readers, checkpoints: As for `sheer.learner`.

    Raises:
        ModelError: the weights to start from cannot be had, or are not those of the plan.
        RunError: the data is not the plan's.
    """
    data = _scaled(data, plan.data)
    if not _same_items(data.plan, plan.data):
        raise RunError("The data is not the plan's: items, targets or split differ. Give it as it was when the plan was made.")
    own = own_makers(plan, objects or {})
    adapter = adapter_of(plan.model.lora)
    if adapter and (start is None or adapter_sha256(start) != adapter):
        raise ModelError(f"The plan starts from the adapter {adapter[:8]}, and what was given has other tensors, or there is nothing.")
    built = rebuild(plan, own.made_by, own.made_head, initial=start is None or bool(adapter))
    if start is not None and adapter:
        take_adapter(built.model, start, f"adapter {adapter[:8]}")
    elif start is not None:
        built.model.load_state_dict(start)
        if weights_sha256(built.model) != plan.model.weights_sha256:
            raise ModelError("The weights to start from are not those of the plan: their SHA-256 is another.")
    built = _as_trained(replace(built, tensors=tensor_facts(built.model, plan.model.stages, plan.model.undecayed)), plan, data)
    empty = replace(plan, model=built.plan, phases=())
    learn = assembled(built, empty, data, _given_before(plan), out, (), quiet, _metrics(plan, objects or {}), cache, readers, checkpoints)
    learn._functions, learn._start = own_functions(plan, objects or {}), start
    return learn


def resume(
    run: str | Path,
    *,
    data: Data | str | Path | None = None,
    objects: Mapping[str, Source | Metric] | None = None,
    callbacks: Sequence[Callback] = (),
    quiet: bool = False,
    cache: bool | Cache = True,
    readers: int | None = None,
    checkpoints: Checkpoints = EVERY,
) -> Learner:
    """Go on with the run in a folder from its newest whole checkpoint, to the same bits as if it had never stopped.

    Args:
        run: The run folder. A finished run is loaded, and nothing is trained.
        data: The run's own, or the folder where its files lie now; where the run folder says that they lie, if not given.
        objects: As for `load`.
        callbacks: Observers of the loop.
        quiet, cache, readers, checkpoints: As for `sheer.learner`.

    Raises:
        RunError: the folder is no run, no checkpoint of it is whole, or the data is not the run's: what differs is said.
        ModelError: the run used a module of your own that `objects` does not give.
    """
    root = Path(run).expanduser()
    state, _ = last_checkpoint(root) if finished_commit(root) is None else (None, [])
    finished = finished_commit(root) is not None or (root / "record.json").is_file()
    plan = state.plan if state is not None else read_run(root).plan if finished else begun_plan(root)
    if plan is None:
        raise RunError(f"There is no run in {root}: give the folder that sheer train named, or that out= was.")
    if state is None and finished:
        print(f"{root} is a finished run: nothing is left to do.")
        return load(root, data=data if isinstance(data, Data) else None, objects=objects, cache=cache)
    if not finished and (edited := differences(begun_plan(root), plan)):
        raise RunError(f"{root / 'plan.json'} is not the plan of the run any more: {'; '.join(edited[:8])}. Bring it back as it was.")
    items = data_again(root, plan, data) if not isinstance(data, Data) else _scaled(data, plan.data)
    items = tokenised_as(items, plan.data, read_tokenizer(root, plan.data)) if items.texts else items
    if found := differences(plan.data, items.plan, "data"):
        raise RunError(f"The data is not that of {root}: {'; '.join(found[:8])}. Nothing was trained.")
    if not available(plan.numerics.device):
        raise RunError(f"{root} was trained on {plan.numerics.device!r}, which this machine does not have; on another device bits differ.")
    given, first, readers = objects or {}, state.first if state is not None else 0, threads_of(readers)
    if state is None:
        if not (root / "data.json").is_file():
            raise RunError(f"{root} was not made to its end, and nothing was trained: run the same command or lines again.")
        start = root / "start.safetensors"
        weights = load_file(start) if start.is_file() else None
        learn = begun(
            plan, items, objects=given, start=weights, out=root, quiet=quiet, cache=cache, readers=readers, checkpoints=checkpoints
        )
    else:
        own = own_makers(plan, given, state.record(state.stop))
        built = _as_trained(rebuild(plan, own.made_by, own.made_head), plan, items)
        before = replace(plan, phases=plan.phases[:first])
        learn = assembled(built, before, items, _given_before(plan), root, (), quiet, _metrics(plan, given), cache, readers, checkpoints)
        learn._functions = own_functions(plan, given)
    return learn.run(plan.phases[first:], callbacks=callbacks)


def _as_trained(built: Built, plan: Plan, data: Data | None) -> Built:
    """With the statistics of the inputs that the plan's phases use."""
    inputs = extended(built.inputs, plan.model.channels, training_pixels(data))
    return replace(built, inputs=replace(inputs, mean=plan.phases[-1].mean, std=plan.phases[-1].std) if plan.phases else inputs)


def _metrics(plan: Plan, objects: Mapping[str, Source | Metric]) -> dict[str, Metric]:
    known = METRICS[plan.data.task.name] | {name: cast(Metric, item) for name, item in objects.items()}
    return {name: known[name] for name in plan.metrics if name in known}


def _checked(kept: Run, data: Data, tokenizer: str) -> Data:
    """The data, texts tokenised as in the run, if the run's model can be asked about it."""
    if not isinstance(data, Data):
        raise DataError(f"data={data!r}: give what sheer.images(folder) or sheer.arrays(inputs, labels) returns.")
    data = tokenised_as(fitted_as(data, kept.plan.data), kept.plan.data, tokenizer)
    old, missing = kept.plan.data, [name for name in kept.plan.data.classes if name not in data.classes]
    if data.plan.listing_sha256 and data.plan.listing_sha256 == old.listing_sha256 and data.plan.held_out_sha256 != old.held_out_sha256:
        raise RunError(
            f"{kept.folder} was trained on the same files under the split {old.split}; the data has {data.plan.split}. Items that it "
            "learned would be held out now, and its metrics flatter. Make the data with the split of the run."
        )
    if data.plan.task.name != old.task.name or missing or (old.task.name == "regress" and data.classes != old.classes):
        raise RunError(
            f"{kept.folder} knows {', '.join(old.classes)} (task {old.task.name!r}); the data has {', '.join(data.classes)} "
            f"(task {data.plan.task.name!r}). Data for a trained model has all the classes that it knows, and may have new ones."
        )
    return _scaled(data, old)


def _scaled(data: Data, plan: DataPlan) -> Data:
    """The data with its numbers on the scale of the plan, which may be that of a run or an adapter before it."""
    return replace(data, plan=replace(data.plan, task=plan.task)) if data.plan.task.name == plan.task.name else data


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
    lora = plan.model.lora and replace(plan.model.lora, settings=tuple(lora_settings(plan.model.lora).items()))
    model = replace(plan.model, weights=part, weights_sha256=start, lora=lora, origins=origins)
    label = f"run {kept.record.plan_hash}"
    return replace(built, plan=model, tensors=tensors, weights_label=label), replace(plan, model=model, data=data.plan, phases=()), ()


def _given_before(plan: Plan) -> Given:
    """What you gave for the plan's last phase, so that training on goes on with it; the rest is decided anew.

    A phase in which all trains has no use for a prefix: then it is that of the last phase that has one from you.
    """
    every = [given_like(phase) for phase in reversed(plan.phases)] or [Given()]
    cached = next((one for one in every if one.prefix is not None), every[0])
    told = [one for one in every[0].measured if one.field != "prefix"] + [one for one in cached.measured if one.field == "prefix"]
    return replace(every[0], prefix=cached.prefix, measured=tuple(told))
