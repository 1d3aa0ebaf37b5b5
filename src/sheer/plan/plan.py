"""What will be done, as frozen data: the whole vocabulary of decisions.

A `Plan` is complete: the loop, the ejected script and the table that people read use nothing
else. Names of techniques are `Part`s (a name from a literal table, and its settings), so that a
plan needs neither torch nor the modules that carry it out, and is JSON as it stands.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from sheer.errors import PlanError
from sheer.plan import document, markup, table

Value = None | bool | int | float | str | tuple["Value", ...]

ORIGINS = ("you", "recipe", "default", "weights", "data", "machine", "measured")


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Who decided a field, and why: `by` is one of ORIGINS, `reason` one sentence."""

    field: str
    by: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Part:
    """A technique by its name in a literal table (HEADS, SCHEDULES, ...) and its settings."""

    name: str
    settings: tuple[tuple[str, Value], ...] = ()

    def options(self) -> dict[str, Value]:
        """The settings as keyword arguments."""
        return dict(self.settings)

    def made(self, table: Mapping[str, Callable[..., Any]]) -> Any:
        """What `table` has under the name, called with the settings."""
        return table[self.name](**self.options())

    def __str__(self) -> str:
        inside = ", ".join(f"{key}={value!r}" for key, value in self.settings)
        return f"{self.name}({inside})"


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A rule for parameters: those whose name starts with one of `prefixes`; the longest match wins."""

    name: str
    prefixes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Surgery:
    """The proof that the kept body and the old classifier give the old logits (shape (2, classes)).

    `largest_difference` is the largest absolute difference of a logit; a cut that is not bit for
    bit equal is refused, so it is 0.0 in every plan that has a surgery.
    """

    method: str
    kept_parameters: int
    dropped_parameters: int
    dropped: tuple[str, ...]
    largest_difference: float


@dataclass(frozen=True, kw_only=True)
class ModelPlan:
    """What learns.

    `features` is the width that enters the head, `kind` "map" (N, C, H, W), "vector" (N, C), "ensemble" (N, members, C) or
    "scores" for a module that is taken whole; `node` is where torch.fx cuts ("" elsewhere);
    `channels` are those of the pictures (0 for inputs that are none), `channel_init` the rule of CHANNEL_INITS
    that gave the first convolution its weights for them, or "kept"; `undecayed` are tensors that the
    network itself exempts from weight decay; `body` has the settings of a body that sheer itself makes, from MODEL_SETTINGS.
    With `lora` the stage 0 has all the weights there were, which never train; its settings say what is learnt beside them.
    Of several inputs each has a branch, and `fusion`, from FUSION_SETTINGS, makes one vector of them.
    """

    name: str
    weights: Part
    weights_sha256: str
    licence: str
    kind: str
    node: str
    features: int
    stride: int
    channels: int
    channel_init: str
    surgery: Surgery | None
    head: Part | None
    stages: tuple[Stage, ...]
    undecayed: tuple[str, ...]
    body: Part | None
    fusion: Part | None = None
    lora: Part | None = None
    branches: tuple[Branch, ...] = ()
    origins: tuple[Origin, ...]


@dataclass(frozen=True, kw_only=True)
class Branch:
    """The network of one of several inputs: its body, as `model` without a head; stages have the branch's name before theirs."""

    name: str
    model: ModelPlan


@dataclass(frozen=True, kw_only=True)
class InputPlan:
    """One of several inputs of an item: `kind` is "image", "table" or "text", `reads` names columns of the source.

    `columns` are what a table's columns become, as in `DataPlan`; `missing_train` and `missing_valid` count items that lack it.
    """

    name: str
    kind: str
    reads: tuple[str, ...]
    columns: tuple[Part, ...]
    missing_train: int
    missing_valid: int


