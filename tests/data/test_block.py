"""Every kind of source and split, several labels and numbers, to a trained and ejected run."""

import csv
import subprocess
import sys

import numpy as np
import pandas
import polars
import pytest
import torch
from PIL import Image

import sheer
from conftest import make_photos
from scripts import run_script
from sheer.cli.main import main
from sheer.data.mix import CutMix, Mixup
from sheer.errors import DataError, PlanError
from sheer.task.losses import CrossEntropy, ItemWeighted
from sheer.task.metrics import METRICS
from test_eject import rows

TINY = {"weights": "none", "size": 32, "batch_size": 8, "quiet": True}


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """24 pictures in one folder and a CSV: colour, labels, two numbers, a group, a flag."""
    root = tmp_path_factory.mktemp("table")
    generator = np.random.default_rng(0)
    lines = [["file", "colour", "tags", "red", "blue", "patient", "is_valid"]]
    for number in range(24):
        pixels = generator.integers(0, 255, (32, 32, 3)).astype(np.uint8)
        pixels[..., number % 2 * 2] //= 3
        Image.fromarray(pixels).save(root / f"p{number:02d}_{'rb'[number % 2]}.png")
        red, blue = pixels[..., 0].mean(), pixels[..., 2].mean()
        tags = " ".join(name for name, there in (("bluish", number % 2 == 0), ("third", number % 3 == 0)) if there)
        name = f"p{number:02d}_{'rb'[number % 2]}.png"
        lines.append([name, "rb"[number % 2], tags, red + 0.25, blue, f"n{number // 4}", int(number >= 18)])
    with (root / "items.csv").open("w", newline="") as file:
        csv.writer(file).writerows(lines)
    return root


def test_a_csv_file(table):
    data = sheer.images(table / "items.csv")
    assert data.classes == ("b", "r") and len(data.train) + len(data.valid) == 24 and data.plan.task.name == "classify"
    assert data.plan.split.name == "stratified" and data.plan.train_counts == (10, 10)


@pytest.mark.parametrize("library", [pandas, polars], ids=["pandas", "polars"])
def test_a_data_frame_is_the_csv_file(table, library):
    frame = library.read_csv(table / "items.csv")
    one, other = sheer.images(frame, root=table, label="colour"), sheer.images(table / "items.csv")
    assert one.paths == other.paths and (one.targets == other.targets).all() and (one.train == other.train).all()


def test_a_list_of_files_with_a_rule(table):
    names = sorted(path.name for path in table.glob("*.png"))
    by_pattern = sheer.images(names, root=table, label=r"_(.)\.png$")
    by_function = sheer.images(names, root=table, label=lambda name: name[4])
    of_folder = sheer.images(table, label=r"_(.)\.png$")
    for data in (by_function, of_folder):
        assert (data.targets == by_pattern.targets).all() and data.classes == ("b", "r")


class Pictures(torch.utils.data.Dataset):
    classes = ("dark", "light")

    def __init__(self, kind):
        self.kind = kind

    def __len__(self):
        return 12

    def __getitem__(self, number):
        pixels = torch.full((3, 20, 24), 40 + 150 * (number % 2), dtype=torch.uint8)
        return {"tensor": pixels, "float": pixels / 255, "pillow": Image.fromarray(pixels.permute(1, 2, 0).numpy())}[self.kind], number % 2


@pytest.mark.parametrize("kind", ["tensor", "float", "pillow"])
def test_a_torch_data_set(kind):
    data = sheer.images(Pictures(kind), seed=1)
    assert data.classes == ("dark", "light")
    learn = sheer.learner(data, "test_resnet", **(TINY | {"batch_size": 4})).fit_one_cycle(1)
    assert len(learn.validate()) == len(data.valid) and data.plan.listing_sha256 == ""
    with pytest.raises(sheer.SheerError, match="cannot read"):
        learn.save(folder := data_folder(learn))
        sheer.eject(folder, folder.with_suffix(".py"))


