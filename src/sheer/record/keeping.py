"""How one fit is kept in its run folder: the lock, checkpoints beside the training, the end.

A finished run is committed as a checkpoint too, then its files are put in their places and the checkpoints removed; whoever
reads in between reads the committed ones. So a run that was finished stays whole until another one is.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from sheer.errors import OwnershipError, PlanError, RunError, first_line
from sheer.model.hashing import hashes_by_name
from sheer.plan.document import differences
from sheer.plan.plan import Plan
from sheer.record.checkpoint import RunState, copied
from sheer.record.commit import clean, commit, committed, damage, flush_folder, prune, remove
from sheer.record.held import held_state
from sheer.record.lock import hold
from sheer.record.run import CHECKPOINTS, FINISHED, Event, finished_commit, write_atomically

KEPT = 2
PAUSES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
"""Seconds before a checkpoint whose save failed is tried again; a newer one takes its place."""
LAST_PAUSES = PAUSES[:3]
"""The same for what nothing comes after: the state of a fit that is left, and the finished run. Both are waited for."""


@dataclass(frozen=True, kw_only=True)
class Checkpoints:
    """How often a run folder gets a checkpoint: every `minutes` and every `steps` (0: not by that), and where a phase begins.

    This is a setting of the machine, not of the plan: it changes no bit. `on_requeue` is called once when SIGUSR1 has ended a
    fit and its checkpoint is committed.

    >>> Checkpoints(steps=100)
    Checkpoints(minutes=5.0, steps=100, on_requeue=None)
    """

    minutes: float = 5.0
    steps: int = 0
    on_requeue: Callable[[], object] | None = None

    def __post_init__(self) -> None:
        for name, value, kinds in (("minutes", self.minutes, int | float), ("steps", self.steps, int)):
            if isinstance(value, bool) or not isinstance(value, kinds) or not 0 <= value < float("inf"):
                raise PlanError(f"Checkpoints({name}={value!r}): give a number of at least 0; 0 is never by {name}.")


EVERY = Checkpoints()


class Keeper:
    """Commits checkpoints of one fit. Tensors are copied on the training's thread and written on another; the last `KEPT` stay."""

    def __init__(self, folder: Path, every: Checkpoints, notes: list[str]) -> None:
        self.folder, self.every, self.notes = folder, every, notes
        self._writer: threading.Thread | None = None
        self._started = time.perf_counter()
        self._abandoned, self._newer = False, threading.Event()
        self._rest()

    def _rest(self) -> None:
        self._newer.clear()
        self._steps, self._due = 0, time.monotonic() + self.every.minutes * 60

    def look(self, model: nn.Module, state: RunState, carried: Callable[[], Any]) -> None:
        """After a step: save if a checkpoint is due. One that comes due while another is written is left to the next step."""
        self._steps += 1
        by_steps = self.every.steps and self._steps >= self.every.steps
        if self._newer.is_set() or by_steps or (self.every.minutes and time.monotonic() >= self._due):
            self.save(model, state, carried())

    def save(self, model: nn.Module, state: RunState, carried: Any) -> None:
        """Copy what the state is now, and have it written; one that is being written comes first, one that failed is given up."""
        if self._writer is not None and self._writer.is_alive():
            self._newer.set()
            return
        self._rest()
        now = state.kept(model, carried, time.perf_counter() - self._started)
        self._writer = threading.Thread(target=self._write, args=(now, state.events, PAUSES), daemon=True)
        self._writer.start()

    def commit(self, now: RunState) -> bool:
        """Wait for what is being written, then write this; whether it is committed."""
        self._let_end()
        return self._write(now, now.events, LAST_PAUSES)

    def _let_end(self) -> None:
        """Wait for what is being written; it is not tried again."""
        self._newer.set()
        if self._writer is not None:
            self._writer.join()
        self._newer.clear()

    def _write(self, now: RunState, events: list[Event], pauses: Sequence[float]) -> bool:
        """Commit a state, after each pause again; whether that came about, which is an event if it did not at once."""
        size = sum(t.nbytes for t in now.weights.values()) + sum(t.nbytes for t in tensors_in(now.carried))
        for attempt, pause in enumerate((*pauses, None), 1):
            try:
                kept = _commit(self.folder, {name: self._unless_abandoned(make) for name, make in now.files().items()})
            except Exception as error:  # whatever it is, it must not end the training: it is told, and the one before stays
                why, again = first_line(error), pause is not None and isinstance(error, OSError)
            else:
                if attempt > 1:
                    self._tell(f"The checkpoint of step {now.step} is saved, at attempt {attempt}.")
                    events.append(Event(step=now.step, kind="retried save", what=f"saved at attempt {attempt}; before: {why}"))
                self._prune(kept.parent)
                return True
            again = again and not (self._newer.is_set() or self._abandoned)
            how = f"it is tried again in {pause:g} s" if again else "the next one is tried when it is due"
            if attempt == 1 or not again:
                room = _room(self.folder, size)
                self._tell(f"The checkpoint of step {now.step} could not be saved: {why}. {room} Training goes on, and {how}.")
            if not again or self._newer.wait(pause):
                break
        events.append(Event(step=now.step, kind="failed save", what=why + (f" ({attempt} attempts)" if attempt > 1 else "")))
        return False

    def _prune(self, root: Path) -> None:
        """Remove the checkpoints that are too many; one that cannot be removed is left to the next save, for this one is whole."""
        try:
            prune(root, KEPT)
        except OSError as error:
            self._tell(f"A checkpoint that is no longer needed could not be removed: {first_line(error)}. The newest one is saved.")

    def _tell(self, what: str) -> None:
        if not self._abandoned:
            print(f"sheer: {what}", file=sys.stderr)

    def _unless_abandoned(self, make: Callable[[], bytes]) -> Callable[[], bytes]:
        def made() -> bytes:
            if self._abandoned:
                raise RunError("the fit was ended at once")
            return make()

        return made

    def finish(self, now: RunState, stop: str, events: list[Event]) -> None:
        """Wait for what is being written, then write the finished run, after each of `LAST_PAUSES` again.

        What failed is added to the events of `now`, which are written, and to `events`, those of who goes on with the run.

        Raises:
            RunError: it cannot be written; what was there stays.
        """
        self._let_end()
        for pause in (*LAST_PAUSES, None):
            try:
                finish(self.folder, now, stop)
                break
            except RunError as error:
                if pause is None:
                    raise
                why = first_line(error.__cause__ or error)
                self._tell(f"{error} It is tried again in {pause:g} s.")
                failed = Event(step=now.step, kind="failed save", what=f"the finished run: {why}")
                now.events.append(failed)
                events.append(failed)
                time.sleep(pause)

    def close(self) -> None:
        """Let what is being written come to the end of its file, no further."""
        self._abandoned = True
        self._let_end()


