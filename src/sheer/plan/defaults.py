"""The only place that picks a value nobody gave: a draft, a model's facts and data's facts to a phase."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import cast

from sheer.errors import PlanError, nearest
from sheer.plan.augmentations import mix_part
from sheer.plan.checks import real, whole
from sheer.plan.facts import InputFacts, PrefixFact, TensorFact
from sheer.plan.groups import groups_of
from sheer.plan.looks import Room, look_of, resident_of
from sheer.plan.parts import SCHEDULE_SETTINGS, chosen
from sheer.plan.plan import Branch, Origin, Part, Phase, Stage
from sheer.plan.prefixes import FITTED, FITTED_FIELDS, fitted, fitted_given, prefix_part, set_aside
from sheer.plan.profiles import Profile
from sheer.plan.rates import first_new, is_new, staged_rates
from sheer.plan.recipes import Draft, Given
from sheer.plan.training import Training, training_values

NORM_POLICIES = ("train", "adapt", "frozen")
KEYS = {
    "pictures": ("norm_frozen", "norm_trained", "batch_size", "epochs"),
    "table": ("norm_frozen", "tabular.norm", "tabular.batch_size", "tabular.epochs"),
    "text": ("text.norm_frozen", "text.norm", "text.batch_size", "epochs"),
}
"""For each kind of items (`items_of`), the profile's keys for the norm policies of stages that are frozen and that train, for the batch
size, and for the epochs of a recipe that was given none."""


@dataclass(frozen=True, kw_only=True)
class Situation:
    """What a draft is resolved against; `pictures` are in "files", in "memory" (squares of one size), or there are "none".

    `items` says what goes in: a key of KEYS; `body` names the network that sheer itself makes, "" for others; `branches` are those of a
    model for several inputs; stages before `fixed` never train; `new_from` says where the head's weights are from. `prefix` tells of what
    is frozen, by trains_from, norm and size.
    """

    profile: Profile
    stages: tuple[Stage, ...]
    tensors: tuple[TensorFact, ...]
    inputs: InputFacts
    train_items: int
    valid_items: int
    task: str
    train_counts: tuple[int, ...]
    judged_by: dict[str, str]
    room: Room
    pictures: str
    items: str
    body: str
    trains_from: int
    fixed: int
    weights_from: str
    prefix: Callable[[int, tuple[str, ...], int], PrefixFact]
    phases_before: tuple[Phase, ...]
    new_from: str = "initialised"
    branches: tuple[Branch, ...] = ()


def norm_policies(
    given: str | tuple[str, ...] | None,
    profile: Profile,
    stages: int,
    trains_from: int,
    keys: Sequence[str],
    new: int | None = None,
) -> tuple[tuple[str, ...], Origin]:
    """One norm policy a stage: given or the profile's for the body, frozen or not, `train` for the last stage of several.

    Stages from `new` on (the last one) start from random weights.
    """
    if isinstance(given, str) and given not in NORM_POLICIES:
        raise PlanError(f"norm={given!r} is no norm policy. {nearest(given, NORM_POLICIES)}")
    if given is not None and not isinstance(given, str | tuple):
        raise PlanError(f"norm={given!r}: give a norm policy ({', '.join(NORM_POLICIES)}), or a tuple with one a stage.")
    frozen = given if isinstance(given, str) else profile.value(keys[0])
    if isinstance(given, tuple):
        if len(given) != stages:
            raise PlanError(f"norm={given!r} has {len(given)} policies, but the model has {stages} stages.")
        policies = given
    else:
        trained = given or str(profile.value(keys[1]))
        last = given if given is not None and stages == 1 else "train"
        policies = tuple(
            last if index >= (stages - 1 if new is None else new) else str(frozen) if index < trains_from else trained
            for index in range(stages)
        )
    for policy in policies:
        if policy not in NORM_POLICIES:
            raise PlanError(f"norm={policy!r} is no norm policy. {nearest(str(policy), NORM_POLICIES)}")
    if given is not None:
        return policies, Origin(field="norm", by="you", reason="you gave it")
    reason = profile.reason(keys[0] if trains_from else keys[1])
    return policies, Origin(field="norm", by="default", reason=reason)


def resolve(draft: Draft, situation: Situation) -> Phase:
    """The phase that the draft becomes for this model and this data.

    Raises:
        PlanError: a value is not allowed for them, or the draft was made for another profile.
    """
    profile, given, count = situation.profile, draft.given, len(situation.stages)
    if draft.profile != profile.name:
        raise PlanError(
            f"The recipe was made for profile {draft.profile!r}, the learner uses {profile.name!r}: "
            f"pass profile={profile.name!r} to the recipe."
        )
    trains_from, trains_origin = _trains_from(draft, situation)
    (rates, rates_origin), keys = _rates(draft, situation), KEYS[situation.items]
    norm, norm_origin = norm_policies(given.norm, profile, count, trains_from, keys, first_new(count, situation.branches))
    if given.norm is None and situation.branches:
        norm = _norms_of_texts(norm, situation.branches, trains_from, profile)
        norm_origin = replace(norm_origin, reason=_norm_reasons(situation.branches, trains_from, profile))
    batch_size, batch_origin = _batch_size(given.batch_size, profile, situation.train_items, keys[2])
    look = look_of(given, profile, situation.inputs, situation.room.device, situation.pictures)
    if draft.share != 1:
        look = replace(look, size=max(round(draft.share * look.size / 8) * 8, 8))
    resident, resident_origin = resident_of(given.resident, situation.room, look)
    fact, items = situation.prefix(trains_from, norm, look.size), situation.train_items
    fits, unfit = fitted(draft, fact, items, items + situation.valid_items, profile, situation.room.device)
    measured, aside = {origin.field: origin for origin in given.measured}, None
    training, decay, mix = _learning(given, situation, batch_size)
    if fits:
        asked = {**vars(training), "weight_decay": decay[0], "mix": mix[0], "augmentation": look.augmentation}
        origins = (*training.origins, *look.origins, decay[1], mix[1])
        aside = set_aside(given, asked, (measured.get(origin.field, origin) for origin in origins))
        given, rates = fitted_given(given, situation.pictures, items, batch_size), tuple(float(i >= trains_from) for i in range(count))
        look = replace(look, augmentation=())
        training, decay, mix = _learning(given, situation, batch_size)
    last_batch = "keep" if fits else str(profile.value("last_batch"))
    steps = steps_of(situation.train_items, batch_size, last_batch, training.accumulate)
    epochs, epochs_origin = (1, Origin(field="epochs", by="recipe", reason=FITTED)) if fits else _epochs(draft, profile, keys[3], steps)
    prefix, prefix_origin = prefix_part(
        given,
        profile,
        fact,
        mixed=mix[0] is not None,
        epochs=epochs,
        items=items + situation.valid_items,
        plain=fits,
        drawn=situation.pictures != "none" and fact.drawn,
        device=situation.room.device,
    )
    phase = Phase(
        name=draft.name,
        epochs=epochs,
        steps_per_epoch=steps,
        trains_from=trains_from,
        rates=rates,
        norm=norm,
        prefix=prefix,
        schedule=chosen("constant", SCHEDULE_SETTINGS, profile, "schedule") if fits else draft.schedule,
        optimizer=training.optimizer,
        weight_decay=decay[0],
        no_decay=str(profile.value("no_decay")),
        loss=training.loss,
        class_weights=training.class_weights,
        loss_mean=training.loss_mean,
        sampling=training.sampling,
        clip=training.clip,
        skip_limit=1 if fits else int(profile.number("skip_limit")),
        accumulate=training.accumulate,
        ema=training.ema,
        stop=training.stop,
        keep=training.keep,
        batch_size=batch_size,
        last_batch=last_batch,
        size=look.size,
        resize=look.resize,
        resident=resident,
        augmentation=look.augmentation,
        mix=mix[0],
        mean=look.mean,
        std=look.std,
        groups=(),
        origins=(
            *(
                rates_origin if origin.field == "rates" else origin
                for origin in draft.origins
                if origin.field not in ("trains_from", "size", "epochs")
            ),
            epochs_origin,
            *training.origins,
            trains_origin,
            norm_origin,
            prefix_origin,
            batch_origin,
            *(origin for origin in draft.origins if origin.field == "size"),
            *(origin for origin in look.origins if origin.field != "size" or "size" not in {one.field for one in draft.origins}),
            resident_origin,
            decay[1],
            mix[1],
            Origin(field="steps_per_epoch", by="data", reason=f"{situation.train_items} items in batches of {batch_size}"),
            *(Origin(field=name, by="default", reason=profile.reason(name)) for name in ("no_decay", "last_batch", "skip_limit")),
        ),
    )
    origins = tuple(o if o.field == "prefix" and prefix.name == "whole" else measured.get(o.field, o) for o in phase.origins)
    if fits:
        ours = {*FITTED_FIELDS, *([] if draft.given.optimizer else ["optimizer"])}
        origins = tuple(Origin(field=o.field, by="recipe", reason=FITTED) if o.field in ours else o for o in origins)
    if unfit:
        origins = tuple(replace(o, reason=f"{o.reason}; the head is not fitted: {unfit}") if o.field == "optimizer" else o for o in origins)
    phase = replace(phase, origins=origins, aside=aside)
    return replace(phase, groups=groups_of(phase, situation))


def _learning(given: Given, situation: Situation, batch_size: int) -> tuple[Training, tuple[float, Origin], tuple[Part | None, Origin]]:
    """How a phase learns, its weight decay, and how whole inputs are mixed."""
    task, counts, judged_by, profile = situation.task, situation.train_counts, situation.judged_by, situation.profile
    training = training_values(given, profile, task=task, batch_size=batch_size, counts=counts, judged_by=judged_by)
    mix = mix_part(str(profile.value("mix")) if given.mix is None else given.mix)
    by, why = ("default", profile.reason("mix")) if given.mix is None else ("you", "you gave it")
    return training, _pick(given.weight_decay, profile, "weight_decay", "weight_decay"), (mix, Origin(field="mix", by=by, reason=why))


def _norms_of_texts(norm: tuple[str, ...], branches: Sequence[Branch], trains_from: int, profile: Profile) -> tuple[str, ...]:
    """The policies with those that text has for the pretrained stages of a text's branch."""
    own, place = list(norm), 0
    for branch in sorted(branches, key=is_new):
        for _ in branch.model.stages:
            if not is_new(branch) and branch.model.body is not None:
                own[place] = str(profile.value(KEYS["text"][0 if place < trains_from else 1]))
            place += 1
    return tuple(own)


