"""The estimators for scikit-learn: its own checks, its tools around them, frames, weights, odd input, and what `import sheer` loads."""

import datetime
import pickle
import re
import subprocess
import sys
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.datasets import make_classification, make_regression
from sklearn.exceptions import DataConversionWarning, NotFittedError
from sklearn.impute import SimpleImputer
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import sheer
from sheer import SheerClassifier, SheerRegressor
from sheer.errors import DataError, MissingError, ModelError, PlanError, SheerError

EXCLUDED = {
    "check_sample_weight_equivalence_on_dense_data": "training goes by shuffled batches: a row of weight 2 is one row of a batch and of "
    "its norm's statistics, not two rows in any batches"
}
DOCS = Path(__file__).parent.parent / "docs" / "scikit-learn.md"


@parametrize_with_checks([SheerClassifier(), SheerRegressor()], expected_failed_checks=lambda estimator: EXCLUDED)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
def test_scikit_learns_own_checks(estimator, check):
    check(estimator)


def classes(rows=80, seed=0):
    return make_classification(rows, 5, random_state=seed)


def frame(rows=80, seed=0):
    draw = np.random.default_rng(seed)
    table = pd.DataFrame(
        {
            "colour": draw.choice(["red", "green"], rows),
            "size": pd.Categorical(draw.choice([10, 20, 30], rows)),
            "width": draw.normal(5, 2, rows),
            "new": draw.random(rows) < 0.5,
        }
    )
    table.loc[::7, "width"] = np.nan
    return table, np.where((table["colour"] == "red") ^ (table["size"].astype(int) > 15), "good", "bad")


def test_it_learns_and_says_so_through_the_learner():
    X, y = make_classification(600, 8, n_informative=5, class_sep=2.0, random_state=0)
    est = SheerClassifier(epochs=15).fit(X[:400], y[:400])
    assert est.score(X[400:], y[400:]) > 0.9
    plan = est.learner_.plan()
    assert (plan.data.train_items, plan.data.valid_items, plan.seed, plan.phases[0].epochs) == (400, 0, 0, 15)
    assert [part.options()["column"] for part in plan.data.columns] == [f"x{n}" for n in range(8)]
    assert "0 items are held out" in str(sheer.explain(est.learner_))
    with pytest.raises(DataError, match=r"No item is held out \(valid=0\)"):
        est.learner_.validate()
    assert all(np.isnan(row.valid_loss) and all(map(np.isnan, row.metrics.values())) for row in est.learner_.history)


def test_no_second_training_path_the_bits_are_the_learners():
    table, y = frame()
    est = SheerClassifier(epochs=2, random_state=3, rate=1e-3, settings={"batch_size": 16, "clip": 1.0}).fit(table, y)
    data = sheer.table(table.assign(target=y), target="target", valid=0, seed=3, categorical=["size"])
    learn = sheer.learner(data, seed=3, batch_size=16, clip=1.0, quiet=True).fit_one_cycle(2, 1e-3)
    assert est.learner_.history[-1].weights_sha256 == learn.history[-1].weights_sha256
    assert np.allclose(est.predict_proba(table), learn.predict(table).outputs, rtol=0, atol=1e-6)


def test_columns_of_frames_by_their_types_and_names():
    table, y = frame()
    est = SheerClassifier(epochs=1).fit(table, y)
    kinds = {part.options()["column"]: part.name for part in est.learner_.plan().data.columns if part.name != "missing"}
    assert kinds == {"colour": "categorical", "size": "categorical", "new": "categorical", "width": "continuous"}
    assert est.feature_names_in_.tolist() == list(table) and est.n_features_in_ == 4
    assert est.classes_.tolist() == ["bad", "good"] and set(est.predict(table)) <= {"bad", "good"}
    wide = table.assign(size=pd.Categorical(np.arange(80.0) / 7))
    assert "categorical" in {p.name for p in SheerClassifier(epochs=1).fit(wide, y).learner_.plan().data.columns if "size" in str(p)}
    overruled = SheerClassifier(epochs=1, settings={"continuous": ["size"], "ignore": ["new"]}).fit(table, y).learner_.plan().data.columns
    assert [(part.name, part.options()["column"]) for part in overruled if part.name != "missing"] == [
        ("categorical", "colour"),
        ("continuous", "size"),
        ("continuous", "width"),
    ]
    with pytest.raises(ValueError, match="feature names should match"):
        est.predict(table[["size", "colour", "width", "new"]])


