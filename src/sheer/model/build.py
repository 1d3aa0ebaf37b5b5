"""A model's name, or your own module, to a module with a head for your classes, and the facts about it."""

from __future__ import annotations

import pickle
import warnings
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from sheer.errors import ModelError, WeightsError, first_line
from sheer.model import backbones
from sheer.model.hashing import tensors_sha256, weights_sha256
from sheer.model.heads import HEADS, OwnHead
from sheer.model.inputs import RGB, Channels, widened
from sheer.model.pretrained import IMAGENET, check_reachable, choose_weights, input_facts, qualify
from sheer.model.stages import early_prefixes, exempt_from_decay, is_norm, staged_parameters
from sheer.model.surgery import Cut, cut_timm, cut_torchvision
from sheer.plan.facts import InputFacts, TensorFact
from sheer.plan.parts import HEAD_SETTINGS
from sheer.plan.plan import ModelPlan, Origin, Part, Stage
from sheer.plan.profiles import Profile
from sheer.streams import borrowed_generators, reseed, stream_key

CPU = torch.device("cpu")
DEFAULT_MODEL = "tf_efficientnet_lite0"
HeadMaker = Callable[[int, int], nn.Module]
Source = nn.Module | Callable[[], nn.Module]
MOST_GIB = 8
MadeBy = Source | Mapping[str, Source]  # your own module, or those of branches by input


@dataclass(frozen=True, kw_only=True)
class Built:
    """A model with what the plan needs to know about it; `made_by` and `made_head` are functions and classes that you passed, if any."""

    model: nn.Module
    plan: ModelPlan
    tensors: tuple[TensorFact, ...]
    inputs: InputFacts
    weights_label: str
    made_by: MadeBy | None
    made_head: HeadMaker | None


def stage_rules(library_name: str, name: str, network: nn.Module, rule: str, prefix: str) -> tuple[Stage, ...]:
    """early | late | head where the network is in the table of the rule, else body | head."""
    early = early_prefixes(rule, library_name, name, network)
    head = Stage(name="head", prefixes=("head",))
    if early is None:
        return Stage(name="body", prefixes=("body",)), head
    return Stage(name="early", prefixes=tuple(prefix + name for name in early)), Stage(name="late", prefixes=("body",)), head


def tensor_facts(model: nn.Module, stages: tuple[Stage, ...], undecayed: tuple[str, ...]) -> tuple[TensorFact, ...]:
    """One fact a parameter of the model as it is now, in the model's order.

    Raises:
        ModelError: a parameter belongs to none of the stages.
    """
    rules = ("norm_bias", "norm_bias_1d")
    try:
        parameters = list(staged_parameters(model, [stage.prefixes for stage in stages]))
    except ValueError as error:
        raise ModelError(f"{error} Stages are {', '.join(stage.name for stage in stages)}.") from error
    return tuple(
        TensorFact(
            name=name,
            stage=stage,
            values=parameter.numel(),
            norm=is_norm(owner),
            exempt=tuple(rule for rule in rules if exempt_from_decay(name, parameter, owner, rule, undecayed)),
            sha256=tensors_sha256([parameter]),
        )
        for name, parameter, stage, owner in parameters
    )


def check_fits(make: Callable[[], nn.Module], what: str) -> None:
    """ModelError where the weights of the new module that `make` makes would take more than MOST_GIB; nothing of it is allocated."""
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        size = sum(parameter.nbytes for parameter in make().parameters()) / 2**30
    if size > MOST_GIB:
        raise ModelError(f"{what}: its weights alone would take {size:,.0f} GiB; at most {MOST_GIB} are made. Give smaller numbers.")


def new_head(part: Part, make: HeadMaker | None, features: int, classes: int, kind: str) -> nn.Module:
    """The head that the part names, or that your own function makes.

    Raises:
        ModelError: your function gives no module.
    """
    made: Any = OwnHead(make=make) if make is not None else part.made(HEADS)
    if make is None:
        check_fits(lambda: made.build(features, classes, kind), f"head={part}")
    head = made.build(features, classes, kind)
    if not isinstance(head, nn.Module):
        raise ModelError(f"head={part.name}: your function gives {type(head).__name__}; it must return a torch.nn.Module.")
    return head