@dataclass(frozen=True, kw_only=True)
class DataPlan:
    """What is learned from. `classes` are names of classes, labels or numbers, in the order of the model's outputs.

    `pictures` are in "files", in "memory" as squares of one size, or there are "none".
    Counts are items of each class or label, () for numbers; `listing_sha256` covers relative names and
    sizes in bytes; `bad_files` says what happens to files that cannot be read, `unknown` to held-out items with a label that no item
    to train on has ("raise" or "skip"), `skipped` names those that were left out; `weight` is where what each item's loss counts is
    from: a column, "function:NAME", "given", or "", and `weighted_prior` the shares of the classes or labels, or the means of the
    numbers, of the items to train on by weight, () without; `columns` are what a table's columns become, from COLUMN_KINDS with what
    was fitted on the items to train on, () for no table; `inputs` are those of items that have several, () else; `target` are the columns
    that the targets of a table, of texts or of several inputs are from, () else, `separator` what stands between several labels in one
    of their cells, "" where nothing does; `notes` are sentences about what is odd.
    """

    source: str
    pictures: str
    task: Part
    classes: tuple[str, ...]
    train_items: int
    valid_items: int
    train_counts: tuple[int, ...]
    valid_counts: tuple[int, ...]
    split: Part
    weight: str
    bad_files: str
    unknown: str
    skipped: tuple[str, ...]
    columns: tuple[Part, ...]
    target: tuple[str, ...] = ()
    separator: str = ""
    inputs: tuple[InputPlan, ...] = ()
    weighted_prior: tuple[float, ...] = ()
    listing_sha256: str
    targets_sha256: str
    held_out_sha256: str
    notes: tuple[str, ...]
    origins: tuple[Origin, ...]


@dataclass(frozen=True, kw_only=True)
class Numerics:
    """What could change bits without changing the mathematics."""

    device: str
    threads: int
    memory_format: str
    precision: str
    compile: bool
    deterministic: bool
    origins: tuple[Origin, ...]


@dataclass(frozen=True, kw_only=True)
class Group:
    """One parameter group as the optimiser will get it, or the tensors of a stage that do not train.

    Rates are per step; `sha256` is the first 8 digits over the group's tensors when the plan was
    made, "" where a phase before it changes them.
    """

    stage: str
    kind: str
    tensors: int
    values: int
    trains: bool
    rate_start: float
    rate_peak: float
    rate_end: float
    weight_decay: float
    norm: str
    weights_from: str
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Aside:
    """What a phase that fits its head has no use for, where some of it was given: later phases take that. Fields as in `Phase`, but
    `views`, which are those of its prefix, None where nobody gave them; `origins` are of what was given or measured."""

    weight_decay: float
    augmentation: tuple[Part, ...]
    mix: Part | None
    sampling: str
    clip: float
    accumulate: int
    ema: float
    stop: Part | None
    keep: Part
    views: int | None
    origins: tuple[Origin, ...]