def test_a_category_of_whatever_values_is_their_text():
    """Intervals of `pd.cut`, dates, and numbers among texts."""
    draw = np.random.default_rng(0)
    table = pd.DataFrame({"age": draw.uniform(0, 60, 80), "width": draw.normal(size=80)})
    table["cut"] = pd.cut(table["age"], [0, 20, 40, 60])
    table["day"] = pd.Categorical(pd.to_datetime(draw.choice(["2024-01-01", "2024-01-02"], 80)))
    table["mix"] = pd.Categorical(draw.choice(np.array([1, "a"], dtype=object), 80))
    table.loc[3, "cut"] = None
    y = np.where(table["age"] > 40, "old", "young")
    est = SheerClassifier(epochs=2).fit(table, y)
    parts = {part.options()["column"]: part.options().get("categories") for part in est.learner_.plan().data.columns}
    assert parts["cut"] == ("(0, 20]", "(20, 40]", "(40, 60]") and parts["mix"] == ("1", "a") and len(parts["day"]) == 2
    assert est.predict(table[:7]).shape == (7,) and est.learner_.predict(table[:7]).notes == ()
    plain = sheer.table(table.assign(y=y), target="y").plan
    assert {part.options()["column"]: part.options().get("categories") for part in plain.columns} == parts


def test_advice_is_for_the_estimator():
    X = {"d": [datetime.date(2024, 1, 1 + day) for day in range(20)], "n": list(range(20))}
    with pytest.raises(DataError, match=r"or leave it out: settings=\{'ignore': \['d'\]\}\.$"):
        SheerClassifier().fit(pd.DataFrame(X), ["a", "b"] * 10)
    left = SheerClassifier(epochs=1, settings={"ignore": ["d"]}).fit(pd.DataFrame(X), ["a", "b"] * 10)
    assert [part.options()["column"] for part in left.learner_.plan().data.columns] == ["n"]


def test_polars_and_pandas_and_a_dict_of_columns_are_the_same():
    table, y = frame()
    table["size"] = table["size"].astype(str) + " cm"
    both = [SheerClassifier(epochs=1).fit(X, pd.Series(y, name="kind")) for X in (table, pl.from_pandas(table))]
    assert len({est.learner_.history[-1].weights_sha256 for est in both}) == 1
    assert np.array_equal(both[0].predict_proba(table), both[1].predict_proba(pl.from_pandas(table)))
    learn = sheer.learner(sheer.table({**table.to_dict("list"), "kind": list(y)}, target="kind", valid=0), quiet=True).fit_one_cycle(1)
    assert learn.history[-1].weights_sha256 == both[0].learner_.history[-1].weights_sha256


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"a": [1, 2], "b": [1]}, "Column 'b' has 1 cells, 'a' 2"),
        ({"a": "12", "b": [1, 2]}, "Column 'a' is a str"),
        ({"a": np.ones((2, 2)), "b": [1, 2]}, "Column 'a' is a ndarray"),
        ({}, "has no rows|no such column"),
    ],
)
def test_a_dict_that_is_no_table(columns, message):
    with pytest.raises(DataError, match=message):
        sheer.table(columns, target="b")


