"""Why gradients, buffers or parameters differ after equal losses: what trains, clipping, the optimiser's settings and tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from sheer.study.compare.layer_causes import share_apart, unlike
from sheer.study.compare.meeting import Cause, Meeting, near, ratio, some
from sheer.study.compare.trace import StepTrace

SETTING_CAUSES = {"lr": "rate", "weight_decay": "weight decay", "betas": "momentum", "momentum": "momentum", "eps": "eps"}


def gradient_cause(meeting: Meeting, wrong: Sequence[str]) -> Cause:
    """Why gradients differ, as backward left them, though the losses are equal."""
    a, b = meeting.a, meeting.b
    for mine, yours, side in ((a, b, "b"), (b, a, "a")):
        known = {name: meeting.in_b(name) for name in wrong}
        lost = [
            n for n, m in known.items() if (n if side == "b" else m) in mine.backward and (m if side == "b" else n) not in yours.backward
        ]
        frozen = [n for n in lost if not yours.trains.get(known[n] if side == "b" else n, True)]
        if frozen:
            return Cause(name="frozen", evidence=f"{len(frozen)} tensors do not train in {side} (requires_grad=False): {some(frozen)}.")
        if lost:
            return Cause(
                name="gradient missing", evidence=f"{len(lost)} tensors get no gradient in {side}, though they train: {some(lost)}."
            )
    name = wrong[0]
    x, y = a.backward[name].double(), b.backward[meeting.in_b(name)].double()
    if a.forwards != b.forwards:
        return Cause(name="accumulation", evidence=f"{a.forwards} forward passes an update against {b.forwards}.")
    if meeting.index:
        for side, extra, own in (("b", y - x, meeting.steps_b[meeting.index - 1].backward.get(meeting.in_b(name))),) + (
            ("a", x - y, meeting.steps_a[meeting.index - 1].backward.get(name)),
        ):
            if own is not None and near(extra, own, 0.02):
                said = f"{side}'s gradient is the other's plus {side}'s own of step {meeting.index} (within {_off(extra, own):.1g} of it)"
                return Cause(name="zero_grad", evidence=f"{said}: gradients are not set to zero between the steps.")
    w, factor = a.before[name].double(), ratio(x, y)
    if near(x * factor, y) and all(near(a.backward[n] * factor, b.backward[meeting.in_b(n)], 0.01) for n in wrong):
        return Cause(name="gradient scale", evidence=f"every gradient of b is {factor:.5g} times a's, though the losses are equal.")
    share = ratio(w, y - x)
    if near(w * share, y - x, 0.02):
        return Cause(
            name="L2 in the gradient", evidence=f"b's gradient is a's plus {share:.4g} times the parameter itself: a penalty in the loss."
        )
    share, scores = share_apart(x, y), (a.logits, b.logits)
    if share < 0.1 and scores[0] is not None and scores[1] is not None and 0 < share_apart(scores[0], scores[1]) < 0.01:
        apart = share_apart(scores[0], scores[1])
        said = f"the scores differ by {apart:.1g} of the largest, and {name} by {share:.1g}: no setting explains it"
        return Cause(name="rounding", evidence=f"{said}, and differences of this size grow in a deep network.")
    return Cause(
        name="unknown", evidence=f"{len(wrong)} gradients differ: norm {float(x.norm()):.4g} against {float(y.norm()):.4g} for the first."
    )


def _off(x: torch.Tensor, y: torch.Tensor) -> float:
    return float((x - y).abs().max() / y.abs().max().clamp_min(1e-300))


def update_gradient_cause(meeting: Meeting, wrong: Sequence[str]) -> Cause:
    """Why gradients differ only when the optimiser takes them."""
    a, b = meeting.a, meeting.b
    if a.updates != b.updates:
        return _no_update(a, b)
    for step, side in ((b, "b"), (a, "a")):
        pairs = [(step.backward[n], step.gradients[n]) for n in step.gradients if n in step.backward]
        before, after = (torch.cat([pair[n].double().flatten() for pair in pairs]) for n in (0, 1))
        if near(before, after, 1e-6):
            continue
        factor, limit = ratio(before, after), float(after.abs().max())
        if near(before * factor, after):
            said = f"all of {side}'s gradients are made {factor:.4g} times as large: their norm is {float(before.norm()):.4g} before"
            return Cause(name="clipping", evidence=f"{said} and {float(after.norm()):.4g} at the update.")
        if near(before.clamp(-limit, limit), after, 1e-6):
            cut = int((before.abs() > limit).sum())
            return Cause(name="clipping", evidence=f"{cut} of {side}'s {len(before)} gradient values are cut off at {limit:.4g}.")
        share = ratio(torch.cat([step.before[n].double().flatten() for n in step.gradients if n in step.backward]), after - before)
        return Cause(
            name="unknown", evidence=f"{side} changes its gradients before the update (not by one factor; {share:.3g} of the weights)."
        )
    return Cause(name="unknown", evidence=f"{len(wrong)} gradients differ at the update: {some(wrong)}.")


def _no_update(a: StepTrace, b: StepTrace) -> Cause:
    return Cause(name="updates", evidence=f"the optimiser updates {a.updates} times in a and {b.updates} times in b in this step.")


def buffer_cause(meeting: Meeting, wrong: Sequence[str]) -> Cause:
    """Why running statistics, or other buffers, differ after the step."""
    a, b, name = meeting.a, meeting.b, next((n for n in wrong if not n.endswith("num_batches_tracked")), wrong[0])
    yours = meeting.in_b(name)
    if name not in a.state or yours not in b.state:
        return Cause(name="buffers", evidence=f"{name} is in one of them only.", tensor=name)
    if a.forwards != b.forwards:
        return Cause(
            name="forward passes", evidence=f"{a.forwards} forward passes with moving statistics against {b.forwards}.", tensor=name
        )
    module, module_b = (meeting_names.rpartition(".")[0] for meeting_names in (name, yours))
    moved = ratio(a.state[name].double() - a.before[name], b.state[yours].double() - b.before[yours])
    if module in a.modules and module_b in b.modules and a.modules[module] != b.modules[module_b]:
        one, other = a.modules[module], b.modules[module_b]
        if one.training != other.training:
            return Cause(
                name="mode", evidence=f"train mode is {one.training} against {other.training}: one moves its statistics.", tensor=name
            )
        return Cause(
            name="norm momentum", evidence=f"{unlike(one, other)}; b's statistics move {moved:.4g} times as far as a's.", tensor=name
        )
    return Cause(name="unknown", evidence=f"b's moves {moved:.4g} times as far as a's.", tensor=name)


def parameter_cause(meeting: Meeting, wrong: Sequence[str]) -> Cause:
    """Why parameters differ after an update from equal gradients."""
    a, b = meeting.a, meeting.b
    if a.updates != b.updates:
        return _no_update(a, b)
    for mine, other, side in ((b, a, "b"), (a, b, "a")):
        key = meeting.in_b if side == "b" else str
        other_key = str if side == "b" else meeting.in_b
        unowned = [n for n in a.trains if key(n) not in mine.groups and other_key(n) in other.groups]
        if set(unowned) & set(wrong):
            said = f"{len(unowned)} parameters are in no group of {side}'s optimiser, so they stay as they are"
            return Cause(name="ownership", evidence=f"{said}: {some(unowned)}.", tensor=unowned[0])
    name = wrong[0]
    changes = a.state[name].double() - a.before[name], b.state[meeting.in_b(name)].double() - b.before[meeting.in_b(name)]
    moved = f"b's change is {ratio(*changes):.4g} times a's" if near(changes[0] * ratio(*changes), changes[1], 0.01) else _changed(*changes)
    if a.optimizer != b.optimizer:
        return Cause(name="optimizer", evidence=f"{a.optimizer} against {b.optimizer}; {moved}.")
    differing = group_differences(a.groups.get(name, {}), b.groups.get(meeting.in_b(name), {}))
    if differing:
        kinds = list(dict.fromkeys(SETTING_CAUSES.get(key, "optimizer settings") for key, _ in differing))
        said = ", ".join(text for _, text in differing)
        return Cause(name=" and ".join(kinds), evidence=f"{said}; {moved}.")
    if a.carried != b.carried and not meeting.index:
        return Cause(name="optimizer state", evidence=f"state of {a.carried} tensors against {b.carried} was there before; {moved}.")
    return Cause(name="unknown", evidence=f"same optimiser, settings and gradient; {moved}. Is the parameter changed after the update?")


def _changed(x: torch.Tensor, y: torch.Tensor) -> str:
    return f"it changes by up to {float(x.abs().max()):.4g} against {float(y.abs().max()):.4g}"


def group_differences(mine: dict[str, Any], yours: dict[str, Any]) -> list[tuple[str, str]]:
    """(setting, what it is in a and in b) of two parameter groups' settings."""
    return [(key, f"{key} {_value(mine[key])} against {_value(yours[key])}") for key in mine if key in yours and mine[key] != yours[key]]


def _value(value: Any) -> str:
    if isinstance(value, tuple | list):
        return f"({', '.join(map(_value, value))})"
    return f"{value:g}" if isinstance(value, float) else str(value)
