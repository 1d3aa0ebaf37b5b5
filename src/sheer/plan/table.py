"""A plan as the table that people read: groups first, then data, then schedule, each value with who decided it and why."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sheer.errors import plural

if TYPE_CHECKING:
    from sheer.plan.plan import DataPlan, ModelPlan, Numerics, Part, Phase, Plan

WIDTH = 118


def columns(header: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> str:
    """Rows of text under a header, padded to columns; the columns in `right` are right-aligned."""
    header, rows = [_one_line(cell) for cell in header], [[_one_line(cell) for cell in row] for row in rows]
    widths = [max(len(row[index]) for row in [header, *rows]) for index in range(len(header))]
    lines = []
    for row in [header, *rows]:
        cells = [text.rjust(width) if i in right else text.ljust(width) for i, (text, width) in enumerate(zip(row, widths, strict=True))]
        lines.append("  " + "  ".join(cells).rstrip())
    return "\n".join(lines)


def _one_line(cell: str) -> str:
    return cell.replace("\n", "\\n").replace("\r", "\\r")


def _rate(value: float) -> str:
    return f"{value:.3g}" if value else "-"


def _groups(phase: Phase) -> str:
    header = ("stage", "group", "tensors", "values", "trains", "rate start", "peak", "end", "decay", "norm", "weights from", "sha256")
    rows = [
        (
            group.stage,
            group.kind,
            str(group.tensors),
            f"{group.values:,}",
            "yes" if group.trains else "no",
            _rate(group.rate_start),
            _rate(group.rate_peak),
            _rate(group.rate_end),
            f"{group.weight_decay:g}" if group.trains else "-",
            group.norm,
            group.weights_from,
            group.sha256 or "-",
        )
        for group in phase.groups
    ]
    return columns(header, rows, right=(2, 3, 5, 6, 7, 8))


def _decisions(holder: ModelPlan | DataPlan | Numerics | Phase | Plan, rows: Sequence[tuple[str, str, str]]) -> str:
    """Rows of (label, value, field); who decided the field and why are looked up among its origins."""
    origins = {origin.field: origin for origin in holder.origins}
    label_width = max(len(label) for label, _, _ in rows)
    lines = []
    for label, value, field in rows:
        origin = origins[field]
        head = f"  {label.ljust(label_width)}  {value}"
        text = f"{head}  [{origin.by}: {origin.reason}]"
        lines += textwrap.wrap(text, WIDTH, subsequent_indent=" " * (label_width + 4), break_long_words=False, break_on_hyphens=False)
    return "\n".join(lines)


def _numbers(values: Sequence[float]) -> str:
    return "(" + ", ".join(f"{value:.4g}" for value in values) + ")"


def frozen_but_training(phase: Phase, stages: Sequence[str]) -> list[str]:
    """A sentence a frozen stage whose norm layers train all the same: how many tensors, at what rate, with what decay."""
    sentences = []
    for name in stages[: phase.trains_from]:
        groups = [group for group in phase.groups if group.stage == name and group.trains]
        if not groups:
            continue
        same = " (the head's rate)" if groups[0].rate_peak == phase.groups[-1].rate_peak else ""
        decay = max(group.weight_decay for group in groups)
        sentences.append(
            f"the frozen stage {name} trains its norm layers, {sum(group.tensors for group in groups)} tensors, at "
            f"{groups[0].rate_peak:g}{same}, {f'decay {decay:g}' if decay else 'no decay'}, with the statistics of each batch"
        )
    return sentences


def put_aside(phase: Phase) -> list[str]:
    """A sentence about what was given that a fit of the head has no use for."""
    if phase.aside is None:
        return []
    values = {origin.field: getattr(phase.aside, origin.field) for origin in phase.aside.origins}
    values |= {"views": phase.aside.views} if phase.aside.views is not None else {}
    shown = {name: " and ".join(map(str, value)) or "none" if isinstance(value, tuple) else value for name, value in values.items()}
    return [f"a fit has no use for {', '.join(f'{name} {value}' for name, value in shown.items())}: later phases take it"]


def _phase(phase: Phase, number: int, count: int, stages: Sequence[str]) -> str:
    length = f"{plural(phase.epochs, 'epoch')}, {plural(phase.epochs * phase.steps_per_epoch, 'step')}"
    rows = [
        ("epochs", str(phase.epochs), "epochs"),
        ("trains from", f"stage {phase.trains_from} on", "trains_from"),
        ("peak rates", _numbers(phase.rates) + ", one a stage", "rates"),
        ("norm policy", ", ".join(phase.norm), "norm"),
        ("frozen part", _frozen_part(phase), "prefix"),
        *_looks(phase),
        ("resident", "on the device" if phase.resident else "copied to the device batch by batch", "resident"),
        ("augmentation", ", ".join(map(str, phase.augmentation)) or "none", "augmentation"),
        ("mix", str(phase.mix) if phase.mix else "none", "mix"),
        ("batch", f"{phase.batch_size} items, {plural(phase.steps_per_epoch, 'step')} an epoch", "batch_size"),
        ("last batch", phase.last_batch, "last_batch"),
        ("schedule", str(phase.schedule), "schedule"),
        ("optimiser", str(phase.optimizer), "optimizer"),
        ("weight decay", f"{phase.weight_decay:g}", "weight_decay"),
        ("no decay", phase.no_decay, "no_decay"),
        ("loss", str(phase.loss), "loss"),
        ("class weights", _numbers(phase.class_weights) if phase.class_weights else "none", "class_weights"),
        ("loss mean", f"over {phase.loss_mean}", "loss_mean"),
        ("sampling", phase.sampling, "sampling"),
        ("clip", f"norm {phase.clip:g}" if phase.clip else "off", "clip"),
        ("not finite", _not_finite(phase), "skip_limit"),
        ("accumulate", f"{phase.accumulate} items an update" if phase.accumulate else "off", "accumulate"),
        ("average", f"ema {phase.ema:g}" if phase.ema else "off", "ema"),
        ("stop", str(phase.stop) if phase.stop else "never", "stop"),
        ("keep", str(phase.keep) if phase.keep.settings else phase.keep.name, "keep"),
    ]
    said = [*frozen_but_training(phase, stages), *put_aside(phase)]
    notes = "".join("\n" + textwrap.fill(f"  note: {text}", WIDTH, subsequent_indent="    ") for text in said)
    return f"Phase {number} of {count}: {phase.name}, {length}\n{_groups(phase)}{notes}\n{_decisions(phase, rows)}"


def _not_finite(phase: Phase) -> str:
    if phase.optimizer.name == "lbfgs":
        return "items are left out of the fit; too few others end the run"
    return f"steps are skipped; {phase.skip_limit} in a row end the run"


def _looks(phase: Phase) -> list[tuple[str, str, str]]:
    """How pictures are brought to a size and normalised; other inputs are not."""
    if not phase.size:
        return [("inputs", "as they are: no size, resize none, mean and std of no channel", "size")]
    return [
        ("size", f"{phase.size} px", "size"),
        ("resize", str(phase.resize), "resize"),
        ("normalise", f"mean {_numbers(phase.mean)} std {_numbers(phase.std)}", "mean"),
    ]


def _frozen_part(phase: Phase) -> str:
    if phase.prefix.name != "cached":
        return "runs with the rest at every step"
    part = phase.prefix.options()
    views = f"{part['views']} views" if part["views"] else "plain"
    where = branches_run_once(phase)
    once = f"{' and '.join(where)} once an item" if where else "once an item"
    return f"{once} ({views}), in batches of {part['batch_size']}, norm layers {'folded' if part['fold'] else 'as they are'}"


def branches_run_once(phase: Phase) -> list[str]:
    """The branches that run once an item, of a network of several inputs."""
    modules = phase.prefix.options().get("modules")
    names = [str(name).split(".") for name in modules] if isinstance(modules, tuple) else []
    return list(dict.fromkeys(name[2] for name in names if name[:2] == ["body", "branches"]))


def overview(plan: Plan) -> tuple[tuple[str, ...], list[list[str]]]:
    """Header and a row of text a phase: what people ask first."""
    header = ("phase", "epochs", "steps", "trains", "peak rates", "px", "batch")
    names = [stage.name for stage in plan.model.stages]
    return header, [
        [
            phase.name,
            str(phase.epochs),
            str(phase.epochs * phase.steps_per_epoch),
            ", ".join(dict.fromkeys(group.stage for group in phase.groups if group.trains)) or ", ".join(names[phase.trains_from :]),
            _numbers(phase.rates),
            str(phase.size),
            str(phase.batch_size),
        ]
        for phase in plan.phases
    ]


def _model(plan: Plan) -> str:
    model = plan.model
    rows = [
        ("model", model.name, "name"),
        ("weights", f"{model.weights} sha256 {model.weights_sha256[:8]}", "weights"),
        ("licence", model.licence, "licence"),
        ("features", f"{model.features} ({model.kind})" + (f", stride {model.stride}" if model.kind == "map" else ""), "features"),
        ("channels", f"{model.channels}" + (f", first convolution {model.channel_init}" if model.channels else ""), "channels"),
        ("head", str(model.head) if model.head else "the module's own", "head"),
        ("stages", " | ".join(stage.name for stage in model.stages), "stages"),
    ]
    rows += [("body", str(model.body), "body")] if model.body else []
    rows += [("lora", str(model.lora), "lora")] if model.lora else []
    rows += [("fusion", str(model.fusion), "fusion")] if model.fusion else []
    for branch in model.branches:
        one = branch.model
        source = f"{one.weights} sha256 {one.weights_sha256[:8]}, {one.licence}, {one.features} ({one.kind})"
        rows.append(
            (
                f"branch {branch.name}",
                f"{one.name}, {one.body if one.body and one.weights.name == 'none' and one.body.name != 'encoder' else source}",
                "branches",
            )
        )
    text = "Model\n" + _decisions(model, rows)
    if model.surgery:
        cut = model.surgery
        dropped = ", ".join(cut.dropped[:4]) + (f" and {len(cut.dropped) - 4} more" if len(cut.dropped) > 4 else "")
        text += (
            f"\n  surgery   kept {cut.kept_parameters:,} values, dropped {cut.dropped_parameters:,} ({dropped or 'nothing'}); "
            f"{cut.method if model.body else 'kept body + old classifier against the whole'}: largest difference of a "
            f"{'number' if model.body else 'logit'} {cut.largest_difference:g}"
        )
    return text


def _held(data: DataPlan) -> str:
    """What the items are, and where."""
    if data.inputs:
        kinds = {"image": "photographs in files", "table": "cells of a table", "text": "texts"}
        return ", ".join(dict.fromkeys(kinds.get(one.kind, one.kind) for one in data.inputs))
    if data.columns:
        return "texts" if all(part.name == "text" for part in data.columns) else "rows of a table"
    known = {"files": "photographs in files", "memory": "pictures in memory", "none": "numbers in memory"}
    return known.get(data.pictures, repr(data.pictures))


def _names(names: Sequence[str]) -> str:
    return f"{len(names)}: {', '.join(map(_one_line, names[:4]))}{', ...' if len(names) > 4 else ''}" if names else "none"


def _data(plan: Plan) -> str:
    data, usual = plan.data, [f"{name} {value:.4g}" for name, value in zip(plan.data.classes, plan.data.weighted_prior, strict=False)]
    pairs = zip(data.train_counts, data.valid_counts, strict=True) if data.train_counts else (("-", "-") for _ in data.classes)
    counts = [(name, str(train), str(valid)) for name, (train, valid) in zip(data.classes, pairs, strict=True)]
    shown = counts if len(counts) <= 12 else [*counts[:10], (f"... {len(counts) - 10} more", "", "")]
    rows = [
        ("source", data.source, "source"),
        ("items are", _held(data), "pictures"),
        ("task", f"{data.task}{' of ' * bool(data.target)}{', '.join(data.target)}", "task"),
        *([("labels between", repr(data.separator), "separator")] if data.separator else []),
        ("items", f"{data.train_items} to train on, {data.valid_items} to validate on", "train_items"),
        ("split", str(data.split), "split"),
        ("item weights", data.weight or "1 each", "weight"),
        *([("usual by weight", _names(usual), "weighted_prior")] if usual else []),
        ("bad files", data.bad_files, "bad_files"),
        ("unknown labels", data.unknown, "unknown"),
        ("skipped", _names(data.skipped), "skipped"),
        ("listing", f"sha256 {data.listing_sha256[:8]}", "listing_sha256"),
        ("targets", f"sha256 {data.targets_sha256[:8]}", "targets_sha256"),
        ("held out", f"sha256 {data.held_out_sha256[:8]}", "held_out_sha256"),
    ]
    table = columns(({"regress": "number", "tag": "label"}.get(data.task.name, "class"), "train", "valid"), shown, right=(1, 2))
    notes = "".join("\n" + textwrap.fill(f"  note: {note}", WIDTH, subsequent_indent="    ") for note in data.notes)
    rows += [("columns", f"{len(data.columns)}, as below", "columns")] if data.columns else []
    rows += [("inputs", ", ".join(one.name for one in data.inputs), "inputs")] if data.inputs else []
    if data.columns or data.inputs:
        notes = f"\n{schema(data)}{notes}"
    return f"Data\n{_decisions(data, rows)}\n{table}{notes}"


def schema(data: DataPlan) -> str:
    """What each column of a table becomes, in the order in which the network gets them; before it each of several inputs."""
    rows = [(one.name, one.kind, _names(one.reads), str(one.missing_train), str(one.missing_valid)) for one in data.inputs]
    text = columns(("input", "kind", "columns read", "missing in train", "valid"), rows, right=(3, 4))
    parts = [*data.columns, *(part for one in data.inputs for part in one.columns)]
    fitted = columns(("column", "kind", "what was fitted on the items to train on"), [column_row(part) for part in parts])
    return "\n".join(([text] if rows else []) + ([fitted] if parts else []))


def column_row(part: Part) -> tuple[str, str, str]:
    """A column, its kind, and what was fitted for it, as people read them."""
    options = dict(part.settings)
    names, column, quantiles = options.get("categories"), str(options["column"]), options.get("quantiles")
    if part.name == "text":
        return column, part.name, f"{options['length']} tokens a text, tokenizer sha256 {str(options.get('tokenizer_sha256', ''))[:8]}"
    if isinstance(names, tuple):
        shown = ", ".join(_one_line(str(name)) for name in names[:6])
        return column, part.name, f"{len(names)} categories: {shown}{', ...' if len(names) > 6 else ''}"
    fit = [f"{key} {value:.6g}" for key, value in options.items() if isinstance(value, float)]
    fit += [f"{len(quantiles)} quantiles from {quantiles[0]:.6g} to {quantiles[-1]:.6g}"] if isinstance(quantiles, tuple) else []
    mark = ("1 where the cell is there, 2 where it is missing",) if part.name == "missing" else ()
    return column + " (missing)" * len(mark), "mark" if mark else part.name, ", ".join([*fit, *mark])


def _machine(plan: Plan) -> str:
    numerics = plan.numerics
    rows = [
        ("device", numerics.device, "device"),
        ("threads", str(numerics.threads), "threads"),
        ("precision", numerics.precision, "precision"),
        ("memory format", numerics.memory_format, "memory_format"),
        ("compile", str(numerics.compile), "compile"),
        ("deterministic", str(numerics.deterministic), "deterministic"),
    ]
    return "Numerics\n" + _decisions(numerics, rows)


def render(plan: Plan) -> str:
    """The whole plan as text, at most about 150 columns wide."""
    rows = [("profile", plan.profile, "profile"), ("seed", str(plan.seed), "seed"), ("metrics", ", ".join(plan.metrics), "metrics")]
    general = _decisions(plan, [*rows, ("weighted metrics", "by item weights" if plan.weighted_metrics else "no", "weighted_metrics")])
    parts = [f"Plan {plan.short_hash()}\n{general}", _model(plan), _data(plan)]
    stages = [stage.name for stage in plan.model.stages]
    parts += [_phase(phase, number, len(plan.phases), stages) for number, phase in enumerate(plan.phases, 1)]
    return "\n\n".join([*parts, _machine(plan)])
