"""Two recorded set-ups side by side, which explanations read, and the explanation that they give."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from sheer.study.compare.sides import Side
from sheer.study.compare.trace import StepTrace


@dataclass(frozen=True, kw_only=True)
class Cause:
    """Why a tensor differs: a short name, the numbers that show it, and another tensor's name where that one says more."""

    name: str
    evidence: str
    tensor: str | None = None


@dataclass(eq=False)
class Meeting:
    """Both sides' steps, of which number `index` is being compared; `names` has b's tensor for each of a's. `done`: explained already."""

    one: Side
    other: Side
    steps_a: Sequence[StepTrace]
    steps_b: Sequence[StepTrace]
    index: int
    names: dict[str, str]
    done: bool = False

    @property
    def a(self) -> StepTrace:
        """The step of a."""
        return self.steps_a[self.index]

    @property
    def b(self) -> StepTrace:
        """The step of b."""
        return self.steps_b[self.index]

    def in_b(self, name: str) -> str:
        """The name in b of a's tensor."""
        return self.names.get(name, name)


def near(x: torch.Tensor, y: torch.Tensor, share: float = 1e-3) -> bool:
    """Whether two tensors differ by at most `share` of the largest value.

    >>> near(torch.ones(2), torch.ones(2) * 1.0001), near(torch.ones(2), torch.ones(3))
    (True, False)
    """
    if x.shape != y.shape or not x.numel():
        return x.shape == y.shape
    scale = max(float(x.double().abs().max()), float(y.double().abs().max()))
    return float((x.double() - y.double()).abs().max()) <= share * scale


def ratio(x: torch.Tensor, y: torch.Tensor) -> float:
    """The r for which r x is nearest to y (least squares).

    >>> ratio(torch.tensor([1.0, 2.0]), torch.tensor([2.0, 4.0]))
    2.0
    """
    x, y = x.double().flatten(), y.double().flatten()
    return float((x @ y) / max(float(x @ x), 1e-300))


def numbers(values: Sequence[float] | torch.Tensor, digits: int = 3) -> str:
    """Numbers as people write them; one where all are the same.

    >>> numbers([0.5, 0.5]), numbers([0.2294, 0.224])
    ('0.5', '0.229, 0.224')
    """
    shown = [f"{float(value) if abs(float(value)) > 1e-6 else 0.0:.{digits}g}" for value in values]
    return shown[0] if len(set(shown)) == 1 else ", ".join(shown)


def some(names: Sequence[str], most: int = 5) -> str:
    """The first names, at most so many.

    >>> some(["a", "b"]), some(["a", "b", "c"], 2)
    ('a, b', 'a, b and 1 more')
    """
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
