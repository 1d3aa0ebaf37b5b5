"""Fault 16: classes and batches with too little in them, and metrics that are not defined then."""

import math

import numpy as np
import pytest
import torch

import sheer
from conftest import Small, make_photos
from sheer.cli.main import main
from sheer.errors import DataError, PlanError
from sheer.task.metrics import METRICS, bootstrap_interval, r2


def test_16_a_single_class_is_refused(tmp_path):
    with pytest.raises(DataError, match="class"):
        sheer.images(make_photos(tmp_path, {"red": 5}))


def test_16_an_empty_class_folder_is_no_class_and_that_is_said(tmp_path):
    make_photos(tmp_path, {"blue": 4, "red": 4})
    (tmp_path / "empty").mkdir()
    data = sheer.images(tmp_path)
    assert data.classes == ("blue", "red")
    assert any("empty" in note for note in sheer.learner(data, Small, size=32, quiet=True).plan().data.notes)


def test_16_one_item_in_a_class(tmp_path):
    with pytest.raises(DataError, match="red"):
        sheer.images(make_photos(tmp_path, {"blue": 6, "red": 1}))


def test_16_fewer_items_than_a_batch(tmp_path):
    learn = sheer.learner(sheer.images(make_photos(tmp_path, {"blue": 5, "red": 5})), Small, size=32, quiet=True).fit(1)
    phase = learn.plan().phases[0]
    assert phase.batch_size == 8 and phase.steps_per_epoch == 1
    assert [o.reason for o in phase.origins if o.field == "batch_size"] == ["32 was wanted, but there are 8 items"]
    with pytest.raises(PlanError, match="batch"):
        sheer.learner(sheer.images(tmp_path), Small, size=32, batch_size=1, quiet=True).plan(sheer.recipes.one_cycle(1))


def test_16_nothing_to_validate_on_is_refused_unless_it_was_asked_for(tmp_path):
    make_photos(tmp_path, {"blue": 4, "red": 4}, part="train")
    (tmp_path / "valid" / "blue").mkdir(parents=True)
    with pytest.raises(DataError):
        sheer.images(tmp_path, split="folders")
    for data in (sheer.arrays(torch.rand(10, 3, 8, 8), [0, 1] * 5, valid=0.0), sheer.images(tmp_path / "train", valid=0)):
        assert len(data.valid) == 0 and len(data.train) in (8, 10)
        learn = sheer.learner(data, Small, quiet=True, size=32 if data.paths else None).fit(1)
        assert math.isnan(learn.history[0].valid_loss) and math.isnan(learn.history[0].metrics["accuracy"])
        with pytest.raises(DataError, match="No item is held out"):
            learn.validate()


def test_16_a_last_batch_of_one_item_meets_no_batch_norm(tmp_path):
    data = sheer.images(make_photos(tmp_path, {"blue": 11, "red": 10}))
    learn = sheer.learner(data, "resnet18", weights="none", size=32, batch_size=8, norm="train", quiet=True).fit(1)
    assert len(data.train) % 8 == 1 and learn.plan().phases[0].last_batch == "drop"
    assert math.isfinite(learn.history[0].train_loss) and math.isfinite(learn.history[0].valid_loss)


class Pooled(torch.nn.Module):
    """A norm layer behind the pool: one item has no statistics there."""

    def __init__(self):
        super().__init__()
        self.norm, self.out = torch.nn.BatchNorm1d(3), torch.nn.Linear(3, 2)

    def forward(self, images):
        return self.out(self.norm(images.mean((2, 3))))


def test_16_a_kept_last_batch_of_one_item_is_refused_where_it_cannot_be_trained_on():
    data = sheer.arrays(torch.rand(21, 3, 8, 8), [0, 1] * 10 + [0], valid=0.2)
    recipe = sheer.recipes.constant(1, profile="pytorch-tutorial")
    assert len(data.train) == 17

    def learner(model, **options):
        return sheer.learner(data, model, profile="pytorch-tutorial", quiet=True, **{"batch_size": 8} | options)

    with pytest.raises(PlanError, match=r"batch_size=8: 17 items leave a last batch of one, which .*Pooled cannot be trained on .*another"):
        learner(Pooled).plan(recipe)
    for fine in (learner(Small), learner(Pooled, norm="frozen"), learner(Pooled, batch_size=5)):
        before = fine.model.state_dict()["norm.running_mean"].clone()
        phase = fine.plan(recipe).phases[0]
        assert phase.last_batch == "keep" and torch.equal(fine.model.state_dict()["norm.running_mean"], before)
        assert math.isfinite(fine.run(recipe).history[0].train_loss)


@pytest.mark.parametrize(("task", "name"), [(task, name) for task in METRICS for name in METRICS[task]])
def test_16_a_metric_of_no_items_is_nan_not_0(task, name):
    columns = 3
    target = np.empty(0, dtype=np.int64) if task == "classify" else np.empty((0, columns))
    assert math.isnan(METRICS[task][name](np.empty((0, columns)), target))


def test_16_f1_leaves_out_labels_that_are_neither_true_nor_predicted():
    outputs, target = np.array([[0.9, 0.1], [0.8, 0.2]]), np.array([[1.0, 0.0], [0.0, 0.0]])
    assert METRICS["tag"]["f1"](outputs, target) == pytest.approx(2 / 3)
    assert math.isnan(METRICS["tag"]["f1"](outputs * 0, target * 0))


def size_of(path):
    """The target of a photograph: 1 for the blue ones, which are held out."""
    return 1.0 if "blue" in path else 2.0 + int(path[-5])


def test_16_why_a_metric_is_nan_is_said(tmp_path, capsys):
    photos = make_photos(tmp_path / "photos", {"blue": 4, "red": 8})
    data = sheer.images(photos, label=size_of, task="regress", valid=range(4))

    def own(outputs, target):
        return math.nan

    learn = sheer.learner(data, "test_resnet", weights="none", metrics=["r2", own], size=32, batch_size=4, out=tmp_path / "run").fit(1)
    told = capsys.readouterr().out
    assert "r2 is nan after the last epoch: a number does not vary among the items." in told
    assert "own is nan after the last epoch: its function gave nan." in told
    lines = [" ".join(line.split()) for line in learn.validate().report().splitlines()]
    assert "r2 nan, not defined here: a number does not vary among the items (4 items)" in lines
    assert main(["report", str(tmp_path / "run")]) == 0
    assert "not defined here: a number does not vary" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["auroc", "average_precision"])
def test_16_a_metric_that_needs_two_sides_is_nan_with_one(name):
    outputs, target = np.array([[0.9, 0.1], [0.8, 0.2]]), np.array([0, 0])
    assert math.isnan(METRICS["classify"][name](outputs, target))
    assert math.isnan(METRICS["tag"][name](outputs, np.ones((2, 2))))


def test_16_r2_of_a_target_that_does_not_vary_is_nan_and_so_is_its_interval():
    outputs, target = np.array([[1.0], [2.0]]), np.array([[3.0], [3.0]])
    assert math.isnan(r2(outputs, target))
    low, high = bootstrap_interval(r2, (outputs, target), np.zeros((3, 2)))
    assert math.isnan(low) and math.isnan(high)
