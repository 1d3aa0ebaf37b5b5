"""What an ablation measured: effects of single decisions, a waterfall, and every variant's outcome; as text, Markdown and HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from sheer.plan.markup import html_text
from sheer.plan.table import columns
from sheer.study.ablate.statistics import half_width, paired_p
from sheer.study.ablate.variants import Outcome
from sheer.study.diff.decisions import Change
from sheer.study.diff.influence import Influence


@dataclass(frozen=True, kw_only=True)
class Effect:
    """One variant against another over the seeds that both finished: `name` against `against`.

    `mean` is the metric's mean difference, `half` half of its 95 % interval over seeds (None: one seed), `p_seeds` the paired t
    test over seeds, `p_items` that over held-out items (each item's score averaged over seeds), `seconds` the mean cost.
    """

    name: str
    against: str
    mean: float
    half: float | None
    p_seeds: float | None
    p_items: float | None
    seconds: float
    seeds: int

    def verdict(self) -> str:
        """Higher, lower, or smaller than noise: of seeds where their interval holds 0, of items where p over them is at least .05.

        Few seeds can agree by chance and leave no interval to speak of; the items then still say how little was seen.
        """
        if self.half is None:
            return "one seed says nothing of noise"
        if abs(self.mean) <= self.half:
            return "smaller than seed noise"
        if self.p_items is not None and self.p_items >= 0.05:
            return "smaller than item noise"
        return "higher" if self.mean > 0 else "lower"


@dataclass(frozen=True, kw_only=True)
class Ablation:
    """What was measured. `effects` are single changes of `a`, `steps` the waterfall from `a` to `b`, each against the step before.

    `outcomes` has every variant by name, one outcome a seed, failed ones included. `left_out` says which decisions were not
    changed, and why.
    """

    a: str
    b: str
    metric: str
    items: int
    changes: tuple[Change, ...]
    effects: tuple[Effect, ...]
    steps: tuple[Effect, ...]
    whole: Effect | None
    left_out: tuple[str, ...]
    outcomes: Mapping[str, tuple[Outcome, ...]]

    def remainder(self) -> float | None:
        """What single changes do not add up to: the whole way from a to b minus their sum; interactions, and noise."""
        return (
            None if self.whole is None or len(self.effects) < len(self.changes) else self.whole.mean - sum(one.mean for one in self.effects)
        )

    def failed(self) -> list[str]:
        """A sentence for each variant and seed that failed."""
        return [
            f"{name}, seed {one.variant.seed}, failed: {one.failed}" for name, ones in self.outcomes.items() for one in ones if one.failed
        ]

    def level(self, name: str) -> str:
        """A variant's mean metric with its interval over seeds."""
        values = [one.metrics[self.metric] for one in self.outcomes[name] if not one.failed]
        if not values:
            return "failed"
        half = half_width(values)
        return f"{fmean(values):.4f}" + ("" if half is None else f" ± {half:.4f}")

    def header(self) -> tuple[str, ...]:
        """The columns of the table of effects."""
        return ("decision", "from", "to", self.metric, "difference", "p seeds", "p items", "seconds", "verdict")

    def rows(self) -> list[list[str]]:
        """The plan `a`, then a row a decision changed alone, the largest difference first."""
        by_name = {change.decision: change for change in self.changes}
        rows = [["(none)", self.a, "", self.level(self.a), "", "", "", _seconds(self.outcomes[self.a]), ""]]
        for one in sorted(self.effects, key=lambda effect: -abs(effect.mean)):
            places = by_name[one.name].places
            before, after = (" / ".join(dict.fromkeys(texts)) for texts in ((p.a for p in places), (p.b for p in places)))
            rows.append([one.name, before, after, self.level(one.name), *_cells(one)])
        return rows

    def step_rows(self) -> list[list[str]]:
        """The waterfall: where it starts, a row a step, and where it ends."""
        rows = [[self.a, self.level(self.a), "", "", "", _seconds(self.outcomes[self.a]), ""]]
        return rows + [[f"+ {one.name}", self.level(upto(one.name)), *_cells(one)] for one in self.steps]

    def notes(self) -> list[str]:
        """Sentences below the tables."""
        said = []
        if self.whole is not None:
            said.append(
                f"From {self.a} to {self.b}: {_difference(self.whole)}, {self.whole.verdict()}"
                f"{_p(', p over seeds', self.whole.p_seeds)}{_p(', over items', self.whole.p_items)}."
            )
        rest = self.remainder()
        if rest is not None:
            said.append(f"Single changes add up to {sum(one.mean for one in self.effects):+.4f}; interactions (and noise): {rest:+.4f}.")
        return [*said, *self.left_out, *self.failed()]

    def title(self) -> str:
        """One line: the sides, the seeds and the items that everything is judged on."""
        seeds = ", ".join(str(one.variant.seed) for one in self.outcomes[self.a])
        return f"{self.a} towards {self.b}: {self.metric} on {self.items} held-out items, seeds {seeds}"

    def __str__(self) -> str:
        short = [[cell if len(cell) <= 44 else cell[:41] + "..." for cell in row] for row in self.rows()]
        parts = [self.title(), "", "One decision changed at a time", columns(self.header(), short, right=(3, 4, 5, 6, 7))]
        if self.steps:
            header = ("step", self.metric, "difference", "p seeds", "p items", "seconds", "verdict")
            parts += ["", "Waterfall: changes on top of each other", columns(header, self.step_rows(), right=(1, 2, 3, 4, 5))]
        return "\n".join([*parts, "", *self.notes()])

    def markdown(self) -> str:
        """Both tables and the notes as Markdown."""
        lines = [self.title() + ".", "", *_table(self.header(), self.rows())]
        if self.steps:
            lines += ["", "Changes on top of each other:", ""]
            lines += _table(("step", self.metric, "difference", "p seeds", "p items", "seconds", "verdict"), self.step_rows())
        return "\n".join([*lines, "", *(f"- {note}" for note in self.notes())]) + "\n"

    def _repr_html_(self) -> str:
        return html_text(self.title(), str(self))

    def influences(self, source: str) -> tuple[Influence, ...]:
        """The single changes as what `sheer.diff` ranks by."""
        by_name = {change.decision: change for change in self.changes}
        return tuple(
            Influence(
                decision=one.name,
                change=by_name[one.name].key(),
                metric=self.metric,
                mean=one.mean,
                low=None if one.half is None else one.mean - one.half,
                high=None if one.half is None else one.mean + one.half,
                seeds=one.seeds,
                source=source,
            )
            for one in self.effects
        )


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [header, ["---"] * len(header), *rows]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in lines]


