"""The split by a share of the items: what was given or the profile's, and which items it holds out; positions of items."""

from __future__ import annotations

import numpy as np

from sheer.data.splits import SPLITS
from sheer.errors import DataError, known, nearest
from sheer.plan.checks import whole
from sheer.plan.plan import Origin, Part
from sheer.plan.profiles import profile_named
from sheer.streams import permutation, stream_key


def split_part(valid: float | str | None, split: str | None, seed: int, profile: str) -> tuple[Part, Origin]:
    """The split by share that was given, or the profile's; DataError for a share or name that is none."""
    constants, seed = profile_named(profile), whole(seed, "seed", 0)
    share = constants.number("valid") if valid is None else valid
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share < 1:
        raise DataError(f"valid={valid!r}: give the share to hold out, below 1, such as 0.2; 0 holds nothing out.")
    name = (str(constants.value("split")) if share else "random") if split is None else split
    splits = SPLITS if share else ("random",)
    if not known(name, splits):
        raise DataError(f"split={name!r} is no split{'' if share else ' that holds nothing out (valid=0)'}. {nearest(name, splits)}")
    part = Part(name=name, settings=(("share", float(share)), ("seed", seed)))
    if valid is None and split is None:
        return part, Origin(field="split", by="default", reason=f"{constants.reason('valid')}; {constants.reason('split')}")
    return part, Origin(field="split", by="you", reason="you gave it")


def held_out_by(labels: np.ndarray, part: Part) -> np.ndarray:
    """True for the items that the split by share holds out."""
    options = part.options()
    seed, share = options["seed"], options["share"]
    assert isinstance(seed, int) and isinstance(share, float)
    return SPLITS[part.name](labels, share, permutation(stream_key(seed, "split"), len(labels)))


def is_mask(valid: object, other_than: int) -> bool:
    """Whether it is True and False, but not for as many items."""
    array = np.asarray(valid)
    return array.dtype == bool and len(array) != other_than


def positions_in(valid: object) -> list[int] | None:
    """Positions as they were given, or those where a mask is True; None for a share, a name or nothing."""
    if valid is None or isinstance(valid, str | int | float):
        return None
    array = np.asarray(valid)
    if array.dtype == bool:
        return np.flatnonzero(array).tolist()
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise DataError("valid: give a share, a name, whole positions of items, or a mask of True and False with one entry an item.")
    return [int(position) for position in array.tolist()]
