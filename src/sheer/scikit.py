"""`SheerClassifier` and `SheerRegressor`: a table's learner with the manners of scikit-learn's estimators."""

from __future__ import annotations

import copy
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any

import narwhals
import numpy as np

from sheer.api import learner
from sheer.data.frames import listed_cells
from sheer.data.listing import is_empty, is_missing
from sheer.data.tabular import table
from sheer.errors import DataError, MissingError, PlanError, nearest, plural
from sheer.learner import Learner
from sheer.plan import recipes
from sheer.plan.checks import keywords_of, real
from sheer.plan.rates import Rate

try:
    from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
    from sklearn.utils import check_array, check_consistent_length, check_random_state, column_or_1d
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data
except ImportError as error:
    raise MissingError(f'SheerClassifier and SheerRegressor need scikit-learn 1.6 ({error}): pip install "sheer[tabular]".') from error

TAKERS = (table, learner, recipes.one_cycle)
DECIDED = (
    *("target", "task", "valid", "weight", "seed", "rate", "quiet", "out"),
    *("separator", "group", "folds", "fold", "cache", "readers", "checkpoints"),
)
"""Keywords of TAKERS that the estimator's arguments decide; and those that have no meaning for rows in memory."""


class TableEstimator(BaseEstimator):  # type: ignore[misc]
    """What both estimators share: arguments, columns, one fit by `sheer.table` and `sheer.learner`, predictions."""

    def __init__(
        self,
        *,
        epochs: int | None = None,
        rate: Rate | None = None,
        model: Any = None,
        validation_fraction: float | None = None,
        random_state: Any = 0,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self.epochs = epochs
        self.rate = rate
        self.model = model
        self.validation_fraction = validation_fraction
        self.random_state = random_state
        self.settings = settings

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = tags.input_tags.string = True
        return tags

    def _checked(self, y: Any, dtype: str | None) -> Any:
        """The target as an array (rows,) or (rows, several), all of it known; ValueError otherwise."""
        if y is None:
            raise DataError(f"{type(self).__name__} requires y to be passed, but the target y is None.")
        array = np.asarray(y)
        empty = sum(map(is_empty, array.ravel().tolist())) if array.dtype.kind in "OUT" else 0
        if empty:
            raise DataError(f"y is empty in {empty} of {plural(len(array), 'row')}. Fill them in, or take the rows out.")
        array = check_array(array, ensure_2d=False, dtype=dtype, input_name="y")
        return array if array.ndim == 2 and array.shape[1] > 1 else column_or_1d(array, warn=True)

    def _trained(self, x: Any, y: Any, targets: np.ndarray, task: str, weights: np.ndarray | None) -> Learner:
        """The learner after its one fit on the rows of `x`; those of weight 0 are as if they were not there."""
        columns, categories = self._columns(x, reset=True)
        check_consistent_length(next(iter(columns.values())), targets)
        for_table, for_learner, for_recipe = self._settings()
        if for_learner.get("weighted_metrics") and weights is None:
            raise PlanError("settings: weighted_metrics=True weighs metrics by the rows' weights: give them, fit(X, y, sample_weight=...).")
        named = {name for given in for_table.values() if isinstance(given, list | tuple) for name in given}
        if isinstance(for_table.setdefault("categorical", []), list | tuple):
            for_table["categorical"] = [*for_table["categorical"], *(name for name in categories if name not in named)]
        names = [_free(name, columns) for name in _names_of(y, 1 if targets.ndim == 1 else targets.shape[1])]
        weight = None if weights is None else _free("weight", {*columns, *names})
        if weights is not None and weight is not None:
            kept = np.flatnonzero(weights).tolist()
            columns = {name: [cells[row] for row in kept] for name, cells in columns.items()} | {weight: weights[kept].tolist()}
            targets = targets[kept]
        is_seed = isinstance(self.random_state, Integral)
        seed = self.random_state if is_seed else int(check_random_state(self.random_state).randint(2**31 - 1))
        try:
            data = table(
                columns | dict(zip(names, targets.reshape(len(targets), -1).T.tolist(), strict=True)),
                target=names[0] if len(names) == 1 else names,
                task=task,
                valid=0 if self.validation_fraction is None else real(self.validation_fraction, "validation_fraction", 0, 1),
                weight=weight,
                seed=seed,
                **for_table,
            )
        except DataError as error:
            raise DataError(_as_settings(str(error))) from error
        learn = learner(data, copy.deepcopy(self.model), seed=seed, quiet=True, **for_learner)
        return learn.run(recipes.one_cycle(self.epochs, rate=self.rate, **for_recipe))

    def _settings(self) -> list[dict[str, Any]]:
        """The settings that `sheer.table`, `sheer.learner` and the recipe each take; PlanError for one that none takes."""
        given = {} if self.settings is None else self.settings
        if not isinstance(given, Mapping):
            raise PlanError(f"settings={given!r}: give keywords of sheer.table or sheer.learner, such as {{'batch_size': 128}}.")
        allowed = {name for taker in TAKERS for name in keywords_of(taker)} - set(DECIDED)
        for name in given:
            if name in DECIDED:
                raise PlanError(f"settings: {name!r} is decided by an argument of the estimator or of its fit, or has no meaning here.")
            if name not in allowed:
                raise PlanError(f"settings: {name!r} is no keyword of sheer.table, sheer.learner or one_cycle. {nearest(name, allowed)}")
        return [{name: value for name, value in given.items() if name in keywords_of(taker)} for taker in TAKERS]

    def _columns(self, x: Any, *, reset: bool) -> tuple[dict[str, list[Any]], list[str]]:
        """The cells of each column by its name (`x0`, `x1`, ... where it has none), and which are categories by their type.

        With `reset` the columns are remembered, else they must be those remembered.
        """
        twice = [name for name, times in Counter(map(str, getattr(x, "columns", ()))).items() if times > 1]
        if twice:
            raise DataError(f"The data frame has the column {twice[0]!r} twice: which one is meant cannot be told. Rename one.")
        frame = narwhals.from_native(x, eager_only=True, pass_through=True)
        if isinstance(frame, narwhals.DataFrame):
            if 0 in frame.shape:
                raise DataError(f"The data frame has {frame.shape[0]} rows and {frame.shape[1]} columns: there is nothing to look at.")
            validate_data(self, x, reset=reset, skip_check_array=True)
            cells = [listed_cells(series) for series in frame.iter_columns()]
            types = [series.dtype for series in frame.iter_columns()]
        else:
            array = validate_data(self, x, reset=reset, dtype=None, ensure_all_finite="allow-nan", ensure_min_samples=2 if reset else 1)
            cells, types = array.T.tolist(), []
        names = [str(name) for name in getattr(self, "feature_names_in_", (f"x{number}" for number in range(len(cells))))]
        categories = [name for name, kind in zip(names, types, strict=False) if kind in (narwhals.Categorical, narwhals.Enum)]
        return dict(zip(names, cells, strict=True)), categories

    def _outputs(self, x: Any) -> np.ndarray:
        """What the learner says of the rows, float64 (rows, outputs)."""
        check_is_fitted(self)
        columns, _ = self._columns(x, reset=False)
        rows, batch = len(next(iter(columns.values()))), self.learner_.plan().phases[-1].batch_size
        # whole batches: what is said of a row then does not depend on how many others there are, to the last bit
        whole = {name: cells + cells[:1] * (-rows % batch) for name, cells in columns.items()}
        return self.learner_.predict(whole).outputs[:rows]


class SheerClassifier(ClassifierMixin, TableEstimator):  # type: ignore[misc]
    """A classifier of scikit-learn for the rows of a table: `sheer.table`, `sheer.learner` and one cycle behind `fit` and `predict`.

    It takes NumPy arrays and frames of pandas and polars; columns are seen as `sheer.table` sees them, those of a category type as
    categories. A target with several columns of 0 and 1 is several labels a row.

    Args:
        epochs: Of the one cycle; where not given 10 to 50, as many as take 300 steps.
        rate: Its peak learning rate, as for `fit_one_cycle`; the profile's where not given.
        model: As for `sheer.learner`.
        validation_fraction: The share of the rows to hold out, for `learner_.validate()` and the settings `stop` and `keep`; without
            one every row trains.
        random_state: The seed of every random draw; None or a generator of NumPy draws one, as is usual in scikit-learn.
        settings: Any other keyword of `sheer.table`, `sheer.learner` or `sheer.recipes.one_cycle`:
            `{"batch_size": 128, "continuous": ["doors"], "class_weights": "balanced"}`.

    Attributes:
        classes_: The classes in the order of the columns of `predict_proba`.
        n_features_in_, feature_names_in_: The columns that `fit` saw, and their names where they have any.
        learner_: The learner, with its plan, history and data: `learner_.plan()`, `learner_.save(folder)`.
    """

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> SheerClassifier:
        """Train anew on the rows of X and their classes; `sample_weight` is what each row's loss counts.

        Raises:
            DataError, PlanError: both ValueErrors; the message says which column or argument, and the remedy.
        """
        targets = self._checked(y, None)
        check_classification_targets(targets)
        weights = _weights(sample_weight, targets)
        known = targets if weights is None else targets[weights != 0]
        classes = np.unique(known) if targets.ndim == 1 else np.arange(targets.shape[1])
        if len(classes) < 2:
            raise DataError(f"y has one class only, {str(classes[0])!r}: to tell things apart takes two.")
        quoted = {one: _cell(one) for one in classes.tolist() if _cell(one) != str(one)}
        twice = sorted(set(quoted.values()) & set(map(str, classes.tolist())))
        if twice:
            raise DataError(f"y has the class {twice[0]} both with and without its quotes, which a table could not tell apart. Rename one.")
        if quoted:
            targets = np.array([quoted.get(one, one) for one in targets.tolist()], dtype=object)
        self.learner_ = self._trained(X, y, targets, "classify" if targets.ndim == 1 else "tag", weights)
        self.classes_ = classes
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities, float64 (rows, classes), in the order of `classes_`; each by itself for several labels."""
        outputs = self._outputs(X)
        if self.learner_.plan().data.task.name == "tag":
            return outputs
        return outputs[:, [self.learner_.classes.index(name) for name in _cells(self.classes_.tolist())]]

    def predict(self, X: Any) -> np.ndarray:
        """The most likely class of each row, or which labels it has, int64 (rows, labels) of 0 and 1."""
        outputs = self.predict_proba(X)
        if self.learner_.plan().data.task.name == "tag":
            return (outputs >= 0.5).astype(np.int64)
        return self.classes_[outputs.argmax(axis=1)]


class SheerRegressor(RegressorMixin, TableEstimator):  # type: ignore[misc]
    """A regressor of scikit-learn for the rows of a table; arguments and attributes as of `SheerClassifier`, but for `classes_`.

    Targets are scaled in training, and predicted in their own unit. Several columns of targets are predicted together.
    """

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> SheerRegressor:
        """Train anew on the rows of X and their numbers; `sample_weight` is what each row's loss counts.

        Raises:
            DataError, PlanError: both ValueErrors; the message says which column or argument, and the remedy.
        """
        targets = self._checked(y, "numeric")
        weights = _weights(sample_weight, targets)
        self.learner_ = self._trained(X, y, targets, "regress", weights)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """The number of each row, float64 (rows,), or (rows, targets) of several."""
        outputs = self._outputs(X)
        return outputs[:, 0] if outputs.shape[1] == 1 else outputs


def _as_settings(message: str) -> str:
    """What `sheer.table` advises, as an estimator takes it.

    >>> _as_settings("Leave it out: ignore=['a'].")
    "Leave it out: settings={'ignore': ['a']}."
    """
    without = message.replace("; give separator= for one column that names them", "")
    return re.sub(r"(?<!\w)(ignore|categorical|continuous)=(\[[^]]*\])", r"settings={'\1': \2}", without)


def _cell(name: Any) -> str:
    """A class as the learner has it: as text, in quotes where a table would take that text for a missing cell."""
    return repr(str(name)) if is_missing(str(name)) else str(name)


def _cells(classes: list[Any]) -> list[str]:
    """Classes as the learner has them: whole numbers all of them without a point."""
    whole = all(isinstance(one, float) and one.is_integer() for one in classes)
    return [_cell(int(one) if whole else one) for one in classes]


def _weights(given: Any, targets: np.ndarray) -> np.ndarray | None:
    """What each row counts, float (rows,), or None; ValueError for what is no weight."""
    weights: np.ndarray | None = None if given is None else _check_sample_weight(given, targets)
    if weights is not None and weights.min() < 0:
        raise DataError(f"sample_weight holds {weights.min():g}: weights are numbers of at least 0.")
    return weights


def _free(name: str, taken: Any) -> str:
    """The name, with underscores behind it where a column has it already."""
    return _free(f"{name}_", taken) if name in taken else name


def _names_of(y: Any, count: int) -> Sequence[str]:
    """What a target's columns are called: a frame's or series' own names, else `target`."""
    names = getattr(y, "columns", [getattr(y, "name", None)])
    if len(set(names)) == len(names) == count and all(isinstance(name, str) and name for name in names):
        return list(names)
    return ["target"] if count == 1 else [f"target{number}" for number in range(count)]
