"""Fault 15 for tables, texts and several inputs: labels that cannot be learned are named with their counts when the data is built, or
left out and counted where that was asked for; never an error in an epoch."""

import csv
import datetime
import decimal
import math
import subprocess
import sys

import numpy as np
import pandas
import polars
import pytest

import sheer
from conftest import Small, make_photos
from sheer.cli.main import main
from sheer.data.listing import csv_columns
from sheer.errors import DataError, RunError
from sheer.plan.plan import Plan, origin_of
from sheer.record.again import data_again
from sheer.record.run import read_run

ROWS = 24
KINDS = ("pandas", "polars", "csv", "text", "image + table", "text + table")


def rows(**changed):
    """Columns of 24 rows, two classes in turn, every fourth held out; `changed` are functions of the row's number."""
    columns = {
        "kind": ["good" if n % 2 else "bad" for n in range(ROWS)],
        "held": [n % 4 == 0 for n in range(ROWS)],
        "width": [n * 1.25 for n in range(ROWS)],
        "words": [f"a text of {n} words" for n in range(ROWS)],
        "photo": [f"{'ab'[n % 2]}/00{n % 4}.jpg" for n in range(ROWS)],
    }
    return columns | {name: [value(n) for n in range(ROWS)] for name, value in changed.items()}


@pytest.fixture
def photos(tmp_path):
    return make_photos(tmp_path / "photos", {"a": 4, "b": 4})


@pytest.fixture
def built(photos, tmp_path):
    """What a kind of source makes of columns, without any training."""

    def build(kind, columns, target="kind", **options):
        if kind in ("pandas", "polars", "csv"):
            source = polars.DataFrame(columns, strict=False) if kind == "polars" else pandas.DataFrame(columns)
            if kind == "csv":
                source.to_csv(tmp_path / "rows.csv", index=False)
                source = tmp_path / "rows.csv"
            return sheer.table(source, target=target, ignore=["words", "photo"], **options)
        if kind == "text":
            return sheer.text(columns, text="words", target=target, **options)
        inputs = {"table": sheer.TableInput(columns=["width"])}
        inputs |= {"image": sheer.ImageInput(column="photo")} if "image" in kind else {"text": sheer.TextInput(column="words")}
        return sheer.DataBlock(inputs=inputs, label=target, root=photos, **options).build(columns)

    return build


def odd_in(held):
    """Labels of which "odd" is that of rows 1 and 5, counted from 1, if they are held out; else that of rows 2 and 6."""
    return lambda n: "odd" if n in ((0, 4) if held else (1, 5)) else "good" if n % 2 else "bad"


@pytest.mark.parametrize("kind", KINDS)
def test_15_a_label_that_is_held_out_only_is_named_with_its_count(built, kind):
    columns = rows(kind=odd_in(held=True))
    with pytest.raises(DataError, match=r"odd \(2 items\) occurs among the held-out items only.*unknown='skip'"):
        built(kind, columns, valid="held")
    with pytest.raises(DataError, match=r"odd \(1 items\) occurs among the held-out items only"):
        built(kind, rows(kind=lambda n: "ab"[n % 2] if n else "odd"), valid="held")
    assert built(kind, rows(kind=odd_in(held=False)), valid="held").classes == ("bad", "good", "odd")


@pytest.mark.parametrize("kind", KINDS)
def test_15_items_with_unknown_labels_are_left_out_and_counted_where_that_was_asked_for(built, kind):
    data = built(kind, rows(kind=odd_in(held=True)), valid="held", unknown="skip")
    assert (data.classes, len(data.train), len(data.valid)) == (("bad", "good"), 18, 4)
    assert [data.classes[number] for number in data.targets[data.train][:3]] == ["good", "bad", "good"]
    assert (data.plan.unknown, data.plan.skipped) == ("skip", ("row 1", "row 5"))
    assert next(origin.by for origin in data.plan.origins if origin.field == "unknown") == "you"
    assert any("2 held-out items are left out: no item to train on has 'odd' (2)" in note for note in data.plan.notes)
    kept = data.tables()["items.csv"].splitlines()
    assert len(kept) == 23 and not any(line.startswith(("row 1,", "row 5,")) for line in kept)
    assert "row 1,unknown label,no,no item to train on has 'odd'" in data.tables()["skipped.csv"]
    same = built(kind, rows(), valid="held", unknown="skip")
    assert len(same.valid) == 6 and same.plan.skipped == ()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("empty", [None, float("nan"), "", "  ", "NaN", "NA", "null"], ids=repr)
