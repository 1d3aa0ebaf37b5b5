"""The phases of a plan in words: what trains, at which rate at each step, what the norm policy means, what is carried over."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sheer.errors import plural
from sheer.plan.plan import Group, Plan
from sheer.plan.table import branches_run_once, put_aside
from sheer.study.explain.rates import decay_words, no_decay_words, optimizer_words, rates_words, schedule_words, steps_of_phase
from sheer.study.explain.words import MEANS, Rows, listed, number

PhaseWords = Callable[[Plan, int], str]

NORM = {
    "train": "scale and shift train, a batch's own statistics are used, the running statistics move",
    "adapt": "scale and shift are fixed, yet a batch's own statistics are used and the running statistics move",
    "frozen": "scale and shift are fixed, the running statistics are used and stand still",
}


def _trains_from(plan: Plan, number_: int) -> str:
    phase, names = plan.phases[number_], [stage.name for stage in plan.model.stages]
    trained = [group for group in phase.groups if group.trains]
    frozen = names[: phase.trains_from]
    if not frozen:
        return f"Every stage trains, from number {phase.trains_from} ({listed(names)}): {_amount(trained)}."
    inside = [group for group in trained if group.stage in frozen]
    but = (
        f"Yet {_amount(inside)} of them train: scale and shift of norm layers, which the norm policy `train` leaves on. "
        "Frozen is not frozen there."
        if inside
        else "None of their tensors trains; their bytes are compared before and after the phase."
    )
    return f"Stages before number {phase.trains_from} are frozen: {listed(frozen)}. {but} In all {_amount(trained)} train."


def _amount(groups: Sequence[Group]) -> str:
    return f"{sum(group.tensors for group in groups):,} tensors with {sum(group.values for group in groups):,} values"


def _prefix(plan: Plan, number_: int) -> str:
    phase = plan.phases[number_]
    part = phase.prefix.options()
    if phase.prefix.name != "cached":
        return "The whole network runs at every step."
    plain = "each item, cut at the centre and not augmented," if phase.size else "each item, once,"
    views = f"{part['views']} drawn views of each item, taken in turn," if part["views"] else plain
    inside, names = branches_run_once(phase), listed([str(name) for name in part["modules"]]) if isinstance(part["modules"], tuple) else ""
    before = f"What of {listed(inside)} comes before its first tensor" if inside else "What comes before the first tensor"
    folded = ", its norm layers folded into its convolutions" if part["fold"] else ""
    return (
        f"{before} that trains ({names}) runs once: {views} in batches of {part['batch_size']}, without "
        f"gradients{folded}. What it gives is kept, and every epoch reads it."
    )


def _norm(plan: Plan, number_: int) -> str:
    phase = plan.phases[number_]
    by_policy: dict[str, list[str]] = {}
    for stage, policy in zip(plan.model.stages, phase.norm, strict=False):
        by_policy.setdefault(policy, []).append(stage.name)
    said = "; ".join(f"{', '.join(names)}: `{policy}`, {NORM.get(policy, policy)}" for policy, names in by_policy.items())
    moved = [name for policy, names in by_policy.items() for name in names if policy != "frozen"]
    still = [stage.name for stage in plan.model.stages[: phase.trains_from] if stage.name in moved]
    extra = f" So the frozen stages {listed(still)} are not what they were afterwards." if still else ""
    return (
        f"Norm layers, chosen by their type and never by their name: {said}.{extra} Layers without running "
        "statistics (LayerNorm, GroupNorm) know the first switch only."
    )


def _size(plan: Plan, number_: int) -> str:
    phase, model = plan.phases[number_], plan.model
    if not phase.size:
        return "The inputs are no pictures, so they have no size (0)."
    text = f"Pictures are {phase.size} x {phase.size} px."
    if model.kind != "map":
        return text
    cells = -(-phase.size // max(model.stride, 1))
    text += f" Over a stride of {model.stride} the last map is about {cells} x {cells}."
    if cells == 1 and model.head is not None and model.head.name == "concat_pool":
        text += " Of one cell maximum and average are the same, so half of the head's inputs repeat the other half: "
        text += f"try {2 * model.stride} px or more."
    return text


def _resize(plan: Plan, number_: int) -> str:
    phase = plan.phases[number_]
    options = phase.resize.options()
    with_ = f"by the filter {options.get('interpolation')}"
    if phase.resize.name == "crop":
        fraction = number(options.get("fraction"), 1.0)
        short = max(int(phase.size / fraction), phase.size)
        share = f"of which a square of {phase.size} is cut ({fraction:g} of the side)"
        return f"A picture's short side is brought to {short} px {with_}, {share}: at random to learn from, else at the centre."
    if phase.resize.name == "pad":
        filled = f"the square around it is filled up ({options.get('padding')})"
        return f"A picture's long side is brought to {phase.size} px {with_}; {filled}."
    if phase.resize.name == "squish":
        return f"Both sides are brought to {phase.size} px {with_}, so shapes are squeezed."
    return f"{'Pictures are' if phase.size else 'The inputs are no pictures and are'} taken as they are (resize {phase.resize})."


def _batch(plan: Plan, number_: int) -> str:
    phase = plan.phases[number_]
    return f"{phase.batch_size} items go through the network at a time; a batch's norm statistics are over these."


def _loss(plan: Plan, number_: int) -> str:
    text = f"The loss of an item is {plan.phases[number_].loss}; a step takes the mean over its batch."
    if plan.data.task.name == "regress":
        text += " It gets numbers scaled to a mean of 0 and a deviation of 1 over the items to learn from, so it counts in deviations."
    if plan.model.kind == "ensemble":
        text += (
            " Each member of the network has a loss of its own, and an item's is their mean; what is validated is what they say together."
        )
    return text


def _stop(plan: Plan, number_: int) -> str:
    stop = plan.phases[number_].stop
    return f"The phase ends early by {stop}." if stop else "The phase never ends early: every epoch is done (stop None)."


def _keep(plan: Plan, number_: int) -> str:
    keep = plan.phases[number_].keep
    return (
        "The phase ends with its last epoch's weights."
        if keep.name == "last"
        else f"The phase ends with the weights of its best epoch: {keep}."
    )


def _last_batch(plan: Plan, number_: int) -> str:
    phase = plan.phases[number_]
    left = plan.data.train_items % phase.batch_size
    if phase.last_batch == "drop":
        return f"The last, short batch is dropped: {left} of {plan.data.train_items:,} items are left out of each epoch, others each time."
    return f"The last, short batch ({left} items) is {phase.last_batch}."


PHASE: dict[str, PhaseWords] = {
    "name": lambda plan, i: f"Phase {i + 1} of {len(plan.phases)} is called {plan.phases[i].name!r}.",
    "epochs": lambda plan, i: f"It goes through the items {plan.phases[i].epochs} time{'s' * (plan.phases[i].epochs != 1)}.",
    "steps_per_epoch": lambda plan, i: (
        f"An epoch has {plural(plan.phases[i].steps_per_epoch, 'step')}, the phase {steps_of_phase(plan.phases[i])}; "
        "the schedule moves at each step, not each epoch."
    ),
    "trains_from": _trains_from,
    "rates": rates_words,
    "schedule": schedule_words,
    "norm": _norm,
    "optimizer": optimizer_words,
    "weight_decay": decay_words,
    "no_decay": no_decay_words,
    "loss": _loss,
    "loss_mean": lambda plan, i: f"Where they are weighted, their sum is divided by {MEANS[plan.phases[i].loss_mean]}.",
    "class_weights": lambda plan, i: (
        f"An item's loss is multiplied by its class's weight: {listed([f'{w:.3g}' for w in plan.phases[i].class_weights], 12)}."
        if plan.phases[i].class_weights
        else "Classes are not weighted."
    ),
    "sampling": lambda plan, i: (
        "Each epoch takes every item once, in a new order."
        if plan.phases[i].sampling == "shuffle"
        else f"Items are drawn by the rule {plan.phases[i].sampling!r}: with replacement, each class as likely as the next."
    ),
    "clip": lambda plan, i: (
        f"Gradients are shortened to a norm of {plan.phases[i].clip:g}, all together."
        if plan.phases[i].clip
        else "Gradients are not clipped."
    ),
    "prefix": _prefix,
    "aside": lambda plan, i: f"{(put_aside(plan.phases[i]) or ['nothing was given that this phase has no use for'])[0].capitalize()}.",
    "skip_limit": lambda plan, i: (
        "An item whose features or loss are no finite numbers is left out of the fit; where too few others are there, the run ends "
        f"after this step ({plan.phases[i].skip_limit})."
        if plan.phases[i].optimizer.name == "lbfgs"
        else "A step whose loss or gradients are no finite numbers moves nothing; "
        f"{plan.phases[i].skip_limit} such steps in a row end the run."
    ),
    "accumulate": lambda plan, i: (
        f"{plan.phases[i].accumulate} items make an update, {plan.phases[i].batch_size} at a time."
        if plan.phases[i].accumulate
        else "Each batch is an update."
    ),
    "ema": lambda plan, i: (
        f"A moving average of the weights keeps {plan.phases[i].ema:g} of itself at each update; it is what is validated and kept."
        if plan.phases[i].ema
        else "The weights themselves are validated and kept, no average of them."
    ),
    "stop": _stop,
    "keep": _keep,
    "batch_size": _batch,
    "last_batch": _last_batch,
    "size": _size,
    "resize": _resize,
    "resident": lambda plan, i: (
        "All items lie on the device throughout." if plan.phases[i].resident else "Batches go to the device one by one."
    ),
    "augmentation": lambda plan, i: (
        f"Training pictures are changed at random by {listed(list(map(str, plan.phases[i].augmentation)), 12)}; held-out ones never are."
        if plan.phases[i].augmentation
        else f"Training {'pictures' if plan.phases[i].size else 'items'} are not augmented."
    ),
    "mix": lambda plan, i: (
        f"Items of a batch are mixed by {plan.phases[i].mix}." if plan.phases[i].mix else "Items are not mixed with each other."
    ),
    "mean": lambda plan, i: (
        f"What is taken from each channel of a picture (0 to 1), as the weights expect it: {_numbers(plan.phases[i].mean)}."
        if plan.phases[i].mean
        else "Of the inputs no mean is taken on the way to the network: they are as the data has them (mean none)."
    ),
    "std": lambda plan, i: (
        f"What is left is divided by its std: {_numbers(plan.phases[i].std)}; others would shift every layer."
        if plan.phases[i].std
        else "Nor are they divided by anything there (std none)."
    ),
}


def _numbers(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.4g}" for value in values) or "none"


def group_words(group: Group) -> str:
    """One row of the plan's groups in words."""
    origin = f"from {group.weights_from}" if group.weights_from != "initialised" else "newly initialised"
    source = f"{origin}, sha256 {group.sha256}" if group.sha256 else f"as {group.weights_from} left them"
    start = f"Stage {group.stage}, {group.kind}: {group.tensors} tensors with {group.values:,} values, {source}"
    if not group.trains:
        rates = f"rate {group.rate_start:g}, {group.rate_peak:g}, {group.rate_end:g}; decay {group.weight_decay:g}"
        return f"{start}, do not train ({rates}; norm {group.norm})."
    return (
        f"{start}, train: rate {group.rate_start:.3g} at the first step, {group.rate_peak:.3g} at the highest, "
        f"{group.rate_end:.3g} at the last, weight decay {group.weight_decay:g}, norm layers {group.norm}."
    )