def _norm_reasons(branches: Sequence[Branch], trains_from: int, profile: Profile) -> str:
    """Why the norm layers of the branches are as they are: a reason for each kind of branch."""
    bodies = [(branch.model.body.name if branch.model.body else "", is_new(branch)) for branch in branches]
    keys = [KEYS[{"": "pictures", "encoder": "text"}.get(body, "table")][0 if trains_from and not new else 1] for body, new in bodies]
    return "; ".join(dict.fromkeys(map(profile.reason, keys)))


def _rates(draft: Draft, situation: Situation) -> tuple[tuple[float, ...], Origin]:
    """One peak rate a stage; a table's network may ask for others than the recipe's own, where you gave none."""
    profile, key, before = situation.profile, f"{situation.body}.rate_factor", situation.phases_before
    low = draft.after_fit if any(phase.optimizer.name == "lbfgs" for phase in before) else None
    rates = staged_rates(draft.rate if low is None else low[0], len(situation.stages), situation.branches, profile.number("rest_divisor"))
    origin = next(origin for origin in draft.origins if origin.field == "rates")
    origin = origin if low is None else replace(origin, reason=low[1])
    if origin.by == "you" or key not in profile.settings:
        return rates, origin
    factor = profile.number(key)
    reason = f"{origin.reason}; times {factor:g}: {profile.reason(key)}"
    return tuple(rate * factor for rate in rates), Origin(field="rates", by="default", reason=reason)


