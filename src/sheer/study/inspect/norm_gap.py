"""How far a model's inputs are from what its norm layers were trained on: batch statistics against running statistics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.func import functional_call

from sheer.loop.step import scores_of
from sheer.model.stages import is_norm


@dataclass(frozen=True, kw_only=True)
class ClassGap:
    """Of the items of one class: the mean absolute difference of a logit, and the share whose largest logit is another."""

    name: str
    items: int
    difference: float
    changed: float


@dataclass(frozen=True, kw_only=True)
class NormGap:
    """Logits under running statistics (evaluation, policy `frozen`) and under a batch's own (policies `train` and `adapt`).

    `layers` of the body were switched over, nothing else; `difference` is the mean absolute difference of a logit, `spread` the standard
    deviation of the logits under running statistics, `changed` the share of items whose largest logit is another one (None where items
    have no one class).
    """

    layers: int
    items: int
    batch_size: int
    difference: float
    spread: float
    changed: float | None
    classes: tuple[ClassGap, ...]


def running_norms(model: nn.Module) -> list[nn.Module]:
    """The norm layers with running statistics in the model's body, or in the whole model where it has no body."""
    body = getattr(model, "body", model)
    return [module for module in body.modules() if is_norm(module) and getattr(module, "running_mean", None) is not None]


def norm_gap(model: nn.Module, batches: Sequence[torch.Tensor], target: np.ndarray, names: Sequence[str]) -> NormGap | None:
    """The gap over these batches; None where no layer has running statistics.

    `target` (items,) are class numbers and `names` the classes; without names the items have no one class.

    No module, buffer or generator is changed: the buffers that a batch would move are copies.
    """
    layers = running_norms(model)
    if not layers:
        return None
    running = scores_of(model, batches)
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    for layer in layers:
        layer.training = True
    parts = []
    with torch.inference_mode():
        for inputs in batches:
            buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
            parts.append(functional_call(model, buffers, (inputs,)).float().cpu())
    for module, training in modes:
        module.training = training
    own = torch.cat(parts)
    difference = (own - running).abs().mean(1).numpy()
    changed = (own.argmax(1) != running.argmax(1)).numpy()
    classes = [
        ClassGap(name=name, items=int(of.sum()), difference=float(difference[of].mean()), changed=float(changed[of].mean()))
        for number, name in enumerate(names)
        if (of := target == number).any()
    ]
    return NormGap(
        layers=len(layers),
        items=len(own),
        batch_size=max(len(inputs) for inputs in batches),
        difference=float(difference.mean()),
        spread=float(running.std()),
        changed=float(changed.mean()) if names else None,
        classes=tuple(classes),
    )


def first_drift(model: nn.Module, batches: Sequence[torch.Tensor]) -> float | None:
    """|mean of the inputs - running mean| / running std, averaged over the channels of the first norm layer that is reached.

    About 0.1 for photographs under the right normalisation (log 2026-11-21); None where no layer has running statistics.
    """
    found: list[tuple[nn.Module, torch.Tensor]] = []

    def look(layer: nn.Module, inputs: tuple[torch.Tensor, ...], _: torch.Tensor) -> None:
        if not found or found[0][0] is layer:
            found.append((layer, inputs[0].detach().double().flatten(2).mean((0, 2)) if inputs[0].ndim > 2 else inputs[0].double().mean(0)))

    hooks = [layer.register_forward_hook(look) for layer in running_norms(model)]
    try:
        scores_of(model, batches)
    finally:
        for hook in hooks:
            hook.remove()
    if not found:
        return None
    layer: Any = found[0][0]
    seen = torch.stack([values for _, values in found]).mean(0)
    return float(((seen - layer.running_mean).abs() / (layer.running_var + layer.eps).sqrt()).mean())
