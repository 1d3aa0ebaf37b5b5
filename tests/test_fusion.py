"""Several inputs from end to end: branches, fusions, missing inputs, stages, the run folder, the script, what a branch is worth."""

import csv
import re
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import polars as pl
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

import sheer
import sheer.loop.cached as cached_module
from conftest import Leave
from scripts import run_script
from sheer.cli.main import main
from sheer.errors import DataError, ModelError, PlanError, RunError
from sheer.model.fusion import FUSIONS, branch_of
from sheer.plan.plan import Plan
from sheer.study.explain.script_lines import LINES


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """60 photographs, of which colour and a table decide the kind together; some items lack one, some the other."""
    root = tmp_path_factory.mktemp("items")
    draw, rows = np.random.default_rng(0), []
    for number in range(60):
        kind, red = number % 2, bool(draw.integers(2))
        pixels = draw.integers(0, 120, (40, 48, 3))
        pixels[..., 0 if red else 2] += 100
        Image.fromarray(pixels.astype(np.uint8)).save(root / f"{number:02d}.jpg")
        wide = red ^ (kind == 1)
        rows.append(
            {
                "photo": f"{number:02d}.jpg" if number % 9 else None,
                "kind": "good" if kind else "bad",
                "width": draw.normal(8 if wide else 2) if number % 7 else None,
                "doors": draw.choice(["two", "four"]) if number % 7 else None,
                "back": f"{(number + 1) % 60:02d}.jpg",
            }
        )
    frame = pd.DataFrame(rows)
    frame.to_csv(root / "items.csv", index=False)
    return root


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A file of weights, so that the image branch counts as pretrained."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "resnet.safetensors"
    save_file(timm.create_model("test_resnet").state_dict(), path)
    return str(path)


def block(**options):
    inputs = {"image": sheer.ImageInput(column="photo"), "table": sheer.TableInput(columns=["width", "doors"])}
    return sheer.DataBlock(**{"inputs": inputs, "label": "kind"} | options)


def learner(folder, weights="none", data=None, **options):
    data = data or block().build(folder / "items.csv")
    return sheer.learner(data, {"image": "test_resnet"}, **{"weights": weights, "size": 32, "batch_size": 8, "quiet": True} | options)


@pytest.fixture(scope="module")
def run(folder, weights, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "run"
    learner(folder, weights, out=out).fine_tune(1)
    return out


def test_each_input_says_what_it_reads_and_how_many_items_lack_it(folder):
    data = block().build(folder / "items.csv")
    image, table = data.plan.inputs
    assert (image.name, image.kind, image.reads, image.missing_train + image.missing_valid) == ("image", "image", ("photo",), 7)
    assert (table.kind, table.reads, table.missing_train + table.missing_valid) == ("table", ("doors", "width"), 9)
    assert len(data.paths) == 53 and data.inputs[0].place.min() == -1
    assert f"input 'image' is missing in {image.missing_train} rows to train on and {image.missing_valid} held out" in data.summary()
    mean = dict(table.columns[-1].settings)["mean"]
    frame = pd.read_csv(folder / "items.csv")
    assert mean == pytest.approx(frame["width"][data.train].mean(), rel=1e-6)


def test_a_csv_file_and_frames_are_the_same(folder, monkeypatch):
    frame = pd.read_csv(folder / "items.csv")
    one, *others = (block(root=folder).build(source).plan for source in (folder / "items.csv", frame, pl.from_pandas(frame)))
    for other in others:
        assert (other.inputs, other.listing_sha256, other.held_out_sha256) == (one.inputs, one.listing_sha256, one.held_out_sha256)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"inputs": {}}, r"inputs=\{\}: give a dictionary"),
        ({"inputs": {"image": "photo"}}, r"inputs\['image'\]='photo' is no input: give sheer.ImageInput"),
        ({"inputs": {"my image": sheer.ImageInput(column="photo")}}, "give another name"),
        ({"inputs": {"items": sheer.ImageInput(column="photo")}}, "give another name"),
        ({"inputs": {"image": sheer.ImageInput(column="foto")}}, "Input 'image' reads the column 'foto'.*Did you mean 'photo'"),
        ({"inputs": {"a": sheer.ImageInput(column="photo"), "b": sheer.ImageInput(column="photo")}}, "'photo' is read by two inputs"),
        ({"inputs": {"table": sheer.TableInput(columns=["kind"])}}, "'kind' is the label"),
        ({"inputs": {"table": sheer.TableInput(columns=["width"], categorical=["doors"])}}, "'doors' is not among its columns"),
        ({"inputs": {"table": sheer.TableInput(columns=["width"], ignore=["width"])}}, "no column is left"),
        ({"inputs": {"image": sheer.ImageInput(column="doors")}}, "is no photograph by its name"),
        ({"inputs": {"image": sheer.ImageInput(column=3)}}, r"inputs\['image'\]: column=3: give the name of the one column"),
        ({"inputs": {"text": sheer.TextInput(column=["a"])}}, r"inputs\['text'\]: column=\['a'\]: give the name of the one column"),
        ({"inputs": {"t": sheer.TableInput(columns="width")}}, r"inputs\['t'\]: columns='width': give the names of columns in a list"),
        ({"inputs": {"t": sheer.TableInput(categorical="doors")}}, r"categorical='doors': give the names of columns in a list"),
        ({"inputs": {"t": sheer.TableInput(continuous=None)}}, r"continuous=None: give the names of columns in a list"),
        ({"inputs": {"t": sheer.TableInput(ignore=["width", 1])}}, r"ignore=\['width', 1\]: give the names of columns in a list"),
        ({"label": None}, "inputs= needs label="),
        ({"path": "photo"}, r"ImageInput\(column=...\) names"),
        ({"bad_files": "skip"}, "empty the cell of a file that cannot be read"),
    ],
)
def test_what_was_given_is_checked(folder, given, message):
    with pytest.raises(DataError, match=message):
        block(**given).build(folder / "items.csv")


