"""A run's values as Python source: the constants of an ejected script."""

from __future__ import annotations

import itertools
import pprint
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from sheer.data import splits
from sheer.data.augmentations import augmentations_of, mix_of
from sheer.data.columns import columns_of
from sheer.data.pictures import cut_of
from sheer.data.tokens import Text
from sheer.export.marks import needed_marks
from sheer.loop.batch_loss import weighs
from sheer.loop.engine import DTYPES
from sheer.loop.optimizers import OPTIMIZERS
from sheer.loop.train import extras_of, loss_of, schedule_of, step_of
from sheer.model import backbones, heads
from sheer.model.encoders import ENCODER_WEIGHTS
from sheer.model.fusion import FUSIONS
from sheer.model.rebuild import OWN
from sheer.model.table import BODIES, body_arguments
from sheer.plan.augmentations import Function
from sheer.plan.facts import adapter_of, lora_settings
from sheer.plan.plan import Part, Phase, Plan
from sheer.record.run import Event
from sheer.task import metrics, tasks


def render_constants(
    plan: Plan, items: str, start: str, tokenizer: str, functions: Mapping[str, Function], events: Sequence[Event] = ()
) -> str:
    """The plan's values as Python, one assignment each.

    `items`, `start` and `tokenizer` are names of files beside the script, or ""; `functions` are your own augmentations
    that the plan names.
    `events` are those of a run, whose splits for want of memory are repeated at the same steps.
    """
    plan = _as_run(plan, events)
    split, model = plan.data.split.options(), plan.model
    file, adapter = start, adapter_of(plan.model.lora)
    start = "" if adapter else start  # weights of a run take the place of what the body starts from, an adapter does not
    parted = plan.data.split.name == "folders"
    rows: dict[str, str] = {}
    kind, _, name = model.name.partition(":")
    if kind in OWN:
        rows |= {"MAKE": name}
    if model.head is None or start:
        rows |= {"INITIAL_SHA256": repr(model.weights_sha256)}
    if file:
        rows |= {"START": repr(file)}
    if model.head is not None:
        rows |= {
            "NAME": repr(name),
            "KIND": repr(model.kind),
            "FEATURES": repr(model.features),
            "HEAD": _head_text(model.head),
        }
    if model.channel_init != "kept":
        rows |= {"CHANNELS": repr(model.channels), "CHANNEL_INIT": repr(model.channel_init)}
    if model.head is not None and kind == "torchvision":
        rows |= {"NODE": repr(model.node)}
    if model.head is not None and not start:
        rows |= {"BODY_SHA256": repr(model.weights_sha256)}
    if model.lora is not None:
        rows |= {"LORA": repr(lora_settings(model.lora))}
    if adapter:
        rows |= {"ADAPTER_SHA256": repr(adapter)}
    if model.body is not None:
        arguments = body_arguments(model.body, plan.data.columns)
        rows |= {"BODY": pprint.pformat(arguments, width=138, compact=True, sort_dicts=False)}
        rows |= {"NETWORK": BODIES[model.body.name].__name__} if model.body.name in BODIES else {}
    if model.branches:
        rows |= _branch_rows(plan, start, tokenizer)
    elif model.head is not None and kind not in OWN and not start and kind != "sheer":
        known = ENCODER_WEIGHTS if model.body is not None else backbones.WEIGHTS
        rows |= {"BODY_WEIGHTS": repr(model.weights.made(known))}
    rows |= {
        "STAGES": repr(tuple(stage.prefixes for stage in model.stages)),
        "UNDECAYED": repr(model.undecayed),
        "CLASSES": repr(plan.data.classes),
        "TASK": repr(plan.data.task.made(tasks.TASKS)),
        "MEASURES": "{" + ", ".join(f"{name!r}: {_metric_name(plan, name)}" for name in plan.metrics) + "}",
    }
    if plan.data.columns:
        made = [_column_text(column, tokenizer) for column in columns_of(plan.data.columns, "")]
        rows |= {"COLUMNS": "(\n" + "".join(f"    {text},\n" for text in made) + ")"}
    if items:
        hashes = {"TARGETS_SHA256": plan.data.targets_sha256, "HELD_OUT_SHA256": plan.data.held_out_sha256}
        rows |= {name: repr(value) for name, value in {"ITEMS": items, **hashes}.items()}
    elif part := split["train"] if parted else split.get("part", ""):
        rows |= {"TRAIN_PART": repr(part)}
    if not items and parted:
        rows |= {"VALID_PART": repr(split["valid"])}
    elif not items:
        rows |= {
            "SPLIT": splits.SPLITS[plan.data.split.name].__name__,
            "SHARE": repr(split["share"]),
            "SPLIT_SEED": repr(split["seed"]),
        }
    if plan.data.skipped and not items:
        rows["SKIPPED"] = f"frozenset({plan.data.skipped!r})"
    rows |= {
        "LISTING_SHA256": repr(plan.data.listing_sha256),
        "SEED": repr(plan.seed),
        "DEVICE": repr(plan.numerics.device),
        "THREADS": repr(plan.numerics.threads),
        "MEMORY_FORMAT": {"contiguous": "torch.contiguous_format", "channels_last": "torch.channels_last"}[plan.numerics.memory_format],
        "DETERMINISTIC": repr(plan.numerics.deterministic),
    }
    if plan.numerics.precision != "float32":
        rows["PRECISION"] = repr(DTYPES[plan.numerics.precision])
    needed = needed_marks(plan, events)
    if "splits" in needed:
        rows["SPLITS"] = repr(
            {e.step: step_of(plan.phases[_phase_at(plan, e.step)], plan.numerics, e.size) for e in events if e.kind == "split"}
        )
        rows["VALID_SIZE"] = repr(min((e.size for e in events if e.kind == "split valid"), default=max(p.batch_size for p in plan.phases)))
    phases = "\n".join(_phase_text(phase, plan, functions, needed) for phase in plan.phases)
    return "\n".join(f"{name} = {value}" for name, value in rows.items()) + f"\nPHASES = (\n{phases}\n)"


