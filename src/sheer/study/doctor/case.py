"""What the doctor's checks look at: the user's objects, and one look at the model and at the data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import torch
from torch import nn

from sheer.errors import first_line
from sheer.model.stages import NORM_TYPES
from sheer.study.doctor.findings import Finding, Unchecked

Loss = Callable[[Any, Any], torch.Tensor]
Said = Iterator[Finding | Unchecked]
INPUT_KEYS = ("inputs", "input", "images", "image", "pixel_values", "x")
TARGET_KEYS = ("targets", "target", "labels", "label", "y")
NORM_OR_DROPOUT = (*NORM_TYPES, nn.modules.dropout._DropoutNd)


@dataclass(frozen=True, kw_only=True)
class Look:
    """One batch through the model in eval mode, without gradients.

    Attributes:
        output: The model's output (N, ...), float32 on the CPU; None where it gives no single tensor.
        head: The name of the last layer with weights, by the order in which the layers ran.
        squashed: The output with the head's output taken a thousandfold: what a softmax or sigmoid after it cannot hide.
        map_side: Height and width of the last map before pooling; None without convolutions.
        half: Names of norm and dropout layers that got float16.
        entered: What the first convolution got (N, C, H, W), float32 on the CPU, where that is not the batch itself: the model
            normalises inside. Else None.
        error: Why there is nothing to see.
    """

    output: torch.Tensor | None = None
    head: str = ""
    squashed: torch.Tensor | None = None
    map_side: tuple[int, int] | None = None
    half: tuple[str, ...] = ()
    entered: torch.Tensor | None = None
    error: str = ""


@dataclass(frozen=True, kw_only=True)
class Case:
    """What the user gave, and the first batches of the loaders as (inputs, targets); `look` is at the first one."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    loader: Any
    loss_fn: Loss
    valid_loader: Any
    scheduler: Any
    epochs: int | None
    pretrained: bool | None
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    weights: Any
    valid_targets: Sequence[int] | None
    train_batches: tuple[tuple[torch.Tensor, torch.Tensor], ...]
    look: Look
    trouble: str  # why there are no batches

    @property
    def kind(self) -> str:
        """The optimiser's class as people write it."""
        return f"torch.optim.{type(self.optimizer).__name__}"

    def owned(self) -> set[int]:
        """Ids of the tensors that the optimiser holds."""
        return {id(tensor) for group in self.optimizer.param_groups for tensor in group["params"]}


def device_of(model: nn.Module) -> torch.device:
    """Where the model's first tensor is."""
    return next((tensor.device for tensor in [*model.parameters(), *model.buffers()]), torch.device("cpu"))


def inputs_and_targets(batch: Any) -> tuple[torch.Tensor, torch.Tensor] | None:
    """The two tensors of a batch: the first two of a tuple, or those with a usual name; None for anything else."""
    if isinstance(batch, Mapping):
        parts = [next((batch[key] for key in keys if key in batch), None) for keys in (INPUT_KEYS, TARGET_KEYS)]
    else:
        parts = list(batch[:2]) if isinstance(batch, tuple | list) else []
    tensors = [part for part in parts if isinstance(part, torch.Tensor)]
    return (tensors[0], tensors[1]) if len(tensors) == 2 else None


def first_batches(loader: Iterable[Any], count: int) -> tuple[tuple[tuple[torch.Tensor, torch.Tensor], ...], str]:
    """Up to `count` batches, and why there are none."""
    try:
        pairs = [inputs_and_targets(batch) for batch in islice(iter(loader), count)]
    except Exception as error:  # whatever a user's data set raises
        return (), f"the loader raised {type(error).__name__}: {first_line(error)}"
    known = tuple(pair for pair in pairs if pair is not None)
    if not known:
        return (), "the loader is empty" if not pairs else "a batch is no (inputs, targets) of two tensors: give a loader of such pairs"
    return known, ""


def leaves(model: nn.Module) -> dict[str, nn.Module]:
    """The modules that hold no others, by name."""
    return {name: module for name, module in model.named_modules() if not any(module.children())}


def look_at(model: nn.Module, inputs: torch.Tensor) -> Look:
    """Run the batch twice in eval mode; see `Look`. Hooks are removed; the modes are for the caller to put back."""
    ran: list[str] = []
    maps: list[tuple[int, int]] = []
    half: list[str] = []
    convolved: list[torch.Tensor] = []
    scale = {"": 1.0}

    def seen(name: str) -> Callable[[nn.Module, Any, Any], Any]:
        def hook(module: nn.Module, given: tuple[Any, ...], output: Any) -> Any:
            ran.append(name)
            first = given[0] if given and isinstance(given[0], torch.Tensor) else None
            if first is not None and first.dtype == torch.float16 and (isinstance(module, NORM_OR_DROPOUT) and getattr(module, "p", 1) > 0):
                half.append(name)
            if first is not None and isinstance(module, nn.Conv2d) and not convolved:
                convolved.append(first.detach().clone())
            if first is not None and isinstance(output, torch.Tensor) and _makes_a_map(module, first):
                maps.append((output.shape[-2], output.shape[-1]))
            return output * scale[name] if name in scale else None

        return hook

    first_float = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
    given = inputs.to(device_of(model))
    given = given.to(first_float) if given.is_floating_point() else given
    layers = leaves(model)
    handles = [module.register_forward_hook(seen(name)) for name, module in layers.items()]
    model.eval()
    try:
        with torch.no_grad():
            if given.dtype == torch.uint8 and not _takes(model, given):
                given = given.to(first_float)  # as the loop must do, then
            for notes in (ran, maps, half, convolved):
                notes.clear()  # type: ignore[attr-defined]
            output = model(given)
            heads = [name for name in ran if any(p.ndim >= 2 for p in layers[name].parameters(recurse=False))]
            side, halves = maps[-1] if maps else None, tuple(dict.fromkeys(half))
            squashed = None
            if heads and isinstance(output, torch.Tensor):
                scale[heads[-1]] = 1000.0
                squashed = model(given).float().cpu()
    except Exception as error:  # whatever a user's model raises on its own data
        return Look(error=f"the model raised {type(error).__name__} on the first batch: {first_line(error)}")
    finally:
        for handle in handles:
            handle.remove()
    entered = next(
        (own.float().cpu() for own in convolved if own.shape[:2] == given.shape[:2] and not torch.equal(own.double(), given.double())), None
    )
    seen_first = Look(head=heads[-1] if heads else "", map_side=side, half=halves, entered=entered)
    if not isinstance(output, torch.Tensor):
        return replace(seen_first, error="the model gives no single tensor")
    return replace(seen_first, output=output.float().cpu(), squashed=squashed)


def _takes(model: nn.Module, given: torch.Tensor) -> bool:
    """Whether the model takes the batch as it is: bytes, where it scales them itself."""
    try:
        model(given)
    except Exception:  # whatever a layer that wants floats raises
        return False
    return True


def _makes_a_map(module: nn.Module, given: torch.Tensor) -> bool:
    """Whether the layer looks at neighbours in a picture: a convolution larger than one cell, or a maximum over some.

    A convolution as large as its whole unpadded input is a linear layer in disguise.
    """
    if isinstance(module, nn.MaxPool2d):
        return True
    if not isinstance(module, nn.Conv2d) or module.kernel_size == (1, 1):
        return False
    return not (module.padding in (0, (0, 0), "valid") and tuple(given.shape[-2:]) == module.kernel_size)
