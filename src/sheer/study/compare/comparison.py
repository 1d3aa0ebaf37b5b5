"""The report of a comparison: stages, findings, settings."""

from __future__ import annotations

import math
from dataclasses import dataclass

from sheer.plan.markup import html_table, html_text
from sheer.plan.table import columns


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One kind of tensor at one step: how many there are, how many are equal, the largest difference, the first that differs.

    `difference` is absolute; infinite where a tensor is missing or of another shape, NaN where there are no numbers. Step 0 is
    before training. `shared` says that b was given a's batches.
    """

    step: int
    name: str
    tensors: int
    equal: int
    difference: float
    first: str
    shared: bool


@dataclass(frozen=True, kw_only=True)
class Finding:
    """The first tensor that differs: at which step and stage, its name in a and in b; the cause, and the evidence in words.

    `cause` is "unknown" where nothing that is known explains the numbers.
    """

    step: int
    stage: str
    tensor: str
    cause: str
    evidence: str

    def __str__(self) -> str:
        where = f" {self.tensor}" if self.tensor else ""
        return f"step {self.step}, {self.stage}{where}: {self.cause}. {self.evidence}"


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What `compare` found. `print(comparison)` is the report.

    `findings` has at most three: what differs in the models before training, the first difference in the data, and the first
    one behind the data, found on a's batches for both. `settings` are all settings that were read and differ, whether or not a
    tensor has shown it within these steps.
    """

    a: str
    b: str
    steps: int
    tolerance: str
    weights: str
    stages: tuple[Stage, ...]
    findings: tuple[Finding, ...]
    settings: tuple[str, ...]

    @property
    def equal(self) -> bool:
        """Whether every tensor is equal, and every setting that was read."""
        return not self.findings and not self.settings

    @property
    def first(self) -> Finding | None:
        """The first finding, None where there is none."""
        return self.findings[0] if self.findings else None

    def table(self) -> tuple[tuple[str, ...], list[list[str]]]:
        """Header and rows of text, a row a stage."""
        rows = []
        for stage in self.stages:
            known = stage.equal < stage.tensors and not math.isnan(stage.difference)  # items have no difference: they are other ones
            difference = "" if not known else "shapes differ" if math.isinf(stage.difference) else f"{stage.difference:.2g}"
            note = stage.name + (" (on a's batches)" if stage.shared else "")
            rows.append([str(stage.step), note, f"{stage.equal} of {stage.tensors}", difference, stage.first])
        return ("step", "stage", "equal", "largest difference", "first that differs"), rows

    def _said(self) -> list[str]:
        lines = [f"First difference: {finding}" if not n else f"Then: {finding}" for n, finding in enumerate(self.findings)]
        lines += [] if lines else [f"No tensor differs in {self.steps} steps."]
        return lines + ["Settings that differ:", *(f"  {line}" for line in self.settings)] if self.settings else lines

    def __str__(self) -> str:
        header, rows = self.table()
        head = [f"a: {self.a}", f"b: {self.b}", f"{self.steps} steps, {self.tolerance}; {self.weights}"]
        return "\n".join([*head, columns(header, rows, right=(0, 2, 3)), *self._said()])

    def _repr_html_(self) -> str:
        header, rows = self.table()
        return html_table(f"{self.a} against {self.b}", header, rows, note=" ".join(self._said()[:1])) + html_text("All of it", str(self))
