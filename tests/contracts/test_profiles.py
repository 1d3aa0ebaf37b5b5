"""Every profile: a learner that trains its own phases for two steps or more, says where each value is from, and ejects."""

import runpy
import sys

import pytest
import torch

import sheer
from conftest import make_photos
from sheer.plan.plan import Plan, decisions
from sheer.plan.profiles import PROFILES
from sheer.plan.recipes import of_profile


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    return make_photos(tmp_path_factory.mktemp("few"), {"blue": 20, "red": 20})


def trained(few, name, out):
    data = sheer.images(few, profile=name, valid=0.2)
    learn = sheer.learner(data, "test_resnet", weights="none", profile=name, size=32, batch_size=8, quiet=True, out=out)
    return learn.run(of_profile(1, profile=name))


@pytest.mark.parametrize("name", PROFILES)
def test_a_profile_trains_and_ejects(name, few, tmp_path, monkeypatch):
    learn = trained(few, name, tmp_path / "run")
    plan, profile = learn.plan(), PROFILES[name]
    assert plan.profile == name and profile.source and profile.source in " ".join(str(plan).split())
    assert len(plan.phases) == max(1, len(profile.stretches)) + (not profile.stretches)
    for phase in plan.phases:
        assert phase.epochs * phase.steps_per_epoch >= 2 or phase.optimizer.name == "lbfgs"
        assert set(decisions(phase)) <= {origin.field for origin in phase.origins}
        assert all(origin.reason for origin in phase.origins)
    assert Plan.from_json(plan.to_json()) == plan
    script = sheer.eject(tmp_path / "run", tmp_path / "train.py")
    monkeypatch.setattr(sys, "argv", [str(script), str(few), "--out", str(tmp_path / "again")])
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    try:
        runpy.run_path(str(script), run_name="__main__")
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic)
    assert learn.history[-1].weights_sha256 in (tmp_path / "again" / "history.csv").read_text()


def settled(name, few):
    """The plan of the profile's own training with nothing given."""
    data = sheer.images(few, profile=name)
    return sheer.learner(data, "test_resnet", weights="none", profile=name, quiet=True).plan(of_profile(3, profile=name))


def test_keras_keeps_its_norm_layers_still_in_both_phases(few):
    frozen, unfrozen = settled("keras-guide", few).phases
    assert (frozen.epochs, unfrozen.epochs) == (6, 3)
    assert (frozen.norm, unfrozen.norm) == (("frozen", "train"), ("frozen", "train"))
    assert (frozen.rates, unfrozen.rates) == ((1e-3, 1e-3), (1e-5, 1e-5))
    assert frozen.optimizer.options()["eps"] == 1e-7 and frozen.weight_decay == 0
    assert str(settled("keras-guide", few).model.head) == "plain(pool='avg', hidden=(), dropout=0.2, init='glorot_uniform')"


def test_fastai_1_decays_its_norm_layers_and_slices_its_rate(few):
    plan = settled("fastai-1.0", few)
    assert plan.phases[0].rates[-1] == 3e-3 and plan.phases[0].rates[0] == pytest.approx(3e-4)
    assert {group.kind for phase in plan.phases for group in phase.groups} <= {"decay", "fixed"}
    learn = sheer.learner(sheer.images(few), "test_resnet", weights="none", profile="fastai-1.0", quiet=True)
    given = learn.plan(sheer.recipes.constant(1, profile="fastai-1.0")).phases[0].rates
    assert given == plan.phases[0].rates


def test_timm_warms_up_and_torch_falls_by_steps(few):
    (timm,), (torch_tutorial,) = settled("timm-train", few).phases, settled("pytorch-tutorial", few).phases
    assert timm.groups[0].rate_start == pytest.approx(1e-4) and timm.loss.options() == {"label_smoothing": 0.1}
    assert torch_tutorial.groups[-1].rate_end == pytest.approx(1e-6) and torch_tutorial.batch_size == 4


def test_the_seven_tricks_differ_as_their_rows_say(few):
    rows = {number: settled(f"seven-tricks-{number}" if number > 1 else "seven-tricks", few) for number in range(1, 8)}
    assert [rows[n].phases[0].norm[0] for n in rows] == ["adapt", "frozen", "train", "train", "frozen", "adapt", "adapt"]
    assert [rows[n].phases[-1].norm[0] for n in (4, 5)] == ["train", "frozen"]
    assert [len(rows[n].phases) for n in rows] == [1, 1, 1, 2, 2, 1, 1]
    assert rows[4].phases[-1].rates == (5e-6, 5e-4)
    assert "pool='concat'" in str(rows[6].model.head) and "hidden=(512,)" in str(rows[7].model.head)
