"""Two set-ups in lock step, from the same weights and on the same items: the first tensor that differs, and what that means."""

from __future__ import annotations

import contextlib
import math
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from sheer.data.sources import Data
from sheer.errors import PlanError
from sheer.plan.recipes import Draft
from sheer.streams import reseed, stream_key
from sheer.study.compare.causes import different_settings, explained
from sheer.study.compare.comparison import Comparison, Finding, Stage
from sheer.study.compare.given import Given, side_of
from sheer.study.compare.keeping import as_found, kept
from sheer.study.compare.layer_causes import layer_pairs
from sheer.study.compare.meeting import Cause, Meeting
from sheer.study.compare.sides import Side
from sheer.study.compare.trace import EnoughError, Recorder, StepTrace, Tensors, state_of

ROUNDING = 4 * torch.finfo(torch.float32).eps
LATER = 100  # from the second step on: Adam divides by gradients, so that rounding grows
FAINT = 0.1  # gradients and statistics below this share of the loudest are compared on its scale: they may be rounding alone


def compare(
    a: Given,
    b: Given,
    *,
    steps: int = 3,
    rtol: float = 1e-4,
    exact: bool = False,
    weights: str = "copy",
    recipe: Sequence[Draft] | None = None,
    data: Data | str | Path | None = None,
) -> Comparison:
    """Run both set-ups for a few updates, record every tensor, and name the first that differs with its cause.

    Either side is a learner (the first phase of its plan, or of `recipe`, from its weights as they are now), the folder of a run,
    an ejected script, a `sheer.Loop` or a tuple (model, loss, optimizer, batches), FILE.py:NAME of one of these, or, on one side,
    a step function (model, loss, optimizer, inputs, target) that is taken with everything else of the other side. A script that
    you name is executed. Both sides are left as they were found, and so are the global random generators. The copies need memory
    for about six times the weights a step.

    Args:
        a, b: What is compared; b is described against a.
        steps: Updates, at least 1; momentum shows from the second one on.
        rtol: Two tensors are equal when they differ by at most this share of the largest value in a's (for parameters, of their
            largest change in the step; for gradients and statistics, at least of a tenth of the largest anywhere); a hundred times wider
            from the second step on, since rounding grows. 0 means bit for bit.
        exact: Bit for bit, the same as rtol=0.
        weights: "copy" gives b the weights of a, where shapes agree by name or else by position; "own" compares them as they are.
        recipe: For learners: what would be run next.
        data: The photographs, or their folder, for scripts and run folders.

    Raises:
        PlanError: a side or a number cannot be what it is.
        DataError: a side's data is missing, or cannot be read.
    """
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise PlanError(f"steps={steps!r}: give a whole number of updates, at least 1.")
    if weights not in ("copy", "own"):
        raise PlanError(f"weights={weights!r}: give 'copy' (b gets a's) or 'own' (as they are).")
    if isinstance(rtol, bool) or not isinstance(rtol, int | float) or not 0 <= rtol < 1:
        raise PlanError(f"rtol={rtol!r}: give a share from 0 (bit for bit) to 1.")
    rtol = 0.0 if exact else float(rtol)
    with as_found():
        one, other = side_of(a, b, recipe, data, start=True), side_of(b, a, recipe, data, start=weights == "own")
        start_a, start_b = state_of(one.model), state_of(other.model)
        names, how, mismatch = paired(start_a, start_b)
        stream = one.stream or other.stream or (0, 0)
        trace_a = _recorded(one, Recorder(steps, *stream), {})
        if trace_a[-1].failed:
            raise PlanError(f"a, the {one.name}, fails by itself at step {len(trace_a)}: {trace_a[-1].failed}. Mend it first.")
        copied = {names[name]: value for name, value in start_a.items() if name in names} if weights == "copy" else {}
        trace_b = _recorded(other, Recorder(steps, *stream), copied)
        found = _Found(one, other, names, rtol)
        if mismatch:
            found.note(0, "model", "architecture", mismatch)
        elif weights == "own":
            found.group(0, "weights", start_a, start_b, Meeting(one, other, trace_a, trace_b, 0, names), "weights")
        found.data(trace_a, trace_b)
        if any(stage.name in ("inputs", "target") and stage.equal < stage.tensors for stage in found.stages):
            found.shared = True
            trace_b = _recorded(other, Recorder(steps, *stream, given=trace_a), copied)
        found.training(trace_a, trace_b)
    count = min(len(trace_a), len(trace_b))
    note = f"{len(copied)} tensors of a copied to b, matched by {how}" if weights == "copy" else "weights as they are"
    return Comparison(
        a=one.name,
        b=other.name,
        steps=count,
        tolerance="bit for bit" if not rtol else f"within {rtol:g} of a tensor's largest value",
        weights=note,
        stages=tuple(found.stages),
        findings=tuple(found.findings),
        settings=tuple(different_settings(Meeting(one, other, trace_a, trace_b, 0, names))) if count else (),
    )