def _name_origin(name: str) -> Origin:
    if name == DEFAULT_MODEL:
        return Origin(field="name", by="default", reason="small, quick on a CPU, and its weights can be had as a package")
    library = "" if ":" in name else "; which library is the default's choice: timm where it has the name, else torchvision"
    return Origin(field="name", by="you", reason=f"you named it{library}")


def build_named(
    name: str,
    *,
    weights: str,
    classes: int,
    profile: Profile,
    head: Part | None,
    seed: int,
    head_by: str,
    channels: Channels = RGB,
    make_head: HeadMaker | None = None,
) -> Built:
    """A timm or torchvision network, cut with proof, with a new head, on the CPU; the caller's generators are left alone.

    Raises:
        ModelError: the name, the weights or the cut cannot be had.
    """
    library_name, bare = qualify(name)
    inputs = input_facts(library_name, bare) if weights != "none" or library_name == "timm" else IMAGENET
    with borrowed_generators(CPU), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reseed(stream_key(seed, "init-body"), CPU)
        whole = backbones.timm_whole(bare) if library_name == "timm" else backbones.torchvision_whole(bare)
        part, licence = choose_weights(library_name, bare, weights, whole)
        if part.name in ("timm", "torchvision"):
            check_reachable(library_name, bare)
        try:
            whole = part.made(backbones.WEIGHTS).load(whole, bare)
        except pickle.UnpicklingError as error:
            raise WeightsError(
                f"{part.options().get('path', part)} could not be loaded: it is no file of weights, or holds more than tensors. Objects in "
                "such a file run code when they are read, so only tensors are. Where you trust its origin, in a place that has nothing to "
                "lose (a container without network), load it there and write what you need with "
                "safetensors.torch.save_file(model.state_dict(), 'weights.safetensors'); then give that file."
            ) from error
        except Exception as error:  # torch, pickle, safetensors and hub clients raise their own; the cause is kept
            raise WeightsError(f"The weights {part} could not be loaded into {library_name}:{bare}: {first_line(error)}") from error
        cut = (cut_timm if library_name == "timm" else cut_torchvision)(whole, bare, inputs.size)
        body = widened(load_cut_body(library_name, bare, cut, whole), f"{library_name}:{bare}", channels.count, channels.rule)
        head_part = head or default_head(profile)
        reseed(stream_key(seed, "init-head"), CPU)
        top = new_head(head_part, make_head, cut.features, classes, cut.kind)
    model = nn.Sequential(OrderedDict(body=body, head=top))
    prefix = "body." if library_name == "timm" else "body.net."
    stages = stage_rules(library_name, bare, whole, str(profile.value("stages")), prefix)
    own_list: Any = getattr(whole, "no_weight_decay", tuple)
    listed = own_list()
    plan = ModelPlan(
        name=f"{library_name}:{bare}",
        weights=part,
        weights_sha256=weights_sha256(body),
        licence=licence,
        kind=cut.kind,
        node=cut.node,
        features=cut.features,
        stride=cut.stride,
        channels=channels.count,
        channel_init=channels.rule,
        surgery=cut.surgery,
        head=head_part,
        stages=stages,
        undecayed=tuple(sorted(prefix + key for key in listed)),
        body=None,
        origins=(
            _name_origin(name),
            Origin(
                field="weights",
                by="default" if weights == "default" else "you",
                reason=f"{library_name}'s own" if weights == "default" else "you gave it",
            ),
            *measured_origins(part),
            *channels.origins,
            Origin(field="head", by=head_by, reason=profile.reason("head.name") if head_by == "default" else "you gave it"),
            Origin(field="stages", by="default", reason=profile.reason("stages")),
            body_origin("weights", "as its library makes it"),
        ),
    )
    label = {"package": f"package {part.options().get('distribution')}", "none": "initialised"}.get(part.name, part.name)
    return Built(
        model=model,
        plan=plan,
        tensors=tensor_facts(model, stages, plan.undecayed),
        inputs=inputs,
        weights_label=label,
        made_by=None,
        made_head=make_head,
    )


