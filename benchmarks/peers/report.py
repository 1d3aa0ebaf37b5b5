"""What the runs say: medians, spread, ratios and paired differences against fastai; as text, Markdown, JSON and a plot."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np
from benchmarks.peers.peers import PEERS, REFERENCE
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from sheer.errors import RunError
from sheer.plan.table import columns
from sheer.study.ablate.statistics import half_width, paired_p

HEADER = (
    *("peer", "accuracy", "seconds", f"seconds to {REFERENCE}'s accuracy", f"over {REFERENCE}'s seconds"),
    *(f"accuracy at {REFERENCE}'s seconds", "difference", "p items at the end", "imports", "GiB"),
)
ABOUT = (
    "Every peer fine-tunes the same network from the same file of weights, learns from the same photographs and is judged on the same "
    "held-out ones, one process at a time. Seconds start when its imports are done and include listing, decoding, building the network, "
    "training and the evaluation after every epoch; files were read once before the first peer, and no decoded picture is kept from run "
    "to run. Values are medians over seeds with the lowest and highest; a difference is the peer's accuracy when "
    f"{REFERENCE} has ended minus {REFERENCE}'s final one, paired by seed: its mean with a 95 % interval (Student's t). `p items` is a "
    "paired t test over the held-out photographs at each one's end. Imports are seconds from the start of the process; GiB is the most "
    "memory of the peer's own process, its loader's workers apart."
)
Run = dict[str, Any]


def read(file: str) -> dict[str, Any]:
    """What --json wrote.

    Raises:
        RunError: the file cannot be read or is something else.
    """
    try:
        result = json.loads(Path(file).read_text())
        if not all(key in result for key in ("data", "runs", "peers", "machine", "command")):
            raise ValueError("keys are missing")
    except (OSError, ValueError, TypeError) as error:
        raise RunError(f"{file} is not what python -m benchmarks.peers --json wrote: {error}.") from error
    return result


def reached(run: Run, accuracy: float) -> float:
    """The seconds of the first point with at least that accuracy, or inf.

    >>> reached({"curve": [(1.0, 0.5), (2.0, 0.8)]}, 0.6), reached({"curve": [(1.0, 0.5)]}, 0.6)
    (2.0, inf)
    """
    return next((seconds for seconds, value in run["curve"] if value >= accuracy), math.inf)


def accuracy_at(run: Run, seconds: float) -> float:
    """The accuracy of the last point by then, or nan.

    >>> accuracy_at({"curve": [(1.0, 0.5), (2.0, 0.8)]}, 1.5)
    0.5
    """
    return next((value for moment, value in reversed(run["curve"]) if moment <= seconds), math.nan)


def ends(run: Run) -> tuple[float, float]:
    """Seconds and accuracy of the last point."""
    return run["curve"][-1]


def finished(result: dict[str, Any], peer: str) -> dict[tuple[int, int], Run]:
    """The runs of a peer that came to their end, by seed and turn."""
    return {(run["seed"], run["turn"]): run for run in result["runs"] if run["peer"] == peer and run.get("curve")}


def to_its_accuracy(run: Run, other: Run) -> float:
    """The peer's seconds to the accuracy at which fastai ended."""
    return reached(run, ends(other)[1])


def at_its_end(run: Run, other: Run) -> float:
    """The peer's accuracy when fastai has ended."""
    return accuracy_at(run, ends(other)[0])


BESIDE: dict[str, Callable[[Run, Run], float]] = {
    "seconds_to_fastai_accuracy": to_its_accuracy,
    "seconds_ratio_to_fastai_accuracy": lambda run, other: to_its_accuracy(run, other) / ends(other)[0],
    "seconds_ratio_imports_included": lambda run, other: (
        (run["import_seconds"] + to_its_accuracy(run, other)) / (other["import_seconds"] + ends(other)[0])
    ),
    "accuracy_at_fastai_seconds": at_its_end,
}
"""What is measured of a peer's run and fastai's of the same seed and turn."""


