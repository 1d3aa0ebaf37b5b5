"""What the studies are given, or an error that says what is allowed."""

from __future__ import annotations

from sheer.errors import PlanError
from sheer.learner import Learner


def check_learner(given: object, what: str) -> None:
    """PlanError unless a learner was given to the function called `what`."""
    if not isinstance(given, Learner):
        raise PlanError(f"{what} is given a {type(given).__name__}: give one of sheer.learner or sheer.load(run, data=...).")