def _trains_from(draft: Draft, situation: Situation) -> tuple[int, Origin]:
    count = len(situation.stages)
    if draft.trains_from is None:
        reason = "as the learner stands: " + ("everything trains" if situation.trains_from == 0 else "the body is frozen")
        return _unfixed(situation.trains_from, Origin(field="trains_from", by="you", reason=reason), situation)
    alone = first_new(count, situation.branches) if draft.trains_from == -1 else draft.trains_from + count
    index = alone if draft.trains_from < 0 else draft.trains_from
    if not 0 <= index < count:
        raise PlanError(f"freeze_to({draft.trains_from}): the model has {count} stages, so give {-count} to {count - 1}.")
    origin = next(origin for origin in draft.origins if origin.field == "trains_from")
    return _unfixed(index, origin, situation)


def _unfixed(index: int, origin: Origin, situation: Situation) -> tuple[int, Origin]:
    """The first stage that trains, none of those that never do."""
    if index >= situation.fixed:
        return index, origin
    return situation.fixed, replace(origin, reason=f"{origin.reason}; LoRA: what there was stays as it is")


def _batch_size(given: int | None, profile: Profile, items: int, key: str) -> tuple[int, Origin]:
    least = "; norm layers need more than one item"
    wanted = int(profile.number(key)) if given is None else whole(given, "batch_size", 2, least)
    if items < 2:
        raise PlanError(f"There are {items} items to train on; a batch takes at least 2{least}. Hold fewer out.")
    if wanted > items:
        return items, Origin(field="batch_size", by="data", reason=f"{wanted} was wanted, but there are {items} items")
    if given is None:
        return wanted, Origin(field="batch_size", by="default", reason=profile.reason(key))
    return wanted, Origin(field="batch_size", by="you", reason="you gave it")


def _pick(given: float | None, profile: Profile, field: str, key: str) -> tuple[float, Origin]:
    if given is None:
        return profile.number(key), Origin(field=field, by="default", reason=profile.reason(key))
    return real(given, field, 0), Origin(field=field, by="you", reason="you gave it")


def _epochs(draft: Draft, profile: Profile, key: str, steps: int) -> tuple[int, Origin]:
    """The epochs that were given; else the profile's: at least so many, as many as take so many steps, at most so many."""
    if draft.epochs is not None:
        return draft.epochs, next(origin for origin in draft.origins if origin.field == "epochs")
    least, least_steps, most = cast(tuple[int, int, int], profile.value(key))
    return min(max(least, -(-least_steps // steps)), most), Origin(field="epochs", by="default", reason=profile.reason(key))


def steps_of(items: int, batch_size: int, last_batch: str, accumulate: int) -> int:
    """Updates an epoch: what is left over after whole batches (or nothing, where it is dropped) makes a last one."""
    used = items - items % batch_size if last_batch == "drop" else items
    return -(-used // (accumulate or batch_size))
