"""The network for several inputs: a branch each, by name, what fuses them, and the stages of all in one list."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypeGuard, cast

import torch
from torch import nn

from sheer.data.inputs import Inputs
from sheer.errors import ModelError, nearest
from sheer.model.build import (
    CPU,
    DEFAULT_MODEL,
    Built,
    HeadMaker,
    Source,
    build_named,
    check_fits,
    measured_origins,
    new_head,
    tensor_facts,
)
from sheer.model.fusion import FUSIONS, Fused
from sheer.model.hashing import weights_sha256
from sheer.model.inputs import NUMBERS, RGB
from sheer.model.layers import by_layers
from sheer.model.own import own_branch
from sheer.model.pretrained import IMAGENET, UNLICENSED
from sheer.model.surgery import probe_images
from sheer.model.table import build_table
from sheer.model.text import DEFAULT_ENCODER, Encoder, build_text, find_encoder, named_encoder
from sheer.plan.checks import whole
from sheer.plan.facts import items_of, width_of
from sheer.plan.parts import FUSION_SETTINGS, chosen
from sheer.plan.plan import Branch, InputPlan, ModelPlan, Origin, Part, Stage
from sheer.plan.profiles import Choice, Profile
from sheer.plan.rates import is_new
from sheer.streams import borrowed_generators, reseed, stream_key

DEFAULTS = {"image": DEFAULT_MODEL, "table": "tabular", "text": DEFAULT_ENCODER}


def build_branches(
    models: object,
    *,
    inputs: Sequence[InputPlan],
    fusion: Choice | None,
    weights: object,
    classes: int,
    profile: Profile,
    head: Part | None,
    make_head: HeadMaker | None,
    seed: int,
    stages_by: str | None,
    encoders: object,
    size: int,
) -> Built:
    """The network of a branch an input, on the CPU; `models` and `weights` are by input, where they are not left to the default;
    one name for `weights` is for all branches that can have pretrained ones. Your own modules are tried on photographs of `size` px.

    Raises:
        ModelError: a name is none of the inputs', a branch cannot be made, photographs would need two normalisations, or two branches
            share tensors.
        PlanError: a setting is not known.
    """
    by_name = _by_input(models, inputs, "model")
    sources, samples = _sources(weights, inputs, by_name), sample_items(inputs, 2, size).parts
    made: list[tuple[InputPlan, Built]] = []
    for one in inputs:
        given = by_name.get(one.name, DEFAULTS[one.kind])
        choice, source = cast(Choice, given), str(sources.get(one.name, "default"))
        if is_own(given) and one.kind != "text":
            built = own_branch(given, one, source, seed=seed, classes=classes, sample=samples[one.name])
            built = built if stages_by is None or one.kind == "table" else by_layers(built, stages_by)
        elif not isinstance(choice, str) and one.kind == "image":
            raise ModelError(
                f"model={{{one.name!r}: {choice!r}}}: a branch for pictures is a name of timm or torchvision, or your own module or what "
                "makes it."
            )
        elif one.kind == "table":
            if source not in ("default", "none"):
                raise ModelError(f"weights={source!r} for {one.name!r}: a table's network has no pretrained weights. Leave it away.")
            built = build_table(
                choice, columns=one.columns, task="classify", classes=classes, profile=profile, head=None, make_head=None, seed=seed
            )
            if built.plan.kind == "ensemble":
                raise ModelError(
                    f"model={{{one.name!r}: {choice!r}}}: each of its members has a head and a loss of its own, as no branch can have; "
                    "take 'tabular'."
                )
        elif one.kind == "text":
            assert isinstance(encoders, Mapping)
            wanted, length = named_encoder(choice)[1], width_of(one.columns)
            built = build_text(
                encoders[one.name], wanted, length=length, classes=classes, profile=profile, head=None, make_head=None, seed=seed
            )
            built = built if stages_by is None else by_layers(built, stages_by)
        else:
            built = build_named(
                str(choice), weights=source, classes=classes, profile=profile, head=None, seed=seed, head_by="default", channels=RGB
            )
            built = built if stages_by is None else by_layers(built, stages_by)
        made.append((one, built))
    pictures = [built for one, built in made if one.kind == "image"]
    known = [built for one, built in made if one.kind == "image" and not is_own(by_name.get(one.name))]
    if len({(built.inputs.mean, built.inputs.std) for built in known}) > 1:
        raise ModelError(
            f"The weights of {' and '.join(built.plan.name for built in known)} want other normalisations of photographs; all branches "
            "of a phase see them alike. Name one network for both, or two with the same statistics."
        )
    _check_apart(made)
    branches = tuple(Branch(name=one.name, model=_prefixed(built.plan, one.name, one.name not in by_name)) for one, built in made)
    part = chosen(str(profile.value("fusion")) if fusion is None else fusion, FUSION_SETTINGS, profile, "fusion")
    for key, value in part.options().items():
        whole(value, f"fusion={part.name!r}: {key}", 1)
    widths = [branch.model.features for branch in branches]
    body = fused_body({one.name: built.model.get_submodule("body") for one, built in made}, widths, part, seed)
    with borrowed_generators(CPU):
        reseed(stream_key(seed, "init-head"), CPU)
        layers = tuple((key, profile.value(f"fusion.{key}")) for key in ("hidden", "dropout"))
        head_part = head or Part(name="concat_pool", settings=layers)
        features = part.made(FUSIONS).features(widths)
        model = nn.Sequential(OrderedDict(body=body, head=new_head(head_part, make_head, features, classes, "vector")))
    ordered, licences = sorted(branches, key=is_new), [branch.model.licence for branch in branches]
    stages = (
        *(stage for branch in ordered for stage in branch.model.stages),
        Stage(name="head", prefixes=("head", "body.fusion", "body.missing")),
    )
    plan = ModelPlan(
        name="sheer:" + "+".join(branch.name for branch in branches),
        weights=Part(name="branches"),
        weights_sha256=weights_sha256(body),
        licence=", ".join(dict.fromkeys(one for one in licences if one != UNLICENSED)) or UNLICENSED,
        kind="vector",
        node="",
        features=features,
        stride=max(branch.model.stride for branch in branches),
        channels=3 if pictures else 0,
        channel_init="kept",
        surgery=None,
        head=head_part,
        stages=stages,
        undecayed=tuple(name for branch in branches for name in branch.model.undecayed),
        body=None,
        fusion=part,
        branches=branches,
        origins=(
            Origin(field="name", by="data", reason="a branch for each input"),
            Origin(field="weights", by="data", reason="each branch has its own"),
            *(origin for origin in measured_origins() if origin.field not in ("fusion", "branches")),
            *(RGB if pictures else NUMBERS).origins,
            Origin(field="head", by="you" if head else "default", reason="you gave it" if head else profile.reason("fusion.hidden")),
            Origin(
                field="stages", by="default", reason="those of each branch in the order of the inputs, new ones last; then fusion and head"
            ),
            Origin(field="body", by="data", reason="each branch has its own"),
            Origin(
                field="branches", by="you" if by_name else "default", reason="as named by input" if by_name else "the default for each kind"
            ),
            Origin(
                field="fusion",
                by="default" if fusion is None else "you",
                reason=profile.reason("fusion") if fusion is None else "you gave it",
            ),
        ),
    )
    return Built(
        model=model,
        plan=plan,
        tensors=tensor_facts(model, stages, plan.undecayed),
        inputs=known[0].inputs if known else IMAGENET,
        weights_label="branches",
        made_by={name: own for name, own in by_name.items() if is_function(own)} or None,
        made_head=make_head,
    )


def found_encoders(models: object, weights: object, inputs: Sequence[InputPlan]) -> dict[str, Encoder]:
    """The encoder of each input of text.

    Raises:
        ModelError, WeightsError: one cannot be had.
    """
    by_name = _by_input(models, inputs, "model")
    sources = _sources(weights, inputs, by_name)
    texts = [one.name for one in inputs if one.kind == "text"]
    return {name: find_encoder(named_encoder(by_name.get(name))[0], str(sources.get(name, "default"))) for name in texts}


def is_own(choice: object) -> TypeGuard[Source]:
    """Whether it is a module of your own, or what makes one."""
    return isinstance(choice, nn.Module) or is_function(choice)


def is_function(choice: object) -> TypeGuard[Callable[[], nn.Module]]:
    """Whether it is a function or class of your own that makes a module."""
    return callable(choice) and not isinstance(choice, nn.Module)


def _check_apart(made: Sequence[tuple[InputPlan, Built]]) -> None:
    owners = dict[int, str]()
    for one, built in made:
        for name, tensor in built.model.get_submodule("body").state_dict(keep_vars=True).items():
            if owners.setdefault(id(tensor), one.name) != one.name:
                raise ModelError(
                    f"The branches {owners[id(tensor)]!r} and {one.name!r} share {name}: each has stages, rates and freezing of its own. "
                    "Give a function that makes a new module at each call."
                )


def _sources(weights: object, inputs: Sequence[InputPlan], models: Mapping[str, object]) -> dict[str, object]:
    named = [one.name for one in inputs if one.kind != "table" and not is_own(models.get(one.name))]
    return _by_input(dict.fromkeys(named, weights) if isinstance(weights, str) else weights, inputs, "weights")


def _by_input(given: object, inputs: Sequence[InputPlan], what: str) -> dict[str, object]:
    """What was given for each input by its name; nothing where it was left to the defaults."""
    if given is None:
        return {}
    names = [one.name for one in inputs]
    if not isinstance(given, Mapping):
        raise ModelError(f"{what}={given!r}: the data has the inputs {', '.join(names)}; give one an input: {{{names[0]!r}: ...}}.")
    unknown = [name for name in given if name not in names]
    if unknown:
        raise ModelError(f"{what}: {unknown[0]!r} is no input of the data. {nearest(str(unknown[0]), names)}")
    return dict(given)


def _prefixed(plan: ModelPlan, name: str, by_default: bool) -> ModelPlan:
    """The plan of a branch: the body's stages and tensors under the branch's name, no head."""

    def renamed(prefix: str) -> str:
        return f"body.branches.{name}{prefix.removeprefix('body')}"

    stages = tuple(
        Stage(name=f"{name} {stage.name}", prefixes=tuple(map(renamed, stage.prefixes))) for stage in plan.stages if stage.name != "head"
    )
    own = Origin(field="name", by="default" if by_default else "you", reason="for inputs of this kind" if by_default else "you gave it")
    origins = tuple(own if origin.field == "name" else origin for origin in plan.origins)
    return replace(plan, head=None, stages=stages, undecayed=tuple(map(renamed, plan.undecayed)), origins=origins)


def fused_body(bodies: Mapping[str, nn.Module], widths: Sequence[int], fusion: Part, seed: int) -> nn.Module:
    """The bodies below a new fusion from its random stream.

    Raises:
        ModelError: its settings make no module.
    """
    with borrowed_generators(CPU):
        reseed(stream_key(seed, "init-fusion"), CPU)
        try:
            check_fits(lambda: fusion.made(FUSIONS).build(widths), f"fusion={fusion}")
            fused = fusion.made(FUSIONS).build(widths)
        except ModelError:
            raise
        except (AssertionError, TypeError, ValueError, RuntimeError) as error:
            raise ModelError(f"fusion={fusion} cannot be made: {error}.") from error
    return Fused(bodies, widths, fused)


def sample_rows(columns: Sequence[Part]) -> torch.Tensor:
    """Two made-up items of a table's columns, float32: first codes and mean values, then those after them; of texts token ids, int32."""
    width = width_of(columns)
    if items_of(columns) == "text":
        return (torch.arange(2 * width, dtype=torch.int32) % 50 + 1).reshape(2, width)
    return torch.arange(2, dtype=torch.float32)[:, None].expand(2, width).contiguous()


def sample_items(inputs: Sequence[InputPlan], count: int, size: int) -> Inputs:
    """Made-up inputs of `count` items, all there: waves as pictures of `size` px, first codes and mean values for a table."""
    parts = dict[str, torch.Tensor]()
    for one in inputs:
        if one.kind == "image":
            parts[one.name] = probe_images(max(size, 1)).repeat(-(-count // 2), 1, 1, 1)[:count]
        else:
            parts[one.name] = torch.zeros(count, width_of(one.columns), dtype=torch.int32 if one.kind == "text" else torch.float32)
    return Inputs(parts, torch.ones(count, len(inputs), dtype=torch.bool))
