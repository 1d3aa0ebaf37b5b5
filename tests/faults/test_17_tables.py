"""Fault 17 for tables, texts and several inputs: cells, columns and files that are odd. An error names the column and the remedy before
any work starts, or the stated policy applies and is counted in the plan's notes, or in those of the predictions."""

import csv
import datetime
import math
import re
import subprocess
import sys
import time

import numpy as np
import pandas
import polars
import pytest

import sheer
from conftest import make_photos
from sheer.data.frames import MOST_LETTERS
from sheer.errors import DataError, PlanError
from sheer.record.again import data_again

ROWS = 40


def rows(**changed):
    """Columns of 40 rows with two classes; `changed` are functions of the row's number."""
    columns = {
        "kind": ["good" if n % 2 else "bad" for n in range(ROWS)],
        "colour": [("red", "green", "blue")[n % 3] for n in range(ROWS)],
        "width": [n * 1.25 for n in range(ROWS)],
        "doors": [n % 4 for n in range(ROWS)],
        "words": [f"a text of {n} words" for n in range(ROWS)],
    }
    return columns | {name: [value(n) for n in range(ROWS)] for name, value in changed.items()}


def table(source, **options):
    return sheer.table(source, **{"target": "kind"} | options)


def fused(source, **options):
    inputs = {"table": sheer.TableInput(ignore=["words"]), "text": sheer.TextInput(column="words")}
    return sheer.DataBlock(inputs=inputs, label="kind", **options).build(source)


def kinds_of(data):
    return {part.options()["column"]: part.name for one in (data.plan, *data.plan.inputs) for part in one.columns if part.name != "missing"}


REFUSED = {
    "infinite": (lambda n: -math.inf if n == 4 else n / 2, "row 5 holds '-inf', which is no finite number.*ignore="),
    "infinite in letters": (lambda n: "1e999" if n == 4 else str(n / 2), "row 5 holds 'inf'"),
    "too large": (lambda n: 10**50 + n, "row 1 holds '10{39}', which is too large for float32, which ends at 3.4e38"),
    "a thousand digits": (lambda n: 10**5000 + n, "holds a whole number of a thousand digits or more. Make text of it"),
    "numbers and text": (lambda n: n if n % 2 else "a", "mixes numbers .39. and text .'a'.*ignore="),
    "numbers and truth values": (lambda n: n % 2 == 0 or n, "mixes numbers .39. and truth values .True."),
    "a few that are none": (lambda n: "?" if n == 5 else str(n), "holds numbers, but for 1 of .* cells .'[?]'.*categorical="),
    "decimal comma": (lambda n: f"{n},5", "holds numbers in another form, such as '[0-9]+,5'. Write them like 1234.5.*categorical="),
    "thousands": (lambda n: f"{n + 1},000.5", "holds numbers in another form"),
    "percent": (lambda n: f"{n} %", "holds numbers in another form"),
    "dates": (lambda n: datetime.date(2020, 1, 1), "holds values of type date .'2020-01-01'.. Make text or numbers of them .a date as"),
    "lists": (lambda n: [n, 2], "holds values of type list .'.39, 2.'"),
    "dicts": (lambda n: {"a": n}, "holds values of type dict"),
    "bytes": (lambda n: b"a", "holds values of type bytes"),
    "complex": (lambda n: 1j * n, "holds values of type complex"),
    "half a letter": (lambda n: "\ud800" if n == 3 else "b", "row 4 holds half of a surrogate pair"),
    "very long": (lambda n: "x" * (MOST_LETTERS + 1) if n == 3 else "b", "row 4 has 131,073 characters; at most 131,072"),
}


@pytest.mark.parametrize("make", [table, fused], ids=["table", "fused"])
@pytest.mark.parametrize("case", REFUSED)
def test_17_cells_that_cannot_be_learned_from_are_named_by_column_and_row(make, case):
    value, message = REFUSED[case]
    with pytest.raises(DataError, match=f"Column 'odd' ?:? ?{message}"):
        make(rows(odd=value))


LEFT_OUT = {
    "empty": (lambda n: None, "is empty in all rows to train on"),
    "blank": (lambda n: "" if n % 2 else "  ", "is empty in all rows to train on"),
    "all nan": (lambda n: math.nan, "is empty in all rows to train on"),
    "the same": (lambda n: 7, "is the same in all rows to train on"),
    "huge and equal": (lambda n: 10**30 + n, "too close together to be told apart"),
    "tiny": (lambda n: n * 1e-300, "too close together to be told apart"),
    "names": (lambda n: f"car {n}", "values occur once, such as 'car [0-9]+'; categorical=.'odd'. keeps it"),
}


