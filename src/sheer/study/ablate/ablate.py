"""`sheer.ablate`: what each decision between two plans is worth, changed one at a time, over seeds."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from sheer.data.folders import SUFFIXES
from sheer.data.sources import Data
from sheer.data.tabular import fitted_as
from sheer.data.text import tokenised_as
from sheer.errors import DataError, PlanError, RunError
from sheer.plan.checks import path_of, whole
from sheer.plan.document import encode
from sheer.plan.plan import Plan
from sheer.record.run import write_atomically
from sheer.study.ablate.ablation import Ablation, effect_of, upto
from sheer.study.ablate.variants import Outcome, Surroundings, Variant, all_carried_out
from sheer.study.diff.decisions import NOT_ABLATED, Change, changes, taken
from sheer.study.diff.influence import RECORD, InfluenceRecord
from sheer.study.diff.towards import Compared, Side, compared
from sheer.task.metrics import LOWER_IS_BETTER


def plans_between(a: Compared, b: Compared, wanted: Sequence[str] | None) -> tuple[tuple[Change, ...], tuple[str, ...], dict[str, Plan]]:
    """The changes to measure, why others are left out, and the plans by name: a, each change alone, and each step of the waterfall."""
    found = changes(a.plan, b.plan)
    if wanted is not None:
        known = {change.decision for change in found}
        strangers = [name for name in wanted if name not in known]
        if strangers:
            raise PlanError(f"decisions={strangers[0]!r} does not differ between {a.title} and {b.title}: {', '.join(sorted(known))} do.")
        found = tuple(next(change for change in found if change.decision == name) for name in wanted)
    left_out = [
        f"Not changed: {change.decision} ({NOT_ABLATED[change.decision.partition('.')[0]]})."
        for change in found
        if change.decision.partition(".")[0] in NOT_ABLATED
    ]
    kept = tuple(change for change in found if change.decision.partition(".")[0] not in NOT_ABLATED)
    if not kept:
        raise PlanError(f"{a.title} and {b.title} do not differ in any decision that can be changed alone. {' '.join(left_out)}".strip())
    names = [change.decision for change in kept]
    plans = {a.title: taken(a.plan, b.plan, ())}
    plans |= {name: taken(a.plan, b.plan, [name]) for name in names}
    plans |= {upto(name): taken(a.plan, b.plan, names[: index + 1]) for index, name in enumerate(names)}
    return kept, tuple(left_out), plans


def ablate(
    a: Side,
    b: Side,
    *,
    data: Data,
    out: str | Path,
    seeds: int | Sequence[int] = 3,
    decisions: Sequence[str] | None = None,
    waterfall: bool = True,
    metric: str | None = None,
    processes: int = 1,
    objects: Mapping[str, Callable[..., object]] | None = None,
    quiet: bool = False,
) -> Ablation:
    """Change one decision at a time from `a` towards `b`, with several seeds, and say what each is worth, and whether that is noise.

    Every variant starts from the pretrained weights, on the same split; a seed has the same order and draws in all variants as far
    as their plans agree. A variant whose run folder is finished is not trained again; one that fails is named, and the rest goes on.

    Args:
        a: A plan, a learner, or a run folder.
        b: The same, or a profile's name: what it would do with the model and data of `a`.
        data: The plan's own.
        out: The folder of the variants' runs, and of the record that `sheer.diff` ranks by; best inside the run folder.
        seeds: How many, from 0 on, or which.
        decisions: Which, and in which order they are added up; all that differ where not given.
        waterfall: Whether to add the changes up as well, which nearly doubles the runs.
        metric: One of the plan's; its first where not given.
        processes: How many variants train at a time.
        objects: Your own functions and classes that the plans name.
        quiet: No line a variant.

    Raises:
        PlanError: nothing differs, or a value is not allowed.
        DataError: `data` is no data.
        RunError: every run of `a` failed, or the data is not the plan's.
    """
    if not isinstance(data, Data):
        raise DataError(f"data={data!r}: give what sheer.images(folder), sheer.table(...) or sheer.text(...) returns.")
    if data.plan.valid_items == 0:
        raise DataError("No item is held out (valid=0), so variants cannot be compared. Hold some out.")
    folder = path_of(out, "out")
    if folder.exists() and not folder.is_dir():
        raise PlanError(f"out={str(out)!r} is a file: name the folder of the variants' runs, which is made where it is missing.")
    _check_place(folder, data)
    if isinstance(decisions, str):
        raise PlanError(f"decisions={decisions!r}: give a list, such as [{decisions!r}].")
    left, right = compared(a, b)
    if left.plan.model.name != right.plan.model.name:
        raise PlanError(
            f"{left.title} is of {left.plan.model.name}, {right.title} of {right.plan.model.name}: decisions of one network compare."
        )
    several = isinstance(seeds, Sequence) and not isinstance(seeds, str) and len(seeds) > 0
    chosen = tuple(dict.fromkeys(whole(seed, "seed", 0) for seed in seeds)) if several else tuple(range(whole(seeds, "seeds", 1)))  # type: ignore[union-attr]
    judged = metric or left.plan.metrics[0]
    if judged not in left.plan.metrics:
        raise PlanError(f"metric={judged!r} is not one of the plan's: {', '.join(left.plan.metrics)}.")
    data = tokenised_as(fitted_as(data, left.plan.data), left.plan.data, left.tokenizer)
    kept, left_out, plans = plans_between(left, right, decisions)
    names = [name for name in plans if waterfall or not name.startswith("up to ")]
    last = upto(kept[-1].decision)
    names += [] if waterfall else [last]
    around = Surroundings(data=data, out=folder, objects={**left.objects, **right.objects, **(objects or {})}, start=left.start)
    variants = [Variant(name=name, plan=plans[name], seed=seed) for name in names for seed in chosen]
    distinct = _once(variants)
    done = all_carried_out(distinct, around, processes=processes, told=None if quiet else _told(judged))
    by_plan = {(one.variant.plan, one.variant.seed): one for one in done}
    outcomes = {
        name: tuple(replace(by_plan[plans[name], seed], variant=Variant(name=name, plan=plans[name], seed=seed)) for seed in chosen)
        for name in names
    }
    if all(one.failed for one in outcomes[left.title]):
        raise RunError(f"{left.title} itself failed, so nothing can be compared with it: {outcomes[left.title][0].failed}")
    singles = [effect_of(c.decision, outcomes[c.decision], left.title, outcomes[left.title], judged) for c in kept]
    path = [left.title, *(upto(change.decision) for change in kept)] if waterfall else []
    steps = [
        effect_of(change.decision, outcomes[after], before, outcomes[before], judged)
        for change, before, after in zip(kept, path, path[1:], strict=False)
    ]
    result = Ablation(
        a=left.title,
        b=right.title,
        metric=judged,
        items=data.plan.valid_items,
        changes=kept,
        effects=tuple(one for one in singles if one),
        steps=tuple(one for one in steps if one),
        whole=effect_of("all", outcomes[last], left.title, outcomes[left.title], judged),
        left_out=(*left_out, *_direction(judged)),
        outcomes=outcomes,
    )
    source = f"{data.plan.train_items} items of {Path(data.plan.source).name}, {left.plan.model.name.partition(':')[2]}"
    record = InfluenceRecord(format=1, influences=result.influences(source))
    write_atomically(around.out / RECORD, json.dumps(encode(record), indent=2).encode())
    return result


def _check_place(folder: Path, data: Data) -> None:
    """PlanError where runs would lie among photographs, to be taken for classes of them later."""
    inside = data.root and Path(data.root).resolve() in (folder.resolve(), *folder.resolve().parents)
    found = (path.name for pattern in ("*", "*/*") for path in folder.glob(pattern) if path.suffix.lower() in SUFFIXES)
    photo = data.root if inside else next(found, "")
    if photo:
        where = f"lies in the data's own folder, {photo}" if inside else f"holds photographs ({photo})"
        raise PlanError(f"out={str(folder)!r} {where}: runs there would be taken for a class of them. Name a folder of its own.")


def _direction(metric: str) -> tuple[str, ...]:
    return (f"Of {metric} less is better.",) if metric in LOWER_IS_BETTER else ()


def _once(variants: Sequence[Variant]) -> list[Variant]:
    """Each plan and seed once: the first step of a waterfall is a single change too."""
    kept: dict[tuple[Plan, int], Variant] = {}
    for one in variants:
        kept.setdefault((one.plan, one.seed), one)
    return list(kept.values())


def _told(metric: str) -> Callable[[Outcome, int, int], None]:
    def tell(outcome: Outcome, number: int, count: int) -> None:
        what = f"failed: {outcome.failed}" if outcome.failed else f"{metric} {outcome.metrics[metric]:.4f}, {outcome.seconds:.1f} s"
        again = ", already done" if outcome.reused else ""
        print(f"{number} of {count}  {outcome.variant.name}, seed {outcome.variant.seed}: {what}{again}", flush=True)

    return tell
