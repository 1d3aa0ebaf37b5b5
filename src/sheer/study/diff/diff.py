"""`sheer.diff`: every resolved decision that differs between two plans, runs, learners or profiles."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass, replace
from html import escape

from sheer.errors import PlanError, nearest
from sheer.plan.table import WIDTH, columns
from sheer.study.diff.decisions import TOUCHES, Change, Place, changes
from sheer.study.diff.influence import Influence, influence_of, recorded
from sheer.study.diff.published import PUBLISHED
from sheer.study.diff.towards import Compared, Side, compared

UNKNOWN = "not measured"


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A decision taken differently, and what that was measured to be worth; None: nobody measured it."""

    change: Change
    influence: Influence | None

    def places(self) -> tuple[Place, ...]:
        """Where it differs; one place in every phase where all differ alike."""
        alike = len({(place.a, place.b) for place in self.change.places}) == 1
        return (replace(self.change.places[0], phase="every"),) if alike and len(self.change.places) > 1 else self.change.places

    def worth(self) -> str:
        """The influence in words."""
        return str(self.influence) if self.influence else UNKNOWN


@dataclass(frozen=True, kw_only=True)
class Differences:
    """What two plans decide differently, grouped by what it touches, most influential first. `print` it, or take `markdown()`.

    `scores` are the last scores of both sides where both were trained, "" elsewhere.
    """

    a: str
    b: str
    scores: str
    differences: tuple[Difference, ...]

    def __len__(self) -> int:
        return len(self.differences)

    def about(self, decision: str) -> Difference:
        """The difference in that decision.

        Raises:
            PlanError: they agree in it, or nothing is called so.
        """
        for one in self.differences:
            if one.change.decision == decision:
                return one
        names = [one.change.decision for one in self.differences]
        raise PlanError(f"{self.a} and {self.b} do not differ in {decision!r}. {nearest(decision, names) if names else 'They are equal.'}")

    def grouped(self) -> dict[str, list[Difference]]:
        """What is touched to its differences; what was measured to matter most comes first, the rest in a fixed order."""
        groups: dict[str, list[Difference]] = {}
        for one in sorted(self.differences, key=_rank):
            groups.setdefault(one.change.touches, []).append(one)
        return groups

    def title(self) -> str:
        """One line: the sides, and how many decisions differ."""
        count = len(self)
        return f"{self.a} against {self.b}: " + (
            f"{count} decision{'s' * (count != 1)} differ{'s' * (count == 1)}" if count else "no decision differs"
        )

    def __str__(self) -> str:
        lines = [self.title(), *([self.scores] if self.scores else [])]
        for group, members in self.grouped().items():
            rows = [row for one in members for row in self._rows(one)]
            lines += ["", group, columns(("decision", "phase", self.a, self.b), rows)]
            for one in members:
                lines += _wrapped(f"{one.change.decision}: {one.worth()}.", "  ")
                for who, why in self._reasons(one):
                    lines += _wrapped(f"{who}: {why}", "      ")
        return "\n".join(lines)

    def _rows(self, one: Difference) -> list[list[str]]:
        return [[one.change.decision, place.phase, _short(place.a), _short(place.b)] for place in one.places()]

    def _reasons(self, one: Difference) -> list[tuple[str, str]]:
        place = one.change.places[0]
        return [(who, why) for who, why in ((self.a, place.why_a), (self.b, place.why_b)) if why]

    def markdown(self) -> str:
        """The same as Markdown: a table a group."""
        lines = [f"# {self.title()}", *(["", self.scores] if self.scores else [])]
        for group, members in self.grouped().items():
            lines += ["", f"## {group.capitalize()}", "", f"| decision | phase | {self.a} | {self.b} | worth |", "|---|---|---|---|---|"]
            for one in members:
                for index, place in enumerate(one.places()):
                    cells = [
                        f"`{one.change.decision}`",
                        place.phase,
                        f"`{place.a}`",
                        f"`{place.b}`",
                        "" if index else one.worth(),
                    ]
                    lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
            lines += ["", *(f"- `{one.change.decision}`, {who}: {why}" for one in members for who, why in self._reasons(one))]
        return "\n".join(lines) + "\n"

    def _repr_html_(self) -> str:
        parts = [f"<h3>{escape(self.title())}</h3>", f"<p>{escape(self.scores)}</p>" if self.scores else ""]
        for group, members in self.grouped().items():
            head = "".join(f"<th>{escape(cell)}</th>" for cell in ("decision", "phase", self.a, self.b, "worth"))
            rows = [[*row, one.worth()] for one in members for row in self._rows(one)]
            body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
            parts.append(f"<h4>{escape(group)}</h4><table><tr>{head}</tr>{body}</table>")
        return "".join(parts)


def _rank(one: Difference) -> tuple[float, int]:
    """Measured ones by size, largest first; then by what they touch."""
    return (-abs(one.influence.mean) if one.influence else 1.0, list(TOUCHES).index(one.change.touches))


def _short(text: str) -> str:
    return textwrap.shorten(text, 60, placeholder=" ...") if " " in text[:56] else text if len(text) <= 60 else f"{text[:16]} ..."


def _wrapped(text: str, indent: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=indent, subsequent_indent=indent + "  ", break_long_words=False)


def diff(a: Side, b: Side) -> Differences:
    """Every resolved decision that differs between `a` and `b`: plans, run folders, learners, or names of profiles.

    A profile stands for what it would do with the other side's model and data, given what you gave; two profiles are compared on
    the default network and 1,000 photographs in ten classes. Phases are matched by position, or by whether the head trains alone.
    Influence is what an ablation in the run folder measured, or a published one; else it is said that nobody measured it.

    Raises:
        PlanError: a side is none of these, or a profile cannot be resolved for the other side's model.
        RunError: a folder is no finished run.
    """
    left, right = compared(a, b)
    published = PUBLISHED if left.plan.data.pictures != "none" else ()  # what was measured with photographs says nothing of others
    known = [*(one for side in (left, right) if side.folder for one in recorded(side.folder)), *published]
    found = tuple(Difference(change=change, influence=influence_of(change, known)) for change in changes(left.plan, right.plan))
    return Differences(a=left.title, b=right.title, scores=_scores(left, right, len(found)), differences=found)


def _scores(left: Compared, right: Compared, count: int) -> str:
    """The last epoch's scores by the first metric, where both sides were trained."""
    metric = left.plan.metrics[0]
    if not left.rows or not right.rows or metric not in right.rows[-1].metrics:
        return ""
    one, other = left.rows[-1].metrics[metric], right.rows[-1].metrics[metric]
    tie = " Scores as close as these say nothing about equal set-ups." if count and abs(one - other) < 0.02 else ""
    return f"{metric}: {left.title} {one:.4f}, {right.title} {other:.4f}.{tie}"
