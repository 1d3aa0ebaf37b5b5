"""Branches of your own: functions, classes and objects beside named networks, carried away, resumed and swapped."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn

import sheer
from conftest import Leave, Small
from own_code import TableNet, image_net
from scripts import run_script
from sheer.errors import EjectError, ModelError, OwnershipError, PlanError, RunError
from sheer.plan.plan import Plan
from test_eject import rows

OBJECTS = {"TableNet": TableNet, "image_net": image_net}
BOTH = {"image": image_net, "table": TableNet}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """40 photographs beside a number and a category; one row in eight lacks its photograph."""
    root, draw = tmp_path_factory.mktemp("items"), np.random.default_rng(0)
    items = []
    for number in range(40):
        Image.fromarray(draw.integers(0, 255, (36, 40, 3), dtype=np.uint8)).save(root / f"{number:02d}.jpg")
        width, doors = draw.normal(number % 2 * 4), draw.choice(["two", "four"])
        items.append({"photo": f"{number:02d}.jpg" if number % 8 else None, "kind": "ab"[number % 2], "width": width, "doors": doors})
    pd.DataFrame(items).to_csv(root / "items.csv", index=False)
    return root


def learner(folder, models=None, **options):
    inputs = {"image": sheer.ImageInput(column="photo"), "table": sheer.TableInput(columns=["width", "doors"])}
    data = sheer.DataBlock(inputs=inputs, label="kind").build(folder / "items.csv")
    return sheer.learner(data, BOTH if models is None else models, **{"size": 32, "batch_size": 8, "quiet": True} | options)


def hashes(learn):
    return [row.weights_sha256 for row in learn.history]


@pytest.fixture(scope="module")
def run(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "run"
    learner(folder, out=out).fine_tune(1)
    return out


def test_a_profile_is_not_resolved_for_them(folder):
    learn = learner(folder, {"image": "resnet18", "table": TableNet}, weights="none")
    with pytest.raises(PlanError, match=r"branches of your own \(TableNet\): a profile is resolved for networks by name"):
        sheer.diff(learn, "fastai-2.8")


def test_each_is_a_stage_with_its_source_in_the_plan_and_freezes(folder):
    learn = learner(folder)
    model = learn.plan().model
    assert [stage.name for stage in model.stages] == ["image body", "table body", "head"]
    image, table = (branch.model for branch in model.branches)
    assert (image.name, image.weights.name, image.kind, image.features) == ("function:image_net", "given", "map", 5)
    assert (table.name, table.weights.name, table.kind, table.features) == ("function:TableNet", "none", "vector", 8)
    assert all(len(one.weights.options()["source_sha256"]) == 64 for one in (image, table))
    frozen, whole = learn.plan(sheer.recipes.fine_tune(1, rate=1e-3)).phases
    assert (frozen.trains_from, whole.trains_from) == (1, 0) and whole.rates[0] < whole.rates[1] == whole.rates[2]
    assert {group.stage: group.weights_from for group in frozen.groups}["table body"] == "initialised"
    listed = learn.plan(sheer.recipes.one_cycle(1, rate=[1e-5, 2e-5, 3e-5])).phases[0]
    assert listed.rates == (1e-5, 2e-5, 3e-5) and Plan.from_json(learn.plan().to_json()) == learn.plan()
    before = {name: tensor.clone() for name, tensor in learn.model.state_dict().items()}
    learn.freeze().fit(1)
    after = learn.model.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in before if name.startswith("body.branches.image."))
    assert not torch.equal(after["body.branches.table.layers.0.weight"], before["body.branches.table.layers.0.weight"])
    other = learner(folder, weights={"image": "none", "table": "given"}).plan()
    assert [branch.model.weights.name for branch in other.model.branches] == ["none", "given"]
    assert [stage.name for stage in other.model.stages] == ["table body", "image body", "head"]


def test_script_and_loaded_run_give_the_same(folder, run, tmp_path):
    with pytest.raises(EjectError, match=r"your own 'image_net'; give it"):
        sheer.eject(run, tmp_path / "train.py")
    script = sheer.eject(run, tmp_path / "train.py", objects=OBJECTS)
    done = run_script(script, folder, "--out", tmp_path / "again")
    assert done.returncode == 0, done.stderr
    assert rows(run / "history.csv") == rows(tmp_path / "again" / "history.csv")
    with pytest.raises(ModelError, match=r"used 'image_net', a module of your own.*objects="):
        sheer.load(run)
    learn = sheer.load(run, objects=OBJECTS, data=learner(folder).data)
    assert learn.with_model({}).plan() == learner(folder).plan()
    learn.export(tmp_path / "both.sheer")
    bundle = sheer.load_bundle(tmp_path / "both.sheer", objects=OBJECTS)
    assert np.abs(bundle.predict(folder / "items.csv").outputs[learn.data.valid] - learn.validate().outputs).max() < 1e-6
    (sentence,) = sheer.explain(run, objects=OBJECTS).about("model.branches")
    assert "image by function:image_net, given weights" in sentence.text and sentence.line
    for take in (sheer.load, lambda path, objects: sheer.eject(path, tmp_path / "other.py", objects=objects)):
        with pytest.raises((RunError, EjectError), match="source of 'TableNet' is not what the run was made with"):
            take(run, objects=OBJECTS | {"TableNet": Small})


def test_an_interrupted_run_goes_on_to_the_same_bits(folder, run, tmp_path):
    learner(folder, out=tmp_path / "run").run(sheer.recipes.fine_tune(1), callbacks=[Leave(6)])
    with pytest.raises(ModelError, match="objects="):
        sheer.resume(tmp_path / "run", quiet=True)
    assert hashes(sheer.resume(tmp_path / "run", objects=OBJECTS, quiet=True)) == hashes(sheer.load(run, objects=OBJECTS))


def test_objects_and_named_networks_beside_them(folder, tmp_path):
    learn = learner(folder, {"image": nn.Conv2d(3, 4, 3, stride=4)}, out=tmp_path / "run").fit(1)
    assert [branch.model.name for branch in learn.plan().model.branches] == ["module:Conv2d", "sheer:tabular"]
    learn.export(tmp_path / "object.sheer")
    again = sheer.load(tmp_path / "run", objects={"Conv2d": nn.Conv2d(3, 4, 3, stride=4)}, data=learn.data)
    assert np.array_equal(again.validate().outputs, learn.validate().outputs)
    with pytest.raises(EjectError, match="an instance of Conv2d"):
        sheer.eject(tmp_path / "run", tmp_path / "train.py", objects={"Conv2d": nn.Conv2d})
    with pytest.raises(ModelError, match=r"'image' was an object of Conv2d, which has been trained since.*Name it too"):
        learn.with_model({"table": TableNet})
    assert learner(folder, {"image": nn.Conv2d(3, 4, 3)}).with_model({"table": TableNet}).fit(1).history


class Four(nn.Module):
    """No body for rows of two numbers."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 8)

    def forward(self, rows):
        return self.layer(rows)


