"""A run between two steps: everything that it needs to go on to the same bits, in memory and as a committed folder.

weights.safetensors   the model's tensors        record.json   as of a finished run, but for why it stopped
plan.json             the whole plan             state.json    where it stands, and what its phase carries
history.csv           the rows so far            carried.safetensors   the tensors of what its phase carries

What a phase carries is a tree of dictionaries, lists, tuples, plain values and tensors, so that no kind of
phase, optimiser or average needs code of its own here. Tensors come back with their strides: kernels
that run over memory would pair other values, and others might round otherwise.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from sheer.errors import RunError
from sheer.model.hashing import tensors_sha256
from sheer.plan.document import encode, parse
from sheer.plan.plan import Plan
from sheer.record.run import Event, Module, Record, Row, Run, history_text, make_record, read_run

FORMAT = 1
# what a state that was written by something else can raise, whose sums are right all the same
BAD_STATE = (OSError, SafetensorError, ValueError, TypeError, LookupError, AttributeError, RuntimeError, OverflowError)
NOTHING, COMPLETED = "nothing was trained", "plan completed"


@dataclass(kw_only=True)
class RunState:
    """Where a fit stands, and what came of it so far; the loop moves it.

    `first` is the phase with which this fit began; batch number `batch` of epoch number `epoch` of phase number `phase` comes
    next, each counted from 0. `rows` and `events` are those of the whole run, `stop` is why the fits before this one ended.
    `weights` are the model's tensors by name where they are kept here, `carried` what the phase carries, None at its beginning.
    """

    plan: Plan
    first: int
    phase: int
    epoch: int = 0
    batch: int = 0
    rows: list[Row] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    stop: str = ""
    seconds: float = 0.0
    data_sha256: str = ""
    own_module: Module | None = None
    own_head: Module | None = None
    weights: dict[str, torch.Tensor] = field(default_factory=dict)
    carried: Any = None

    @property
    def step(self) -> int:
        """The steps of the plan that are done; those that an early end left away count as done."""
        per_epoch = sum(phase.steps_per_epoch for phase in self.plan.phases[self.phase : self.phase + 1])
        return self.plan.steps_before(self.phase) + self.epoch * per_epoch + self.batch

    def kept(self, model: nn.Module, carried: Any, seconds: float) -> RunState:
        """The state with the model's weights, on the CPU, sharing nothing with what the loop moves; `seconds` have passed since."""
        weights = {name: copied(tensor) for name, tensor in model.state_dict().items()}
        rows, events, seconds = list(self.rows), list(self.events), self.seconds + seconds
        return replace(self, rows=rows, events=events, seconds=seconds, weights=weights, carried=copied(carried))

    def record(self, stop: str) -> Record:
        """The record of the run with the weights that are kept here."""
        return make_record(
            plan=self.plan,
            rows=self.rows,
            events=self.events,
            weights_sha256=tensors_sha256(self.weights.values()),
            data_sha256=self.data_sha256,
            stop_reason=stop,
            seconds=self.seconds,
            own_module=self.own_module,
            own_head=self.own_head,
        )

    def files(self) -> dict[str, Callable[[], bytes]]:
        """The files of a checkpoint by name, each made when it is asked for."""
        tensors: dict[str, torch.Tensor] = {}
        values = {
            "format": FORMAT,
            **{name: getattr(self, name) for name in ("first", "phase", "epoch", "batch", "step", "stop")},
            "carried": packed(self.carried, tensors, "carried"),
        }
        unfinished = f"unfinished: {self.step} of {self.plan.steps_before(len(self.plan.phases))} steps are done"
        return {
            "carried.safetensors": lambda: save(tensors),
            "state.json": lambda: json.dumps(values).encode(),
            **self.finished_files(unfinished),
        }

    def finished_files(self, stop: str) -> dict[str, Callable[[], bytes]]:
        """The files of a finished run by name."""
        return {
            "weights.safetensors": lambda: save({name: tensor.contiguous() for name, tensor in self.weights.items()}),
            "plan.json": lambda: self.plan.to_json().encode(),
            "history.csv": lambda: history_text(self.plan, self.rows).encode(),
            "record.json": lambda: json.dumps(encode(self.record(stop)), indent=2).encode(),
        }