def beside(result: dict[str, Any], peer: str, measure: Callable[[Run, Run], float]) -> list[float]:
    """For each seed that both finished, the median over turns of a measure of (the peer's run, fastai's run)."""
    ours, theirs = finished(result, peer), finished(result, REFERENCE)
    both = sorted(ours.keys() & theirs.keys())
    by_seed = {seed: [measure(ours[key], theirs[key]) for key in both if key[0] == seed] for seed, _ in both}
    return [median(values) for values in by_seed.values()]


def summary(result: dict[str, Any]) -> dict[str, Any]:
    """The summary of each peer, and at the top sheer's ratio of seconds to fastai's accuracy; null is never, or not measured.

    The median is over all seeds, those that never got there as slower than any other, so it is null where these are half of them or
    more. `reached` counts those that did, and has their own median, which says nothing of the others.
    """
    found = {peer: of_peer(result, peer) for peer in result["peers"] if finished(result, peer)}
    nothing = per_seed([])
    ratio, whole = (
        found.get("sheer", {}).get(key, nothing) for key in ("seconds_ratio_to_fastai_accuracy", "seconds_ratio_imports_included")
    )
    return {
        "summary": found,
        "seconds_ratio_to_fastai_accuracy": ratio["median"],
        "seconds_ratio_to_fastai_accuracy_per_seed": ratio["per_seed"],
        "seconds_ratio_to_fastai_accuracy_reached": ratio["reached"],
        "seconds_ratio_imports_included": whole["median"],
    }


def of_peer(result: dict[str, Any], peer: str) -> dict[str, Any]:
    """What a peer's runs say, alone and beside fastai's."""
    runs = list(finished(result, peer).values())
    known = {name: per_seed(beside(result, peer, measure)) for name, measure in BESIDE.items()}
    return {
        "accuracy": spread(ends(run)[1] for run in runs),
        "seconds": spread(ends(run)[0] for run in runs),
        **{name: spread(run[name] for run in runs) for name in ("import_seconds", "peak_memory", "worker_memory")},
        **known,
        "difference_at_fastai_seconds": paired(beside(result, peer, lambda run, other: at_its_end(run, other) - ends(other)[1])),
        "difference_at_end": paired(beside(result, peer, lambda run, other: ends(run)[1] - ends(other)[1]))
        | {"p_items": item_p(result, peer)},
    }


def spread(values: Iterable[float]) -> dict[str, float]:
    """Median, lowest and highest."""
    found = list(values)
    return {"median": median(found), "low": min(found), "high": max(found)}


def per_seed(values: Sequence[float]) -> dict[str, Any]:
    """Each seed's value and their median; what is not finite was never reached, and is null. `reached` is of the other seeds alone."""
    known = [math.inf if math.isnan(value) else value for value in values]
    middle, there = median(known) if known else math.inf, [value for value in known if math.isfinite(value)]
    reached = {"seeds": len(there), "of": len(known), "median": median(there) if there else None}
    return {"median": finite(middle), "per_seed": [finite(value) for value in known], "reached": reached}


def finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def paired(gaps: Sequence[float]) -> dict[str, Any]:
    """The mean of paired differences, half of its 95 % interval (Student's t) and p; seeds without one are left out and counted."""
    known = [gap for gap in gaps if math.isfinite(gap)]
    mean = fmean(known) if known else None
    return {"mean": mean, "half": half_width(known), "p": paired_p(known), "per_seed": known, "seeds_left_out": len(gaps) - len(known)}


def item_p(result: dict[str, Any], peer: str) -> float | None:
    """p of the paired t test over held-out items at the end of training, each item's hits averaged over the runs that both finished."""
    ours, theirs = finished(result, peer), finished(result, REFERENCE)
    both = [(ours[key]["hits"], theirs[key]["hits"]) for key in ours.keys() & theirs.keys()]
    if peer == REFERENCE or not both or any(not one or not other for one, other in both):
        return None
    gaps = [np.frombuffer(one.encode(), np.uint8).astype(float) - np.frombuffer(other.encode(), np.uint8) for one, other in both]
    return paired_p(np.mean(gaps, axis=0).tolist())


def title(result: dict[str, Any]) -> str:
    return f"{result['data']['name']}, {result['size']} px, {result['model']}"


