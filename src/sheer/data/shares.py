"""The split by a share of the items: what was given or the profile's, and which items it holds out."""

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
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share < 1:
        raise DataError(f"valid={valid!r}: give the share to hold out, above 0 and below 1, such as 0.2.")
    name = str(constants.value("split")) if split is None else split
    if not known(name, SPLITS):
        raise DataError(f"split={name!r} is no split. {nearest(name, SPLITS)}")
    given = valid is not None or split is not None
    reason = "you gave it" if given else f"{constants.reason('valid')}; {constants.reason('split')}"
    part = Part(name=name, settings=(("share", float(share)), ("seed", seed)))
    return part, Origin(field="split", by="you" if given else "default", reason=reason)


def held_out_by(labels: np.ndarray, part: Part) -> np.ndarray:
    """True for the items that the split by share holds out."""
    options = part.options()
    seed, share = options["seed"], options["share"]
    assert isinstance(seed, int) and isinstance(share, float)
    return SPLITS[part.name](labels, share, permutation(stream_key(seed, "split"), len(labels)))
