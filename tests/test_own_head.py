"""One from your own: a head function on a named body, your module as a body, both carried away and loaded back."""

import pytest
import torch
from torch import nn

import sheer
from scripts import run_script
from sheer.errors import EjectError, ModelError, PlanError, RunError
from test_eject import rows


class Attend(nn.Module):
    """Attention pooling over a map, then one score a class."""

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.weigh = nn.Conv2d(features, 1, 1)
        self.drop = nn.Dropout(0.2)
        self.out = nn.Linear(features, classes)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        share = self.weigh(features).flatten(2).softmax(2)
        return self.out(self.drop((features.flatten(2) * share).sum(2)))


def my_head(features, classes):
    """Your own head, whose source is copied."""
    return Attend(features, classes)


def my_body():
    """Your own body: a map of 6 channels."""
    return nn.Sequential(nn.Conv2d(3, 6, 3, stride=4), nn.BatchNorm2d(6), nn.ReLU())


OBJECTS = {"my_head": my_head, "my_body": my_body}
CASES = {
    "own head": ("resnet18", my_head, {"weights": "none"}),
    "own body": (my_body, "concat_pool", {}),
    "own body and head": (my_body, my_head, {}),
}


def make(photos, model, head, **options):
    return sheer.learner(sheer.images(photos), model, head=head, size=32, batch_size=8, quiet=True, **options)


@pytest.mark.parametrize("case", sorted(CASES))
def test_the_script_and_the_loaded_run_give_the_same(case, photos, tmp_path):
    model, head, options = CASES[case]
    learn = make(photos, model, head, **options).write_to(tmp_path / "run")
    stages = [stage.name for stage in learn.plan().model.stages]
    assert stages == (["early", "late", "head"] if model == "resnet18" else ["body", "head"])
    learn.fine_tune(1)
    with pytest.raises(ModelError, match="objects="):
        sheer.load(tmp_path / "run")
    again = sheer.load(tmp_path / "run", objects=OBJECTS)
    assert again.plan() == learn.plan()
    assert (again.predict(photos / "red").outputs == learn.predict(photos / "red").outputs).all()
    with pytest.raises(EjectError, match="objects="):
        sheer.eject(tmp_path / "run", tmp_path / "train.py")
    script = sheer.eject(tmp_path / "run", tmp_path / "train.py", objects=OBJECTS)
    done = run_script(script, photos, "--out", tmp_path / "again")
    assert done.returncode == 0, done.stderr
    assert rows(tmp_path / "run" / "history.csv") == rows(tmp_path / "again" / "history.csv")


def test_a_frozen_body_of_your_own_stays_and_its_width_is_measured(photos):
    learn = make(photos, my_body, "linear")
    plan = learn.plan().model
    assert (plan.kind, plan.features, plan.stride, plan.surgery) == ("map", 6, 4, None)
    before = {name: tensor.clone() for name, tensor in learn.model.body.state_dict().items()}
    learn.freeze().fit(1)
    assert all(torch.equal(before[name], tensor) for name, tensor in learn.model.body.state_dict().items())


def test_an_instance_is_a_body_too_and_vectors_have_bodies():
    inputs = torch.randn(24, 5, generator=torch.Generator().manual_seed(0))
    body = nn.Sequential(nn.Linear(5, 7), nn.ReLU())
    learn = sheer.learner(sheer.arrays(inputs, [0, 1] * 12), body, head="concat_pool", batch_size=8, quiet=True).fit(1)
    assert (learn.plan().model.kind, learn.plan().model.features, learn.plan().model.channels) == ("vector", 7, 0)


def test_another_source_is_refused(photos, tmp_path):
    make(photos, "resnet18", my_head, weights="none").fit(1).save(tmp_path / "run")

    def other(features, classes):
        return nn.Identity()

    with pytest.raises(RunError, match="source of 'my_head'"):
        sheer.load(tmp_path / "run", objects={"my_head": other})


class Tokens(nn.Module):
    """No body: it gives (2, 4, 3)."""

    def forward(self, images):
        return images.new_zeros(len(images), 4, 3)


@pytest.mark.parametrize(
    ("model", "head", "error", "message"),
    [
        ("resnet18", "concat", PlanError, "Did you mean 'concat_pool'"),
        ("resnet18", nn.Linear(2, 2), PlanError, "a function of"),
        ("resnet18", lambda features, classes: "nothing", ModelError, "must return a torch.nn.Module"),
        (Tokens, "linear", ModelError, r"\(2, 4, 3\) for 2 items"),
        (lambda: nn.Conv2d(5, 4, 3), "linear", ModelError, "as a body cannot take"),
    ],
    ids=["name", "instance", "no module", "no map", "channels"],
)
def test_what_cannot_be_used_is_named(photos, model, head, error, message):
    options = {"weights": "none"} if isinstance(model, str) else {}
    with pytest.raises(error, match=message):
        make(photos, model, head, **options)


def test_a_head_with_other_scores_is_refused_before_training(photos):
    learn = make(photos, "resnet18", lambda features, classes: Attend(features, classes + 1), weights="none")
    with pytest.raises(ModelError, match=r"\(2, 2\) is needed"):
        learn.fit(1)


def test_weights_are_not_for_your_own_module(photos):
    with pytest.raises(ModelError, match="keeps the weights it has"):
        make(photos, my_body, "linear", weights="none")
