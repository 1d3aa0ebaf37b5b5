"""A trained model taken further: to more data, or to more classes, the rows of the old ones kept."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from sheer.errors import ModelError
from sheer.model.build import CPU
from sheer.model.heads import HEADS, EnsembleLinear
from sheer.plan.plan import Plan
from sheer.streams import borrowed_generators, reseed, stream_key


def grow_head(model: nn.Module, plan: Plan, classes: Sequence[str]) -> None:
    """Give the model's head an output a class: those of the plan's classes keep their rows, new ones start as a new head's do.

    Raises:
        ModelError: the model or its head is your own.
    """
    old = plan.data.classes
    if tuple(classes) == old:
        return
    if plan.model.head is None:
        raise ModelError(f"{plan.model.name} is a module of your own: it gives {len(old)} scores, the data has {len(classes)} classes.")
    if plan.model.head.name not in HEADS:
        raise ModelError(f"The head {plan.model.head.name} is your own: which of its rows are a class's is not known, so none is added.")
    builder = plan.model.head.made(HEADS)
    with borrowed_generators(CPU):
        reseed(stream_key(plan.seed, "init-head"), CPU)
        head = builder.build(plan.model.features, len(classes), plan.model.kind)
    trained, grown = model.get_submodule("head").state_dict(), head.state_dict()
    last = [path for path, module in head.named_modules() if isinstance(module, nn.Linear | EnsembleLinear)][-1]
    rows = torch.tensor([classes.index(label) for label in old])
    for name, tensor in grown.items():
        if plan.model.kind == "ensemble":
            tensor[..., rows] = trained[name]
        elif name.startswith(last + "."):
            tensor[rows] = trained[name]
        else:
            grown[name] = trained[name]
    head.load_state_dict(grown)
    model.set_submodule("head", head)
