"""A plan as a walk-through in words: each sentence with the plan value, who decided it, and the line of the script that does it."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path

from sheer.errors import PlanError, SheerError, nearest
from sheer.learner import Learner
from sheer.plan.checks import check_objects
from sheer.plan.plan import Origin, Plan
from sheer.plan.profiles import profile_named
from sheer.plan.table import WIDTH, columns
from sheer.record.run import read_run
from sheer.study.diff.diff import diff
from sheer.study.explain import data_sentences, phases, rates, sentences
from sheer.study.explain.script_lines import line_of, objects_of, script_of
from sheer.study.explain.words import Sentence, Words


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """The sentences in order. `print` gives text, `markdown()` Markdown; a notebook shows HTML.

    `no_script` says why the plan cannot be ejected, "" where it can; then no sentence has a line.
    """

    title: str
    no_script: str
    sentences: tuple[Sentence, ...]

    def about(self, value: str) -> tuple[Sentence, ...]:
        """The sentences about a plan value by its dotted path, such as `model.head` or `phases[0].norm`.

        Raises:
            PlanError: the plan has no such value.
        """
        found = tuple(
            one for one in self.sentences if any(name == value or name.startswith((f"{value}.", f"{value}[")) for name in one.values)
        )
        if not found:
            said = nearest(value, {name for one in self.sentences for name in one.values})
            raise PlanError(f"No sentence is about {value!r}; a value is named by its dotted path. {said}")
        return found

    def shown(self) -> tuple[Sentence, ...]:
        """The sentences to read: what a phase has in common with the one before it is told in one sentence."""
        said = {(value, one.text) for one in self.sentences for value in one.values[:1]}
        told: list[Sentence] = []
        same: dict[str, list[str]] = {}
        for one in self.sentences:
            field, before = _before(one.values[0])
            if field and not one.rows and (before, one.text) in said:
                same.setdefault(one.topic, []).append(field)
            else:
                told.append(one)
        for topic, names in same.items():
            place = max(index for index, one in enumerate(told) if one.topic == topic)
            phase = next(one.values[0] for one in told if one.topic == topic).partition(".")[0]
            text = f"As in the phase before: {', '.join(dict.fromkeys(names))}."
            told.insert(place, Sentence(topic=topic, text=text, values=tuple(f"{phase}.{name}" for name in dict.fromkeys(names))))
        return tuple(told)

    def __str__(self) -> str:
        lines = [self.title, *([f"No line numbers: {self.no_script}"] if self.no_script else [])]
        topic = ""
        for one in self.shown():
            if one.topic != topic:
                topic = one.topic
                lines += ["", topic]
            lines += textwrap.wrap(
                one.text, WIDTH, initial_indent="  ", subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
            )
            if one.rows:
                lines += textwrap.indent(columns(one.rows[0], one.rows[1:]), "    ").splitlines()
            decided, *code = _notes(one)
            lines += textwrap.wrap(decided, WIDTH, initial_indent="      ", subsequent_indent="        ", break_long_words=False)
            lines += [f"      {line}" for line in code]
        return "\n".join(lines)

    def markdown(self) -> str:
        """The walk-through as Markdown: a heading a topic, a paragraph a sentence."""
        lines = [f"# {_plain(self.title)}", *(["", f"No line numbers: {_plain(self.no_script)}"] if self.no_script else [])]
        topic = ""
        for one in self.shown():
            if one.topic != topic:
                topic = one.topic
                lines += ["", f"## {_plain(topic)}"]
            lines += ["", _plain(one.text)]
            if one.rows:
                table = [one.rows[0], ("---",) * len(one.rows[0]), *one.rows[1:]]
                lines += ["", *("| " + " | ".join(_plain(cell).replace("|", "\\|") for cell in row) + " |" for row in table)]
            lines += ["", *(f"- {_code(note)}" for note in _notes(one))]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        parts, topic = [f"<h3>{escape(self.title)}</h3>"], ""
        parts += [f"<p>No line numbers: {escape(self.no_script)}</p>"] if self.no_script else []
        for one in self.shown():
            if one.topic != topic:
                topic = one.topic
                parts.append(f"<h4>{escape(topic)}</h4>")
            rows = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in one.rows)
            notes = "".join(f"<br><small><code>{escape(note)}</code></small>" for note in _notes(one))
            parts.append(f"<p>{escape(one.text)}{notes}</p>" + (f"<table>{rows}</table>" if rows else ""))
        return "".join(parts)


def _before(value: str) -> tuple[str, str]:
    """Of a value of a phase its field, and its path in the phase before; ("", "") for others and in the first phase."""
    head, _, rest = value.removeprefix("phases[").partition("].")
    if not rest or head == "0" or rest.startswith("groups"):
        return "", ""
    return rest.partition(".")[0], f"phases[{int(head) - 1}].{rest}"


def _notes(one: Sentence) -> list[str]:
    """What stands below a sentence: the plan value and who decided it, then the line of the script."""
    names = one.values[0] + (f" and {len(one.values) - 1} more" if len(one.values) > 1 else "")
    decided = f"{names}  [{one.by}: {one.reason}]" if one.by else names
    return [decided, *([f"line {one.line}: {one.code}"] if one.line else [])]


def _plain(text: str) -> str:
    """Text with nothing in it that Markdown would read as markup; what stands in backticks stays."""
    for sign in ("\\", "*", "_", "<", "#", "["):
        text = text.replace(sign, f"\\{sign}")
    return " ".join(text.split())


def _code(text: str) -> str:
    return f"`` {text.replace(chr(10), ' ')} ``"


def explain(
    target: Plan | Learner | str | Path,
    *,
    objects: Mapping[str, Callable[..., object]] | None = None,
    against: str | None = "fastai-2.8",
) -> Explanation:
    """A walk-through in words of a plan, of what a learner did, or of a run: what each value means for this model and this data.

    Every sentence comes from the records that the printed plan comes from, and names the line of the ejected script that carries
    it out. To read it before training, explain `learn.plan(recipe)`. Nothing is run.

    Args:
        target: A plan, a learner, or a run folder.
        objects: Your own functions and classes that the plan names, under their names, so that the script can be written.
        against: The profile whose decisions for this model and data are told where they differ; None leaves that out.

    Raises:
        PlanError: the target is none of these, `against` names no profile, or `objects` is no dict.
        RunError: the folder is no finished run.
    """
    check_objects(objects)
    if against is not None:
        profile_named(against)  # an unknown name is an error here, not a sentence
    yours = dict(objects or {})
    if isinstance(target, Learner):
        plan, yours = target.plan(), objects_of(target) | yours
    elif isinstance(target, Plan):
        plan = target
    elif isinstance(target, str | Path):
        plan = read_run(target).plan
    else:
        raise PlanError(f"explain({target!r}): give a plan, a learner, or the folder of a run.")
    script, refused = script_of(plan, yours)
    origins = _origins(plan)
    found = []
    for one in [*_all(plan), *(_profile(plan, against) if against else [])]:
        value = one.values[0]
        origin = origins.get(value, origins.get(".".join(value.split(".")[:2])))
        line, code = line_of(value, script)
        by, reason = (origin.by, origin.reason) if origin else ("", "")
        found.append(replace(one, by=by, reason=reason, line=line, code=code))
    return Explanation(title=f"Plan {plan.short_hash()} in words: {plan.model.name}", no_script=refused, sentences=tuple(found))


def _origins(plan: Plan) -> dict[str, Origin]:
    """The origin of each value by its dotted path."""
    holders = {"": plan.origins, "model.": plan.model.origins, "data.": plan.data.origins, "numerics.": plan.numerics.origins}
    holders |= {f"phases[{index}].": phase.origins for index, phase in enumerate(plan.phases)}
    return {f"{prefix}{origin.field}": origin for prefix, origins in holders.items() for origin in origins}


def _all(plan: Plan) -> list[Sentence]:
    """Every sentence, in the order of reading, without who decided and without lines."""
    return [*_tabled("Plan", "", sentences.PLAN, plan), *_model(plan), *_data(plan), *_phases(plan), *_numerics(plan)]


def _tabled(topic: str, prefix: str, table: Mapping[str, Words], plan: Plan) -> list[Sentence]:
    origins = {"": plan.origins, "model.": plan.model.origins, "data.": plan.data.origins, "numerics.": plan.numerics.origins}[prefix]
    said = [Sentence(topic=topic, text=words(plan), values=(f"{prefix}{field}",)) for field, words in table.items()]
    return [*said, Sentence(topic=topic, text=sentences.deciders(origins), values=(f"{prefix}origins",))]


def _model(plan: Plan) -> list[Sentence]:
    topic = "The model: what was cut, and what was put on"
    said = _tabled(topic, "model.", sentences.MODEL, plan)
    if plan.model.surgery is None:
        return said
    fields = ("dropped_parameters", "dropped", "kept_parameters", "method", "largest_difference")
    cut = Sentence(topic=topic, text=sentences.surgery_words(plan.model), values=tuple(f"model.surgery.{name}" for name in fields))
    return [*said[:4], cut, *said[4:]]


def _data(plan: Plan) -> list[Sentence]:
    return _tabled("The data", "data.", data_sentences.DATA, plan)


def _numerics(plan: Plan) -> list[Sentence]:
    return _tabled("The machine: what could change bits, not the mathematics", "numerics.", sentences.NUMERICS, plan)


def _phases(plan: Plan) -> list[Sentence]:
    if not plan.phases:
        return [
            Sentence(topic="Phases", text="No phase yet: explain learn.plan(recipe) to read what a recipe would do.", values=("phases",))
        ]
    return [one for index in range(len(plan.phases)) for one in _phase(plan, index)]


def _phase(plan: Plan, index: int) -> list[Sentence]:
    phase, at = plan.phases[index], f"phases[{index}]"
    topic = f"Phase {index + 1} of {len(plan.phases)}: {phase.name}"
    text, rows = phases.ledger(plan, index)
    said = [Sentence(topic=topic, text=text, values=(f"{at}.optimizer", f"{at}.groups"), rows=rows)]
    for field, words in phases.PHASE.items():
        table = rates.rate_rows(phase) if field == "schedule" else ()
        said.append(Sentence(topic=topic, text=words(plan, index), values=(f"{at}.{field}",), rows=table))
    for number, group in enumerate(phase.groups):
        first = "stage" if group.trains else "trains"  # what the line of the script is about
        names = tuple(f"{at}.groups[{number}].{name}" for name in sorted(vars(group), key=lambda name: name != first))
        said.append(Sentence(topic=topic, text=phases.group_words(group), values=names))
    return [*said, Sentence(topic=topic, text=sentences.deciders(phase.origins), values=(f"{at}.origins",))]


def _profile(plan: Plan, against: str) -> list[Sentence]:
    """What the plan's values differ in from what a profile would have decided for this model and data, by `sheer.diff`."""
    topic = f"Against {against}"
    try:
        found = diff(plan, against).differences
    except SheerError as error:
        return [Sentence(topic=topic, text=f"{against} has no plan to compare with: {error}", values=("profile",))]
    said = []
    for one in found:
        values = tuple(_path(plan, one.change.decision, place.phase) for place in one.change.places)
        place = one.change.places[0]
        text = f"{one.change.decision}: here {place.a}; {against} has {place.b} ({place.why_b}). What that is worth: {one.worth()}."
        said.append(Sentence(topic=topic, text=text, values=values))
    return said or [Sentence(topic=topic, text=f"No decision differs from what {against} decides.", values=("profile",))]


def _path(plan: Plan, decision: str, phase: str) -> str:
    """The dotted path of a decision in the plan."""
    field = decision.partition(".")[0]
    for index, one in enumerate(plan.phases):
        if phase and one.name == phase and hasattr(one, field):
            return f"phases[{index}].{field}"
    holders = {"model": plan.model, "data": plan.data, "numerics": plan.numerics}
    return next((f"{name}.{field}" for name, holder in holders.items() if hasattr(holder, field)), field)
