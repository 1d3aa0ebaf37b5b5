"""A head that is fitted instead of trained: L-BFGS on all items at once, its penalty chosen by cross-validation."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn


def turned(inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Inputs (items, width) standardised and turned to their principal axes: (items, axes) and the variance (axes,), float32;
    and the way there, mean (width,) and axes (width, axes), float64. Columns and axes without spread go.

    >>> [list(part.shape) for part in turned(torch.tensor([[1.0, 0.0], [3.0, 0.0]]))]
    [[2, 1], [1], [2], [2, 1]]
    """
    parts, count = inputs.split(1024), len(inputs)
    mean = torch.stack([part.double().sum(0) for part in parts]).sum(0) / count
    variance = torch.stack([(part.double() - mean).square().sum(0) for part in parts]).sum(0) / count
    scale = torch.where(variance > 1e-12 * variance.max(), variance, torch.inf).rsqrt()
    products = torch.zeros(len(mean), len(mean), dtype=mean.dtype, device=mean.device)
    for part in parts:
        products.addmm_(((part.double() - mean) * scale).T, (part.double() - mean) * scale)
    spread, axes = torch.linalg.eigh(products / count)
    kept = spread > 1e-8 * spread[-1]
    spread, axes = spread[kept], scale[:, None] * axes[:, kept]
    return torch.cat([((part.double() - mean) @ axes).float() for part in parts]), spread.float(), mean, axes


def fit_step(model: nn.Module, loss: Any, optimizer: Any, inputs: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Fit the one linear layer that trains, to all items; returns their mean loss, a scalar.

    What is least is the mean loss plus penalty / 2 times the squared weights of standardised inputs; the bias goes free. With
    cross-entropy that is multinomial logistic regression, with the squared error ridge regression. Each penalty is tried, the
    strongest first, until the items left out of the fit, each of the folds once, are predicted worse. Items with an input, or a
    loss of scores of 0, that is not finite have no part in it; their places go to the optimiser's state. Where fewer than two a fold
    are left, or what comes out is not finite, the layer stays as it is, and nan is returned.

    Args:
        model: Gives scores (items, outputs) from inputs (items, width) by that layer alone.
        loss: One value an item.
        optimizer: From `LBFGS.build`.
        inputs, target: All items in an order that is drawn: fold k is every `folds`-th item from k on.
    """
    linear = next(module for module in model.modules() if isinstance(module, nn.Linear) and module.weight.requires_grad)
    folds, losses, order = optimizer.defaults["folds"], dict[float, float](), torch.arange(len(inputs), device=inputs.device)
    finite = inputs.isfinite().all(1) & loss(inputs.new_zeros(len(inputs), linear.out_features), target).isfinite()
    if not bool(finite.all()):
        rows, optimizer.state["not_finite"] = order[finite], order[~finite].tolist()
        inputs, target, loss, order = inputs[rows], target[rows], part_of(loss, rows), order[: len(rows)]
        if len(rows) < 2 * folds:
            return inputs.new_full((), math.nan)
    items, spread, mean, axes = turned(inputs)
    nothing = torch.zeros(len(spread) + 1, linear.out_features, device=inputs.device)
    starts = [nothing] * folds
    for penalty in optimizer.defaults["penalties"]:
        left_out = inputs.new_empty(len(inputs), linear.out_features)
        for fold in range(folds):
            rows = order[order % folds != fold]
            starts[fold] = fitted(items[rows], spread, part_of(loss, rows), target[rows], penalty, starts[fold], 1e-3)
            left_out[fold::folds] = items[fold::folds] @ starts[fold][:-1] + starts[fold][-1]
        losses[penalty] = float(loss(left_out, target).double().mean())
        if losses[penalty] > min(losses.values()):
            break
    values = fitted(items, spread, loss, target, min(losses, key=losses.__getitem__), nothing, 1e-4).double()
    if not bool(values.isfinite().all()):
        return inputs.new_full((), math.nan)
    weight, optimizer.state["left_out"] = axes @ values[:-1], losses
    with torch.no_grad():
        linear.weight.copy_(weight.T)
        linear.bias.copy_(values[-1] - mean @ weight)
        return torch.mean(loss(torch.cat([linear(part) for part in inputs.split(1024)]), target))


def part_of(loss: Any, rows: torch.Tensor) -> Any:
    """The loss of some of the items."""
    return loss.at(rows) if hasattr(loss, "at") else loss


def fitted(
    items: torch.Tensor, spread: torch.Tensor, loss: Any, target: torch.Tensor, penalty: float, start: torch.Tensor, tolerance: float
) -> torch.Tensor:
    """The values (axes + 1, outputs), the bias last, of the least penalised mean loss, sought from `start` (Liu, Nocedal 1989).

    Along an axis the loss curves by about a quarter of its variance, plus the penalty: in coordinates scaled by that it takes tens
    of steps, not thousands. They are nan where a loss on the way was.
    """
    size = (spread / 4 + penalty).rsqrt()[:, None]
    items, inside, bias = items * size.T, (start[:-1] / size).requires_grad_(), start[-1].clone().requires_grad_()
    optimizer = torch.optim.LBFGS([inside, bias], max_iter=100, history_size=10, tolerance_grad=tolerance, line_search_fn="strong_wolfe")

    def penalised() -> torch.Tensor:
        optimizer.zero_grad()
        value: torch.Tensor = loss(items @ inside + bias, target).mean() + penalty / 2 * (inside * size).square().sum()
        if bool(value.isnan()):  # with which torch's line search would raise anything
            raise FloatingPointError
        value.backward()
        return value

    try:
        optimizer.step(penalised)
    except FloatingPointError:
        return torch.full_like(start, math.nan)
    return torch.cat([inside.detach() * size, bias.detach()[None]])
