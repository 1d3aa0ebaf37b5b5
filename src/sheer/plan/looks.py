"""How pictures become what the network sees: size, resize method, augmentation, normalisation; from what was given, weights and profile."""

from __future__ import annotations

from dataclasses import dataclass

from sheer.errors import PlanError, known, nearest
from sheer.plan.augmentations import as_part, augmentation_parts
from sheer.plan.checks import whole
from sheer.plan.facts import InputFacts
from sheer.plan.plan import Origin, Part, Value
from sheer.plan.profiles import Profile
from sheer.plan.recipes import Given

LARGEST_SIDE = 4096
RESIDENT_SHARE = 0.25  # of the free memory: the network, its gradients and what it keeps for them need the rest
RESIDENT_ASPECT = 1.5  # most cameras' pictures are 4:3 or 3:2
RESIZE_SETTINGS = {"crop": ("fraction", "interpolation"), "pad": ("padding", "interpolation"), "squish": ("interpolation",)}
RESIZE_VALUES = {"padding": ("reflection", "zeros"), "interpolation": ("nearest", "bilinear", "bicubic", "lanczos")}


@dataclass(frozen=True, kw_only=True)
class Look:
    """The values of a phase that are decided here, as the fields of `Phase` of the same names."""

    size: int
    resize: Part
    augmentation: tuple[Part, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    origins: tuple[Origin, ...]


def look_of(given: Given, profile: Profile, inputs: InputFacts, device: str, pictures: str) -> Look:
    """The values for one phase; `pictures` are in "files", in "memory" (squares of one size), or there are "none".

    Raises:
        PlanError: a value is not allowed, or was given for items that are no pictures.
    """
    if pictures == "none":
        for name in ("size", "resize", "augmentation"):
            if getattr(given, name) is not None:
                raise PlanError(f"{name}={getattr(given, name)!r} is for pictures; the inputs here are numbers, taken as they are.")
        fields = ("size", "resize", "augmentation", "mean", "std")
        origins = tuple(Origin(field=name, by="data", reason="the inputs are numbers, taken as they are") for name in fields)
        return Look(size=0, resize=Part(name="none"), augmentation=(), mean=(), std=(), origins=origins)
    size, size_origin = image_size(given.size, profile, inputs, device)
    if pictures == "memory":
        size_origin = Origin(field="size", by="data", reason="the side of the pictures in memory")
        if given.resize is not None:
            raise PlanError(f"resize={given.resize!r} is for photographs in files; pictures in memory are squares of one size already.")
        resize, resize_origin = Part(name="none"), Origin(field="resize", by="data", reason="pictures in memory are taken as they are")
    else:
        resize, resize_origin = resize_rule(given, profile, inputs)
    silent = given.augmentation is None
    augmentation = augmentation_parts(str(profile.value("augmentation")) if given.augmentation is None else given.augmentation)
    why = profile.reason("augmentation") if silent else "you gave it"
    return Look(
        size=size,
        resize=resize,
        augmentation=augmentation,
        mean=inputs.mean,
        std=inputs.std,
        origins=(
            size_origin,
            resize_origin,
            Origin(field="augmentation", by="default" if silent else "you", reason=why),
            _statistics_origin("mean", inputs),
            _statistics_origin("std", inputs),
        ),
    )


@dataclass(frozen=True, kw_only=True)
class Room:
    """What a device has room for when a learner is made: its kind, its free bytes, and how many items there are.

    `array_bytes` is what the items take that are in memory already, 0 for photographs in files.
    """

    device: str
    free: int
    items: int
    array_bytes: int


def resident_of(given: bool | None, room: Room, look: Look) -> tuple[bool, Origin]:
    """Whether the items lie on the device for a whole phase, and who decided it.

    Photographs are counted at their working size, as wide as RESIDENT_ASPECT times their height.

    Raises:
        PlanError: it was asked for where pictures are not cut by slices alone.
    """
    whole_pictures = any(part.name == "random_resized_crop" for part in look.augmentation)
    cut = look.resize.name in ("crop", "squish") and len(look.mean) == 3 and not whole_pictures
    in_memory = look.resize.name == "none"
    if not (in_memory or cut):
        why = "only colour pictures under crop or squish, without random_resized_crop, can be cut there"
        if given:
            raise PlanError(f"resident=True: the pictures cannot lie on the device: {why}. Leave resident away.")
        return False, Origin(field="resident", by="default", reason=why)
    if in_memory and not room.array_bytes:
        return False, Origin(field="resident", by="default", reason="several inputs go there batch by batch")
    if given is not None:
        return bool(given), Origin(field="resident", by="you", reason="you gave it")
    kind = room.device.partition(":")[0]
    if kind != "cuda":
        return False, Origin(field="resident", by="default", reason=f"{kind} shares the machine's memory")
    fraction = look.resize.options().get("fraction", 1.0)
    short = max(int(look.size / fraction), look.size) if isinstance(fraction, int | float) else look.size
    aspect = RESIDENT_ASPECT if look.resize.name == "crop" else 1
    needed = room.array_bytes if in_memory else round(room.items * 3 * short * short * aspect)
    fits = needed <= RESIDENT_SHARE * room.free
    reason = (
        f"{room.items:,} items take {'' if in_memory else 'about '}{needed / 1e9:.2f} GB, and a quarter of the {room.free / 1e9:.1f} GB "
        f"that are free on {room.device} is {'enough' if fits else 'not enough'}"
    )
    return fits, Origin(field="resident", by="machine", reason=reason)


def image_size(given: int | None, profile: Profile, inputs: InputFacts, device: str) -> tuple[int, Origin]:
    """The side of the pictures in pixels, and who decided it.

    Raises:
        PlanError: the size is no positive whole number.
    """
    if given is not None:
        side = whole(given, "size", 1, ", the side of the pictures in pixels, such as 160")
        if side > LARGEST_SIDE:
            raise PlanError(f"size={given!r}: at most {LARGEST_SIDE} pixels a side are taken.")
        return side, Origin(field="size", by="you", reason="you gave it")
    fixed, on_cpu = profile.value("size"), profile.value("size.cpu")
    if isinstance(fixed, int) and not inputs.fixed_size:
        return fixed, Origin(field="size", by="default", reason=profile.reason("size"))
    if isinstance(on_cpu, int) and device == "cpu" and not inputs.fixed_size and on_cpu < inputs.size:
        return on_cpu, Origin(field="size", by="default", reason=profile.reason("size.cpu"))
    return inputs.size, Origin(field="size", by="weights", reason=f"the size the weights were made for ({inputs.source})")


def resize_rule(given: Given, profile: Profile, inputs: InputFacts) -> tuple[Part, Origin]:
    """How a picture becomes a square: the method with its settings, from the caller, the profile or the weights.

    Raises:
        PlanError: the method, or one of its settings, is not known or out of range.
    """
    method = as_part(str(profile.value("resize.method")) if given.resize is None else given.resize, "resize")
    if not known(method.name, RESIZE_SETTINGS):
        raise PlanError(f"resize={method.name!r} is no resize method. {nearest(method.name, RESIZE_SETTINGS)}")
    names, yours = RESIZE_SETTINGS[method.name], method.options()
    for name, value in yours.items():
        if name not in names:
            raise PlanError(f"resize {method.name!r} has no setting {name!r}. {nearest(name, names)}")
        allowed = RESIZE_VALUES.get(name)
        if allowed is not None and value not in allowed:
            raise PlanError(f"resize {method.name!r}: {name}={value!r}. {nearest(str(value), allowed)}")
        if name == "fraction" and not (isinstance(value, int | float) and 0 < value <= 1):
            raise PlanError(f"resize {method.name!r}: fraction={value!r}: give a number above 0 and at most 1.")
    from_weights: dict[str, Value] = {"fraction": inputs.crop_fraction, "interpolation": inputs.interpolation}
    constants = {name: profile.value(f"resize.{name}") for name in names}
    picked = {name: from_weights[name] if value is None else value for name, value in constants.items()} | yours
    by = "weights" if any(constants[name] is None and name not in yours for name in names) else "default"
    reason = "; ".join(profile.reason(f"resize.{name}") for name in names if name not in yours)
    if given.resize:
        by, reason = "you", "you gave the method" + (f"; {reason}" if reason else "")
    return Part(name=method.name, settings=tuple(picked.items())), Origin(field="resize", by=by, reason=reason)


def _statistics_origin(field: str, inputs: InputFacts) -> Origin:
    reason = f"what the weights were trained with ({inputs.source})" if inputs.statistics_by == "weights" else inputs.source
    return Origin(field=field, by=inputs.statistics_by, reason=reason)
