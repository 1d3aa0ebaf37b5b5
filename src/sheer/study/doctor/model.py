"""The doctor's checks of the optimiser and the model, which need no training."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from sheer.model.stages import is_norm
from sheer.study.doctor.case import Case, Said, leaves
from sheer.study.doctor.findings import Unchecked, found

BatchNorm = nn.modules.batchnorm._BatchNorm


def names(found_names: Sequence[str]) -> str:
    """The first five names, and how many more there are.

    >>> names(["a", "b"])
    'a, b'
    """
    return ", ".join(found_names[:5]) + (f" and {len(found_names) - 5} more" if len(found_names) > 5 else "")


def check_ownership(case: Case) -> Said:
    """The optimiser's tensors against the model's trainable ones; frozen tensors among them; the scheduler's optimiser."""
    loss_tensors = {id(tensor) for tensor in case.loss_fn.parameters()} if isinstance(case.loss_fn, nn.Module) else set[int]()
    held = {id(tensor): tensor for group in case.optimizer.param_groups for tensor in group["params"] if id(tensor) not in loss_tensors}
    own = {id(parameter): name for name, parameter in case.model.named_parameters()}
    trainable = {key: name for key, name in own.items() if key not in held and case.model.get_parameter(name).requires_grad}
    strangers = [tensor for key, tensor in held.items() if key not in own]
    words: dict[str, object] = {"held": len(held), "strangers": len(strangers), "own": len(own), "kind": case.kind}
    words |= {"values": sum(tensor.numel() for tensor in strangers), "missing": len(trainable), "names": names(list(trainable.values()))}
    if held and len(strangers) == len(held):
        yield found(
            "model_replaced",
            "none of the optimiser's {held} tensors is among the model's {own}; all {missing} trainable ones are missing",
            words,
        )
    else:
        if strangers:
            yield found("stray_tensors", "{strangers} of the optimiser's {held} tensors ({values:,} values) are not the model's", words)
        if trainable:
            yield found("missing_tensors", "{missing} trainable tensors of {own} are in no group: {names}", words)
    if case.scheduler is not None and getattr(case.scheduler, "optimizer", case.optimizer) is not case.optimizer:
        yield found(
            "scheduler_of_another_optimizer",
            "scheduler.optimizer is not the optimizer given: its {groups} group(s) are of another one",
            {"groups": len(case.scheduler.optimizer.param_groups), "kind": type(case.scheduler).__name__},
        )


def check_frozen_tensors(case: Case) -> Said:
    """Frozen tensors that the optimiser holds, in groups that decay or have momentum."""
    own = {id(parameter): name for name, parameter in case.model.named_parameters()}
    frozen, awake, decay, momentum = list[str](), 0, 0.0, 0.0
    for group in case.optimizer.param_groups:
        push = float(group.get("momentum", 0.0) or max(group.get("betas", (0.0,))))
        for tensor in group["params"]:
            if id(tensor) in own and not tensor.requires_grad and (group.get("weight_decay", 0.0) or push):
                frozen.append(own[id(tensor)])
                awake += tensor.grad is not None
                decay, momentum = max(decay, float(group.get("weight_decay", 0.0))), max(momentum, push)
    if frozen:
        words = {"frozen": len(frozen), "awake": awake, "decay": decay, "momentum": momentum, "names": names(frozen), "kind": case.kind}
        yield found(
            "frozen_in_optimizer",
            "{frozen} frozen tensors are in groups with decay up to {decay:g} and momentum up to {momentum:g}: {names}; "
            "{awake} of them have a gradient and move at the next step",
            words,
        )


def check_norm_layers(case: Case) -> Said:
    """Norm layers that a test of their name left frozen, or training, unlike the others of their block."""
    norms = {name: module for name, module in case.model.named_modules() if is_norm(module)}
    status = {name: module.weight.requires_grad for name, module in norms.items() if isinstance(module.weight, nn.Parameter)}
    yield from missed_by_name(status, "train", "are frozen")


