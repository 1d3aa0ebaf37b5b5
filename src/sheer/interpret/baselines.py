"""What gradient boosting and a linear model make of the same rows and split: printed beside every result on a table or on texts."""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

from sheer.data.sources import Data
from sheer.interpret.predictions import Predictions
from sheer.plan.facts import items_of
from sheer.plan.table import columns

BOOSTED_CODES = 255


@dataclass(frozen=True, kw_only=True, eq=False)
class Baseline:
    """A model that is not sheer's, fitted on the rows to train on: its predictions for the held-out ones, or why there are none."""

    name: str
    seconds: float
    predictions: Predictions | None
    skipped: str = ""


@dataclass(frozen=True, kw_only=True, eq=False)
class Baselines:
    """A learner's own predictions and those of the baselines, for the same held-out rows; `print` it."""

    own: Baseline
    others: tuple[Baseline, ...]

    def __str__(self) -> str:
        names = list(self.own.predictions.metric_functions) if self.own.predictions else []
        rows, skipped = [], []
        for one in (self.own, *self.others):
            if one.predictions is None:
                skipped.append(f"  {one.name} was not fitted: {one.skipped}")
                continue
            found = one.predictions.intervals()
            rows.append([one.name, *("{:.4f} ({:.4f} to {:.4f})".format(*found[name]) for name in names), f"{one.seconds:.1f}"])
        head = "Beside it, on the same rows to train on and held out (95 % intervals):"
        return "\n".join([head, columns(("model", *names, "seconds"), rows, right=(len(names) + 1,)), *skipped])


def baselines(data: Data, own: Predictions, name: str, seconds: float) -> Baselines:
    """Fit the baselines of scikit-learn, with its defaults, on the rows to train on; `own` are the learner's for the held-out rows.

    Both are judged by the same metrics, with the same weights.
    """
    first = Baseline(name=name, seconds=seconds, predictions=own)
    try:
        makers = _makers(data)
    except ImportError as error:
        why = f"scikit-learn cannot be imported ({error}); pip install 'sheer[tabular]'"
        names = ("gradient boosting", "linear")
        return Baselines(own=first, others=tuple(Baseline(name=one, seconds=0.0, predictions=None, skipped=why) for one in names))
    return Baselines(own=first, others=tuple(_fitted(data, label, model, own) for label, model in makers.items()))


def _makers(data: Data) -> dict[str, Any]:
    """Each baseline's model of scikit-learn, unfitted, by what it is called."""
    # imported here: the base package works without scikit-learn, and importing sheer must not load it
    from sklearn.compose import ColumnTransformer
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.multioutput import MultiOutputClassifier, MultiOutputRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    parts = data.plan.columns
    if items_of(parts) == "text":
        return _of_words(data)
    codes = [place for place, part in enumerate(parts) if part.name != "continuous"]
    small = [place for place in codes if len(_categories(parts[place].options().get("categories"))) < BOOSTED_CODES]
    numbers = [place for place in range(len(parts)) if place not in codes]
    seen = ColumnTransformer([("codes", OneHotEncoder(handle_unknown="ignore"), codes), ("numbers", StandardScaler(), numbers)])
    boosted: Any
    linear: Any
    if data.plan.task.name == "regress":
        boosted, linear = HistGradientBoostingRegressor(categorical_features=small, random_state=0), Ridge()
        boosted = MultiOutputRegressor(boosted) if len(data.classes) > 1 else boosted
        return {"gradient boosting": boosted, "ridge regression": make_pipeline(seen, linear)}
    boosted, linear = HistGradientBoostingClassifier(categorical_features=small, random_state=0), LogisticRegression(max_iter=1000)
    if data.plan.task.name == "tag":
        boosted, linear = MultiOutputClassifier(boosted), MultiOutputClassifier(linear)
    return {"gradient boosting": boosted, "logistic regression": make_pipeline(seen, linear)}


def _of_words(data: Data) -> dict[str, Any]:
    """A linear model over how often each token occurs in a text, weighed by how rare it is (tf-idf)."""
    from sklearn.feature_extraction.text import TfidfTransformer
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.multioutput import MultiOutputClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer

    assert data.arrays is not None
    counts = FunctionTransformer(bag_of_tokens, kw_args={"size": int(data.arrays.max()) + 1, "pad": data.plan.columns[0].options()["pad"]})
    if data.plan.task.name == "regress":
        return {"tf-idf, ridge regression": make_pipeline(counts, TfidfTransformer(), Ridge())}
    linear = LogisticRegression(max_iter=1000)
    if data.plan.task.name == "tag":
        linear = MultiOutputClassifier(linear)
    return {"tf-idf, logistic regression": make_pipeline(counts, TfidfTransformer(), linear)}


def bag_of_tokens(ids: np.ndarray, size: int, pad: int) -> Any:
    """How often each of `size` tokens occurs in each row of ids, as a sparse matrix (rows, size); padding is not counted."""
    from scipy.sparse import csr_matrix

    rows, places = np.nonzero((ids != pad) & (ids < size))
    return csr_matrix((np.ones(len(rows)), (rows, ids[rows, places])), shape=(len(ids), size))


def _categories(given: object) -> tuple[object, ...]:
    return given if isinstance(given, tuple) else ()


def _fitted(data: Data, name: str, model: Any, own: Predictions) -> Baseline:
    assert data.arrays is not None
    inputs, task, started = data.arrays.numpy(), data.plan.task.name, time.perf_counter()
    inputs = inputs.astype(np.float64) if inputs.dtype == np.float32 else inputs  # float32 in, float32 sums
    targets = data.targets.astype(np.float64) if task == "regress" else data.targets
    targets = targets[:, 0] if task == "regress" and len(data.classes) == 1 else targets
    key = f"{model.steps[-1][0]}__sample_weight" if hasattr(model, "steps") else "sample_weight"
    weights = {} if data.weights is None else {key: data.weights[data.train]}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a fit that has not converged: its score says so
            model.fit(inputs[data.train], targets[data.train], **weights)
            found = model.predict(inputs[data.valid]) if task == "regress" else model.predict_proba(inputs[data.valid])
    except (ValueError, MemoryError) as error:
        return Baseline(name=name, seconds=0.0, predictions=None, skipped=str(error).splitlines()[0])
    outputs = np.stack([column[:, 1] for column in found], axis=1) if task == "tag" else np.asarray(found, dtype=np.float64)
    predictions = Predictions(
        items=tuple(f"item {item}" for item in data.valid.tolist()),
        classes=data.classes,
        task=task,
        metric_functions=own.metric_functions,
        outputs=outputs.reshape(len(data.valid), -1),
        target=data.targets[data.valid],
        prior=own.prior,
        weights=own.weights,
    )
    return Baseline(name=name, seconds=time.perf_counter() - started, predictions=predictions)
