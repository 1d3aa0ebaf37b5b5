"""A plan's model again, for loading a run: its architecture, without downloading or proving anything anew."""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Callable

from torch import nn

from sheer.errors import ModelError
from sheer.model import backbones
from sheer.model.build import CPU, Built, HeadMaker, new_head, tensor_facts
from sheer.model.inputs import widened
from sheer.model.pretrained import IMAGENET, input_facts, library
from sheer.plan.plan import Plan
from sheer.streams import borrowed_generators

OWN = ("function", "module")


def rebuild(plan: Plan, made_by: nn.Module | Callable[[], nn.Module] | None, made_head: HeadMaker | None) -> Built:
    """The module of the plan with weights yet to be loaded; `made_by` and `made_head` are your own for plans that have them.

    Raises:
        ModelError: the plan's model or head is your own and was not given, or its library is not here.
    """
    library_name, _, name = plan.model.name.partition(":")
    head_kind, _, head_name = plan.model.head.name.partition(":") if plan.model.head else ("", "", "")
    if head_kind == "function" and made_head is None:
        raise ModelError(
            f"The run used {head_name!r}, a head of your own, and nothing is imported by a name found in a file. "
            f"Give it: sheer.load(run, objects={{{head_name!r}: {head_name}}})."
        )
    with borrowed_generators(CPU), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if library_name in OWN:
            if made_by is None:
                raise ModelError(
                    f"The run used {name!r}, a module of your own, and nothing is imported by a name found in a file. "
                    f"Give it: sheer.load(run, objects={{{name!r}: {name}}})."
                )
            body = made_by if isinstance(made_by, nn.Module) else made_by()
            inputs = IMAGENET
        else:
            library(library_name)
            if library_name == "timm":
                body = backbones.timm_body(name, plan.model.kind)
            else:
                body = backbones.TorchvisionBody(backbones.torchvision_whole(name), plan.model.node)
            body = widened(body, plan.model.name, plan.model.channels, plan.model.channel_init)
            known = plan.model.weights.name != "none" or library_name == "timm"
            inputs = input_facts(library_name, name) if known else IMAGENET
        model = body
        if plan.model.head:
            top = new_head(plan.model.head, made_head, plan.model.features, len(plan.data.classes), plan.model.kind)
            model = nn.Sequential(OrderedDict(body=body, head=top))
    facts = tensor_facts(model, plan.model.stages, plan.model.undecayed)
    label = {"package": f"package {plan.model.weights.options().get('distribution')}"}.get(plan.model.weights.name, plan.model.weights.name)
    return Built(
        model=model,
        plan=plan.model,
        tensors=facts,
        inputs=inputs,
        weights_label=label,
        made_by=None if isinstance(made_by, nn.Module) else made_by,
        made_head=made_head,
    )
