"""What was given as a model, for the data it is to learn from: a network by name, one for a table, or a module of your own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import cast

import torch

from sheer.data.several import read_inputs
from sheer.data.sources import Data
from sheer.data.text import tokenised
from sheer.errors import ModelError, PlanError, first_line, nearest
from sheer.model.adapted import Lora, with_lora
from sheer.model.adapter import Adapter, with_adapter
from sheer.model.branches import build_branches, found_encoders
from sheer.model.build import DEFAULT_MODEL, Built, HeadMaker, Source, build_named
from sheer.model.heads import HEADS
from sheer.model.inputs import choose_channels, extended
from sheer.model.layers import by_layers
from sheer.model.own import WantedHead, build_own
from sheer.model.surgery import sample_inputs
from sheer.model.table import build_table
from sheer.model.text import Encoder, build_text, find_encoder, named_encoder
from sheer.plan.facts import items_of
from sheer.plan.parts import HEAD_SETTINGS, MODEL_SETTINGS
from sheer.plan.plan import Part
from sheer.plan.profiles import Choice, Profile

AnyModel = Choice | Source | Mapping[str, Choice | Source] | None
AnyHead = str | Part | HeadMaker | None
Weights = str | Mapping[str, str]


def made_model(
    model: AnyModel,
    data: Data,
    *,
    weights: Weights,
    profile: Profile,
    head: AnyHead,
    channels: int | None,
    channel_init: str | None,
    seed: int,
    size: int | None,
    fusion: Choice | None = None,
    stages: str | None = None,
    lora: Lora = False,
    adapter: Adapter | None = None,
    encoder: Encoder | Mapping[str, Encoder] | None = None,
) -> Built:
    """The model for the data's classes and inputs; the arguments are those of `sheer.learner`.

    `adapter` is what its file holds, `encoder` what `read_texts` found for it, by input where there are several.

    Raises:
        ModelError, WeightsError: the model, its weights or the adapter cannot be had, or the cut cannot be proved.
        PlanError: a name is not known.
    """
    what = f"adapter={adapter.name!r}" if adapter is not None else f"lora={lora!r}"
    if (adapter is not None or lora is not False) and (data.inputs or items_of(data.plan.columns) == "table"):
        inputs = "several inputs" if data.inputs else "a table, whose networks start from random weights"
        raise ModelError(f"{what} is for pretrained networks by name with one input; the data is {inputs}. Leave it away.")
    wanted = _wanted_head(adapter.head() if adapter is not None and head is None else head)
    built = _network(model, data, weights, profile, wanted, channels, channel_init, seed, size, fusion, stages, encoder)
    if adapter is not None:
        return with_adapter(built, adapter, lora, data.plan, profile, seed)
    return with_lora(built, lora, profile, seed) if lora is not False else built


def _network(
    model: AnyModel,
    data: Data,
    weights: Weights,
    profile: Profile,
    wanted: WantedHead | None,
    channels: int | None,
    channel_init: str | None,
    seed: int,
    size: int | None,
    fusion: Choice | None,
    stages: str | None,
    encoder: Encoder | Mapping[str, Encoder] | None,
) -> Built:
    part, make = (wanted.part, wanted.make) if wanted else (None, None)
    if fusion is not None and not data.inputs:
        raise PlanError(f"fusion={fusion!r} is for items with several inputs: sheer.DataBlock(inputs=...). Leave it away.")
    if data.inputs:
        return build_branches(
            model,
            inputs=data.plan.inputs,
            fusion=fusion,
            weights=weights,
            classes=len(data.classes),
            profile=profile,
            head=part,
            make_head=make,
            seed=seed,
            stages_by=stages,
            encoders=encoder,
            size=size or 160,
        )
    if items_of(data.plan.columns) == "text":
        assert isinstance(encoder, Encoder) and data.arrays is not None
        length, settings = int(data.arrays.shape[1]), named_encoder(model)[1]
        built = build_text(
            encoder, settings, length=length, classes=len(data.classes), profile=profile, head=part, make_head=make, seed=seed
        )
        return by_layers(built, stages) if stages is not None else built
    model = DEFAULT_MODEL if model is None and not data.plan.columns else model
    planes = choose_channels(data.arrays, channels, channel_init, profile, named=isinstance(model, str))
    if isinstance(model, tuple) and not data.plan.columns:
        raise ModelError(f"model={model!r}: settings are for a table's network ({', '.join(MODEL_SETTINGS)}); the data is no table.")
    if data.plan.columns and isinstance(model, str | tuple | None):
        if weights not in ("default", "none"):
            raise ModelError(f"weights={weights!r}: a table's network has no pretrained weights. Leave weights away.")
        built = build_table(
            model,
            columns=data.plan.columns,
            task=data.plan.task.name,
            classes=len(data.classes),
            profile=profile,
            head=part,
            make_head=make,
            seed=seed,
        )
    elif isinstance(model, str):
        built = build_named(
            model,
            weights=str(weights),
            classes=len(data.classes),
            profile=profile,
            head=part,
            seed=seed,
            head_by="you" if wanted else "default",
            channels=planes,
            make_head=make,
        )
    elif weights != "default":
        raise ModelError(f"weights={weights!r} is for models by name; your own module keeps the weights it has.")
    else:
        sample = sample_inputs(data.arrays, size or 160, planes.count)
        built = build_own(cast(Source, model), seed=seed, classes=len(data.classes), channels=planes, head=wanted, sample=sample)
    if data.plan.pictures != "none":
        built = replace(built, inputs=extended(built.inputs, planes.count, training_pixels(data)))
    return by_layers(built, stages) if stages is not None else built


def read_texts(data: Data, model: AnyModel, weights: Weights) -> tuple[Data, Encoder | Mapping[str, Encoder] | None]:
    """The data with its texts as token ids, and the encoder whose tokenizer made them (by input, of several); other data as it is.

    Raises:
        ModelError, WeightsError: the encoder cannot be had.
        DataError: another encoder's tokenizer has read the texts, or a text may have more tokens than this one takes.
    """
    if data.inputs:
        encoders = found_encoders(model, weights, data.plan.inputs)
        return read_inputs(data, {name: (one.tokenizer, one.pad, one.most) for name, one in encoders.items()}), encoders
    if items_of(data.plan.columns) != "text":
        return data, None
    encoder = find_encoder(named_encoder(model)[0], str(weights))
    return tokenised(data, encoder.tokenizer, encoder.pad, encoder.most), encoder


def _wanted_head(head: AnyHead) -> WantedHead | None:
    """The head that was given, by name or as a function.

    Raises:
        PlanError: a name that is not known, or an object that is no function of (features, classes).
    """
    if head is None:
        return None
    if isinstance(head, str | Part):
        part = Part(name=head) if isinstance(head, str) else head
        if part.name not in HEAD_SETTINGS:
            raise PlanError(f"head={part.name!r} is no head. {nearest(part.name, HEAD_SETTINGS)}")
        try:
            part.made(HEADS)
        except TypeError as error:
            raise PlanError(f"head={part}: {first_line(error)}.") from error
        return WantedHead(part=part, make=None)
    name = getattr(head, "__name__", "")
    if not callable(head) or not name:
        raise PlanError(f"head={head!r}: give a name from HEADS, or a function of (features, classes) that returns a torch.nn.Module.")
    return WantedHead(part=Part(name=f"function:{name}"), make=head)


def training_pixels(data: Data | None) -> torch.Tensor | None:
    """The training items of pictures in memory, uint8 (N, C, S, S); None for anything else."""
    if data is None or data.arrays is None or data.arrays.dtype != torch.uint8:
        return None
    return data.arrays[torch.from_numpy(data.train)]
