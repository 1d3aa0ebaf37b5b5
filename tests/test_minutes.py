"""Epochs by the time there is."""

import pytest
import torch
from torch import nn

import sheer
from sheer.cli.main import main
from sheer.errors import PlanError
from sheer.loop import estimate as estimates
from sheer.loop.estimate import Estimate, epochs_within


@pytest.fixture
def each_epoch(monkeypatch):
    """An estimate of 2 s for the first phase, and 5 s an epoch for others."""

    def estimate(model: nn.Module, plan: sheer.Plan) -> Estimate:
        return Estimate(seconds=sum(2.0 if not i else 5.0 * p.epochs for i, p in enumerate(plan.phases)), memory=0, disk=0)

    monkeypatch.setattr(estimates, "estimate", estimate)


@pytest.mark.parametrize(("seconds", "epochs"), [(1, 0), (8, 0), (16, 2), (60, 8)])
def test_a_quarter_is_left_for_other_work(small_learner, each_epoch, seconds, epochs):
    learn = small_learner()
    plan = learn.plan([*sheer.recipes.constant(1), *sheer.recipes.constant(1)])
    assert epochs_within(learn.model, plan, seconds) == (epochs, 5.0)


def test_the_command_takes_minutes_and_says_how_many_epochs_they_hold(photos, each_epoch, capsys):
    words = ["plan", str(photos), "--model", "test_resnet", "--weights", "none", "--size", "32", "--batch-size", "8"]
    assert main([*words, "--minutes", "0.5"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "Phase 2 of 2: unfrozen, 4 epochs" in out and "[measured: what 0.5 minutes hold, at about 5 s an epoch]" in out
    assert main([*words, "--minutes", "0.05"]) == 0
    assert "Phase 1 of 1: frozen" in capsys.readouterr().out


def test_too_little_for_one_epoch_is_said(photos, each_epoch, capsys):
    words = ["plan", str(photos), "--model", "test_resnet", "--weights", "none", "--size", "32", "--batch-size", "8"]
    assert main([*words, "--recipe", "one_cycle", "--minutes", "0.01"]) == 2
    assert "do not hold one epoch" in capsys.readouterr().err
    assert main([*words, "--minutes", "-1"]) == 2
    assert "minutes" in capsys.readouterr().err


def test_a_frozen_part_that_is_kept_costs_one_pass_and_what_trains_its_epochs(photos):
    torch.manual_seed(0)
    learn = sheer.learner(sheer.images(photos), "test_resnet", weights="none", size=64, batch_size=8, quiet=True)
    once = learn.plan(sheer.recipes.linear_probe(30)).phases[0]
    assert once.prefix.name == "cached"
    kept, whole = (
        estimates._seconds(learn.plan([phase]), phase, 1.0, 0.1)
        for phase in (once, learn.unfreeze().plan(sheer.recipes.one_cycle(30)).phases[0])
    )
    assert kept == pytest.approx((10 + 2 * 41) * 0.1 + 30 * 40 * 1.0) and whole == pytest.approx(30 * (40 * 1.0 + 10 * 0.1))


def test_no_epochs_are_the_head_alone_and_none_at_all_is_an_error(small_learner):
    assert [draft.name for draft in sheer.recipes.fine_tune(0)] == ["frozen"] == [draft.name for draft in sheer.recipes.linear_probe()]
    with pytest.raises(PlanError, match="nothing to train"):
        sheer.recipes.fine_tune(0, freeze_epochs=0)