@contextlib.contextmanager
def kept_in(folder: Path | None, every: Checkpoints) -> Iterator[Keeper | None]:
    """The keeper of a run folder that this process alone writes; None where nothing is written.

    Raises:
        RunError: the folder cannot be made, or another process writes there.
    """
    if folder is None:
        yield None
        return
    try:
        if not folder.is_dir():
            folder.mkdir(parents=True, exist_ok=True)
            flush_folder(folder.parent)
        let_go, notes = hold(folder)
    except OSError as error:
        raise RunError(f"The run folder {folder} cannot be written: {error}. Give another one.") from error
    try:
        if (folder / CHECKPOINTS).is_symlink():
            raise RunError(f"{folder / CHECKPOINTS} is a link, which sheer never makes. Nothing was touched: give another folder.")
        keeper = Keeper(folder, every, [*notes, *clean(folder), *clean(folder / CHECKPOINTS)])
        try:
            settle(folder)
            yield keeper
        finally:
            keeper.close()
    finally:
        let_go()
        with contextlib.suppress(OSError):
            folder.rmdir()  # only where nothing was written


def finish(folder: Path, now: RunState, stop: str) -> None:
    """Write the finished run into its folder; a finished run that was there is whole until then.

    Raises:
        RunError: it cannot be written; what was there stays.
    """
    try:
        _commit(folder, now.finished_files(stop))
        settle(folder)
    except OSError as error:
        room = _room(folder, 2 * sum(tensor.nbytes for tensor in now.weights.values()))
        raise RunError(
            f"The run could not be saved in {folder}: {error}. {room} What was there stays, and the model is still in memory: save it "
            "elsewhere, or make room and resume the run."
        ) from error


def settle(folder: Path) -> None:
    """Put the files of a committed finished run in their places, and remove the checkpoints; again if that was interrupted."""
    whole = finished_commit(folder)
    if whole is not None:
        for name in FINISHED:  # record.json is the last of them
            write_atomically(folder / name, (whole / name).read_bytes())
        for path in committed(folder / CHECKPOINTS):
            remove(path)
    with contextlib.suppress(OSError):
        (folder / CHECKPOINTS).rmdir()  # only where nothing is in it