def rows(result: dict[str, Any]) -> list[list[str]]:
    """A row a peer."""
    found = []
    for peer, numbers in result["summary"].items():
        to, ratio = numbers["seconds_to_fastai_accuracy"], numbers["seconds_ratio_to_fastai_accuracy"]
        gap, p = numbers["difference_at_fastai_seconds"], numbers["difference_at_end"]["p_items"]
        measured = bool(to["per_seed"])
        found.append(
            [
                peer,
                ranged(numbers["accuracy"], ".3f"),
                ranged(numbers["seconds"], ".1f"),
                (f"{to['median']:.1f}" if to["median"] is not None else "never") + missed(to) if measured else "",
                f"{ratio['median']:.3f}" if ratio["median"] is not None else "",
                f"{numbers['accuracy_at_fastai_seconds']['median']:.3f}"
                if numbers["accuracy_at_fastai_seconds"]["median"] is not None
                else "",
                difference(gap) if peer != REFERENCE else "",
                "" if p is None else f"{p:.2g}",
                f"{numbers['import_seconds']['median']:.1f}",
                f"{numbers['peak_memory']['median'] / 2**30:.2f}",
            ]
        )
    return found


def ranged(values: dict[str, float], form: str) -> str:
    if values["low"] == values["high"]:
        return f"{values['median']:{form}}"
    return f"{values['median']:{form}} ({values['low']:{form}} to {values['high']:{form}})"


def missed(values: dict[str, Any]) -> str:
    """How many seeds never got there, where some did."""
    count, of = values["per_seed"].count(None), len(values["per_seed"])
    return f" ({count} of {of} seeds never)" if 0 < count < of else ""


def difference(gap: dict[str, Any]) -> str:
    if gap["mean"] is None:
        return ""
    left = f" ({gap['seeds_left_out']} seeds had none by then)" if gap["seeds_left_out"] else ""
    return f"{gap['mean']:+.3f}" + ("" if gap["half"] is None else f" ± {gap['half']:.3f}") + left


def notes(result: dict[str, Any]) -> list[str]:
    """Sentences below a table."""
    said = [f"{peer} was skipped: {reason}." for peer, reason in result["skipped"].items()]
    said += [f"{run['peer']}, seed {run['seed']}, failed: {run['failed']}." for run in result["runs"] if "failed" in run]
    ratios = result["seconds_ratio_to_fastai_accuracy_per_seed"]
    if ratios:
        each = ", ".join("never" if ratio is None else f"{ratio:.3f}" for ratio in ratios)
        whole, with_imports = result["seconds_ratio_to_fastai_accuracy"], result["seconds_ratio_imports_included"]
        said.append(
            f"sheer's seconds to {REFERENCE}'s final accuracy over {REFERENCE}'s seconds: "
            + (never(ratios) if whole is None else f"{whole:.3f}")
            + f" (seed by seed: {each})"
            + (f"; imports included {with_imports:.3f}." if with_imports is not None else ".")
        )
    else:
        said.append(f"Nothing is compared with {REFERENCE}: it or sheer did not run.")
    return said


def never(ratios: Sequence[float | None]) -> str:
    """What there is to say without a median: how many seeds got there, and how fast these were.

    >>> never([None, 0.25, None])
    'no median, for 1 of 3 seeds got there, in 0.250 of its seconds; of the others this says nothing'
    """
    there = [ratio for ratio in ratios if ratio is not None]
    if not there:
        return f"never, with none of {len(ratios)} seeds"
    middle = f"in {median(there):.3f} of its seconds" if len(there) == 1 else f"these in {median(there):.3f} of its seconds (median)"
    return f"no median, for {len(there)} of {len(ratios)} seeds got there, {middle}; of the others this says nothing"


def about(result: dict[str, Any]) -> str:
    """Data, training and machine in a sentence each."""
    data, where = result["data"], result["machine"]
    versions = ", ".join(f"{name} {where[name]}" for name in ("torch", "timm", "fastai", "sheer") if name in where)
    gpu = "" if where["gpu"] == "none" else f", {where['gpu']}"
    return (
        f"{data['train_items']:,} photographs to learn from, {data['valid_items']:,} others ({data['split']}), {data['classes']} classes; "
        f"weights: {result['weights']}; 1 + {result['epochs']} epochs, {result['seeds']} seeds. "
        f"{where['cores']} cores of {where['cpu']}{gpu}, {where['threads']} threads, Python {where['python']}, {versions}."
    )