def paired(a: Tensors, b: Tensors) -> tuple[dict[str, str], str, str]:
    """Which tensor of b is which of a, how they were matched (name, position), and what does not fit ("" where all does).

    >>> one = torch.zeros(1)
    >>> paired({"x": one}, {"y": one})
    ({'x': 'y'}, 'position', '')
    """
    both = [name for name in a if name in b]
    if 2 * len(both) > len(a):
        other = [name for name in both if a[name].shape != b[name].shape]
        wrong = [f"{name} is {tuple(a[name].shape)} in a and {tuple(b[name].shape)} in b" for name in other]
        wrong += [f"only {side} has {name}" for side, mine, yours in (("a", a, b), ("b", b, a)) for name in mine if name not in yours]
        said = f"{'; '.join(wrong[:3])} ({len(wrong)} such)" if wrong else ""
        return {name: name for name in both if name not in other}, "name", said
    names: dict[str, str] = {}
    for mine, yours in zip(a, b, strict=False):
        if a[mine].shape != b[yours].shape:
            said = f"tensor {len(names)} is {mine} {tuple(a[mine].shape)} in a and {yours} {tuple(b[yours].shape)} in b"
            return names, "position", said
        names[mine] = yours
    longer = list(a)[len(names) :] or list(b)[len(names) :]
    said = f"a has {len(a)} tensors and b {len(b)}: only one has {longer[0]}" if longer else ""
    return names, "position", said


def _recorded(side: Side, recorder: Recorder, weights: Tensors) -> list[StepTrace]:
    """The side's first steps, from `weights` where they are given; the side is left as it was found."""
    with kept(side.model), contextlib.suppress(EnoughError):
        _take(side.model, weights)
        seed = stream_key(recorder.seed, "compare")
        reseed(seed, next(side.model.parameters()).device)
        np.random.seed(seed % 2**32)
        random.seed(seed)
        side.run(recorder.wrap)
    if not recorder.steps:
        raise PlanError(f"The {side.name} made no step: it has no batches.")
    return recorder.steps


@torch.no_grad()
def _take(model: nn.Module, weights: Tensors) -> None:
    own = model.state_dict(keep_vars=True)
    for name, value in weights.items():
        own[name].copy_(value)


def _largest(tensor: torch.Tensor) -> float:
    """The largest finite absolute value, 0 where there is none."""
    return float(tensor.abs().nan_to_num(0.0, posinf=0.0).max()) if tensor.numel() else 0.0


