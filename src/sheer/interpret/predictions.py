"""What it learned: one table of predictions, in item order; every metric and table reads only this."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sheer.plan.table import columns
from sheer.task.metrics import accuracy, balanced_accuracy, confusion, wilson_interval


@dataclass(frozen=True, kw_only=True, eq=False)
class Predictions:
    """Items in order with their probabilities, float64 (items, classes), rows summing to 1.

    `target` int64 (items,) where the true classes are known, else None; `usual` is the class that
    was most frequent in training.
    """

    items: tuple[str, ...]
    classes: tuple[str, ...]
    probabilities: np.ndarray
    target: np.ndarray | None
    usual: int

    def __len__(self) -> int:
        return len(self.items)

    @property
    def predicted(self) -> np.ndarray:
        """The number of the most likely class of each item, int64 (items,)."""
        return self.probabilities.argmax(axis=1)

    @property
    def labels(self) -> tuple[str, ...]:
        """The name of the most likely class of each item."""
        return tuple(self.classes[number] for number in self.predicted.tolist())

    def confusion(self) -> np.ndarray:
        """Counts, int64 (classes, classes): row true, column predicted."""
        return confusion(self.predicted, self._known(), len(self.classes))

    def _known(self) -> np.ndarray:
        if self.target is None:
            raise ValueError("These predictions are of items whose classes are not known, so nothing can be counted.")
        return self.target

    def metrics(self) -> dict[str, float]:
        """Accuracy with its 95 % interval (Wilson), balanced accuracy, and the accuracy of always saying the usual class."""
        counts, target = self.confusion(), self._known()
        hits, total = int(np.trace(counts)), int(counts.sum())
        low, high = wilson_interval(hits, total)
        base_hits = int((target == self.usual).sum())
        base_low, base_high = wilson_interval(base_hits, total)
        return {
            "items": total,
            "accuracy": accuracy(counts),
            "accuracy_low": low,
            "accuracy_high": high,
            "balanced_accuracy": balanced_accuracy(counts),
            "baseline": base_hits / total,
            "baseline_low": base_low,
            "baseline_high": base_high,
        }

    def report(self) -> str:
        """Metrics beside the baseline, then the confusion table with each class's share found, as text."""
        metrics, counts = self.metrics(), self.confusion()
        lines = [
            f"accuracy           {metrics['accuracy']:.4f}  95 % interval {metrics['accuracy_low']:.4f} to {metrics['accuracy_high']:.4f}"
            f"  ({int(metrics['items'])} items)",
            f"majority baseline  {metrics['baseline']:.4f}  95 % interval {metrics['baseline_low']:.4f} to {metrics['baseline_high']:.4f}"
            f"  (always {self.classes[self.usual]!r})",
            f"balanced accuracy  {metrics['balanced_accuracy']:.4f}",
        ]
        rows = []
        for number, name in enumerate(self.classes):
            found, total = int(counts[number, number]), int(counts[number].sum())
            low, high = wilson_interval(found, total)
            share = f"{found / total:.3f} ({low:.3f} to {high:.3f})" if total else "no items"
            cells = [str(count) for count in counts[number].tolist()] if len(self.classes) <= 12 else []
            wrong = counts[number].copy()
            wrong[number] = 0
            worst = f"{self.classes[int(wrong.argmax())]} {int(wrong.max())}" if wrong.max() else "-"
            rows.append([name, *cells, str(total), share, worst])
        names = list(self.classes) if len(self.classes) <= 12 else []
        header = ["true \\ predicted", *names, "items", "found (95 % interval)", "most often taken for"]
        return "\n".join([*lines, "", columns(header, rows, right=range(1, len(names) + 2))])

    def table(self) -> str:
        """One line an item: the most likely class, its probability, and the next."""
        rows = []
        for item, row in zip(self.items, self.probabilities, strict=True):
            first, second = np.argsort(-row, kind="stable")[:2].tolist()
            rows.append([item, self.classes[first], f"{row[first]:.4f}", f"{self.classes[second]} {row[second]:.4f}"])
        return columns(("file", "class", "probability", "next"), rows, right=(2,))

    def records(self) -> list[dict[str, object]]:
        """One dictionary an item: file, class, probability, and all probabilities by class."""
        return [
            {
                "file": item,
                "class": label,
                "probability": float(row.max()),
                "probabilities": {name: float(value) for name, value in zip(self.classes, row.tolist(), strict=True)},
            }
            for item, label, row in zip(self.items, self.labels, self.probabilities, strict=True)
        ]