def _branch_rows(plan: Plan, start: str, tokenizer: str) -> dict[str, str]:
    """The constants of several inputs: their branches, what fuses them, and what each input reads."""
    inputs, branches = dict[str, str](), dict[str, str]()
    for one, branch in zip(plan.data.inputs, plan.model.branches, strict=True):
        model, (library, _, name) = branch.model, branch.model.name.partition(":")
        values: dict[str, object] = {"library": library, "features": model.features}
        if library in OWN:
            values |= {"library": "own", "make": OwnName(name)}
        elif model.body is not None:
            values |= {"body": body_arguments(model.body, one.columns)}
        else:
            values |= {"name": name, "kind": model.kind, "node": model.node}
        if library not in ("sheer", *OWN) and not start:
            known = ENCODER_WEIGHTS if model.body is not None else backbones.WEIGHTS
            values |= {"weights": model.weights.made(known)}
        branches[branch.name] = _namespace(values)
        made = ", ".join(_column_text(column, tokenizer) for column in columns_of(one.columns, ""))
        reads = f"kind={one.kind!r}, reads={one.reads!r}"
        inputs[one.name] = f"SimpleNamespace({reads}, columns=({made},))" if made else f"SimpleNamespace({reads})"
    assert plan.model.fusion is not None
    fusion = plan.model.fusion.made(FUSIONS)
    return {"BRANCHES": _dictionary(branches), "FUSION": repr(fusion), "INPUTS": _dictionary(inputs)}


class OwnName(str):
    """A name whose source is itself: that of a function or class of your own."""

    __repr__ = str.__str__


def _namespace(values: Mapping[str, object]) -> str:
    return f"SimpleNamespace({', '.join(f'{name}={value!r}' for name, value in values.items())})"


