"""What it learned: one table of predictions, in item order; every metric and table reads only this."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from sheer.errors import DataError, ModelError
from sheer.plan.markup import ROWS, html_table
from sheer.plan.plan import DataPlan
from sheer.plan.table import columns
from sheer.streams import stream_key, uniform_draws
from sheer.task.metrics import (
    Metric,
    accuracy,
    bootstrap_interval,
    confusion,
    counting,
    effective_items,
    share_interval,
    why_undefined,
)

RESAMPLES = 400


@dataclass(frozen=True, kw_only=True, eq=False)
class Predictions:
    """Items in order with their outputs, float64 (items, classes).

    Outputs are probabilities that sum to 1 (task `classify`), probabilities each by itself (`tag`), or values in
    the targets' unit (`regress`). `target` has the true class numbers int64 (items,), or labels or numbers float32
    (items, classes), None where they are not known. `prior` is the outputs of knowing nothing, float64 (classes,):
    the shares of the classes or labels in training, or the mean of the numbers. `losses` are the plan's own loss of
    each item, float64 (items,), where the target is known. `notes` are sentences on what of the items was not known in training.
    `weights` are what each item counts in metrics, shares and means, float (items,); None: all count alike.
    """

    items: tuple[str, ...]
    classes: tuple[str, ...]
    task: str
    metric_functions: Mapping[str, Metric]
    outputs: np.ndarray
    target: np.ndarray | None
    prior: np.ndarray
    losses: np.ndarray | None = None
    notes: tuple[str, ...] = ()
    weights: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.items)

    @property
    def probabilities(self) -> np.ndarray:
        """The outputs, where they are probabilities; DataError for numbers."""
        if self.task == "regress":
            raise DataError("These predictions are numbers, not probabilities: use outputs.")
        return self.outputs

    @property
    def predicted(self) -> np.ndarray:
        """The most likely class of each item int64 (items,), which labels are likely bool (items, labels), or the numbers."""
        return {"classify": self.outputs.argmax(axis=1), "tag": self.outputs >= 0.5, "regress": self.outputs}[self.task]

    @property
    def labels(self) -> tuple[str, ...]:
        """What is predicted of each item, in words: the class, the labels with ";" between them, or the numbers."""
        if self.task == "classify":
            return tuple(self.classes[number] for number in self.predicted.tolist())
        if self.task == "tag":
            return tuple(";".join(np.array(self.classes)[row].tolist()) for row in self.predicted)
        return tuple(";".join(f"{value:.6g}" for value in row) for row in self.outputs.tolist())

    def confusion(self) -> np.ndarray:
        """Counts, int64 (classes, classes): row true, column predicted; for one class an item."""
        if self.task != "classify":
            raise DataError(
                f"A confusion table is for one class an item; the task here is {self.task!r}. report() has what there is, and interpret() "
                "top_losses()."
            )
        return confusion(self.predicted, self._known(), len(self.classes))

    def _known(self) -> np.ndarray:
        if self.target is None:
            raise DataError("The targets of these items are not known, so nothing can be counted: evaluate(...) or validate() know them.")
        return self.target

    @property
    def of_none(self) -> str:
        """What stands in a table in the place of a share of no items."""
        return "no items" if self.weights is None else "no items that count"

    def counts(self) -> np.ndarray:
        """What each item counts, float64 (items,): 1 where all count alike."""
        return np.ones(len(self)) if self.weights is None else self.weights.astype(np.float64)

    def judged(self) -> tuple[np.ndarray, ...]:
        """What a metric gets: outputs and targets, and where items are weighted those that count, with their weights."""
        target = self._known()
        return (self.outputs, target) if self.weights is None else counting(self.outputs, target, self.weights)

    def share(self, hits: np.ndarray, among: np.ndarray) -> tuple[float, float, float]:
        """The share of the items `among` that are `hits`, bool (items,) both, and its 95 % interval; nan for no items."""
        return share_interval(hits[among], None if self.weights is None else self.counts()[among])

    def intervals(self) -> dict[str, tuple[float, float, float]]:
        """Each metric by name as (value, low, high), a 95 % interval: Wilson for accuracy, else 400 bootstrap resamples.

        Of weighted items both are with their weights; see `sheer.task.metrics.share_interval`.
        """
        judged, found = self.judged(), {}
        items = len(judged[0])
        draws = uniform_draws(stream_key(0, "bootstrap"), np.arange(RESAMPLES), items) if items else np.zeros((0, 0))
        for name, metric in self.metric_functions.items():
            if metric is accuracy:
                found[name] = self.share(self.predicted == self._known(), np.ones(len(self), dtype=bool))
            else:
                found[name] = (metric(*judged), *bootstrap_interval(metric, judged, draws))
        return found

    def metrics(self) -> dict[str, float]:
        """Each metric with its interval as NAME, NAME_low, NAME_high, the number of items, and as `baseline...` what the
        first metric would be for the prior: always the usual class, the usual labels, or the mean. Of weighted items
        `effective_items` says how many of equal weight would say as much."""
        target = self._known()
        found: dict[str, float] = {"items": len(target)}
        if self.weights is not None:
            found["effective_items"] = effective_items(self.counts())
        for name, (value, low, high) in self.intervals().items():
            found |= {name: value, f"{name}_low": low, f"{name}_high": high}
        first = next(iter(self.metric_functions), None)
        if first is None:  # such as of a run with metrics of your own that were not given
            return found
        always = Predictions(
            items=self.items,
            classes=self.classes,
            task=self.task,
            metric_functions={first: self.metric_functions[first]},
            outputs=np.repeat(self.prior[None], len(self), axis=0),
            target=target,
            prior=self.prior,
            weights=self.weights,
        )
        value, low, high = always.intervals()[first]
        return found | {"baseline": value, "baseline_low": low, "baseline_high": high}

    def report(self) -> str:
        """Metrics beside the baseline, then a table of the classes or labels, as text."""
        found = self.metrics()
        names = [*self.metric_functions, "baseline"] if self.metric_functions else []
        usual = f"always {self.classes[int(self.prior.argmax())]!r}" if self.task == "classify" else "what is usual"
        usual = "always the mean" if self.task == "regress" else usual
        width = max(map(len, names), default=0)
        lines = [
            f"{name:<{width}}  nan, not defined here: {why_undefined(names[0] if name == 'baseline' else name, len(self))}"
            if np.isnan(found[name])
            else f"{name:<{width}}  {found[name]:.4f}  95 % interval {found[name + '_low']:.4f} to {found[name + '_high']:.4f}"
            for name in names
        ]
        weighted = "" if self.weights is None else f", weighted: as much as {found['effective_items']:.1f} of equal weight"
        lines = lines or ["no metrics"]
        lines[0] += f"  ({int(found['items'])} items{weighted})"
        lines[-1] += f"  ({names[0]} of {usual})" if names else ""
        table = {"classify": self._class_table, "tag": self._label_table, "regress": self._number_table}[self.task]()
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes), "", table])

    def _class_table(self) -> str:
        counts, rows, right, true = self.confusion(), [], self.predicted == self._known(), self._known()
        for number, name in enumerate(self.classes):
            cells = [str(count) for count in counts[number].tolist()] if len(self.classes) <= 12 else []
            wrong = counts[number].copy()
            wrong[number] = 0
            worst = f"{self.classes[int(wrong.argmax())]} {int(wrong.max())}" if wrong.max() else "-"
            rows.append([name, *cells, str(counts[number].sum()), _shown(self.share(right, true == number), self.of_none), worst])
        names = list(self.classes) if len(self.classes) <= 12 else []
        header = ["true \\ predicted", *names, "items", "found (95 % interval)", "most often taken for"]
        return columns(header, rows, right=range(1, len(names) + 2))

    def _label_table(self) -> str:
        said, true, rows = self.outputs >= 0.5, self._known() > 0.5, []
        for number, name in enumerate(self.classes):
            column, truth = said[:, number], true[:, number]
            none = self.of_none if column.any() else "never said"
            found, right = _shown(self.share(column, truth), self.of_none), _shown(self.share(truth, column), none)
            rows.append([name, str(truth.sum()), str(column.sum()), found, right])
        return columns(["label", "items", "said", "found (95 % interval)", "right when said"], rows, right=(1, 2))

    def _number_table(self) -> str:
        error = self.outputs - self._known()
        means = [np.average(values, axis=0, weights=self.weights) for values in (error, np.abs(error))]
        rows = [
            [name, f"{means[0][k]:.4g}", f"{means[1][k]:.4g}", f"{self._within(np.abs(error[:, k])):.4g}"]
            for k, name in enumerate(self.classes)
        ]
        return columns(["number", "mean error", "mean absolute error", "nine in ten within"], rows, right=(1, 2, 3))

    def _within(self, error: np.ndarray) -> float:
        """What nine in ten of the items' errors are at most; of weighted items, items with nine tenths of the weight."""
        if self.weights is None:
            return float(np.quantile(error, 0.9))
        order = np.argsort(error, kind="stable")
        so_far = np.cumsum(self.counts()[order])
        return float(error[order][np.searchsorted(so_far, 0.9 * so_far[-1])])

    def thresholds(self) -> tuple[float, ...]:
        """For each label, the threshold with the highest F1 on these items (lowest such); 0.5 for labels that never occur."""
        if self.task != "tag":
            raise DataError(f"Thresholds are for several labels an item; the task here is {self.task!r}: predicted has what is said.")
        chosen, counts = [], self.counts()
        for values, true in zip(self.outputs.T, self._known().T > 0.5, strict=True):
            candidates = np.unique(values[true & (counts > 0)])
            scores = [2 * counts[true & (values >= t)].sum() / (counts[true].sum() + counts[values >= t].sum()) for t in candidates]
            chosen.append(float(candidates[int(np.argmax(scores))]) if len(candidates) else 0.5)
        return tuple(chosen)

    def table(self) -> str:
        """One line an item: the most likely class, its probability, and the next; the labels; or the numbers."""
        header, right = self._columns()
        return columns(header, self._rows(len(self)), right=right)

    def _repr_html_(self) -> str:
        header, right = self._columns()
        more = f"{len(self) - ROWS} more are in .records()" if len(self) > ROWS else ""
        return html_table(f"{len(self)} predictions", header, self._rows(ROWS), right=right, note=more)

    @property
    def of(self) -> str:
        """What `items` are: "item" for rows of a table, texts and arrays, else "file"."""
        return "item" if self.items and all(re.fullmatch(r"item \d+", item) for item in self.items) else "file"

    def _columns(self) -> tuple[tuple[str, ...], tuple[int, ...]]:
        """The header of the table, and which columns are right-aligned."""
        if self.task == "classify":
            return (self.of, "class", "probability", "next"), (2,)
        if self.task == "tag":
            return (self.of, "labels"), ()
        return (self.of, *self.classes), tuple(range(1, len(self.classes) + 1))

    def _rows(self, count: int) -> list[list[str]]:
        items, outputs = self.items[:count], self.outputs[:count]
        if self.task == "tag":
            return [[item, label or "-"] for item, label in zip(items, replace(self, outputs=outputs).labels, strict=True)]
        if self.task == "regress":
            return [[item, *(f"{value:.6g}" for value in row)] for item, row in zip(items, outputs.tolist(), strict=True)]
        rows = []
        for item, row in zip(items, outputs, strict=True):
            first, second = np.argsort(-row, kind="stable")[:2].tolist()
            rows.append([item, self.classes[first], f"{row[first]:.4f}", f"{self.classes[second]} {row[second]:.4f}"])
        return rows

    def records(self) -> list[dict[str, object]]:
        """One dictionary an item: file (or item), then class, probability and probabilities; or labels and probabilities; or values."""
        found, what = list[dict[str, object]](), self.of
        for item, label, row in zip(self.items, self.labels, self.outputs, strict=True):
            named = {name: float(value) for name, value in zip(self.classes, row.tolist(), strict=True)}
            if self.task == "classify":
                found.append({what: item, "class": label, "probability": float(row.max()), "probabilities": named})
            elif self.task == "tag":
                found.append({what: item, "labels": label.split(";") if label else [], "probabilities": named})
            else:
                found.append({what: item, "values": named})
        return found


def _shown(share: tuple[float, float, float], otherwise: str) -> str:
    """A share with its interval as text; `otherwise` where it is one of no items, or of items that weigh nothing."""
    return "{:.3f} ({:.3f} to {:.3f})".format(*share) if share[0] == share[0] else otherwise


def check_finite(outputs: np.ndarray) -> None:
    """ModelError where an item's outputs (N, classes) are no finite numbers, for nothing can be said of it."""
    odd = ~np.isfinite(outputs).all(axis=1)
    if odd.any():
        raise ModelError(
            f"The model gives outputs that are no finite numbers for {int(odd.sum())} of {len(outputs)} items, so nothing can be said of "
            "them. Was it trained at too high a rate?"
        )


def prior_outputs(data: DataPlan, weighted: bool = False) -> np.ndarray:
    """The outputs of knowing nothing but the training items' targets, and with `weighted` their weights, float64 (classes,)."""
    if weighted and data.weighted_prior:
        return np.array(data.weighted_prior)
    if data.task.name == "regress":
        return np.array(data.task.options()["mean"], dtype=np.float64)
    return np.array(data.train_counts) / data.train_items
