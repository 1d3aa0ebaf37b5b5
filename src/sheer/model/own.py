"""Your own module: taken whole with its scores, or as a body that gets a head."""

from __future__ import annotations

import warnings
from collections import OrderedDict
from dataclasses import dataclass, replace

import torch
from torch import nn

from sheer.errors import ModelError, first_line
from sheer.model.build import CPU, Built, HeadMaker, Source, body_origin, measured_origins, new_head, tensor_facts
from sheer.model.hashing import weights_sha256
from sheer.model.inputs import RGB, Channels
from sheer.model.pretrained import IMAGENET
from sheer.model.surgery import measured_stride
from sheer.plan.augmentations import source_sha256
from sheer.plan.plan import InputPlan, ModelPlan, Origin, Part, Stage
from sheer.plan.table import column_row
from sheer.streams import borrowed_generators, reseed, stream_key

NO_PICTURES = tuple(Origin(field=name, by="data", reason="the inputs are no pictures") for name in ("channels", "channel_init"))


@dataclass(frozen=True, kw_only=True)
class WantedHead:
    """The head that you gave: its part, and your function where it is one."""

    part: Part
    make: HeadMaker | None


@torch.no_grad()
def body_facts(body: nn.Module, name: str, sample: torch.Tensor) -> tuple[str, int, int]:
    """(kind, features, stride) of what the body gives for two items (2, ...) in eval mode.

    Raises:
        ModelError: it cannot take them, or gives neither a map (2, C, H, W) nor a vector (2, C).
    """
    modes = [(module, module.training) for module in body.modules()]
    try:
        features = body.eval()(sample)
        if not isinstance(features, torch.Tensor) or features.ndim not in (2, 4) or len(features) != 2:
            given = tuple(features.shape) if isinstance(features, torch.Tensor) else type(features).__name__
            raise ModelError(f"{name} gives {given} for 2 items; a body must give a map (2, C, H, W) or a vector (2, C).")
        pictures = features.ndim == 4 and sample.ndim == 4
        stride = measured_stride(body, sample.shape[-1], features.shape[2], sample.shape[1]) if pictures else 1
    except ModelError:
        raise
    except (RuntimeError, AssertionError, ValueError, TypeError) as error:
        raise ModelError(f"{name} as a body cannot take inputs of shape {tuple(sample.shape)}: {str(error).splitlines()[0]}") from error
    finally:
        for module, training in modes:
            module.training = training
    return "map" if features.ndim == 4 else "vector", int(features.shape[1]), stride


def build_own(module: Source, *, seed: int, classes: int, channels: Channels, head: WantedHead | None, sample: torch.Tensor) -> Built:
    """Your own module: whole, ending in one score a class, or with `head` as the body below one.

    A function or class is called without arguments. `sample` are two items as the network takes them.

    Raises:
        ModelError: what was passed gives no module, none with parameters, or no features for a head.
    """
    made_by = None if isinstance(module, nn.Module) else module
    with borrowed_generators(CPU), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reseed(stream_key(seed, "init-body"), CPU)
        try:
            own = module if isinstance(module, nn.Module) else module()
        except Exception as error:  # whatever the user's own code raises: it is theirs to mend, and is named
            raise ModelError(
                f"Making the model by {getattr(module, '__name__', module)}() fails: {first_line(error)}. It is called without arguments."
            ) from error
        if not isinstance(own, nn.Module):
            raise ModelError(
                f"model={module!r} gives {type(own).__name__}; pass a timm or torchvision name, a torch.nn.Module, or a "
                "function without arguments that returns one."
            )
        _check_parameters(own)
        name = f"function:{getattr(made_by, '__name__', '?')}" if made_by else f"module:{type(own).__name__}"
        kind, features, stride = body_facts(own, name, sample) if head else ("scores", 0, 1)
        model = own
        if head:
            reseed(stream_key(seed, "init-head"), CPU)
            model = nn.Sequential(OrderedDict(body=own, head=new_head(head.part, head.make, features, classes, kind)))
    stages = (
        (Stage(name="body", prefixes=("body",)), Stage(name="head", prefixes=("head",))) if head else (Stage(name="model", prefixes=("",)),)
    )
    plan = ModelPlan(
        name=name,
        weights=Part(name="given"),
        weights_sha256=weights_sha256(own),
        licence="yours",
        kind=kind,
        node="",
        features=features,
        stride=stride,
        channels=channels.count,
        channel_init=channels.rule,
        surgery=None,
        head=head.part if head else None,
        stages=stages,
        undecayed=(),
        body=None,
        origins=(
            Origin(field="name", by="you", reason="you passed it"),
            Origin(field="weights", by="you", reason="as the module came"),
            *measured_origins(),
            *channels.origins,
            Origin(field="head", by="you", reason="you gave it" if head else "the module ends in its own scores"),
            Origin(field="stages", by="default", reason=f"a module of your own is one stage{', its new head another' if head else ''}"),
            body_origin("you", "as you made it"),
        ),
    )
    facts = tensor_facts(model, stages, ())
    if not facts:
        raise ModelError(f"{name} has no parameters, so there is nothing to train.")
    return Built(
        model=model,
        plan=plan,
        tensors=facts,
        inputs=IMAGENET,
        weights_label="given",
        made_by=made_by,
        made_head=head.make if head else None,
    )


def own_branch(module: Source, one: InputPlan, weights: str, *, seed: int, classes: int, sample: torch.Tensor) -> Built:
    """Your own module as the branch of an input, below a head that is left out; its plan has the source's hash.

    `weights` says whether they are to be taken for pretrained ones ("given") or new ones ("none"); "default": new for a table.

    Raises:
        ModelError: as in `build_own`, or for other `weights`; it names the input.
    """
    what = f"model={{{one.name!r}: {getattr(module, '__name__', type(module).__name__)}}}"
    if weights not in ("default", "given", "none"):
        raise ModelError(f"{what}: weights={weights!r} is for networks by name; your own keeps the weights it has. Say given or none.")
    channels = RGB if one.kind == "image" else Channels(count=0, rule="kept", origins=NO_PICTURES)
    try:
        head = WantedHead(part=Part(name="linear"), make=None)
        built = build_own(module, seed=seed, classes=classes, channels=channels, head=head, sample=sample)
    except ModelError as error:
        columns = ", ".join(column_row(part)[0] for part in one.columns)
        raise ModelError(f"{what}: {error}" + (f" Its rows have, in this order: {columns}." if columns else "")) from error
    new = weights == "none" or (weights == "default" and one.kind == "table")
    source = Part(name="none" if new else "given", settings=(("source_sha256", source_sha256(module)),))
    reason = "as the module came: new, so it trains with the head" if new else "as the module came: taken for trained, so it can be frozen"
    by = "default" if weights == "default" else "you"
    origins = tuple(Origin(field="weights", by=by, reason=reason) if one.field == "weights" else one for one in built.plan.origins)
    return replace(built, plan=replace(built.plan, weights=source, origins=origins))


def _check_parameters(own: nn.Module) -> None:
    parameters = list(own.named_parameters())
    if any(isinstance(parameter, nn.parameter.UninitializedParameter) for _, parameter in parameters):
        raise ModelError("The model has lazy layers without tensors yet: run it once on a batch before passing it.")
    fixed = [key for key, parameter in parameters if not parameter.requires_grad]
    if fixed:
        raise ModelError(
            f"{len(fixed)} of the model's tensors have requires_grad=False ({', '.join(fixed[:5])}). The plan decides what trains: set "
            "requires_grad of all of them, and pass head= to have your module as a body that can be frozen."
        )
