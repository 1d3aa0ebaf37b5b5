import dataclasses
import json
import shutil
from dataclasses import replace

import pytest

import sheer
from sheer.errors import PlanError, RunError
from sheer.plan.plan import decisions, origin_of
from sheer.plan.profiles import PROFILES
from sheer.plan.recipes import RECIPES
from sheer.record.held import is_done


@pytest.fixture(scope="module")
def plan(photos):
    learn = sheer.learner(sheer.images(photos), "resnet18", weights="none", size=64, quiet=True, batch_size=8)
    return learn.plan(sheer.recipes.fine_tune(2))


def test_json_goes_out_and_in_equal(plan):
    assert sheer.Plan.from_json(plan.to_json()) == plan


def test_every_decision_has_an_origin(plan):
    for holder in (plan, plan.model, plan.data, plan.numerics, *plan.phases):
        for field in decisions(holder):
            origin = origin_of(holder, field)
            assert origin.reason, field


def test_the_table_names_every_group_and_its_rates(plan):
    text = str(plan)
    for phase in plan.phases:
        for group in phase.groups:
            assert f"{group.values:,}" in text and group.stage in text
    assert "largest difference of a logit 0" in text


def test_a_plan_is_frozen(plan):
    with pytest.raises(dataclasses.FrozenInstanceError):
        plan.seed = 3


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.pop("seed"),
        lambda d: d.update(extra=1),
        lambda d: d.update(seed="0"),
        lambda d: d["phases"][0].update(rates=3),
        lambda d: d["phases"][0]["schedule"].update(settings=[1]),
    ],
)
def test_an_edited_plan_is_refused_by_name(plan, change):
    document = json.loads(plan.to_json())
    change(document)
    with pytest.raises(PlanError):
        sheer.Plan.from_json(json.dumps(document))


def test_text_that_is_no_json_is_refused():
    with pytest.raises(PlanError, match="not JSON"):
        sheer.Plan.from_json("{")


def test_profiles_decide_the_same_things():
    assert set(PROFILES["default"].settings) == set(PROFILES["fastai-2.8"].settings)


@pytest.mark.parametrize("name", sorted(RECIPES))
@pytest.mark.parametrize("profile", sorted(PROFILES))
def test_every_recipe_resolves_under_every_profile(small_learner, name, profile):
    learn = small_learner(profile=profile)
    plan = learn.plan(RECIPES[name](1, profile=profile))
    assert plan.phases and sheer.Plan.from_json(plan.to_json()) == plan


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_epochs_that_nobody_gave_are_a_default_with_its_reason(small_learner, name):
    given, usual = (small_learner().plan(RECIPES[name](*epochs)).phases[-1] for epochs in ((2,), ()))
    assert given.epochs == 2 and origin_of(given, "epochs").by == "you"
    assert (usual.epochs, origin_of(usual, "epochs").by) == ((1, "recipe") if name == "linear_probe" else (3, "default"))


def test_a_recipe_of_another_profile_is_refused(small_learner):
    with pytest.raises(PlanError, match="profile"):
        small_learner().plan(sheer.recipes.one_cycle(1, profile="fastai-2.8"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"profile": "fastai"}, "Did you mean 'fastai-2.8'"),
        ({"norm": "froze"}, "Did you mean 'frozen'"),
        ({"augmentation": ("flop",)}, "Did you mean 'flip'"),
        ({"weight_decay": -1.0}, "weight_decay"),
        ({"label_smoothing": 1.0}, "label_smoothing"),
        ({"seed": -1}, "seed"),
        ({"device": "gpu"}, "device"),
    ],
)
def test_a_value_that_is_not_allowed_is_named(small_learner, options, message):
    with pytest.raises(PlanError, match=message):
        small_learner(**options).plan(sheer.recipes.one_cycle(1, profile=options.get("profile", "default")))


def test_the_table_says_where_a_frozen_stage_trains_its_norm_layers(photos):
    learn = sheer.learner(sheer.images(photos), "test_resnet", weights="none", size=32, quiet=True, norm="train")
    alike = " ".join(str(learn.plan(sheer.recipes.constant(1, rate=3e-3))).split())
    assert (
        "the frozen stage late trains its norm layers, " in alike
        and "tensors, at 0.003 (the head's rate), no decay, with the stat" in alike
    )
    tenth = " ".join(str(learn.plan(sheer.recipes.constant(1, rate=slice(3e-3)))).split())
    assert "at 0.0003, no decay" in tenth
    assert "the frozen stage" not in str(sheer.learner(sheer.images(photos), "test_resnet", weights="none", quiet=True).plan())


def test_the_hash_is_over_decisions_and_not_over_reasons(small_learner):
    plan = small_learner().plan(sheer.recipes.fine_tune(1))
    slow = tuple(replace(origin, by="measured", reason="81 ms here, 60 there") for origin in plan.numerics.origins)
    told = replace(plan, numerics=replace(plan.numerics, origins=slow), data=replace(plan.data, notes=("odd",)))
    assert told != plan and told.decided() == plan.decided() and told.short_hash() == plan.short_hash()
    for other in (replace(plan, seed=1), replace(plan, numerics=replace(plan.numerics, threads=9)), replace(plan, phases=plan.phases[:1])):
        assert other.short_hash() != plan.short_hash()


def test_a_folder_with_the_run_of_a_plan_that_decides_the_same_is_done_already(random_resnet_run, tmp_path):
    plan = sheer.load(random_resnet_run).plan()
    slow = tuple(replace(origin, reason="measured anew") for origin in plan.numerics.origins)
    assert is_done(random_resnet_run, replace(plan, numerics=replace(plan.numerics, origins=slow)))
    assert not is_done(random_resnet_run, replace(plan, seed=7))
    shutil.copytree(random_resnet_run, tmp_path / "run")
    (tmp_path / "run" / "plan.json").write_text(plan.to_json().replace("every random draw", "no random draw"))
    with pytest.raises(RunError, match=r"plan\.json was edited"):
        sheer.load(tmp_path / "run")


def test_the_table_prints_words_that_it_does_not_know(small_learner):
    plan = small_learner().plan()
    assert "'os:system'" in str(replace(plan, data=replace(plan.data, pictures="os:system")))
