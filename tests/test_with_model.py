"""A model swapped: groups, optimiser and plan follow, or the next fit stops."""

import pandas
import pytest
import torch
from torch import nn

import sheer
from conftest import Small
from own_code import Rows, small_net
from scripts import run_script
from sheer.errors import DataError, ModelError, OwnershipError, PlanError
from test_eject import rows


def test_it_is_as_if_made_with_that_model(photos):
    given = {"batch_size": 8, "size": 32, "label_smoothing": 0.1, "optimizer": "sgd", "metrics": ["f1"], "seed": 3, "augmentation": "none"}
    first = sheer.learner(sheer.images(photos), Small, quiet=True, **given).fit(1)
    before = first.plan()
    swapped = first.with_model(small_net)
    assert (len(swapped.history), swapped.plan().phases, swapped.plan().model.name) == (0, (), "function:small_net")
    swapped.fit_one_cycle(1, 0.01)
    made = sheer.learner(sheer.images(photos), small_net, quiet=True, **given).fit_one_cycle(1, 0.01)
    assert swapped.history[-1].weights_sha256 == made.history[-1].weights_sha256 and swapped.plan() == made.plan()
    assert first.plan() == before and len(first.history) == 1
    first.fit(1)  # and goes on as if nothing had been


@pytest.mark.parametrize("case", ["named", "body and head", "instance"])
def test_any_kind_of_model(photos, case):
    learn = sheer.learner(sheer.images(photos), Small, quiet=True, batch_size=8, size=32, norm="train")
    model, options = {
        "named": ("test_resnet", {"weights": "none"}),
        "body and head": (lambda: nn.Conv2d(3, 4, 3, stride=4), {"head": "linear"}),
        "instance": (Small(), {}),
    }[case]
    other = learn.with_model(model, **options)
    start = {name: tensor.clone() for name, tensor in other.model.state_dict().items()}
    other.unfreeze().fit(1, 0.01)
    held = [name for name, parameter in other.model.named_parameters() if torch.equal(parameter, start[name])]
    stages = [stage.name for stage in other.plan().model.stages]
    assert held == [] and stages[-1] == ("model" if case == "instance" else "head")


def test_assignment_stops_the_next_fit_and_the_next_sweep_and_with_model_mends_it(small_learner):
    learn = small_learner().fit(1)
    learn.model = small_net()
    for look in (lambda: learn.fit(1), lambda: learn.lr_find(steps=20)):
        with pytest.raises(OwnershipError, match=r"learn\.with_model\(your_module\)"):
            look()
    assert learn.with_model(learn.model).fit(1).history


def test_a_swapped_run_is_saved_loaded_resumed_and_carried_away(photos, tmp_path):
    learn = sheer.learner(sheer.images(photos), Small, quiet=True, batch_size=8, size=32, out=tmp_path / "first").fit(1)
    other = learn.with_model(small_net).write_to(tmp_path / "run").fit(2)
    objects = {"small_net": small_net}
    assert sheer.load(tmp_path / "run", objects=objects).plan() == other.plan()
    script = sheer.eject(tmp_path / "run", tmp_path / "train.py", objects=objects)
    done = run_script(script, photos, "--out", tmp_path / "again")
    assert done.returncode == 0, done.stderr
    assert rows(tmp_path / "run" / "history.csv") == rows(tmp_path / "again" / "history.csv")


def test_what_cannot_be_swapped_is_said(small_learner, tmp_path):
    learn = small_learner().fit(1)
    with pytest.raises(ModelError, match="weights='package' is for models by name"):
        learn.with_model(small_net, weights="package")
    with pytest.raises(PlanError, match="Did you mean 'linear'"):
        learn.with_model(small_net, head="linea")
    learn.save(tmp_path / "run")
    with pytest.raises(DataError, match="without its data"):
        sheer.load(tmp_path / "run", objects={"Small": Small}).with_model(small_net)


def test_a_table_s_network_is_swapped_for_another_and_for_your_own(tmp_path):
    frame = pandas.DataFrame({"x": [float(n) / 3 for n in range(60)], "z": [float(n % 7) for n in range(60)], "y": ["a", "b"] * 30})
    data, given = sheer.table(frame, target="y"), {"batch_size": 16, "quiet": True, "label_smoothing": 0.1, "clip": 1.0}
    first = sheer.learner(data, ("tabular", {"hidden": (8,)}), **given).fit(1)
    for model in ("tabm", ("tabular", {"hidden": (4, 4)}), Rows):
        other, made = first.with_model(model), sheer.learner(data, model, **given)
        assert other.plan() == made.plan() and other.plan().phases == ()
        assert other.fit(1, 0.01).history[-1].weights_sha256 == made.fit(1, 0.01).history[-1].weights_sha256
    whole = first.with_model(Rows).write_to(tmp_path / "run").fit(2, 0.01)
    script = sheer.eject(tmp_path / "run", tmp_path / "train.py", objects={"Rows": Rows})
    done = run_script(script, tmp_path / "train_items.csv", "--out", tmp_path / "again")
    assert done.returncode == 0, done.stderr
    assert rows(tmp_path / "run" / "history.csv") == rows(tmp_path / "again" / "history.csv") and len(whole.history) == 2
    with pytest.raises(PlanError, match="fusion='concat' is for items with several inputs"):
        first.with_model(Rows, fusion="concat")
    with pytest.raises(ModelError, match="a table's network has no pretrained weights"):
        first.with_model("tabm", weights="package")
    first.model = whole.model
    with pytest.raises(OwnershipError, match=r"learn\.with_model\(your_module\)"):
        first.fit(1)


def test_one_dropout_a_layer():
    frame = pandas.DataFrame({"x": [float(n) / 3 for n in range(60)], "y": ["a", "b"] * 30})
    data = sheer.table(frame, target="y")
    learn = sheer.learner(data, ("tabular", {"hidden": (8, 4), "dropout": (0.3, 0.07)}), batch_size=16, quiet=True).fit(1)
    assert [module.p for module in learn.model.body.layers if isinstance(module, nn.Dropout)] == [0.3, 0.07]
    assert sheer.Plan.from_json(learn.plan().to_json()) == learn.plan()
    with pytest.raises(ModelError, match="dropout"):
        sheer.learner(data, ("tabular", {"hidden": (8, 4), "dropout": (0.3,)}))