def test_a_branch_with_nothing_to_train_is_refused(folder):
    frame = pd.read_csv(folder / "items.csv").assign(photo=None)
    with pytest.raises(DataError, match=r"Input 'image': no row to train on has it .photo are empty., so its branch has nothing to train"):
        block(root=folder).build(frame)
    with pytest.raises(DataError, match=r"there is no file .*00x\.jpg"):
        block(root=folder).build(pd.read_csv(folder / "items.csv").assign(photo="00x.jpg"))


def test_what_several_inputs_cannot_have_is_said(folder):
    data = block().build(folder / "items.csv")
    for options, error, message in (
        ({"mix": "mixup"}, PlanError, "items with several inputs cannot be averaged"),
        ({"channels": 1}, PlanError, "channels and channel_init are for one input"),
        ({"fusion": "sum"}, PlanError, "fusion='sum' is not known"),
        ({"fusion": ("cross_attention", {"width": 6, "heads": 4})}, ModelError, "cannot be made"),
        ({"model": "test_resnet"}, ModelError, "the data has the inputs image, table; give one an input"),
        ({"model": {"imagee": "test_resnet"}}, ModelError, "'imagee' is no input of the data. Did you mean 'image'"),
        ({"model": {"image": ("tabular", {})}}, ModelError, "a branch for pictures is a name of timm or torchvision, or your own"),
        ({"model": {"image": "test_resnet", "table": "tabnet"}}, PlanError, "'tabnet' is not known"),
        ({"weights": {"image": "none", "table": "package"}}, ModelError, "no pretrained weights"),
    ):
        with pytest.raises(error, match=message):
            sheer.learner(data, **{"model": {"image": "test_resnet"}, "weights": "none", "size": 32, **options}).plan(
                sheer.recipes.one_cycle(1)
            )
    with pytest.raises(PlanError, match="fusion='concat' is for items with several inputs"):
        sheer.learner(sheer.table(folder / "items.csv", target="kind", ignore=["photo", "back"]), fusion="concat")


