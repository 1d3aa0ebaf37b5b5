"""Tables from end to end: columns to numbers, training, the run folder, prediction, resume, the ejected script, baselines."""

import csv
import json
import os
import re
import shlex
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch

import sheer
from conftest import Leave
from scripts import run_script
from sheer.cli.main import main
from sheer.data.cells import Continuous
from sheer.errors import DataError, EjectError, ModelError, PlanError, RunError
from sheer.loading import begun


def made(rows=160, seed=0):
    """A table in which `colour` and `width` decide `kind`, with missing cells in both."""
    draw = np.random.default_rng(seed)
    colour = draw.choice(["red", "green", "blue"], rows)
    width = draw.normal(5, 2, rows).round(3)
    kind = np.where((colour == "red") ^ (width > 5), "good", "bad")
    price = (width * 3 + (colour == "red") * 10).round(4)
    frame = pd.DataFrame({"colour": colour, "kind": kind, "width": width, "doors": draw.integers(2, 6, rows), "price": price})
    frame.loc[draw.random(rows) < 0.1, "colour"] = None
    frame.loc[draw.random(rows) < 0.1, "width"] = np.nan
    return frame


def fitted(frame, target="kind", epochs=2, out=None, **options):
    learn = sheer.learner(sheer.table(frame, target=target, **options), quiet=True, out=out, batch_size=16)
    return learn.fit_one_cycle(epochs)


def test_columns_in_the_order_of_the_table_as_what_they_are():
    data = sheer.table(made(), target="kind")
    parts = [(part.name, part.options()["column"]) for part in data.plan.columns]
    assert parts == [
        ("categorical", "colour"),
        ("categorical", "doors"),
        ("missing", "width"),
        ("continuous", "width"),
        ("continuous", "price"),
    ]
    assert data.plan.columns[0].options()["categories"] == ("blue", "green", "red")
    assert data.plan.columns[1].options()["categories"] == ("2", "3", "4", "5")
    assert data.plan.task.name == "classify" and data.classes == ("bad", "good")
    assert "doors" in data.summary() and "column 'colour' is missing in" in data.summary()


@pytest.mark.parametrize("hash_seed", ["0", "1", "2"])
def test_the_order_is_the_same_for_every_hash_seed(tmp_path, hash_seed):
    made().to_csv(tmp_path / "cars.csv", index=False)
    code = (
        "import sheer, sys; d = sheer.table(sys.argv[1], target='kind'); print(d.plan.listing_sha256, sheer.learner(d).plan().short_hash())"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "cars.csv"],
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=True,
    )
    data = sheer.table(tmp_path / "cars.csv", target="kind")
    assert run.stdout.split() == [data.plan.listing_sha256, sheer.learner(data).plan().short_hash()]


def test_a_csv_file_and_frames_of_pandas_and_polars_are_the_same(tmp_path):
    frame = made()
    frame.to_csv(tmp_path / "cars.csv", index=False)
    one, *others = (sheer.table(s, target="kind").plan for s in (frame, pl.from_pandas(frame), tmp_path / "cars.csv"))
    for other in others:
        assert (other.columns, other.listing_sha256, other.targets_sha256) == (one.columns, one.listing_sha256, one.targets_sha256)


def test_the_schema_is_fitted_on_the_rows_to_train_on_alone():
    frame = made()
    held_out = list(range(100, 160))
    changed = frame.copy()
    changed.loc[held_out, "width"] = 1e6
    changed.loc[held_out, "colour"] = "violet"
    one, other = (sheer.table(f, target="kind", valid=held_out) for f in (frame, changed))
    assert one.plan.columns == other.plan.columns
    widths = frame["width"][:100]
    filled = widths.fillna(widths.median())
    assert one.plan.columns[3].options() == {
        "column": "width",
        "median": pytest.approx(widths.median()),
        "mean": pytest.approx(filled.mean()),
        "std": pytest.approx(filled.std(ddof=0)),
        "quantiles": pytest.approx(np.unique(np.quantile(filled, np.linspace(0, 1, 49)))),
    }
    assert (other.arrays[100:, 0] == 0).all()
    assert any("60 of 60 held-out rows hold 'violet'" in note for note in other.plan.notes)


