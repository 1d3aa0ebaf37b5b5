"""Why tensors differ: what each stage's first difference means, from the numbers and settings that were recorded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch

from sheer.study.compare.cell_causes import cell_cause
from sheer.study.compare.layer_causes import layer_cause, logits_cause, switched_layers, unlike
from sheer.study.compare.loss_causes import loss_cause
from sheer.study.compare.meeting import Cause, Meeting, some
from sheer.study.compare.pixel_causes import input_cause, look_cause
from sheer.study.compare.update_causes import buffer_cause, gradient_cause, group_differences, parameter_cause, update_gradient_cause


def explained(kind: str, meeting: Meeting, wrong: Sequence[str]) -> Cause:
    """The cause of the first difference of a stage; `wrong` are a's names of all tensors there that differ."""
    if kind in CAUSES:
        return CAUSES[kind](meeting, wrong)
    return look_cause(kind, meeting)


def _items(meeting: Meeting, wrong: Sequence[str]) -> Cause:
    mine, yours = meeting.one.items[meeting.index], meeting.other.items[meeting.index]
    if len(mine) != len(yours):
        return Cause(name="batch size", evidence=f"{len(mine)} items a batch against {len(yours)}.")
    place = next(number for number, (p, q) in enumerate(zip(mine, yours, strict=True)) if p != q)
    shared = len(set(mine) & set(yours))
    said = f"place {place} has {mine[place]} in a and {yours[place]} in b; {shared} of {len(mine)} items of the batch are in both"
    return Cause(name="order", evidence=f"another order of items: {said}.")


def _inputs(meeting: Meeting, wrong: Sequence[str]) -> Cause:
    parts, x, y = meeting.one.parts or meeting.other.parts, meeting.a.inputs, meeting.b.inputs
    return cell_cause(x, y, parts) if parts and x is not None and y is not None else input_cause(meeting)


def _target(meeting: Meeting, wrong: Sequence[str]) -> Cause:
    x, y = meeting.a.target, meeting.b.target
    if x.shape != y.shape:
        return Cause(name="targets", evidence=f"targets of shape {tuple(x.shape)} against {tuple(y.shape)}.")
    if x.is_floating_point() or y.is_floating_point():
        return Cause(name="targets", evidence=f"{int((x != y).sum())} of {x.numel()} values differ.")
    apart = (y - x).unique()
    if len(apart) == 1:
        return Cause(name="targets", evidence=f"b's class numbers are a's {int(apart[0]):+d}.")
    pairs = sorted({(int(p), int(q)) for p, q in zip(x.flatten(), y.flatten(), strict=True)})
    if len({p for p, _ in pairs}) == len(pairs) == len({q for _, q in pairs}):
        said = ", ".join(f"{p} is {q}" for p, q in pairs if p != q)
        return Cause(name="class order", evidence=f"the classes are numbered otherwise: a's {said} in b.")
    return Cause(name="targets", evidence=f"{int((x != y).sum())} of {x.numel()} labels differ, by no renumbering.")


def _weights(meeting: Meeting, wrong: Sequence[str]) -> Cause:
    mine, yours = meeting.a.before, meeting.b.before
    x, y = mine[wrong[0]].double(), yours[meeting.in_b(wrong[0])].double()
    spread = f"std {float(x.std()):.3g} against {float(y.std()):.3g}, " if x.numel() > 1 else ""
    said = f"{len(wrong)} of {len(mine)} tensors differ before training; the first one: {spread}largest difference"
    return Cause(name="weights", evidence=f"{said} {float((x - y).abs().max()):.3g}.")


def different_settings(meeting: Meeting) -> Iterator[str]:
    """Every setting that was read at the step and differs, a line each."""
    a, b = meeting.a, meeting.b
    mine, yours = meeting.one.about, meeting.other.about
    for key in (key for key in mine if not key.startswith("photo ") and yours.get(key, mine[key]) != mine[key]):
        yield f"{key}: {mine[key]} against {yours[key]}"
    pairs: list[tuple[str, torch.Tensor | None, torch.Tensor | None]] = [
        ("weights", tensor, b.before.get(meeting.in_b(name))) for name, tensor in a.before.items()
    ]
    pairs += [("inputs", a.inputs, b.inputs), ("targets", a.target, b.target), ("scores", a.logits, b.logits)]
    kinds = {(what, x.dtype, y.dtype) for what, x, y in pairs if x is not None and y is not None and x.dtype != y.dtype}
    yield from sorted(f"precision of the {what}: {x} against {y}".replace("torch.", "") for what, x, y in kinds)
    yield from switched_layers(meeting)
    owners = {mine.rpartition(".")[0]: yours.rpartition(".")[0] for mine, yours in meeting.names.items()}
    texts: dict[str, list[str]] = {}
    for name, one in a.modules.items():
        other = b.modules.get(owners.get(name, name))
        if other and (one.kind, one.text) != (other.kind, other.text):
            texts.setdefault(unlike(one, other), []).append(name)
    frozen = [n for n, trains in a.trains.items() if b.trains.get(meeting.in_b(n), trains) != trains]
    if frozen:
        yield f"requires_grad: {len(frozen)} tensors train in one of them only: {some(frozen)}"
    if a.optimizer != b.optimizer:
        yield f"optimiser: {a.optimizer} against {b.optimizer}"
    for name in a.trains:
        for key, text in group_differences(a.groups.get(name, {}), b.groups.get(meeting.in_b(name), {})):
            texts.setdefault(f"optimiser: {text}" if key else text, []).append(name)
    owned = [name for name in a.trains if a.trains[name] and (name in a.groups) != (meeting.in_b(name) in b.groups)]
    if owned:
        yield f"owned by one optimiser only: {len(owned)} parameters: {some(owned)}"
    for text, names in texts.items():
        yield f"{text} ({len(names)}: {some(names, 2)})"


CAUSES: dict[str, Callable[[Meeting, Sequence[str]], Cause]] = {
    "items": _items,
    "inputs": _inputs,
    "target": _target,
    "weights": _weights,
    "layer": layer_cause,
    "logits": logits_cause,
    "loss": lambda meeting, wrong: loss_cause(meeting),
    "gradient": gradient_cause,
    "update gradient": update_gradient_cause,
    "buffer": buffer_cause,
    "parameter": parameter_cause,
}
