"""What `learn.interpret()` returns: every question about mistakes, answered from one stored table of predictions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sheer.interpret import calibration, mistakes
from sheer.interpret.calibration import BINS, Bin, Temperature
from sheer.interpret.mistakes import ClassScores, LabelCandidate, Mistake
from sheer.interpret.predictions import Predictions
from sheer.plan.table import columns


@dataclass(frozen=True, kw_only=True, eq=False)
class Interpretation:
    """Answers from `table`; the model is not run again."""

    table: Predictions

    def confusion(self) -> np.ndarray:
        """Counts, int64 (classes, classes): row true, column predicted."""
        return self.table.confusion()

    def most_confused(self, min_count: int = 1) -> list[tuple[str, str, int]]:
        """(true, predicted, count) of classes taken for one another, most frequent first."""
        return mistakes.most_confused(self.table, min_count)

    def class_scores(self) -> list[ClassScores]:
        """Precision, recall and F1 of each class with their 95 % intervals."""
        return mistakes.class_scores(self.table)

    def top_losses(self, n: int = 10) -> list[Mistake]:
        """The items with the largest losses, largest first."""
        return mistakes.top_losses(self.table, n)

    def label_candidates(self) -> list[LabelCandidate]:
        """Items whose labels may be wrong, by confident learning; see `sheer.interpret.mistakes.label_candidates`."""
        return mistakes.label_candidates(self.table)

    def reliability(self, bins: int = BINS) -> list[Bin]:
        """The reliability table over bins of equal width."""
        return calibration.reliability(self.table, bins)

    def expected_calibration_error(self, bins: int = BINS) -> float:
        """The mean distance of confidence and accuracy over those bins."""
        return calibration.expected_calibration_error(self.table, bins)

    def temperature(self) -> Temperature:
        """The temperature that minimises NLL on these items, with NLL and ECE before and after."""
        return calibration.fit_temperature(self.table)

    def report(self, n: int = 10) -> str:
        """What the task allows of metrics, classes, confusions, worst items, wrong labels and calibration, as text; lists end after `n`."""
        parts = [self.table.report()]
        if self.table.task != "regress":
            parts.append(f"Shares with 95 % intervals\n{self._class_table()}")
        if self.table.task == "classify":
            parts.append(f"Most confused\n{self._confused_table(n)}")
        parts.append(f"Largest losses\n{self._loss_table(n)}")
        if self.table.task == "classify":
            parts.append(f"Labels that may be wrong (confident learning; look at them)\n{self._label_table(n)}")
            parts.append(f"Calibration\n{self._calibration_table()}")
        return "\n\n".join(parts)

    def _class_table(self) -> str:
        def cell(value: float, interval: tuple[float, float]) -> str:
            return f"{value:.3f} ({interval[0]:.3f} to {interval[1]:.3f})" if value == value else self.table.of_none

        rows = [
            [row.name, str(row.items), cell(row.precision, row.precision_interval), cell(row.recall, row.recall_interval)]
            + [cell(row.f1, row.f1_interval)]
            for row in self.class_scores()
        ]
        return columns(("class", "items", "precision", "recall", "F1"), rows, right=(1,))

    def _confused_table(self, n: int) -> str:
        pairs = self.most_confused()[:n]
        rows = [[true, said, str(count)] for true, said, count in pairs]
        return columns(("true", "predicted", "items"), rows, right=(2,)) if rows else "none"

    def _loss_table(self, n: int) -> str:
        rows = [[worst.item, worst.true or "-", worst.predicted or "-", f"{worst.loss:.4f}"] for worst in self.top_losses(n)]
        return columns(("item", "true", "predicted", "loss"), rows, right=(3,))

    def _label_table(self, n: int) -> str:
        rows = [
            [one.item, f"{one.given} {one.self_confidence:.3f}", f"{one.suggested} {one.suggested_confidence:.3f}"]
            for one in self.label_candidates()[:n]
        ]
        return columns(("item", "given", "may be"), rows) if rows else "none"

    def _calibration_table(self) -> str:
        fitted = self.temperature()
        rows = [
            [f"{row.low:.2f} to {row.high:.2f}", str(row.items), f"{row.confidence:.3f}", f"{row.accuracy:.3f}"]
            for row in self.reliability()
            if row.share
        ]
        return "\n".join(
            [
                columns(("probability", "items", "mean", "right"), rows, right=(1, 2, 3)),
                f"temperature {fitted.temperature:.3f}, fitted on these {fitted.items} items: "
                f"NLL {fitted.nll_before:.4f} -> {fitted.nll_after:.4f}, ECE {fitted.ece_before:.4f} -> {fitted.ece_after:.4f}",
            ]
        )
