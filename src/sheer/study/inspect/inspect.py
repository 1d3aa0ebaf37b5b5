"""What the network gets to see, against what its weights were trained on: an input report with alarms, each with a remedy."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from sheer.data.feed import Feed
from sheer.data.inputs import Inputs
from sheer.data.sources import Data
from sheer.errors import PlanError
from sheer.interpret.showing import Next
from sheer.learner import Learner
from sheer.loop.step import scores_of
from sheer.plan.facts import InputFacts
from sheer.plan.markup import html_table, html_text
from sheer.plan.plan import Phase, Plan
from sheer.plan.table import columns
from sheer.streams import permutation, stream_key
from sheer.study.checks import check_learner
from sheer.study.inspect.alarms import Alarm, Channel, label_alarms, order_alarm, pixel_alarms, size_alarms
from sheer.study.inspect.cells import Cells, cells_seen
from sheer.study.inspect.norm_gap import NormGap, first_drift, norm_gap

HEADERS = 64
CELLS = ("column", "kind", "what of it these items hold, as the network gets it")


@dataclass(frozen=True, kw_only=True)
class InputReport:
    """The report; `print` it. Sides are in pixels, `fraction` is the share of the side that is cut out.

    `scale` is how large an object appears against pretraining, `enlarged` by how much the median picture is; `last_map` the side
    of the last map in cells, 0 where there is none; `drift` how many standard deviations the first norm layer's inputs are from its
    running means; `norm_note` says what stands in the place of `gap` where there is none. Where the weights are not
    `pretrained`, what stands for pretraining are the network's own settings, and nothing is concluded from them. `cells` are the columns of
    a table or of texts, `channels` those of pictures.
    """

    phase: str
    items: int
    pretrained: bool
    channels: tuple[Channel, ...]
    cells: tuple[Cells, ...]
    size: int
    trained_size: int
    interpolation: str
    trained_interpolation: str
    fraction: float
    trained_fraction: float
    short_side: int
    enlarged: float
    scale: float
    stride: int
    last_map: int
    drift: float | None
    labels: tuple[tuple[str, int, int], ...]
    gap: NormGap | None
    norm_note: str
    alarms: tuple[Alarm, ...]

    def record(self) -> dict[str, object]:
        """Everything as values that JSON can hold."""
        return asdict(self)

    def _cells(self) -> list[list[str]]:
        return [[one.column, one.kind, one.seen] for one in self.cells]

    def _usual(self) -> str:
        return "pretraining" if self.pretrained else "the network's settings"

    def table(self) -> tuple[tuple[str, ...], list[list[str]]]:
        """Header and a row of text a channel."""
        header = ("channel", "low", "high", "mean", "std", "pixel mean", f"in {self._usual()}")
        rows = [
            [
                one.name,
                *(f"{value:.3f}" for value in (one.low, one.high, one.mean, one.std, one.pixel_mean)),
                f"{one.trained_mean:.3f} +- {one.trained_std:.3f}",
            ]
            for one in self.channels
        ]
        return header, rows

    def facts(self) -> list[tuple[str, str]]:
        """Label and text of everything but the channels and the alarms."""
        rows: list[tuple[str, str]] = []
        usual = self._usual()
        if self.size:
            rows.append(("size", f"{self.size} px; {usual} {self.trained_size} px"))
            rows.append(("interpolation", f"{self.interpolation}; {usual} {self.trained_interpolation}"))
            rows.append(("cut out", f"{self.fraction:g} of the side; {usual} {self.trained_fraction:g}"))
            rows.append(("object scale", f"{self.scale:.2f} of that in {usual}"))
        if self.short_side:
            way = f"enlarged {self.enlarged:.1f} times" if self.enlarged > 1 else f"shrunk to {self.enlarged:.2f}"
            rows.append(("photographs", f"median short side {self.short_side} px, {way}"))
        if self.last_map or not self.cells:
            cells = f"{self.last_map} x {self.last_map} cells, stride {self.stride}"
            rows.append(("last map", cells if self.last_map else "none: the body gives vectors"))
        if self.drift is not None:
            rows.append(("first norm layer", f"its inputs are {self.drift:.2f} standard deviations from its running means"))
        counts = [count for _, count, _ in self.labels]
        if counts:
            rows.append(("labels", f"{len(counts)}, from {min(counts)} to {max(counts)} items to learn from"))
        rows.append(("norm statistics", self.norm_note or _gap_words(self.gap)))
        return rows

    def __str__(self) -> str:
        header, rows = self.table()
        width = max(len(label) for label, _ in self.facts())
        how = ", cut at the centre, not augmented" if self.size else ""
        lines = [f"What the network sees: {self.items} training items of phase {self.phase}{how}"]
        lines += [columns(header, rows, right=range(1, 7))] if rows else []
        lines += [columns(CELLS, self._cells())] if self.cells else []
        lines += [f"  {label:<{width}}  {text}" for label, text in self.facts()]
        if self.gap and self.gap.classes:
            per_class = [(one.name, str(one.items), f"{one.difference:.3f}", f"{one.changed:.0%}") for one in self.gap.classes]
            lines.append(columns(("class", "items", "logits differ by", "largest is another"), per_class, right=(1, 2, 3)))
        lines += [f"ALARM: {one.what} ({one.evidence}). {one.remedy}" for one in self.alarms] or ["No alarm."]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        header, rows = self.table()
        table = html_table("What the network sees", header, rows, right=range(1, 7)) if rows else ""
        table += html_table("Columns", CELLS, self._cells()) if self.cells else ""
        alarms = html_table("Alarms", ("what", "evidence", "remedy"), [[one.what, one.evidence, one.remedy] for one in self.alarms])
        return table + alarms + html_text("Everything", str(self))


def _gap_words(gap: NormGap | None) -> str:
    if gap is None:
        return ""
    layers = f"{gap.layers} layer{'s' * (gap.layers != 1)}"
    other = "" if gap.changed is None else f"; the largest is another one for {gap.changed:.0%} of {gap.items} items"
    return (
        f"a batch's own ({gap.batch_size} items) against running ones in {layers}: logits differ by {gap.difference:.3f} on average "
        f"(they spread by {gap.spread:.3f}){other}"
    )


def inspect(learn: Learner, upcoming: Next = None, *, items: int = 128) -> InputReport:
    """What the network sees of the data, against its pretraining, with alarms; nothing is trained and no trace is left.

    Args:
        learn: A learner with its data.
        upcoming: As for `learn.lr_find`: the recipe or rate that would be run next, whose first phase counts; where not given, the last
            phase that was run, or else the next one.
        items: How many training items to look at, drawn from the stream `inspect`; rounded to whole batches.

    Raises:
        PlanError: `learn` is no learner, or `items` no whole number of at least 2.
        DataError: there is no data, or a photograph cannot be read.
    """
    check_learner(learn, "inspect")
    if isinstance(items, bool) or not isinstance(items, int) or items < 2:
        raise PlanError(f"items={items!r}: give how many training items to look at, a whole number of at least 2.")
    plan, number = learn._next(upcoming) if upcoming is not None or not learn.plan().phases else (learn.plan(), -1)
    phase, data = plan.phases[number], learn._known_data()
    feed = learn._feed_of(phase)
    count = min(items, len(data.train))
    chosen = data.train[permutation(stream_key(plan.seed, "inspect"), len(data.train))[: count - count % phase.batch_size or count]]
    feed.preflight(chosen)
    with learn._view().ready():
        batches = [batch.inputs for batch in feed.plain(chosen)]
        pretrained = plan.model.name.partition(":")[0] in ("timm", "torchvision") and plan.model.weights.name not in ("none", "run")
        drift = first_drift(learn.model, batches) if pretrained else None
        coloured = batches if drift is not None and len(phase.mean) == 3 else []
        reversed_ = [((inputs * feed.std + feed.mean).flip(1) - feed.mean) / feed.std for inputs in coloured]
        turned = first_drift(learn.model, reversed_) if reversed_ else None
        side = _last_map(learn.model, batches[0], plan)
        is_class = plan.data.task.name == "classify"
        gap = norm_gap(learn.model, batches, data.targets[chosen] if is_class else np.zeros(0), data.classes if is_class else ())
    inputs, options = learn._inputs, phase.resize.options()
    fraction = options.get("fraction", 1.0)
    assert isinstance(fraction, int | float)
    short = _short_side(feed, _files(data, chosen)) if feed.pictures is not None else 0
    working = phase.size / fraction
    found, cells = _channels(batches, phase, inputs) if not data.plan.columns else (), cells_seen(data, chosen)
    counts = zip(data.classes, data.plan.train_counts, data.plan.valid_counts, strict=True) if data.plan.train_counts else ()
    scale = working / (inputs.size / inputs.crop_fraction)
    labels = tuple(counts)
    enlarged = working / short if short else 0.0
    pictures = bool(phase.size) or getattr(batches[0], "ndim", 0) == 4
    alarms = [
        *(pixel_alarms(found, phase, inputs, drift, pictures=pictures) if found else []),
        *(one.alarm for one in cells if one.alarm),
        *(order_alarm(found, drift, turned) if drift is not None and turned is not None else []),
        *size_alarms(plan, phase, inputs, side, scale if pretrained else 1.0, enlarged),
        *label_alarms(labels),
    ]
    return InputReport(
        phase=phase.name,
        items=len(chosen),
        pretrained=pretrained,
        channels=found,
        cells=cells,
        size=phase.size,
        trained_size=inputs.size,
        interpolation=str(options.get("interpolation", "none")),
        trained_interpolation=inputs.interpolation,
        fraction=float(fraction),
        trained_fraction=inputs.crop_fraction,
        short_side=short,
        enlarged=enlarged,
        scale=scale,
        stride=plan.model.stride,
        last_map=side,
        drift=drift,
        labels=labels,
        gap=gap,
        norm_note="" if gap else "no norm layers with running statistics, so batch and running statistics cannot differ",
        alarms=tuple(alarms),
    )


def _files(data: Data, items: np.ndarray) -> np.ndarray:
    """Where the photographs of these items are among the data's files."""
    if not data.inputs:
        return items
    return np.concatenate([one.place[items][one.present[items]] for one in data.inputs if one.place is not None])