def test_kinds_can_be_overruled():
    data = sheer.table(made(), target="kind", continuous=["doors"], categorical=["width"], ignore=["price"])
    kinds = {part.options()["column"]: part.name for part in data.plan.columns}
    assert kinds == {"colour": "categorical", "width": "categorical", "doors": "continuous"}
    assert next(o.by for o in data.plan.origins if o.field == "columns") == "you"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.assign(width=np.inf), "Column 'width': row 1 holds 'inf'"),
        (lambda f: f.assign(odd=[1, "a"] * 80), "Column 'odd' mixes numbers .1. and text .'a'."),
        (lambda f: f.assign(odd=[*["?"] * 6, *map(str, range(154))]), r"Column 'odd' holds numbers, but for [3-6] of .* \('\?'\)"),
        (lambda f: f.assign(day=pd.Timestamp("2020-01-01")), "Column 'day' holds values of type Timestamp"),
        (lambda f: f.assign(kind="good"), "Column 'kind' of data frame has one value only, 'good'"),
        (lambda f: f.set_axis(["a", "kind", "a", "b", "c"], axis=1), "has the column 'a' twice"),
        (lambda f: f[["kind"]], "No column is left to learn from"),
        (lambda f: f.iloc[:0], "data frame has no rows"),
        (lambda f: f.assign(kind=[None, *f["kind"][1:]]), "1 items have an empty target"),
        (lambda f: f.rename(columns={"kind": "sort"}), "target='kind': data frame has no such column"),
    ],
)
def test_an_error_names_the_column_and_the_remedy(change, message):
    with pytest.raises(DataError, match=message):
        sheer.table(change(made()), target="kind")


def test_what_has_nothing_to_say_is_left_out_and_counted():
    frame = made().assign(empty=np.nan, same=3, name=[f"car {n}" for n in range(160)], number=range(160))
    data = sheer.table(frame, target="kind")
    assert not {"empty", "same", "name"} & {part.options()["column"] for part in data.plan.columns}
    notes = "\n".join(data.plan.notes)
    for words in (
        "'empty' is left out: it is empty in",
        "'same' is left out: it is the same",
        "'name' is left out: most",
        "'number' is another",
    ):
        assert words in notes
    kept = sheer.table(frame, target="kind", categorical=["name"])
    assert "name" in [part.options()["column"] for part in kept.plan.columns]


def test_a_million_categories_are_refused(monkeypatch):
    monkeypatch.setattr("sheer.data.columns.MOST_CATEGORIES", 100)
    frame = made().assign(name=[f"car {n}" for n in range(160)])
    with pytest.raises(DataError, match="Column 'name' has 128 categories; at most 100"):
        sheer.table(frame, target="kind", categorical=["name"])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"categorical": "width"}, "categorical='width': give the names of columns in a list"),
        ({"categorical": ["widht"]}, "no such column. Did you mean 'width'"),
        ({"categorical": ["width"], "continuous": ["width"]}, "two things at once"),
        ({"continuous": ["colour"]}, "Column 'colour': row 1 holds"),
        ({"valid": "nothing"}, "valid='nothing'"),
    ],
)
def test_what_was_given_is_checked(given, message):
    frame = made()
    frame.loc[0, "colour"] = "red"
    with pytest.raises(DataError, match=message):
        sheer.table(frame, target="kind", **given)