def missed_by_name(status: dict[str, bool], yes: str, no: str) -> Said:
    """A finding where norm layers without a name are otherwise than those with one; `yes` and `no` say what the status means."""
    missed, peers = unlike_their_block(status)
    if missed:
        value = status[missed[0]]
        words: dict[str, object] = {"missed": len(missed), "norms": len(status), "peers": peers, "names": names(missed)}
        words |= {"this": yes if value else no, "that": no if value else yes}
        text = "{missed} of {norms} norm layers {this}, while all others in their blocks ({peers} with a name like bn) {that}: {names}"
        yield found("norm_missed_by_name", text, words)


def unlike_their_block(status: dict[str, bool]) -> tuple[list[str], int]:
    """Norm layers without "bn" or "norm" in their name whose named neighbours are all otherwise, and how many neighbours there are."""
    named = {name for name in status if any(word in name.lower() for word in ("bn", "norm"))}
    missed, peers = list[str](), set[str]()
    for name in (name for name in status if name not in named):
        block = _block(name, named)
        if block and all(status[peer] != status[name] for peer in block):
            missed.append(name)
            peers |= set(block)
    return missed, len(peers)


def _block(name: str, named: set[str]) -> list[str]:
    """The named norm layers that share the longest path with the layer, at least one part of it."""
    parts = name.split(".")
    for length in range(len(parts) - 1, 0, -1):
        block = [peer for peer in named if peer.startswith(".".join(parts[:length]) + ".")]
        if block:
            return block
    return []


def check_head_rate(case: Case) -> Said:
    """The last layer's rate against the body's, where groups were made to differ."""
    if not case.look.head:
        yield Unchecked(what="head at the body's rate", need=_need(case))
        return
    head = {id(parameter) for parameter in case.model.get_submodule(case.look.head).parameters()}
    own = {id(parameter) for parameter in case.model.parameters()}
    groups = [(rate_of(group), group, {id(tensor) for tensor in group["params"]}) for group in case.optimizer.param_groups]
    trained = [(rate, group, held & own) for rate, group, held in groups if any(t.requires_grad for t in group["params"]) and held & own]
    head_rates = [rate for rate, _, held in trained if held & head]
    body = [(rate, group) for rate, group, held in trained if held - head]
    if not head_rates or not body:
        return
    fastest, slowest = max(rate for rate, _ in body), min(rate for rate, _ in body)
    apart = [group for _, group, held in trained if held and not held - head]  # groups of the head alone
    same_decay = any(group.get("weight_decay") == other.get("weight_decay") for group in apart for _, other in body)
    meant = fastest > slowest or (apart and (same_decay or max(head_rates) < slowest))
    if meant and max(head_rates) <= slowest:
        words: dict[str, object] = {"rate": slowest, "head_rate": max(head_rates), "head": case.look.head, "groups": len(groups)}
        words["group"] = next(number for number, (_, _, held) in enumerate(groups) if held & head)
        yield found("head_at_body_rate", "{head} has rate {head_rate:g}, the body {rate:g}, in {groups} groups", words)


def rate_of(group: dict[str, object]) -> float:
    """A group's rate before any schedule, with the scale that timm keeps beside it."""
    return float(group.get("initial_lr", group["lr"])) * float(group.get("lr_scale", 1.0))  # type: ignore[arg-type]


def _need(case: Case) -> str:
    return case.look.error or case.trouble or "no layer with weights ran"


def meant_to_be_pretrained(case: Case) -> bool:
    """Whether the user says so, or has frozen weights, or gives the body a lower rate than the head."""
    if case.pretrained is not None:
        return case.pretrained
    if any(not parameter.requires_grad and parameter.ndim >= 2 for parameter in case.model.parameters()):
        return True
    head = {id(parameter) for parameter in case.model.get_submodule(case.look.head).parameters()} if case.look.head else set[int]()
    rates = {id(t): rate_of(group) for group in case.optimizer.param_groups for t in group["params"] if t.ndim >= 2}
    body = [rates[id(p)] for p in case.model.parameters() if id(p) in rates and id(p) not in head]
    return bool(body) and min(body) < max((rates[key] for key in head if key in rates), default=0.0)


