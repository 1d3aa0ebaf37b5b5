"""Input channels: the first convolution of a body for pictures with other channels than red, green and blue."""

from __future__ import annotations

import torch
from torch import nn


def zero_channels(weight: torch.Tensor, channels: int) -> torch.Tensor:
    """Weights (O, 3, h, w) for `channels`: 1 the sum, 2 the first two times 1.5, from 4 on RGB kept and the rest zero.

    With zeros the network starts from what it knew of RGB and learns what the other channels add. Source: fastai 2.8.

    >>> zero_channels(torch.ones(1, 3, 1, 1), 5).flatten().tolist()
    [1.0, 1.0, 1.0, 0.0, 0.0]
    """
    if channels == 1:
        return weight.sum(1, keepdim=True)
    if channels == 2:
        return weight[:, :2] * 1.5
    rest = torch.zeros(weight.shape[0], channels - 3, *weight.shape[2:], dtype=weight.dtype)
    return torch.cat([weight, rest], 1)


def tile_channels(weight: torch.Tensor, channels: int) -> torch.Tensor:
    """Weights (O, 3, h, w) for `channels`: red, green, blue, red, ... times 3 / channels; 1 the sum. Source: timm 1.0.

    >>> tile_channels(torch.tensor([1.0, 2.0, 3.0]).view(1, 3, 1, 1), 4).flatten().tolist()
    [0.75, 1.5, 2.25, 0.75]
    """
    if channels == 1:
        return weight.sum(1, keepdim=True)
    return torch.cat([weight] * (-(-channels // 3)), 1)[:, :channels] * (3 / channels)


def mean_channels(weight: torch.Tensor, channels: int) -> torch.Tensor:
    """Weights (O, 3, h, w) for `channels`: each the mean over RGB, times 3 / channels, so that the sum stays.

    >>> mean_channels(torch.tensor([1.0, 2.0, 3.0]).view(1, 3, 1, 1), 2).flatten().tolist()
    [3.0, 3.0]
    """
    return weight.mean(1, keepdim=True).repeat(1, channels, 1, 1) * (3 / channels)


CHANNEL_INITS = {"zero": zero_channels, "tile": tile_channels, "mean": mean_channels}


def widen(body: nn.Module, channels: int, rule: str) -> nn.Module:
    """Give the body's first convolution `channels` inputs by the rule, in place; its bias and everything else stay.

    Raises ValueError where it is not the only layer that sees the three colours.
    """
    layers = [module for module in body.modules() if isinstance(module, nn.Conv2d) and module.in_channels == 3]
    if len(layers) != 1 or layers[0].groups != 1:
        raise ValueError(f"{len(layers)} convolutions see three channels; one, and not in groups, is needed")
    weight = layers[0].weight
    layers[0].weight = nn.Parameter(CHANNEL_INITS[rule](weight.detach(), channels).contiguous())
    layers[0].in_channels = channels
    return body
