"""Why the output of a layer, or the scores, differ: modules that only one has, modes, settings, weights, dropout, activations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import torch

from sheer.study.compare.meeting import Cause, Meeting, near, ratio, some
from sheer.study.compare.trace import Setting, StepTrace

Call = tuple[str, str, torch.Tensor]  # key, the module's name on its side, output
LAYER_CAUSES = {"eps": "norm eps", "momentum": "norm momentum"}
ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "softmax": lambda scores: scores.softmax(1),
    "log-softmax": lambda scores: scores.log_softmax(1),
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
}


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


def layer_cause(meeting: Meeting, wrong: Sequence[str]) -> Cause:
    """Why the output of a layer differs while those before it are equal."""
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
        return Cause(name=_setting_cause(one, other), evidence=f"{unlike(one, other)}; {apart(x, y)}.", tensor=shown)
    own = [name for name in meeting.a.before if name.rpartition(".")[0] == name_a]
    moved = [name for name in own if not near(meeting.a.before[name], meeting.b.before[meeting.in_b(name)], 1e-6)]
    if moved:
        return Cause(name="weights", evidence=f"its {moved[0]} was not the same before; {apart(x, y)}.", tensor=shown)
    if x.dtype != y.dtype:
        kinds = [str(tensor.dtype).removeprefix("torch.") for tensor in (x, y)]
        return Cause(name="precision", evidence=f"computed in {kinds[0]} in a and in {kinds[1]} in b; {apart(x, y)}.", tensor=shown)
    if "Drop" in one.kind and x.shape == y.shape and not torch.equal(x == 0, y == 0):
        zeros = f"{float((x == 0).double().mean()):.1%} against {float((y == 0).double().mean()):.1%} of its outputs are 0"
        return Cause(name="dropout draws", evidence=f"both drop with {one.text}, but not the same values: {zeros}.", tensor=shown)
    shares = [share_apart(x, y) for _, x, y in layer_pairs(meeting)[: place + 1] if x.shape == y.shape]
    if shares and 0 < next((share for share in shares if share), 0.0) < 1e-5 and shares[-1] < 1e-2:
        grown = f"from {next(share for share in shares if share):.1g} of the largest value, where it begins, to {shares[-1]:.1g} here"
        return Cause(name="rounding", evidence=f"the difference grows through the layers, {grown}.", tensor=shown)
    if x.shape == y.shape and near(x * ratio(x, y), y):
        said = f"b's output is {ratio(x, y):.5g} times a's, by something before it that is no module"
        return Cause(name="unknown", evidence=f"{said}.", tensor=shown)
    return Cause(
        name="unknown",
        evidence=f"same module, same settings, same weights; {apart(x, y)}. Something before it is no module.",
        tensor=shown,
    )


def _since(sequence: list[str], others: Sequence[str], end: int) -> list[str]:
    """The calls just before `end` that the other side does not have."""
    found: list[str] = []
    while end > 0 and sequence[end - 1] not in others:
        end -= 1
        found.insert(0, sequence[end])
    return found


def _modes(one: Setting, other: Setting, x: torch.Tensor, y: torch.Tensor) -> str:
    words = {True: "train", False: "eval"}
    means = "batch against running statistics" if one.training else "running against batch statistics"
    means = means if one.norm else "it drops in one of them only"
    return f"{one.kind} is in {words[one.training]} mode in a and in {words[other.training]} mode in b: {means}; {apart(x, y)}."


def _setting_cause(one: Setting, other: Setting) -> str:
    said = unlike(one, other)
    if one.kind != other.kind:
        return "module"
    return next((cause for word, cause in LAYER_CAUSES.items() if f"{word}=" in said), "norm settings" if one.norm else "layer settings")


def unlike(one: Setting, other: Setting) -> str:
    """Only the settings that differ."""
    if one.kind != other.kind:
        return f"{one.kind} against {other.kind}"
    mine, yours = one.text.split(", "), other.text.split(", ")
    left, right = [part for part in mine if part not in yours], [part for part in yours if part not in mine]
    return f"{one.kind}: {', '.join(left) or 'nothing'} against {', '.join(right) or 'nothing'}"


def apart(x: torch.Tensor, y: torch.Tensor) -> str:
    """How far two outputs are from each other, in words."""
    if x.shape != y.shape:
        return f"outputs of shape {tuple(x.shape)} against {tuple(y.shape)}"
    largest = float((x.double() - y.double()).abs().max())
    return f"largest difference {largest:.3g}, of values up to {float(x.abs().max()):.3g}"


def share_apart(x: torch.Tensor, y: torch.Tensor) -> float:
    """The largest difference as a share of the largest value."""
    return float((x.double() - y.double()).abs().max() / x.double().abs().max().clamp_min(1e-300)) if x.numel() else 0.0


def logits_cause(meeting: Meeting, wrong: Sequence[str]) -> Cause:
    """Why the scores differ though every layer is equal."""
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
    if meeting.index and switched_layers(meeting):
        return Cause(name="mode", evidence=f"{switched_layers(meeting)[0]}.")
    return Cause(name="unknown", evidence=f"{apart(x, y)}; the layers before are equal.")


def switched_layers(meeting: Meeting) -> list[str]:
    """Layers in other modes, summed up."""
    owners = {mine.rpartition(".")[0]: yours.rpartition(".")[0] for mine, yours in meeting.names.items()}
    pairs = [(name, one, meeting.b.modules.get(owners.get(name, name))) for name, one in meeting.a.modules.items()]
    matter = [(name, one, other) for name, one, other in pairs if other and (one.norm or "Drop" in one.kind)]
    moved = [name for name, one, other in matter if one.training != other.training]
    return [f"{len(moved)} norm or dropout layers are in other modes (train, eval): {some(moved, 3)}"] if moved else []
