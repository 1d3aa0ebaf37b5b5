"""Out of memory: which error is one, half the micro-batch, what that changes, and where the memory went."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from sheer.errors import DeviceMemoryError
from sheer.plan.table import columns
from sheer.record.run import Event


def in_update(error: BaseException, optimizer: torch.optim.Optimizer) -> bool:
    """Whether the error came from inside the optimiser, which may then have moved some tensors and not others."""
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_locals.get("self") is optimizer:
            return True
        trace = trace.tb_next
    return False


def half(size: int, model: nn.Module, optimizer: torch.optim.Optimizer | None, what: str) -> int:
    """Half of `size` items, rounded up, for the next attempt.

    Raises:
        DeviceMemoryError: there is nothing left to halve; the message has a table of what takes the memory.
    """
    if size > 1:
        return -(-size // 2)
    raise DeviceMemoryError(
        f"There is not enough memory for {what}, even with one item at a time.\n{memory_table(model, optimizer)}\n"
        "Give a smaller size, a smaller model, freeze more of it, or another device. Is another program using the device?"
    )


class Halving(nn.Module):
    """A network for inference that takes fewer items at a time once they did not fit; the scores of an item stay its own.

    `size` is how many it takes (0: all), `told` what `shrunk` has given last.
    """

    def __init__(self, model: nn.Module, size: int = 0) -> None:
        super().__init__()
        self.model, self.size, self.told = model, size, size

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """The network's scores of all inputs.

        Raises:
            DeviceMemoryError: one item is too much.
        """
        while not (parts := self.parts(inputs)):
            self.size = half(min(self.size or len(inputs), len(inputs)), self.model, None, "a pass without training (validation)")
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def parts(self, inputs: torch.Tensor) -> list[torch.Tensor]:
        """The scores in parts; none at all where one did not fit, so that everything of the attempt is let go."""
        try:
            return [self.model(part) for part in inputs.split(self.size or max(len(inputs), 1))]
        except torch.OutOfMemoryError:
            return []

    def shrunk(self) -> int:
        """How many items fit, where that is fewer than when this was last asked; else 0."""
        changed, self.told = self.size != self.told, self.size
        return self.size if changed else 0


def memory_table(model: nn.Module, optimizer: torch.optim.Optimizer | None) -> str:
    """MiB of weights, buffers, gradients and optimiser state, and on CUDA what the device has and holds."""
    parameters = list(model.parameters())
    state = optimizer.state.values() if optimizer else ()
    held: dict[str, Iterable[torch.Tensor]] = {
        "weights": parameters,
        "buffers": model.buffers(),
        "gradients": [p.grad for p in parameters if p.grad is not None],
        "optimiser state": [value for values in state for value in values.values() if isinstance(value, torch.Tensor)],
    }
    rows = [(name, _mib(sum(tensor.numel() * tensor.element_size() for tensor in tensors))) for name, tensors in held.items()]
    device = parameters[0].device
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        rows += [("held by PyTorch in all", _mib(torch.cuda.memory_reserved(device))), ("free", _mib(free)), ("device", _mib(total))]
    return columns(("what", "MiB"), rows, right=(1,))


def _mib(count: int) -> str:
    return f"{count / 2**20:,.1f}"


def changed_by_splitting(model: nn.Module) -> str:
    """What micro-batches change but rounding, as the model's modes are now: norm layers that use a batch's statistics, dropout."""
    norms = sum(module.training and isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules())
    drops = sum(module.training and isinstance(module, nn.modules.dropout._DropoutNd) and module.p > 0 for module in model.modules())
    found = [f"{norms} norm layers now take their statistics from a micro-batch"] * bool(norms) + [f"{drops} dropouts draw anew"] * bool(
        drops
    )
    return "the gradient is that of the whole batch" + (f", but {' and '.join(found)}" if found else " but for rounding")


def split_event(step: int, size: int, model: nn.Module) -> Event:
    """That from `step` on, to the end of its phase, `size` items are taken at a time, and what this changes."""
    return Event(step=step, kind="split", what=f"out of memory: {size} items at a time; {changed_by_splitting(model)}", size=size)


def split_frozen(step: int, size: int) -> Event:
    """That the frozen part of the phase that begins with `step` takes `size` items at a time."""
    what = f"out of memory in the frozen part: all of it in batches of {size}; what it gives is the same but for rounding"
    return Event(step=step, kind="split frozen", what=what, size=size)


def split_valid(step: int, size: int) -> Event:
    """That validation takes `size` items at a time from now on."""
    what = f"out of memory in validation: {size} items at a time; results are the same but for rounding"
    return Event(step=step, kind="split valid", what=what, size=size)