def _channels(batches: Sequence[Any], phase: Phase, inputs: InputFacts) -> tuple[Channel, ...]:
    """A row a channel of pictures, of all inputs that are some; one row for inputs that are numbers."""
    owner = ""
    if isinstance(batches[0], Inputs):
        places = [(batch, name, number) for batch in batches for number, name in enumerate(batch.parts) if batch.parts[name].ndim == 4]
        owner = ", ".join(dict.fromkeys(name for _, name, _ in places)) + ": "
        batches = [batch.parts[name][batch.present[:, number]] for batch, name, number in places]
        if not sum(map(len, batches)):
            return ()
    values = torch.cat([batch.double().cpu() for batch in batches])
    if not phase.mean:
        return (_channel("inputs", values, 0.0, 1.0, 0.0, 1.0),)
    names = ("red", "green", "blue") if len(phase.mean) == 3 else tuple(f"channel {n + 1}" for n in range(len(phase.mean)))
    known = zip(names, phase.mean, phase.std, inputs.mean, inputs.std, strict=True)
    return tuple(_channel(owner + name, values[:, number], *numbers) for number, (name, *numbers) in enumerate(known))


def _channel(name: str, values: torch.Tensor, mean: float, std: float, trained_mean: float, trained_std: float) -> Channel:
    return Channel(
        name=name,
        low=float(values.min()),
        high=float(values.max()),
        mean=float(values.mean()),
        std=float(values.std(correction=0)),
        pixel_mean=float(values.mean()) * std + mean,
        trained_mean=trained_mean,
        trained_std=trained_std,
    )


def _last_map(model: nn.Module, inputs: torch.Tensor, plan: Plan) -> int:
    """The shorter side of the body's last map in cells, by running it; 0 where it gives none."""
    if plan.model.kind != "map" or plan.model.head is None:
        return 0
    return int(min(scores_of(model.get_submodule("body"), [inputs]).shape[2:]))


def _short_side(feed: Feed, items: np.ndarray) -> int:
    """The median short side of some of the photographs, from their headers."""
    data, sides = feed.data, []
    for item in items[:HEADERS].tolist():
        if data.opened:
            sides.append(min(data.opened(data.paths[item]).size))
        else:
            with Image.open(os.path.join(data.root, data.paths[item])) as picture:
                sides.append(min(picture.size))
    return int(np.median(sides))