def test_names_of_targets_and_of_weights_make_room_for_columns():
    X = pd.DataFrame(np.random.default_rng(0).normal(size=(40, 2)), columns=["target", "weight"])
    est = SheerRegressor(epochs=1).fit(X, X["target"], sample_weight=np.ones(40))
    data = est.learner_.plan().data
    assert data.classes == ("target_",) and data.weight == "weight_" and len(data.columns) == 2
    assert SheerRegressor(epochs=1).fit(X, pd.Series(X["weight"], name="price")).learner_.classes == ("price",)


def test_pipelines_grids_and_cross_validation():
    X, y = make_classification(150, 5, n_informative=4, n_redundant=0, class_sep=2.0, random_state=0)
    X[::9, 0] = np.nan
    piped = make_pipeline(make_column_transformer((StandardScaler(), [0, 1]), remainder="passthrough"), SheerClassifier(epochs=40))
    scores = cross_val_score(piped, X, y, cv=3)
    assert len(scores) == 3 and scores.mean() > 0.7
    assert cross_val_predict(SheerClassifier(epochs=1), X, y, cv=2, method="predict_proba").shape == (150, 2)
    grid = {"sheerclassifier__epochs": [1, 2], "sheerclassifier__model": ["tabular", ("tabular", {"hidden": (8,)})]}
    search = GridSearchCV(make_pipeline(SimpleImputer(), SheerClassifier()), grid, cv=2, error_score="raise").fit(X, y)
    assert search.best_params_["sheerclassifier__epochs"] in (1, 2) and search.predict(X).shape == (150,)
    again = clone(search.best_estimator_)
    assert again.get_params()["sheerclassifier__epochs"] == search.best_params_["sheerclassifier__epochs"]
    assert not hasattr(again[-1], "learner_")


def test_the_seed_is_random_state():
    X, y = classes()
    one, two, other = (SheerClassifier(epochs=1, random_state=seed).fit(X, y).predict_proba(X) for seed in (1, 1, 2))
    assert np.array_equal(one, two) and not np.array_equal(one, other)
    np.random.seed(5)
    drawn = [SheerClassifier(epochs=1, random_state=state).fit(X, y).learner_.plan().seed for state in (None, np.random.RandomState(5), 7)]
    assert drawn[0] == drawn[1] and drawn[2] == 7


def test_fitting_and_predicting_leave_the_generators_alone():
    X, y = classes()
    state, legacy = torch.get_rng_state(), np.random.get_state()[1].copy()
    SheerClassifier(epochs=1).fit(X, y).predict(X)
    assert torch.equal(state, torch.get_rng_state()) and np.array_equal(legacy, np.random.get_state()[1])


def test_a_row_is_said_the_same_whatever_stands_beside_it():
    X, y = make_regression(150, 12, noise=1.0, random_state=0)
    est = SheerRegressor(epochs=3).fit(X, y)
    whole = est.predict(X)
    assert np.array_equal(whole[:70], np.concatenate([est.predict(X[n : n + 1]) for n in range(70)]))
    assert np.array_equal(whole[::-1], est.predict(X[::-1]))


def test_weights_are_the_weights_of_items():
    X, y = classes()
    weights = np.random.default_rng(0).uniform(0, 3, len(y))
    est = SheerClassifier(epochs=2).fit(X, y, sample_weight=weights)
    names = [f"x{n}" for n in range(5)]
    data = sheer.table(pd.DataFrame(X, columns=names).assign(target=y, weight=weights), target="target", valid=0, weight="weight")
    assert est.learner_.history[-1].weights_sha256 == sheer.learner(data, quiet=True).fit_one_cycle(2).history[-1].weights_sha256
    none = SheerClassifier(epochs=2).fit(X, y, sample_weight=np.ones(len(y))).predict_proba(X)
    assert np.allclose(none, SheerClassifier(epochs=2).fit(X, y).predict_proba(X), atol=1e-6)
    flipped = np.where(np.arange(len(y)) % 2, 1 - y, y)
    only = SheerClassifier(epochs=30).fit(X, flipped, sample_weight=np.arange(len(y)) % 2 == 0)
    assert only.score(X, y) > 0.8
    assert only.learner_.plan().data.train_items == 40
    as_removed = SheerClassifier(epochs=2).fit(X[:60], y[:60], sample_weight=np.ones(60)).predict_proba(X)
    assert np.array_equal(SheerClassifier(epochs=2).fit(X, y, sample_weight=np.arange(80) < 60).predict_proba(X), as_removed)
    with pytest.raises(DataError, match="one class only, '1'"):
        est.fit(X, y, sample_weight=y)
    with pytest.raises(DataError, match=r"sample_weight holds .*: weights are numbers of at least 0"):
        est.fit(X, y, sample_weight=-weights)