def data_folder(learn):
    import tempfile
    from pathlib import Path

    return Path(tempfile.mkdtemp()) / "run"


def test_a_hugging_face_data_set():
    datasets = pytest.importorskip("datasets", reason="pip install datasets")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b"])})
    pictures = [Image.new("RGB", (20, 20), (200 * (n % 2), 0, 0)) for n in range(10)]
    source = datasets.Dataset.from_dict({"image": pictures, "label": [n % 2 for n in range(10)]}, features=features)
    data = sheer.images(source)
    assert data.classes == ("a", "b") and data.opened("3").getpixel((0, 0)) == (200, 0, 0)


def sides(data, values):
    return {values[n] for n in data.train.tolist()}, {values[n] for n in data.valid.tolist()}


def test_splits(table):
    source = table / "items.csv"
    patients = [f"n{number // 4}" for number in range(24)]
    learned, held = sides(sheer.images(source, label="colour", group="patient"), patients)
    assert not learned & held and held
    assert sheer.images(source, label="colour", valid="is_valid").valid.tolist() == list(range(18, 24))
    assert sheer.images(source, label="colour", valid=[3, 4, 7]).valid.tolist() == [3, 4, 7]
    folds = [sheer.images(source, label="colour", folds=4, fold=fold) for fold in range(4)]
    assert sorted(n for data in folds for n in data.valid.tolist()) == list(range(24))
    assert all(data.plan.valid_counts == (3, 3) for data in folds)
    grouped = [sheer.images(source, label="colour", folds=3, fold=fold, group="patient") for fold in range(3)]
    assert sorted(n for data in grouped for n in data.valid.tolist()) == list(range(24))
    assert all(not set.intersection(*sides(data, patients)) for data in grouped)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label": "color"}, "Did you mean 'colour'"),
        ({"label": "colour", "valid": "isvalid"}, "Did you mean 'is_valid'"),
        ({"label": "colour", "valid": "patient"}, "neither train nor valid"),
        ({"label": "colour", "valid": [30]}, "from 0 to 23"),
        ({"label": "colour", "folds": 1}, "at least 2 folds"),
        ({"label": "colour", "folds": 3, "valid": "is_valid"}, "leave valid and split away"),
        ({"label": "colour", "group": "patient", "valid": "is_valid"}, "Give one of"),
        ({"label": "red", "split": "stratified"}, "one class an item"),
        ({"label": "colour", "task": "regress"}, "needs numbers"),
        ({"label": "colour", "task": "regression"}, "Did you mean 'regress'"),
        ({"label": ("red", "blue"), "task": "classify"}, "takes one column"),
        ({"label": "tags"}, "empty target"),
        ({"label": "colour", "path": "tags"}, "names no file"),
        ({"label": "colour", "root": "/nowhere"}, "24 of 24 are missing"),
    ],
)
def test_what_is_refused(table, options, message):
    with pytest.raises(DataError, match=message):
        sheer.images(table / "items.csv", **options)


def test_a_rule_that_does_not_fit(table):
    with pytest.raises(DataError, match="does not match"):
        sheer.images(table, label=r"_(r)\.png$")
    with pytest.raises(DataError, match="2 groups"):
        sheer.images(table, label=r"(_)(.)\.png$")
    with pytest.raises(DataError, match="is no source"):
        sheer.images(3)


def test_a_class_that_is_held_out_only(table):
    with pytest.raises(DataError, match="held-out items only"):
        sheer.images(table / "items.csv", label="patient", valid=[0, 1, 2, 3])