def text(result: dict[str, Any]) -> str:
    """The table for a terminal."""
    table = columns(HEADER, rows(result), right=tuple(range(1, len(HEADER))))
    return "\n".join([title(result), about(result), "", table, "", *notes(result)])


def pooled(results: Sequence[dict[str, Any]], peer: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The difference at fastai's seconds over all sets: each set and seed a pair, and each set (its mean over seeds) a pair."""
    found = [result["summary"][peer]["difference_at_fastai_seconds"]["per_seed"] for result in results if peer in result["summary"]]
    found = [gaps for gaps in found if gaps]
    return paired([gap for gaps in found for gap in gaps]), paired([fmean(gaps) for gaps in found])


def pooled_rows(results: Sequence[dict[str, Any]]) -> list[list[str]]:
    found = []
    for peer in dict.fromkeys(name for result in results for name in result["summary"] if name != REFERENCE):
        by_seed, by_set = pooled(results, peer)
        if by_seed["mean"] is not None:
            numbers = [
                result["summary"][peer]["seconds_ratio_to_fastai_accuracy"]["median"] for result in results if peer in result["summary"]
            ]
            ratios = ", ".join("never" if one is None else f"{one:.3f}" for one in numbers)
            found.append([peer, str(len(by_set["per_seed"])), difference(by_seed), difference(by_set), ratios])
    return found


POOLED = ("peer", "sets", "difference, each set and seed a pair", "difference, each set a pair", f"over {REFERENCE}'s seconds, set by set")


def pooled_text(results: Sequence[dict[str, Any]]) -> str:
    return f"All sets together, accuracy at {REFERENCE}'s seconds\n" + columns(POOLED, pooled_rows(results), right=(1, 2, 3))


def markdown(header: Sequence[str], body: Sequence[Sequence[str]]) -> list[str]:
    return ["| " + " | ".join(row) + " |" for row in (header, ["---"] * len(header), *body)]


def page(results: Sequence[dict[str, Any]], command: str) -> str:
    """docs/performance.md."""
    lines = [
        "# Performance: peers side by side",
        "",
        f"Written by `{command}` from what the commands below measured.",
        "",
        ABOUT,
        "",
        *(f"- `{name}`: {peer.about}." for name, peer in PEERS.items() if any(name in result["summary"] for result in results)),
    ]
    for result in results:
        lines += ["", f"## {title(result)}", "", f"`{result['command']}`", "", about(result), "", *markdown(HEADER, rows(result)), ""]
        lines += [f"- {note}" for note in notes(result)]
    if len(results) > 1:
        lines += ["", f"## All sets together, accuracy at {REFERENCE}'s seconds", "", *markdown(POOLED, pooled_rows(results))]
    return "\n".join(lines) + "\n"


def plot(results: Sequence[dict[str, Any]]) -> Figure:
    """Accuracy against seconds (logarithmic), a panel a set, a line a seed, a colour a peer."""
    figure = Figure(figsize=(7.0, 4.2 * len(results)), layout="constrained")
    panels = figure.subplots(len(results), squeeze=False)[:, 0]
    for panel, result in zip(panels, results, strict=True):
        for number, peer in enumerate(PEERS):
            for index, run in enumerate(finished(result, peer).values()):
                seconds, accuracies = zip(*run["curve"], strict=True)
                panel.plot(
                    seconds, accuracies, "o-", color=f"C{number}", markersize=4, linewidth=1.2, alpha=0.8, label=peer if not index else None
                )
        panel.set(xscale="log", xlabel="seconds, evaluation included", ylabel="accuracy on held-out photographs", title=title(result))
        panel.xaxis.set(major_locator=LogLocator(subs=(1, 2, 5)), major_formatter="{x:g}", minor_formatter="")
        panel.legend(frameon=False)
        panel.grid(alpha=0.3)
    return figure