def test_stages_rates_and_freezing_know_the_branches(folder, weights):
    learn = learner(folder, weights)
    model = learn.plan().model
    assert [stage.name for stage in model.stages] == ["image early", "image late", "table embeddings", "table layers", "head"]
    assert [branch.name for branch in model.branches] == ["image", "table"] and model.weights.name == "branches"
    frozen, whole = learn.plan(sheer.recipes.fine_tune(1)).phases
    assert frozen.trains_from == 2 and frozen.norm == ("frozen", "frozen", "train", "train", "train")
    assert frozen.rates == pytest.approx((2e-4, 2e-4, 2e-3, 2e-3, 2e-3))
    assert whole.rates == pytest.approx((1e-5, 1e-4, 1e-3, 1e-3, 1e-3))
    sources = {group.stage: group.weights_from for group in frozen.groups}
    assert sources == {
        "image early": "file",
        "image late": "file",
        **dict.fromkeys(("table embeddings", "table layers", "head"), "initialised"),
    }
    assert "branch image" in str(learn.plan()) and "image early" in str(learn.plan(sheer.recipes.fine_tune(1)))
    names = [phase.trains_from for phase in learn.plan(sheer.recipes.gradual(1)).phases]
    assert names == [4, 3, 2, 1, 0]
    listed = learn.plan(sheer.recipes.one_cycle(1, rate=[1e-5, 2e-5, 3e-5, 4e-5, 5e-5])).phases[0]
    assert listed.rates == (1e-5, 2e-5, 3e-5, 4e-5, 5e-5)
    before = {name: tensor.clone() for name, tensor in learn.model.state_dict().items()}
    learn.freeze().fit(1)
    moved = {name for name, tensor in learn.model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert not any(name.startswith("body.branches.image.") for name in moved)
    assert {"body.missing.image", "body.missing.table", "head.linear0.weight"} <= moved
    assert any(name.startswith("body.branches.table.layers") for name in moved)


def test_each_kind_of_stage_rule_and_both_new(folder):
    layers = learner(folder, stages="layers").plan().model
    assert len(layers.stages) > 6 and layers.stages[0].name.startswith("image ")
    learn = learner(folder)
    assert learn.plan(sheer.recipes.fine_tune(1)).phases[0].trains_from == 0  # both branches start from random weights


@pytest.mark.parametrize("fusion", FUSIONS)
def test_a_missing_input_is_replaced_by_what_was_learned(fusion, folder):
    learn = learner(folder, fusion=fusion)
    body = learn.model.get_submodule("body")
    batch = next(iter(learn._view().feed(learn.data).plain(np.arange(16)))).inputs
    assert batch.present[0].tolist() == [False, False] and batch.parts["image"][0].abs().max() == 0
    with torch.no_grad():
        body.missing["image"].fill_(0.5)
        tokens = body.eval().tokens(batch)
        assert (tokens[0][0] == 0.5).all() and (tokens[1][0] == 0).all() and (tokens[0][1] != 0.5).any()
        scores = learn.model.eval()(batch)
        batch.parts["image"][0] = 7.0  # what lies in the place of a missing picture says nothing
        assert torch.equal(learn.model(batch)[0], scores[0])
        assert torch.equal(torch.cat([learn.model(part) for part in batch.split(16)]), learn.model(batch))


CASES = {
    "pretrained": ({}, {}),
    "gated": ({}, {"fusion": ("gated_sum", {"width": 8}), "clip": 1.0, "head": "linear"}),
    "attention": ({}, {"fusion": ("cross_attention", {"width": 8, "heads": 2}), "accumulate": 16, "ema": 0.9}),
    "two pictures": (
        {"inputs": {"front": sheer.ImageInput(column="photo"), "back": sheer.ImageInput(column="back")}},
        {"model": {"front": "test_resnet", "back": "test_resnet"}, "weights": "none", "augmentation": ("flip", "rotate")},
    ),
    "tables": (
        {"inputs": {"one": sheer.TableInput(columns=["width"]), "other": sheer.TableInput(columns=["doors"])}},
        {"model": {"one": ("tabular", {"hidden": (4,)})}, "weights": "none", "size": None},
    ),
    "one": ({"inputs": {"image": sheer.ImageInput(column="photo")}, "group": "back"}, {"weights": "none"}),
}


@pytest.mark.parametrize("case", CASES)
def test_script_and_library_give_the_same_weights_after_every_epoch(case, folder, weights, tmp_path):
    for_data, for_learner = CASES[case]
    options = {"model": {"image": "test_resnet"}, "weights": weights, "size": 32, "batch_size": 8, "quiet": True, "out": tmp_path / "run"}
    learn = sheer.learner(block(**for_data).build(folder / "items.csv"), **options | for_learner).fine_tune(1)
    assert Plan.from_json(learn.plan().to_json()) == learn.plan()
    script = sheer.eject(tmp_path / "run", tmp_path / "train.py")
    assert "import sheer" not in script.read_text()
    command = [sys.executable, script, folder, "--out", tmp_path / "again", "--predict", folder / "items.csv"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with (tmp_path / "again" / "history.csv").open() as file:
        assert [row["weights_sha256"] for row in csv.DictReader(file)] == [row.weights_sha256 for row in learn.history]
    said = [line.split()[-2] for line in done.stdout.splitlines()[-60:]]
    assert said == list(learn.predict(folder / "items.csv").labels)
    lint = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--isolated", "--select", "F,E9", script], capture_output=True, check=False
    )
    assert lint.returncode == 0, lint.stdout


def frozen_learner(folder, weights, out=None, data=None, **options):
    learn = learner(folder, weights, data, out=out, **{"prefix": ("cached", {"views": 3, "fold": False})} | options)
    return learn.freeze()


@pytest.mark.parametrize("fusion", FUSIONS)
def test_a_frozen_branch_runs_once_an_item_to_the_same_bits(fusion, folder, weights):
    kept, whole = frozen_learner(folder, weights, fusion=fusion), frozen_learner(folder, weights, fusion=fusion, prefix="whole")
    runs = {"kept": 0, "whole": 0}
    for name, learn in (("kept", kept), ("whole", whole)):
        branch = learn.model.get_submodule("body.branches.image")
        branch.register_forward_hook(lambda module, inputs, output, name=name: runs.update({name: runs[name] + len(output)}))
        learn.fit_one_cycle(3)
    phase = kept.plan().phases[0]
    assert phase.prefix.options()["modules"] == ("body.branches.image", "body.pools.image") and "image once an item" in str(kept.plan())
    assert [row.weights_sha256 for row in kept.history] == [row.weights_sha256 for row in whole.history]
    assert runs["kept"] <= 3 * 60 + 2 < runs["whole"]  # its copy runs: three views and what is held out; two in the trial of a batch of one


def test_the_batch_of_frozen_branches_can_be_probed(folder, weights):
    (phase,) = (
        frozen_learner(folder, weights, prefix=("cached", {"batch_size": "probe", "views": 1})).plan(sheer.recipes.one_cycle(1)).phases
    )
    (origin,) = [origin for origin in phase.origins if origin.field == "prefix"]
    assert origin.by == "measured" and "ms in batches of 8" in origin.reason and phase.prefix.options()["batch_size"] >= 4


def test_branches_that_train_are_read_at_every_step_beside_those_that_are_kept(folder, weights, texts, tmp_path):
    inputs = {"image": sheer.ImageInput(column="photo"), **TEXT}
    data = block(inputs=inputs).build(texts)
    options = {"weights": {"image": weights}, "size": 32, "batch_size": 8, "quiet": True}
    learn = sheer.learner(data, {"image": "test_resnet", "text": "encoder"}, out=tmp_path / "run", **options)
    learn.fine_tune(1, freeze_epochs=2)
    first = learn.plan().phases[0].prefix.options()
    assert first["modules"] == ("body.branches.image", "body.pools.image", "body.branches.text", "body.pools.text") and first["views"] == 2
    assert "What of image, text comes before its first" in " ".join(str(sheer.explain(learn.plan())).split())
    script = sheer.eject(tmp_path / "run", tmp_path / "train.py")
    done = subprocess.run([sys.executable, script, folder, "--out", tmp_path / "again"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with (tmp_path / "again" / "history.csv").open() as file:
        assert [row["weights_sha256"] for row in csv.DictReader(file)] == [row.weights_sha256 for row in learn.history]

    class AtFeatures(Leave):
        def on_step(self, position): ...

        def on_features(self, position):
            if position.features[0] > position.features[1] // 2:
                position.pause = "a test"

    left = sheer.learner(data, {"image": "test_resnet", "text": "encoder"}, out=tmp_path / "left", **options)
    left.run(sheer.recipes.fine_tune(1, freeze_epochs=2), callbacks=[AtFeatures(0)])
    assert not left.history
    again = sheer.resume(tmp_path / "left", quiet=True)
    assert [row.weights_sha256 for row in again.history] == [row.weights_sha256 for row in learn.history]


def test_what_is_not_drawn_runs_once_whatever_the_views(folder, weights, texts, monkeypatch):
    seen, made = {}, cached_module.cached_features

    def counted(part, last, fold, size, batches):
        def passed():
            for view, row, inputs in batches:
                seen[inputs.ndim] = seen.get(inputs.ndim, 0) + len(row)
                yield view, row, inputs

        return made(part, last, fold, size, passed())

    monkeypatch.setattr(cached_module, "cached_features", counted)
    data = block(inputs={"image": sheer.ImageInput(column="photo"), **TEXT}).build(texts)
    options = {"size": 32, "batch_size": 8, "quiet": True, "prefix": ("cached", {"views": 3})}
    both = sheer.learner(data, {"image": "test_resnet", "text": "encoder"}, weights={"image": weights}, **options)
    both.freeze().fit_one_cycle(3)
    train, valid = len(data.train), len(data.valid)
    assert seen == {4: 3 * train + valid, 2: train + valid}
    seen.clear()
    options["prefix"] = "cached"
    new = sheer.learner(data, {"image": "test_resnet", "text": "encoder"}, weights={"image": "none"}, **options)
    new.freeze().fit_one_cycle(3)
    assert seen == {2: train + valid} and new.plan().phases[0].prefix.options()["views"] == 0


def test_a_frozen_branch_runs_in_the_precision_of_the_plan(folder, weights, monkeypatch):
    monkeypatch.setattr("sheer.api.measured", lambda numerics, *given, **options: replace(numerics, precision="bf16"))
    kinds, learn = set(), frozen_learner(folder, weights, precision="bf16", prefix="cached")
    made = cached_module.cached_features

    def watched(part, *others):
        convolution = next(module for module in part.modules() if isinstance(module, torch.nn.Conv2d))
        convolution.register_forward_hook(lambda module, inputs, output: kinds.add(output.dtype))
        return made(part, *others)

    monkeypatch.setattr(cached_module, "cached_features", watched)
    learn.fit_one_cycle(1)
    assert kinds == {torch.bfloat16}


def test_a_hook_on_a_branch_by_itself_is_none_of_the_network(folder, weights):
    model = learner(folder, weights).model
    part, _ = branch_of(model, "image", ())
    part.register_forward_hook(lambda module, inputs, output: None)
    assert not model._forward_hooks and len(part._forward_hooks) == 1


def test_photographs_that_are_drawn_alike_are_all_kept_or_all_read(folder, weights, texts):
    pictures = {"front": sheer.ImageInput(column="photo"), "back": sheer.ImageInput(column="back")}
    data = block(inputs=pictures).build(folder / "items.csv")
    models, options = {"front": "test_resnet", "back": "test_resnet"}, {"weights": {"front": weights, "back": "none"}, "size": 32}
    phase = sheer.learner(data, models, **options).freeze().plan(sheer.recipes.one_cycle(2)).phases[0]
    assert phase.trains_from == 2 and phase.prefix.name == "whole"
    with pytest.raises(PlanError, match="what is frozen cannot be run by itself here: no module ends before"):
        sheer.learner(data, models, **options, prefix="cached").freeze().plan(sheer.recipes.one_cycle(2))
    with pytest.raises(PlanError, match="every view of these items is the same: only pictures are cut and augmented"):
        learn = sheer.learner(block(inputs=TEXT).build(texts), {"text": "encoder"}, prefix=("cached", {"views": 2}))
        learn.freeze().plan(sheer.recipes.one_cycle(2))


@pytest.mark.parametrize(
    ("change", "message", "refused"),
    [
        (lambda text: text.replace(",two\n", ",four\n", 1).replace(",two,", ",four,", 1), "does not hold the 60 items of the run", False),
        (lambda text: text.replace(",valid,", ",train,", 1), "targets, weights or split of the items are not those", True),
    ],
    ids=["a cell", "the split"],
)
def test_the_script_refuses_other_items(run, folder, tmp_path, change, message, refused):
    """Targets and split are proved by eject already; cells beside photographs by the script, which is told where these lie."""
    script, items = sheer.eject(run, tmp_path / "train.py"), tmp_path / "train_items.csv"
    items.write_text(change(items.read_text()))
    done = subprocess.run([sys.executable, script, folder, "--out", tmp_path / "o"], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and message in done.stderr
    if refused:
        other = shutil.copytree(run, tmp_path / "run")
        shutil.copy(items, other / "items.csv")
        with pytest.raises(RunError, match="does not have the targets, weights or split of the run"):
            sheer.eject(other, tmp_path / "other.py")


def test_the_script_finds_photographs_where_the_learner_does(folder, tmp_path):
    """Beside the CSV file, or below its folder argument; what it cannot find or read ends in one line."""
    learn, far, wrong = learner(folder, out=tmp_path / "run").fit(1), tmp_path / "new.csv", tmp_path / "wrong.csv"
    script = sheer.eject(tmp_path / "run", tmp_path / "train.py")
    rows = pd.read_csv(folder / "items.csv")
    rows.to_csv(far, index=False)
    done = run_script(script, folder, "--out", "again", "--predict", "new.csv")
    assert done.returncode == 0, done.stderr
    said = [line.split()[-2] for line in done.stdout.splitlines()[-60:]]
    assert said == list(learn.predict(far).labels)
    text = rows.to_csv(index=False)
    for change, message in (
        (text, r"There is no photograph 01\.jpg below '\.'\.$"),
        (text.replace("photo,", "picture,"), "wrong.csv has no rows, or lacks the column 'photo'.$"),
        (text + "01.jpg,good\n", "wrong.csv row 61 has more or fewer cells"),
        ("photo,width,doors\n,1,two\n,wide,two\n", "wrong.csv: Column 'width': row 2 holds 'wide', which is no finite number.$"),
    ):
        wrong.write_text(change)
        done = run_script(script, "--out", "again", "--predict", "wrong.csv")
        assert done.returncode == 1 and re.search(message, done.stderr) and done.stderr.count("\n") == 1, done.stderr
    for given, message in ((far, f"{far} is no folder: give the folder of photographs"), (tmp_path, "There is no photograph 01.jpg below")):
        done = run_script(script, given, "--out", f"other-{given.name}")
        assert done.returncode == 1 and message in done.stderr and done.stderr.count("\n") == 1, done.stderr


def test_the_script_of_tables_alone_says_which_file_it_wants(folder, tmp_path):
    for_data, for_learner = CASES["tables"]
    sheer.learner(block(**for_data).build(folder / "items.csv"), quiet=True, out=tmp_path / "run", **for_learner).fit(1)
    script = sheer.eject(tmp_path / "run", tmp_path / "train.py")
    done = run_script(script, folder / "items.csv", "--out", "again")
    assert done.returncode == 1 and done.stderr.count("\n") == 1, done.stderr
    assert "lacks the column 'input width'. Give train_items.csv, which was written beside this script." in done.stderr


def test_an_interrupted_run_goes_on_to_the_same_bits_from_its_folder_alone(run, folder, weights, tmp_path):
    learner(folder, weights, out=tmp_path / "run").run(sheer.recipes.fine_tune(1), callbacks=[Leave(8)])
    again = sheer.resume(tmp_path / "run", quiet=True)
    assert [row.weights_sha256 for row in again.history] == [row.weights_sha256 for row in sheer.load(run).history]
    learner(folder, weights, out=tmp_path / "other").run(sheer.recipes.fine_tune(1), callbacks=[Leave(8)])
    items = tmp_path / "other" / "items.csv"
    text = items.read_text()
    for changed, message in (
        (text.replace("input width", "w"), "is damaged"),
        (text.replace("01.jpg", "02.jpg"), "does not list what the run was trained on"),
        (text.replace("01.jpg", "99.jpg"), "is others now: .*there is no file"),
    ):
        items.write_text(changed)
        with pytest.raises(RunError, match=message):
            sheer.resume(tmp_path / "other", quiet=True)


def test_a_run_is_loaded_predicts_and_is_bundled(run, folder, tmp_path):
    learn = sheer.load(run, data=block().build(folder / "items.csv"))
    valid = learn.validate()
    rows = pd.read_csv(folder / "items.csv")
    found = learn.predict(folder / "items.csv")
    assert np.abs(found.outputs[learn.data.valid] - valid.outputs).max() < 1e-6
    assert any("input 'image' is missing in 7 of 60 rows: the learned vector stands for it" in note for note in found.notes)
    rows.assign(photo=None, doors="three").to_csv(folder / "none.csv", index=False)
    none = learn.predict(folder / "none.csv")
    assert np.isfinite(none.outputs).all() and any("'three'" in note for note in none.notes)
    for change, message in (
        (rows.drop(columns="photo"), "lacks the column 'photo', which the input 'image' reads"),
        (rows.assign(width="wide"), "Column 'width': row 1 holds 'wide'"),
    ):
        with pytest.raises(DataError, match=message):
            learn.predict(change)
    with pytest.raises(PlanError, match="tta=2 is for pictures"):
        learn.predict(rows, tta=2)
    with pytest.raises(DataError, match="is no CSV file"):
        learn.evaluate(folder, target="kind")
    judged = learn.evaluate(folder / "items.csv", target="kind")
    assert np.array_equal(judged.outputs, found.outputs) and judged.metrics()["accuracy"] == np.mean(
        np.array(found.labels) == rows["kind"].to_numpy()
    )
    with pytest.raises(PlanError, match="items with several inputs cannot be averaged"):
        learner(folder, mix="mixup")
    with pytest.raises(DataError, match="Grad-CAM is for models of one picture"):
        learn.grad_cam(0)
    learn.export(tmp_path / "fused.sheer")
    bundle = sheer.load_bundle(tmp_path / "fused.sheer")
    assert np.abs(bundle.predict(folder / "items.csv").outputs - found.outputs).max() < 1e-6
    assert np.array_equal(bundle.predict(folder / "none.csv").labels, none.labels)


def test_photographs_of_further_rows_lie_where_the_learner_found_its_own(run, folder, tmp_path, monkeypatch, capsys):
    rows, far = pd.read_csv(folder / "items.csv"), tmp_path / "items.csv"
    rows.to_csv(far, index=False)
    data = block(root=folder).build(far)
    learn, alone = sheer.load(run, data=data), sheer.load(run)
    beside = alone.predict(folder / "items.csv")
    for source in (far, rows):
        found = learn.predict(source)
        assert np.array_equal(found.outputs, beside.outputs)
        assert any("which was learned from" in note for note in found.notes) == (source is far)
        assert learn.evaluate(source).metrics() == alone.evaluate(folder / "items.csv", target="kind").metrics()
        for call in (alone.predict, alone.evaluate, alone.predict):
            with pytest.raises(DataError, match=r"53 of 53 are missing.*give root=FOLDER \(--root FOLDER\)"):
                call(source)
            assert np.array_equal(call(source, root=folder).outputs, beside.outputs)
    other = tmp_path / "other"
    other.mkdir()
    for number in range(60):  # the same names beside the file: those are meant
        Image.new("RGB", (40, 48)).save(other / f"{number:02d}.jpg")
    rows.to_csv(other / "items.csv", index=False)
    assert not np.array_equal(learn.predict(other / "items.csv").outputs, beside.outputs)
    assert np.array_equal(learn.predict(other / "items.csv", root=folder).outputs, beside.outputs)
    bundle = alone.export(tmp_path / "fused.sheer")
    with pytest.raises(DataError, match="give root=FOLDER"):
        sheer.load_bundle(bundle).predict(far)
    assert np.abs(sheer.load_bundle(bundle).predict(far, root=folder).outputs - beside.outputs).max() < 1e-6
    for command in (["predict", run, far], ["predict", bundle, far], ["evaluate", run, far], ["report", run, "--data", far]):
        assert main([*map(str, command), "--root", str(folder)]) == 0
        assert main([*map(str, command)]) == 2 and "--root FOLDER" in capsys.readouterr().err
    options = ("--image", "photo", "--columns", "width", "--target", "kind", "--size", "32", "--weights", "none", "--model")
    assert main(["plan", str(far), "--root", str(folder), *options, "{'image': 'test_resnet'}"]) == 0


def test_looking_changes_nothing(run, folder, weights, tmp_path):
    learn = learner(folder, weights)
    text = str(learn.preview(3))
    assert "image" in text and "table" in text and "loss cross_entropy" in text
    assert learn.batch_data(4).images.shape == (4, 32, 32, 3)
    learn.fine_tune(1)
    assert learn.features().shape == (12, learn.plan().model.features)
    learn.tta(n=1)
    learn.lr_find(steps=20)
    learn.duplicates(0.999)
    sheer.branches(learn, repeats=1)
    assert learn.history[-1].weights_sha256 == sheer.load(run).history[-1].weights_sha256
    tables = {"one": sheer.TableInput(columns=["width"]), "other": sheer.TableInput(columns=["doors"])}
    other = sheer.learner(block(inputs=tables).build(folder / "items.csv"), quiet=True, batch_size=8)
    with pytest.raises(DataError, match="no picture among their inputs"):
        other.batch_data(2)


def test_what_each_branch_is_worth(folder):
    frame = pd.read_csv(folder / "items.csv")
    frame = pd.concat([frame] * 4, ignore_index=True).assign(width=lambda f: (f["kind"] == "good") * 6 + np.arange(240) % 7 / 7)
    data = block(root=folder, valid=0.3).build(frame)
    learn = learner(folder, data=data, head="linear").fit_one_cycle(4, 5e-3)
    report = sheer.branches(learn, repeats=2)
    assert report.items == len(data.valid) and report.value == pytest.approx(learn.validate().metrics()["accuracy"])
    assert report.loss == pytest.approx(float(learn.validate().losses.mean()), rel=1e-5)
    rows = {(one.branch, one.how): one for one in report.rows}
    assert list(rows) == [("image", "ablated"), ("image", "permuted"), ("table", "ablated"), ("table", "permuted")]
    table = rows["table", "permuted"]
    assert table.low <= table.change <= table.high and table.high < -0.2 and table.loss_change > table.loss_half
    assert abs(rows["image", "ablated"].change) < 0.1 < -rows["table", "ablated"].change
    assert rows["image", "ablated"].missing == int((~data.inputs[0].present[data.valid]).sum())
    assert "with all branches" in str(report) and "permuted" in str(report)
    assert report == sheer.branches(learn, repeats=2)
    with pytest.raises(ModelError, match="has one input, so there are no branches"):
        sheer.branches(sheer.learner(sheer.table(folder / "items.csv", target="kind", ignore=["photo", "back"])))
    with pytest.raises(PlanError, match="branches is given a str"):
        sheer.branches("learn")


def test_explain_diff_compare_and_ablate(run, folder, weights, tmp_path):
    explanation = sheer.explain(run)
    for value, words in (
        ("model.branches", "image by timm:test_resnet"),
        ("model.fusion", "concat()"),
        ("data.inputs", "image (missing in"),
    ):
        (one,) = explanation.about(value)
        assert words in one.text and one.line and one.code.startswith(LINES[value])
    learn = learner(folder, weights)
    other = learner(folder, weights, fusion=("gated_sum", {"width": 8}))
    recipe = sheer.recipes.fine_tune(1)
    assert "fusion" in str(sheer.diff(learn.plan(recipe), other.plan(recipe)))
    assert "No tensor differs" in str(sheer.compare(learn, learner(folder, weights)))
    plans = (learn.plan(sheer.recipes.one_cycle(1)), learner(folder, weights, clip=1.0).plan(sheer.recipes.one_cycle(1)))
    found = sheer.ablate(*plans, data=learn.data, out=tmp_path, seeds=2, waterfall=False, quiet=True)
    assert "clip" in str(found)


@pytest.fixture
def texts(folder, tmp_path, monkeypatch):
    """A small encoder, and the items with a column of texts, as a person works."""
    pytest.importorskip("transformers", reason="the extra text is not installed")
    from test_text import save_encoder

    monkeypatch.chdir(tmp_path)
    save_encoder(tmp_path / "encoder")
    frame = pd.read_csv(folder / "items.csv")
    words = ["the good cat plays", "the bad dog sleeps all day", "a very good day", "very bad"]
    frame["words"] = [words[number % 4] if number % 8 else None for number in range(60)]
    frame["more"] = frame["words"].str.upper()
    frame.to_csv(folder / "texts.csv", index=False)
    return folder / "texts.csv"


TEXT = {"text": sheer.TextInput(column="words"), "table": sheer.TableInput(columns=["width", "doors"])}


def test_a_text_beside_a_table_and_a_photograph(texts, folder, weights, tmp_path):
    inputs = {"image": sheer.ImageInput(column="photo"), **TEXT, "more": sheer.TextInput(column="more", length=6)}
    models = {"image": "test_resnet", "text": "encoder", "more": ("encoder", {"pool": "max"})}
    options = {"weights": {"image": weights}, "size": 32, "batch_size": 8, "quiet": True}
    data = block(inputs=inputs).build(texts)
    assert [one.missing_train + one.missing_valid for one in data.plan.inputs] == [7, 8, 9, 8]
    learn = sheer.learner(data, models, out=tmp_path / "run", **options)
    names = [stage.name for stage in learn.plan().model.stages]
    assert names[2:5] == ["text embeddings", "text lower", "text upper"] and names[-3:] == ["table embeddings", "table layers", "head"]
    phase = learn.plan(sheer.recipes.one_cycle(1, rate=slice(1e-5, 1e-3))).phases[0]
    assert phase.rates[1] == phase.rates[4] == phase.rates[7] and phase.rates[-3:] == (1e-3,) * 3
    assert "text: sheer" not in str(learn.plan()) and "input  kind" in str(learn.plan())
    learn.fine_tune(1)
    script = sheer.eject(tmp_path / "run", tmp_path / "train.py")
    command = [sys.executable, script, folder, "--out", tmp_path / "again", "--predict", texts]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with (tmp_path / "again" / "history.csv").open() as file:
        assert [row["weights_sha256"] for row in csv.DictReader(file)] == [row.weights_sha256 for row in learn.history]
    assert [line.split()[-2] for line in done.stdout.splitlines()[-60:]] == list(learn.predict(texts).labels)
    loaded = sheer.load(tmp_path / "run", data=block(inputs=inputs).build(texts))
    assert np.abs(loaded.validate().outputs - learn.validate().outputs).max() < 1e-6
    loaded.export(tmp_path / "three.sheer")
    bundle = sheer.load_bundle(tmp_path / "three.sheer")
    assert np.abs(bundle.predict(texts).outputs - learn.predict(texts).outputs).max() < 1e-6
    assert [one.branch for one in sheer.branches(learn, repeats=1).rows[::2]] == ["image", "text", "table", "more"]


def test_text_and_table_alone_from_the_run_folder(texts, tmp_path):
    def begun(out):
        return sheer.learner(block(inputs=TEXT).build(texts), {"text": "encoder"}, batch_size=8, quiet=True, out=out)

    whole = begun(tmp_path / "whole").fine_tune(1)
    begun(tmp_path / "run").run(sheer.recipes.fine_tune(1), callbacks=[Leave(8)])
    again = sheer.resume(tmp_path / "run", quiet=True)
    assert [row.weights_sha256 for row in again.history] == [row.weights_sha256 for row in whole.history]
    frozen = whole.plan().phases[0]
    assert frozen.trains_from == 3 and frozen.norm[3:] == ("train", "train", "train")
    script = sheer.eject(tmp_path / "run", tmp_path / "train.py")
    done = subprocess.run(
        [sys.executable, script, tmp_path / "train_items.csv", "--out", tmp_path / "again"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    with (tmp_path / "again" / "history.csv").open() as file:
        assert [row["weights_sha256"] for row in csv.DictReader(file)] == [row.weights_sha256 for row in whole.history]
    with pytest.raises(DataError, match=r"Column 'width' holds .* which is no text"):
        block(inputs={"text": sheer.TextInput(column="width")}).build(texts)
    with pytest.raises(DataError, match=r"Column .*: length=99: the encoder takes at most 24"):
        long = {"text": sheer.TextInput(column="words", length=99)}
        sheer.learner(block(inputs=long).build(texts), {"text": "encoder"})
    with pytest.raises(PlanError, match=r"inputs\['text'\]: length='16': give a whole number of at least 2"):
        block(inputs={"text": sheer.TextInput(column="words", length="16")}).build(texts)
    with pytest.raises(ModelError, match="no such folder"):
        sheer.learner(block(inputs=TEXT).build(texts), {"text": "./nothing"})
    with pytest.raises(ModelError, match=r"model='tabm' is a network for the columns of a table\. Texts take an encoder"):
        sheer.learner(block(inputs=TEXT).build(texts), {"text": "tabm"})
    with (tmp_path / "run" / "items.csv").open("a") as file:
        file.write("row 61,train,1.0,good,,,\n")
    with pytest.raises(RunError, match=r"does not list what the run was trained on, or .* Bring it back as it was\.$"):
        sheer.eject(tmp_path / "run", tmp_path / "other.py")


def test_the_length_of_a_text_on_the_command_line(texts, capsys):
    command = ["plan", str(texts), "--target", "kind", "--columns", "width,doors", "--model", "{'text': 'encoder'}", "--epochs", "1"]
    assert main([*command, "--text", "words", "--set", "length=12"]) == 0
    assert "12 tokens a text" in capsys.readouterr().out
    assert main([*command, "--text", "words", "--set", "column=more"]) == 2
    assert main([*command, "--image", "photo", "--set", "length=16"]) == 2
    assert capsys.readouterr().err.count("give NAME=VALUE, a keyword of sheer.DataBlock") == 2