ONE = nn.Conv2d(3, 4, 3, stride=4)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"model": {"image": image_net, "table": Four}},
            r"model=.'table': Four.: .*cannot take inputs of shape \(2, 2\).*in this order: doors, width",
        ),
        ({"model": {"image": Four}}, r"model=.'image': Four.: .*cannot take inputs of shape \(2, 3, 32, 32\)"),
        ({"model": {"image": lambda: nn.Flatten(2)}}, r"model=.'image': <lambda>.: .*gives \(2, 3, 1024\) for 2 items"),
        ({"model": {"image": lambda: "none"}}, "gives str; pass"),
        ({"model": {"image": lambda size: nn.Conv2d(3, 4, 3)}}, "fails: .*It is called without arguments"),
        ({"model": {"image": lambda: nn.LazyConv2d(4, 3)}}, "lazy layers"),
        ({"model": {"image": image_net}, "weights": {"image": "package"}}, "weights='package' is for networks by name"),
    ],
)
def test_what_does_not_fit_is_said(folder, given, message):
    with pytest.raises(ModelError, match=message):
        learner(folder, given["model"], weights=given.get("weights", "default"))


def test_the_mark_of_missing_cells_has_its_own_name(folder):
    frame = pd.read_csv(folder / "items.csv").assign(age=[*[None] * 9, *range(9, 40)], size=range(40))
    table = {"table": sheer.TableInput(columns=["age", "size"])}
    data = sheer.DataBlock(inputs=table, label="kind", root=folder).build(frame)
    with pytest.raises(ModelError, match=r"Its rows have, in this order: age \(missing\), age, size\.$"):
        sheer.learner(data, {"table": Four})


