"""One training step, which is skipped where it is not finite, and what a model says of items; the ejected script runs these very lines."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def train_step(model: nn.Module, loss: Loss, optimizer: torch.optim.Optimizer, inputs: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Forward, mean loss, backward, update; returns the loss before the update as `finite_update` does.

    `loss` gives one value an item; gradients are None where a tensor does not train, so that no
    optimiser can move it.
    """
    optimizer.zero_grad(set_to_none=True)
    value = loss(model(inputs), target).mean()
    value.backward()
    return finite_update(optimizer, value.detach())


def finite_update(optimizer: torch.optim.Optimizer, value: torch.Tensor) -> torch.Tensor:
    """Update if the loss `value` (a scalar) and all gradients are finite; returns the loss, nan where the update was skipped.

    On CUDA a fused optimiser skips on the device (its `found_inf`), so that nothing is synced; the other
    optimisers there cost one sync a step. The check is GradScaler's own, at a scale of 1: it changes no bits.

    >>> weight = torch.zeros(1, requires_grad=True)
    >>> optimizer = torch.optim.SGD([weight], lr=1.0)
    >>> weight.grad = torch.tensor([math.inf])
    >>> finite_update(optimizer, torch.tensor(0.5)).item(), weight.item()
    (nan, 0.0)
    """
    if not hasattr(optimizer, "check"):  # made once: two new tensors cost a tenth of a small network's step
        optimizer.check = torch.zeros((), device=value.device), torch.ones((), device=value.device)  # type: ignore[attr-defined]
    found, one = optimizer.check  # type: ignore[attr-defined]
    grads = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    torch._amp_foreach_non_finite_check_and_unscale_([*(torch.view_as_real(g) if g.is_complex() else g for g in grads), value], found, one)
    on_device = value.is_cuda and optimizer.defaults.get("fused", False)
    skipped = not on_device and bool(found)  # the one value that a step reads back
    if on_device:
        optimizer.found_inf = found  # type: ignore[attr-defined]
    if not skipped:
        optimizer.step()
    if on_device or skipped:  # else it is a tenth of a small network's step to no end
        value = torch.where(found > 0, math.nan, value)
        found.zero_()
    return value


@dataclass(kw_only=True)
class Update:
    """A training step as `train_step`, but in micro-batches, with gradients clipped, or with a scaled loss for float16.

    `micro` items go through the network at a time (0: the whole batch); each adds its sum divided by the
    items of the batch, so the gradient is that of the whole batch, but for norm layers that use a
    batch's statistics and for dropout. `clip` is the largest norm of all gradients together (0: any).
    `scaled`: torch's GradScaler, which skips an update whose gradients are not finite and halves its scale: its way
    of working, so the loss is returned as it is. Dividing a loss that is not finite by 0 makes its gradients so too.
    """

    micro: int = 0
    clip: float = 0.0
    scaled: bool = False

    def __post_init__(self) -> None:
        self.scaler = torch.amp.GradScaler("cuda", enabled=self.scaled)

    def __call__(
        self,
        model: nn.Module,
        loss: Loss,
        optimizer: torch.optim.Optimizer,
        inputs: torch.Tensor,
        target: torch.Tensor,
    ) -> torch.Tensor:
        optimizer.zero_grad(set_to_none=True)
        size, values = self.micro or len(inputs), []
        for start in range(0, len(inputs), size):
            rows = slice(start, start + size)
            value = (loss.at(rows) if hasattr(loss, "at") else loss)(model(inputs[rows]), target[rows]).sum() / len(inputs)
            self.scaler.scale(value / value.isfinite() if self.scaled else value).backward()
            values.append(value.detach())
        if self.clip:
            self.scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], self.clip)
        total = torch.stack(values).sum()
        if not self.scaled:
            return finite_update(optimizer, total)
        self.scaler.step(optimizer)
        self.scaler.update()
        return torch.where(total.isfinite(), total, math.nan)


def moving_buffers(model: nn.Module) -> list[list[torch.Tensor]]:
    """What a forward pass may move with the modules in their present modes, such as running statistics: lists of one type each."""
    buffers = [buffer for module in model.modules() if module.training for buffer in module.buffers(recurse=False)]
    return [[buffer for buffer in buffers if buffer.dtype == kind] for kind in dict.fromkeys(buffer.dtype for buffer in buffers)]


def joint(buffers: Sequence[Sequence[torch.Tensor]]) -> list[torch.Tensor]:
    """The values of each list in one tensor, copied."""
    return [torch.cat([buffer.flatten() for buffer in same]) for same in buffers]


def put_back(buffers: list[list[torch.Tensor]], before: list[torch.Tensor], value: torch.Tensor) -> None:
    """Give buffers the `joint` values they had `before` a step that was skipped (its loss `value` is nan); no sync on CUDA.

    >>> buffer = torch.tensor([math.inf])
    >>> put_back([[buffer]], [torch.tensor([1.0])], torch.tensor(math.nan))
    >>> buffer
    tensor([1.])
    """
    for same, kept, now in zip(buffers, before, joint(buffers), strict=True) if value.is_cuda or math.isnan(value) else ():
        parts = torch.where(value.isnan(), kept, now).split([buffer.numel() for buffer in same])
        torch._foreach_copy_(same, [part.view_as(buffer) for part, buffer in zip(parts, same, strict=True)])


def hopeless(losses: list[torch.Tensor], limit: int) -> bool:
    """Whether there are `limit` losses or more, and none of the last `limit` steps was taken.

    >>> hopeless([torch.tensor(math.nan)] * 2, 2), hopeless([torch.tensor(math.nan)], 2)
    (True, False)
    """
    return len(losses) >= limit and not any(bool(loss.isfinite()) for loss in reversed(losses[-limit:]))


def scores_of(model: nn.Module, batches: Iterable[torch.Tensor]) -> torch.Tensor:
    """The raw scores (items, classes), float32 on the CPU, in eval mode; every module's mode is put back."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    with torch.inference_mode():
        parts = [model(inputs).float() for inputs in batches]  # read back at the end: a read waits for the device
    for module, training in modes:
        module.training = training
    return torch.cat([part.cpu() for part in parts])