def _difference(effect: Effect) -> str:
    return f"{effect.mean:+.4f}" + ("" if effect.half is None else f" ± {effect.half:.4f}")


def _p(label: str, value: float | None) -> str:
    return "" if value is None else f"{label} {value:.3g}"


def _cells(effect: Effect) -> list[str]:
    p_seeds, p_items = _p("", effect.p_seeds).strip(), _p("", effect.p_items).strip()
    return [_difference(effect), p_seeds, p_items, f"{effect.seconds:.1f}", effect.verdict()]


def _seconds(outcomes: Sequence[Outcome]) -> str:
    done = [one.seconds for one in outcomes if not one.failed]
    return f"{fmean(done):.1f}" if done else ""


def upto(name: str) -> str:
    """What a step of the waterfall is called among the variants."""
    return f"up to {name}"


def effect_of(name: str, outcomes: Sequence[Outcome], against: str, others: Sequence[Outcome], metric: str) -> Effect | None:
    """One variant against another over the seeds that both finished; None where there is none."""
    both = [(one, other) for one, other in zip(outcomes, others, strict=True) if not one.failed and not other.failed]
    if not both:
        return None
    gaps = [one.metrics[metric] - other.metrics[metric] for one, other in both]
    items = np.mean([one.items - other.items for one, other in both], axis=0).tolist()
    return Effect(
        name=name,
        against=against,
        mean=fmean(gaps),
        half=half_width(gaps),
        p_seeds=paired_p(gaps),
        p_items=paired_p(items),
        seconds=fmean(one.seconds for one, _ in both),
        seeds=len(both),
    )
