"""Why tensors differ: what each stage's first difference means, from the numbers and settings that were recorded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from sheer.study.loss_causes import loss_cause
from sheer.study.meeting import Cause, Meeting, near, numbers, ratio
from sheer.study.pixel_causes import input_cause, look_cause
from sheer.study.trace import Setting, StepTrace

LAYER_CAUSES = {"norm": "norm settings", "eps": "norm eps", "momentum": "norm momentum"}
SETTING_CAUSES = {"lr": "rate", "weight_decay": "weight decay", "betas": "momentum", "momentum": "momentum", "eps": "eps"}


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


Call = tuple[str, str, torch.Tensor]  # key, the module's name on its side, output


def _calls(step: StepTrace, of_a: dict[str, str]) -> list[Call]:
    """Calls of layers under keys that both sides share: of layers with tensors a's name, of others their place after one of these."""
    last, found, seen = "the inputs", list[Call](), Counter[str]()
    owners: dict[str, str] = {}
    for name in step.state:
        owners.setdefault(name.rpartition(".")[0], of_a.get(name, name).rpartition(".")[0])
    for name, output in step.layers:
        key = owners.get(name) if name in owners else f"{step.modules[name].kind} after {last}"
        seen[str(key)] += 1
        key = f"{key} (call {seen[str(key)]})" if seen[str(key)] > 1 else str(key)
        last = key if name in owners else last
        found.append((key, name, output))
    return found


def _both_calls(meeting: Meeting) -> tuple[list[Call], dict[str, Call]]:
    of_a = {yours: mine for mine, yours in meeting.names.items()}
    return _calls(meeting.a, {name: name for name in meeting.a.state}), {call[0]: call for call in _calls(meeting.b, of_a)}


def layer_pairs(meeting: Meeting) -> list[tuple[str, torch.Tensor, torch.Tensor]]:
    """Outputs of the layers that both sides have: key, a's and b's, in a's order of execution."""
    mine, yours = _both_calls(meeting)
    return [(key, output, yours[key][2]) for key, _, output in mine if key in yours]


def _layer(meeting: Meeting, wrong: Sequence[str]) -> Cause:
    mine, yours = _both_calls(meeting)
    key = wrong[0]
    keys, keys_b = [call[0] for call in mine], list(yours)
    place, place_b = keys.index(key), keys_b.index(key)
    name_a, name_b = mine[place][1], yours[key][1]
    one, other = meeting.a.modules[name_a], meeting.b.modules[name_b]
    shown = name_a if name_a == name_b else f"{name_a} ({name_b} in b)"
    between = [_since(sequence, others, end) for sequence, others, end in ((keys, keys_b, place), (keys_b, keys, place_b))]
    if any(between):
        said = " and ".join(f"{side} runs {', '.join(names)}" for side, names in zip("ab", between, strict=True) if names)
        return Cause(name="module", evidence=f"before it, {said}, which the other does not.", tensor=shown)
    x, y = mine[place][2], yours[key][2]
    if one.training != other.training and ("Norm" in one.kind + other.kind or one.norm or "Drop" in one.kind):
        return Cause(name="mode", evidence=_modes(one, other, x, y), tensor=shown)
    if (one.kind, one.text) != (other.kind, other.text):
        return Cause(name=_setting_cause(one, other), evidence=f"{_unlike(one, other)}; {_apart(x, y)}.", tensor=shown)
    own = [name for name in meeting.a.before if name.rpartition(".")[0] == name_a]
    moved = [name for name in own if not near(meeting.a.before[name], meeting.b.before[meeting.in_b(name)], 1e-6)]
    if moved:
        return Cause(name="weights", evidence=f"its {moved[0]} was not the same before; {_apart(x, y)}.", tensor=shown)
    if "Drop" in one.kind and x.shape == y.shape:
        zeros = f"{float((x == 0).double().mean()):.1%} against {float((y == 0).double().mean()):.1%} of its outputs are 0"
        return Cause(name="dropout draws", evidence=f"both drop with {one.text}, but not the same values: {zeros}.", tensor=shown)
    if x.shape == y.shape and near(x * ratio(x, y), y):
        said = f"b's output is {ratio(x, y):.5g} times a's, by something before it that is no module"
        return Cause(name="unknown", evidence=f"{said}.", tensor=shown)
    return Cause(name="unknown", evidence=f"same module, same settings, same weights; {_apart(x, y)}. Something before it is no module.", tensor=shown)


