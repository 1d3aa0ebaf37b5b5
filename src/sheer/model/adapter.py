"""The small file of what LoRA and the head have learnt: written with what it belongs to, compared with that before it is loaded."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from sheer.data.sources import Data
from sheer.errors import ModelError, PlanError, RunError, WeightsError, first_line, unwritable
from sheer.model.adapted import Lora, lora_part, with_lora
from sheer.model.build import Built, tensor_facts
from sheer.model.hashing import tensors_sha256
from sheer.model.heads import HEADS
from sheer.plan.document import decode, differences, encode, parse
from sheer.plan.facts import lora_settings
from sheer.plan.plan import DataPlan, ModelPlan, Origin, Part, Plan
from sheer.plan.profiles import Profile

FORMAT = 1
KEY = "sheer"


@dataclass(frozen=True, kw_only=True)
class Belongs:
    """What an adapter belongs to: the metadata of its file.

    `plan` is the short hash of the plan it was trained by; `base_sha256` covers the body's tensors but LoRA's, which come from `weights`;
    `pool` is how a text's tokens are pooled, "" for other inputs; `sha256` covers the file's tensors in the order of their names.
    """

    format: int
    plan: str
    model: str
    weights: Part
    base_sha256: str
    pool: str
    lora: Part
    head: Part
    task: Part
    classes: tuple[str, ...]
    tokenizer_sha256: str
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Adapter:
    """An adapter as read from the file of that name; every tensor has the bytes it was written with."""

    name: str
    belongs: Belongs
    tensors: dict[str, torch.Tensor]

    def head(self) -> Part | None:
        """The head to put on: the file's, unless a function of your own makes it."""
        return None if self.belongs.head.name.startswith("function:") else self.belongs.head


def learnt(model: nn.Module) -> dict[str, torch.Tensor]:
    """The tensors of LoRA and of the head by their names in the model."""
    return {name: value for name, value in model.state_dict().items() if ".lora." in name or name.startswith("head.")}


def adapter_sha256(tensors: Mapping[str, torch.Tensor]) -> str:
    """The hash of an adapter's tensors, in the order of their names."""
    return tensors_sha256(tensors[name] for name in sorted(tensors))


def _base_sha256(model: nn.Module) -> str:
    body = model.get_submodule("body").state_dict()
    return tensors_sha256(value for name, value in body.items() if ".lora." not in name)


def _pool(model: ModelPlan) -> str:
    return str(model.body.options().get("pool", "")) if model.body else ""


def _tokenizer(data: DataPlan) -> str:
    return "".join(str(part.options().get("tokenizer_sha256", "")) for part in data.columns)


def write_adapter(file: Path, model: nn.Module, plan: Plan) -> Path:
    """The tensors of LoRA and of the head as a new .safetensors file, whose metadata says what they belong to.

    Raises:
        ModelError: the model has no LoRA, or what LoRA lies beside has moved.
        RunError: the file exists, or cannot be written.
    """
    if plan.model.lora is None or plan.model.head is None:
        raise ModelError(f"{plan.model.name} has no LoRA, which alone makes a small file. Put it in with sheer.learner(..., lora=True).")
    base, tensors = _base_sha256(model), {name: value.detach().cpu().contiguous().clone() for name, value in learnt(model).items()}
    if plan.model.weights.name != "run" and base != plan.model.weights_sha256:
        raise ModelError(
            "Norm layers of the weights that LoRA lies beside have moved, and a small file has LoRA and the head alone, so it would not "
            "give this model back. Train with norm='frozen', or keep the whole: learn.save(folder)."
        )
    belongs = Belongs(
        format=FORMAT,
        plan=plan.short_hash(),
        model=plan.model.name,
        weights=plan.model.weights,
        base_sha256=base,
        pool=_pool(plan.model),
        lora=Part(name="lora", settings=tuple(lora_settings(plan.model.lora).items())),
        head=plan.model.head,
        task=plan.data.task,
        classes=plan.data.classes,
        tokenizer_sha256=_tokenizer(plan.data),
        sha256=adapter_sha256(tensors),
    )
    try:
        with file.open("xb") as out:
            out.write(save(tensors, {KEY: json.dumps(encode(belongs))}))
    except OSError as error:
        raise RunError(unwritable(file, error)) from error
    return file


def read_adapter(file: Path) -> Adapter:
    """What `write_adapter` wrote.

    Raises:
        WeightsError: there is no such file, it is no .safetensors file or another one's, or it is damaged.
    """
    if not file.is_file():
        raise WeightsError(f"adapter={str(file)!r} is no file. Give one that learn.save_adapter wrote.")
    try:
        with safe_open(file, framework="pt") as opened:
            written = (opened.metadata() or {}).get(KEY)
            if written is None:
                raise WeightsError(
                    f"{file} does not say which network, classes and base weights it belongs to: learn.save_adapter did not write it. "
                    "Other libraries' adapters name their tensors otherwise and cannot be proved to fit."
                )
            tensors = {name: opened.get_tensor(name).clone() for name in opened.keys()}  # noqa: SIM118 (it is no dict)
    except (SafetensorError, OSError, RuntimeError, ValueError, KeyError, AttributeError, TypeError) as error:
        if isinstance(error, WeightsError):
            raise
        raise WeightsError(
            f"{file} is no .safetensors file that can be read ({first_line(error)}). Was it downloaded to its end?"
        ) from error
    try:
        found = parse(written)
        if isinstance(found, dict) and found.get("format") != FORMAT:
            raise WeightsError(f"{file} is of format {found.get('format')}; this sheer reads {FORMAT}. Write it anew with this version.")
        belongs = decode(Belongs, found, "adapter")
    except PlanError as error:
        raise WeightsError(f"{file}: what it says of itself cannot be read: {error}") from error
    _check_head(file, belongs.head, {size for value in tensors.values() if value.numel() for size in value.shape})
    if adapter_sha256(tensors) != belongs.sha256:
        raise WeightsError(f"{file} is damaged: its tensors do not have the hash that it states. Take another copy.")
    return Adapter(name=file.name, belongs=belongs, tensors=tensors)