def test_notes_about_copies_and_balance(tmp_path):
    make_photos(tmp_path / "photos", {"a": 30, "b": 2})
    (tmp_path / "photos" / "b" / "000.jpg").write_bytes((tmp_path / "photos" / "b" / "001.jpg").read_bytes())
    plan = sheer.images(tmp_path / "photos").plan
    assert len(plan.notes) == 2 and "out of balance" in plan.notes[0] and "copies" in plan.notes[1]
    learn = sheer.learner(sheer.images(tmp_path / "photos"), "test_resnet", **TINY)
    assert "note: classes are out of balance" in str(learn.plan())


@pytest.mark.parametrize(
    ("options", "task", "names"),
    [
        ({"label": "colour"}, "classify", ("b", "r")),
        ({"label": "tags", "separator": " "}, "tag", ("bluish", "third")),
        ({"label": ("red", "blue")}, "regress", ("red", "blue")),
    ],
)
def test_every_task_trains_loads_predicts_and_ejects(table, tmp_path, options, task, names):
    data = sheer.images(table / "items.csv", **options)
    assert data.plan.task.name == task and data.classes == names
    learn = sheer.learner(data, "resnet18", metrics=tuple(METRICS[task]), out=tmp_path / "run", **TINY).fine_tune(1)
    assert list(learn.history[0].metrics) == list(METRICS[task])
    found = learn.validate()
    assert str(len(found)) in found.report() and "baseline" in found.report()
    assert learn.plan() == sheer.Plan.from_json(learn.plan().to_json())
    again = sheer.load(tmp_path / "run").predict(table / "p00_r.png")
    assert np.array_equal(again.outputs, learn.predict(table / "p00_r.png").outputs)
    assert len(again.table().splitlines()) == 2 and again.records()[0]["file"].endswith("p00_r.png")
    script = sheer.eject(tmp_path / "run", tmp_path / "train.py")
    done = run_script(script, table, "--out", tmp_path / "again", "--predict", table / "p00_r.png")
    assert done.returncode == 0, done.stderr
    assert rows(tmp_path / "run" / "history.csv") == rows(tmp_path / "again" / "history.csv")
    ruff = subprocess.run([sys.executable, "-m", "ruff", "check", "--isolated", "--line-length", "140", str(script)], check=False)
    assert ruff.returncode == 0


def test_numbers_are_learnt_in_their_own_unit(table):
    data = sheer.images(table / "items.csv", label=("red", "blue"))
    learn = sheer.learner(data, "test_resnet", **TINY).fit(2)
    metrics = learn.validate().metrics()
    assert 10 < metrics["baseline"] < 60 and metrics["mean_absolute_error_low"] <= metrics["mean_absolute_error"]
    assert data.plan.task.options()["mean"] == pytest.approx(tuple(data.targets[data.train].mean(0)))
    with pytest.raises(PlanError, match="label_smoothing"):
        sheer.learner(data, "resnet18", label_smoothing=0.1, **TINY).plan(sheer.recipes.constant(1))


def test_thresholds_of_labels():
    outputs = np.array([[0.4, 0.9], [0.3, 0.8], [0.1, 0.2], [0.2, 0.1]])
    target = np.array([[1, 1], [1, 0], [0, 0], [0, 0]], dtype=np.float32)
    table = sheer.Predictions(
        items=tuple("abcd"), classes=("x", "y"), task="tag", metric_functions={}, outputs=outputs, target=target, prior=np.zeros(2)
    )
    assert table.thresholds() == (0.3, 0.9) and table.labels == ("y", "y", "", "")


def worst(outputs, targets):
    """Your own metric."""
    return float(outputs[np.arange(len(targets)), targets].min())


