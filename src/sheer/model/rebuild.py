"""A plan's model again: its architecture for loading a run, or with the weights that its training starts from."""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from sheer.errors import ModelError
from sheer.model import backbones
from sheer.model.adapted import put_lora
from sheer.model.branches import fused_body
from sheer.model.build import CPU, Built, HeadMaker, MadeBy, new_head, tensor_facts
from sheer.model.encoders import ENCODER_WEIGHTS, TextBody, take_encoder
from sheer.model.hashing import weights_sha256
from sheer.model.inputs import widened
from sheer.model.pretrained import IMAGENET, check_known, input_facts
from sheer.model.table import table_body
from sheer.plan.plan import ModelPlan, Part, Plan
from sheer.streams import borrowed_generators, reseed, stream_key

OWN = ("function", "module")


def rebuild(plan: Plan, made_by: MadeBy | None, made_head: HeadMaker | None, *, initial: bool = False) -> Built:
    """The module of the plan; `made_by` (by input, for branches) and `made_head` are your own for plans that have them.

    Its weights are yet to be loaded, or with `initial` those that training starts from: the body's own, and new ones
    from the random streams of the plan's seed. A plan whose `weights_sha256` is "" gets the measured one.

    Raises:
        ModelError: the plan's model or head is your own and was not given, its library is not here, or the
            weights it starts from are not those of the plan.
    """
    library_name, _, name = plan.model.name.partition(":")
    head_kind, _, head_name = plan.model.head.name.partition(":") if plan.model.head else ("", "", "")
    if head_kind == "function" and made_head is None:
        raise ModelError(
            f"The run used {head_name!r}, a head of your own, and nothing is imported by a name found in a file. "
            f"Give it: objects={{{head_name!r}: {head_name}}}."
        )
    given = made_by if isinstance(made_by, Mapping) else {"": made_by}
    wanted = {"": name} if library_name in OWN else own_branches(plan.model)
    for place, own in wanted.items():
        if given.get(place) is None:
            raise ModelError(
                f"The run used {own!r}, a module of your own, and nothing is imported by a name found in a file. "
                f"Give it: objects={{{own!r}: {own}}}."
            )
    with borrowed_generators(CPU), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reseed(stream_key(plan.seed, "init-body"), CPU)
        if plan.model.branches:
            body: nn.Module = _fused_body(plan, given, initial)
        elif plan.model.body is not None:
            body = made_body(plan.model, plan.data.columns, initial)
        elif library_name in OWN:
            body = _made(given[""])
        else:
            check_known(library_name, name)  # before either library acts on a name out of a file: timm would look it up on the network
            body = _named_body(plan.model, library_name, name, initial)
        start = weights_sha256(body) if initial else plan.model.weights_sha256
        if plan.model.lora is not None:
            put_lora(body, plan.model.lora, plan.seed)
        model = body
        if plan.model.head:
            reseed(stream_key(plan.seed, "init-head"), CPU)
            top = new_head(plan.model.head, made_head, plan.model.features, len(plan.data.classes), plan.model.kind)
            model = nn.Sequential(OrderedDict(body=body, head=top))
    if plan.model.weights_sha256 not in ("", start):
        raise ModelError(f"{plan.model.name} does not start from the weights of the plan: their SHA-256 is {start[:8]}..., another.")
    named = plan.model
    if plan.model.branches:
        named = next((one.model for one in plan.model.branches if one.model.body is None and one.name not in wanted), plan.model)
        library_name, _, name = named.name.partition(":")
    known = named.body is None and library_name in ("timm", "torchvision") and (named.weights.name != "none" or library_name == "timm")
    label = {"package": f"package {plan.model.weights.options().get('distribution')}"}.get(plan.model.weights.name, plan.model.weights.name)
    label = "initialised" if plan.model.body is not None and label == "none" else label
    return Built(
        model=model,
        plan=replace(plan.model, weights_sha256=start),
        tensors=tensor_facts(model, plan.model.stages, plan.model.undecayed),
        inputs=input_facts(library_name, name) if known else IMAGENET,
        weights_label=label,
        made_by=(_functions(given) or None) if plan.model.branches else _functions(given).get(""),
        made_head=made_head,
    )


def own_branches(model: ModelPlan) -> dict[str, str]:
    """The names of your own modules, by the input whose branch each is."""
    parts = ((one.name, *one.model.name.split(":", 1)) for one in model.branches)
    return {branch: name for branch, kind, name in parts if kind in OWN}


def _made(own: Any) -> nn.Module:
    module: nn.Module = own if isinstance(own, nn.Module) else own()
    return module


def _functions(given: Mapping[str, Any]) -> dict[str, Any]:
    return {place: own for place, own in given.items() if callable(own) and not isinstance(own, nn.Module)}


def _fused_body(plan: Plan, given: Mapping[str, Any], initial: bool) -> nn.Module:
    """The bodies of the plan's branches, each as it would be alone, below the fusion from its random stream."""
    columns, bodies = {one.name: one.columns for one in plan.data.inputs}, dict[str, nn.Module]()
    assert plan.model.fusion is not None
    for branch in plan.model.branches:
        library_name, _, name = branch.model.name.partition(":")
        reseed(stream_key(plan.seed, "init-body"), CPU)
        if library_name in OWN:
            bodies[branch.name] = _made(given[branch.name])
        elif branch.model.body is not None:
            bodies[branch.name] = made_body(branch.model, columns[branch.name], initial)
        else:
            check_known(library_name, name)
            bodies[branch.name] = _named_body(branch.model, library_name, name, initial)
    return fused_body(bodies, [branch.model.features for branch in plan.model.branches], plan.model.fusion, plan.seed)


def made_body(model: ModelPlan, columns: Sequence[Part], initial: bool) -> nn.Module:
    """The body that sheer itself makes, for a table or for texts, with `initial` with the weights that training starts from."""
    assert model.body is not None
    if model.body.name != "encoder":
        return table_body(model.body, columns)
    options: Any = model.body.options()
    body = TextBody(**options)
    return take_encoder(body, model.weights.made(ENCODER_WEIGHTS).whole()) if initial else body


def _named_body(plan: ModelPlan, library_name: str, name: str, initial: bool) -> nn.Module:
    """The body that the plan cut, with its pretrained weights or with any."""
    timm = library_name == "timm"
    whole = None
    if initial:
        whole = backbones.timm_whole(name) if timm else backbones.torchvision_whole(name)
        whole = plan.weights.made(backbones.WEIGHTS).load(whole, name)
    body = backbones.timm_body(name, plan.kind) if timm else backbones.TorchvisionBody(backbones.torchvision_whole(name), plan.node)
    if whole is not None:
        backbones.load_body(body, whole, "" if timm else "net.")
    return widened(body, plan.name, plan.channels, plan.channel_init)