def test_15_an_empty_label_is_named_by_its_row(built, kind, empty):
    with pytest.raises(DataError, match=r"1 items have an empty target \(rows 3\) in column 'kind'"):
        built(kind, rows(kind=lambda n: empty if n == 2 else "ab"[n % 2]), unknown="skip")


@pytest.mark.parametrize("kind", ["csv", "text"])
def test_15_a_number_that_is_missing_among_numbers_is_empty_and_not_a_class(built, kind):
    with pytest.raises(DataError, match=r"1 items have an empty target \(rows 3\) in column 'price'"):
        built(kind, rows(price=lambda n: "NaN" if n == 2 else str(n / 4)), "price")


ODD_TARGETS = {
    "text among numbers": (lambda n: "12,50" if n == 3 else str(n / 4), "holds numbers, but for 1 of 24 cells .'12,50'"),
    "infinite in letters": (lambda n: "inf" if n == 3 else str(n / 4), "holds numbers, but for 1 of 24 cells .'inf'.*task='classify'"),
    "infinite": (lambda n: math.inf if n == 3 else n / 4, "is infinite in row 4: give finite numbers"),
    "float32": (lambda n: np.float32("inf") if n == 3 else n / 4, "is infinite in row 4"),
    "hundreds of digits": (lambda n: 10**400 + n, "holds a number that is too large"),
    "half a letter": (lambda n: "\ud800" if n % 2 else "a", "row 2 holds half of a surrogate pair"),
    "very long": (lambda n: "x" * 140_000 if n == 3 else "ab"[n % 2], "row 4 has 140,000 characters; at most 131,072"),
    "truth values and numbers": (lambda n: n % 4 if n % 3 else True, "mixes numbers and truth values .True., which are one to Python"),
    "dates": (lambda n: datetime.date(2020, 1, 1 + n % 2), "holds values of type date .'2020-01-01'.*Make text or numbers"),
    "dicts": (lambda n: {"a": n % 2}, "holds values of type dict"),
    "bytes": (lambda n: b"ab"[n % 2 : n % 2 + 1], "holds values of type bytes"),
    "decimals": (lambda n: decimal.Decimal(n) / 3, "holds values of type Decimal"),
    "one class": (lambda n: "x", "has one value only, 'x'"),
    "one number": (lambda n: 1.5, "has one value only, '1.5'"),
}


@pytest.mark.parametrize("kind", ["table", "text", "image + table"])
@pytest.mark.parametrize("case", ODD_TARGETS)
def test_17_what_cannot_be_a_target_is_named_by_its_column(built, photos, kind, case):
    value, message = ODD_TARGETS[case]
    columns = rows(price=value)
    with pytest.raises(DataError, match=f"Column 'price'( of columns)?:? {message}"):
        sheer.table(columns, target="price") if kind == "table" else built(kind, columns, "price")


@pytest.mark.parametrize("kind", KINDS)
def test_17_whole_numbers_are_classes_or_numbers_however_they_are_written(built, kind):
    few = built(kind, rows(stars=lambda n: float(n % 3)), "stars")
    assert (few.plan.task.name, few.classes) == ("classify", ("0", "1", "2"))
    many = built(kind, rows(stars=lambda n: n), "stars")
    assert many.plan.task.name == "regress"