@pytest.mark.parametrize("make", [table, fused], ids=["table", "fused"])
@pytest.mark.parametrize("case", LEFT_OUT)
def test_17_columns_with_nothing_to_say_are_left_out_and_that_is_said(make, case):
    value, message = LEFT_OUT[case]
    data = make(rows(odd=value))
    assert "odd" not in kinds_of(data)
    assert [note for note in data.plan.notes if "'odd'" in note and re.search(f"is left out.*{message}", note)]


TAKEN = {
    "truth values": (lambda n: n % 3 == 0, "categorical"),
    "truth values with gaps": (lambda n: None if n == 2 else n % 3 == 0, "categorical"),
    "whole numbers as floats": (lambda n: float(n % 3), "categorical"),
    "the words for unknown": (lambda n: ("0", "unknown", "#na#")[n % 3], "categorical"),
    "the same with gaps": (lambda n: 7 if n % 2 else None, "categorical"),
    "emoji": (lambda n: "😀é"[n % 2], "categorical"),
    "zero bytes": (lambda n: "a\0b" if n % 2 else "c", "categorical"),
    "line ends": (lambda n: ("a\nb", 'c\r\n"d', "e\rf, g")[n % 3], "categorical"),
    "many gaps": (lambda n: n / 3 if n % 3 else None, "continuous"),
    "large": (lambda n: n * 1e36, "continuous"),
}


@pytest.fixture(scope="module")
def taken(tmp_path_factory):
    """One run on all columns of TAKEN, with names as odd as their cells."""
    folder = tmp_path_factory.mktemp("taken")
    columns = rows() | {f'{case}\n,"é': [value(n) for n in range(ROWS)] for case, (value, _) in TAKEN.items()}
    data = table(columns, ignore=["words"])
    learn = sheer.learner(data, quiet=True, batch_size=8, out=folder / "run").fit_one_cycle(1)
    return columns, learn, folder


@pytest.mark.parametrize("case", TAKEN)
def test_17_odd_cells_that_can_be_learned_from_are(taken, case):
    assert kinds_of(taken[1].data)[f'{case}\n,"é'] == TAKEN[case][1]