def ledger(plan: Plan, index: int) -> tuple[str, Rows]:
    """What the phase takes over from what came before it: a sentence, and a row a thing."""
    phase = plan.phases[index]
    state = {"sgd": "momentum", "rmsprop": "squared gradients and momentum", "adam": "both Adam moments", "adamw": "both Adam moments"}
    moments = state.get(phase.optimizer.name, "its state")
    momenta = f"fresh: {moments} begin at 0" + (", nothing of the phase before is carried" if index else "")
    epochs, steps = (sum(p.epochs for p in plan.phases[:index]), sum(steps_of_phase(p) for p in plan.phases[:index]))
    sources = {group.stage: group.weights_from for group in phase.groups}
    moved = [
        stage.name
        for number_, stage in enumerate(plan.model.stages)
        if any(len(p.norm) > number_ and p.norm[number_] != "frozen" for p in plan.phases[:index])
    ]
    before = plan.phases[index - 1] if index else None
    kept = (
        "" if before is None else ", the best epoch's" if before.keep.name != "last" else ", their average" if before.ema else ", its last"
    )
    rows = (
        ("what", "at the start of this phase"),
        *((f"weights of {stage}", source + (kept if source == f"phase {index}" else "")) for stage, source in sources.items()),
        ("norm statistics", f"carried on in {listed(moved)}, as the weights have them elsewhere" if moved else "as the weights have them"),
        ("optimiser state", momenta),
        ("schedule", "begins anew at its first step"),
        ("random streams", f"go on at epoch {epochs + 1}, step {steps + 1}"),
    )
    carried = "Carried over from the phase before: the weights and norm statistics. " if index else "Nothing was trained before it. "
    return f"{carried}The optimiser's state is {momenta}; the schedule begins anew.", rows
