"""The friendly handle: each verb appends phases to the plan and has the loop carry them out."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch

from sheer.data.cache import Cache
from sheer.data.listing import photo_paths
from sheer.data.pictures import Album
from sheer.data.sources import Data
from sheer.errors import PlanError, RunError
from sheer.export.exporting import export_bundle
from sheer.interpret.looking import Averaging, View
from sheer.interpret.predictions import Predictions
from sheer.interpret.showing import Showing
from sheer.loop.callbacks import Callback, HistoryFile, Progress, check_callbacks, position_of
from sheer.loop.feeds import check_phase, prepared_feeds, room_of
from sheer.loop.interrupts import Interrupts
from sheer.loop.probe import frozen_batch
from sheer.loop.train import train
from sheer.model.adapted import Lora
from sheer.model.branches import sample_rows
from sheer.model.build import Built
from sheer.model.cutting import Facts
from sheer.model.hashing import hashes_by_name
from sheer.model.made import AnyHead, AnyModel, Weights
from sheer.plan import recipes
from sheer.plan.augmentations import Function, functions_of
from sheer.plan.checks import path_of
from sheer.plan.defaults import Situation, resolve
from sheer.plan.facts import fixed_stages, items_of, source_of_new
from sheer.plan.plan import Phase, Plan
from sheer.plan.profiles import Choice, Profile, profile_named
from sheer.plan.rates import Rate, first_new, first_trained
from sheer.plan.recipes import Draft, Given, checked_recipe, merged, unrolled
from sheer.record.checkpoint import NOTHING, RunState, joined_reasons
from sheer.record.held import last_checkpoint
from sheer.record.history import History
from sheer.record.keeping import Checkpoints, Keeper, check_model, finish, found_state, kept_in, paused, restore
from sheer.record.own import own_module
from sheer.record.run import Record, Row, begin, check_contents, check_free, check_run_folder, contents_sha256
from sheer.task.metrics import Metric, judges


class Learner(Showing):
    """A model, data, and the plan of everything that was done to the model. Make one with `sheer.learner`.

    Attributes:
        model: The module, on the plan's device after the first fit. Assigning another one is allowed; the next fit
            then stops with an OwnershipError, since the plan is not that model's history: `with_model` gives a learner for it.
        data: What is learned from; None for a loaded run without its data.
        history: One `Row` an epoch, over all fits.
    """

    def __init__(
        self,
        *,
        built: Built,
        plan: Plan,
        data: Data | None,
        given: Given,
        out: Path | None,
        rows: Sequence[Row],
        quiet: bool,
        metrics: Mapping[str, Metric],
        cache: Cache | None,
        readers: int | None,
        checkpoints: Checkpoints,
        another: Callable[..., Learner],
    ) -> None:
        self.model, self.data, self.history, self._another = built.model, data, History(rows), another
        self._metrics, self._album, self._checkpoints = dict(metrics), Album(cache, readers), checkpoints
        self._functions: dict[str, Function] = {}
        self._tokenizer = data.tokenizer if data is not None else ""
        self._plan, self._tensors, self._inputs, self._label = plan, built.tensors, built.inputs, built.weights_label
        self._given, self._out, self._quiet = given, out and out.absolute(), quiet
        self._made_by, self._made_head, self._start = built.made_by, built.made_head, cast(dict[str, torch.Tensor] | None, None)
        self._trains_from = first_trained(plan.model)
        self._state = RunState(plan=plan, first=0, phase=len(plan.phases), rows=self.history, stop=NOTHING)
        self._state.own_module = None if built.made_by is None or isinstance(built.made_by, Mapping) else own_module(built.made_by)
        self._state.own_head = own_module(built.made_head) if built.made_head is not None else None
        self._inside, self._told, self._contents, self._paused = False, False, list[str](), cast(RunState | None, None)
        self._known, self._room = hashes_by_name(built.model), room_of(plan, data)
        items = data.arrays if data else sample_rows(plan.data.columns) if plan.data.columns else None
        pace = functools.partial(frozen_batch, plan.numerics, plan.data.train_items + plan.data.valid_items)
        self._facts = Facts(model=built.model, plan=plan.model, arrays=items, numerics=plan.numerics, inputs=plan.data.inputs, pace=pace)

    def __repr__(self) -> str:
        return f"<Learner {self._plan.model.name}: {len(self._plan.phases)} phases done, plan {self._plan.short_hash()}>"

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names, in the order of the model's scores."""
        return self._plan.data.classes

    def with_model(
        self,
        model: AnyModel,
        *,
        head: AnyHead = None,
        weights: Weights = "default",
        fusion: Choice | None = None,
        stages: str | None = None,
        lora: Lora = False,
        adapter: str | Path | None = None,
    ) -> Learner:
        """Another learner for another model: on the same data and split, with the same metrics, profile, seed and decisions that you gave.

        Groups, optimiser, stages and plan are the new model's, and nothing of this learner's history is: it is as if it had been made by
        `sheer.learner` with this model. Nothing is written until `save` or `write_to`; this learner stays as it is. Texts are read anew
        by another encoder's tokenizer.

        Of several inputs, models by name such as `{"table": MyNet}` swap these branches alone: the others start again from the weights
        that they started from here, and fusion, head and stages that you gave stay, unless they are given.

        Args:
            model, head, weights, fusion, stages, lora, adapter: As for `sheer.learner`.

        Raises:
            ModelError, WeightsError: the model, its weights or the adapter cannot be had.
            PlanError: a name is not known.
            DataError: this learner was loaded without its data.
        """
        return self._another(self, model, head, weights, fusion, stages, lora, adapter)

    def plan(self, recipe: Sequence[Draft | Phase] = ()) -> Plan:
        """The complete plan: what was done, and what `recipe` would add; phases of a plan are taken as they are. Nothing is run.

        Raises:
            PlanError: a value is not allowed for this model and data.
            ModelError: the model cannot take pictures of the planned size.
        """
        profile = profile_named(self._plan.profile)
        phases = list(self._plan.phases)
        for item in checked_recipe(recipe):
            stages, fixed = len(self._plan.model.stages), fixed_stages(self._plan.model.lora)
            for one in (item,) if isinstance(item, Phase) else unrolled(item, stages, fixed):
                phase = one if isinstance(one, Phase) else self._resolved(one, self._situation(profile, tuple(phases)))
                check_phase(phase, self._plan, self.model, self.data, self._functions, self._facts)
                phases.append(phase)
        return replace(self._plan, phases=tuple(phases))

    def _resolved(self, draft: Draft, situation: Situation) -> Phase:
        given = merged(draft.given, self._given)
        self._functions |= functions_of(given.augmentation, given.loss)
        return resolve(replace(draft, given=given), situation)

    def _situation(self, profile: Profile, before: tuple[Phase, ...]) -> Situation:
        return Situation(
            profile=profile,
            stages=self._plan.model.stages,
            tensors=self._tensors,
            inputs=self._inputs,
            train_items=self._plan.data.train_items,
            valid_items=self._plan.data.valid_items,
            train_counts=self._plan.data.train_counts,
            judged_by=judges(self._plan.metrics, self._plan.data.valid_items),
            task=self._plan.data.task.name,
            room=self._room,
            pictures=self._plan.data.pictures,
            items=items_of(self._plan.data.columns),
            body=self._plan.model.body.name if self._plan.model.body else "",
            trains_from=self._trains_from,
            fixed=fixed_stages(self._plan.model.lora),
            new_from=source_of_new(self._plan.model.lora),
            weights_from=self._label,
            prefix=self._facts,
            phases_before=before,
            branches=self._plan.model.branches,
        )

    def fine_tune(
        self, epochs: int | None = None, rate: float | None = None, *, freeze_epochs: int | None = None, callbacks: Sequence[Callback] = ()
    ) -> Learner:
        """Train the head, then everything at discriminative rates; see `sheer.recipes.fine_tune`."""
        name = self._plan.profile
        return self.run(recipes.fine_tune(epochs, rate=rate, freeze_epochs=freeze_epochs, profile=name), callbacks=callbacks)

    def fit_one_cycle(
        self, epochs: int | None = None, rate: Rate | None = None, *, decay: float | None = None, callbacks: Sequence[Callback] = ()
    ) -> Learner:
        """Train what is not frozen for one cycle; `rate` is a number, a slice, or one number a stage.

        With `decay`, `rate` is the last stage's, and each stage before has `decay` times the next one's.
        """
        return self.run(recipes.one_cycle(epochs, rate=rate, decay=decay, profile=self._plan.profile), callbacks=callbacks)

    def fit(self, epochs: int | None = None, rate: Rate | None = None, *, callbacks: Sequence[Callback] = ()) -> Learner:
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
        """From the next fit on, train the last stage only; with several inputs also the branches that start from random weights."""
        return self.freeze_to(first_new(len(self._plan.model.stages), self._plan.model.branches) - len(self._plan.model.stages))

    def unfreeze(self) -> Learner:
        """From the next fit on, train everything."""
        return self.freeze_to(0)

    def run(self, recipe: Sequence[Draft | Phase], *, callbacks: Sequence[Callback] = ()) -> Learner:
        """Append the phases of `recipe` to the plan and carry them out.

        Where the run folder, or this learner after an interrupt, holds the same plan's unfinished run, it goes on from there, to
        the same bits; where it holds the finished run, that is taken. SIGINT, SIGTERM and SIGUSR1 end a fit after its step.

        Raises:
            OwnershipError: the model's tensors are not those that the plan left; nothing was trained.
            DataError: a photograph cannot be read; nothing was trained.
            RunError: the run folder holds another plan's run, or is being written by another process.
        """
        data = self._known_data()
        check_callbacks(callbacks)
        if not checked_recipe(recipe):
            raise PlanError("The recipe has no phases, so there is nothing to train.")
        missing = [name for name in self._plan.metrics if name not in self._metrics]
        if missing:
            raise PlanError(f"The run used your own metric {missing[0]!r}: sheer.load(run, objects={{{missing[0]!r}: {missing[0]}}}).")
        plan, started = self.plan(recipe), time.perf_counter()
        with kept_in(self._out, self._checkpoints) as keeper:
            state = self._state_for(plan, keeper)
            if state.phase == len(state.plan.phases):
                print(f"{self._out} holds the finished run of this very plan: already done, nothing was trained.")
                return self._done(state)
            feeds = prepared_feeds(data, state.plan, state.phase, self._album, self._functions)
            for notice in [] if self._quiet else self._album.of(data).fresh_notices():
                print(notice)
            self._contents = check_contents(data.paths, self._contents, state.data_sha256, feeds[0].contents())
            state.data_sha256 = contents_sha256(self._contents)
            observers: list[Callback] = [] if self._quiet else [Progress()]
            if keeper and not (keeper.folder / "record.json").is_file():
                begin(keeper.folder, state.plan, data.tables(), self._start, data.root, state.rows)
                observers.append(HistoryFile(keeper.folder / "history.csv"))
            position, self._inside, self._told = position_of(state), True, False
            with Interrupts(position) as interrupts:
                stop = train(self.model, state, position, feeds, self._metrics, [*observers, *callbacks], keeper)
            seconds = time.perf_counter() - started
            if stop:
                state.stop, state.seconds = joined_reasons(state.stop, stop), state.seconds + seconds
                self._done(state)
                if keeper:
                    keeper.finish(state.kept(self.model, None, 0.0), state.stop, state.events)
                elif not self._quiet:
                    print("Nothing was written: learn.save(folder) keeps the run.")
            else:
                self._paused = paused(state, self.model, position.pause, seconds, keeper)
        where = "the fit came to its end" if stop else f"after step {state.step}; learn.resume() goes on from there"
        interrupts.leave(where, self._checkpoints.on_requeue)
        return self

    def resume(self, *, callbacks: Sequence[Callback] = ()) -> Learner:
        """Go on with the fit that was interrupted, to the same bits: in memory, or from the run folder's newest whole checkpoint.

        Raises:
            RunError: no fit was interrupted.
        """
        state = self._paused or (last_checkpoint(self._out)[0] if self._out is not None else None)
        if state is None:
            raise RunError("No fit of this learner was interrupted, so there is nothing to go on with.")
        return self.run(state.plan.phases[state.first :], callbacks=callbacks)

    def _state_for(self, plan: Plan, keeper: Keeper | None) -> RunState:
        """Where the fit that `plan` ends with stands: in the folder, in memory after an interrupt, or at its beginning."""
        first = len(self._plan.phases)
        found = found_state(plan, first, self._paused, keeper, self._quiet)
        if found is not None:
            restore(self.model, found)
            return found
        self._check_model()
        return replace(self._state, plan=plan, first=first, phase=first, rows=list(self.history), events=list(self._state.events))

    def _done(self, state: RunState) -> Learner:
        """The learner as a finished run leaves it."""
        self._state, self._plan, self._paused, self._inside = replace(state, weights={}, carried=None), state.plan, None, False
        self.history[:] = state.rows
        self._state.rows = self.history
        self._trains_from, self._known = state.plan.phases[-1].trains_from, hashes_by_name(self.model)
        return self

    def _record(self) -> Record:
        return self._state.kept(self.model, None, 0.0).record(self._state.stop)

    def _check_model(self) -> None:
        check_model(self.model, self._known, self._inside)

    def write_to(self, folder: str | Path) -> Learner:
        """From the next fit on, keep the run in `folder`: a free one, or one with this very run, which then goes on.

        Raises:
            RunError: the folder holds anything else.
        """
        out = path_of(folder, "folder")
        check_run_folder(out)
        self._out = out.absolute()
        return self

    def save(self, folder: str | Path) -> Path:
        """Write the run folder: plan, history, weights and record. Nothing is overwritten.

        Raises:
            RunError: the folder is not empty, or cannot be written.
        """
        root = path_of(folder, "folder")
        check_free(root)
        self._check_model()
        tables = self.data.tables() if self.data else {"tokenizer.json": self._tokenizer} if self._tokenizer else {}
        begin(root, self._plan, tables, self._start, self.data.root if self.data else "", self.history)
        finish(root, self._state.kept(self.model, None, 0.0), self._state.stop)
        return root

    def export(self, file: str | Path) -> Path:
        """Write the model as one file for `sheer.load_bundle`: weights, plan, classes and a probe, no code. Nothing is overwritten.

        The file is read back and its probe replayed before it gets its name.

        Raises:
            BundleError: the file exists, cannot be written, nothing was trained, or the model does not say the same when read back.
        """
        self._check_model()
        sample = None if self.data is None or self.data.arrays is None else self.data.arrays[:2]
        return export_bundle(file, self._plan, self._record(), self.model, self._made_by, self._made_head, sample, self._tokenizer)

    def predict(self, files: Any, *, tta: int = 0, root: str | Path | None = None) -> Predictions:
        """Predictions for photographs: a file, a folder (with all folders in it), or several of them.

        For a model of a table or of texts, the rows of a CSV file or of a data frame, which needs the columns that the model takes; for
        one of texts alone, a list of texts. Photographs that a column names lie below `root`; where it is not given, in the CSV file's
        folder (for a frame the current one), or where those lie that the learner has learned from, if more of them are found there.

        `tta` is a number of augmented passes to average with the plain one as `tta()` does; every file gets the same
        draws, so what is said of it does not depend on the other files.

        Raises:
            DataError: a file is missing, or is no photograph; a column is missing, or holds what it cannot.
        """
        if self._plan.data.columns or self._plan.data.inputs:
            return self._view(root).predict_table(files, tta)
        return self._view(root).predict(photo_paths(files), None, Averaging(passes=tta) if tta else None)

    def evaluate(
        self,
        folder: Any,
        *,
        target: str | Sequence[str] | None = None,
        weight: str | Callable[[str], float] | None = None,
        unknown: str = "raise",
        root: str | Path | None = None,
    ) -> Predictions:
        """Predictions for a folder of class folders, with the true classes.

        For a model of a table, of texts or of several inputs, the rows of a CSV file or of a data frame, with its columns and the true
        targets. `target` is the column of the classes, or of the labels where one column has them, by default the one learned from; numbers
        and labels with a column each are found by their names.
        `root` is as for `predict`. `weight` is what each item counts in the metrics: a column of a table (that of the run where not given,
        if the run's metrics are weighted), or a function of a photograph's path in the folder. `unknown="skip"` leaves items out whose
        class is not one of the model's, and notes how many.

        Raises:
            DataError: a class is not one of the model's, there are no photographs, or a column is missing or holds what it cannot.
            PlanError: a metric of your own does not take weights.
        """
        return self._view(root).evaluate(folder, target, weight, unknown)

    def _view(self, root: str | Path | None = None) -> View:
        phase = self._last_phase()
        if self._inside and not self._told:
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
            tokenizer=self._tokenizer,
            root=root,
        )

    def _last_phase(self) -> Phase:
        if self._paused is not None:
            return self._paused.plan.phases[self._paused.phase]
        return self._plan.phases[-1] if self._plan.phases else self.plan(recipes.constant(1, profile=self._plan.profile)).phases[-1]