def test_a_metric_of_your_own(photos, tmp_path):
    learn = sheer.learner(sheer.images(photos), "resnet18", metrics=("auroc", worst), out=tmp_path / "run", **TINY).fit(1)
    assert list(learn.history[0].metrics) == ["auroc", "worst"]
    header = (tmp_path / "run" / "history.csv").read_text().splitlines()[0]
    assert header == "phase,epoch,train_loss,valid_loss,auroc,worst,seconds,weights_sha256"
    kept = sheer.load(tmp_path / "run", data=sheer.images(photos))
    with pytest.raises(PlanError, match="your own metric 'worst'"):
        kept.fit(1)
    assert "worst" in sheer.load(tmp_path / "run", data=sheer.images(photos), objects={"worst": worst}).validate().metrics()
    script = sheer.eject(tmp_path / "run", tmp_path / "train.py", objects={"worst": worst})
    done = run_script(script, photos, "--out", tmp_path / "again")
    assert done.returncode == 0, done.stderr
    assert rows(tmp_path / "run" / "history.csv") == rows(tmp_path / "again" / "history.csv")
    with pytest.raises(PlanError, match="Did you mean 'accuracy'"):
        sheer.learner(sheer.images(photos), "resnet18", metrics=("acuracy",), **TINY)


def test_summary_and_preview(table, tmp_path):
    data = sheer.images(table / "items.csv", label="colour")
    assert "median 32 x 32" in data.summary() and "24 PNG RGB" in data.summary()
    learn = sheer.learner(data, "test_resnet", **TINY)
    before = [tensor.clone() for tensor in learn.model.state_dict().values()]
    names = [step.name for step in learn.preview(3).steps]
    assert names == ["decode", "presize crop", "cut at the centre", "target", "batch", "inputs", "model", "loss cross_entropy"]
    assert all(torch.equal(one, other) for one, other in zip(before, learn.model.state_dict().values(), strict=True))
    with pytest.raises(DataError, match="there are 24 items"):
        learn.preview(24)


def test_preview_names_the_step_that_fails(photos, tmp_path):
    folder = make_photos(tmp_path / "photos", {"a": 8, "b": 8})
    learn = sheer.learner(sheer.images(folder), "test_resnet", **TINY)
    (folder / "a" / "002.jpg").write_text("no picture")
    with pytest.raises(DataError, match=r"The step .decode. fails on a/002\.jpg"):
        learn.preview(2)


def test_a_csv_file_on_the_command_line(table, tmp_path, capsys):
    options = ["--label", "tags", "--set", "separator= ", "--model", "resnet18", "--weights", "none", "--size", "32"]
    options += ["--set", "optimizer=sgd", "--batch-size", "8", "--out", str(tmp_path / "run")]
    assert main(["train", str(table / "items.csv"), *options, "--epochs", "1"]) == 0
    printed = capsys.readouterr().out
    assert "average_precision" in printed and "sgd(" in printed and "bluish" in printed
    assert main(["predict", str(tmp_path / "run"), str(table / "p00_r.png"), "--json"]) == 0
    assert '"labels"' in capsys.readouterr().out
    folder = make_photos(tmp_path / "folders", {"bluish": 2, "third": 2})
    assert main(["evaluate", str(tmp_path / "run"), str(folder)]) == 2 and "the task of this run is 'tag'" in capsys.readouterr().err


@pytest.mark.parametrize("options", [{}, {"mix": "mixup"}, {"mix": "cutmix", "accumulate": 16}], ids=["plain", "mixup", "accumulated"])
def test_weights_of_items(table, tmp_path, options):
    data = sheer.images(table / "items.csv", label="colour", weight="red")
    assert data.weights[data.train].mean() == pytest.approx(1, rel=1e-6) and "item weights" in str(
        sheer.learner(data, "test_resnet", **TINY).plan()
    )
    learn = sheer.learner(data, "test_resnet", out=tmp_path / "run", **(TINY | {"batch_size": 4}), **options).fit_one_cycle(2)
    alike = sheer.learner(sheer.images(table / "items.csv", label="colour"), "test_resnet", **(TINY | {"batch_size": 4}), **options)
    assert alike.fit_one_cycle(2).history[0].weights_sha256 != learn.history[0].weights_sha256
    script = sheer.eject(tmp_path / "run", tmp_path / "train.py")
    done = run_script(script, table, "--out", tmp_path / "again")
    assert done.returncode == 0, done.stderr
    assert rows(tmp_path / "run" / "history.csv") == rows(tmp_path / "again" / "history.csv")


