"""What the first steps of a set-up did, tensor by tensor, recorded from outside by hooks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from sheer.data.inputs import Inputs
from sheer.errors import first_line
from sheer.loop.step import Loss
from sheer.model.stages import is_norm
from sheer.streams import reseed, stream_key

Step = Callable[[nn.Module, Loss, torch.optim.Optimizer, torch.Tensor, torch.Tensor], torch.Tensor]
Tensors = dict[str, torch.Tensor]
SILENT = ("params", "params_names", "param_names", "peak", "foreach", "fused", "capturable", "differentiable", "initial_lr", "maximize")


class EnoughError(Exception):
    """Ends a set-up's own loop after the steps that are wanted; caught by whoever runs it."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A module as it was at a step: its type, what it prints of itself, and whether it is in training mode."""

    kind: str
    text: str
    training: bool
    norm: bool


@dataclass(kw_only=True, eq=False)
class StepTrace:
    """One step. `backward` are gradients as backward left them, `gradients` as the optimiser took them, `state` what the step left.

    `layers` are outputs of the modules without children, and of norm layers, in the order of execution, of the first forward
    pass; recorded at the first step only. `groups` are the settings that the optimiser had for each parameter. A loss that
    the step does not return is None. `failed` is the error that ended the step, if any.
    """

    given: Any
    target: torch.Tensor
    modules: dict[str, Setting]
    trains: dict[str, bool]
    inputs: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    loss: torch.Tensor | None = None
    logits_gradient: torch.Tensor | None = None
    layers: list[tuple[str, torch.Tensor]] = field(default_factory=list)
    backward: Tensors = field(default_factory=dict)
    gradients: Tensors = field(default_factory=dict)
    before: Tensors = field(default_factory=dict)
    state: Tensors = field(default_factory=dict)
    groups: dict[str, dict[str, Any]] = field(default_factory=dict)
    optimizer: str = ""
    carried: int = 0
    forwards: int = 0
    updates: int = 0
    failed: str = ""


def state_of(model: nn.Module) -> Tensors:
    """A copy of every parameter and buffer by its name."""
    return {name: tensor.detach().clone() for name, tensor in model.state_dict(keep_vars=True).items()}


def tensor_of(output: Any) -> torch.Tensor | None:
    """The tensor of a module's output: itself, its `logits`, or the first one inside."""
    if isinstance(output, torch.Tensor):
        return output
    inside = [output.logits] if hasattr(output, "logits") else output.values() if isinstance(output, dict) else output
    return next((value for value in inside if isinstance(value, torch.Tensor)), None) if isinstance(inside, list | tuple) else None


def copied(inputs: Any) -> Any:
    """A copy of a tensor, or of each tensor of `Inputs`."""
    if is_several(inputs):
        return type(inputs)({name: copied(part) for name, part in inputs.parts.items()}, copied(inputs.present))
    return inputs.detach().clone()


def is_several(inputs: Any) -> bool:
    """Whether these are the inputs of several branches, of the library's class or of a script's own copy of it."""
    return isinstance(inputs, Inputs) or (hasattr(inputs, "parts") and hasattr(inputs, "present"))


class Recorder:
    """Wraps a training step so that each call leaves a `StepTrace`; after `wanted` of them it raises EnoughError.

    Every step starts PyTorch's generators at the stream `step` of (seed, first + number), as the library's loop does, so that
    dropout draws the same in any set-up. With `given`, the network gets the inputs and the loss the targets of that trace.
    """

    def __init__(self, wanted: int, seed: int, first: int, given: list[StepTrace] | None = None) -> None:
        self.wanted, self.seed, self.first, self.given = wanted, seed, first, given
        self.steps: list[StepTrace] = []

    def wrap(self, step: Step) -> Step:
        """The step, recorded."""

        def recorded(model: nn.Module, loss: Loss, optimizer: torch.optim.Optimizer, inputs: Any, target: torch.Tensor) -> torch.Tensor:
            number = len(self.steps)
            same = self.given[number] if self.given else None
            if same is not None and same.inputs is not None:
                whole = isinstance(inputs, torch.Tensor) and len(same.inputs) == len(same.given)
                inputs = copied(same.inputs if whole else same.given)
                target = same.target.clone()
            seen = StepTrace(
                given=copied(inputs),
                target=target.detach().clone(),
                modules=dict(_settings(model)),
                trains={name: p.requires_grad for name, p in model.named_parameters()},
                before=self.steps[-1].state if self.steps else state_of(model),
                optimizer=type(optimizer).__name__,
                carried=len(optimizer.state),
            )
            handles = [
                *_watch_layers(model, seen, number == 0),
                *_watch_whole(model, seen, same),
                *_watch_gradients(model, optimizer, seen),
            ]
            reseed(stream_key(self.seed, "step", self.first + number), next(model.parameters()).device)
            try:
                value = step(model, loss, optimizer, inputs, target)
            except Exception as error:  # whatever a module or a step of one's own raises: what came before it is compared
                seen.failed = f"{type(error).__name__}: {first_line(error)}"
                self.steps.append(seen)
                raise EnoughError from error
            finally:
                for handle in handles:
                    handle.remove()
            seen.loss = torch.as_tensor(value).detach().clone() if value is not None else None
            seen.state = state_of(model)
            self.steps.append(seen)
            if len(self.steps) == self.wanted:
                raise EnoughError
            return value

        return recorded


