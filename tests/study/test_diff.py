"""Differences: every decision is placed, profiles are resolved for the other side, and the page of docs/ is what the command prints."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import sheer
from conftest import Small
from sheer.cli.main import main
from sheer.errors import PlanError
from sheer.plan.plan import DataPlan, ModelPlan, Numerics, Part, Phase, Plan
from sheer.plan.plan import decisions as fields_of
from sheer.study.diff.decisions import FOLLOWS, NOT_ABLATED, TOUCHES, changes, pairs, restaged, taken
from sheer.study.diff.fits import fits
from sheer.study.diff.influence import Influence
from sheer.study.diff.towards import towards

PAGE = Path(__file__).parents[2] / "docs" / "diff_default_fastai.md"


@pytest.fixture(scope="module")
def run(photos, tmp_path_factory):
    out = tmp_path_factory.mktemp("diff") / "run"
    options = {"weights": "none", "size": 32, "batch_size": 8, "quiet": True, "out": out}
    sheer.learner(sheer.images(photos), "test_resnet", **options).fine_tune(1)
    return out


def test_every_decision_touches_something():
    known = {name for names in TOUCHES.values() for name in names} | set(FOLLOWS)
    holders = (Plan, DataPlan, ModelPlan, Numerics, Phase)
    inside = {name for kind in holders for name in fields_of(kind)}
    assert inside - {"name"} <= known, inside - known
    assert set(NOT_ABLATED) <= known


def test_a_plan_against_itself_and_against_one_changed_value(run):
    plan = sheer.load(run).plan()
    assert len(sheer.diff(plan, plan)) == 0 and "no decision differs" in str(sheer.diff(plan, plan))
    other = replace(plan, phases=(plan.phases[0], replace(plan.phases[1], weight_decay=0.1)))
    found = sheer.diff(run, other)
    assert [(one.change.decision, one.change.touches) for one in found.differences] == [("weight_decay", "optimiser")]
    (place,) = found.about("weight_decay").places()
    assert (place.phase, place.a, place.b) == ("unfrozen", "0.01", "0.1") and "weight_decay: not measured." in str(found)
    with pytest.raises(PlanError, match=r"do not differ in 'norm'\. Allowed: 'weight_decay'"):
        found.about("norm")
    with pytest.raises(PlanError, match=r"do not differ in 'norm'\. They are equal"):
        sheer.diff(run, run).about("norm")


def test_a_profile_is_what_it_would_do_here_and_what_you_gave_stays(run):
    found = sheer.diff(run, "fastai-2.8")
    assert {one.change.decision for one in found.differences} >= {"norm", "stages", "augmentation", "resize.fraction", "no_decay"}
    assert not {"size", "batch_size", "split", "rates"} & {one.change.decision for one in found.differences}
    assert found.about("norm").places()[0].b == "body train, head train"
    assert "train_bn=True" in str(found) and "<td>norm</td>" in found._repr_html_() and "| `norm` | every |" in found.markdown()
    keras = sheer.diff(run, "keras-guide")
    assert keras.about("head").change.places[0].b.startswith("plain(pool='avg'")
    assert sheer.diff("fastai-2.8", run).about("norm").places()[0].a == "body train, head train"


def test_two_profiles_and_phases_that_only_one_has():
    found = sheer.diff("fastai-1.0", "fastai-2.8")
    assert found.about("no_decay").places()[0].b == "norm_bias" and found.about("optimizer.eps").places()[0].a == "1e-08"
    torch = sheer.diff("default", "pytorch-tutorial")
    frozen = torch.about("phase frozen").places()[0]
    assert frozen.a.startswith("1 epochs at") and frozen.b == "no such phase"


def test_what_is_neither_is_refused(run, small_learner):
    with pytest.raises(PlanError, match=r"neither a run folder nor a profile\. Did you mean 'keras-guide'"):
        sheer.diff(run, "keras-guid")
    with pytest.raises(PlanError, match="give a plan, a learner"):
        sheer.diff(run, 3)
    with pytest.raises(PlanError, match="a profile is resolved for networks by name"):
        sheer.diff(small_learner(), "fastai-2.8")
    assert sheer.diff(small_learner(), small_learner(weight_decay=0.1)).about("weight_decay")


def test_decisions_are_taken_one_at_a_time_and_all_together(run):
    a, b = sheer.load(run).plan(), sheer.load(run).plan()
    fitted, trained = b.phases
    trained = replace(trained, norm=("train", "train", "train"), batch_size=4, clip=1.0)
    b = replace(b, phases=(replace(fitted, batch_size=4, clip=1.0), trained))
    one = taken(a, b, ["batch_size"])
    assert {change.decision for change in changes(a, one)} == {"batch_size"}
    assert [phase.steps_per_epoch for phase in one.phases] == [1, 10] and one.phases[0].groups == ()
    assert not changes(b, taken(a, b, ["batch_size", "norm", "clip"]))
    with pytest.raises(PlanError, match="does not differ between the two plans"):
        taken(a, b, ["size"])
    with pytest.raises(PlanError, match="cannot be changed alone: every variant has the same seeds"):
        taken(a, replace(b, seed=3), ["seed"])


def test_a_setting_is_taken_where_both_have_the_technique(run):
    a = sheer.load(run).plan()
    later = a.phases[1]
    a = replace(a, phases=(later, later))
    slow, sgd = Part(name="adamw", settings=(("beta2", 0.9), *later.optimizer.settings[1:])), Part(name="sgd")
    b = replace(a, phases=(replace(later, optimizer=slow), replace(later, optimizer=sgd)))
    assert {change.decision for change in changes(a, b)} == {"optimizer.beta2", "optimizer"}
    first, second = taken(a, b, ["optimizer.beta2"]).phases
    assert first.optimizer == slow and second.optimizer == a.phases[1].optimizer


def test_a_fitted_head_is_one_difference_and_what_follows_from_it_is_none(run):
    found = sheer.diff(run, "fastai-2.8")
    (place,) = found.about("optimizer").places()
    assert place.phase == "frozen" and place.a.startswith("the head is fitted: lbfgs(") and place.b.startswith("trained: adamw(")
    assert [place.phase for place in found.about("augmentation").places()] == ["unfrozen"]
    names = {one.change.decision for one in found.differences}
    assert not {"prefix", "rates", "schedule", "accumulate", "last_batch", "weight_decay"} & names
    assert names == {one.change.decision for one in sheer.diff("fastai-2.8", run).differences}
    faster = sheer.load(run).plan()
    faster = replace(faster, phases=(faster.phases[0], replace(faster.phases[1], rates=(0.1, 0.1, 0.1))))
    assert sheer.diff(faster, "fastai-2.8").about("rates").places()[0].phase == "unfrozen"


def test_a_head_that_can_no_longer_be_fitted_is_trained(run):
    a = sheer.load(run).plan()
    b = towards(a, "fastai-2.8")
    for name in ("optimizer", "head", "norm"):
        first, second = taken(a, b, [name]).phases
        assert not fits(first) and first.accumulate == 0 and first.steps_per_epoch == 5 and first.rates[-1] == b.phases[0].rates[-1]
        assert first.augmentation == second.augmentation == a.phases[1].augmentation and first.schedule == b.phases[0].schedule
        assert second.rates == tuple(4 * rate for rate in a.phases[1].rates)
    for name in ("augmentation", "stages", "optimizer.implementation"):
        assert fits(taken(a, b, [name]).phases[0])
    back = taken(b, a, ["optimizer"])
    assert fits(back.phases[0]) and back.model.head == a.model.head and back.phases[0].norm[0] == "frozen"
    assert back.phases[1].rates[-1] == a.phases[1].rates[-1] and back.phases[1].norm == b.phases[1].norm
    for one, other in ((a, b), (b, a)):
        assert not changes(taken(one, other, [change.decision for change in changes(one, other)]), other)
    alone = replace(b, phases=b.phases[1:])
    first = taken(a, alone, ["head"]).phases[0]
    assert not fits(first) and first.rates == (2e-4, 2e-4, 2e-3) and first.schedule.name == "one_cycle" and first.accumulate == 0
    plain, hidden = (replace(alone, model=replace(alone.model, head=Part(name="plain", settings=(("hidden", w),)))) for w in ((), (8,)))
    assert [fits(taken(a, other, ["head"]).phases[0]) for other in (plain, hidden)] == [True, False]
    more = taken(alone, a, ["phase frozen"])
    assert fits(more.phases[0]) and more.model.head == a.model.head and more.phases[0].steps_per_epoch == 1


def test_phases_are_added_and_left_out(run):
    both = sheer.load(run).plan()
    alone = replace(both, phases=both.phases[1:])
    assert pairs(both.phases, alone.phases) == [(0, None), (1, 0)] and pairs(alone.phases, both.phases) == [(None, 0), (0, 1)]
    assert [phase.name for phase in taken(both, alone, ["phase frozen"]).phases] == ["unfrozen"]
    more = taken(alone, both, ["phase frozen"])
    assert [phase.name for phase in more.phases] == ["frozen", "unfrozen"]
    assert more.phases[0].trains_from == both.phases[0].trains_from and more.phases[0].rates == both.phases[0].rates
    assert restaged((1, 2, 9), 1) == (9,) and restaged(("frozen", "train"), 4) == ("frozen", "frozen", "frozen", "train")


def test_a_measured_influence_ranks_and_is_turned_round(run, monkeypatch):
    change = sheer.diff(run, "fastai-2.8").about("norm").change
    worth = Influence(decision="norm", change=change.key(), metric="accuracy", mean=-0.1, low=-0.2, high=0.05, seeds=3, source="somewhere")
    monkeypatch.setattr("sheer.study.diff.diff.PUBLISHED", (worth,))
    found = sheer.diff(run, "fastai-2.8")
    assert next(iter(found.grouped())) == "what trains" and "smaller than seed noise" in found.about("norm").worth()
    back = sheer.diff("fastai-2.8", run).about("norm").influence
    assert (back.mean, back.low, back.high) == (0.1, -0.05, 0.2)


def test_equal_scores_do_not_hide_differences(run, photos, tmp_path):
    options = {"weights": "none", "size": 32, "batch_size": 8, "quiet": True, "weight_decay": 0.02}
    other = sheer.learner(sheer.images(photos), "test_resnet", **options).fine_tune(1)
    found = sheer.diff(run, other)
    scores = [learn.history[-1].metrics["accuracy"] for learn in (sheer.load(run), other)]
    assert found.about("weight_decay") and "accuracy: " in found.scores
    assert ("say nothing about equal set-ups" in found.scores) == (abs(np.subtract(*scores)) < 0.02)


def test_the_command_and_the_page_that_it_writes(capsys):
    assert main(["diff", "default", "fastai-2.8", "--markdown"]) == 0
    assert capsys.readouterr().out.strip() == PAGE.read_text().strip()
    assert main(["diff", "default", "fastai-2.9"]) == 2


def test_your_own_module_is_compared_between_plans(photos):
    one, other = (sheer.learner(sheer.images(photos), Small, size=32, batch_size=8, norm=norm, quiet=True) for norm in ("train", "frozen"))
    assert sheer.diff(one, other).about("norm")