@pytest.mark.parametrize("target", [None, 5, [], ["kind", 3], len], ids=str)
def test_a_target_that_names_no_column(target):
    for data in (lambda: sheer.table(made(), target=target), lambda: sheer.text(made(), text="colour", target=target)):
        with pytest.raises(DataError, match=r"target=.*: give the name of the column to predict, or several names in a list\."):
            data()
    with pytest.raises(DataError, match="Columns are called by text here, also those of a frame with numbers as names: '1'"):
        sheer.table(pd.DataFrame({0: [1, 2], 1: ["a", "b"]}), target=1)
    columns = made().columns
    assert sheer.table(made(), target=columns[columns == "kind"]).plan.target == ("kind",)


@pytest.mark.parametrize(("rows", "epochs"), [(20, 50), (300, 50), (1300, 19), (6400, 10)])
def test_epochs_of_a_table_that_was_given_none(rows, epochs):
    frame = pd.DataFrame({"width": np.arange(rows) % 97 / 7, "kind": np.where(np.arange(rows) % 2, "a", "b")})
    learn = sheer.learner(sheer.table(frame, target="kind"), ("tabm", {"members": 2, "hidden": (4,)}), quiet=True)
    phase = learn.plan(sheer.recipes.one_cycle()).phases[-1]
    assert phase.epochs == epochs and "[default: at least 10, as many as take 300 steps, at most 50" in str(
        learn.plan(sheer.recipes.one_cycle())
    )
    assert epochs in (10, 50) or 300 <= epochs * phase.steps_per_epoch < 300 + phase.steps_per_epoch
    assert learn.plan(sheer.recipes.one_cycle(2)).phases[-1].epochs == 2


@pytest.mark.parametrize(("numbers", "kept"), [(1e7, False), (1e6, False), (1e5, True), (0.0, True)])
def test_targets_that_float32_cannot_tell_apart_are_refused(numbers, kept):
    draw = np.random.default_rng(0)
    frame = pd.DataFrame({"width": draw.normal(size=80), "when": numbers + draw.normal(size=80)})
    if kept:
        assert sheer.table(frame, target="when").plan.task.name == "regress"
        return
    with pytest.raises(DataError, match=r"'when' has a standard deviation of .* float32 keeps 7 digits: .*Subtract their mean first"):
        sheer.table(frame, target="when")


def test_sources_that_are_no_tables(tmp_path):
    for source in (tmp_path, tmp_path / "no.csv", [1, 2], made().to_numpy()):
        with pytest.raises(DataError, match=r"is no (CSV file|table)|There is no file"):
            sheer.table(source, target="kind")


def test_the_network_learns_and_predicts_like_it_validates():
    learn = fitted(made(400), epochs=20)
    found = learn.validate()
    assert found.metrics()["accuracy"] > 0.9
    again = learn.predict(made(400))
    assert np.array_equal(again.outputs[learn.data.valid], found.outputs)
    assert again.notes == (f"1 of {len(made(400).columns)} columns is not looked at: 'kind'",)


def test_further_rows_that_training_did_not_know():
    learn = fitted(made())
    rows = made()[:4].assign(colour=["violet", "red", "red", "red"], doors=[2, np.nan, 3, 4], more="x")
    found = learn.predict(rows)
    assert len(found) == 4 and np.isfinite(found.outputs).all()
    assert any("column 'colour': 1 of 4 further rows hold 'violet'" in note for note in found.notes)
    for change, message in (
        (rows.drop(columns="width"), "lacks the column 'width'"),
        (rows.assign(width="wide"), "Column 'width': row 1 holds 'wide'"),
        (rows.assign(price=-np.inf), "Column 'price': row 1 holds '-inf'"),
    ):
        with pytest.raises(DataError, match=message):
            learn.predict(change)
    with pytest.raises(PlanError, match="tta=2 is for pictures"):
        learn.predict(rows, tta=2)