@pytest.mark.parametrize("kind", ["table", "text", "image + table"])
def test_15_labels_of_which_items_have_several(built, kind):
    tags = rows(tags=lambda n: "red odd" if n in (0, 4) else "red" if n % 3 else "blue")
    columns = rows(red=lambda n: int(n % 3 > 0), odd=lambda n: int(n in (0, 4)))

    def made(columns, target, **options):
        return sheer.table(columns, target=target, **options) if kind == "table" else built(kind, columns, target, **options)

    for source, target, separator in ((tags, "tags", " "), (columns, ["red", "odd"], None)):
        with pytest.raises(DataError, match=r"odd \(2 items\) occurs among the held-out items only"):
            made(source, target, separator=separator, valid="held")
        data = made(source, target, separator=separator, valid="held", unknown="skip")
        assert "odd" not in data.classes and len(data.valid) == 4 and data.targets.shape == (22, len(data.classes))


def test_15_what_is_left_must_be_enough(built):
    with pytest.raises(DataError, match=r"0 to validate on \(6 held-out items are left out: no item to train on has 'odd' \(6\)\): hold"):
        built("pandas", rows(kind=lambda n: "odd" if n % 4 == 0 else "ab"[n % 2]), valid="held", unknown="skip")
    with pytest.raises(DataError, match="has one class only, 'good'"):
        built("pandas", rows(kind=lambda n: "odd" if n % 4 == 0 and n else "good"), valid="held", unknown="skip")
    with pytest.raises(DataError, match="all 24 items are held out, so none is left to learn from"):
        built("pandas", rows(held=lambda n: True), valid="held")
    with pytest.raises(DataError, match=r"unknown='ignore' is no policy\. Allowed: 'raise', 'skip'"):
        built("pandas", rows(), unknown="ignore")


