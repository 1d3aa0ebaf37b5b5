"""Faults 15 and 17: labels and cells that cannot be learned from. All are said when the data is built, never in an epoch."""

import numpy as np
import pandas
import polars
import pytest

import sheer
from conftest import make_photos
from sheer.errors import DataError


@pytest.fixture
def folder(tmp_path):
    return make_photos(tmp_path / "photos", {"a": 6, "b": 6})


NAMES = [f"{label}/00{number}.jpg" for label in "ab" for number in range(6)]
FRAMES = {"pandas": pandas.DataFrame, "polars": lambda columns: polars.DataFrame(columns, strict=False)}


def columns(**changed):
    found = {
        "file": list(NAMES),
        "kind": [name[0] for name in NAMES],
        "held": [n % 3 == 0 for n in range(12)],
        "size": [n + 0.5 for n in range(12)],
    }
    return found | {name: [value(n) for n in range(12)] for name, value in changed.items()}


def test_15_a_label_that_training_lacks_is_named_with_its_count(tmp_path):
    folder = make_photos(tmp_path / "photos", {"a": 3, "b": 3}, part="train")
    make_photos(folder, {"a": 2, "c": 2}, part="valid")
    with pytest.raises(DataError, match=r"classes that .* does not: c \(2 files\)"):
        sheer.images(folder)


def test_15_a_label_among_the_held_out_only(folder):
    frame = pandas.DataFrame(columns(kind=lambda n: "z" if n % 3 == 0 else "ab"[n % 2]))
    with pytest.raises(DataError, match=r"z \(4 items\) occurs among the held-out items only"):
        sheer.images(frame, root=folder, label="kind", valid="held")


EMPTY = {"none": None, "nan": float("nan"), "empty": "", "blank": "  "}


@pytest.mark.parametrize(("library", "kind"), [(one, kind) for one in FRAMES for kind in EMPTY if (one, kind) != ("polars", "nan")])
def test_15_an_empty_label_is_named_by_its_row(folder, library, kind):
    frame = FRAMES[library](columns(kind=lambda n: EMPTY[kind] if n == 4 else "ab"[n % 2]))
    with pytest.raises(DataError, match=r"1 items have an empty target \(rows 5\)"):
        sheer.images(frame, root=folder, label="kind")


@pytest.mark.parametrize("missing", [pandas.NA, pandas.NaT])
def test_15_what_pandas_calls_missing_is_empty(folder, missing):
    frame = pandas.DataFrame(columns(kind=lambda n: missing if n == 4 else "ab"[n % 2]))
    with pytest.raises(DataError, match=r"1 items have an empty target \(rows 5\)"):
        sheer.images(frame, root=folder, label="kind")


@pytest.mark.parametrize("value", [np.inf, -np.inf])
def test_17_infinity_among_targets_or_weights_names_the_column(folder, value):
    frame = pandas.DataFrame(columns(size=lambda n: value if n == 2 else n + 0.5))
    with pytest.raises(DataError, match=r"'size' is infinite, no number or too large for float32 in item 3 \(1 such cells\)"):
        sheer.images(frame, root=folder, label="size")
    with pytest.raises(DataError, match="weight='size': weights are finite"):
        sheer.images(frame, root=folder, label="kind", weight="size")


def test_17_a_target_that_is_the_same_for_all(folder):
    frame = pandas.DataFrame(columns(size=lambda n: 1.5))
    with pytest.raises(DataError, match="'size' is the same for all items"):
        sheer.images(frame, root=folder, label="size")


def test_17_text_and_numbers_in_one_column_are_classes(folder):
    frame = pandas.DataFrame(columns(kind=lambda n: 1 if n % 2 else "one"))
    assert sheer.images(frame, root=folder, label="kind").classes == ("1", "one")
    flags = pandas.DataFrame(columns(kind=lambda n: 1 if n % 2 else True))  # equal for Python
    assert sheer.images(flags, root=folder, label="kind").classes == ("1", "True")
    with pytest.raises(DataError, match="task='regress' needs numbers"):
        sheer.images(frame, root=folder, label="kind", task="regress")


def test_17_a_class_for_each_item(folder):
    frame = pandas.DataFrame(columns(kind=lambda n: f"class {n}"))
    with pytest.raises(DataError, match="one item only of class 0, class 1"):
        sheer.images(frame, root=folder, label="kind")


CSVS = {
    "a column twice": ("file,kind,kind\na/000.jpg,a,b\n", "has the column 'kind' twice"),
    "too many cells": ("file,kind\na/000.jpg,a,b\n", "row 1 has 3 cells under 2 columns"),
    "too few cells": ("file,kind\na/000.jpg\n", "row 1 has 1 cells under 2 columns"),
    "a zero byte": ("file,kind\na/0\x0000.jpg,a\n", "zero byte|cannot be read as CSV"),
    "no line at all": ("", "has no columns"),
    "a quote that never ends": ('file,kind\n"a/000.jpg,a\n', "Is a quote not closed"),
}


@pytest.mark.parametrize("case", sorted(CSVS))
def test_17_a_table_whose_cells_have_no_certain_column(folder, tmp_path, case):
    text, message = CSVS[case]
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        sheer.images(tmp_path / "t.csv", root=folder)