def test_further_rows_are_judged_by_their_own_targets(tmp_path):
    learn, frame = fitted(made()), made(60, seed=5)
    found = learn.evaluate(frame, target="kind")
    assert np.array_equal(found.outputs, learn.predict(frame).outputs)
    assert found.metrics()["accuracy"] == np.mean(np.array(found.labels) == frame["kind"].to_numpy())
    for change, target, message in (
        (frame.assign(kind="odd"), "kind", r"column 'kind' has classes that the model does not know: 'odd' .60 rows.\. It knows bad, good"),
        (frame.assign(kind=[None, *frame["kind"][1:]]), "kind", "column 'kind' is empty in 1 rows, first in row 1"),
        (frame.drop(columns="kind"), "kind", "lacks the target 'kind'"),
        (frame, ["kind", "price"], "one column has the classes"),
    ):
        with pytest.raises(DataError, match=message):
            learn.evaluate(change, target=target)
    priced = fitted(made(), "price")
    assert np.array_equal(learn.evaluate(frame).target, found.target)
    renamed = learn.evaluate(frame.rename(columns={"kind": "truth"}), target="truth")
    assert np.array_equal(renamed.target, found.target)
    errors = priced.evaluate(frame)
    assert errors.metrics()["mean_absolute_error"] == pytest.approx(np.abs(errors.outputs[:, 0] - frame["price"]).mean(), rel=1e-5)
    for own in ("price", ["price"]):
        assert priced.evaluate(frame, target=own).metrics() == errors.metrics()
    with pytest.raises(DataError, match="target='kind': the targets are price, found by their names"):
        priced.evaluate(frame, target="kind")
    with pytest.raises(DataError, match="needs numbers"):
        priced.evaluate(frame.assign(price="dear"))
    pictures = sheer.learner(sheer.arrays(torch.rand(8, 3), [0, 1] * 4), lambda: torch.nn.Linear(3, 2), quiet=True)
    with pytest.raises(DataError, match="target='kind' is a column of a table"):
        pictures.evaluate(tmp_path, target="kind")


def test_a_column_may_say_which_rows_are_for_the_test():
    parts = ["train"] * 100 + ["test"] * 60
    data = sheer.table(made().assign(part=parts), target="kind", valid="part")
    assert data.valid.tolist() == list(range(100, 160))
    with pytest.raises(DataError, match="some rows say valid, others test"):
        sheer.table(made().assign(part=[*parts[:-1], "valid"]), target="kind", valid="part")


