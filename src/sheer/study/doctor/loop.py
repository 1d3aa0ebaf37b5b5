"""The doctor's checks of what the user's own training function was seen to do."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.optim import lr_scheduler

from sheer.model.stages import is_norm
from sheer.study.doctor.case import Case, Said
from sheer.study.doctor.findings import Unchecked, found
from sheer.study.doctor.model import BatchNorm, missed_by_name, names, unlike_their_block
from sheer.study.doctor.watching import Forward, Update, Watched

LOOP = "eval() and train(), zero_grad, averaging of the loss, steps of the scheduler"


def check_loop(case: Case, seen: Watched | None) -> Said:
    """Everything that only a few steps of the user's own loop can show."""
    yield from _frozen_norms(case, seen)
    if seen is None:
        yield Unchecked(what=LOOP, need="give train=, a function that runs two epochs of your loop on a few batches")
        return
    if seen.error:
        yield Unchecked(what="the rest of train", need=seen.error)
    if not any(forward.backward for forward in seen.forwards) or not seen.updates:
        yield Unchecked(what=LOOP, need="train() did not go through this model and this optimizer: give the objects that it uses")
        return
    yield from _modes(case, seen)
    if seen.owned:
        yield from _cleared(seen)
        yield from _averaged(case, seen)
    else:
        yield Unchecked(what="zero_grad missing, loss averaged twice", need="the optimiser holds none of the model's trainable tensors")
    if case.scheduler is not None:
        yield from _scheduled(case, seen)


def _frozen_norms(case: Case, seen: Watched | None) -> Said:
    """Batch norm layers in train mode with frozen scales; those in another mode than their block, which a test of names missed."""
    layers = {name: module for name, module in case.model.named_modules() if isinstance(module, BatchNorm) and module.track_running_stats}
    trains = {name: module.weight is None or module.weight.requires_grad for name, module in layers.items()}
    learned = [forward for forward in seen.forwards if forward.backward] if seen else []
    modes = {name: name in learned[-1].active if learned else module.training for name, module in layers.items()}
    if not learned and not case.model.training:
        if not all(trains.values()):
            yield Unchecked(what="norm layers of a frozen body in train mode", need="the model is in eval mode now: give train=")
        return
    yield from missed_by_name(modes, "are in train mode", "are in eval mode")
    told = {*unlike_their_block(trains)[0], *unlike_their_block(modes)[0]}
    moving = [name for name in layers if modes[name] and not trains[name] and name not in told]
    if moving:
        words: dict[str, object] = {"moving": len(moving), "norms": len(layers), "names": names(moving)}
        yield found("frozen_norm_adapts", "{moving} of {norms} batch norm layers have frozen scales and run in train mode: {names}", words)


def _modes(case: Case, seen: Watched) -> Said:
    """Modes of the calls that learn and of those that do not."""
    learned = [number for number, forward in enumerate(seen.forwards) if forward.backward]
    judged = [number for number in range(len(seen.forwards)) if _judges(seen, number)]
    if not judged:
        need = "train() never ran the model under torch.no_grad(), nor two batches without a backward pass: let it validate as well"
        yield Unchecked(what="eval() never called", need=need)
    wrong = [number for number in judged if seen.forwards[number].active and seen.forwards[number].training]
    if wrong:
        words: dict[str, object] = {"wrong": len(wrong), "judged": len(judged), "active": len(seen.forwards[wrong[0]].active)}
        yield found(
            "eval_missing",
            "{wrong} of {judged} calls that learned nothing ran in train mode, with {active} norm and dropout layers on",
            words,
        )
    later = [number for number in learned if judged and number > judged[0]]
    if judged and not later:
        yield Unchecked(what="train() never called back", need="train() ended with its first validation: let it run two epochs")
    first = seen.forwards[learned[0]].active
    rested = [number for number in later if first - seen.forwards[number].active and not seen.forwards[number].training]
    asleep = [number for number in learned if not seen.forwards[number].training] if _all_trains(case) else []
    resting = rested or (asleep if len(asleep) == len(learned) else [])
    if resting:
        layers = first or {name for name, module in case.model.named_modules() if is_norm(module)}
        words = {"resting": len(resting), "learned": len(learned), "layers": len(layers)}
        yield found(
            "train_missing", "{resting} of {learned} calls that learned ran in eval mode; {layers} norm and dropout layers rested", words
        )


def _judges(seen: Watched, number: int) -> bool:
    """Whether a call validates: without gradients, or with another one after it where neither goes backward.

    One alone before a call that learns may be a target's, as in self-training.
    """
    two = seen.forwards[number : number + 2]
    return not two[0].grad or (len(two) == 2 and all(forward.grad and not forward.backward for forward in two) and not seen.error)


def _all_trains(case: Case) -> bool:
    """Whether norm layers with running statistics have scales that train: then nobody means the whole model to be in eval mode."""
    return any(isinstance(m, BatchNorm) and m.weight is not None and m.weight.requires_grad for m in case.model.modules())


def _cleared(seen: Watched) -> Said:
    later = seen.updates[1:]
    if not later:
        yield Unchecked(what="zero_grad missing", need="train() made one update only: let it make some")
        return
    stale = [update.stale for update in later if update.stale > 0]
    if stale:
        words: dict[str, object] = {"stale": len(stale), "later": len(later), "norm": max(stale)}
        yield found(
            "zero_grad_missing", "{stale} of {later} updates began with the gradients of the update before (norm up to {norm:.3g})", words
        )


