"""Where a learner comes from: data and a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from sheer.data.cache import Cache
from sheer.data.pictures import threads_of
from sheer.data.sources import Data
from sheer.errors import DataError, ModelError, PlanError, nearest
from sheer.learner import Learner
from sheer.loop.engine import choose_numerics
from sheer.loop.feeds import check_mix
from sheer.loop.probe import by_profile, measured
from sheer.model.adapted import Lora
from sheer.model.adapter import read_adapter, scaled_as
from sheer.model.branches import sample_items
from sheer.model.build import Built
from sheer.model.made import AnyHead, AnyModel, Weights, made_model, read_texts
from sheer.model.surgery import probe_images
from sheer.model.swapping import Wanted, with_the_rest
from sheer.plan.augmentations import Augmentations, Function, Mix, Resize, mix_part
from sheer.plan.checks import check_texts, check_weighted, path_of, whole
from sheer.plan.facts import items_of
from sheer.plan.looks import image_size
from sheer.plan.plan import Origin, Plan
from sheer.plan.profiles import Choice, profile_named
from sheer.plan.recipes import Given, Keep, Stop
from sheer.record.keeping import EVERY, Checkpoints
from sheer.record.run import Row, check_run_folder
from sheer.task.metrics import METRICS, Metric


def learner(
    data: Data,
    model: AnyModel = None,
    *,
    weights: Weights = "default",
    profile: str = "default",
    head: AnyHead = None,
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
    resize: Resize | None = None,
    resident: bool | None = None,
    label_smoothing: float | None = None,
    optimizer: Choice | None = None,
    loss: Choice | Function | None = None,
    class_weights: str | Sequence[float] | np.ndarray | torch.Tensor | None = None,
    loss_mean: str | None = None,
    sampling: str | None = None,
    clip: float | None = None,
    accumulate: int | None = None,
    ema: float | None = None,
    stop: Stop | None = None,
    keep: Keep | None = None,
    prefix: Choice | None = None,
    precision: str | None = None,
    memory_format: str | None = None,
    compile: bool | str | None = None,
    threads: int | str | None = None,
    stages: str | None = None,
    fusion: Choice | None = None,
    lora: Lora = False,
    adapter: str | Path | None = None,
    metrics: Sequence[str | Metric] | None = None,
    weighted_metrics: bool | None = None,
    cache: bool | Cache = True,
    readers: int | None = None,
    checkpoints: Checkpoints = EVERY,
) -> Learner:
    """A learner: a pretrained network with a new head for the data's classes, or your own module.

    Args:
        data: From `sheer.images`, `sheer.table` or `sheer.arrays`.
        model: A timm or torchvision name (a bare one means timm first), an `nn.Module` that ends in one
            score a class, or a function that makes one (only then can the run be ejected). With `head` your
            module is a body: it must give a map (N, C, H, W) or a vector (N, C). For a table `tabular` or `tabm`, or one of them with
            settings: `("tabular", {"hidden": (200, 100), "dropout": 0.1})`. Where not given, a small network for pictures, or the
            profile's for tables.
            Of data with several inputs one by the name of each: `{"image": "resnet18", "table": "tabular"}`.
        weights: `default` (the library's own download), `package`, `none`, or a file; of several inputs by name, as `model`.
        profile: `default`, `fastai-2.8`, or another of PROFILES (docs/diff.md): whose constants fill what is not given.
        head: A name from HEADS, a Part with settings, or your own function of (features, classes) that returns a module for what the
            body gives; the profile's where not given.
        channels: Of the pictures; what the data has where not given. Photographs have three, or 1: grey.
        channel_init: The rule of CHANNEL_INITS (`zero`, `tile`, `mean`) that gives a named network's first
            convolution its weights for other than three channels; the profile's where not given.
        seed: Of every random stream.
        device: `cpu`, `cuda` or `mps`; the fastest there where not given.
        out: The run folder; without one nothing is written until `save`. One that holds this very run goes on, or is taken.
        quiet: No progress and no history on the terminal.
        size, batch_size, norm, weight_decay, augmentation, mix, resize, label_smoothing: Decisions for every
            phase; each has a default in the profile.
        resident: Whether all items lie on the device; where not given, on a CUDA device if they fit into a quarter of what is free.
        optimizer: `adamw`, `adam`, `sgd`, `rmsprop` or `timm:NAME`, or one of these with settings: `("sgd", {"nesterov": True})`;
            `lbfgs` fits a linear head on a frozen body.
        prefix: How what is frozen runs: `cached`, once an item, and what it gives is kept and may be fitted to; with settings
            `("cached", {"views": 2})`, that many drawn views of each item, or `{"batch_size": "probe"}`, whichever is fastest here; or
            `whole`, the whole network at every step.
        loss: `cross_entropy` or `focal` for one class an item; `squared_error` or `huber` for numbers, which it gets scaled to a mean of 0
            and a deviation of 1, so that `huber`'s `delta` counts deviations; with settings as above. Or
            your own function of (output, target), the raw scores (N, ...) and what the loss of a name would get, that returns one loss an
            item (N,); or a class of such objects, made without arguments.
        class_weights: What an item's loss is multiplied by: `balanced`, or one number a class.
        loss_mean: Where classes or items have weights, what the sum of a batch's weighted losses is divided by: the sum of their
            `weights`, as in torch's weighted cross-entropy, or the number of `items`.
        sampling: `shuffle`, or `balanced`: items drawn with replacement, each class as likely as the next.
        clip: The largest norm of all gradients together; 0 is off.
        accumulate: The items that an update takes, a multiple of `batch_size` that goes through the network at a time.
        ema: The share that a moving average of the weights keeps at each update, such as 0.99; what is
            validated and kept is then the average. 0 is off.
        stop: A metric (or valid_loss) and the epochs without a better one after which a phase ends: `("accuracy", 3)`, `3`.
            Of a metric of your own the largest value is best, unless you add "min": `("my_error", 3, "min")`.
        keep: `last`, `best` (by valid_loss) or `("best", METRIC)`: which epoch's weights a phase ends with; "min" as for `stop`.
        precision: `float32`, `bf16`, `fp16` (CUDA only), or `probe`: whichever is fastest here of float32 and bf16. Where not
            given, the profile `default` probes this on a CUDA device, and the format too.
        memory_format: `contiguous`, `channels_last`, or `probe`: whichever is fastest here.
        threads: What PyTorch computes with on a CPU; `probe`: the fastest here of its own choice, half of it, and 1.
        compile: Whether the network goes through torch.compile in training; `probe`: if that is faster here.
        stages: `layers` makes every block a stage of its own; else the profile's rule.
        lora: True, or settings (`rank`, `alpha`, `layers`: ends of names of linear layers): the body stays as it is, and what is learnt
            are changes of low rank beside its linear layers.
        adapter: A file that `save_adapter` wrote, which LoRA and the head start from; its settings and its head need not be given again.
            It must be of the same network, base weights, classes in the same order, and for texts pooling and tokenizer.
        fusion: How several inputs become one vector: `concat`, `gated_sum` or `cross_attention`; with settings as `optimizer`.
        metrics: Names from METRICS for the task, or functions of (outputs, targets), both NumPy arrays, that return a number.
        weighted_metrics: Whether a held-out item counts in the metrics what its weight is (`weight=` of the data); your own functions
            then get (outputs, targets, weights), all above 0. Where not given, all count alike.
        cache: Whether presized photographs are kept on disk between runs; a `sheer.Cache` says where and how many
            bytes. The pixels are the same with and without.
        readers: Threads that decode photographs; 0 reads on the thread that trains; where not given as many as the first reading finds
            fastest. No bit depends on it.
        checkpoints: How often `out` gets a checkpoint; no bit depends on it.

    Raises:
        ModelError, WeightsError: the model, its weights or the adapter cannot be had, or the cut cannot be proved.
        PlanError: a name is not known.
        RunError: `out` holds something else than a run.
    """
    texts = {"device": device, "channel_init": channel_init, "precision": precision, "memory_format": memory_format, "stages": stages}
    _check_types(data, model, metrics, cache)
    several = bool(data.inputs)
    check_texts(texts | {"sampling": sampling, "profile": profile} | ({} if several else {"weights": weights or "none given"}))
    if several and (channels is not None or channel_init is not None):
        raise PlanError("channels and channel_init are for one input; photographs beside other inputs have three channels.")
    if items_of(data.plan.columns) == "text" and (channels is not None or channel_init is not None):
        raise PlanError("channels and channel_init are for pictures; texts have none. Leave them away.")
    check_mix(mix_part(mix), data.plan)
    data, encoder = read_texts(data, model, weights)
    constants = profile_named(profile)
    seed = whole(seed, "seed", 0)
    folder = path_of(out, "out") if out is not None else None
    size = None if size is None else whole(size, "size", 1)
    batch_size = None if batch_size is None else whole(batch_size, "batch_size", 2)
    if folder is not None:
        check_run_folder(folder)
    pictures = data.plan.pictures != "none"
    numerics = choose_numerics(
        device, constants, pictures=pictures, precision=precision, memory_format=memory_format, compile=compile, threads=threads
    )
    precision = by_profile(precision, "precision", numerics, constants)
    memory_format = by_profile(memory_format, "memory_format", numerics, constants) if pictures else memory_format
    kept = read_adapter(path_of(adapter, "adapter")) if adapter is not None else None
    built = made_model(
        model,
        data,
        weights=weights,
        profile=constants,
        head=head,
        channels=channels,
        channel_init=channel_init,
        seed=seed,
        size=size,
        fusion=fusion,
        stages=stages,
        lora=lora,
        adapter=kept,
        encoder=encoder,
    )
    data = scaled_as(data, kept)
    if "probe" in (precision, memory_format, compile, threads) or precision == "bf16" or compile:
        side = size or image_size(None, constants, built.inputs, numerics.device)[0]
        count = min(batch_size or int(constants.number("batch_size")), 16)
        sampled: Any = probe_images(side, built.plan.channels)[:1].repeat(count, 1, 1, 1) if data.arrays is None else data.arrays[:count]
        sampled = sampled.float() if data.plan.pictures == "memory" else sampled
        sampled = sample_items(data.plan.inputs, count, side) if several else sampled
        numerics = measured(
            numerics, built.model, sampled, precision=precision, memory_format=memory_format, compile=compile, threads=threads
        )
    task = data.plan.task.name
    default_metrics = cast(tuple[str, ...], constants.value(f"metrics.{task}"))
    functions = _metric_functions(default_metrics if metrics is None else metrics, task)
    weighted = bool(constants.value("weighted_metrics")) if weighted_metrics is None else weighted_metrics
    check_weighted(weighted, functions, data.plan.weight)
    given = Given(
        size=size,
        batch_size=batch_size,
        norm=norm,
        weight_decay=weight_decay,
        augmentation=augmentation,
        mix=mix,
        resize=resize,
        resident=resident,
        label_smoothing=label_smoothing,
        optimizer=optimizer,
        loss=loss,
        class_weights=class_weights.tolist() if isinstance(class_weights, np.ndarray | torch.Tensor) else class_weights,
        loss_mean=loss_mean,
        sampling=sampling,
        clip=clip,
        accumulate=accumulate,
        ema=ema,
        stop=stop,
        keep=keep,
        prefix=prefix,
    )
    if data.arrays is not None and pictures and size not in (None, int(data.arrays.shape[-1])):
        raise PlanError(f"size={size}: pictures in memory keep their {data.arrays.shape[-1]} px; other sizes are for photographs.")
    if data.arrays is not None and pictures:
        given = replace(given, size=int(data.arrays.shape[-1]))
    plan = Plan(
        profile=profile,
        seed=seed,
        metrics=tuple(functions),
        weighted_metrics=weighted,
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
            Origin(
                field="weighted_metrics",
                by="default" if weighted_metrics is None else "you",
                reason=constants.reason("weighted_metrics") if weighted_metrics is None else "you gave it",
            ),
        ),
    )
    learn = assembled(built, plan, data, given, folder, (), quiet, functions, cache, threads_of(readers), checkpoints)
    learn._start = kept.tensors if kept else None
    return learn


def _check_types(data: object, model: object, metrics: object, cache: object) -> None:
    if not isinstance(data, Data):
        raise DataError(f"data={data!r}: give what sheer.images(folder), sheer.table(...) or sheer.arrays(inputs, labels) returns.")
    if not isinstance(model, str | tuple | nn.Module | None) and not callable(model) and not (isinstance(model, Mapping) and data.inputs):
        raise ModelError(f"model={model!r}: give a timm or torchvision name, a torch.nn.Module, or a function that returns one.")
    if metrics is not None and (isinstance(metrics, str) or not isinstance(metrics, Sequence)):
        raise PlanError(f"metrics={metrics!r}: give names and functions in a list, such as ['accuracy', 'f1'].")
    if not isinstance(cache, bool | Cache):
        raise PlanError(f"cache={cache!r}: give True, False, or a sheer.Cache with the folder and the limit.")


TAKEN = ("phase", "epoch", "train_loss", "valid_loss", "metrics", "seconds", "weights_sha256")


def _metric_functions(wanted: Sequence[str | Metric], task: str) -> dict[str, Metric]:
    """The metrics by name, in order; PlanError for a name that is none for the task, or a function that has none."""
    found: dict[str, Metric] = {}
    for metric in wanted:
        name = metric if isinstance(metric, str) else getattr(metric, "__name__", "")
        if isinstance(metric, str) and metric not in METRICS[task]:
            raise PlanError(f"metric {metric!r} is not known for the task {task!r}. {nearest(metric, METRICS[task])}")
        if not isinstance(metric, str) and name in TAKEN:
            raise PlanError(f"metric {name!r}: history.csv has a column of that name already. Call yours otherwise.")
        if not name.isidentifier() or name in found or (not isinstance(metric, str) and name in METRICS[task]):
            raise PlanError(f"metric {metric!r}: give each metric once, your own as a function with a name that no other has.")
        found[name] = METRICS[task][metric] if isinstance(metric, str) else metric
    return found


def assembled(
    built: Built,
    plan: Plan,
    data: Data | None,
    given: Given,
    out: Path | None,
    rows: Sequence[Row],
    quiet: bool,
    metrics: Mapping[str, Metric],
    cache: bool | Cache,
    readers: int | None = None,
    checkpoints: Checkpoints = EVERY,
) -> Learner:
    """The learner of these parts."""
    return Learner(
        built=built,
        plan=plan,
        data=data,
        given=given,
        out=out,
        rows=rows,
        quiet=quiet,
        metrics=metrics,
        cache=cache if isinstance(cache, Cache) else Cache() if cache and data is not None and data.paths else None,
        readers=readers,
        checkpoints=checkpoints,
        another=another,
    )


def another(
    learn: Learner,
    model: AnyModel,
    head: AnyHead,
    weights: Weights,
    fusion: Choice | None,
    stages: str | None,
    lora: Lora,
    adapter: str | Path | None,
) -> Learner:
    """`Learner.with_model`: a learner for another model, whose data, decisions and photographs in memory are those of `learn`."""
    data, before = learn._known_data(), learn.plan()
    data = data.unscaled or data
    wanted = Wanted(model=model, head=head, weights=weights, fusion=fusion, stages=stages)
    wanted = with_the_rest(wanted, before, learn._made_by, learn._made_head, None if before.phases else learn.model)
    data, encoder = read_texts(data, wanted.model, wanted.weights)
    kept = read_adapter(path_of(adapter, "adapter")) if adapter is not None else None
    built = made_model(
        wanted.model,
        data,
        weights=wanted.weights,
        profile=profile_named(before.profile),
        head=wanted.head,
        channels=1 if data.arrays is None and before.model.channels == 1 else None,
        channel_init=None,
        seed=before.seed,
        size=learn._given.size,
        fusion=wanted.fusion,
        stages=wanted.stages,
        lora=lora,
        adapter=kept,
        encoder=encoder,
    )
    data = scaled_as(data, kept)
    plan, album = replace(before, model=built.plan, data=data.plan, phases=()), learn._album
    cache = album.cache if album.cache is not None else False
    other = assembled(built, plan, data, learn._given, None, (), learn._quiet, learn._metrics, cache, album.readers, learn._checkpoints)
    other._album, other._functions, other._start = album, dict(learn._functions), kept.tensors if kept else None
    return other