def _commit(folder: Path, files: Mapping[str, Callable[[], bytes]]) -> Path:
    root = folder / CHECKPOINTS
    number = max((int(path.name) for path in committed(root)), default=0) + 1
    path = commit(root, number, files)
    wrong = damage(path)
    if wrong:
        remove(path)
        raise OSError(f"{path} was not read back as it was written: {wrong}")
    return path


def _room(folder: Path, size: int) -> str:
    takes = f"It takes about {size / 2**20:,.1f} MiB ({size:,} bytes)"
    try:
        free = shutil.disk_usage(folder).free
    except OSError as error:
        return f"{takes}; the disk of {folder} does not say what is free ({first_line(error)})."
    return f"{takes}; the disk of {folder} has {free / 2**20:,.1f} MiB ({free:,} bytes) free."


def tensors_in(tree: Any) -> list[Any]:
    """The tensors of a tree, in its order."""
    if isinstance(tree, dict | list | tuple):
        return [tensor for value in (tree.values() if isinstance(tree, dict) else tree) for tensor in tensors_in(value)]
    return [tree] if hasattr(tree, "nbytes") else []


def restore(model: nn.Module, state: RunState) -> None:
    """Give the model the weights that are kept in `state`.

    Raises:
        RunError: the model has other tensors.
    """
    try:
        model.load_state_dict(state.weights)
    except RuntimeError as error:
        raise RunError(
            f"The model does not have the tensors of the run: {first_line(error)} Make the learner as it was made then."
        ) from error


def found_state(plan: Plan, first: int, left: RunState | None, keeper: Keeper | None, quiet: bool) -> RunState | None:
    """Where the fit that `plan` ends with was left: what the folder holds, or `left` in memory if that came further; None: nowhere.

    What is remarkable is printed: damaged checkpoints, saves and locks that were left behind.
    """
    found = held_state(keeper.folder, plan, first, keeper.notes) if keeper else None
    origin = "from a checkpoint"
    if left is not None and not differences(left.plan, plan) and (found is None or found.step < left.step):
        found, origin = replace(left, rows=list(left.rows), events=list(left.events), carried=copied(left.carried)), "from memory"
    for note in keeper.notes if keeper else ():
        print(f"sheer: {note}", file=sys.stderr)
    if found is not None and found.phase < len(found.plan.phases):
        found.events.append(Event(step=found.step, kind="resume", what=origin))
        if not quiet:
            print(f"Going on after step {found.step} of {plan.steps_before(len(plan.phases))}.")
    return found


def paused(state: RunState, model: nn.Module, why: str, seconds: float, keeper: Keeper | None) -> RunState:
    """What a fit that is left before its end goes on from, committed if it has a folder; it is said where it stands."""
    state.events.append(Event(step=state.step, kind="interrupt", what=why))
    now, steps = state.kept(model, state.carried, seconds), state.plan.steps_before(len(state.plan.phases))
    kept = keeper is not None and keeper.commit(now)
    how = f"sheer resume {keeper.folder} goes on from there" if kept and keeper else "learn.resume() goes on from there"
    print(f"sheer: {why}: the fit was left after step {now.step} of {steps}; {how}.", file=sys.stderr)
    return now


def check_model(model: nn.Module, known: Mapping[str, str], inside: bool) -> None:
    """Prove that the model's tensors have the hashes that a plan left; `inside`: a fit was begun and not ended.

    Raises:
        OwnershipError: saying which differ, and what to do.
    """
    now = hashes_by_name(model)
    changed = [name for name in {**known, **now} if known.get(name) != now.get(name)]
    if changed and inside:
        raise OwnershipError(
            f"The last fit did not come to its end, so the model is somewhere inside it: {len(changed)} tensors differ from what the "
            "plan left. learn.resume(), or the same call again, goes on with a fit that was interrupted or has a run folder; "
            "else load the run as it was saved last, or make the learner anew."
        )
    if changed:
        raise OwnershipError(
            f"The model is not the one that the plan left: {len(changed)} tensors differ ({', '.join(changed[:5])}). "
            "Training it would make the plan and the ejected script untrue. For another model take another learner, "
            "on the same data and with the same decisions: learn.with_model(your_module)."
        )