def test_several_targets_and_several_labels():
    X, y = make_regression(100, 5, n_targets=2, random_state=0)
    est = SheerRegressor(epochs=2).fit(X, pd.DataFrame(y, columns=["u", "v"]))
    assert est.predict(X).shape == (100, 2) and est.learner_.classes == ("u", "v")
    labels = (y > 0).astype(int)
    tags = SheerClassifier(epochs=40).fit(X, labels)
    assert tags.classes_.tolist() == [0, 1] and tags.predict_proba(X).shape == (100, 2)
    assert (tags.predict(X) == labels).mean() > 0.8 and set(tags.predict(X).ravel()) == {0, 1}


@pytest.mark.parametrize("labels", [np.array([-1, 10]), np.array([True, False]), np.array(["b", "a"]), np.array([0.5, 2.0])[:1] * [2, 4]])
def test_classes_of_any_type_keep_it(labels):
    X, y = classes()
    est = SheerClassifier(epochs=15).fit(X, labels[y])
    assert est.classes_.dtype == labels.dtype and np.array_equal(est.classes_, np.unique(labels))
    assert est.predict(X).dtype == labels.dtype and est.score(X, labels[y]) > 0.75
    chosen = est.predict_proba(X).argmax(axis=1)
    assert np.array_equal(est.classes_[chosen], est.predict(X))


def test_classes_of_whole_numbers_are_in_their_order():
    X, y = make_classification(150, 6, n_informative=5, n_redundant=0, n_classes=3, class_sep=2.0, random_state=0)
    est = SheerClassifier(epochs=20).fit(X, np.array([2.0, 10.0, 1.0])[y])
    assert est.classes_.tolist() == [1.0, 2.0, 10.0] and est.learner_.classes == ("1", "2", "10")
    assert est.score(X, np.array([2.0, 10.0, 1.0])[y]) > 0.8


def test_rows_held_out_when_asked():
    X, y = classes()
    est = SheerClassifier(epochs=3, validation_fraction=0.25, settings={"keep": "best", "stop": 2}).fit(X, y)
    assert est.learner_.plan().data.valid_items == 20 and len(est.learner_.validate()) == 20
    with pytest.raises(PlanError, match=r"'valid_loss' is no metric of an epoch\. No item is held out \(valid=0\), so an"):
        SheerClassifier(epochs=3, settings={"keep": "best"}).fit(X, y)


@pytest.mark.parametrize("dump", ["pickle", "joblib"])
def test_a_fitted_estimator_is_pickled(dump, tmp_path):
    table, y = frame()
    est = SheerClassifier(epochs=1).fit(table, y)
    if dump == "joblib":
        joblib.dump(est, tmp_path / "est.joblib")
        again = joblib.load(tmp_path / "est.joblib")
    else:
        again = pickle.loads(pickle.dumps(est))
    assert np.array_equal(again.predict_proba(table), est.predict_proba(table))
    assert again.learner_.plan() == est.learner_.plan()


