"""Text encoders of transformers: token ids to one vector a text, and where their pretrained weights come from."""

from __future__ import annotations

import importlib.metadata
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn


def first_token(states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """(N, length, C) to (N, C): the state of the first token ([CLS] in BERT)."""
    return states[:, 0]


def mean_of_tokens(states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """(N, length, C) to (N, C): the mean over tokens that `mask` (N, length) keeps, so none over padding.

    >>> mean_of_tokens(torch.tensor([[[1.0], [3.0], [9.0]]]), torch.tensor([[True, True, False]])).tolist()
    [[2.0]]
    """
    kept = mask.unsqueeze(2).to(states.dtype)
    return (states * kept).sum(dim=1) / kept.sum(dim=1)


def max_of_tokens(states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """(N, length, C) to (N, C): each channel's maximum over tokens that `mask` (N, length) keeps."""
    return states.masked_fill(~mask.unsqueeze(2), float("-inf")).amax(dim=1)


TEXT_POOLS = {"first": first_token, "mean": mean_of_tokens, "max": max_of_tokens}


def made_encoder(config: str) -> Any:
    """The encoder of a configuration (its JSON, with `model_type`) with random weights, without what pools its last states."""
    from transformers import AutoConfig, AutoModel

    settings: dict[str, Any] = json.loads(config)
    encoder = AutoModel.from_config(AutoConfig.for_model(settings.pop("model_type"), **settings))
    if getattr(encoder, "pooler", None) is not None:
        encoder.pooler = None
    return encoder


class TextBody(nn.Module):
    """A transformers encoder and the pooling of its last states: token ids (N, length), `pad` where there is none, to (N, C).

    The first token counts always, so that a text of no tokens is no division by zero. `pool` is one of TEXT_POOLS.
    """

    def __init__(self, *, config: str, pad: int, pool: str) -> None:
        super().__init__()
        self.encoder = made_encoder(config)
        self.pad, self.pool = pad, pool
        self.features: int = self.encoder.config.hidden_size  # type: ignore[assignment, union-attr]

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        tokens = tokens.long()
        mask = tokens != self.pad
        mask[:, 0] = True
        states = self.encoder(input_ids=tokens, attention_mask=mask.long()).last_hidden_state
        return TEXT_POOLS[self.pool](states, mask)


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """No progress bar and no report of transformers inside; its settings are then as they were."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


@dataclass(frozen=True, kw_only=True)
class NoEncoder:
    """Random weights, as transformers initialises them."""

    def whole(self) -> None:
        """There is no pretrained encoder."""


@dataclass(frozen=True, kw_only=True)
class HubEncoder:
    """What transformers downloads for a name of the Hugging Face hub, at this commit, or has downloaded before."""

    name: str
    revision: str

    def whole(self) -> nn.Module:
        """The pretrained encoder."""
        return pretrained_encoder(self.name, self.revision)


@dataclass(frozen=True, kw_only=True)
class FolderEncoder:
    """A folder as transformers saves one; a relative `path` starts inside the installed package `distribution`, which is not
    imported, or without one at the folder that a command runs in."""

    path: str
    distribution: str = ""

    def whole(self) -> nn.Module:
        """The pretrained encoder."""
        folder = encoder_folder(self.path, self.distribution)
        if not os.path.isdir(folder):
            raise FileNotFoundError(f"There is no folder {folder!r} with the pretrained encoder. Start where that path leads to it.")
        return pretrained_encoder(folder, "main")


def encoder_folder(path: str, distribution: str) -> str:
    """The folder of that path, inside a package where one is named."""
    return str(importlib.metadata.distribution(distribution).locate_file(path)) if distribution else os.path.expanduser(path)


def pretrained_encoder(source: str, revision: str) -> nn.Module:
    """What transformers finds in a folder, or under a name of the hub."""
    from transformers import AutoModel

    with quiet_transformers():
        return AutoModel.from_pretrained(source, revision=revision)


def take_encoder(body: TextBody, whole: nn.Module | None) -> TextBody:
    """The body with the tensors of the same names of the pretrained encoder, where there is one."""
    if whole is not None:
        state = whole.state_dict()
        body.encoder.load_state_dict({name: state[name] for name in body.encoder.state_dict()})
    return body


ENCODER_WEIGHTS: dict[str, Callable[..., NoEncoder | HubEncoder | FolderEncoder]] = {
    "none": NoEncoder,
    "transformers": HubEncoder,
    "package": FolderEncoder,
    "folder": FolderEncoder,
}