def _dictionary(texts: Mapping[str, str]) -> str:
    return "{\n" + "".join(f"    {name!r}: {text},\n" for name, text in texts.items()) + "}"


def _phase_at(plan: Plan, step: int) -> int:
    """The number of the phase of a step, counted from 0 over the whole plan."""
    ends = itertools.accumulate(phase.epochs * phase.steps_per_epoch for phase in plan.phases)
    return next(number for number, end in enumerate(ends) if step < end)


def _as_run(plan: Plan, events: Sequence[Event]) -> Plan:
    """The plan with the batches of frozen parts for which there was memory."""
    sizes = {_phase_at(plan, event.step): event.size for event in events if event.kind == "split frozen"}
    phases = list(plan.phases)
    for number, size in sizes.items():
        prefix = phases[number].prefix
        phases[number] = replace(phases[number], prefix=replace(prefix, settings=tuple((prefix.options() | {"batch_size": size}).items())))
    return replace(plan, phases=tuple(phases))


def _column_text(column: Any, tokenizer: str) -> str:
    """The column's constructor call; the tokenizer of a column of texts is in the file of that name."""
    shown = repr(column)
    return shown.replace("Text(", f"Text(tokenizer=tokenizer_beside({tokenizer!r}), ", 1) if isinstance(column, Text) else shown


def _head_text(head: Part) -> str:
    """The head's constructor call: a library's, or around your own function."""
    kind, _, name = head.name.partition(":")
    return f"OwnHead(make={name})" if kind == "function" else repr(head.made(heads.HEADS))


def _metric_name(plan: Plan, name: str) -> str:
    """The name of the function that a metric is: a library's, or your own."""
    function = metrics.METRICS[plan.data.task.name].get(name)
    return function.__name__ if function else name


def _phase_text(phase: Phase, plan: Plan, functions: Mapping[str, Function], needed: frozenset[str]) -> str:
    values = {
        "name": phase.name,
        "epochs": phase.epochs,
        "trains_from": phase.trains_from,
        "rates": phase.rates,
        "norm": phase.norm,
        "schedule": None if phase.optimizer.name == "lbfgs" else schedule_of(phase),
        "optimizer": phase.optimizer.made(OPTIMIZERS),
        "weight_decay": phase.weight_decay,
        "no_decay": phase.no_decay,
        "loss": loss_of(phase, functions, plan.model.kind),
        "step": step_of(phase, plan.numerics),
        "skip_limit": phase.skip_limit,
        "batch_size": phase.batch_size,
        "last_batch": phase.last_batch,
        "accumulate": phase.accumulate,
        "augmentations": augmentations_of(phase, functions),
    }
    if "photos" in needed:
        values |= {"size": phase.size, "resize": cut_of(phase), "mean": phase.mean, "std": phase.std}
    extras = {
        "resident": phase.resident,
        "mix": mix_of(phase),
        "per_weight": weighs(phase, "weight" if "weight" in needed else None),
        "sampling": phase.sampling,
        **dict(zip(("average", "stop", "keep"), extras_of(phase), strict=True)),
        "cached": SimpleNamespace(**phase.prefix.options()) if phase.prefix.name == "cached" else None,
    }
    values |= {name: value for name, value in extras.items() if name in needed}
    text = ", ".join(f"{name}={_source_of(value)}" for name, value in values.items())
    return textwrap.fill(
        f"SimpleNamespace({text}),", 138, initial_indent=" " * 4, subsequent_indent=" " * 8, break_long_words=False, break_on_hyphens=False
    )


def _source_of(value: object) -> str:
    """A value as Python: a function by its name."""
    if callable(value) and hasattr(value, "__name__"):
        return str(value.__name__)
    return repr(value).replace("namespace(", "SimpleNamespace(", 1) if isinstance(value, SimpleNamespace) else repr(value)