def test_two_branches_that_share_tensors_are_refused(folder):
    inputs = {"front": sheer.ImageInput(column="photo"), "back": sheer.ImageInput(column="back")}
    frame = pd.read_csv(folder / "items.csv").assign(back="01.jpg")
    data = sheer.DataBlock(inputs=inputs, label="kind", root=folder).build(frame)
    with pytest.raises(ModelError, match=r"branches 'front' and 'back' share weight.*a function that makes a new module"):
        sheer.learner(data, {"front": ONE, "back": ONE}, size=32)
    learn = sheer.learner(data, {"front": image_net, "back": image_net}, size=32, batch_size=8, quiet=True)
    assert len(learn.fit(1).plan().model.branches) == 2


def test_texts_are_read_by_an_encoder(folder):
    pytest.importorskip("transformers", reason="the extra text is not installed")
    data = sheer.DataBlock(inputs={"text": sheer.TextInput(column="doors")}, label="kind").build(folder / "items.csv")
    with pytest.raises(ModelError, match="texts are read by an encoder's own tokenizer"):
        sheer.learner(data, {"text": TableNet})


def test_one_branch_is_swapped_and_the_others_stay_as_they_were(folder, tmp_path):
    given = {"fusion": ("gated_sum", {"width": 8}), "head": "linear", "norm": "train", "weights": "none"}
    first = learner(folder, {"image": "test_resnet", "table": TableNet}, stages="layers", **given).fit(1)
    before = first.plan()
    swapped = first.with_model({"table": ("tabular", {"hidden": (4,)})})
    made = learner(folder, {"image": "test_resnet", "table": ("tabular", {"hidden": (4,)})}, stages="layers", **given)
    assert swapped.plan() == made.plan() and swapped.plan().phases == () and len(swapped.history) == 0
    recipe = sheer.recipes.one_cycle(1, rate=1e-2)
    assert hashes(swapped.run(recipe)) == hashes(made.run(recipe))
    assert first.plan() == before and hashes(first) != []
    start = {name: tensor.clone() for name, tensor in swapped.model.state_dict().items()}
    swapped.unfreeze().fit(1, 0.01)
    assert [name for name, parameter in swapped.model.named_parameters() if torch.equal(parameter, start[name])] == ["body.missing.table"]
    back = swapped.with_model({"table": TableNet})
    assert back.plan() == replace(before, phases=())
    other = first.with_model({"image": image_net}, fusion="concat", weights={"image": "given"})
    assert other.plan().model.fusion.name == "concat" and other.plan().model.branches[0].model.weights.name == "given"
    assert [branch.model.name for branch in other.plan().model.branches] == ["function:image_net", "function:TableNet"]
    whole = first.with_model(BOTH, head="concat_pool").write_to(tmp_path / "run").fit(1)
    assert whole.plan().model.head.name == "concat_pool"
    script = sheer.eject(tmp_path / "run", tmp_path / "train.py", objects=OBJECTS)
    done = run_script(script, folder, "--out", tmp_path / "again")
    assert done.returncode == 0, done.stderr
    assert rows(tmp_path / "run" / "history.csv") == rows(tmp_path / "again" / "history.csv")
    with pytest.raises(ModelError, match=r"'tabel' is no input of the data. Did you mean 'table'"):
        first.with_model({"tabel": TableNet})
    with pytest.raises(ModelError, match="give one an input"):
        first.with_model(TableNet)


def test_an_assigned_model_stops_the_next_fit(folder):
    learn = learner(folder).fit(1)
    learn.model = learner(folder, {"image": image_net}).model
    for look in (lambda: learn.fit(1), lambda: learn.lr_find(steps=20)):
        with pytest.raises(OwnershipError, match=r"learn\.with_model\(your_module\)"):
            look()
    with pytest.raises(PlanError, match="fusion='sum' is not known"):
        learn.with_model({}, fusion="sum")
    assert learn.with_model({}).fit(1).history
