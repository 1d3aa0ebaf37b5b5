"""The identity of weights: SHA-256 over raw bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import torch
from torch import nn


def tensors_sha256(tensors: Iterable[torch.Tensor]) -> str:
    """SHA-256, hexadecimal, over the contiguous raw bytes of each tensor in turn; names and shapes are left out."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def weights_sha256(module: nn.Module) -> str:
    """The hash over all parameters and buffers in the order of `state_dict`.

    >>> weights_sha256(nn.ReLU())[:8]
    'e3b0c442'
    """
    return tensors_sha256(module.state_dict().values())


def hashes_by_name(module: nn.Module) -> dict[str, str]:
    """The SHA-256 of each parameter and buffer by its name in `state_dict`."""
    return {name: tensors_sha256([tensor]) for name, tensor in module.state_dict().items()}