def test_weights_that_are_none(table):
    with pytest.raises(DataError, match="no number"):
        sheer.images(table / "items.csv", label="colour", weight="patient")
    with pytest.raises(DataError, match="a folder has none"):
        sheer.images(table, label=r"_(.)\.png$", weight="red")


def test_a_mixed_weighted_loss_in_parts_is_the_whole():
    scores, target, weight = torch.randn(6, 3), torch.tensor([0, 1, 2, 0, 1, 2]), torch.rand(6)
    loss = ItemWeighted(loss=CrossEntropy(), weight=weight)
    for mix in (Mixup(), CutMix()):
        _, mixed = mix(torch.zeros(6, 3, 8, 8), target, loss, 5)
        parts = torch.cat([mixed.at(slice(0, 4))(scores[:4], target[:4]), mixed.at(slice(4, 6))(scores[4:], target[4:])])
        assert torch.allclose(parts, mixed(scores, target))


def test_a_mask_is_a_mask(table):
    frame = pandas.read_csv(table / "items.csv")
    assert sheer.images(frame, root=table, label="colour", valid=frame.is_valid.astype(bool)).valid.tolist() == list(range(18, 24))
    with pytest.raises(DataError, match="whole positions"):
        sheer.images(frame, root=table, label="colour", valid=[0.9, 20.2])


def test_what_would_be_ignored_is_refused(photos, tmp_path):
    for options, message in (
        ({"task": "regress"}, "for tables and lists"),
        ({"fold": 2}, "give folds"),
        ({"folds": 3, "valid": 0.5}, "leave valid and split away"),
    ):
        with pytest.raises(DataError, match=message):
            sheer.images(photos, **options)
    parted = make_photos(make_photos(tmp_path / "parted", {"a": 4, "b": 4}, part="train"), {"a": 2, "b": 2}, part="valid")
    with pytest.raises(DataError, match="which decides the split"):
        sheer.images(parted, folds=3)


def test_names_that_look_like_numbers_stay_names(table, tmp_path):
    names = sorted(path.name for path in table.glob("*.png"))
    lines = ["file,label", *(f"{name},{('007', '7', '1_0', 'nan')[number % 4]}" for number, name in enumerate(names))]
    (tmp_path / "odd.csv").write_text("\n".join(lines))
    assert sheer.images(tmp_path / "odd.csv", root=table).classes == ("007", "1_0", "7", "nan")


def test_other_labels_or_another_split_are_other_data(table, tmp_path):
    one = sheer.images(table / "items.csv", label="colour", valid=[0, 1, 2, 3])
    sheer.learner(one, "test_resnet", out=tmp_path / "run", **TINY).fit(1)
    with pytest.raises(sheer.SheerError, match="split of the run"):
        sheer.load(tmp_path / "run", data=sheer.images(table / "items.csv", label="colour", valid=[4, 5, 6, 7]))
    frame = pandas.read_csv(table / "items.csv")
    frame.loc[[10, 11], "colour"] = frame.loc[[11, 10], "colour"].to_numpy()
    relabelled = sheer.images(frame, root=table, label="colour", valid=[0, 1, 2, 3])
    assert sheer.load(tmp_path / "run", data=relabelled).plan().phases == ()
    assert len(sheer.load(tmp_path / "run", data=one).plan().phases) == 1
    assert main(["report", str(tmp_path / "run"), "--data", str(table)]) == 2


def phase(outputs, targets):
    return 0.0


def test_a_metric_may_not_be_called_like_a_column(photos):
    with pytest.raises(PlanError, match="a column of that name"):
        sheer.learner(sheer.images(photos), "resnet18", metrics=("accuracy", phase), **TINY)
