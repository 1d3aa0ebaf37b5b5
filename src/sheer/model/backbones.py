"""Backbones: a name to a plain timm or torchvision module without its classifier, and its pretrained weights."""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import nn

State = Mapping[str, torch.Tensor]


def timm_whole(name: str) -> nn.Module:
    """timm's model with its original classifier and random weights."""
    import timm

    return timm.create_model(name)


def timm_body(name: str, kind: str) -> nn.Module:
    """timm's model without its classifier: it gives a "map" (N, C, H, W), or the pooled "vector" (N, C)."""
    import timm

    return timm.create_model(name, num_classes=0, global_pool="" if kind == "map" else None)


def torchvision_whole(name: str) -> nn.Module:
    """torchvision's model with its original classifier and random weights, without auxiliary classifiers."""
    import torchvision

    options = {"aux_logits": False, "init_weights": True} if name in ("googlenet", "inception_v3") else {}
    return torchvision.models.get_model(name, weights=None, **options)


class TorchvisionBody(nn.Module):
    """A torchvision model up to one node of its torch.fx graph, functional operations included."""

    def __init__(self, whole: nn.Module, node: str) -> None:
        super().__init__()
        from torchvision.models.feature_extraction import create_feature_extractor

        self.net = create_feature_extractor(whole, {node: "features"})

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.net(images)["features"]


def read_state(path: str) -> State:
    """The tensors of a .safetensors file, or of a PyTorch file read with weights_only, unwrapped.

    Raises OSError, RuntimeError or pickle.UnpicklingError for a file that is missing or holds anything else.
    """
    if path.endswith(".safetensors"):
        from safetensors.torch import load_file

        return load_file(path)
    state = torch.load(path, map_location="cpu", weights_only=True)
    for wrapper in ("state_dict", "model"):
        state = state[wrapper] if isinstance(state, dict) and wrapper in state else state
    return {name.removeprefix("module."): value for name, value in state.items()}


def match_by_position(state: State, module: nn.Module) -> dict[str, torch.Tensor]:
    """Give the tensors of `state` the names of `module`'s, in order, counters of batches left aside.

    Raises ValueError unless number, shapes and the last parts of the names agree.
    """
    source, target = ({k: v for k, v in held.items() if not k.endswith("num_batches_tracked")} for held in (state, module.state_dict()))
    for (name, value), (place, wanted) in zip(source.items(), target.items(), strict=True):
        if value.shape != wanted.shape or name.rpartition(".")[2] != place.rpartition(".")[2]:
            raise ValueError(f"{name} {tuple(value.shape)} does not fit {place} {tuple(wanted.shape)}")
    return dict(zip(target, source.values(), strict=True))


@dataclass(frozen=True, kw_only=True)
class NoWeights:
    """Random weights, as the architecture initialises itself."""

    def load(self, whole: nn.Module, name: str) -> nn.Module:
        """The module as it is."""
        return whole


@dataclass(frozen=True, kw_only=True)
class TimmWeights:
    """The weights that timm downloads for the name, or has downloaded before."""

    def load(self, whole: nn.Module, name: str) -> nn.Module:
        """timm's pretrained model."""
        import timm

        return timm.create_model(name, pretrained=True)


@dataclass(frozen=True, kw_only=True)
class TorchvisionWeights:
    """The weights that torchvision calls `version` for the name, downloaded or from torch.hub's cache."""

    version: str

    def load(self, whole: nn.Module, name: str) -> nn.Module:
        """The module with those weights; auxiliary classifiers among them are left out."""
        import torchvision

        state = torchvision.models.get_model_weights(name)[self.version].get_state_dict(progress=False)
        own = whole.state_dict()
        whole.load_state_dict({key: value for key, value in state.items() if key in own})
        return whole


@dataclass(frozen=True, kw_only=True)
class PackageWeights:
    """Weights inside an installed package, matched by position; `body_only` where they have no classifier."""

    distribution: str
    file: str
    body_only: bool = False

    def load(self, whole: nn.Module, name: str) -> nn.Module:
        """The module with those weights; the package is not imported."""
        path = str(importlib.metadata.distribution(self.distribution).locate_file(self.file))
        target = timm_body(name, "vector") if self.body_only else whole
        whole.load_state_dict(match_by_position(read_state(path), target), strict=False)
        return whole


@dataclass(frozen=True, kw_only=True)
class FileWeights:
    """Weights in a local file, matched by name; tensors whose names start with `classifier` may be missing or
    of another size, and stay random then. A relative `path` starts at the folder that a command runs in.
    """

    path: str
    classifier: tuple[str, ...]

    def load(self, whole: nn.Module, name: str) -> nn.Module:
        """The module with those weights. Raises ValueError naming up to five tensors that do not match."""
        state, own = read_state(os.path.expanduser(self.path)), whole.state_dict()
        fits = {key: value for key, value in state.items() if key in own and value.shape == own[key].shape}
        wrong = [key for key in own if key not in fits and not key.startswith(self.classifier)]
        wrong = [key for key in wrong if not key.endswith("num_batches_tracked")]
        if wrong:
            raise ValueError(f"{len(wrong)} tensors of the model have no match, among them {', '.join(wrong[:5])}")
        whole.load_state_dict(fits, strict=False)
        return whole


WEIGHTS: dict[str, Callable[..., NoWeights | TimmWeights | TorchvisionWeights | PackageWeights | FileWeights]] = {
    "none": NoWeights,
    "timm": TimmWeights,
    "torchvision": TorchvisionWeights,
    "package": PackageWeights,
    "file": FileWeights,
}


def load_body(body: nn.Module, whole: nn.Module, prefix: str = "") -> nn.Module:
    """Copy into `body` the tensors of the same names of `whole`; `prefix` is what body's names have before them.

    Constants of the code, which torch.fx keeps as buffers, stay as they are.
    """
    state, own = whole.state_dict(), body.state_dict()
    body.load_state_dict({key: own[key] if "_tensor_constant" in key else state[key.removeprefix(prefix)] for key in own})
    return body
