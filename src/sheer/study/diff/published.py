"""What the project itself measured of single decisions; written by `python benchmarks/influences.py`."""

from sheer.study.diff.influence import Influence

PUBLISHED: tuple[Influence, ...] = ()