@dataclass(frozen=True, kw_only=True)
class Phase:
    """One stretch of training under one set of decisions.

    `rates` and `norm` have one entry per stage. Stages before `trains_from` are frozen, but for
    what their norm policy lets move (`train`, `adapt` or `frozen`). `prefix` says how what comes before the first
    trained tensor is run: `whole`, with the rest at every step, or `cached`, once an item.

    `loss_mean` is what the sum of a batch's weighted losses is divided by: the sum of their "weights", or the number of "items".

    Off: `class_weights` (), `clip` 0, `accumulate` 0 (else the items of an update, taken in batches of
    `batch_size`), `ema` 0, `stop` None. After `skip_limit` steps in a row (or all of the phase, where
    they are fewer) whose loss or gradients are no finite numbers, none of which was taken, the run stops.
    `resident`: all items lie on the device; no bit depends on it.
    """

    name: str
    epochs: int
    steps_per_epoch: int
    trains_from: int
    rates: tuple[float, ...]
    norm: tuple[str, ...]
    prefix: Part
    schedule: Part
    optimizer: Part
    weight_decay: float
    no_decay: str
    loss: Part
    class_weights: tuple[float, ...]
    loss_mean: str
    sampling: str
    clip: float
    skip_limit: int
    accumulate: int
    ema: float
    stop: Part | None
    keep: Part
    batch_size: int
    last_batch: str
    size: int
    resize: Part
    resident: bool
    augmentation: tuple[Part, ...]
    mix: Part | None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    aside: Aside | None = None
    groups: tuple[Group, ...]
    origins: tuple[Origin, ...]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything that will be done to one model, in order. `print(plan)` is the table; JSON goes out and in.

    With `weighted_metrics` a held-out item counts in every metric what its weight is; else all count alike.
    """

    profile: str
    seed: int
    metrics: tuple[str, ...]
    weighted_metrics: bool
    model: ModelPlan
    data: DataPlan
    numerics: Numerics
    phases: tuple[Phase, ...]
    origins: tuple[Origin, ...]

    def __str__(self) -> str:
        return table.render(self)

    def _repr_html_(self) -> str:
        header, rows = table.overview(self)
        whole = markup.html_text("Every decision, with who made it and why", str(self))
        return markup.html_table(f"Plan {self.short_hash()}: {self.model.name}", header, rows) + whole

    def to_json(self) -> str:
        """The plan as JSON text, indented by two spaces."""
        return json.dumps(document.encode(self), indent=2)

    @staticmethod
    def from_json(text: str) -> Plan:
        """The plan that `to_json` wrote: equal to it, value for value.

        Raises:
            PlanError: the text is no plan, has fields missing or too many, or a decision without an origin.
        """
        plan = document.decode(Plan, document.parse(text), "plan")
        _check_whole(plan)
        return plan

    def decided(self) -> str:
        """What is done, as JSON text: the plan without origins and notes (who decided, why, what is odd), how targets are named and
        written, where its items lie and what is for later phases."""
        return json.dumps(document.encode(self, without=("origins", "notes", "resident", "aside", "target", "separator")), indent=2)

    def steps_before(self, phase: int) -> int:
        """The steps of the phases before number `phase`."""
        return sum(one.epochs * one.steps_per_epoch for one in self.phases[:phase])

    def short_hash(self) -> str:
        """Eight hexadecimal digits of the SHA-256 of what is decided; two plans that do the same have the same."""
        return hashlib.sha256(self.decided().encode()).hexdigest()[:8]


MOST_THREADS = 4096  # far more, and the library of threads ends the process


def _check_whole(plan: Plan) -> None:
    """PlanError where a decision has no origin, or what there is one of for each class or stage is not as many as these."""
    holders: tuple[Plan | ModelPlan | DataPlan | Numerics | Phase, ...] = (plan, plan.model, plan.data, plan.numerics, *plan.phases)
    for holder in holders:
        missing = set(decisions(holder)) - {origin.field for origin in holder.origins}
        if missing:
            names = ", ".join(sorted(missing))
            raise PlanError(f"This plan does not say who decided {names} of its {type(holder).__name__}. Was it edited?")
    classes, stages = len(plan.data.classes), len(plan.model.stages)
    wrong = [name for name in ("train_counts", "valid_counts", "weighted_prior") if len(getattr(plan.data, name)) not in (0, classes)]
    wrong += [name for phase in plan.phases for name in ("rates", "norm") if len(getattr(phase, name)) != stages]
    if wrong or bool(plan.data.train_counts) != bool(plan.data.valid_counts):
        raise PlanError(
            f"This plan has {classes} classes and {stages} stages, and another number of {', '.join(wrong or ['counts'])}. Was it edited?"
        )
    if not 1 <= plan.numerics.threads <= MOST_THREADS:
        raise PlanError(f"This plan asks for {plan.numerics.threads} threads; 1 to {MOST_THREADS} can be had. Was it edited?")


def origin_of(holder: ModelPlan | DataPlan | Numerics | Phase | Plan, field: str) -> Origin:
    """The origin of `field`; a plan's test asserts that every field has one."""
    for origin in holder.origins:
        if origin.field == field:
            return origin
    raise KeyError(field)


def decisions(holder: ModelPlan | DataPlan | Numerics | Phase | Plan) -> tuple[str, ...]:
    """The names of the fields that are decisions: all but those that hold other plan objects."""
    inside = ("origins", "groups", "aside", "model", "data", "numerics", "phases", "surgery", "notes")
    return tuple(field.name for field in fields(holder) if field.name not in inside)
