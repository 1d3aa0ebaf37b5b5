"""Where a learner comes from: data and a model, or a finished run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import torch
from torch import nn

from sheer.data.cache import Cache
from sheer.data.sources import Data
from sheer.errors import DataError, ModelError, PlanError, RunError, nearest
from sheer.learner import Learner
from sheer.loop.engine import choose_numerics
from sheer.model.build import Built, build_named, tensor_facts
from sheer.model.growing import grow_head
from sheer.model.hashing import weights_sha256
from sheer.model.heads import HEADS
from sheer.model.inputs import choose_channels, extended
from sheer.model.own import WantedHead, build_own
from sheer.model.rebuild import rebuild
from sheer.model.surgery import probe_images
from sheer.plan.augmentations import Augmentations, Mix
from sheer.plan.plan import DataPlan, Origin, Part, Plan
from sheer.plan.profiles import profile_named
from sheer.plan.recipes import Given
from sheer.record.own import HeadMaker, Source, own_functions, own_module
from sheer.record.run import Row, Run, check_free, load_weights, read_run, read_start
from sheer.task.metrics import METRICS, Metric


def learner(
    data: Data,
    model: str | Source = "tf_efficientnet_lite0",
    *,
    weights: str = "default",
    profile: str = "default",
    head: str | HeadMaker | None = None,
    channels: int | None = None,
    channel_init: str | None = None,
    seed: int = 0,
    device: str | None = None,
    out: str | Path | None = None,
    quiet: bool = False,
    size: int | None = None,
    batch_size: int | None = None,
    norm: str | tuple[str, ...] | None = None,
    weight_decay: float | None = None,
    augmentation: Augmentations | None = None,
    mix: Mix | None = None,
    resize: str | Part | None = None,
    label_smoothing: float | None = None,
    metrics: Sequence[str | Metric] | None = None,
    cache: bool | Cache = True,
) -> Learner:
    """A learner: a pretrained network with a new head for the data's classes, or your own module.

    Args:
        data: From `sheer.images` or `sheer.arrays`.
        model: A timm or torchvision name (a bare one means timm first), an `nn.Module` that ends in one
            score a class, or a function that makes one (only then can the run be ejected). With `head` your
            module is a body: it must give a map (N, C, H, W) or a vector (N, C).
        weights: `default` (the library's own download), `package`, `none`, or a file.
        profile: `default` or `fastai-2.8`.
        head: A name from HEADS, or your own function of (features, classes) that returns a module for what the
            body gives; the profile's where not given.
        channels: Of the pictures; what the data has where not given. Photographs have three.
        channel_init: The rule of CHANNEL_INITS (`zero`, `tile`, `mean`) that gives a named network's first
            convolution its weights for other than three channels; the profile's where not given.
        seed: Of every random stream.
        device: `cpu`, `cuda` or `mps`; the fastest there where not given.
        out: The run folder; without one nothing is written until `save`.
        quiet: No progress and no history on the terminal.
        size, batch_size, norm, weight_decay, augmentation, mix, resize, label_smoothing: Decisions for every
            phase; each has a default in the profile.
        metrics: Names from METRICS for the task, or functions of (outputs, targets), both NumPy arrays, that return a number.
        cache: Whether presized photographs are kept on disk between runs; a `sheer.Cache` says where and how many
            bytes. The pixels are the same with and without.

    Raises:
        ModelError, WeightsError: the model or its weights cannot be had, or the cut cannot be proved.
        PlanError: a name is not known.
        RunError: `out` is not empty.
    """
    _check_types(data, model, {"weights": weights, "profile": profile}, {"device": device})
    constants = profile_named(profile)
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise PlanError(f"seed={seed!r}: give a whole number of at least 0.")
    wanted_head = _wanted_head(head)
    folder = Path(out).expanduser() if out is not None else None
    if folder is not None:
        check_free(folder)
    pictures = data.arrays is None or data.arrays.dtype == torch.uint8
    numerics = choose_numerics(device, constants, pictures=pictures)
    planes = choose_channels(data.arrays, channels, channel_init, constants, named=isinstance(model, str))
    if isinstance(model, str):
        built = build_named(
            model,
            weights=weights,
            classes=len(data.classes),
            profile=constants,
            head=wanted_head.part if wanted_head else None,
            seed=seed,
            head_by="you" if head else "default",
            channels=planes,
            make_head=wanted_head.make if wanted_head else None,
        )
    elif weights != "default":
        raise ModelError(f"weights={weights!r} is for models by name; your own module keeps the weights it has.")
    else:
        arrays = data.arrays
        side = int(arrays.shape[-1]) if arrays is not None else size or 160
        sample = probe_images(side, planes.count) if arrays is None or arrays.dtype == torch.uint8 else arrays[:2]
        built = build_own(model, seed=seed, classes=len(data.classes), channels=planes, head=wanted_head, sample=sample)
    if pictures:
        built = replace(built, inputs=extended(built.inputs, planes.count, _training_pixels(data)))
    task = data.plan.task.name
    default_metrics = cast(tuple[str, ...], constants.value(f"metrics.{task}"))
    functions = _metric_functions(default_metrics if metrics is None else metrics, task)
    given = Given(
        size=size,
        batch_size=batch_size,
        norm=norm,
        weight_decay=weight_decay,
        augmentation=augmentation,
        mix=mix,
        resize=resize,
        label_smoothing=label_smoothing,
    )
    if data.arrays is not None and pictures:
        given = replace(given, size=int(data.arrays.shape[-1]))
    plan = Plan(
        profile=profile,
        seed=seed,
        metrics=tuple(functions),
        model=built.plan,
        data=data.plan,
        numerics=numerics,
        phases=(),
        origins=(
            Origin(field="profile", by="default" if profile == "default" else "you", reason=f"constants from {constants.source}"),
            Origin(field="seed", by="default" if seed == 0 else "you", reason="every random draw follows from it"),
            Origin(
                field="metrics",
                by="default" if metrics is None else "you",
                reason=constants.reason(f"metrics.{data.plan.task.name}") if metrics is None else "you gave them",
            ),
        ),
    )
    return _assemble(built, plan, data, given, folder, (), quiet, functions, cache)


def _wanted_head(head: str | HeadMaker | None) -> WantedHead | None:
    """The head that was given, by name or as a function.

    Raises:
        PlanError: a name that is not known, or an object that is no function of (features, classes).
    """
    if head is None:
        return None
    if isinstance(head, str):
        if head not in HEADS:
            raise PlanError(f"head={head!r} is no head. {nearest(head, HEADS)}")
        return WantedHead(part=Part(name=head), make=None)
    name = getattr(head, "__name__", "")
    if not callable(head) or not name:
        raise PlanError(f"head={head!r}: give a name from HEADS, or a function of (features, classes) that returns a torch.nn.Module.")
    return WantedHead(part=Part(name=f"function:{name}"), make=head)


def _training_pixels(data: Data | None) -> torch.Tensor | None:
    """The training items of pictures in memory, uint8 (N, C, S, S); None for anything else."""
    if data is None or data.arrays is None or data.arrays.dtype != torch.uint8:
        return None
    return data.arrays[torch.from_numpy(data.train)]


def _check_types(data: object, model: object, texts: Mapping[str, object], optional: Mapping[str, object]) -> None:
    if not isinstance(data, Data):
        raise DataError(f"data={data!r}: give what sheer.images(folder) or sheer.arrays(inputs, labels) returns.")
    if not isinstance(model, str | nn.Module) and not callable(model):
        raise ModelError(f"model={model!r}: give a timm or torchvision name, a torch.nn.Module, or a function that returns one.")
    wrong = [name for name, value in texts.items() if not isinstance(value, str)]
    wrong += [name for name, value in optional.items() if value is not None and not isinstance(value, str)]
    if wrong:
        raise PlanError(f"{wrong[0]}={(dict(texts) | dict(optional))[wrong[0]]!r}: give a text.")


def _metric_functions(wanted: Sequence[str | Metric], task: str) -> dict[str, Metric]:
    """The metrics by name, in order; PlanError for a name that is none for the task, or a function that has none."""
    found: dict[str, Metric] = {}
    for metric in wanted:
        name = metric if isinstance(metric, str) else getattr(metric, "__name__", "")
        if isinstance(metric, str) and metric not in METRICS[task]:
            raise PlanError(f"metric {metric!r} is not known for the task {task!r}. {nearest(metric, METRICS[task])}")
        if not name.isidentifier() or name in found or (not isinstance(metric, str) and name in METRICS[task]):
            raise PlanError(f"metric {metric!r}: give each metric once, your own as a function with a name that no other has.")
        found[name] = METRICS[task][metric] if isinstance(metric, str) else metric
    return found


def _assemble(
    built: Built,
    plan: Plan,
    data: Data | None,
    given: Given,
    out: Path | None,
    rows: Sequence[Row],
    quiet: bool,
    metrics: Mapping[str, Metric],
    cache: bool | Cache,
) -> Learner:
    return Learner(
        model=built.model,
        plan=plan,
        tensors=built.tensors,
        inputs=built.inputs,
        weights_label=built.weights_label,
        data=data,
        given=given,
        made_by=built.made_by,
        made_head=built.made_head,
        out=out,
        rows=rows,
        quiet=quiet,
        metrics=metrics,
        cache=cache if isinstance(cache, Cache) else Cache() if cache and data is not None and data.paths else None,
    )


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
    inputs = extended(built.inputs, kept.plan.model.channels, _training_pixels(data))
    if kept.plan.phases:
        inputs = replace(inputs, mean=kept.plan.phases[-1].mean, std=kept.plan.phases[-1].std)
    built = replace(built, inputs=inputs)
    load_weights(kept, built.model)
    plan = kept.plan
    if device is not None or not _there(plan.numerics.device):
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
    loaded = _assemble(built, plan, data, _given_before(kept), None, rows, False, metrics, cache)
    loaded._functions = own_functions(kept, objects or {})
    loaded._start = start
    if plan.phases:
        loaded._stop, loaded._seconds, loaded._data_sha256 = kept.record.stop_reason, kept.record.seconds, kept.record.data_sha256
    loaded._trains_from = loaded._trains_from if trains_from is None else trains_from
    return loaded


def _check_data(kept: Run, data: Data) -> None:
    old, missing = kept.plan.data, [name for name in kept.plan.data.classes if name not in data.classes]
    if data.plan.listing_sha256 and data.plan.listing_sha256 == old.listing_sha256 and data.plan.split != old.split:
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


def _there(device: str) -> bool:
    return (
        device == "cpu"
        or (device.startswith("cuda") and torch.cuda.is_available())
        or (device == "mps" and torch.backends.mps.is_available())
    )


def _given_before(kept: Run) -> Given:
    """What you gave for the run's last phase, so that training on goes on with it; the rest is decided anew."""
    if not kept.plan.phases:
        return Given()
    last = kept.plan.phases[-1]
    yours = {origin.field for origin in last.origins if origin.by == "you"}
    smoothing = last.loss.options().get("label_smoothing")
    return Given(
        size=last.size if "size" in yours else None,
        batch_size=last.batch_size if "batch_size" in yours else None,
        norm=last.norm if "norm" in yours else None,
        weight_decay=last.weight_decay if "weight_decay" in yours else None,
        augmentation=last.augmentation if "augmentation" in yours else None,
        mix=(last.mix or "none") if "mix" in yours else None,
        resize=last.resize.name if "resize" in yours else None,
        label_smoothing=float(smoothing) if "loss" in yours and isinstance(smoothing, int | float) else None,
    )