def _check_head(file: Path, head: Part, sizes: set[int]) -> None:
    """WeightsError where there is no such head, or it has layers of a width that no tensor has, before one is made."""
    if head.name.startswith("function:"):
        return
    hidden = head.options().get("hidden", ())
    try:
        if not isinstance(hidden, tuple) or not all(isinstance(one, int) and one in sizes for one in hidden):
            raise ValueError(f"layers of {hidden!r}, which its tensors do not have")
        HEADS[head.name](**head.options()).build(1, 1, "map")  # type: ignore[arg-type]
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise WeightsError(f"{file} names a head that cannot be made, {head}: {first_line(error)}. Take another copy.") from error


def with_adapter(built: Built, adapter: Adapter, lora: Lora, data: DataPlan, profile: Profile, seed: int) -> Built:
    """The same model with LoRA and head as they are in the adapter; `lora` is what was given beside it, or False.

    Raises:
        WeightsError: the adapter belongs to something else: everything that differs is said, before anything is made of it.
        PlanError, ModelError: as in `with_lora`.
    """
    was = adapter.belongs
    ours = was.lora if lora is False else lora_part(lora, profile)
    base = built.plan.weights_sha256
    bases = (f"{was.base_sha256[:8]} ({was.weights})", f"{base[:8]} ({built.plan.weights})") if base != was.base_sha256 else ("", "")
    pairs = (
        ("network", was.model, built.plan.name),
        ("base weights", *bases),
        ("pooling", was.pool, _pool(built.plan)),
        ("tokenizer", was.tokenizer_sha256[:16], _tokenizer(data)[:16]),
        *((f"lora {key}", _in_order(value), _in_order(ours.options().get(key))) for key, value in was.lora.settings),
        ("head", _head(was.head), _head(built.plan.head)),
        ("task", was.task.name, data.task.name),
        ("classes", was.classes, data.classes),
    )
    wrong = [line for name, there, here in pairs for line in differences(there, here, name)[:3]]
    ranks = {tuple(value.shape[:1]) for name, value in adapter.tensors.items() if name.endswith(".lora.a") and value.numel()}
    if not wrong and ranks != {(was.lora.options().get("rank"),)}:
        wrong = [f"lora rank: {sorted(ranks)} in its tensors, {was.lora.options().get('rank')} in its metadata"]
    _refuse(adapter, wrong)
    made = with_lora(built, dict(was.lora.settings), profile, seed)
    take_adapter(made.model, adapter.tensors, adapter.name)
    origins = {
        name: Origin(field=name, by="you", reason=f"from the adapter {adapter.name} of plan {was.plan}") for name in ("lora", "head")
    }
    assert made.plan.lora is not None
    part = replace(made.plan.lora, settings=(*made.plan.lora.settings, ("adapter", was.sha256)))
    plan = replace(made.plan, lora=part, origins=tuple(origins.get(one.field, one) for one in made.plan.origins))
    return replace(made, plan=plan, tensors=tensor_facts(made.model, plan.stages, plan.undecayed))


def _in_order(value: Any) -> Any:
    """Layers in the order of their names, since LoRA goes into the same ones in any order; other values as they are."""
    return tuple(sorted(set(value), key=str)) if isinstance(value, tuple) else value


def _head(part: Part | None) -> str:
    """The head with every setting, given or not; a function of your own by its name."""
    return str(part.made(HEADS) if part is not None and part.name in HEADS else part)


def scaled_as(data: Data, adapter: Adapter | None) -> Data:
    """The data with its numbers on the scale that the adapter's head gives them in; other data as it is."""
    if adapter is None or data.plan.task.name != "regress":
        return data
    why = Origin(field="task", by="weights", reason=f"on the scale of the numbers that the adapter {adapter.name} was trained for")
    origins = tuple(why if origin.field == "task" else origin for origin in data.plan.origins)
    return replace(data, plan=replace(data.plan, task=adapter.belongs.task, origins=origins), unscaled=data)


def take_adapter(model: nn.Module, tensors: Mapping[str, torch.Tensor], name: str) -> None:
    """Load an adapter's tensors into a model with LoRA, all of them or none.

    Raises:
        WeightsError: they are not those that the model has.
    """
    wanted = learnt(model)
    wrong = [f"{key} is missing" for key in sorted(wanted.keys() - tensors.keys())]
    wrong += [f"{key} is unknown" for key in sorted(tensors.keys() - wanted.keys())]
    for key in sorted(wanted.keys() & tensors.keys()):
        there, here = tensors[key], wanted[key]
        wrong += differences(f"{tuple(there.shape)} {there.dtype}", f"{tuple(here.shape)} {here.dtype}", key)
        if there.is_floating_point() and not bool(there.isfinite().all()):
            wrong.append(f"{key} holds numbers that are not finite")
    if wrong:
        more = f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        raise WeightsError(f"{name} does not have this model's tensors: {'; '.join(wrong[:5])}{more}. Nothing was loaded.")
    model.load_state_dict(dict(tensors), strict=False)


def _refuse(adapter: Adapter, wrong: list[str]) -> None:
    if wrong:
        raise WeightsError(
            f"{adapter.name} belongs to another model (there: in the file): {'; '.join(wrong)}. Nothing was loaded: make the learner as it "
            "was made for the adapter, with the same network, weights, classes in the same order, and head."
        )
