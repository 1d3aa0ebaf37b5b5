"""What a model and a data set turned out to be: records that the plan is resolved against.

They are declared here and filled in by `sheer.model` and `sheer.data`, so that resolving a plan
needs neither torch nor a file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class TensorFact:
    """One parameter: its stage (index), number of values, whether a norm layer owns it, and which
    no-decay rules exempt it from weight decay."""

    name: str
    stage: int
    values: int
    norm: bool
    exempt: tuple[str, ...]
    sha256: str


@dataclass(frozen=True, kw_only=True)
class InputFacts:
    """How the weights want their pictures: mean and std per channel for pixels in 0 .. 1, filter, crop
    fraction, side in pixels, and whether only that side will do. `statistics_by` says who decided mean and std."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str
    crop_fraction: float
    size: int
    fixed_size: bool
    source: str
    statistics_by: str = "weights"


def joint_hash(tensors: Sequence[TensorFact]) -> str:
    """The first 8 digits of the SHA-256 over the tensors' own hashes, in order; "" for no tensors."""
    if not tensors:
        return ""
    return hashlib.sha256("".join(tensor.sha256 for tensor in tensors).encode()).hexdigest()[:8]
