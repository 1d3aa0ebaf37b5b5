"""Attribution: which places of a picture a class's score rests on, and the picture with them lit."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import nn
from torch.nn import functional


def as_map(values: torch.Tensor) -> torch.Tensor | None:
    """A layer's output for square pictures as (N, C, side, side), a view with a side above 1; None for anything else.

    Taken are maps (N, C, S, S), maps with channels last (N, S, S, C), and tokens (N, P + S * S, C) with up to
    8 class, distillation or register tokens P in front, which are left out.

    >>> as_map(torch.zeros(1, 197, 192)).shape
    torch.Size([1, 192, 14, 14])
    """
    if values.ndim == 4 and values.shape[2] == values.shape[3] > 1:
        return values
    if values.ndim == 4 and values.shape[1] == values.shape[2] > 1:
        return values.permute(0, 3, 1, 2)
    if values.ndim == 3:
        side = math.isqrt(values.shape[1])
        extra = values.shape[1] - side * side
        if side > 1 and extra <= 8:
            return values[:, extra:].transpose(1, 2).unflatten(2, (side, side))
    return None


def class_activation(model: nn.Module, images: torch.Tensor, classes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Grad-CAM of `images` (N, C, S, S) for one class number an item (N,): maps (N, S, S) in [0, 1], and scores (N, classes).

    heat = ReLU(sum_k a_k A_k) with a_k the mean over places of d score / d A_k; enlarged bilinearly, divided by its
    largest value (zeros stay zeros). A is the output, among those of the last map's shape, nearest to the scores on
    which they depend at other places than a class token: for a transformer that reads its class token the first
    norm of the last block, whose tokens the attention still mixes; else the last map itself. Source: Selvaraju et
    al. 2017, equations 1 and 2.

    The model is run in eval mode; its modes, gradients, buffers and hooks are as before afterwards. ValueError
    where no layer gives a map.
    """
    root, modes = model.training, [(module, module.training) for module in model.modules()]
    outputs: list[torch.Tensor] = []

    def keep(module: nn.Module, inputs: object, output: object) -> None:
        if isinstance(output, torch.Tensor) and as_map(output) is not None:
            outputs.append(output)

    hooks = [module.register_forward_hook(keep) for module in model.modules()]
    try:
        model.eval()
        with torch.enable_grad():
            scores = model(images.detach().clone().requires_grad_().clone())
            chosen = scores.gather(1, classes[:, None]).sum()
            for output in reversed([output for output in outputs if output.shape == outputs[-1].shape]):
                slope = torch.autograd.grad(chosen, output, retain_graph=True, allow_unused=True)[0] if output.requires_grad else None
                slopes, values = (None if part is None else as_map(part.detach()) for part in (slope, output))
                if slopes is not None and values is not None and bool(slopes.any()):
                    break
            else:
                raise ValueError("no layer of the model gives a map (N, C, S, S) or tokens that its scores depend on")
    finally:
        for hook in hooks:
            hook.remove()
        model.train(root)
        for module, training in modes:
            module.training = training
    heat = (slopes.mean(dim=(2, 3), keepdim=True) * values).sum(dim=1, keepdim=True).relu()
    heat = functional.interpolate(heat.float(), size=images.shape[2:], mode="bilinear", align_corners=False)[:, 0]
    largest = heat.amax(dim=(1, 2), keepdim=True)
    return heat / torch.where(largest > 0, largest, 1.0), scores.detach()


def overlay(pixels: np.ndarray, heat: np.ndarray, strength: float = 0.6) -> np.ndarray:
    """The picture uint8 (H, W, 3) with `heat` (H, W) in [0, 1] over it, from nothing by red and yellow to white, as uint8.

    A place of heat h is (1 - strength * h) picture + strength * h colour, so cold places stay as they are.

    >>> overlay(np.full((1, 2, 3), 100, np.uint8), np.array([[0.0, 1.0]]), 1.0).tolist()
    [[[100, 100, 100], [255, 255, 255]]]
    """
    colour = np.clip(3.0 * heat[..., None] - np.arange(3.0), 0, 1) * 255
    share = strength * heat[..., None]
    return np.rint((1 - share) * pixels + share * colour).astype(np.uint8)
