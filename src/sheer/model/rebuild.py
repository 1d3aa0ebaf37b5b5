"""A plan's model again, for loading a run: its architecture, without downloading or proving anything anew."""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Callable

from torch import nn

from sheer.errors import ModelError
from sheer.model import backbones
from sheer.model.build import CPU, Built, tensor_facts
from sheer.model.heads import HEADS
from sheer.model.pretrained import IMAGENET, input_facts, library
from sheer.plan.plan import Plan
from sheer.streams import borrowed_generators


def rebuild(plan: Plan, made_by: nn.Module | Callable[[], nn.Module] | None) -> Built:
    """The module of the plan with weights yet to be loaded; `made_by` is your own module for plans that have one.

    Raises:
        ModelError: the plan's model is your own and was not given, or its library is not here.
    """
    library_name, _, name = plan.model.name.partition(":")
    with borrowed_generators(CPU), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if plan.model.head is None:
            if made_by is None:
                raise ModelError(
                    f"The run used {name!r}, a module of your own, and nothing is imported by a name found in a file. "
                    f"Give it: sheer.load(run, objects={{{name!r}: {name}}})."
                )
            model = made_by if isinstance(made_by, nn.Module) else made_by()
            inputs = IMAGENET
        else:
            library(library_name)
            if library_name == "timm":
                body = backbones.timm_body(name, plan.model.kind)
            else:
                body = backbones.TorchvisionBody(backbones.torchvision_whole(name), plan.model.node)
            head = HEADS[plan.model.head.name](**plan.model.head.options())  # type: ignore[arg-type]
            new_head = head.build(plan.model.features, len(plan.data.classes), plan.model.kind)
            model = nn.Sequential(OrderedDict(body=body, head=new_head))
            inputs = input_facts(library_name, name)
    facts = tensor_facts(model, plan.model.stages, plan.model.undecayed)
    label = {"package": f"package {plan.model.weights.options().get('distribution')}"}.get(plan.model.weights.name, plan.model.weights.name)
    return Built(
        model=model,
        plan=plan.model,
        tensors=facts,
        inputs=inputs,
        weights_label=label,
        made_by=None if isinstance(made_by, nn.Module) else made_by,
    )
