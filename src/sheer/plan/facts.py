"""What a model and a data set turned out to be: records that the plan is resolved against.

They are declared here and filled in by `sheer.model` and `sheer.data`, so that resolving a plan
needs neither torch nor a file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sheer.errors import DataError
from sheer.plan.plan import DataPlan, Part, Value

HELD = {
    "files": "photographs are read as they are needed",
    "memory": "arrays of bytes are pictures",
    "none": "the inputs are numbers",
}
"""Why the items are held as `DataPlan.pictures` says."""


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


def fixed_stages(lora: Part | None) -> int:
    """How many stages from the first on never train: with LoRA the one of all the weights there were."""
    return 1 if lora is not None else 0


def lora_settings(lora: Part) -> dict[str, Value]:
    """What LoRA itself is made with: the part's settings without the adapter that it starts from."""
    return {name: value for name, value in lora.settings if name != "adapter"}


def adapter_of(lora: Part | None) -> str:
    """The SHA-256 of the adapter that LoRA and the head start from, "" where they start afresh."""
    return str(lora.options().get("adapter", "")) if lora else ""


def source_of_new(lora: Part | None) -> str:
    """Where the weights of the head, and of LoRA, are from."""
    return f"adapter {str(lora.options()['adapter'])[:8]}" if lora and "adapter" in lora.options() else "initialised"


def items_of(columns: Sequence[Part]) -> str:
    """What goes in: "text" where there is only that, "table" for columns of others, "pictures" (or other numbers) without columns."""
    if not columns:
        return "pictures"
    return "text" if all(part.name == "text" for part in columns) else "table"


def data_words(data: DataPlan) -> str:
    """How a person makes data of this kind."""
    if data.inputs:
        return "sheer.DataBlock(inputs=..., label=...).build(file)"
    if data.columns:
        return {"text": "sheer.text(file, text=..., target=...)", "table": "sheer.table(file, target=...)"}[items_of(data.columns)]
    return "sheer.images(folder)" if data.pictures == "files" else "sheer.arrays(inputs, labels)"


def without_data(data: DataPlan) -> DataError:
    """The error of a verb that needs the items, of which a learner has none."""
    return DataError(f"This learner was loaded without its data: sheer.load(run, data={data_words(data)}).")


def width_of(columns: Sequence[Part]) -> int:
    """Numbers an item as the network takes them: one a column, but a column of texts has its tokens."""
    lengths = [part.options().get("length", 1) for part in columns]
    return sum(length for length in lengths if isinstance(length, int))


@dataclass(frozen=True, kw_only=True)
class PrefixFact:
    """Whether what is `frozen` of a network can be run by itself: its `modules` in order of execution, () where it cannot.

    `frozen`: something comes before the first tensor that trains. `values` are those of one item's features; `linear`: what is
    left is one linear layer; `fold`: its norm layers can be folded into convolutions; `drawn`: pictures go in, which may be cut by
    draws. `proof` says how that is known, or why not.
    `pace`, given the usual batch size and whether norm layers are folded, measures the fastest one here, and says what it found.
    """

    frozen: bool
    modules: tuple[str, ...]
    values: int
    linear: bool
    fold: bool
    proof: str
    drawn: bool = False
    pace: Callable[[int, bool], tuple[int, str]] | None = None


def joint_hash(tensors: Sequence[TensorFact]) -> str:
    """The first 8 digits of the SHA-256 over the tensors' own hashes, in order; "" for no tensors."""
    if not tensors:
        return ""
    return hashlib.sha256("".join(tensor.sha256 for tensor in tensors).encode()).hexdigest()[:8]