def looks_random(model: nn.Module, head: str) -> tuple[bool, str, dict[str, object]]:
    """Whether the weights below the head are as an initialisation leaves them; the evidence as text and numbers.

    Trained norm layers have scales that differ from channel to channel. Without norm layers: the fourth moment of
    each tensor of 1,000 values or more over its squared second, 3 for a normal draw, 9/5 for a uniform one.
    """
    own = {name: module for name, module in model.named_modules() if name != head}
    norms = [module for module in own.values() if is_norm(module) and isinstance(module.weight, nn.Parameter)]
    if norms:
        flat = sum(int(_constant(module.weight) and _constant(module.bias)) for module in norms)
        fresh = 2 * flat > len(norms)
        return fresh, "{flat} of {norms} norm layers have one scale and one shift for all channels", {"flat": flat, "norms": len(norms)}
    weights = [module.weight for module in own.values() if isinstance(module, nn.Conv2d | nn.Linear) and module.weight.numel() >= 1000]
    ratios = [(_kurtosis(weight), 5 * math.sqrt(24 / weight.numel())) for weight in weights]
    drawn = sum(int(min(abs(ratio - 3), abs(ratio - 1.8)) < error) for ratio, error in ratios)
    words: dict[str, object] = {"drawn": drawn, "weights": len(weights)}
    return bool(weights) and drawn == len(weights), "{drawn} of {weights} weights have the fourth moment of a normal or uniform draw", words


def _constant(tensor: torch.Tensor | None) -> bool:
    return tensor is None or bool((tensor == tensor.flatten()[0]).all())


def _kurtosis(tensor: torch.Tensor) -> float:
    values = tensor.detach().double().flatten()
    values = values - values.mean()
    return float(values.pow(4).mean() / values.pow(2).mean().pow(2).clamp(min=1e-300))


def check_weights(case: Case) -> Said:
    """Statistics of the weights, where they were meant to be pretrained."""
    fresh, text, words = looks_random(case.model, case.look.head)
    if fresh and meant_to_be_pretrained(case):
        yield found("weights_not_loaded", text, words)
    elif fresh and case.pretrained is None:
        yield Unchecked(what="pretrained weights not loaded", need="the weights look random; give pretrained=True where they should not be")


def check_half_precision(case: Case) -> Said:
    """Norm layers and dropout in float16, by their tensors or by what they were given."""
    norms = [
        name
        for name, module in case.model.named_modules()
        if is_norm(module) and any(tensor.dtype == torch.float16 for tensor in [*module.parameters(False), *module.buffers(False)])
    ]
    half_weights = {parameter.dtype for parameter in case.model.parameters()} == {torch.float16}
    layers = leaves(case.model)
    dropouts = [name for name, module in layers.items() if isinstance(module, nn.modules.dropout._DropoutNd) and module.p > 0]
    both = list(dict.fromkeys([*norms, *(dropouts if half_weights else ()), *case.look.half]))
    if both:
        yield found(
            "half_precision", "{layers} norm or dropout layers compute in float16: {names}", {"layers": len(both), "names": names(both)}
        )


