"""What a run folder holds already: where a fit of this very plan was left, another plan's run, or nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from safetensors.torch import load_file

from sheer.errors import PlanError, RunError
from sheer.plan.document import differences
from sheer.plan.plan import Plan
from sheer.record.checkpoint import RunState, read_checkpoint, state_of
from sheer.record.commit import newest
from sheer.record.run import CHECKPOINTS, finished_commit, is_free, other_versions, read_run


def held_state(folder: Path, plan: Plan, first: int, notes: list[str]) -> RunState | None:
    """What the folder holds of a fit that adds the phases from `first` on to `plan`; None: nothing yet, so it begins.

    A state whose `phase` is the number of phases is a finished run. Newer checkpoints that are damaged are named in `notes`.

    Raises:
        RunError: the folder holds something else, said with what differs; nothing there is ever overwritten.
    """
    kept, bad = last_checkpoint(folder)
    notes += bad
    if kept is not None and kept.first == first and not differences(kept.plan, plan):
        return kept
    held = kept.plan if kept is not None else None
    if (folder / "record.json").is_file():
        run = read_run(folder)
        if not differences(run.plan, plan):
            weights = load_file(folder / "weights.safetensors")
            return state_of(run, weights, first=first, phase=len(plan.phases), epoch=0, batch=0, stop=run.record.stop_reason, carried=None)
        if kept is None and first and not differences(run.plan, replace(plan, phases=plan.phases[:first])):
            return None
        held = held or run.plan
    elif kept is None:
        held = begun_plan(folder)
        if held is None or not differences(held, plan):
            return None
    assert held is not None
    unfinished = "an unfinished run" if kept is not None or not (folder / "record.json").is_file() else "the finished run"
    raise RunError(other_plan(folder, unfinished, held, plan))


def other_plan(folder: Path, what: str, held: Plan, plan: Plan) -> str:
    """The message for a folder that holds the run of another plan."""
    found = differences(held, plan)
    more = f" and {len(found) - 8} more" if len(found) > 8 else ""
    return (
        f"{folder} holds {what} of another plan: {'; '.join(found[:8])}{more}. Nothing was overwritten: give another folder, "
        f"or go on with what is there: sheer resume {folder}, or sheer.load({str(folder)!r}) for a finished run."
    )


def begun_plan(folder: Path) -> Plan | None:
    """The plan of a run that was begun in the folder; None for a free one.

    Raises:
        RunError: the folder is neither.
    """
    if (folder / "plan.json").is_file():
        try:
            return Plan.from_json((folder / "plan.json").read_text())
        except (PlanError, ValueError) as error:
            raise RunError(f"{folder} is damaged: {error}") from error
    if is_free(folder):
        return None
    raise RunError(f"{folder} exists and is not empty. Nothing was overwritten: give another folder.")


def last_checkpoint(folder: Path) -> tuple[RunState | None, list[str]]:
    """The state in the folder's newest whole checkpoint, or None; a sentence for each newer one that is damaged, and for other versions."""
    path, notes = newest(folder / CHECKPOINTS)
    if path is None:
        return None, notes
    if other := other_versions(read_run(path).record):
        notes.append(f"Checkpoint {path} was written with {other}: the bits of what follows may be others.")
    return read_checkpoint(path), notes


def is_done(folder: Path, plan: Plan) -> bool:
    """Whether the folder holds the finished run of this very plan."""
    done = (folder / "record.json").is_file() or finished_commit(folder) is not None
    return done and not differences(read_run(folder).plan, plan)