def _since(sequence: list[str], others: Sequence[str], end: int) -> list[str]:
    """The calls just before `end` that the other side does not have."""
    found = []
    while end > 0 and sequence[end - 1] not in others:
        end -= 1
        found.insert(0, sequence[end])
    return found


def _modes(one: Setting, other: Setting, x: torch.Tensor, y: torch.Tensor) -> str:
    words = {True: "train", False: "eval"}
    means = "batch against running statistics" if one.training else "running against batch statistics"
    means = means if one.norm else "it drops in one of them only"
    return f"{one.kind} is in {words[one.training]} mode in a and in {words[other.training]} mode in b: {means}; {_apart(x, y)}."


def _setting_cause(one: Setting, other: Setting) -> str:
    said = _unlike(one, other)
    if one.kind != other.kind:
        return "module"
    return next((cause for word, cause in LAYER_CAUSES.items() if f"{word}=" in said), "norm settings" if one.norm else "layer settings")


def _unlike(one: Setting, other: Setting) -> str:
    """Only the settings that differ."""
    if one.kind != other.kind:
        return f"{one.kind} against {other.kind}"
    mine, yours = one.text.split(", "), other.text.split(", ")
    left, right = [part for part in mine if part not in yours], [part for part in yours if part not in mine]
    return f"{one.kind}: {', '.join(left) or 'nothing'} against {', '.join(right) or 'nothing'}"


def _apart(x: torch.Tensor, y: torch.Tensor) -> str:
    if x.shape != y.shape:
        return f"outputs of shape {tuple(x.shape)} against {tuple(y.shape)}"
    largest = float((x.double() - y.double()).abs().max())
    return f"largest difference {largest:.3g}, of values up to {float(x.abs().max()):.3g}"


def _logits(meeting: Meeting, wrong: Sequence[str]) -> Cause:
    x, y = meeting.a.logits, meeting.b.logits
    assert x is not None and y is not None
    if x.shape != y.shape:
        return Cause(name="outputs", evidence=f"{tuple(x.shape)} against {tuple(y.shape)}.")
    for name, made in ACTIVATIONS.items():
        for plain, changed, side in ((x, y, "b"), (y, x, "a")):
            if plain.ndim > 1 and near(made(plain.double()), changed, 1e-4):
                end = f"its rows sum to {float(changed.sum(1).mean()):.4g}"
                said = f"{side} ends in a {name} and the other does not (equal after it; {end})"
                return Cause(name="output activation", evidence=f"{said}: a loss that takes raw scores would apply its own on top.")
    if x.ndim == 2 and x.shape[1] <= 1000:
        order = [next((k for k in range(x.shape[1]) if near(x[:, n], y[:, k], 1e-4)), -1) for n in range(x.shape[1])]
        if -1 not in order and len(set(order)) == len(order):
            said = ", ".join(f"{n} is {k}" for n, k in enumerate(order) if n != k)
            return Cause(name="class order", evidence=f"the outputs are in another order: a's {said} in b.")
    if near(x * ratio(x, y), y):
        return Cause(name="output scale", evidence=f"b's scores are {ratio(x, y):.5g} times a's.")
    if meeting.index and _switched(meeting):
        return Cause(name="mode", evidence=f"{_switched(meeting)[0]}.")
    return Cause(name="unknown", evidence=f"{_apart(x, y)}; the layers before are equal.")


ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "softmax": lambda scores: scores.softmax(1),
    "log-softmax": lambda scores: scores.log_softmax(1),
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
}


def _loss(meeting: Meeting, wrong: Sequence[str]) -> Cause:
    return loss_cause(meeting)