class _Found:
    """Collects stages, and the first finding of each of three parts: model, data, training."""

    def __init__(self, one: Side, other: Side, names: dict[str, str], rtol: float) -> None:
        self.one, self.other, self.names, self.rtol = one, other, names, rtol
        self.stages: list[Stage] = []
        self.findings: list[Finding] = []
        self.shared = False

    def note(self, step: int, stage: str, cause: str, evidence: str, tensor: str = "") -> None:
        self.findings.append(Finding(step=step, stage=stage, tensor=tensor, cause=cause, evidence=evidence))

    def group(self, step: int, name: str, a: Tensors, b: Tensors, meeting: Meeting, kind: str, slack: Tensors | None = None) -> bool:
        """Compare tensors under a's names (b's under `names`, or the same); True where all are equal. `kind` picks the explanation."""
        pairs = [(mine, a.get(mine), b.get(self.names.get(mine, mine))) for mine in {**a, **{self._of_a(n): None for n in b}}]
        loudest = max((_largest(t) for t in a.values() if t.is_floating_point()), default=0.0)
        rtol, largest, wrong = self.rtol * (LATER if step > 1 else 1), 0.0, list[str]()
        for mine, x, y in pairs:
            if x is None or y is None or x.shape != y.shape:
                wrong.append(mine)
                largest = math.inf
                continue
            if (x.dtype == y.dtype and torch.equal(x, y)) or not x.numel():
                continue
            x, y = x.double(), y.to(x.device).double()
            equal = (x == y) | (x.isnan() & y.isnan())
            if bool(equal.all()) and a[mine].dtype == b[self.names.get(mine, mine)].dtype:
                continue  # no number on both sides, which torch.equal takes for a difference
            apart, scale = torch.where(equal, 0.0, (x - y).abs().nan_to_num(math.inf)), _largest(x)
            if name in ("gradient", "gradient at the update", "buffer"):
                scale = max(scale, FAINT * loudest)
            room = torch.as_tensor(rtol * scale)
            if slack is not None and mine in slack and rtol:
                room = rtol * slack[mine].abs().max() + slack[mine].abs().max() * slack[f"{mine} noise"] + ROUNDING * scale
            if not bool((apart <= room).all()) or not rtol:
                wrong.append(mine)
                largest = max(largest, float(apart.max()))
        stage = Stage(
            step=step,
            name=name,
            tensors=len(pairs),
            equal=len(pairs) - len(wrong),
            difference=largest,
            first=(wrong or [""])[0],
            shared=self.shared,
        )
        self.stages.append(stage)
        if wrong and not meeting.done:
            cause: Cause = explained(kind, meeting, wrong)
            self.note(step, name, cause.name, cause.evidence, cause.tensor if cause.tensor is not None else wrong[0])
            meeting.done = True
        return not wrong

    def _of_a(self, name: str) -> str:
        return next((mine for mine, yours in self.names.items() if yours == name), name)

    def data(self, a: list[StepTrace], b: list[StepTrace]) -> None:
        """Items, data steps, inputs and targets."""
        done = False
        for step, (x, y) in enumerate(zip(a, b, strict=False), 1):
            meeting = Meeting(self.one, self.other, a, b, step - 1, self.names, done=done)
            if len(self.one.items) >= step and len(self.other.items) >= step:
                mine, yours = self.one.items[step - 1], self.other.items[step - 1]
                same = sum(p == q for p, q in zip(mine, yours, strict=False))
                total = max(len(mine), len(yours))
                place = next((n for n, (p, q) in enumerate(zip(mine, yours, strict=False)) if p != q), same)
                self.stages.append(
                    Stage(
                        step=step,
                        name="items",
                        tensors=total,
                        equal=same,
                        difference=math.nan,
                        first=f"place {place}" * (same < total),
                        shared=False,
                    )
                )
                if same < total and not meeting.done:
                    cause = explained("items", meeting, [])
                    self.note(step, "items", cause.name, cause.evidence)
                    meeting.done = True
            if step == 1:
                photo = self.one.photo or self.other.photo
                if photo and not (self.one.photo and self.other.photo):
                    self.one.looks, self.other.looks = list(self.one.looks_of(photo)), list(self.other.looks_of(photo))
                looks = dict(self.other.looks)
                for name, look in self.one.looks:
                    if name in looks:
                        self.group(1, name, {"": look}, {"": looks[name]}, meeting, name)
            self.group(step, "inputs", *_both("", x.inputs, y.inputs), meeting, "inputs")
            self.group(step, "target", {"": x.target}, {"": y.target}, meeting, "target")
            done = meeting.done

    def training(self, a: list[StepTrace], b: list[StepTrace]) -> None:
        """Layers, logits, loss, gradients, buffers, parameters, step by step."""
        done, noise = False, dict[str, torch.Tensor]()
        for step, (x, y) in enumerate(zip(a, b, strict=False), 1):
            meeting = Meeting(self.one, self.other, a, b, step - 1, self.names, done=done)
            if step == 1:
                pairs = layer_pairs(meeting)
                self.group(1, "layer", {n: p for n, p, _ in pairs}, {self.names.get(n, n): q for n, _, q in pairs}, meeting, "layer")
            if y.failed:
                self.stages.append(
                    Stage(step=step, name="step", tensors=1, equal=0, difference=math.inf, first="b fails", shared=self.shared)
                )
                if not meeting.done:
                    self.note(step, "step", "failure", f"b fails with {y.failed}")
                return
            self.group(step, "logits", *_both("", x.logits, y.logits), meeting, "logits")
            self.group(step, "loss", *_both("", x.loss, y.loss), meeting, "loss")
            self.group(step, "gradient", x.backward, y.backward, meeting, "gradient")
            if any(t.gradients.get(n) is not t.backward.get(n) for t in (x, y) for n in t.gradients):
                self.group(step, "gradient at the update", x.gradients, y.gradients, meeting, "update gradient")
            parameters = [name for name in x.state if name in x.trains]
            slack: Tensors = {}
            for name in parameters:
                mine, yours = x.gradients.get(name), y.gradients.get(self.names.get(name, name))
                if mine is not None and yours is not None and mine.shape == yours.shape:
                    ratio = ((mine.double() - yours.double()).abs() / mine.double().abs()).nan_to_num(0.0, posinf=2.0)
                    noise[name] = noise.get(name, torch.zeros(())) + 4 * ratio
                slack[name] = x.state[name].double() - x.before[name].double()
                slack[f"{name} noise"] = noise.get(name, torch.zeros(()))
            buffers = {name: t for name, t in x.state.items() if name not in x.trains}
            yours_buffers = {name: t for name, t in y.state.items() if name not in y.trains}
            if buffers or yours_buffers:
                self.group(step, "buffer", buffers, yours_buffers, meeting, "buffer")
            mine_all = {name: x.state[name] for name in parameters}
            self.group(step, "parameter", mine_all, {n: t for n, t in y.state.items() if n in y.trains}, meeting, "parameter", slack)
            done = meeting.done


def _both(name: str, a: torch.Tensor | None, b: torch.Tensor | None) -> tuple[Tensors, Tensors]:
    """Two tensors as groups of one; empty where one side has none."""
    return ({name: a}, {name: b}) if a is not None and b is not None else ({}, {})