def _averaged(case: Case, seen: Watched) -> Said:
    """The gradient that each update used, as a multiple of the mean loss's over its items."""
    whole = [update for update in seen.updates if update.forwards and update.stale == 0]
    most = max((len(update.forwards) for update in whole), default=0)
    shares = [(share, update) for update in whole if len(update.forwards) == most and (share := _share(case, update)) is not None]
    if not shares:
        yield Unchecked(
            what="loss averaged twice", need="the gradients are not those of loss_fn(output, target) with class numbers or 0 and 1"
        )
        return
    items = [shares[0][1].forwards[0].items, most * shares[0][1].forwards[0].items]
    suspects = {float(number) for number in (most, *items) if number > 1} | {float(most * items[0])}
    low, high = min(share for share, _ in shares), max(share for share, _ in shares)
    divisor = next(
        (number for number in sorted(suspects) if number > 1 and abs(low * number - 1) < 0.02 and abs(high * number - 1) < 0.02), None
    )
    if divisor is not None:
        words: dict[str, object] = {"share": low, "divisor": divisor, "micro": most, "items": items[0], "updates": len(shares)}
        text = (
            "in {updates} updates of {micro} x {items} items the gradient was {share:.4g} of the mean loss's: divided by {divisor:g} more"
        )
        yield found("averaged_twice", text, words)


def _share(case: Case, update: Update) -> float | None:
    """The update's gradient over that of the loss function's mean; None where the loss was another.

    The targets are read off the gradient itself: that of cross-entropy is negative at the target alone, that of
    binary cross-entropy where the target is 1.
    """
    parts = [_ratio(case, forward) for forward in update.forwards]
    if any(part is None for part in parts) or math.isnan(update.scaled):
        return None
    return sum(part for part in parts if part is not None) * update.scaled


def _ratio(case: Case, forward: Forward) -> float | None:
    if forward.output is None or forward.gradient is None or forward.output.ndim < 2:
        return None
    scores, gradient = forward.output.float().requires_grad_(), forward.gradient.float()
    for target in (gradient.argmin(1), (gradient < 0).float()):
        try:
            with torch.enable_grad():
                loss = case.loss_fn(scores, target)
            (own,) = torch.autograd.grad(loss, scores)
        except Exception:  # a loss for the other kind of target, or for neither: said by the caller
            continue
        both = float((own * gradient).sum()), float(own.norm() * gradient.norm())
        if both[1] > 0 and both[0] / both[1] > 0.999:
            return both[0] / float(own.pow(2).sum())
    return None


def length_of(scheduler: Any) -> int | None:
    """After how many of its steps a torch scheduler has come to its end (or to its first stair).

    None where it has none, rises, or decays gently.
    """
    if isinstance(scheduler, lr_scheduler.SequentialLR):
        last = length_of(scheduler._schedulers[-1])
        return None if last is None else int(scheduler._milestones[-1]) + last
    if isinstance(scheduler, lr_scheduler.MultiStepLR):
        return max(scheduler.milestones, default=None)
    if isinstance(scheduler, lr_scheduler.LinearLR) and scheduler.end_factor >= scheduler.start_factor:
        return None  # a warm-up
    if isinstance(scheduler, lr_scheduler.StepLR) and scheduler.gamma >= GENTLE:
        return None
    for kind, attribute in LENGTHS.items():
        if isinstance(scheduler, kind):
            return int(getattr(scheduler, attribute))
    return None


GENTLE = 0.9  # stairs that keep this share of the rate are an exponential decay, which is stepped at updates or epochs alike
LENGTHS: dict[type, str] = {
    lr_scheduler.OneCycleLR: "total_steps",
    lr_scheduler.CosineAnnealingLR: "T_max",
    lr_scheduler.LinearLR: "total_iters",
    lr_scheduler.PolynomialLR: "total_iters",
    lr_scheduler.StepLR: "step_size",
}


def _scheduled(case: Case, seen: Watched) -> Said:
    """The scheduler's length against how often it is stepped."""
    micro = max(len(update.forwards) for update in seen.updates) or 1
    epoch = max(-(-_length(case.loader) // micro), 1)
    updates = len(seen.updates)
    words: dict[str, object] = {"updates": updates, "epoch": epoch, "steps": len(seen.schedules), "kind": type(case.scheduler).__name__}
    what = "scheduler stepped per epoch or per update"
    if not seen.schedules:
        learned = next(number for number, forward in enumerate(seen.forwards) if forward.backward)
        ended = updates >= epoch or any(not forward.grad for forward in seen.forwards[learned:])  # by a validation
        if ended and not hasattr(case.scheduler, "step_update") and not seen.error:
            yield found("scheduler_never_stepped", "{updates} updates, {epoch} an epoch, and no step of the {kind}", words)
        elif updates < epoch:
            yield Unchecked(
                what=what, need=f"train() made {updates} of an epoch's {epoch} updates: let it run two epochs on a short loader"
            )
        return
    length = length_of(case.scheduler)
    if length is None or seen.told_when:
        return
    if epoch < 2 or updates < 2:
        yield Unchecked(what=what, need="an epoch of one update: give a longer loader")
        return
    words["length"] = length
    if len(seen.schedules) >= 0.9 * max(seen.schedules[-1], 1):
        if length < epoch or (case.epochs is not None and length <= case.epochs):
            words["share"] = length / epoch
            yield found(
                "scheduler_too_fast", "{kind} of length {length}, {steps} steps in {updates} updates: over after {share:.2g} epochs", words
            )
    elif case.epochs is None:
        yield Unchecked(what="scheduler stepped per epoch with a length in updates", need="give epochs=, how many the whole training has")
    elif length > case.epochs and length >= epoch and (length % epoch == 0 or length > 300):
        words["epochs"] = case.epochs
        text = "{kind} of length {length}, stepped once an epoch ({epoch} updates): {epochs} epochs reach {epochs} of its {length} steps"
        yield found("scheduler_too_slow", text, words)


def _length(loader: Any) -> int:
    return len(loader) if hasattr(loader, "__len__") else 1