def _gradient(meeting: Meeting, wrong: Sequence[str]) -> Cause:
    a, b = meeting.a, meeting.b
    for mine, yours, side in ((a, b, "b"), (b, a, "a")):
        known = {name: meeting.in_b(name) for name in wrong}
        lost = [n for n, m in known.items() if (n if side == "b" else m) in mine.backward and (m if side == "b" else n) not in yours.backward]
        frozen = [n for n in lost if not yours.trains.get(known[n] if side == "b" else n, True)]
        if frozen:
            return Cause(name="frozen", evidence=f"{len(frozen)} tensors do not train in {side} (requires_grad=False): {_some(frozen)}.")
        if lost:
            return Cause(name="gradient missing", evidence=f"{len(lost)} tensors get no gradient in {side}, though they train: {_some(lost)}.")
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
        return Cause(name="L2 in the gradient", evidence=f"b's gradient is a's plus {share:.4g} times the parameter itself: a penalty in the loss.")
    return Cause(name="unknown", evidence=f"{len(wrong)} gradients differ: norm {float(x.norm()):.4g} against {float(y.norm()):.4g} for the first.")


def _off(x: torch.Tensor, y: torch.Tensor) -> float:
    return float((x - y).abs().max() / y.abs().max().clamp_min(1e-300))


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")


def _update_gradient(meeting: Meeting, wrong: Sequence[str]) -> Cause:
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
        return Cause(name="unknown", evidence=f"{side} changes its gradients before the update (not by one factor; {share:.3g} of the weights).")
    return Cause(name="unknown", evidence=f"{len(wrong)} gradients differ at the update: {_some(wrong)}.")


def _no_update(a: StepTrace, b: StepTrace) -> Cause:
    return Cause(name="updates", evidence=f"the optimiser updates {a.updates} times in a and {b.updates} times in b in this step.")


def _buffer(meeting: Meeting, wrong: Sequence[str]) -> Cause:
    a, b, name = meeting.a, meeting.b, next((n for n in wrong if not n.endswith("num_batches_tracked")), wrong[0])
    yours = meeting.in_b(name)
    if name not in a.state or yours not in b.state:
        return Cause(name="buffers", evidence=f"{name} is in one of them only.", tensor=name)
    if a.forwards != b.forwards:
        return Cause(name="forward passes", evidence=f"{a.forwards} forward passes with moving statistics against {b.forwards}.", tensor=name)
    module, module_b = (meeting_names.rpartition(".")[0] for meeting_names in (name, yours))
    moved = ratio(a.state[name].double() - a.before[name], b.state[yours].double() - b.before[yours])
    if module in a.modules and module_b in b.modules and a.modules[module] != b.modules[module_b]:
        one, other = a.modules[module], b.modules[module_b]
        if one.training != other.training:
            return Cause(name="mode", evidence=f"train mode is {one.training} against {other.training}: one moves its statistics.", tensor=name)
        return Cause(name="norm momentum", evidence=f"{_unlike(one, other)}; b's statistics move {moved:.4g} times as far as a's.", tensor=name)
    return Cause(name="unknown", evidence=f"b's moves {moved:.4g} times as far as a's.", tensor=name)


def _parameter(meeting: Meeting, wrong: Sequence[str]) -> Cause:
    a, b = meeting.a, meeting.b
    if a.updates != b.updates:
        return _no_update(a, b)
    for mine, other, side in ((b, a, "b"), (a, b, "a")):
        key = meeting.in_b if side == "b" else str
        other_key = str if side == "b" else meeting.in_b
        unowned = [n for n in wrong if key(n) not in mine.groups and other_key(n) in other.groups]
        if unowned:
            said = f"{len(unowned)} parameters are in no group of {side}'s optimiser, so they stay as they are"
            return Cause(name="ownership", evidence=f"{said}: {_some(unowned)}.", tensor=unowned[0])
    name = wrong[0]
    changes = a.state[name].double() - a.before[name], b.state[meeting.in_b(name)].double() - b.before[meeting.in_b(name)]
    moved = f"b's change is {ratio(*changes):.4g} times a's" if near(changes[0] * ratio(*changes), changes[1], 0.01) else _changed(*changes)
    if a.optimizer != b.optimizer:
        return Cause(name="optimizer", evidence=f"{a.optimizer} against {b.optimizer}; {moved}.")
    mine, yours = a.groups.get(name, {}), b.groups.get(meeting.in_b(name), {})
    unlike = _group_differences(mine, yours)
    if unlike:
        kinds = list(dict.fromkeys(SETTING_CAUSES.get(key, "optimizer settings") for key, _ in unlike))
        said = ", ".join(text for _, text in unlike)
        return Cause(name=" and ".join(kinds), evidence=f"{said}; {moved}.")
    if a.carried != b.carried and not meeting.index:
        return Cause(name="optimizer state", evidence=f"state of {a.carried} tensors against {b.carried} was there before; {moved}.")
    return Cause(name="unknown", evidence=f"same optimiser, settings and gradient; {moved}. Is the parameter changed after the update?")