def test_nothing_is_printed_or_written(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    table, y = frame()
    SheerClassifier(epochs=1).fit(table, y).predict(table)
    SheerRegressor(epochs=1).fit(table, np.arange(80.0)).predict(table)
    assert capsys.readouterr() == ("", "") and list(tmp_path.iterdir()) == []


def test_a_script_and_a_bundle_of_a_fit_in_which_every_row_trained(tmp_path):
    table, y = frame()
    est = SheerClassifier(epochs=2, settings={"batch_size": 16}).fit(table, y, sample_weight=1 + np.arange(80.0))
    run = est.learner_.save(tmp_path / "run")
    script = sheer.eject(run, tmp_path / "train.py")
    done = subprocess.run(
        [sys.executable, script, tmp_path / "train_items.csv", "--out", tmp_path / "again"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    rows = (tmp_path / "again" / "history.csv").read_text().splitlines()
    assert [row.rpartition(",")[2] for row in rows[1:]] == [row.weights_sha256 for row in est.learner_.history]
    assert ",nan," in rows[1] and "zeros(0, len(CLASSES))" in script.read_text()
    loaded = sheer.load(run, data=est.learner_.data)
    assert np.array_equal(loaded.predict(table).outputs, est.learner_.predict(table).outputs)
    bundle = sheer.load_bundle(est.learner_.export(tmp_path / "est.sheer"))
    assert np.allclose(bundle.predict(table).outputs, est.predict_proba(table), atol=1e-6)


ODD = {
    "mixed column": (lambda X: np.where(np.arange(X.size).reshape(X.shape) % 2, X.astype(object), "a"), "mixes numbers", DataError),
    "infinite": (lambda X: np.where(X > 1, np.inf, X), "infinity", ValueError),
    "too large": (lambda X: X * 1e300, "is too large for float32", DataError),
    "all the same": (np.ones_like, "No column is left to learn from", DataError),
    "dates": (lambda X: X.astype("datetime64[s]"), "values of type datetime", DataError),
    "cells that are dicts": (lambda X: np.full(X.shape, {"a": 1}), "values of type dict", DataError),
    "the same name twice": (lambda X: pd.DataFrame(X, columns=list("aabcd")), "column 'a' twice", DataError),
    "no columns": (lambda X: pd.DataFrame(X)[[]], "0 columns", DataError),
    "one axis": (lambda X: X[:, 0], "Expected 2D array", ValueError),
    "nothing": (lambda X: None, "Expected 2D array", ValueError),
}


@pytest.mark.parametrize("case", ODD)
def test_odd_columns_get_a_conventional_error(case):
    change, message, kind = ODD[case]
    X, y = classes()
    with pytest.raises(kind, match=message):
        SheerClassifier(epochs=1).fit(change(X), y)


def test_sparse_columns_are_refused():
    from scipy.sparse import csr_array

    X, y = classes()
    with pytest.raises(TypeError, match="Sparse data was passed"):
        SheerClassifier(epochs=1).fit(csr_array(X), y)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (lambda y: np.zeros_like(y), "one class only, '0'"),
        (lambda y: np.where(y, "yes", None), "y is empty in"),
        (lambda y: np.where(y, "yes", " "), "y is empty in"),
        (lambda y: np.where(y, np.nan, 1.0), "contains NaN"),
        (lambda y: None, "requires y to be passed"),
        (lambda y: y + 0.5 * np.arange(len(y)) / 7, "Unknown label type"),
        (lambda y: y[:-1], "inconsistent numbers of samples"),
        (lambda y: np.c_[y, np.ones_like(y)], "Column 'target1' of columns has one value only"),
    ],
)
def test_odd_targets_get_a_conventional_error(target, message):
    X, y = classes()
    with pytest.raises(ValueError, match=message):
        SheerClassifier(epochs=1).fit(X, target(y))


@pytest.mark.parametrize(
    ("target", "message"), [(np.ones(80), "one value only"), (np.full(80, 1e300), "one value only"), (np.arange(80) * 1e300, "below 1e38")]
)
def test_odd_numbers_get_a_conventional_error(target, message):
    with pytest.raises(DataError, match=message):
        SheerRegressor(epochs=1).fit(classes()[0], target)


@pytest.mark.parametrize("name", ["NA", "nan", "null"])
def test_a_class_called_like_a_missing_cell_is_a_class(name):
    X, y = classes()
    est, plain = (SheerClassifier(epochs=1).fit(X, np.where(y, one, "yes")) for one in (name, "'~'"))
    assert est.classes_.tolist() == [name, "yes"] and set(est.learner_.classes) == {f"'{name}'", "yes"}
    assert np.array_equal(est.predict_proba(X), plain.predict_proba(X)) and set(est.predict(X)) <= {name, "yes"}
    with pytest.raises(DataError, match="both with and without its quotes"):
        SheerClassifier(epochs=1).fit(X, np.where(y, name, f"'{name}'"))


def test_a_column_of_targets_warns_as_usual():
    X, y = classes()
    with pytest.warns(DataConversionWarning, match="column-vector y"):
        assert SheerRegressor(epochs=1).fit(X, y[:, None].astype(float)).predict(X).shape == (80,)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"epochs": 0}, PlanError, "epochs=0"),
        ({"rate": -1.0}, PlanError, "positive, finite number"),
        ({"model": 3}, ModelError, "model=3"),
        ({"model": "tabel"}, PlanError, "model='tabel' is not known"),
        ({"validation_fraction": "x0"}, PlanError, "validation_fraction='x0'"),
        ({"settings": 3}, PlanError, "settings=3"),
        ({"settings": {"bacth_size": 8}}, PlanError, "Did you mean 'batch_size'"),
        ({"settings": {"seed": 8}}, PlanError, "'seed' is decided by an argument"),
        ({"settings": {"target": "sex"}}, PlanError, "'target' is decided by an argument"),
        ({"settings": {"out": "run"}}, PlanError, "'out' is decided by an argument"),
        ({"settings": {"categorical": "x0"}}, DataError, "names of columns in a list"),
        ({"settings": {"split": "stratified"}}, DataError, "no split that holds nothing out"),
    ],
)
def test_arguments_are_checked_when_fitting(arguments, error, message):
    X, y = classes()
    with pytest.raises(error, match=message) as caught:
        SheerClassifier(**{"epochs": 1, **arguments}).fit(X, y)
    assert isinstance(caught.value, ValueError) and isinstance(caught.value, SheerError)