def test_stages_freeze_and_have_rates_of_their_own():
    learn = fitted(made(), epochs=1)
    phase = learn.plan().phases[0]
    assert [stage.name for stage in learn.plan().model.stages] == ["embeddings", "layers", "head"]
    assert phase.trains_from == 0 and phase.norm == ("train", "train", "train") and phase.batch_size == 16
    before = {name: tensor.clone() for name, tensor in learn.model.state_dict().items()}
    learn.freeze_to(1).fit_one_cycle(1, slice(1e-4, 1e-2))
    moved = {name for name, tensor in learn.model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert not any(name.startswith("body.embeddings") for name in moved)
    assert "body.layers.linear0.weight" in moved and "head.weight" in moved
    assert learn.plan().phases[1].rates == pytest.approx((1e-4, 1e-3, 1e-2))


def test_what_tables_cannot_have_is_said():
    data = sheer.table(made(), target="kind")
    for options, error, message in (
        ({"mix": "mixup"}, PlanError, "the codes of a table's categories cannot be averaged"),
        ({"size": 64}, PlanError, "size=64 is for pictures"),
        ({"augmentation": "strong"}, PlanError, "is for pictures"),
    ):
        with pytest.raises(error, match=message):
            sheer.learner(data, **options).plan(sheer.recipes.one_cycle(1))
    with pytest.raises(PlanError, match="categories cannot be averaged"):
        sheer.learner(data, mix="mixup")
    assert repr(sheer.table(made(), target="price")).endswith("1 target>") and repr(data).endswith("2 classes>")
    assert "width (missing)  mark" in data.summary() and data.plan.target == ("kind",)
    for model, message in ((("tabular", {"hiden": (3,)}), "no setting 'hiden'"), ("tabnet", "is not known")):
        with pytest.raises(PlanError, match=message):
            sheer.learner(data, model)
    with pytest.raises(ModelError, match="no pretrained weights"):
        sheer.learner(data, weights="package")
    with pytest.raises(ModelError, match="model=tabular"):
        sheer.learner(data, ("tabular", {"hidden": (-1,)}))
    with pytest.raises(ModelError, match="settings are for a table"):
        sheer.learner(sheer.arrays(torch.rand(8, 3), [0, 1] * 4), ("tabular", {}))
    with pytest.raises(DataError, match="is no CSV file"):
        sheer.learner(data, quiet=True).evaluate(".")


def test_a_cell_that_is_no_number_names_its_row():
    with pytest.raises(ValueError, match="Column 'a': row 2 holds 'x'"):
        Continuous(column="a", median=0.0, mean=0.0, std=1.0).encode(["1", "x"])


CASES = {
    "classes": ({"target": "kind"}, {}),
    "numbers": ({"target": "price"}, {"loss": "huber"}),
    "several": ({"target": ["price", "width2"], "weight": "doors"}, {"clip": 1.0, "ema": 0.9}),
    "settings": ({"target": "kind", "group": "doors"}, {"model": ("tabular", {"hidden": (8,), "dropout": 0.3, "embedding_dropout": 0.2})}),
    "labels": ({"target": ["flag", "mark"], "ignore": ["colour", "doors"]}, {}),
    "tabm": ({"target": "kind", "weight": "doors"}, {"model": ("tabm", {"members": 4, "hidden": (16, 8)}), "ema": 0.9}),
    "tabm of numbers": ({"target": ["price", "width2"]}, {"model": ("tabm", {"members": 3, "embedding": 0, "one_hot": 2}), "clip": 1.0}),
    "tabm of labels": ({"target": ["flag", "mark"]}, {"model": ("tabm", {"members": 3, "hidden": (8,)}), "accumulate": 32}),
}


@pytest.mark.parametrize("case", CASES)
def test_script_and_library_give_the_same_weights_after_every_epoch(case, tmp_path):
    for_data, for_learner = CASES[case]
    frame = made().assign(width2=np.arange(160) / 3, flag=[0, 1] * 80, mark=[0, 0, 1, 1] * 40)
    learn = sheer.learner(sheer.table(frame, **for_data), quiet=True, batch_size=16, out=tmp_path / "run", **for_learner)
    learn.fit_one_cycle(2)
    script = sheer.eject(tmp_path / "run", tmp_path / "train.py")
    assert "import sheer" not in script.read_text() and "PIL" not in script.read_text()
    frame.to_csv(tmp_path / "new.csv", index=False)
    command = [sys.executable, script, tmp_path / "train_items.csv", "--out", tmp_path / "again", "--predict", tmp_path / "new.csv"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    with (tmp_path / "again" / "history.csv").open() as file:
        assert [row["weights_sha256"] for row in csv.DictReader(file)] == [row.weights_sha256 for row in learn.history]
    task, outputs = learn.predict(frame), run.stdout.splitlines()[-160:]
    assert outputs[0].startswith(f"{tmp_path / 'new.csv'} row 1  ")
    if task.task == "classify":
        assert [line.split()[-2] for line in outputs] == list(task.labels)
    lint = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--isolated", "--select", "F,E9", script], capture_output=True, check=False
    )
    assert lint.returncode == 0, lint.stdout


CHANGES = {
    "an input": (
        lambda rows: rows[0].update({"input colour": "blue" if rows[0]["input colour"] == "red" else "red"}),
        "does not hold the rows",
    ),
    "targets": (lambda rows: [row.update({"target price": "1000"}) for row in rows[:99]], "targets, weights or split"),
    "a weight": (lambda rows: rows[3].update(weight="9.0"), "targets, weights or split"),
    "the split": (lambda rows: next(row for row in rows if row["part"] == "valid").update(part="9valid"), "targets, weights or split"),
}


@pytest.fixture(scope="module")
def weighed_run(tmp_path_factory):
    out = tmp_path_factory.mktemp("weighed") / "run"
    fitted(made(), target="price", weight="doors", epochs=1, out=out)
    return out


@pytest.mark.parametrize("case", CHANGES)
def test_script_and_eject_refuse_another_table(case, weighed_run, tmp_path):
    """Whatever of items.csv was changed: in the file beside the script, and in the run folder."""
    change, message = CHANGES[case]
    script, items = sheer.eject(weighed_run, tmp_path / "train.py"), tmp_path / "train_items.csv"
    rows = list(csv.DictReader(items.read_text().splitlines()))
    change(rows)
    with items.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    done = run_script(script, items, "--out", tmp_path / "again")
    assert done.returncode == 1 and message in done.stderr
    assert (tmp_path / "again" / "history.csv").read_text().count("\n") == 1, "it has trained"
    folder = shutil.copytree(weighed_run, tmp_path / "run")
    shutil.copy(items, folder / "items.csv")
    with pytest.raises(RunError, match=r"items\.csv does not hold the rows that the run .* it was changed\. Bring it back as it was\.$"):
        sheer.eject(folder, tmp_path / "other.py")
    (folder / "items.csv").unlink()
    with pytest.raises(EjectError, match=r"Bring its items\.csv back"):
        sheer.eject(folder, tmp_path / "other.py")
    assert not (tmp_path / "other.py").exists()


WRONG_FILES = {
    "not there": (None, r"^nofile\.csv cannot be read as CSV: .*No such file"),
    "short row": ("width,colour,kind\n1,red,bad\n1,red\n", r"^new\.csv row 2 has more or fewer cells"),
    "long row": ("width,colour,kind\n1,red,bad,4\n", r"^new\.csv row 1 has more or fewer cells"),
    "text for a number": (
        "width,colour,kind\n1,red,bad\nold,red,bad\n",
        r"^new\.csv: Column 'width': row 2 holds 'old', which is no finite number\.$",
    ),
    "no such column": ("width,kind\n1,bad\n", r"^new\.csv has no rows, or lacks the column 'colour'"),
    "no UTF-8": (b"width,colour,kind\n1,r\xe9d,bad\n", r"^new\.csv cannot be read as CSV: .*utf-8"),
}


@pytest.fixture(scope="module")
def trained_script(weighed_run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("script")
    script = sheer.eject(weighed_run, folder / "train.py")
    done = run_script(script, "train_items.csv", "--out", "out")
    assert done.returncode == 0, done.stderr
    return script


@pytest.mark.parametrize("case", WRONG_FILES)
def test_the_script_says_in_one_line_what_it_cannot_predict(case, trained_script):
    text, message = WRONG_FILES[case]
    new = trained_script.with_name("nofile.csv" if text is None else "new.csv")
    if text is not None:
        new.write_bytes(text if isinstance(text, bytes) else text.encode())
    done = run_script(trained_script, "--out", "out", "--predict", new.name)
    assert done.returncode == 1 and re.search(message, done.stderr) and done.stderr.count("\n") == 1, done.stderr


def test_the_script_says_which_file_it_wants(trained_script, tmp_path):
    made().to_csv(tmp_path / "cars.csv", index=False)
    for given, message in (("cars.csv", "lacks the column 'input "), ("typo.csv", "cannot be read as CSV")):
        done = run_script(trained_script, tmp_path / given, "--out", tmp_path / given[:4])
        assert done.returncode == 1 and done.stderr.count("\n") == 1 and message in done.stderr, done.stderr
        assert done.stderr.endswith(" Give train_items.csv, which was written beside this script.\n")


def test_a_run_is_saved_loaded_and_taken_further(tmp_path):
    frame = made()
    learn = fitted(frame)
    learn.save(tmp_path / "run")
    assert sheer.Plan.from_json((tmp_path / "run" / "plan.json").read_text()) == learn.plan()
    loaded = sheer.load(tmp_path / "run", data=sheer.table(frame, target="kind"))
    assert np.array_equal(loaded.predict(frame).outputs, learn.predict(frame).outputs)
    assert loaded.validate().metrics() == learn.validate().metrics()
    loaded.fit_one_cycle(1)
    assert loaded.history[-1].weights_sha256 == learn.fit_one_cycle(1).history[-1].weights_sha256


def test_an_interrupted_run_goes_on_to_the_same_bits_from_its_folder_alone(tmp_path):
    whole = fitted(made())
    learn = sheer.learner(sheer.table(made(), target="kind"), quiet=True, out=tmp_path / "run", batch_size=16)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        learn.run(sheer.recipes.one_cycle(2), callbacks=[Leave(9)])
        raise KeyboardInterrupt
    again = sheer.resume(tmp_path / "run", quiet=True)
    assert [row.weights_sha256 for row in again.history] == [row.weights_sha256 for row in whole.history]


def test_a_changed_table_is_not_resumed(tmp_path):
    learn = sheer.learner(sheer.table(made(), target="kind"), quiet=True, out=tmp_path / "run", batch_size=16)
    learn.run(sheer.recipes.one_cycle(2), callbacks=[Leave(9)])
    items = tmp_path / "run" / "items.csv"
    text = items.read_text()
    for changed, message in (
        (text.replace(",red,", ",blue,", 1), "does not hold the rows"),
        (text.replace("input width", "w"), "is damaged"),
    ):
        items.write_text(changed)
        with pytest.raises(RunError, match=message):
            sheer.resume(tmp_path / "run", quiet=True)
    items.unlink()
    with pytest.raises(RunError, match="cannot be read"):
        sheer.resume(tmp_path / "run", quiet=True)


def test_a_bundle_predicts_from_a_table(tmp_path):
    learn = fitted(made())
    learn.export(tmp_path / "cars.sheer")
    bundle, rows = sheer.load_bundle(tmp_path / "cars.sheer"), made()[:9].assign(colour="violet")
    found = bundle.predict(rows)
    assert np.abs(found.outputs - learn.predict(rows).outputs).max() < 1e-6
    assert found.notes == learn.predict(rows).notes and "violet" in found.notes[0]
    for array in (learn.data.arrays[:4], learn.data.arrays[:4].numpy(), np.array([["red", 1]], dtype=object)):
        with pytest.raises(DataError, match="is no table: give a CSV file"):
            bundle.predict(array)


def test_explain_diff_and_compare_name_the_columns(tmp_path):
    frame = made()
    one = fitted(frame, out=tmp_path / "one")
    fitted(frame, out=tmp_path / "two", ignore=["doors"])
    assert "categorical colour" in str(sheer.explain(tmp_path / "one"))
    assert "doors" in str(sheer.diff(tmp_path / "one", tmp_path / "two"))
    for model in ("tabm", "tabular"):
        towards = sheer.diff(sheer.learner(one.data, model, quiet=True, batch_size=16), "fastai-2.8")
        assert {change.change.decision for change in towards.differences} & {"no_decay", "optimizer.implementation", "phase freeze"}
        assert not {change.change.decision for change in towards.differences} & {"name", "body", "head", "weights_sha256"}
    again = sheer.learner(one.data, quiet=True, batch_size=16)
    assert "no tensor differs" in str(sheer.compare(sheer.learner(one.data, quiet=True, batch_size=16), again)).lower()


def test_baselines_stand_beside_the_result(monkeypatch):
    learn = fitted(made())
    text = str(learn.baselines())
    for words in ("sheer:tabm", "gradient boosting", "logistic regression", "accuracy", "seconds", "same rows"):
        assert words in text
    assert all(one.predictions is not None and len(one.predictions) == len(learn.data.valid) for one in learn.baselines().others)
    assert "ridge regression" in str(fitted(made(), "price").baselines())
    monkeypatch.setitem(sys.modules, "sklearn.ensemble", None)
    assert "gradient boosting was not fitted: scikit-learn cannot be imported" in str(learn.baselines())
    with pytest.raises(DataError, match="Baselines are fitted on tables"):
        sheer.learner(sheer.arrays(torch.rand(8, 3), [0, 1] * 4), lambda: torch.nn.Linear(3, 2)).baselines()


def test_the_command_line(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made().to_csv("cars.csv", index=False)
    assert main(["train", "cars.csv", "--target", "kind", "--epochs", "2", "--set", "ignore=['doors']", "--out", "run"]) == 0
    printed = capsys.readouterr().out
    assert "one_cycle" in printed and "gradient boosting" in printed and "categorical  3 categories: blue, green, red" in printed
    assert main(["plan", "cars.csv", "--target", "price", "--target", "width2"]) == 2
    assert "no such column" in capsys.readouterr().err
    assert main(["plan", "cars.csv", "--target", "price", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["data"]["task"]["name"] == "regress"
    assert main(["plan", "cars.csv", "--target", "price"]) == 0
    assert "Estimate" in capsys.readouterr().out
    assert main(["predict", "run", "cars.csv"]) == 0
    assert "item 159" in capsys.readouterr().out
    assert main(["predict", "run", "cars.csv", "cars.csv"]) == 2
    assert main(["evaluate", "run", "cars.csv", "--target", "kind"]) == 0
    assert "160 items" in capsys.readouterr().out
    assert main(["plan", "cars.csv", "--target", "kind", "--size", "64"]) == 2
    assert "--size is for photographs" in capsys.readouterr().err
    assert main(["eject", "run", "train.py"]) == 0
    assert "python train.py train_items.csv --out DIR" in capsys.readouterr().out
    (tmp_path / "my scripts").mkdir()
    assert main(["eject", "run", "my scripts/tr.py"]) == 0
    command = shlex.split(capsys.readouterr().out.rpartition("Run it: ")[2])
    done = subprocess.run([sys.executable, *command[1:]], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and (tmp_path / "DIR" / "weights.pt").is_file(), done.stderr


def test_a_plan_on_the_scale_of_a_run_before_it_begins_with_the_data_as_it_was_built(tmp_path):
    fitted(made().drop(columns="kind"), target="price", epochs=1, out=tmp_path / "first")
    frame = made().drop(columns="kind")
    data = sheer.table(frame.assign(price=2 * frame["price"]), target="price")
    learn = sheer.load(tmp_path / "first", data=data)
    learn.fit_one_cycle(1)
    assert learn.plan().data.task != data.plan.task
    again = begun(learn.plan(), data, start=learn._start, quiet=True).run(learn.plan().phases)
    assert again.history[-1].weights_sha256 == learn.history[-1].weights_sha256


def test_rows_that_are_left_out_count_in_no_weight():
    frame = made().drop(columns="price")
    learn = fitted(frame, epochs=1)
    odd = frame.assign(count=[0.0, 0.0, *[1.0] * (len(frame) - 2)])
    odd.loc[2:, "kind"] = "odd"
    with pytest.raises(DataError, match="weights are finite numbers of at least 0, and not all 0"):
        learn.evaluate(odd, target="kind", weight="count", unknown="skip")
    odd["count"] = [2.0, 4.0, *[1.0] * (len(frame) - 2)]
    assert learn.evaluate(odd, target="kind", weight="count", unknown="skip").counts() == pytest.approx([2 / 3, 4 / 3])
