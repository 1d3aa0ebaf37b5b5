"""Rates, schedule, optimiser and decay of a phase in words."""

from __future__ import annotations

from sheer.interpret.shown import schedule_steps
from sheer.plan.plan import Phase, Plan
from sheer.plan.recipes import SCHEDULE_REASONS
from sheer.study.explain.words import Rows, number


def rates_words(plan: Plan, number_: int) -> str:
    """The peak rates, one a stage."""
    phase = plan.phases[number_]
    if phase.optimizer.name == "lbfgs":
        return f"A fit has no rates; 1 marks the stages that it fits: {phase.rates}."
    names = [stage.name for stage in plan.model.stages]
    still = {group.stage for group in phase.groups} - {group.stage for group in phase.groups if group.trains}
    rates = zip(names, phase.rates, strict=False)
    pairs = ", ".join(f"{name} frozen ({rate:g} moves nothing)" if name in still else f"{name} {rate:g}" for name, rate in rates)
    text = f"Peak rates, one a stage: {pairs}."
    for group in phase.groups:
        if group.trains and group.stage in names[: phase.trains_from] and len(phase.rates) > 1:
            same = "as fast as the head" if group.rate_peak >= phase.rates[-1] * 0.999 else f"the head's is {phase.rates[-1]:g}"
            text += f" The norm layers of the frozen stage {group.stage} train at {phase.rates[names.index(group.stage)]:g}: {same}."
    if len(set(phase.rates)) == 1 and len(phase.rates) > 1:
        text += " One number went to all stages; slice(x) gives x to the last stage alone, and a tenth to the others."
    return text


def schedule_words(plan: Plan, number_: int) -> str:
    """The schedule's shape, in rates and steps."""
    phase, total = plan.phases[number_], steps_of_phase(plan.phases[number_])
    if phase.optimizer.name == "lbfgs":
        return f"A fit has no schedule; {phase.schedule} is not used."
    options = phase.schedule.options()
    if phase.schedule.name != "one_cycle":
        return f"The schedule is {phase.schedule}: {SCHEDULE_REASONS.get(phase.schedule.name, 'its own shape')}, over {total} steps."
    warmup, start = number(options.get("warmup"), 0.25), number(options.get("start_div"), 25.0)
    end, high, low = (number(options.get(name), 0) for name in ("end_div", "momentum_high", "momentum_low"))
    top = max(phase.rates)
    return (
        f"The schedule warms up: it begins at the peak / {start:g} (the last stage at {phase.rates[-1]:g} / {start:g} = "
        f"{phase.rates[-1] / start:.3g}), is at the peak after {warmup:.0%} of the {total} steps, and falls towards peak / {end:g} = "
        f"{top / end:.3g}. Momentum goes the other way, {high:g} to {low:g} and back."
    )


def steps_of_phase(phase: Phase) -> int:
    """Its steps in all."""
    return phase.epochs * phase.steps_per_epoch


def rate_rows(phase: Phase) -> Rows:
    """Rate of each group that trains, and momentum, at some steps: the first, the last, the highest, and between; header first."""
    if not any(group.trains for group in phase.groups):
        return ()
    steps, total = schedule_steps([phase]), steps_of_phase(phase)
    highest = int(steps.rates[:, -1].argmax())
    chosen = sorted({0, total // 4, total // 2, 3 * total // 4, highest, total - 1})
    header = ("step", *(f"rate of {name}" for name in steps.groups), "momentum")
    rows = [(f"{step + 1} of {total}", *(f"{rate:.3g}" for rate in steps.rates[step]), f"{steps.momentum[step]:.3f}") for step in chosen]
    return (header, *rows)


def optimizer_words(plan: Plan, number_: int) -> str:
    """The optimiser, or the fit."""
    phase = plan.phases[number_]
    if phase.optimizer.name == "lbfgs":
        part = phase.optimizer.options()
        return (
            f"The head is fitted, not trained: L-BFGS finds the weights with the least mean loss plus penalty / 2 times their squares, on "
            f"standardised features. Of the penalties {part['penalties']} that one is taken with which items left out of the fit, in "
            f"{part['folds']} folds of the training items, are predicted best; held-out items have no part in it."
        )
    first = "The optimiser" if number_ == 0 else "A new optimiser"
    return f"{first} is {phase.optimizer}; before the first step its tensors are proved to be exactly those of the model that train."


def decay_words(plan: Plan, number_: int) -> str:
    """What weight decay does to a weight at each step."""
    phase = plan.phases[number_]
    decay, rate = phase.weight_decay, phase.rates[-1]
    if phase.optimizer.name == "lbfgs":
        return f"The penalty of the fit takes the place of weight decay; {decay:g} is not used."
    if not decay:
        return "Weight decay is 0: off, in either form."
    if phase.optimizer.name == "adamw":
        return (
            f"Weight decay {decay:g} is decoupled: each step first shrinks a weight by the factor 1 - rate x {decay:g} (at the last "
            f"stage's peak by {rate * decay:.2g} of itself), apart from the gradient."
        )
    if phase.optimizer.name == "timm":
        return f"Weight decay {decay:g} acts as timm's {phase.optimizer.options().get('name')} defines it."
    scaled = {"adam": ", which Adam then divides by the gradient's own scale", "rmsprop": ", which RMSprop then divides by its scale"}
    then = scaled.get(phase.optimizer.name, "")
    return f"Weight decay {decay:g} is L2, not decoupled: {decay:g} times the weight is added to its gradient{then}."


def no_decay_words(plan: Plan, number_: int) -> str:
    """Which tensors do not decay."""
    phase = plan.phases[number_]
    if phase.no_decay == "none":
        return "Nothing is exempt from decay (rule 'none'): norm layers and biases decay like all weights."
    rule = {
        "norm_bias": "scale and shift of norm layers, and everything called bias",
        "norm_bias_1d": "scale and shift of norm layers, biases, all tensors with one dimension, and what the network itself lists",
    }.get(phase.no_decay, phase.no_decay)
    return f"Exempt from decay by the rule {phase.no_decay!r}: {rule}; they make groups of their own."
