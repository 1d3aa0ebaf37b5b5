"""The text of `sheer report`: what a finished run says of the items it was not trained on."""

from __future__ import annotations

import math
from pathlib import Path

from sheer.data.again import data_as_before
from sheer.data.folders import listing_hash, photo_files
from sheer.errors import DataError, plural
from sheer.interpret.interpretation import Interpretation
from sheer.loading import load
from sheer.plan.facts import data_words
from sheer.plan.table import columns
from sheer.record.again import data_again, listed_again
from sheer.record.history import told
from sheer.record.own import uses_own
from sheer.record.run import read_run
from sheer.task.metrics import why_undefined, wilson_interval


def report(run: str, data: str | None, device: str | None, target: str | None = None, root: str | None = None) -> str:
    """The last epoch as recorded; with the items metrics, classes, confusions, worst items and calibration.

    Rows that the run folder itself holds (of a table or of texts) are judged without `data`, unless something of the run is your own.
    Where `data` is the very folder that was learned from, the items that the plan held out are judged; any other class folders, or the
    rows of a CSV file whose true classes are in the column `target`, are judged whole; their photographs lie below `root`.
    """
    plan = read_run(run).plan
    rows = bool(plan.data.columns or plan.data.inputs)
    held = rows and plan.data.pictures == "none" and plan.data.valid_items and plan.phases and not uses_own(plan)
    if data is None and not held:
        return _recorded(run)
    learn = load(run, device=device)
    if data is None:
        learn.data = data_again(Path(run).expanduser(), plan)
        head, table = f"{_recorded(run)}\n\nThe {plan.data.valid_items} rows that the plan held out", learn.validate()
        return f"{head}\n\n{Interpretation(table=table).report()}"
    if rows:
        where = Path(data).expanduser()
        if where.is_dir():
            learn.data = data_again(Path(run).expanduser(), plan, where)
            head, table = f"The {plan.data.valid_items} items of {data} that the plan held out", learn.validate()
        else:
            head, table = f"All rows of {data}", learn.evaluate(data, target=target, root=root)
        return f"{head}\n\n{Interpretation(table=table).report()}"
    if plan.data.task.name != "classify":
        raise DataError("sheer report --data is for class folders; for other tasks: sheer.load(run, data=...).interpret().report().")
    was, items = plan.data, Path(run).expanduser() / "items.csv"
    listed = items.is_file() and was.source.startswith("folder ")
    again = listed_again(Path(data).expanduser(), items, plan) if listed else data_as_before(data, plan)
    known = again is not None and (again.plan.targets_sha256, again.plan.held_out_sha256) == (was.targets_sha256, was.held_out_sha256)
    if not known and _same_files(data, was.listing_sha256):
        raise DataError(
            f"{data} holds the very files of the run, which had other labels or another split than class folders have. Build the data as "
            "it was then: sheer.load(run, data=sheer.images(...)).interpret().report()."
        )
    if again is None:
        head = f"All labelled photographs of {data} (not the folder that the run learned from)"
        table = learn.evaluate(data)
    else:
        learn.data = again
        head, table = f"The {len(again.valid)} items of {data} that the plan held out", learn.validate()
    return f"{head}\n\n{Interpretation(table=table).report()}"


def _same_files(folder: str, listing_sha256: str) -> bool:
    """Whether the files of class folders, wherever they lie, are those of the listing."""
    root = Path(folder).expanduser()
    return root.is_dir() and listing_hash(str(root), [path for path, _ in photo_files(str(root))]) == listing_sha256


def _recorded(run: str) -> str:
    kept = read_run(run)
    data = kept.plan.data
    held = data.valid_items
    if not kept.rows:
        return f"{run} was never trained, so it has no epochs to report. Its plan: sheer.load({run!r}).plan()."
    last = kept.rows[-1]
    rows = [["train_loss", f"{last.train_loss:.4f}", ""], ["valid_loss", f"{last.valid_loss:.4f}", ""]]
    for name, value in last.metrics.items():
        alike = name == "accuracy" and not kept.plan.weighted_metrics
        says = "95 % interval {:.4f} to {:.4f}".format(*wilson_interval(round(value * held), held)) if alike else ""
        says = "weighted" if kept.plan.weighted_metrics else says
        rows.append([name, f"{value:.4f}", f"not defined here: {why_undefined(name, held)}" if math.isnan(value) else says])
    table = columns((f"epoch {last.epoch}", "value", f"of {held} held-out items"), rows, right=(1,))
    head = f"{run}: {kept.record.stop_reason}, {plural(len(kept.rows), 'epoch')}"
    events = "".join(f"\n{line}" for line in told(kept.record.events))
    if data.pictures == "none" and (data.columns or data.inputs):
        return f"{head}\n{table}{events}"
    given = data.inputs or (data.task.name == "classify" and data.source.startswith("folder "))
    more = f"sheer report {run} --data FOLDER" if given else f"sheer.load({run!r}, data={data_words(data)}).interpret().report()"
    return f"{head}\n{table}{events}\nEverything else needs the items: {more}"