def measured_origins(weights: Part | None = None) -> tuple[Origin, ...]:
    """The origins of what was measured on the module, not decided."""
    pretrained = weights is None or weights.name != "none"
    licence = "as the weights' source states it" if pretrained else "nothing pretrained goes in"
    return (
        Origin(field="weights_sha256", by="measured", reason="over the body's tensors before training"),
        Origin(field="licence", by="weights", reason=licence),
        Origin(field="kind", by="measured", reason="by running the cut network once"),
        Origin(field="node", by="measured", reason="where the classifier begins"),
        Origin(field="features", by="measured", reason="by running the cut network once"),
        Origin(field="stride", by="measured", reason="side of the input over side of the last map"),
        Origin(field="undecayed", by="weights", reason="what the network's own code lists"),
        Origin(field="lora", by="default", reason="the weights themselves train"),
        Origin(field="fusion", by="data", reason="each item has one input"),
        Origin(field="branches", by="data", reason="each item has one input"),
    )


def body_origin(by: str, reason: str) -> Origin:
    """The origin of the settings of a body."""
    return Origin(field="body", by=by, reason=reason)


def load_cut_body(library_name: str, name: str, cut: Cut, whole: nn.Module) -> nn.Module:
    """The body that the cut describes, with the tensors of the whole network."""
    if library_name == "timm":
        return backbones.load_body(backbones.timm_body(name, cut.kind), whole)
    return backbones.load_body(backbones.TorchvisionBody(backbones.torchvision_whole(name), cut.node), whole, "net.")


def default_head(profile: Profile) -> Part:
    """The profile's head with its settings."""
    name = str(profile.value("head.name"))
    return Part(name=name, settings=tuple((key, profile.value(f"head.{key}")) for key in HEAD_SETTINGS[name]))


@torch.no_grad()
def check_inputs(model: nn.Module, plan: ModelPlan, sample: Any, classes: int) -> None:
    """Run two items (2, ...), a tensor or `Inputs`, through the model in eval mode, and compare the scores with the classes.

    Raises:
        ModelError: the network cannot take them, or gives another number of scores than there are classes.
    """
    parts = [sample] if isinstance(sample, torch.Tensor) else list(sample.parts.values())
    pictures = [part for part in parts if part.ndim == 4]
    size = pictures[0].shape[-1] if pictures else 0
    if pictures and size < plan.stride:
        raise ModelError(
            f"size={size} is below the stride of {plan.name}, {plan.stride}: its last map would see less than one cell. "
            f"Give at least {plan.stride}; small pictures may be enlarged."
        )
    root, modes = model.training, [(module, module.training) for module in model.modules()]
    try:
        scores = model.eval()(sample.to(next(model.parameters()).device))
    except Exception as error:  # a user's own forward may raise anything
        what = f"pictures of {size} px" if pictures else f"inputs of shape {tuple(parts[0].shape)}"
        raise ModelError(f"{plan.name} cannot take {what}: {first_line(error)}") from error
    finally:
        model.train(root)
        for module, training in modes:
            module.training = training
    if not isinstance(scores, torch.Tensor) or scores.shape != (2, classes):
        shape = tuple(scores.shape) if isinstance(scores, torch.Tensor) else type(scores).__name__
        raise ModelError(f"{plan.name} gives {shape} for 2 items; (2, {classes}) is needed, one score a class.")
    if not scores.is_floating_point() or not torch.isfinite(scores).all():
        what = str(scores.dtype).removeprefix("torch.") if not scores.is_floating_point() else "scores that are no finite numbers"
        raise ModelError(f"{plan.name} gives {what} for 2 items; finite floating-point scores are needed.")