def test_17_odd_cells_and_names_are_the_same_in_the_run_folder_the_script_and_a_bundle(taken):
    columns, learn, folder = taken
    assert data_again(folder / "run", learn.plan()).plan == learn.data.plan
    script = sheer.eject(folder / "run", folder / "train.py")
    done = subprocess.run(
        [sys.executable, script, folder / "train_items.csv", "--out", folder / "again"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    with (folder / "again" / "history.csv").open() as file:
        assert [row["weights_sha256"] for row in csv.DictReader(file)] == [row.weights_sha256 for row in learn.history]
    bundle, found = sheer.load_bundle(learn.export(folder / "x.sheer")), learn.predict(columns)
    assert np.allclose(bundle.predict(columns).outputs, found.outputs, atol=1e-6)
    assert np.allclose(found.outputs[learn.data.valid], learn.validate().outputs, atol=1e-6)


@pytest.fixture(scope="module")
def learner():
    return sheer.learner(table(rows(), ignore=["words"]), quiet=True, batch_size=8).fit_one_cycle(1)


FURTHER = {
    "another order": (lambda f: f[f.columns[::-1]], 0, ""),
    "another column more": (lambda f: f.assign(more="x", again=[[1]] * ROWS), 0, ""),
    "without the target": (lambda f: f.drop(columns="kind"), 0, ""),
    "another target": (lambda f: f.assign(kind=[{}] * ROWS), 0, ""),
    "whole numbers as floats": (lambda f: f.assign(doors=f["doors"].astype(float)), 0, ""),
    "numbers as text": (lambda f: f.assign(doors=f["doors"].astype(str), width=f["width"].astype(str)), 0, ""),
    "categories of pandas": (lambda f: f.assign(colour=f["colour"].astype("category")), 0, ""),
    "a new category": (lambda f: f.assign(colour=["violet", *f["colour"][1:]]), 1, "'colour': 1 of 40 further rows hold 'violet'.*unknown"),
    "another type": (lambda f: f.assign(colour=3), 40, "'colour': 40 of 40 further rows hold '3', .* code 0, unknown"),
    "a missing number": (lambda f: f.assign(width=[None, *f["width"][1:]]), 1, "'width': 1 of 40 further rows are missing.*the median"),
    "a missing category": (lambda f: f.assign(colour=[None, *f["colour"][1:]]), 1, "'colour': 1 of 40 further rows are missing.*code 0"),
    "a code for the category": (lambda f: f.assign(doors=[0.5, *f["doors"][1:]]), 1, "'doors': 1 of 40 further rows hold '0.5'"),
}


@pytest.mark.parametrize("case", FURTHER)
def test_17_further_rows_are_taken_by_name_and_what_is_new_in_them_is_counted(learner, case):
    change, strange, message = FURTHER[case]
    learn, frame = learner, pandas.DataFrame(rows())
    found, usual = learn.predict(change(frame)), learn.predict(frame)
    *said, unread = found.notes
    assert usual.notes == ("2 of 5 columns are not looked at: 'kind', 'words'",) and len(said) == bool(message)
    assert re.search("not looked at: .*'words'", unread)
    assert np.array_equal(found.outputs[strange:], usual.outputs[strange:])
    if message:
        assert re.search(message, found.notes[0])


REFUSED_FURTHER = {
    "a column less": (lambda f: f.drop(columns="width"), "lacks the column 'width', which the model takes"),
    "two columns less": (lambda f: f.drop(columns=["width", "doors"]), "lacks the columns 'doors', 'width', which"),
    "another spelling": (lambda f: f.rename(columns={"width": "Width"}), "lacks the column 'width'.*Did you mean 'Width'"),
    "infinite": (
        lambda f: f.assign(width=math.inf),
        "Column 'width': row 1 holds 'inf', which is no finite number. Give a number, or empty",
    ),
    "text": (lambda f: f.assign(width="wide"), "Column 'width': row 1 holds 'wide'"),
    "mixed": (lambda f: f.assign(width=[1.5, "a"] * 20), "Column 'width' mixes numbers .1.5. and text .'a'.. Make one of them[.]$"),
    "dates": (lambda f: f.assign(width=pandas.Timestamp("2020")), "Column 'width' holds values of type Timestamp"),
    "far": (lambda f: f.assign(width=1e37), "Column 'width': row 1 holds '1e[+]37', too far from what training had, .*Empty the cell"),
    "two of one name": (lambda f: f.rename(columns={"doors": "width"}), "has the column 'width' twice"),
    "half a letter": (lambda f: f.to_dict("list") | {"colour": ["\ud800"] * ROWS}, "Column 'colour': row 1 holds half of a surrogate"),
    "no rows": (lambda f: f.iloc[:0], "data frame has no rows"),
    "records": (lambda f: f.to_dict("records"), "list is no table"),
    "numbers alone": (lambda f: f.to_numpy(), "ndarray is no table"),
    "no file": (lambda f: "none.csv", "There is no file 'none.csv'"),
}


@pytest.mark.parametrize("case", REFUSED_FURTHER)
def test_17_further_rows_that_cannot_be_read_are_named(learner, case):
    change, message = REFUSED_FURTHER[case]
    with pytest.raises(DataError, match=message):
        learner.predict(change(pandas.DataFrame(rows())))


def test_17_further_items_of_several_inputs(tmp_path, monkeypatch):
    monkeypatch.chdir(make_photos(tmp_path / "photos", {"a": 4, "b": 4}))
    frame = pandas.DataFrame(rows(photo=lambda n: f"{'ab'[n % 2]}/00{n % 4}.jpg"))
    inputs = {"image": sheer.ImageInput(column="photo"), "table": sheer.TableInput(columns=["width", "colour"])}
    data = sheer.DataBlock(inputs=inputs, label="kind").build(frame)
    learn = sheer.learner(data, {"image": "test_resnet"}, weights="none", size=32, quiet=True)
    usual = learn.predict(frame)
    for same in (frame[frame.columns[::-1]].assign(more=1), frame.drop(columns="kind")):
        assert np.array_equal(learn.predict(same).outputs, usual.outputs)
    for change, message in (
        (frame.assign(colour="violet"), "'colour': 40 of 40 further rows hold 'violet'"),
        (frame.assign(colour=None), "'colour': 40 of 40 further rows are missing, as in no row to train on: code 0"),
        (frame.assign(photo=None), "input 'image' is missing in 40 of 40 rows"),
    ):
        assert message in learn.predict(change).notes[0]
    for change, message in (
        (frame.drop(columns=["width", "colour"]), "lacks the columns '(width|colour)', '(width|colour)', which the input 'table' reads"),
        (frame.assign(width=math.inf), "Column 'width': row 1 holds 'inf'.*Give a number, or empty the cell"),
        (frame.assign(photo="none.jpg"), "there is no file '.*none.jpg'.*give root=FOLDER"),
    ):
        with pytest.raises(DataError, match=message):
            learn.predict(change)


FRAMES = {
    "two of one name": (lambda f: f.set_axis(["kind", "a", "a", "b", "c"], axis=1), "The data frame has the column 'a' twice"),
    "a name and its text": (lambda f: f.assign(**{"1": 1}).rename(columns={"doors": 1}), "The data frame has the column '1' twice"),
    "dict of both": (lambda f: {1: [1, 2], "1": [1, 2], "kind": ["a", "b"]}, "The dict has the column '1' twice"),
    "half a letter in a name": (lambda f: {"a\ud800": [1, 2], "kind": ["a", "b"]}, "The name of column .* holds half of a surrogate"),
    "lazy": (lambda f: polars.from_pandas(f).lazy(), r"LazyFrame is no table: .*frame.collect\(\)"),
    "one column": (lambda f: f["colour"], "Series is no table"),
    "structs": (
        lambda f: polars.from_pandas(f).with_columns(odd=polars.struct("width", "doors")),
        "Column 'odd' holds values of type dict",
    ),
    "no columns": (lambda f: pandas.DataFrame(), "has no rows"),
    "columns of several lengths": (lambda f: {"a": [1], "kind": ["a", "b"]}, "Column 'a' has 1 cells, 'kind' 2"),
}


@pytest.mark.parametrize("case", FRAMES)
def test_17_frames_that_cannot_be_read(case):
    change, message = FRAMES[case]
    with pytest.raises(DataError, match=message):
        table(change(pandas.DataFrame(rows())))


def test_17_names_that_are_numbers_are_text():
    frame = pandas.DataFrame(rows()).rename(columns={"width": 1, "doors": 2.5})
    assert {"1", "2.5"} < set(kinds_of(table(frame)))


GOOD = pandas.DataFrame(rows()).drop(columns="words").to_csv(index=False)
CSVS = {
    "UTF-16": (GOOD.encode("utf-16"), "is no UTF-8 text.*Save it as CSV in UTF-8, or give a data frame"),
    "Latin-1": (GOOD.replace("red", "röt").encode("latin-1"), "is no UTF-8 text"),
    "semicolons": (GOOD.replace(",", ";").encode(), "names one column only, 'kind;colour;width;doors': .* by ';'. Save it with commas"),
    "semicolons, decimal commas": (GOOD.replace(",", ";").replace(".", ",").encode(), "seem to be separated by ';'"),
    "tabs": (GOOD.replace(",", "\t").encode(), r"seem to be separated by '\\t'.*pandas.read_csv"),
    "a short row": ((GOOD + "good,red\n").encode(), "row 41 has 2 cells under 4 columns .1 such rows.*leave empty cells empty"),
    "a long row": ((GOOD + "good,red,1,2,3\n").encode(), "row 41 has 5 cells under 4 columns"),
    "no bytes": (b"", "has no rows"),
    "empty lines": (b"\n\n\n", "has no rows"),
    "a header alone": (GOOD.partition("\n")[0].encode(), "has no rows"),
    "no header": (GOOD.partition("\n")[2].encode(), "has the column .* twice|no such column"),
    "a column twice": (GOOD.replace("doors", "width", 1).encode(), "has the column 'width' twice"),
    "an open quote": (GOOD.replace("red", '"red', 1).encode(), "Is a quote not closed"),
    "a huge cell": (GOOD.replace("red", "r" * 140_000, 1).encode(), "has a cell of more than 131,072 characters"),
    "an archive": (b"PK\3\4" + bytes(range(128, 256)), "is no UTF-8 text"),
}


@pytest.mark.parametrize("case", CSVS)
def test_17_files_that_cannot_be_read(tmp_path, case):
    content, message = CSVS[case]
    (tmp_path / "rows.csv").write_bytes(content)
    for make in (table, lambda source: sheer.text(source, text="colour", target="kind")):
        with pytest.raises(DataError, match=message):
            make(tmp_path / "rows.csv")


SAME_CSVS = {
    "a mark in front": "\ufeff" + GOOD,
    "line ends of Windows": GOOD.replace("\n", "\r\n"),
    "empty lines between": GOOD.replace("\n", "\n\n"),
    "quotes": "\n".join(",".join(f'"{cell}"' for cell in line.split(",")) for line in GOOD.splitlines()),
    "an empty last column": GOOD.replace("\n", ",\n"),
}


@pytest.mark.parametrize("case", SAME_CSVS)
def test_17_files_that_say_the_same_otherwise(tmp_path, case):
    (tmp_path / "rows.csv").write_bytes(SAME_CSVS[case].encode())
    (tmp_path / "good.csv").write_text(GOOD)
    one, other = (table(tmp_path / f"{name}.csv").plan for name in ("rows", "good"))
    assert (one.listing_sha256, one.targets_sha256, one.columns) == (other.listing_sha256, other.targets_sha256, other.columns)


def test_17_line_ends_in_quotes_belong_to_a_cell(tmp_path):
    (tmp_path / "rows.csv").write_bytes(GOOD.replace("red", '"r\r\ne""d"').encode())
    names = table(tmp_path / "rows.csv").plan.columns[0].options()["categories"]
    assert names == ("blue", "green", 'r\ne"d')


def test_17_very_many_categories_take_bounded_time():
    """As many as are taken, half of them in held-out rows alone; and ten times as many as are not."""
    count = 60_000
    columns = {"code": [f"c{n % (count // 2) + (n >= count) * n}" for n in range(2 * count)], "kind": [n % 2 for n in range(2 * count)]}
    before = time.process_time()
    data = table(columns, categorical=["code"], valid=list(range(count, 2 * count)))
    assert any("60000 of 60000 held-out rows hold" in note for note in data.plan.notes)
    with pytest.raises(DataError, match=r"'code' has 200,000 categories; at most 100,000 are taken.*ignore=\['code'\]"):
        table({"code": [f"c{n}" for n in range(200_000)], "kind": [n % 2 for n in range(200_000)]}, categorical=["code"], valid=0)
    assert time.process_time() - before < 30  # a second or two; each cell against a new set of all names took minutes


@pytest.mark.parametrize("model", ["tabular", "tabm"])
def test_17_few_rows_and_a_last_batch_of_one(model):
    few = sheer.learner(table({"kind": list("abab"), "width": [1.5, 2.5, 3.5, 4.5]}), model, quiet=True).fit_one_cycle(1)
    assert few.plan().phases[0].batch_size == 2 and math.isfinite(few.history[0].train_loss)
    data = table(rows(), valid=list(range(7)), ignore=["words"])
    dropped = sheer.learner(data, model, batch_size=8, quiet=True).fit_one_cycle(1)
    assert len(data.train) % 8 == 1 and dropped.plan().phases[0].last_batch == "drop" and math.isfinite(dropped.history[0].train_loss)
    kept = sheer.learner(data, model, profile="pytorch-tutorial", batch_size=8, quiet=True)
    recipe = sheer.recipes.constant(1, profile="pytorch-tutorial")
    if model == "tabm":  # it has no norm layers
        assert math.isfinite(kept.run(recipe).history[0].train_loss)
        return
    with pytest.raises(PlanError, match="batch_size=8: 33 items leave a last batch of one, which sheer:tabular cannot be trained on"):
        kept.plan(recipe)


def test_17_a_last_batch_of_one_with_several_inputs(tmp_path):
    photos = make_photos(tmp_path / "photos", {"a": 4, "b": 4})
    frame = pandas.DataFrame(rows(photo=lambda n: f"{'ab'[n % 2]}/00{n % 4}.jpg"))
    inputs = {"image": sheer.ImageInput(column="photo"), "table": sheer.TableInput(columns=["width", "colour"])}
    data = sheer.DataBlock(inputs=inputs, label="kind", root=photos, valid=list(range(7))).build(frame)
    options = {"weights": "none", "size": 32, "quiet": True, "profile": "pytorch-tutorial"}
    recipe = sheer.recipes.constant(1, profile="pytorch-tutorial")
    with pytest.raises(PlanError, match=r"batch_size=8: 33 items leave a last batch of one, which sheer:image\+table"):
        sheer.learner(data, {"image": "test_resnet"}, batch_size=8, **options).plan(recipe)


def test_17_nothing_held_out_and_metrics_that_are_not_defined():
    data = table(rows(), valid=0, ignore=["words"])
    learn = sheer.learner(data, quiet=True, batch_size=8).fit_one_cycle(1)
    assert math.isnan(learn.history[0].valid_loss) and math.isnan(learn.history[0].metrics["accuracy"])
    one_side = table(rows(), valid=[1, 3, 5], ignore=["words"])  # all of them good
    found = sheer.learner(one_side, quiet=True, batch_size=8, metrics=["auroc", "accuracy"]).validate()
    assert math.isnan(found.metrics()["auroc"]) and not math.isnan(found.metrics()["accuracy"])
    assert "auroc     nan, not defined here:" in found.report()
