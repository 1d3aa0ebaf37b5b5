"""Plots of plain data, each a `matplotlib.figure.Figure`: nothing pops up, no backend is chosen, no global state is touched.

The only file that imports matplotlib, and only when a plot is asked for. `figure.savefig(path)` writes
one; a notebook shows one that ends a cell.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sheer.errors import PlanError
from sheer.interpret.predictions import Predictions
from sheer.interpret.shown import Pictures, Steps
from sheer.loop.lr_find import RateSweep
from sheer.record.run import Row

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_CELLS = 20


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    class Shown(Figure):
        """A figure that a notebook shows without pyplot having been set up there."""

        def _repr_png_(self) -> bytes:
            content = BytesIO()
            self.savefig(content, format="png")
            return content.getvalue()

    return Shown(figsize=(width, height), layout="constrained")


def check_plot(path: str | Path) -> None:
    """Whether a figure can be written there, asked before the work that it shows.

    Raises:
        PlanError: the file exists, or its ending is no format of pictures.
    """
    from matplotlib.backend_bases import FigureCanvasBase

    suffix = Path(path).suffix.lower().removeprefix(".")
    formats = FigureCanvasBase.get_supported_filetypes()
    if suffix not in formats:
        raise PlanError(f"{path}: a plot is written as {', '.join(sorted(formats))}; give a name such as sweep.png.")
    if Path(path).exists():
        raise PlanError(f"{path} exists. Nothing was overwritten: give another name, or remove it.")
    if not Path(path).absolute().parent.is_dir():
        raise PlanError(f"{path}: there is no folder {Path(path).parent}. Make it first.")


def pictures(shown: Pictures, *, columns: int = 3) -> Figure:
    """The pictures in a grid, each under its title; a title is red where it names a mistake."""
    count = len(shown.titles)
    across = min(columns, count)
    down = math.ceil(count / across)
    figure = _figure(2.4 * across, 2.7 * down)
    for number, (title, wrong) in enumerate(zip(shown.titles, shown.wrong, strict=True)):
        axes = figure.add_subplot(down, across, number + 1)
        axes.imshow(shown.images[number].squeeze(), cmap="gray", vmin=0, vmax=1)
        axes.set_title(title, fontsize=8, color="firebrick" if wrong else "black", parse_math=False)
        axes.set_axis_off()
    return figure


def schedule(steps: Steps) -> Figure:
    """The rate of each group above, the momentum below, over the steps; a line where a phase begins."""
    figure = _figure(8, 5)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    for index, name in enumerate(steps.groups):
        upper.plot(np.arange(len(steps.momentum)), steps.rates[:, index], label=name)
    upper.set_yscale("log")
    upper.set_ylabel("learning rate")
    upper.legend(fontsize=8)
    lower.plot(np.arange(len(steps.momentum)), steps.momentum, color="black")
    lower.set_ylabel("momentum")
    lower.set_xlabel("step")
    for name, start in steps.phases:
        upper.annotate(name, (start, 1.0), xycoords=("data", "axes fraction"), va="bottom", fontsize=8, parse_math=False)
        for axes in (upper, lower):
            axes.axvline(start, color="grey", linewidth=0.5)
    return figure


def losses(rows: Sequence[Row]) -> Figure:
    """Training and validation loss over the epochs."""
    figure = _figure(6, 4)
    axes = figure.subplots()
    epochs = [row.epoch for row in rows]
    axes.plot(epochs, [row.train_loss for row in rows], marker="o", label="training")
    axes.plot(epochs, [row.valid_loss for row in rows], marker="o", label="validation")
    axes.set_xlabel("epoch")
    axes.set_ylabel("loss")
    axes.legend()
    return figure


def lr_find(sweep: RateSweep) -> Figure:
    """The losses of a sweep over the rate of the last stage, with its suggestions; diverged ends are cut off the picture."""
    figure = _figure(7, 4)
    axes = figure.subplots()
    smooth = np.asarray(sweep.smoothed)
    axes.plot(sweep.rates, sweep.losses, color="lightgrey", linewidth=1, label="loss of the batch")
    axes.plot(sweep.rates, smooth, color="black", label="smoothed")
    for name, rate in sweep.suggestions().items():
        if rate is not None:
            height = float(np.interp(np.log(rate), np.log(sweep.rates), smooth))
            axes.plot([rate], [height], "o", label=f"{name} {rate:.2e}")
    finite = smooth[np.isfinite(smooth)]
    if len(finite):
        axes.set_ylim(float(finite.min()) * 0.9, min(float(finite.max()), 2 * float(finite[0])) * 1.1)
    axes.set_xscale("log")
    axes.set_xlabel(f"peak learning rate of {sweep.stages[-1]}")
    axes.set_ylabel("loss")
    axes.legend(fontsize=8)
    return figure


def confusion(predictions: Predictions) -> Figure:
    """Counts by true class (rows) and predicted class (columns), shaded by the share of the true class."""
    counts = predictions.confusion()
    size = len(predictions.classes)
    side = min(2 + 0.5 * size, 14)
    figure = _figure(side + 1, side)
    axes = figure.subplots()
    axes.imshow(counts / np.maximum(counts.sum(1, keepdims=True), 1), cmap="Blues", vmin=0, vmax=1)
    for place, axis in (("x", axes.xaxis), ("y", axes.yaxis)):
        axis.set_ticks(range(size), labels=list(predictions.classes), rotation=90 if place == "x" else 0, fontsize=8, parse_math=False)
    if size <= MOST_CELLS:
        for row, column in np.ndindex(size, size):
            dark = counts[row, column] > counts[row].sum() / 2
            text = str(counts[row, column])
            axes.text(column, row, text, ha="center", va="center", fontsize=8, color="white" if dark else "black")
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    return figure