def test_15_photographs_of_a_class_that_training_lacks(tmp_path):
    folder = make_photos(tmp_path / "photos", {"a": 5, "b": 5}, part="train")
    make_photos(folder, {"a": 3, "c": 2}, part="valid")
    with pytest.raises(DataError, match=r"classes that .* does not: c \(2 files\).*unknown='skip'"):
        sheer.images(folder)
    data = sheer.images(folder, unknown="skip")
    assert data.classes == ("a", "b") and data.plan.skipped == ("valid/c/000.jpg", "valid/c/001.jpg") and len(data.valid) == 3
    learn = sheer.learner(data, "test_resnet", weights="none", size=32, batch_size=4, quiet=True, out=tmp_path / "run").fit(1)
    text = " ".join(str(learn.plan()).split())
    assert "unknown labels skip" in text and "2 held-out items are left out: no item to train on has 'c' (2)." in text
    again = data_again(tmp_path / "run", learn.plan()).plan
    assert (again.skipped, again.listing_sha256, again.unknown) == (data.plan.skipped, data.plan.listing_sha256, "skip")
    assert Plan.from_json(learn.plan().to_json()) == learn.plan()
    script = sheer.eject(tmp_path / "run", tmp_path / "train.py")
    done = subprocess.run([sys.executable, script, folder, "--out", tmp_path / "again"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with (tmp_path / "again" / "history.csv").open() as file:
        assert [row["weights_sha256"] for row in csv.DictReader(file)] == [row.weights_sha256 for row in learn.history]
    frame = pandas.DataFrame(
        {"file": [f"valid/{name}" for name in ("a/000.jpg", "a/001.jpg", "c/000.jpg")] * 4, "kind": list("abcabcabcabc")}
    )
    listed = sheer.images(frame, root=folder, valid=[2, 5, 8, 11, 0], unknown="skip")
    assert listed.plan.skipped == ("valid/c/000.jpg",) * 4 and listed.classes == ("a", "b") and listed.valid.tolist() == [0]


def test_15_a_table_trains_resumes_and_is_ejected_without_them(built, tmp_path, capsys):
    columns = rows(kind=odd_in(held=True), count=lambda n: n % 5 + 1)
    data = built("pandas", columns, valid="held", unknown="skip", weight="count")
    learn = sheer.learner(data, batch_size=4, quiet=True, out=tmp_path / "run").fit_one_cycle(1)
    assert data_again(tmp_path / "run", learn.plan()).plan == data.plan
    script = sheer.eject(tmp_path / "run", tmp_path / "train.py")
    command = [sys.executable, script, tmp_path / "train_items.csv", "--out", tmp_path / "again"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with (tmp_path / "again" / "history.csv").open() as file:
        assert [row["weights_sha256"] for row in csv.DictReader(file)] == [row.weights_sha256 for row in learn.history]
    pandas.DataFrame(columns).to_csv(tmp_path / "test.csv", index=False)
    given = ["evaluate", str(tmp_path / "run"), str(tmp_path / "test.csv"), "--target", "kind"]
    assert main(given) == 2 and "'odd' (2 rows)" in capsys.readouterr().err
    assert main([*given, "--unknown", "skip"]) == 0
    told = capsys.readouterr().out
    assert "(22 items)" in told and "note: 2 of 24 rows are left out: the model does not know their class: 'odd' (2 rows)" in told


def test_15_further_items_of_a_class_that_the_model_does_not_know(photos, built):
    columns = rows(kind=odd_in(held=True))
    for learn in (
        sheer.learner(built("pandas", rows()), quiet=True),
        sheer.learner(built("image + table", rows()), {"image": "test_resnet"}, weights="none", size=32, quiet=True),
    ):
        source = columns | {"photo": [str(photos / name) for name in columns["photo"]]}
        with pytest.raises(DataError, match=r"'kind' has classes that the model does not know: 'odd' \(2 rows\).*unknown='skip'"):
            learn.evaluate(source, target="kind")
        found = learn.evaluate(source, target="kind", unknown="skip")
        stay = [n for n in range(ROWS) if n not in (0, 4)]
        assert len(found) == 22 and np.allclose(found.outputs, learn.predict(source).outputs[stay], atol=1e-6)
        assert [found.classes[number] for number in found.target] == [columns["kind"][n] for n in stay]
        assert found.notes[-1:] == ("2 of 24 rows are left out: the model does not know their class: 'odd' (2 rows)",)
        with pytest.raises(DataError, match="does not know: 'odd'"):
            learn.evaluate(source | {"kind": ["odd"] * ROWS}, target="kind", unknown="skip")
        with pytest.raises(DataError, match="unknown='drop' is no policy"):
            learn.evaluate(source, target="kind", unknown="drop")
        with pytest.raises(DataError, match="column 'kind' is empty in 1 rows, first in row 1"):
            learn.evaluate(source | {"kind": ["NaN", *columns["kind"][1:]]}, target="kind", unknown="skip")
    numbers = sheer.learner(sheer.table(rows(stars=lambda n: n % 3), target="stars"), quiet=True)
    judged = [numbers.evaluate(rows(stars=lambda n, one=one: one(n % 3)), target="stars").target.tolist() for one in (int, float, str)]
    assert judged[0] == judged[1] == judged[2] == [n % 3 for n in range(ROWS)]


@pytest.mark.parametrize("form", ["text", "text after a load", "collections", "columns"])
@pytest.mark.parametrize("kind", ["pandas", "image + table"])
def test_15_further_items_with_several_labels_are_read_as_those_that_were_learned_from(photos, built, tmp_path, kind, form):
    cells = [("red;big", "red", "", " big ;blue")[n % 4] for n in range(ROWS)]
    sets = [{part.strip() for part in cell.split(";")} - {""} for cell in cells]
    flags = {name: [int(name in one) for one in sets] for name in ("big", "blue", "red")}
    columns, target = rows() | {"tags": cells}, "tags"
    if form == "collections":
        columns = columns | {"tags": sets}
    elif form == "columns":
        columns, target = rows() | flags, list(flags)
    more = {} if form in ("collections", "columns") else {"separator": ";"}
    if form == "collections" and kind == "pandas":
        more["task"] = "tag"
    data = built(kind, columns, target, **more)
    model = {"image": "test_resnet"} if kind == "image + table" else None
    learn = sheer.learner(data, model, quiet=True, **({"weights": "none", "size": 32} if model else {}))
    if form == "text after a load":
        learn.fit_one_cycle(1).save(tmp_path / "run")
        learn = sheer.load(tmp_path / "run")
        assert "labels between  ';'" in str(learn.plan())
    columns = columns | {"photo": [str(photos / name) for name in columns["photo"]]}
    found = learn.evaluate(columns)
    assert found.classes == tuple(flags) and not any("left out" in note or "'tags'" in note for note in found.notes)
    assert found.target.tolist() == [[flags[name][n] for name in flags] for n in range(ROWS)]
    if form == "columns":
        return
    odd = [one if form == "collections" else ";".join(sorted(one)) for one in ({"red", "odd"}, {"blue"}, {"odd", "new"})]
    strange = columns | {"tags": odd * (ROWS // 3)}
    with pytest.raises(DataError, match=r"'tags' has labels that the model does not know: 'odd' \(16 rows\), 'new' \(8 rows\)\. It knows"):
        learn.evaluate(strange)
    found = learn.evaluate(strange, unknown="skip")
    assert found.target.tolist() == [[0, 1, 0]] * 8 and len(found) == 8
    assert found.notes[-1].startswith("16 of 24 rows are left out: the model does not know their labels: 'odd' (16 rows)")
    named = {("labels" if name == "tags" else name): values for name, values in columns.items()}
    with pytest.raises(DataError, match="lacks the target 'tags'; target=COLUMN names another"):
        learn.evaluate(named)
    assert (learn.evaluate(named, target="labels").target == learn.evaluate(columns).target).all()


@pytest.mark.parametrize("kind", ["pandas", "text", "image + table"])
def test_15_a_separator_is_for_labels_of_one_column(built, kind):
    columns = rows(tags=lambda n: "ab"[n % 2], flag=lambda n: n % 2, mark=lambda n: n % 3 % 2)
    for target, more in (("kind", {"task": "classify"}), ("width", {"task": "regress"}), (["flag", "mark"], {})):
        with pytest.raises(DataError, match=r"separator=';' is for one column whose cells name several labels"):
            built(kind, columns, target, separator=";", **more)
    blanks = built(kind, rows(tags=lambda n: ("red  big", "red", "blue")[n % 3]), "tags", task="tag")
    assert blanks.classes == ("big", "blue", "red") and blanks.plan.separator == " "
    assert origin_of(blanks.plan, "separator").reason == "labels stand in one cell, with blanks between them"
    assert built(kind, columns, ["flag", "mark"]).plan.separator == ""
    numbers = built(kind, rows(tags=lambda n: (1.0, 2.0, math.nan)[n % 3]), "tags", separator=";")
    assert numbers.classes == ("1", "2"), "labels are written the same with a point as without"


def test_15_one_label_called_like_its_column(built):
    columns = rows(red=lambda n: ["red"] if n % 2 else [])
    learn = sheer.learner(built("pandas", columns, "red", task="tag"), quiet=True)
    assert learn.evaluate(columns).target.tolist() == [[n % 2] for n in range(ROWS)]


def test_rows_are_read_once_to_be_judged(built, tmp_path, monkeypatch):
    pandas.DataFrame(rows(count=lambda n: 1 + n % 2)).to_csv(tmp_path / "new.csv", index=False)
    data = sheer.table(rows(count=lambda n: 1 + n % 2), target="kind", ignore=["words", "photo"], weight="count")
    reads = []
    monkeypatch.setattr("sheer.data.frames.csv_columns", lambda path: reads.append(path) or csv_columns(path))
    found = sheer.learner(data, quiet=True, weighted_metrics=True).evaluate(tmp_path / "new.csv")
    assert len(found) == ROWS and len(set(found.weights.tolist())) == 2 and reads == [tmp_path / "new.csv"]


def test_15_further_photographs_of_a_class_that_the_model_does_not_know(photos):
    learn = sheer.learner(sheer.images(photos), Small, size=32, quiet=True)
    make_photos(photos, {"c": 2})
    with pytest.raises(DataError, match=r"has classes that the model does not know: 'c' \(2 files\).*unknown='skip'"):
        learn.evaluate(photos)
    found = learn.evaluate(photos, unknown="skip")
    assert len(found) == 8 and "2 of 10 files are left out" in found.notes[0] and "note: 2 of 10 files" in found.report()


def test_15_a_held_out_folder_of_unknown_classes_only_is_not_replaced_by_a_share(tmp_path):
    folder = make_photos(tmp_path / "photos", {"a": 5, "b": 5}, part="train")
    sheer.learner(sheer.images(folder), Small, size=32, quiet=True, out=tmp_path / "run").fit(1)
    make_photos(folder, {"c": 2}, part="valid")
    with pytest.raises(DataError, match=r"10 items to train on and 0 to validate on \(2 held-out items are left out: .* 'c' \(2\)\)"):
        sheer.images(folder, unknown="skip")
    with pytest.raises(RunError, match="does not hold the 10 items"):  # what the folder holds now decides another split
        data_again(tmp_path / "run", read_run(tmp_path / "run").plan)


def test_15_class_folders_split_by_a_share_leave_unknown_labels_out(tmp_path):
    folder, seed = make_photos(tmp_path / "photos", {"a": 8, "b": 8, "c": 1}), 2
    with pytest.raises(DataError, match=r"leaves no item of 'c' to learn from|one item only of c"):
        sheer.images(folder, split="random", valid=0.5, seed=seed)
    data = sheer.images(folder, split="random", valid=0.5, seed=seed, unknown="skip")
    assert data.classes == ("a", "b") and data.plan.skipped == ("c/000.jpg",) and not any("no classes" in note for note in data.plan.notes)
    learn = sheer.learner(data, "test_resnet", weights="none", size=32, batch_size=4, quiet=True, out=tmp_path / "run").fit(1)
    assert data_again(tmp_path / "run", learn.plan()).plan == data.plan
    script = sheer.eject(tmp_path / "run", tmp_path / "train.py")
    done = subprocess.run([sys.executable, script, folder, "--out", tmp_path / "again"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with (tmp_path / "again" / "history.csv").open() as file:
        assert [row["weights_sha256"] for row in csv.DictReader(file)] == [row.weights_sha256 for row in learn.history]


@pytest.mark.parametrize("kind", ["csv", "pandas", "text"])
def test_15_na_is_a_label_among_several_and_blank_is_none(built, kind):
    cells = {0: "", 1: "NA", 2: "EU;NA", 3: "null"}
    data = built(kind, rows(tags=lambda n: cells.get(n, "EU")), "tags", separator=";", valid=0)
    assert data.classes == ("EU", "NA", "null")
    assert data.targets[:5].tolist() == [[0, 0, 0], [0, 1, 0], [1, 1, 0], [0, 0, 1], [1, 0, 0]]


@pytest.mark.parametrize("kind", ["pandas", "csv", "text"])
def test_17_whole_numbers_that_are_asked_to_be_classes_are_in_number_order(built, kind):
    data = built(kind, rows(stars=lambda n: float(n % 12)), "stars", task="classify", valid=0)
    assert data.classes == tuple(map(str, range(12)))
    halves = built(kind, rows(stars=lambda n: n % 4 / 2), "stars", task="classify", valid=0)
    assert halves.classes == ("0.0", "0.5", "1.0", "1.5")


def test_17_truth_values_of_numpy_are_truth_values(built):
    data = sheer.table({"x": list(range(ROWS)), "kind": [np.bool_(n % 2) for n in range(ROWS)]}, target="kind")
    assert (data.plan.task.name, data.classes) == ("classify", ("False", "True"))


def test_17_telephone_numbers_are_told_to_be_left_out(built):
    with pytest.raises(DataError, match=r"such as '\+4930100'.*ignore=\['phone'\]"):
        sheer.table(rows(phone=lambda n: f"+4930{n + 100}"), target="kind", valid=0)