def _settings(model: nn.Module) -> Iterator[tuple[str, Setting]]:
    """Modules without children, and norm layers whole (timm's hold their activation inside)."""
    inside = ""
    for name, module in model.named_modules():
        if inside and name.startswith(inside):
            continue
        if not list(module.children()) or is_norm(module):
            inside = f"{name}." if is_norm(module) else ""
            yield name, Setting(kind=type(module).__name__, text=module.extra_repr(), training=module.training, norm=is_norm(module))


def _watch_layers(model: nn.Module, seen: StepTrace, keep: bool) -> Iterator[Any]:
    def hook(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def note(module: nn.Module, inputs: Any, output: Any) -> None:
            tensor = tensor_of(output)
            if tensor is not None and seen.forwards <= 1:
                seen.layers.append((name, tensor.detach().clone()))

        return note

    for name, module in model.named_modules() if keep else ():
        if name in seen.modules:
            yield module.register_forward_hook(hook(name))


def _watch_whole(model: nn.Module, seen: StepTrace, same: StepTrace | None) -> Iterator[Any]:
    def enter(module: nn.Module, inputs: Any) -> Any:
        seen.forwards += 1
        if seen.forwards == 1:
            seen.modules = dict(_settings(module))  # a step of one's own may switch modes first
        if seen.inputs is None and inputs and isinstance(inputs[0], torch.Tensor):
            if same is not None and same.inputs is not None and same.inputs.shape == inputs[0].shape:
                seen.inputs = same.inputs
                return (same.inputs.clone(), *inputs[1:])
            seen.inputs = inputs[0].detach().clone()
        elif seen.inputs is None and inputs and is_several(inputs[0]):
            seen.inputs = torch.cat([*(part.flatten(1) for part in inputs[0].parts.values()), inputs[0].present.float()], dim=1)
        return None

    def leave(module: nn.Module, inputs: Any, output: Any) -> None:
        tensor = tensor_of(output)
        if seen.logits is None and tensor is not None:
            seen.logits = tensor.detach().clone()
            if tensor.requires_grad:
                tensor.register_hook(lambda gradient: setattr(seen, "logits_gradient", gradient.detach().clone()))

    yield model.register_forward_pre_hook(enter)
    yield model.register_forward_hook(leave)


def _watch_gradients(model: nn.Module, optimizer: torch.optim.Optimizer, seen: StepTrace) -> Iterator[Any]:
    names = {id(parameter): name for name, parameter in model.named_parameters()}

    def accumulated(parameter: torch.Tensor) -> None:
        assert parameter.grad is not None
        seen.backward[names[id(parameter)]] = parameter.grad.detach().clone()

    def before_update(*_: Any) -> None:
        seen.updates += 1
        for group in optimizer.param_groups:
            settings = {key: value for key, value in group.items() if key not in SILENT}
            for parameter in group["params"]:
                name = names.get(id(parameter), "")
                seen.groups[name] = {key: float(value) if isinstance(value, torch.Tensor) else value for key, value in settings.items()}
                if parameter.grad is not None and name:
                    known = seen.backward.get(name)  # most often the same values: kept once
                    same = known is not None and torch.equal(known, parameter.grad)
                    seen.gradients[name] = known if same and known is not None else parameter.grad.detach().clone()

    for _, parameter in model.named_parameters():
        if parameter.requires_grad:
            yield parameter.register_post_accumulate_grad_hook(accumulated)
    yield optimizer.register_step_pre_hook(before_update)
