"""What a decision was measured to be worth: read from ablations beside a run, or from the published ones (`published.py`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sheer.errors import RunError
from sheer.plan.document import decode, parse
from sheer.study.diff.decisions import Change

RECORD = "ablation.json"


@dataclass(frozen=True, kw_only=True)
class Influence:
    """A decision's effect, measured alone: the metric's mean difference over seeds (b minus a) with its 95 % interval.

    `change` is `Change.key()`; `low` and `high` are None where one seed gives no interval; `source` says where it was measured.
    """

    decision: str
    change: str
    metric: str
    mean: float
    low: float | None
    high: float | None
    seeds: int
    source: str

    def __str__(self) -> str:
        interval = "one seed: no interval" if self.low is None or self.high is None else f"{self.low:+.3f} to {self.high:+.3f}"
        noise = self.low is not None and self.high is not None and self.low <= 0 <= self.high
        return f"{self.metric} {self.mean:+.3f} ({interval}; {self.seeds} seeds; {self.source})" + (
            ", smaller than seed noise" if noise else ""
        )

    def backwards(self) -> Influence:
        """The same measurement, seen from b to a."""
        low, high = (None if self.high is None else -self.high), (None if self.low is None else -self.low)
        return replace(self, mean=-self.mean, low=low, high=high)


@dataclass(frozen=True, kw_only=True)
class InfluenceRecord:
    """What an ablation leaves in its folder for later differences to be ranked by."""

    format: int
    influences: tuple[Influence, ...]


def recorded(folder: Path) -> tuple[Influence, ...]:
    """The influences of every ablation in the folder, or in one below it.

    Raises:
        RunError: a record there is damaged.
    """
    found: list[Influence] = []
    for path in sorted([*folder.glob(RECORD), *folder.glob(f"*/{RECORD}")]):
        try:
            found += decode(InfluenceRecord, parse(path.read_text()), RECORD).influences
        except (ValueError, OSError) as error:
            raise RunError(f"{path} is damaged: {error}. Remove it, or run the ablation again.") from error
    return tuple(found)


def influence_of(change: Change, known: Sequence[Influence]) -> Influence | None:
    """The first measurement of this very change, in either direction; None where there is none."""
    reverse = " | ".join(dict.fromkeys(f"{place.b} -> {place.a}" for place in change.places))
    for one in known:
        if one.decision == change.decision and one.change in (change.key(), reverse):
            return one if one.change == change.key() else one.backwards()
    return None
