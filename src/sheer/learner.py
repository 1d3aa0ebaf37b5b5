"""The friendly handle: each verb appends phases to the plan and has the loop carry them out."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from sheer.data.augmentations import augmentations_of, mix_of
from sheer.data.cache import Cache
from sheer.data.listing import photo_paths
from sheer.data.pictures import Album
from sheer.data.sources import Data
from sheer.errors import DataError, OwnershipError, PlanError
from sheer.export.exporting import export_bundle
from sheer.interpret.interpretation import Interpretation
from sheer.interpret.looking import Averaging, Heat, View
from sheer.interpret.neighbours import Pair
from sheer.interpret.predictions import Predictions
from sheer.interpret.showing import Showing
from sheer.loop.callbacks import Callback, HistoryFile, Progress, check_callbacks
from sheer.loop.preview import Preview, preview
from sheer.loop.train import NOTHING, READERS, check_optimizer, joined_reasons, loss_of, prepared_feeds, train
from sheer.model.build import check_inputs
from sheer.model.hashing import hashes_by_name
from sheer.model.surgery import sample_inputs
from sheer.plan import recipes
from sheer.plan.augmentations import Function, functions_of
from sheer.plan.checks import path_of, whole
from sheer.plan.defaults import Situation, resolve
from sheer.plan.facts import InputFacts, TensorFact
from sheer.plan.plan import Phase, Plan
from sheer.plan.profiles import Profile, profile_named
from sheer.plan.rates import Rate
from sheer.plan.recipes import Draft, Given, checked_recipe, merged, unrolled
from sheer.record.history import History
from sheer.record.own import HeadMaker, Source, own_module
from sheer.record.run import Event, Record, Row, begin, check_contents, check_free, contents_sha256, finish, make_record
from sheer.task.metrics import LOWER_IS_BETTER, Metric


class Learner(Showing):
    """A model, data, and the plan of everything that was done to the model. Make one with `sheer.learner`.

    Attributes:
        model: The module, on the plan's device after the first fit. Assigning another one is allowed;
            the next fit then stops with an OwnershipError, since the plan is not that model's history.
        data: What is learned from; None for a loaded run without its data.
        history: One `Row` an epoch, over all fits.
    """

    def __init__(
        self,
        *,
        model: nn.Module,
        plan: Plan,
        tensors: tuple[TensorFact, ...],
        inputs: InputFacts,
        weights_label: str,
        data: Data | None,
        given: Given,
        made_by: Source | None,
        made_head: HeadMaker | None,
        out: Path | None,
        rows: Sequence[Row],
        quiet: bool,
        metrics: Mapping[str, Metric],
        cache: Cache | None,
    ) -> None:
        self.model, self.data, self.history = model, data, History(rows)
        self._metrics, self._album = dict(metrics), Album(cache, READERS)
        self._functions: dict[str, Function] = {}
        self._plan, self._tensors, self._inputs, self._label = plan, tensors, inputs, weights_label
        self._start: dict[str, torch.Tensor] | None = None
        self._given, self._made_by, self._made_head, self._out, self._quiet = given, made_by, made_head, out, quiet
        self._trains_from = len(plan.model.stages) - 1 if plan.model.head else 0
        self._seconds, self._data_sha256, self._stop, self._events = 0.0, "", NOTHING, list[Event]()
        self._interrupted, self._told, self._contents = False, False, list[str]()
        self._known = hashes_by_name(model)

    def __repr__(self) -> str:
        return f"<Learner {self._plan.model.name}: {len(self._plan.phases)} phases done, plan {self._plan.short_hash()}>"

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names, in the order of the model's scores."""
        return self._plan.data.classes

    def plan(self, recipe: Sequence[Draft | Phase] = ()) -> Plan:
        """The complete plan: what was done, and what `recipe` would add; phases of a plan are taken as they are. Nothing is run.

        Raises:
            PlanError: a value is not allowed for this model and data.
            ModelError: the model cannot take pictures of the planned size.
        """
        profile = profile_named(self._plan.profile)
        phases = list(self._plan.phases)
        for item in checked_recipe(recipe):
            for one in (item,) if isinstance(item, Phase) else unrolled(item, len(self._plan.model.stages)):
                phase = one if isinstance(one, Phase) else self._resolved(one, self._situation(profile, tuple(phases)))
                self._check(phase)
                phases.append(phase)
        return replace(self._plan, phases=tuple(phases))

    def _resolved(self, draft: Draft, situation: Situation) -> Phase:
        given = merged(draft.given, self._given)
        self._functions |= functions_of(given.augmentation)
        return resolve(replace(draft, given=given), situation)

    def _situation(self, profile: Profile, before: tuple[Phase, ...]) -> Situation:
        return Situation(
            profile=profile,
            stages=self._plan.model.stages,
            tensors=self._tensors,
            inputs=self._inputs,
            train_items=self._plan.data.train_items,
            train_counts=self._plan.data.train_counts,
            judged_by={name: "min" if name in LOWER_IS_BETTER else "max" for name in ("train_loss", "valid_loss", *self._plan.metrics)},
            task=self._plan.data.task.name,
            device=self._plan.numerics.device,
            pictures=self._plan.data.pictures,
            trains_from=self._trains_from,
            weights_from=self._label,
            phases_before=before,
        )

    def _check(self, phase: Phase) -> None:
        if phase.steps_per_epoch < 1:
            raise PlanError(f"{self._plan.data.train_items} items make no batch of {phase.batch_size}: give a smaller batch size.")
        augmentations_of(phase, self._functions, channels=self._plan.model.channels or 3)
        mix_of(phase)
        check_optimizer(phase)
        arrays = self.data.arrays if self.data is not None else None
        if arrays is not None and arrays.dtype == torch.uint8 and phase.size != arrays.shape[-1]:
            raise PlanError(f"size={phase.size}: pictures in memory keep their {arrays.shape[-1]} px; other sizes are for photographs.")
        sample = sample_inputs(arrays, phase.size, self._plan.model.channels or 3)
        check_inputs(self.model, self._plan.model, sample, len(self.classes))

    def fine_tune(
        self, epochs: int, rate: float | None = None, *, freeze_epochs: int | None = None, callbacks: Sequence[Callback] = ()
    ) -> Learner:
        """Train the head, then everything at discriminative rates; see `sheer.recipes.fine_tune`."""
        name = self._plan.profile
        return self.run(recipes.fine_tune(epochs, rate=rate, freeze_epochs=freeze_epochs, profile=name), callbacks=callbacks)

    def fit_one_cycle(
        self, epochs: int, rate: Rate | None = None, *, decay: float | None = None, callbacks: Sequence[Callback] = ()
    ) -> Learner:
        """Train what is not frozen for one cycle; `rate` is a number, a slice, or one number a stage.

        With `decay`, `rate` is the last stage's, and each stage before has `decay` times the next one's.
        """
        return self.run(recipes.one_cycle(epochs, rate=rate, decay=decay, profile=self._plan.profile), callbacks=callbacks)

    def fit(self, epochs: int, rate: Rate | None = None, *, callbacks: Sequence[Callback] = ()) -> Learner:
        """Train what is not frozen at a constant rate."""
        return self.run(recipes.constant(epochs, rate=rate, profile=self._plan.profile), callbacks=callbacks)

    def freeze_to(self, stage: int) -> Learner:
        """From the next fit on, freeze the stages before number `stage`; negative numbers count from the end."""
        count = len(self._plan.model.stages)
        if count == 1 and stage == -1:
            raise PlanError("The model has one stage, so freezing it would leave nothing to train. Only models with a head can be frozen.")
        if isinstance(stage, bool) or not isinstance(stage, int) or not -count <= stage < count:
            raise PlanError(f"freeze_to({stage!r}): the model has {count} stages, so give {-count} to {count - 1}.")
        self._trains_from = stage % count
        return self

    def freeze(self) -> Learner:
        """From the next fit on, train the last stage only."""
        return self.freeze_to(-1)

    def unfreeze(self) -> Learner:
        """From the next fit on, train everything."""
        return self.freeze_to(0)

    def run(self, recipe: Sequence[Draft | Phase], *, callbacks: Sequence[Callback] = ()) -> Learner:
        """Append the phases of `recipe` to the plan and carry them out.

        Raises:
            OwnershipError: the model's tensors are not those that the plan left; nothing was trained.
            DataError: a photograph cannot be read; nothing was trained.
        """
        data = self._known_data()
        check_callbacks(callbacks)
        if not checked_recipe(recipe):
            raise PlanError("The recipe has no phases, so there is nothing to train.")
        missing = [name for name in self._plan.metrics if name not in self._metrics]
        if missing:
            raise PlanError(f"The run used your own metric {missing[0]!r}: sheer.load(run, objects={{{missing[0]!r}: {missing[0]}}}).")
        self._check_model()
        plan, first = self.plan(recipe), len(self._plan.phases)
        if self._out is not None and not self.history:
            check_free(self._out)
        started = time.perf_counter()
        feeds = prepared_feeds(data, plan, first, self._album, self._functions)
        contents = check_contents(data.paths, self._contents, self._data_sha256, feeds[0].contents())
        for notice in [] if self._quiet else self._album.of(data).fresh_notices():
            print(notice)
        if self._out is not None and not self.history:
            begin(self._out, plan, data.tables(), self._start)
        observers: list[Callback] = [] if self._quiet else [Progress()]
        if self._out is not None and not self.history:
            observers.append(HistoryFile(self._out / "history.csv"))
        self._interrupted, self._told, events = True, False, list[Event]()
        rows, stop = train(self.model, plan, first, feeds, self._metrics, [*observers, *callbacks], events)
        self._seconds += time.perf_counter() - started
        self._data_sha256, self._contents, self._plan, self._interrupted = contents_sha256(contents), contents, plan, False
        self._stop, self._events = joined_reasons(self._stop, stop), [*self._events, *events]
        self._trains_from = plan.phases[-1].trains_from
        self.history += rows
        self._known = hashes_by_name(self.model)
        if self._out is not None:
            self._write(self._out)
        elif not self._quiet:
            print("Nothing was written: learn.save(folder) keeps the run.")
        return self

    def _check_model(self) -> None:
        now = hashes_by_name(self.model)
        changed = [name for name in {**self._known, **now} if self._known.get(name) != now.get(name)]
        if changed and self._interrupted:
            raise OwnershipError(
                f"The last fit did not come to its end, so the model is somewhere inside it: {len(changed)} tensors differ from what the "
                "plan left. Nothing was saved of it; load the run as it was saved last, or make the learner anew."
            )
        if changed:
            raise OwnershipError(
                f"The model is not the one that the plan left: {len(changed)} tensors differ ({', '.join(changed[:5])}). "
                "Training it would make the plan and the ejected script untrue. For another model make another learner: "
                "sheer.learner(data, your_module)."
            )

    def _record(self) -> Record:
        own = own_module(self._made_by) if self._made_by is not None else None
        own_head = own_module(self._made_head) if self._made_head is not None else None
        return make_record(
            plan=self._plan,
            rows=self.history,
            events=self._events,
            model=self.model,
            data_sha256=self._data_sha256,
            stop_reason=self._stop,
            seconds=self._seconds,
            own_module=own,
            own_head=own_head,
        )

    def write_to(self, folder: str | Path) -> Learner:
        """From the next fit on, keep the run in `folder`, which must be free.

        Raises:
            RunError: the folder is not empty.
        """
        out = path_of(folder, "folder")
        check_free(out)
        self._out = out
        return self

    def save(self, folder: str | Path) -> Path:
        """Write the run folder: plan, history, weights and record. Nothing is overwritten.

        Raises:
            RunError: the folder is not empty, or cannot be written.
        """
        root = path_of(folder, "folder")
        check_free(root)
        self._check_model()
        begin(root, self._plan, self.data.tables() if self.data else {}, self._start)
        self._write(root)
        return root

    def export(self, file: str | Path) -> Path:
        """Write the model as one file for `sheer.load_bundle`: weights, plan, classes and a probe, no code. Nothing is overwritten.

        The file is read back and its probe replayed before it gets its name.

        Raises:
            BundleError: the file exists, cannot be written, nothing was trained, or the model does not say the same when read back.
        """
        self._check_model()
        sample = None if self.data is None or self.data.arrays is None else self.data.arrays[:2]
        return export_bundle(file, self._plan, self._record(), self.model, self._made_by, self._made_head, sample)

    def _write(self, root: Path) -> None:
        finish(root, self._plan, self.history, self.model, self._record())

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
            return preview(self.model, plan, view.feed(data), loss_of(plan.phases[-1]), item)

    def predict(self, files: str | Path | Sequence[str | Path], *, tta: int = 0) -> Predictions:
        """Predictions for photographs: a file, a folder (with all folders in it), or several of them.

        `tta` is a number of augmented passes to average with the plain one as `tta()` does; every file gets the same
        draws, so what is said of it does not depend on the other files.

        Raises:
            DataError: a file is missing, or is no photograph.
        """
        return self._view().predict(photo_paths(files), None, Averaging(passes=tta) if tta else None)

    def evaluate(self, folder: str | Path) -> Predictions:
        """Predictions for a folder of class folders, with the true classes.

        Raises:
            DataError: a class folder is not one of the model's classes, or there are no photographs.
        """
        return self._view().evaluate(folder)

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

    def _view(self) -> View:
        phase = self._last_phase()
        if self._interrupted and not self._told:
            print("Note: the last fit did not come to its end; what is said now is of the model somewhere inside it.")
            self._told = True
        return View(
            model=self.model,
            plan=self._plan,
            phase=phase,
            metrics=self._metrics,
            functions=self._functions,
            data=self.data,
            album=self._album,
        )

    def _last_phase(self) -> Phase:
        if self._plan.phases:
            return self._plan.phases[-1]
        return self.plan(recipes.constant(1, profile=self._plan.profile)).phases[-1]
