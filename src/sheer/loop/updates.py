"""What plain phases do without: averaged weights, early ends, the best epoch."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import nn


@dataclass(kw_only=True)
class Average:
    """An exponential moving average of weights, kept beside the model (Polyak, Juditsky 1992).

    After update n the average keeps min(decay, (1 + n) / (10 + n)) of itself, so that short runs are not
    dominated by where they began. Parameters and floating-point buffers (running statistics) are
    averaged; whole numbers are copied.
    """

    decay: float
    updates: int = field(default=0, init=False, repr=False)
    values: list[torch.Tensor] = field(default_factory=list, init=False, repr=False)

    @torch.no_grad()
    def start(self, model: nn.Module) -> None:
        """Begin with the model's weights as they are."""
        self.updates, self.values = 0, [tensor.clone() for tensor in self.tensors(model)]

    @staticmethod
    def tensors(model: nn.Module) -> list[torch.Tensor]:
        """Parameters and buffers, shared ones once."""
        found = {(tensor.data_ptr(), tensor.shape): tensor for tensor in model.state_dict().values()}
        return list(found.values())

    @torch.no_grad()
    def follow(self, model: nn.Module) -> None:
        """Move towards the model's weights, once an update."""
        self.updates += 1
        kept = min(self.decay, (1 + self.updates) / (10 + self.updates))
        for mine, new in zip(self.values, self.tensors(model), strict=True):
            if mine.is_floating_point():
                mine.lerp_(new, 1 - kept)
            else:
                mine.copy_(new)

    @torch.no_grad()
    def swap(self, model: nn.Module) -> None:
        """Put the average into the model and keep the model's own weights, or the other way round."""
        for mine, own in zip(self.values, self.tensors(model), strict=True):
            held = own.clone()
            own.copy_(mine)
            mine.copy_(held)


@dataclass(kw_only=True)
class Patience:
    """Ends a phase once `metric` has not been better ("min" or "max") for `epochs` epochs.

    >>> patience = Patience(metric="valid_loss", better="min", epochs=1)
    >>> [patience.over(value) for value in (0.5, 0.4, 0.4)]
    [False, False, True]
    """

    metric: str
    better: str
    epochs: int
    best: float = field(default=float("inf"), init=False, repr=False)
    waited: int = field(default=0, init=False, repr=False)

    def over(self, value: float) -> bool:
        """Whether the phase ends with an epoch of this value; a value that is no number is never better."""
        signed = value if self.better == "min" else -value
        self.waited = 0 if signed < self.best else self.waited + 1
        self.best = signed if signed < self.best else self.best
        return self.waited >= self.epochs


@dataclass(kw_only=True)
class BestEpoch:
    """Keeps the weights of the epoch with the best `metric` ("min" or "max"), the first of equals."""

    metric: str
    better: str
    best: float = field(default=float("inf"), init=False, repr=False)
    values: list[torch.Tensor] = field(default_factory=list, init=False, repr=False)

    def look(self, model: nn.Module, value: float) -> None:
        """Keep the model's weights if their value is the best so far."""
        signed = value if self.better == "min" else -value
        if signed < self.best:
            self.best, self.values = signed, [tensor.detach().clone() for tensor in model.state_dict().values()]

    @torch.no_grad()
    def restore(self, model: nn.Module) -> None:
        """Put the weights that were kept into the model; where no value was a number it stays as it is."""
        for tensor, kept in zip(model.state_dict().values(), self.values, strict=bool(self.values)):
            tensor.copy_(kept)
