"""The walk-through: every field of a plan is explained, sentences follow the values, and lines are those of the ejected script."""

import json
import re
from dataclasses import fields, is_dataclass, replace

import pytest
from torch import nn

import sheer
from sheer.cli.main import main
from sheer.errors import PlanError
from sheer.plan.plan import Aside, DataPlan, Group, ModelPlan, Numerics, Origin, Part, Phase, Plan, Stage, Surgery
from sheer.study.explain.script_lines import LINES, objects_of

EXPLAINED = {Plan: "", ModelPlan: "model.", DataPlan: "data.", Numerics: "numerics.", Phase: "phases[0].", Group: "phases[0].groups[0]."}
EXPLAINED |= {Surgery: "model.surgery."}
HOLDERS = ("model", "data", "numerics", "phases", "groups")
FIELDS = [(kind, field.name) for kind in EXPLAINED for field in fields(kind)]


@pytest.fixture(scope="module")
def plan(photos):
    learn = sheer.learner(sheer.images(photos), "resnet18", weights="none", size=32, batch_size=8, quiet=True)
    return learn.plan(sheer.recipes.fine_tune(2))


def other(value: object) -> object:
    """Another value of the same kind."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value * 2 + 3
    if isinstance(value, str):
        return {"train": "frozen", "frozen": "adapt", "map": "vector", "kept": "tile"}.get(value, f"x{value}")
    if isinstance(value, Origin):
        return replace(value, by="machine", field=f"x{value.field}")
    if isinstance(value, Stage):
        return replace(value, name=f"x{value.name}")
    if isinstance(value, Surgery):
        return replace(value, dropped_parameters=value.dropped_parameters + 1)
    assert isinstance(value, tuple), value
    return (other(value[0]), *value[1:])


VALID = {
    "DataPlan.bad_files": "skip",
    "DataPlan.skipped": ("a/1.jpg",),
    "DataPlan.columns": (Part(name="missing", settings=(("column", "age"),)),),
    "ModelPlan.body": Part(name="tabular", settings=(("hidden", (8,)), ("dropout", 0.0), ("embedding_dropout", 0.0))),
    "ModelPlan.name": "timm:resnet34",
    "ModelPlan.weights": Part(name="run", settings=(("plan", "0"), ("weights_sha256", "0"))),
    "ModelPlan.head": Part(name="linear"),
    "ModelPlan.node": "flatten",
    "ModelPlan.undecayed": ("body.conv1.weight",),
    "DataPlan.task": Part(name="tag"),
    "DataPlan.split": Part(name="random", settings=(("share", 0.3), ("seed", 0), ("part", ""))),
    "DataPlan.weight": "importance",
    "DataPlan.notes": ("One file is grey.",),
    "Numerics.memory_format": "contiguous",
    "Numerics.precision": "bf16",
    "Phase.schedule": Part(name="constant"),
    "DataPlan.weighted_prior": (0.5, 0.5),
    "DataPlan.target": ("kind",),
    "Phase.optimizer": Part(name="sgd"),
    "Phase.prefix": Part(name="whole"),
    "Phase.loss": Part(name="focal"),
    "Phase.class_weights": (1.0, 2.0),
    "Phase.loss_mean": "items",
    "Phase.stop": Part(name="patience", settings=(("metric", "valid_loss"), ("better", "min"), ("epochs", 2))),
    "Phase.keep": Part(name="best", settings=(("metric", "valid_loss"), ("better", "min"))),
    "Phase.mix": Part(name="mixup"),
    "Phase.resize": Part(name="squish", settings=(("interpolation", "bilinear"),)),
    "Phase.augmentation": (Part(name="dihedral"),),
    "Phase.aside": Aside(
        weight_decay=0.1,
        augmentation=(),
        mix=None,
        sampling="shuffle",
        clip=0.5,
        accumulate=0,
        ema=0.0,
        stop=None,
        keep=Part(name="last"),
        views=3,
        origins=(Origin(field="clip", by="you", reason="you gave it"),),
    ),
}
"""Where another value must be a name that is known."""


def changed(plan: Plan, kind: type, name: str) -> Plan:
    """The plan with another value of one field."""

    def new(holder):
        key = f"{kind.__name__}.{name}"
        return replace(holder, **{name: VALID[key] if key in VALID else other(getattr(holder, name))})

    if kind is Plan:
        return new(plan)
    if kind is Phase:
        return replace(plan, phases=(new(plan.phases[0]), *plan.phases[1:]))
    if kind is Group:
        first = plan.phases[0]
        return replace(plan, phases=(replace(first, groups=(new(first.groups[0]), *first.groups[1:])), *plan.phases[1:]))
    if kind is Surgery:
        return replace(plan, model=replace(plan.model, surgery=new(plan.model.surgery)))
    field = EXPLAINED[kind].rstrip(".")
    return replace(plan, **{field: new(getattr(plan, field))})


@pytest.mark.parametrize(("kind", "name"), FIELDS, ids=lambda part: part if isinstance(part, str) else part.__name__)
def test_every_field_of_the_plan_is_explained_and_its_sentence_follows_the_value(plan, kind, name):
    path = f"{EXPLAINED[kind]}{name}"
    before = sheer.explain(plan, against=None).about(path)
    assert before, f"no sentence explains {path}: add one to the tables of sheer/study, and its line to LINES"
    if name in HOLDERS:
        assert is_dataclass(getattr(plan if kind is Plan else plan.phases[0], name)) or len(before) > 1
        return
    if name in ("fusion", "branches", "inputs", "lora"):
        assert len(before) == 1  # those of several inputs are in test_fusion.py, LoRA in test_text.py
        return
    after = sheer.explain(changed(plan, kind, name), against=None).about(path)
    assert [one.text for one in after] != [one.text for one in before]


def test_the_lines_are_those_of_the_ejected_script(random_resnet_run, tmp_path):
    script = sheer.eject(random_resnet_run, tmp_path / "train.py").read_text().splitlines()
    explanation = sheer.explain(random_resnet_run)
    assert explanation.no_script == ""
    lined = [one for one in explanation.sentences if one.line]
    assert len(lined) > 50
    for one in lined:
        assert script[one.line - 1].strip() == one.code
    (fixed, *_) = [one for one in explanation.sentences if "do not train (" in one.text]
    assert fixed.values[0] == "phases[0].groups[0].trains" and fixed.code.startswith("parameter.requires_grad_(")
    off = {
        "node",
        "weight",
        "class_weights",
        "loss_mean",
        "clip",
        "accumulate",
        "ema",
        "stop",
        "keep",
        "resident",
        "mix",
        "precision",
        "compile",
        "targets_sha256",
        "held_out_sha256",
        "weights",
        "skipped",
        "columns",
        "inputs",
        "body",
        "fusion",
        "branches",
        "lora",
    }
    for name, wanted in LINES.items():
        path = (
            name.replace("phase.", "phases[0].")
            .replace("groups.trains", "groups[0].trains")
            .replace("model.surgery", "model.surgery.method")
        )
        (one, *_) = [
            one for one in explanation.sentences if path in one.values or any(value.startswith(f"{path}[") for value in one.values)
        ]
        if wanted and name.rpartition(".")[2] not in off:
            assert one.line, f"{name}: the script has no line with any of {wanted}"


def test_every_field_says_which_line_is_its_own_or_that_none_is(plan):
    for kind, prefix in EXPLAINED.items():
        for field in fields(kind):
            name = f"{prefix}{field.name}".replace("phases[0].groups[0].", "phase.groups.").replace("phases[0].", "phase.")
            known = name in LINES or name.startswith(("phase.groups.", "model.surgery."))
            assert known or field.name in (*HOLDERS, "origins"), f"{name} has no entry in LINES of study/script_lines.py"


def test_what_is_on_has_a_line(photos):
    on = {"clip": 1.0, "ema": 0.9, "stop": 2, "keep": "best", "mix": "mixup", "sampling": "balanced"}
    learn = sheer.learner(
        sheer.images(photos), "resnet18", weights="none", size=32, batch_size=8, quiet=True, class_weights="balanced", **on
    )
    explanation = sheer.explain(learn.plan(sheer.recipes.one_cycle(1)))
    for name in (*on, "class_weights"):
        assert all(one.line for one in explanation.about(f"phases[0].{name}")), name
    (ema,) = explanation.about("phases[0].ema")
    assert "0.9" in ema.text and ema.by == "you"


def test_each_sentence_says_who_decided_it(plan):
    for one in sheer.explain(plan).sentences:
        field = one.values[0]
        if field.rpartition(".")[2] not in ("origins", "notes", "aside") and "groups[" not in field and "surgery" not in field:
            assert one.by and one.reason, field


def test_rates_at_steps_are_those_of_the_plan(plan):
    (schedule,) = (one for one in sheer.explain(plan).about("phases[1].schedule"))
    header, *rows = schedule.rows
    assert header == ("step", "rate of early", "rate of late", "rate of head", "momentum")
    group = next(group for group in plan.phases[1].groups if group.stage == "head")
    assert rows[0][3] == f"{group.rate_start:.3g}" and rows[-1][3] == f"{group.rate_end:.3g}"
    assert f"{group.rate_peak:.3g}" in [row[3] for row in rows]
    assert [int(row[0].split()[0]) for row in rows] == sorted(int(row[0].split()[0]) for row in rows)


def test_weight_decay_is_told_apart(small_learner):
    def said(optimizer):
        return sheer.explain(small_learner(optimizer=optimizer).plan(sheer.recipes.one_cycle(1))).about("phases[0].weight_decay")[0].text

    assert "decoupled: each step first shrinks" in said("adamw")
    assert "is L2, not decoupled" in said("adam") and "divides" in said("adam")
    assert "is L2, not decoupled" in said("sgd") and "divides" not in said("sgd")
    assert "timm's lamb" in said("timm:lamb")


def test_a_second_phase_says_what_it_has_in_common_once(plan):
    explanation = sheer.explain(plan)
    second = [one for one in explanation.shown() if one.topic.startswith("Phase 2")]
    common = next(one for one in second if one.text.startswith("As in the phase before"))
    assert "batch_size" in common.text and "rates" not in common.text.replace("statistics", "")
    assert not [one for one in second if one.values == ("phases[1].batch_size",)]
    assert [one for one in second if one.values == ("phases[1].rates",)]


def test_text_markdown_and_html_say_the_same(plan):
    explanation = sheer.explain(replace(plan, data=replace(plan.data, classes=("<b>", "a|b"))))
    text, markdown, html = str(explanation), explanation.markdown(), explanation._repr_html_()
    for words in ("512 inputs", "Over a stride of 32 the last map is about 1 x 1", "fastai-2.8 has"):
        assert words in text.replace("\n  ", " ") and words in markdown and words in html
    assert "<b>" in text and "&lt;b&gt;" in html and "\\<b>" in markdown
    assert "<b>" not in html
    lines = [one.code for one in explanation.sentences if one.line]
    assert all(f"`` line {one.line}: {one.code} ``" in markdown for one in explanation.shown() if one.line) and lines


def test_without_a_script_the_reason_is_said(small_learner):
    explanation = sheer.explain(small_learner().plan())
    assert "has no phases" in explanation.no_script and "No line numbers" in str(explanation)
    assert "explain learn.plan(recipe)" in str(explanation)
    assert all(one.line == 0 for one in explanation.sentences)


def test_a_learners_own_functions_are_known(photos):
    def body():
        return nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))

    learn = sheer.learner(sheer.images(photos), body, size=16, batch_size=8, quiet=True)
    assert objects_of(learn) == {"body": body}
    learn.fit(1)
    assert "top-level" in sheer.explain(learn).no_script


def test_explaining_something_else_is_refused():
    with pytest.raises(PlanError, match=re.escape("explain(3): give a plan, a learner, or the folder of a run.")):
        sheer.explain(3)


def test_wrong_names_are_errors_that_name_the_nearest(random_resnet_run):
    with pytest.raises(PlanError, match=r"no profile 'fastai'\. Did you mean 'fastai-2.8'"):
        sheer.explain(random_resnet_run, against="fastai")
    with pytest.raises(PlanError, match=r"No sentence is about 'model.hed'.*Did you mean 'model.head'"):
        sheer.explain(random_resnet_run).about("model.hed")
    with pytest.raises(PlanError, match=r"objects=\[1\]: give your own objects by their names"):
        sheer.explain(random_resnet_run, objects=[1])


def test_the_command_prints_it(random_resnet_run, capsys):
    assert main(["explain", str(random_resnet_run)]) == 0
    assert f"{sheer.load(random_resnet_run).plan().model.features:,} inputs" in capsys.readouterr().out
    assert main(["explain", str(random_resnet_run), "--markdown"]) == 0
    out = capsys.readouterr().out
    assert (
        out.startswith("# Plan") and json.loads((random_resnet_run / "plan.json").read_text())["model"]["name"].replace("_", "\\_") in out
    )


def test_a_frozen_stage_has_no_rate_but_where_its_norm_layers_train(photos):
    def said(norm):
        learn = sheer.learner(sheer.images(photos), "test_resnet", weights="none", size=32, batch_size=8, quiet=True, norm=norm)
        plan = learn.plan(sheer.recipes.fine_tune(1, freeze_epochs=1))
        return next(one.text for one in sheer.explain(plan, against=None).about("phases[0].rates"))

    assert "early frozen (0.0002 moves nothing), late frozen (0.0002 moves nothing), head 0.002" in said("frozen")
    assert "moves nothing" not in said("train") and "norm layers of the frozen stage" in said("train")