def joined_reasons(before: str, now: str) -> str:
    """Why the fits so far ended: early ends are kept, and a run that was stopped once never counts as completed."""
    if before == NOTHING:
        return now
    if not before.startswith(COMPLETED):
        return f"{before}; then {now}"
    early = before.removeprefix(COMPLETED)
    return COMPLETED + early + now.removeprefix(COMPLETED) if now.startswith(COMPLETED) else now + early


def copied(tree: Any) -> Any:
    """The tree with every tensor copied to the CPU, strides kept."""
    if isinstance(tree, torch.Tensor):
        return tree.detach().cpu().clone(memory_format=torch.preserve_format) if tree.device.type == "cpu" else tree.detach().cpu()
    if isinstance(tree, dict):
        return {key: copied(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return type(tree)(copied(value) for value in tree)
    return tree


def packed(tree: Any, tensors: dict[str, torch.Tensor], name: str) -> Any:
    """The tree as JSON values; its tensors go into `tensors` under their path.

    Raises:
        TypeError: something in it is neither a tensor nor plain.
    """
    if isinstance(tree, torch.Tensor):
        tensors[name] = tree.contiguous()
        return {"tensor": name, "strides": list(tree.stride())}
    if isinstance(tree, dict):
        return {"dict": [[key, packed(value, tensors, f"{name}.{key}")] for key, value in tree.items()]}
    if isinstance(tree, list | tuple):
        parts = [packed(value, tensors, f"{name}.{number}") for number, value in enumerate(tree)]
        return parts if isinstance(tree, list) else {"tuple": parts}
    if tree is None or isinstance(tree, bool | int | float | str):
        return tree
    raise TypeError(f"{name} is a {type(tree).__name__}, which a checkpoint cannot keep")


def unpacked(tree: Any, tensors: dict[str, torch.Tensor]) -> Any:
    """What `packed` was given."""
    if isinstance(tree, list):
        return [unpacked(value, tensors) for value in tree]
    if not isinstance(tree, dict):
        return tree
    if "tensor" in tree:
        flat = tensors[tree["tensor"]]
        if sum((size - 1) * stride for size, stride in zip(flat.shape, tree["strides"], strict=True)) >= max(flat.numel(), 1):
            raise ValueError(f"{tree['tensor']} would lie with gaps")
        return torch.empty_strided(flat.shape, tree["strides"], dtype=flat.dtype).copy_(flat)
    if "tuple" in tree:
        return tuple(unpacked(value, tensors) for value in tree["tuple"])
    return {key: unpacked(value, tensors) for key, value in tree["dict"]}


def read_checkpoint(path: Path) -> RunState:
    """The state in a committed folder that verifies.

    Raises:
        RunError: it was written by another version, or is no checkpoint.
    """
    run = read_run(path)
    try:
        values = parse((path / "state.json").read_text())
        if values["format"] != FORMAT:
            raise RunError(f"{path} is of format {values['format']}; this sheer reads {FORMAT}. Use sheer {run.record.sheer}.")
        carried = unpacked(values["carried"], load_file(path / "carried.safetensors"))
        place = {name: int(values[name]) for name in ("first", "phase", "epoch", "batch")}
        if not 0 <= place["first"] <= place["phase"] < len(run.plan.phases):
            raise ValueError(f"there is no place {place} in its plan")
        phase = run.plan.phases[place["phase"]]
        if not (0 <= place["epoch"] <= phase.epochs and 0 <= place["batch"] <= phase.steps_per_epoch):
            raise ValueError(f"there is no place {place} in its plan")
        return state_of(run, load_file(path / "weights.safetensors"), stop=str(values["stop"]), carried=carried, **place)
    except BAD_STATE as error:
        raise RunError(
            f"{path} is no checkpoint that this sheer can read ({error!r}); it was written by sheer {run.record.sheer}."
        ) from error


def state_of(
    run: Run, weights: dict[str, torch.Tensor], *, first: int, phase: int, epoch: int, batch: int, stop: str, carried: Any
) -> RunState:
    """The state that a run's record, rows and weights make at this place of its plan."""
    return RunState(
        plan=run.plan,
        first=first,
        phase=phase,
        epoch=epoch,
        batch=batch,
        rows=list(run.rows),
        events=list(run.record.events),
        stop=stop,
        seconds=run.record.seconds,
        data_sha256=run.record.data_sha256,
        own_module=run.record.own_module,
        own_head=run.record.own_head,
        weights=weights,
        carried=carried,
    )
