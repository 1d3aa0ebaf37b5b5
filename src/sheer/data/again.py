"""The data of a finished run again, from its folder."""

from __future__ import annotations

from pathlib import Path

from sheer.data.class_folders import VALID_NAMES
from sheer.data.folders import listing_hash, photo_files
from sheer.data.images import images
from sheer.data.sources import Data
from sheer.plan.plan import Plan


def data_as_before(folder: str, plan: Plan) -> Data | None:
    """The class folders split as the plan says, where they hold the same files and sizes as then; else None.

    What was left out then is left out again; files that have come to be readable, or not, are told by the plans' difference.
    """
    split, root = plan.data.split.options(), Path(folder).expanduser()
    if plan.data.split.name not in ("folders", "stratified", "random") or not root.is_dir():
        return None
    parts = [str(part) for part in (split.get("train"), split.get("valid"), split.get("part")) if part] or [""]
    if not all((root / part).is_dir() for part in parts):
        return None
    if split.get("part") and any(path.is_dir() and path.name.lower() in VALID_NAMES for path in root.iterdir()):
        return None  # a folder to hold out decides the split now
    try:
        paths = [path for part in parts for path, _ in photo_files(str(root), part) if path not in plan.data.skipped]
        if listing_hash(str(root), paths) != plan.data.listing_sha256:
            return None
    except OSError:  # such as a link that leads nowhere now
        return None
    bad_files, unknown = plan.data.bad_files, plan.data.unknown
    if plan.data.split.name == "folders":
        return images(folder, valid=str(split["valid"]), profile=plan.profile, bad_files=bad_files, unknown=unknown)
    share, seed = split["share"], split["seed"]
    assert isinstance(share, float) and isinstance(seed, int)
    split_by = plan.data.split.name
    return images(folder, valid=share, split=split_by, seed=seed, profile=plan.profile, bad_files=bad_files, unknown=unknown)