def test_a_module_that_was_given_is_not_trained_itself():
    X, y = classes()
    module = torch.nn.Linear(5, 2)
    before = module.weight.clone()
    est = SheerClassifier(epochs=1, model=module).fit(X, y)
    assert torch.equal(module.weight, before) and est.predict(X).shape == (80,)


def test_predicting_before_a_fit():
    with pytest.raises(NotFittedError):
        SheerClassifier().predict(classes()[0])


def test_importing_sheer_does_not_load_scikit_learn_and_without_it_names_the_extra():
    code = "import sys; sys.modules['sklearn'] = None\nimport sheer; from sheer import *\n"
    code += "try: sheer.SheerClassifier\nexcept ImportError as e: print(type(e).__name__, e)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(MissingError.__name__) and 'pip install "sheer[tabular]"' in done.stdout
    with pytest.raises(AttributeError, match=r"no attribute 'SheerClasifier'.*'SheerClassifier'"):
        sheer.SheerClasifier  # noqa: B018


def test_the_page_runs_as_it_stands(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.S)
    printed = re.findall(r"```text\n(.*?)```", DOCS.read_text(), re.S)
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, str(DOCS), "exec"), names)
    assert len(blocks) >= 2 and capsys.readouterr().out.strip() == "\n".join(text.strip() for text in printed)
    assert all(name in DOCS.read_text() for name in EXCLUDED)
