"""What a learner can show: verbs that look and leave no trace in the model, the plan, or any generator."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from torch import nn

from sheer.data.feed import Feed, data_path
from sheer.data.listing import photo_paths
from sheer.data.sources import Data
from sheer.errors import DataError, PlanError
from sheer.interpret import plots
from sheer.interpret.baselines import Baselines, baselines
from sheer.interpret.interpretation import Interpretation
from sheer.interpret.looking import Averaging, Heat, View
from sheer.interpret.neighbours import Pair
from sheer.interpret.predictions import Predictions
from sheer.interpret.shown import Pictures, Steps, mistake_pictures, pictures_of, result_pictures, schedule_steps, training_pictures
from sheer.loop.lr_find import RateSweep, check_sweep, lr_find
from sheer.loop.preview import Preview, preview
from sheer.loop.train import loss_of
from sheer.model.adapter import write_adapter
from sheer.plan import recipes
from sheer.plan.checks import path_of, whole
from sheer.plan.facts import without_data
from sheer.plan.plan import Phase, Plan
from sheer.plan.rates import Rate
from sheer.plan.recipes import Draft
from sheer.record.history import History
from sheer.streams import permutation, stream_key
from sheer.task.metrics import Metric

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Next = Sequence[Draft] | Rate | None


class Showing(ABC):
    """The part of a learner that looks. `Next` is what would be run next: a recipe, whose first phase counts, a rate for
    `fit_one_cycle` as the learner stands, or nothing for its default rate.
    """

    model: nn.Module
    data: Data | None
    history: History
    _plan: Plan
    _quiet: bool
    _metrics: dict[str, Metric]

    @abstractmethod
    def plan(self, recipe: Sequence[Draft] = ()) -> Plan: ...

    @abstractmethod
    def _check_model(self) -> None: ...

    @abstractmethod
    def _view(self) -> View: ...

    def validate(self) -> Predictions:
        """Predictions for the held-out items, with their true classes; the model and all generators stay as they are."""
        return self.predictions("valid")

    def predictions(self, part: str = "valid") -> Predictions:
        """Predictions for the items of `train` or `valid`, in item order, cut at the centre and not augmented."""
        return self._view().predictions(part)

    def tta(self, part: str = "valid", n: int = 4, beta: float = 0.25) -> Predictions:
        """Test-time augmentation: (1 - beta) times the mean of `n` augmented passes, plus beta times the plain one, in item order.

        The passes cut and augment as training does, by draws of their own stream, so they are the same each time.

        Raises:
            PlanError: `n` is below 1, or beta is no share.
        """
        return self._view().predictions(part, Averaging(passes=n, beta=beta))

    def interpret(self, part: str = "valid") -> Interpretation:
        """Predictions of `train` or `valid` made once, and what they say about mistakes and calibration."""
        return Interpretation(table=self.predictions(part))

    def preview(self, item: int = 0) -> Preview:
        """One item, then the first training batch, step by step to the loss; `print` it. Nothing is trained.

        Raises:
            DataError: naming the step that fails, and on what.
        """
        data = self._known_data()
        if not whole(item, "item", 0) < len(data.targets):
            raise DataError(f"item={item}: there are {len(data.targets)} items, from 0.")
        plan = self._plan if self._plan.phases else self.plan(recipes.constant(1, profile=self._plan.profile))
        view = self._view()
        with view.ready():
            return preview(self.model, plan, view.feed(data), loss_of(plan.phases[-1], view.functions, plan.model.kind), item)

    def features(self, part: str = "valid") -> np.ndarray:
        """What the body gives the head, maps averaged over places: float32 (items, width), in item order, no augmentation.

        Raises:
            ModelError: the model is a module of your own, which has no body.
        """
        return self._view().features(part)

    def duplicates(self, threshold: float = 0.95) -> list[Pair]:
        """Pairs of items, held out or not, with equal bytes, or with a cosine similarity of features of at least `threshold`.

        Raises:
            PlanError: the threshold is not above 0 and at most 1.
        """
        return self._view().duplicates(threshold)

    def grad_cam(self, file_or_item: str | Path | int, class_: str | None = None) -> Heat:
        """Where the score of `class_` (the highest one where not given) rests in one file, or in item number i of the data.

        Raises:
            DataError: no such file, item or class, or no picture.
            ModelError: no layer of the model gives a map.
        """
        is_item = isinstance(file_or_item, int) and not isinstance(file_or_item, bool)
        return self._view().heat(int(file_or_item) if is_item else photo_paths([file_or_item])[0], class_)  # type: ignore[arg-type]

    def save_adapter(self, file: str | Path) -> Path:
        """Write what LoRA and the head have learnt as one small .safetensors file; nothing is overwritten.

        Its metadata says which network, base weights, LoRA, head, task and classes it belongs to: `sheer.learner(data, model,
        adapter=file)` takes it for no other.

        Raises:
            ModelError: the model has no LoRA, or norm layers that it lies beside have moved.
            RunError: the file exists, or cannot be written.
        """
        self._check_model()
        return write_adapter(path_of(file, "file"), self.model, self._plan)

    def baselines(self) -> Baselines:
        """What gradient boosting and a linear model (scikit-learn's, with its defaults) make of the same table and split; `print` it.

        For texts, a linear model over the words that occur.

        Raises:
            DataError: the data is no table.
        """
        data = self._known_data()
        if not data.plan.columns:
            raise DataError(f"Baselines are fitted on tables and texts; {data.plan.source} is neither. Give a learner of such data.")
        return baselines(data, self._view().predictions("valid"), self._plan.model.name, sum(row.seconds for row in self.history))

    def lr_find(self, upcoming: Next = None, *, start: float = 1e-7, end: float = 10.0, steps: int = 100) -> RateSweep:
        """Sweep the rate profile of the next phase on a copy of the model; print the result, or `plot_lr_find(result)`.

        Args:
            upcoming: The recipe that will be run (its first phase with rates is swept, a head fitted before it), or the rate that
                would be given to `fit_one_cycle`, of which only the ratios between stages matter, such as `slice(1e-6, 1e-4)`.
            start, end: Rates of the last stage; the others keep their ratio to it.
            steps: How many training steps, at least 20.

        Raises:
            PlanError: start, end or steps cannot make a sweep.
            ModelError: the module cannot be copied.
            DataError: there is no data, or a photograph cannot be read.
        """
        check_sweep(start, end, steps)
        plan, number = self._next(upcoming)
        self._check_model()
        swept = next((place for place in range(number, len(plan.phases)) if plan.phases[place].optimizer.name != "lbfgs"), None)
        if swept is None:
            raise PlanError("What comes next fits the head, which has no rates to sweep. Give a recipe with epochs of the whole network.")
        feed = self._feed_of(plan.phases[swept])
        return lr_find(self.model, plan, swept, feed, start=start, end=end, steps=steps, quiet=self._quiet, fits=range(number, swept))

    def batch_data(self, n: int = 9, upcoming: Next = None) -> Pictures:
        """The first `n` training pictures of the next epoch as the network will see them: cut, augmented, mixed, normalisation undone.

        Raises:
            DataError: there is no data, a photograph cannot be read, or the items are no pictures.
        """
        _check_count(n)
        plan, number = self._next(upcoming)
        before = plan.phases[:number]
        epoch, step = sum(phase.epochs for phase in before), sum(phase.epochs * phase.steps_per_epoch for phase in before)
        return training_pictures(self._feed_of(plan.phases[number]), epoch, step, n)

    def show_batch(self, n: int = 9, upcoming: Next = None) -> Figure:
        """A figure of `batch_data(n)`, each picture under its class."""
        return plots.pictures(self.batch_data(n, upcoming))

    def results_data(self, n: int = 9) -> Pictures:
        """`n` held-out pictures, drawn from the stream `show_results`, with predicted and true class.

        Raises:
            DataError: there is no data, or the items are no pictures.
        """
        _check_count(n)
        data, view = self._known_data(), self._view()
        items = data.valid[permutation(stream_key(self._plan.seed, "show_results"), len(data.valid))[:n]]
        return result_pictures(view.predictions_of(items), self._plain(items))

    def show_results(self, n: int = 9) -> Figure:
        """A figure of `results_data(n)`; mistakes are red."""
        return plots.pictures(self.results_data(n))

    def top_losses_data(self, n: int = 9) -> Pictures:
        """The `n` held-out pictures with the largest losses, largest first, with predicted and true class and loss.

        Raises:
            DataError: there is no data, or the items are no pictures.
        """
        _check_count(n)
        data, worst = self._known_data(), self.interpret().top_losses(n)
        places = {data_path(data, item): item for item in data.valid.tolist()}
        images = self._plain(np.array([places[one.item] for one in worst], dtype=np.int64))
        return mistake_pictures(worst, images, self._plan.data.task.name)

    def plot_top_losses(self, n: int = 9) -> Figure:
        """A figure of `top_losses_data(n)`; mistakes are red. The table is `interpret().top_losses(n)`."""
        return plots.pictures(self.top_losses_data(n))

    def schedule_data(self, recipe: Sequence[Draft] = ()) -> Steps:
        """Rate of each group and momentum at every step that `recipe` would do; without one, of what was done."""
        phases = self.plan(recipe).phases[len(self._plan.phases) if recipe else 0 :]
        if not phases:
            raise PlanError("No phase was done yet: give the recipe to look at, such as sheer.recipes.fine_tune(3).")
        return schedule_steps(phases)

    def plot_schedule(self, recipe: Sequence[Draft] = ()) -> Figure:
        """A figure of `schedule_data(recipe)`: before training, what the rates and the momentum will be."""
        return plots.schedule(self.schedule_data(recipe))

    def plot_loss(self) -> Figure:
        """A figure of the losses in `history`."""
        if not self.history:
            raise PlanError("Nothing was trained yet, so there is no loss to plot.")
        return plots.losses(self.history)

    def plot_lr_find(self, sweep: RateSweep | None = None) -> Figure:
        """A figure of a sweep; without one, of `lr_find()`."""
        if not isinstance(sweep, RateSweep | None):
            raise PlanError(f"sweep={sweep!r}: give what lr_find() returned, or nothing for a new sweep.")
        return plots.lr_find(self.lr_find() if sweep is None else sweep)

    def plot_confusion(self, predictions: Predictions | None = None) -> Figure:
        """A figure of `predictions.confusion()`; without predictions, of the held-out items."""
        if not isinstance(predictions, Predictions | None):
            raise PlanError(
                f"predictions={predictions!r}: give what validate() or predictions() returned, or nothing for the held-out items."
            )
        return plots.confusion(self.interpret().table if predictions is None else predictions)

    def _next(self, upcoming: Next) -> tuple[Plan, int]:
        """The plan with what comes next, and the number of its first new phase."""
        number = len(self._plan.phases)
        if isinstance(upcoming, Sequence) and any(isinstance(item, Draft) for item in upcoming):
            return self.plan([item for item in upcoming if isinstance(item, Draft)]), number
        rate = [value for value in upcoming if not isinstance(value, Draft)] if isinstance(upcoming, Sequence) else upcoming
        return self.plan(recipes.one_cycle(1, rate=rate, profile=self._plan.profile)), number

    def _feed_of(self, phase: Phase) -> Feed:
        return replace(self._view(), phase=phase).feed(self._known_data())

    def _plain(self, items: np.ndarray) -> np.ndarray:
        """The items' pictures (N, H, W, channels) in [0, 1] as validation sees them."""
        feed = self._view().feed(self._known_data())
        return pictures_of(feed, feed.plain(items), len(items))[0]

    def _known_data(self) -> Data:
        if self.data is None:
            raise without_data(self._plan.data)
        return self.data


def _check_count(n: int) -> None:
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise PlanError(f"n={n!r}: give how many pictures to show, a whole number of at least 1.")
