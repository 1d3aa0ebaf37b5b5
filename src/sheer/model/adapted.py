"""A model with LoRA as the plan has it: which layers, and the stages of what they learn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import nn

from sheer.errors import ModelError, PlanError, nearest
from sheer.model.build import CPU, Built, tensor_facts
from sheer.model.lora import add_lora, lora_layers
from sheer.model.stages import stage_of
from sheer.plan.checks import whole
from sheer.plan.facts import lora_settings
from sheer.plan.parts import LORA_SETTINGS, chosen
from sheer.plan.plan import Origin, Part, Stage, Value
from sheer.plan.profiles import Profile
from sheer.streams import borrowed_generators, reseed, stream_key

Lora = bool | Mapping[str, Value]


def with_lora(built: Built, given: Lora, profile: Profile, seed: int) -> Built:
    """The same model with LoRA around its body's linear layers: stages `base` (all the weights there were), a stage of what is learnt
    beside each stage that has such layers, then the head.

    Raises:
        PlanError: a setting is not known, or out of range.
        ModelError: the model is your own or has several inputs, or no layer has such a name.
    """
    part = lora_part(given, profile)
    if built.plan.head is None or built.plan.name.partition(":")[0] in ("function", "module"):
        raise ModelError(f"lora={given!r} is for pretrained networks by name with one input; {built.plan.name} is none. Leave it away.")
    body, old = built.model.get_submodule("body"), built.plan.stages
    options: Any = part.options()
    paths = lora_layers(body, options["layers"])
    if not paths:
        raise ModelError(f"lora={given!r}: no linear layer of {built.plan.name} has such a name. Their names end as in {_ends(body)}.")
    low = min(min(body.get_submodule(path).weight.shape) for path in paths)  # type: ignore[arg-type]
    if options["rank"] > low:
        raise PlanError(f"lora: rank={options['rank']}: a change of low rank has at most {low} here, the smallest side of its layers.")
    put_lora(body, part, seed)
    inside: dict[str, list[str]] = {}
    for path in paths:
        place = stage_of(f"body.{path}", [stage.prefixes for stage in old])
        assert place is not None
        inside.setdefault(old[place].name, []).append(f"body.{path}.lora")
    stages = (
        Stage(name="base", prefixes=("body",)),
        *(Stage(name=f"lora {stage.name}", prefixes=tuple(inside[stage.name])) for stage in old if stage.name in inside),
        old[-1],
    )
    rest = [profile.reason(f"lora.{key}") for key in part.options() if not isinstance(given, Mapping) or key not in given]
    why = Origin(field="lora", by="you", reason="; ".join(["you gave it", *rest]))
    split = Origin(field="stages", by="you", reason="LoRA: the weights there were never train; what is learnt beside them has a stage each")
    origins = (*(origin for origin in built.plan.origins if origin.field not in ("lora", "stages")), why, split)
    plan = replace(built.plan, stages=stages, lora=part, origins=origins)
    return replace(built, plan=plan, tensors=tensor_facts(built.model, stages, plan.undecayed))


def lora_part(given: Lora, profile: Profile) -> Part:
    """The part for what was given; PlanError where a setting is not known, or out of range."""
    if given is not True and not isinstance(given, Mapping):
        raise PlanError(f"lora={given!r}: give True, or settings such as {{'rank': 8, 'layers': ('query', 'value')}}.")
    settings = dict(given) if isinstance(given, Mapping) else {}
    unknown = [key for key in settings if key not in LORA_SETTINGS["lora"]]
    if unknown:
        raise PlanError(f"lora={given!r}: there is no setting {unknown[0]!r}. {nearest(str(unknown[0]), LORA_SETTINGS['lora'])}")
    if isinstance(settings.get("layers"), list):
        settings["layers"] = tuple(settings["layers"])  # type: ignore[arg-type]
    part = chosen(("lora", settings), LORA_SETTINGS, profile, "lora")
    options = part.options()
    whole(options["rank"], "lora: rank", 1)
    if not isinstance(options["alpha"], float) or not 0 < options["alpha"] < float("inf"):
        raise PlanError(f"lora: alpha={options['alpha']!r}: give a positive number, such as {profile.number('lora.alpha'):g}.")
    assert isinstance(options["layers"], tuple)
    if not all(isinstance(name, str) and name for name in options["layers"]):
        raise PlanError(f"lora: layers={options['layers']!r}: give ends of names of linear layers, such as ('query', 'value').")
    return part


def put_lora(body: nn.Module, part: Part, seed: int) -> list[str]:
    """LoRA into the body by the plan's part, from its own random stream; the layers' paths."""
    with borrowed_generators(CPU):
        reseed(stream_key(seed, "init-lora"), CPU)
        return add_lora(body, **lora_settings(part))  # type: ignore[arg-type]


def _ends(body: nn.Module) -> str:
    names = dict.fromkeys(path.rpartition(".")[2] for path, module in body.named_modules() if type(module) is nn.Linear)
    return ", ".join(list(names)[:8]) or "none: it has no linear layers"
