"""`doctor`: what is wrong with a plain PyTorch loop of somebody's own, found without leaving a trace in it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import nn

from sheer.errors import StudyError
from sheer.study.doctor.case import Case, Look, Loss, Said, device_of, first_batches, look_at
from sheer.study.doctor.data import check_labels, check_sides, check_train_order, check_valid
from sheer.study.doctor.findings import Diagnosis, Finding, Unchecked
from sheer.study.doctor.loop import check_loop
from sheer.study.doctor.model import (
    check_frozen_tensors,
    check_half_precision,
    check_head_rate,
    check_map,
    check_norm_layers,
    check_ownership,
    check_scores,
    check_weights,
)
from sheer.study.doctor.pixels import check_channels, check_pixels
from sheer.study.doctor.restoring import untouched
from sheer.study.doctor.watching import watched

CHECKS: tuple[Callable[[Case], Said], ...] = (
    check_ownership,
    check_frozen_tensors,
    check_norm_layers,
    check_head_rate,
    check_weights,
    check_half_precision,
    check_pixels,
    check_channels,
    check_map,
    check_labels,
    check_scores,
    check_train_order,
    check_valid,
    check_sides,
)


def doctor(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    loader: Any,
    loss_fn: Loss,
    *,
    valid_loader: Any = None,
    scheduler: Any = None,
    train: Callable[[], object] | None = None,
    epochs: int | None = None,
    pretrained: bool | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    weights: Any = None,
    valid_targets: Sequence[int] | None = None,
    batches: int = 8,
) -> Diagnosis:
    """Look at a plain PyTorch loop and say what is wrong with it, with evidence and the line that mends it.

    Everything given is put back bit for bit: parameters, gradients, buffers, modes, the optimiser's and the scheduler's
    state, and every random generator.

    Args:
        model, optimizer, loader, loss_fn: What the loop trains with; batches are (inputs, targets), and
            `loss_fn(model(inputs), targets)` is the loss.
        valid_loader, scheduler: Those of the loop, where there are any.
        train: A function without arguments that runs a few steps of the loop with these very objects, best two epochs
            with their validation over a short loader; it is called once and watched.
        epochs: How many the whole training has, which says in what unit the scheduler's length is.
        pretrained: Whether the weights were meant to be pretrained; otherwise told from frozen tensors or rates that differ.
        mean, std: What the weights want their pixels normalised with, one number a channel; otherwise those of timm's
            `pretrained_cfg`, of torchvision's networks, or of `weights`.
        weights: torchvision's entry of the weights, such as `ResNet18_Weights.IMAGENET1K_V1`.
        valid_targets: The list that predictions are held against, in the order in which the code has it, where the targets
            are not taken from the batches.
        batches: How many training batches are looked at.

    Raises:
        StudyError: an argument is of another kind.
    """
    _check_kinds(model, optimizer, loss_fn, train, batches)
    _check_loaders(loader, valid_loader, valid_targets)
    _check_facts(scheduler, epochs, pretrained, weights)
    given = _statistics(mean, std)
    loaders = [loader for loader in (loader, valid_loader) if loader is not None]
    modules = [model, *([loss_fn] if isinstance(loss_fn, nn.Module) else [])]

    def undone() -> Any:
        return untouched(modules, optimizer, scheduler, loaders, device_of(model))

    with undone():
        seen, trouble = first_batches(loader, batches)
    with undone():
        look = look_at(model, seen[0][0]) if seen else Look(error=trouble)
    case = Case(
        model=model,
        optimizer=optimizer,
        loader=loader,
        loss_fn=loss_fn,
        valid_loader=valid_loader,
        scheduler=scheduler,
        epochs=epochs,
        pretrained=pretrained,
        mean=given[0],
        std=given[1],
        weights=weights,
        valid_targets=valid_targets,
        train_batches=seen,
        look=look,
        trouble=trouble,
    )
    said: list[Finding | Unchecked] = []
    for check in CHECKS:
        with undone():
            said += check(case)
    run = None
    if train is not None:
        with undone():
            run = watched(train, model, optimizer, scheduler)
    with undone():
        said += check_loop(case, run)
    findings: dict[str, Finding] = {}
    for line in said:
        if isinstance(line, Finding):
            findings.setdefault(line.code, line)
    unchecked = dict.fromkeys(line for line in said if isinstance(line, Unchecked))
    return Diagnosis(findings=tuple(findings.values()), unchecked=tuple(unchecked))


def _check_kinds(model: Any, optimizer: Any, loss_fn: Any, train: Any, batches: Any) -> None:
    wanted = (("model", model, nn.Module, "a torch.nn.Module"), ("optimizer", optimizer, torch.optim.Optimizer, "a torch.optim.Optimizer"))
    for name, value, kind, words in wanted:
        if not isinstance(value, kind):
            raise StudyError(f"{name} is a {type(value).__name__}; doctor takes {words}. Give the one that your loop steps.")
    if not callable(loss_fn):
        raise StudyError(f"loss_fn is a {type(loss_fn).__name__}; give a function of (output, targets), such as nn.CrossEntropyLoss().")
    if train is not None and not callable(train):
        raise StudyError(f"train is a {type(train).__name__}; give a function without arguments that runs a few steps of your loop.")
    _check_count(batches, "batches")


def _check_count(value: Any, name: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise StudyError(f"{name}={value!r}: give a whole number of at least 1.")


def _check_loaders(loader: Any, valid_loader: Any, valid_targets: Any) -> None:
    for name, value in (("loader", loader), ("valid_loader", valid_loader)):
        if isinstance(value, Iterator):
            raise StudyError(f"{name} is a {type(value).__name__}, which looking would use up: give a DataLoader or a list of batches.")
        if not hasattr(value, "__iter__") and not hasattr(value, "__getitem__") and not (value is None and name == "valid_loader"):
            raise StudyError(f"{name} is a {type(value).__name__}; give the DataLoader of your loop, or a list of (inputs, targets).")
    if valid_targets is not None:
        if not hasattr(valid_targets, "__len__") or isinstance(valid_targets, str):
            raise StudyError(f"valid_targets={valid_targets!r}: give the list of class numbers that predictions are held against.")
        if valid_loader is None:
            raise StudyError("valid_targets is held against the batches of valid_loader: give both.")


def _check_facts(scheduler: Any, epochs: Any, pretrained: Any, weights: Any) -> None:
    if scheduler is not None and not callable(getattr(scheduler, "step", None)):
        raise StudyError(f"scheduler is a {type(scheduler).__name__} without step(): give the one of your loop, such as a StepLR.")
    if epochs is not None:
        _check_count(epochs, "epochs")
    if pretrained not in (None, True, False):
        raise StudyError(f"pretrained={pretrained!r}: give True, False, or None where the doctor should tell.")
    if weights is not None and not callable(getattr(weights, "transforms", None)):
        raise StudyError(f"weights={weights!r}: give torchvision's entry, such as ResNet18_Weights.IMAGENET1K_V1, or mean= and std=.")


def _statistics(mean: Any, std: Any) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None]:
    """Mean and standard deviation as numbers, one a channel, or None for both."""
    if (mean is None) != (std is None):
        raise StudyError("mean and std belong together: give both or neither.")
    if mean is None:
        return None, None
    try:
        means, deviations = tuple(map(float, mean)), tuple(map(float, std))
    except (TypeError, ValueError):
        means, deviations = (), ()
    if (
        not means
        or len(means) != len(deviations)
        or not all(0 < value < math.inf for value in deviations)
        or not all(map(math.isfinite, means))
    ):
        raise StudyError(
            f"mean={mean!r}, std={std!r}: give one number a channel each, deviations above 0, such as [0.485, 0.456, 0.406] and "
            "[0.229, 0.224, 0.225]."
        )
    return means, deviations