def check_scores(case: Case) -> Said:
    """Softmax or sigmoid in the model below a loss that applies it itself."""
    output = case.look.squashed
    if output is None or case.look.output is None:
        yield Unchecked(what="softmax or sigmoid before the loss", need=_need(case))
        return
    kind = loss_kind(case)
    if kind is None:
        yield Unchecked(
            what="softmax or sigmoid before the loss", need="loss_fn(output, target) is neither cross-entropy nor BCE with logits"
        )
    inside = bool(((output >= 0) & (output <= 1)).all())
    seen = case.look.output
    words: dict[str, object] = {"low": float(seen.min()), "high": float(seen.max())}
    shares = inside and output.ndim >= 2 and output.shape[1] > 1 and all(bool(((o.sum(1) - 1).abs() < 1e-3).all()) for o in (output, seen))
    if kind == "softmax" and shares:
        classes = output.shape[1]
        words |= {"sum": float(seen.sum(1).mean()), "classes": classes, "floor": math.log(1 + (classes - 1) / math.e)}
        inside = False
        yield found("softmax_before_loss", "each item's outputs are from {low:.3g} to {high:.3g} and sum to {sum:.4f}", words)
    if kind == "softmax" and inside and output.ndim >= 2 and output.shape[1] > 1 and float(output.max()) > 0.5:
        classes = output.shape[1]
        words |= {"classes": classes, "floor": math.log(1 + (classes - 1) / math.e)}
        text = "outputs are from {low:.3g} to {high:.3g}, do not sum to 1, and stay there when the last layer's are made 1000 times larger"
        yield found("sigmoid_before_softmax", text, words)
    share = loss_floor(case) if kind == "softmax" else 0.0
    if share > 0.05:
        text = "perfect scores (50 for the right class, 0 for the others) cost {share:.0%} of what equal scores do, and so do scores of 100"
        yield found("softmax_in_loss", text, {"share": share})
    if kind == "sigmoid" and inside:
        text = "outputs are from {low:.3g} to {high:.3g}, and stay between 0 and 1 when the last layer's are made 1000 times larger"
        yield found("sigmoid_before_loss", text, words)


def loss_kind(case: Case) -> str | None:
    """`softmax` where adding a constant to all scores changes nothing, `sigmoid` where the loss is linear in scores far off; else None."""
    output, batches = case.look.output, case.train_batches
    if output is None or not batches:
        return None
    target, device = batches[0][1], batches[0][1].device
    try:
        if target.dtype == torch.int64 and output.ndim >= 2 and target.ndim == output.ndim - 1:
            fake = functional.one_hot(target.clamp(0, output.shape[1] - 1), output.shape[1]).movedim(-1, 1).to(device, torch.float32)
            values = [case.loss_fn(scores, target.clamp(0, output.shape[1] - 1)) for scores in (fake, fake + 3)]
            return "softmax" if _close(values[0], values[1]) and float(values[0].sum()) > 0 else None
        fake = torch.full(output.shape, 50.0, device=device)
        ones = torch.ones(target.shape, dtype=target.dtype, device=device)
        right, wrong, far = (float(case.loss_fn(scores, ones).sum()) for scores in (fake, -fake, -2 * fake))
        return "sigmoid" if right < 1e-3 * wrong and 1.9 < far / wrong < 2.1 else None
    except Exception:  # a loss that does not take these scores is of another kind, which the caller says
        return None


def loss_floor(case: Case) -> float:
    """What perfect scores cost, as a share of what equal ones do, where higher perfect scores cost no other than that; else 0."""
    output, target = case.look.output, case.train_batches[0][1]
    assert output is not None
    true = target.clamp(0, output.shape[1] - 1)
    fake = functional.one_hot(true, output.shape[1]).movedim(-1, 1).to(target.device, torch.float32)
    blind, high, higher = (float(case.loss_fn(scale * fake, true).sum()) for scale in (0, 50, 100))
    return high / blind if blind > 0 and abs(high - higher) < 1e-3 * blind else 0.0


def _close(one: torch.Tensor, other: torch.Tensor) -> bool:
    return bool(torch.allclose(one, other, rtol=1e-3, atol=1e-5))


def check_map(case: Case) -> Said:
    """Whether the last map before pooling has more than one cell."""
    side = case.look.map_side
    if side is None and case.look.error:
        yield Unchecked(what="the input too small", need=case.look.error)
    if side == (1, 1) and case.train_batches:
        height, width = case.train_batches[0][0].shape[-2:]
        words: dict[str, object] = {"height": height, "width": width, "cells": 1, "larger": 2 * max(height, width)}
        yield found("map_too_small", "pictures of {height} x {width} px end as a map of 1 x 1", words)