def _changed(x: torch.Tensor, y: torch.Tensor) -> str:
    return f"it changes by up to {float(x.abs().max()):.4g} against {float(y.abs().max()):.4g}"


def _group_differences(mine: dict[str, Any], yours: dict[str, Any]) -> list[tuple[str, str]]:
    """(setting, what it is in a and in b) of two parameter groups' settings."""
    return [(key, f"{key} {_value(mine[key])} against {_value(yours[key])}") for key in mine if key in yours and mine[key] != yours[key]]


def _value(value: Any) -> str:
    if isinstance(value, tuple | list):
        return f"({', '.join(map(_value, value))})"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _switched(meeting: Meeting) -> list[str]:
    """Layers in other modes, summed up."""
    owners = {mine.rpartition(".")[0]: yours.rpartition(".")[0] for mine, yours in meeting.names.items()}
    pairs = [(name, one, meeting.b.modules.get(owners.get(name, name))) for name, one in meeting.a.modules.items()]
    matter = [(name, one, other) for name, one, other in pairs if other and (one.norm or "Drop" in one.kind)]
    unlike = [name for name, one, other in matter if one.training != other.training]
    return [f"{len(unlike)} norm or dropout layers are in other modes (train, eval): {_some(unlike)}"] if unlike else []


def different_settings(meeting: Meeting) -> Iterator[str]:
    """Every setting that was read at the step and differs, a line each."""
    a, b = meeting.a, meeting.b
    for key in (key for key in meeting.one.about if meeting.other.about.get(key, meeting.one.about[key]) != meeting.one.about[key]):
        yield f"{key}: {meeting.one.about[key]} against {meeting.other.about[key]}"
    yield from _switched(meeting)
    owners = {mine.rpartition(".")[0]: yours.rpartition(".")[0] for mine, yours in meeting.names.items()}
    texts: dict[str, list[str]] = {}
    for name, one in a.modules.items():
        other = b.modules.get(owners.get(name, name))
        if other and (one.kind, one.text) != (other.kind, other.text):
            texts.setdefault(_unlike(one, other), []).append(name)
    frozen = [n for n, trains in a.trains.items() if b.trains.get(meeting.in_b(n), trains) != trains]
    if frozen:
        yield f"requires_grad: {len(frozen)} tensors train in one of them only: {_some(frozen)}"
    if a.optimizer != b.optimizer:
        yield f"optimiser: {a.optimizer} against {b.optimizer}"
    for name in a.trains:
        for key, text in _group_differences(a.groups.get(name, {}), b.groups.get(meeting.in_b(name), {})):
            texts.setdefault(f"optimiser: {text}" if key else text, []).append(name)
    owned = [name for name in a.trains if a.trains[name] and (name in a.groups) != (meeting.in_b(name) in b.groups)]
    if owned:
        yield f"owned by one optimiser only: {len(owned)} parameters: {_some(owned)}"
    for text, names in texts.items():
        yield f"{text} ({len(names)}: {_some(names)})"


CAUSES: dict[str, Callable[[Meeting, Sequence[str]], Cause]] = {
    "items": _items,
    "inputs": lambda meeting, wrong: input_cause(meeting),
    "target": _target,
    "weights": _weights,
    "layer": _layer,
    "logits": _logits,
    "loss": _loss,
    "gradient": _gradient,
    "update gradient": _update_gradient,
    "buffer": _buffer,
    "parameter": _parameter,
}
