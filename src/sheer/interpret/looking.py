"""Looking at a model without a trace in it: predictions, averages over augmented passes, features, duplicates, attribution."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from sheer.data.feed import Batch, Feed, data_path
from sheer.data.frames import read_rows
from sheer.data.leftout import further_files
from sheer.data.listing import labels_by
from sheer.data.photos import Photos
from sheer.data.pictures import Album
from sheer.data.several import check_root, further_items
from sheer.data.sources import Data
from sheer.data.tabular import further_rows, further_targets, further_weights
from sheer.data.targets import item_weights
from sheer.data.weighing import weight_name
from sheer.errors import DataError, ModelError, PlanError
from sheer.interpret.attribution import class_activation, overlay
from sheer.interpret.neighbours import Pair, duplicate_pairs
from sheer.interpret.predictions import Predictions, check_finite, prior_outputs
from sheer.loop.engine import prepared, switched
from sheer.loop.memory import Halving
from sheer.loop.step import scores_of
from sheer.loop.train import loss_of
from sheer.model.heads import AvgPool
from sheer.plan.augmentations import Function
from sheer.plan.checks import check_weighted, path_of
from sheer.plan.facts import without_data
from sheer.plan.plan import Phase, Plan
from sheer.streams import borrowed_generators
from sheer.task.metrics import Metric
from sheer.task.tasks import TASKS, Classify, Regress, Task

UNWEIGHTED = "the run's metrics are weighted, but these items were given no weights: each counts alike here."

Known = tuple[np.ndarray, np.ndarray, tuple[str, ...]]


@dataclass(frozen=True, kw_only=True)
class Averaging:
    """Test-time augmentation: (1 - `beta`) times the mean of `passes` augmented passes, plus `beta` times the plain one."""

    passes: int = 4
    beta: float = 0.25

    def __post_init__(self) -> None:
        if isinstance(self.passes, bool) or not isinstance(self.passes, int) or self.passes < 1:
            raise PlanError(f"tta with n={self.passes!r} passes: give a whole number of at least 1.")
        if isinstance(self.beta, str) or not 0 <= self.beta <= 1:
            raise PlanError(f"tta with beta={self.beta!r}: give the plain pass's share, from 0 to 1.")


@dataclass(frozen=True, kw_only=True, eq=False)
class Heat:
    """Where a class's score rests: `heat` float32 (S, S) in [0, 1] over `pixels` uint8 (S, S, 3), the picture as the network saw it.

    `name` is the class, label or number asked for, `output` its probability or value.
    """

    name: str
    output: float
    heat: np.ndarray
    pixels: np.ndarray

    def overlay(self, strength: float = 0.6) -> np.ndarray:
        """The picture with the heat over it, uint8 (S, S, 3); see `sheer.interpret.attribution.overlay`."""
        return overlay(self.pixels, self.heat, strength)


def averaged(plain: np.ndarray, augmented: list[np.ndarray], beta: float) -> np.ndarray:
    """(1 - beta) * mean of the augmented passes + beta * the plain one, over outputs, not scores (fastai 2.8, `Learner.tta`).

    >>> averaged(np.array([1.0]), [np.array([0.2]), np.array([0.6])], 0.25).tolist()
    [0.55]
    """
    return (1 - beta) * np.mean(augmented, axis=0) + beta * plain


def scores_for(outputs: np.ndarray, task: Task) -> torch.Tensor:
    """Raw scores (N, classes) for which `task.outputs` gives these outputs; probabilities of 0 and 1 are kept finite."""
    if isinstance(task, Regress):
        return task.wanted(outputs)
    tiny = float(np.finfo(np.float64).tiny)
    logs = torch.from_numpy(np.log(np.maximum(outputs, tiny)))
    return logs if isinstance(task, Classify) else logs - torch.from_numpy(np.log(np.maximum(1 - outputs, tiny)))


@dataclass(frozen=True, kw_only=True, eq=False)
class View:
    """A model as its plan left it, with the phase whose pictures it sees; each method says what it says, and changes nothing.

    `functions` are the augmentations of your own that the phase names; `tokenizer` is the text of that of a text encoder,
    `root` the folder of photographs that further rows name, where one was given.
    """

    model: nn.Module
    plan: Plan
    phase: Phase
    metrics: Mapping[str, Metric]
    functions: Mapping[str, Function]
    data: Data | None
    album: Album
    tokenizer: str = ""
    root: Any = None

    @contextlib.contextmanager
    def ready(self) -> Iterator[None]:
        """The model on the plan's device in its precision, PyTorch's switches as the plan says."""
        with switched(self.plan.numerics), prepared(self.model, self.plan.numerics):
            self.model.to(self.plan.numerics.device)
            yield

    def _items(self, part: str) -> tuple[Data, np.ndarray]:
        if self.data is None:
            raise without_data(self.plan.data)
        if part not in ("train", "valid"):
            raise DataError(f"part={part!r}: give 'train' or 'valid'.")
        if part == "valid" and len(self.data.valid) == 0:
            raise DataError("No item is held out (valid=0), so nothing can be said of items that were not learned from. Hold some out.")
        return self.data, self.data.train if part == "train" else self.data.valid

    def weights(self, data: Data, items: np.ndarray) -> np.ndarray | None:
        """What these items count in metrics, float64 (items,); None where all count alike."""
        return data.weights[items].astype(np.float64) if self.plan.weighted_metrics and data.weights is not None else None

    def feed(self, data: Data) -> Feed:
        """The data as the phase's batches."""
        numerics, target = self.plan.numerics, self.plan.data.task.made(TASKS).wanted(data.targets)
        device, pictures = torch.device(numerics.device), self.album.of(data) if data is self.data else None
        return Feed(data, target, self.phase, self.plan.seed, device, numerics.memory_format, self.album.readers, pictures, self.functions)

    def _read(self, data: Data, items: np.ndarray) -> Feed:
        """The data's feed after these items have been read; DataError where one cannot be."""
        feed = self.feed(data)
        feed.preflight(items)
        return feed

    def predictions(self, part: str, averaging: Averaging | None = None) -> Predictions:
        """The table of one part's items, in item order."""
        data, items = self._items(part)
        return self._table(self._read(data, items), items, data.targets[items], items, averaging)

    def predictions_of(self, items: np.ndarray) -> Predictions:
        """The table of the data's items with these positions, in the order given."""
        data, _ = self._items("valid")
        return self._table(self.feed(data), items, data.targets[items], items, None)

    def predict(self, paths: Sequence[str], target: np.ndarray | None, averaging: Averaging | None = None) -> Predictions:
        """The table of files, in the order given; every file gets the same draws.

        Raises:
            DataError: a file is no photograph.
        """
        feed = self.feed(self._files(paths))
        cast(Photos, feed.source).keep_bytes = 0
        return self._table(feed, np.arange(len(paths)), target, np.zeros(len(paths), dtype=np.int64), averaging)

    def predict_table(self, source: Any, tta: int = 0) -> Predictions:
        """The table of the rows of a CSV file or data frame, in order; cells that no training row had are noted.

        Raises:
            PlanError: augmented passes were asked for.
            DataError: a column is missing, or holds what it cannot.
        """
        if tta:
            raise PlanError(f"tta={tta!r} is for pictures, which can be augmented; rows of a table or texts cannot. Leave it away.")
        return self._of_rows(source, None)

    def _of_rows(self, source: Any, known: Known | None, beside: Collection[str] = ()) -> Predictions:
        """The table of the rows of a source, or of those of which `known` has targets and positions, with its notes."""
        if self.plan.data.inputs:
            learned = self.data.root if self.data else ""
            folder, paths, items, notes = further_items(self.plan.data.inputs, source, self.tokenizer, self.root, learned, beside)
            data = replace(self._unlabelled(paths, None, len(items[0].present)), root=folder, inputs=items)
        else:
            inputs, notes = further_rows(self.plan.data.columns, source, self.tokenizer, beside)
            data = self._unlabelled((), inputs, len(inputs))
        feed = self.feed(data)
        if isinstance(feed.source, Photos):
            feed.source.keep_bytes = 0
        target, rows, more = known or (None, np.arange(len(data.targets)), ())
        return replace(self._table(feed, rows, target, rows, None), notes=(*notes, *more))

    def evaluate(self, folder: Any, target: Any, weight: str | Callable[[str], float] | None, unknown: str) -> Predictions:
        """The table of a folder of class folders, or of the rows of a table, with the true targets; see `Learner.evaluate`."""
        if weight is not None:
            check_weighted(True, self.metrics, weight_name(weight))
        if self.plan.data.columns or self.plan.data.inputs:
            weight = self.plan.data.weight if weight is None and self.plan.weighted_metrics else weight
            rows = read_rows(folder)
            known = further_targets(self.plan.data, rows, target, unknown)
            counts = None if weight is None else further_weights(rows, weight, known[1])
            return replace(self._of_rows(rows, known, [*self.plan.data.target, *np.atleast_1d(target), str(weight)]), weights=counts)
        if target is not None:
            raise DataError(f"target={target!r} is a column of a table; the model was trained on pictures, and takes class folders.")
        if self.plan.data.task.name != "classify":
            raise DataError(
                f"Class folders name one class an item; the task of this run is {self.plan.data.task.name!r}. Load the run with its data: "
                "sheer.load(run, data=sheer.images(...)).validate()."
            )
        root, classes = path_of(folder, "folder"), self.plan.data.classes
        if not root.is_dir():
            raise DataError(f"There is no folder {str(folder)!r}.")
        found, left = further_files(root, classes, unknown)
        true = np.array([classes.index(label) for _, label in found], dtype=np.int64)
        table = self.predict([str(root / path) for path, _ in found], true)
        if weight is None:
            notes = (*left, *([UNWEIGHTED] if self.plan.weighted_metrics else []))
            return replace(table, notes=notes, prior=prior_outputs(self.plan.data))
        if not callable(weight):
            raise DataError(f"weight={weight!r}: photographs in folders have no columns; give a function of a photograph's path.")
        counts = item_weights(labels_by(weight, [path for path, _ in found]), weight_name(weight), np.ones(len(found), dtype=bool))
        return replace(table, weights=counts, notes=tuple(left))

    def _files(self, paths: Sequence[str]) -> Data:
        if self.plan.data.columns or self.plan.data.inputs:
            raise DataError("The model was trained on the columns of a table: give it a CSV file or a data frame.")
        if self.plan.model.channels not in (1, 3):
            raise DataError(
                f"The model takes inputs with {self.plan.model.channels} channels; photographs have three, or one (grey). "
                "Give such inputs as sheer.arrays: sheer.load(run, data=...).predictions('valid')."
            )
        return self._unlabelled(paths, None, len(paths))

    def _unlabelled(self, paths: Sequence[str], arrays: torch.Tensor | None, count: int) -> Data:
        check_root(self.plan.data.inputs, self.root)
        names = self.plan.data.classes
        shape = (count,) if self.plan.data.task.name == "classify" else (count, len(names))
        return Data(
            root="",
            paths=tuple(paths),
            arrays=arrays,
            targets=np.zeros(shape, dtype=np.int64 if len(shape) == 1 else np.float32),
            classes=names,
            train=np.arange(0),
            valid=np.arange(count),
            plan=self.plan.data,
        )

    def _table(
        self, feed: Feed, items: np.ndarray, target: np.ndarray | None, counters: np.ndarray, averaging: Averaging | None
    ) -> Predictions:
        """The table of the feed's `items`, in the order given; augmented passes draw by `counters` (items,)."""
        task, losses = self.plan.data.task.made(TASKS), None
        with self.ready():
            scores = self._scores(feed.plain(items))
            outputs = task.outputs(scores)
            if averaging is not None:
                passes = [task.outputs(self._scores(feed.augmented(items, counters, number))) for number in range(averaging.passes)]
                outputs = averaged(outputs, passes, averaging.beta)
                scores = scores_for(outputs, task)
        check_finite(outputs)
        if target is not None:
            losses = loss_of(self.phase, self.functions, self.plan.model.kind)(scores, task.wanted(target)).double().numpy()
        return Predictions(
            items=tuple(data_path(feed.data, item) for item in items.tolist()),
            classes=self.plan.data.classes,
            task=self.plan.data.task.name,
            metric_functions=self.metrics,
            outputs=outputs,
            target=target,
            prior=prior_outputs(self.plan.data, self.plan.weighted_metrics),
            losses=losses,
            weights=self.weights(feed.data, items),
        )

    def _scores(self, batches: Iterable[Batch]) -> torch.Tensor:
        return scores_of(Halving(self.model), (batch.inputs for batch in batches))

    def features(self, part: str) -> np.ndarray:
        """What the body gives the head for each item of a part, in item order; see `Learner.features`."""
        data, items = self._items(part)
        return self._features(self._read(data, items), items)

    def _features(self, feed: Feed, items: np.ndarray) -> np.ndarray:
        if self.plan.model.head is None:
            raise ModelError(f"{self.plan.model.name} is taken whole, so it has no body with features. Name a timm or torchvision model.")
        parts = [self.model.get_submodule("body")] + ([AvgPool()] if self.plan.model.kind == "map" else [])
        with self.ready():
            found = scores_of(Halving(nn.Sequential(*parts)), (batch.inputs for batch in feed.plain(items)))
        return (found.mean(1) if self.plan.model.kind == "ensemble" else found).numpy()

    def duplicates(self, threshold: float) -> list[Pair]:
        """Pairs of equal or nearly equal items, over both parts; see `Learner.duplicates`.

        Raises:
            PlanError: the threshold is not above 0 and at most 1.
        """
        if isinstance(threshold, bool) or not isinstance(threshold, int | float) or not 0 < threshold <= 1:
            raise PlanError(f"threshold={threshold!r}: give a cosine similarity above 0 and at most 1.")
        data, _ = self._items("valid")
        items = np.arange(len(data.targets))
        feed = self._read(data, items)
        features = self._features(feed, items)
        if data.inputs:
            contents = [f"item {item}" for item in items.tolist()]
        elif data.arrays is not None:
            contents = [hashlib.sha256(array.contiguous().numpy().tobytes()).hexdigest() for array in data.arrays]
        else:
            photos = cast(Photos, feed.source)
            contents = feed.contents() or [hashlib.sha256(photos.read(item).tobytes()).hexdigest() for item in items.tolist()]
        names = [data_path(data, item) for item in items.tolist()]
        return duplicate_pairs(names, data.targets, np.isin(items, data.valid), contents, features, threshold)

    def heat(self, file_or_item: str | int, class_: str | None) -> Heat:
        """Grad-CAM of one file or item for `class_`; see `Learner.grad_cam`.

        Raises:
            DataError: there is no such item or class, or it is no picture.
            ModelError: no layer of the model gives a map.
        """
        item, classes = file_or_item if isinstance(file_or_item, int) else 0, self.plan.data.classes
        data = self._items("valid")[0] if isinstance(file_or_item, int) else self._files([file_or_item])
        if not 0 <= item < len(data.targets):
            raise DataError(f"There is no item {item}: the data has items 0 to {len(data.targets) - 1}.")
        if class_ is not None and class_ not in classes:
            raise DataError(f"class_={class_!r} is not a class of the model: {', '.join(classes[:12])}.")
        if data.inputs:
            raise DataError(
                "Grad-CAM is for models of one picture; this one has several inputs. sheer.branches(learn) says what each is worth."
            )
        feed = self._read(data, np.array([item]))
        with self.ready():
            inputs = next(iter(feed.plain(np.array([item])))).inputs
            if inputs.ndim != 4 or inputs.shape[1] != len(feed.mean):
                raise DataError(f"Item {item} is no picture: the model gets it as {tuple(inputs.shape[1:])}. Grad-CAM needs (C, S, S).")
            number = classes.index(class_) if class_ is not None else int(scores_of(self.model, [inputs]).argmax())
            try:
                with borrowed_generators(inputs.device):
                    heat, scores = class_activation(self.model, inputs, torch.tensor([number], device=inputs.device))
            except ValueError as error:
                raise ModelError(f"Grad-CAM: {error}.") from error
        pixels = ((inputs[0] * feed.std + feed.mean) * 255).round().clamp(0, 255).to(torch.uint8)
        return Heat(
            name=classes[number],
            output=float(self.plan.data.task.made(TASKS).outputs(scores.cpu())[0, number]),
            heat=heat[0].cpu().numpy(),
            pixels=np.ascontiguousarray(pixels.permute(1, 2, 0).cpu().numpy()),
        )
