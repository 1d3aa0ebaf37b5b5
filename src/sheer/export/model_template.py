"""How an ejected script makes its network, and gives it the weights that the run started from."""

from __future__ import annotations

import os
import sys
from collections import OrderedDict
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

from sheer.export.constants_template import (
    ADAPTER_SHA256,
    BODY_SHA256,
    BODY_WEIGHTS,
    CHANNEL_INIT,
    CHANNELS,
    CLASSES,
    FEATURES,
    HEAD,
    INITIAL_SHA256,
    KIND,
    LORA,
    MAKE,
    NAME,
    NODE,
    SEED,
    START,
)
from sheer.model.backbones import TorchvisionBody, load_body, timm_body, timm_whole, torchvision_whole
from sheer.model.channels import widen
from sheer.model.hashing import tensors_sha256, weights_sha256
from sheer.model.lora import add_lora
from sheer.streams import stream_key


def make_timm_model() -> nn.Module:
    """timm's body and the head, with weights yet to come."""
    return with_head(timm_body(NAME, KIND))


def make_torchvision_model() -> nn.Module:
    """torchvision's body and the head, with weights yet to come."""
    return with_head(TorchvisionBody(torchvision_whole(NAME), NODE))


def make_own_model() -> nn.Module:
    """Your own module, from its random stream."""
    torch.manual_seed(stream_key(SEED, "init-body"))
    return MAKE()


def make_own_body() -> nn.Module:
    """Your own module as the body, from its random stream, and the head."""
    return with_head(make_own_model())


def with_head(body: nn.Module) -> nn.Module:
    """The body with a head on it."""
    widen(body, CHANNELS, CHANNEL_INIT)  # only channels
    add_lora(body, **LORA)  # only lora
    return nn.Sequential(OrderedDict(body=body, head=HEAD.build(FEATURES, len(CLASSES), KIND)))


def start_timm_model(model: Any) -> None:
    """Give the body its pretrained weights, and the head new ones, each from its own random stream."""
    model.body = timm_body(NAME, KIND)  # only afresh
    torch.manual_seed(stream_key(SEED, "init-body"))
    model.body.load_state_dict(BODY_WEIGHTS.load(timm_whole(NAME), NAME).state_dict(), strict=False)  # all but the classifier
    widen(model.body, CHANNELS, CHANNEL_INIT)  # only channels
    start_head(model)


def start_torchvision_model(model: Any) -> None:
    """Give the body its pretrained weights, and the head new ones, each from its own random stream."""
    model.body = TorchvisionBody(torchvision_whole(NAME), NODE)  # only afresh
    torch.manual_seed(stream_key(SEED, "init-body"))
    load_body(model.body, BODY_WEIGHTS.load(torchvision_whole(NAME), NAME), "net.")
    widen(model.body, CHANNELS, CHANNEL_INIT)  # only channels
    start_head(model)


def start_head(model: Any) -> None:
    """A new head from its random stream, on a body that is proved to have the weights of the run."""
    if weights_sha256(model.body) != BODY_SHA256:
        sys.exit(f"The weights of the body are not those of the run: their SHA-256 is another ({NAME}).")
    torch.manual_seed(stream_key(SEED, "init-head"))
    model.head = HEAD.build(FEATURES, len(CLASSES), KIND)
    torch.manual_seed(stream_key(SEED, "init-lora"))  # only lora
    add_lora(model.body, **LORA)  # only lora
    start_adapter(model)  # only adapter


def start_adapter(model: nn.Module) -> None:
    """LoRA and the head from the file beside this script, proved to be those that the run started from."""
    kept = load_file(os.path.join(os.path.dirname(os.path.abspath(__file__)), START))
    if tensors_sha256(kept[name] for name in sorted(kept)) != ADAPTER_SHA256:
        sys.exit(f"{START} does not hold the adapter that the run started from: its SHA-256 is another.")
    model.load_state_dict(kept, strict=False)


def start_own_model(model: nn.Module) -> None:
    """Prove that your own module starts from the weights of the run."""
    if weights_sha256(model) != INITIAL_SHA256:
        sys.exit("Your module does not start from the weights of the run: their SHA-256 is another.")


def start_of_run(model: nn.Module) -> None:
    """Load the weights in the file beside this script, proved to be those that the run started from."""
    model.load_state_dict(load_file(os.path.join(os.path.dirname(os.path.abspath(__file__)), START)))
    if weights_sha256(model) != INITIAL_SHA256:
        sys.exit(f"{START} does not hold the weights that the run started from: their SHA-256 is another.")
