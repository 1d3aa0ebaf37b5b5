"""Your own modules and heads in a record: by name and source hash, never by themselves."""

from __future__ import annotations

import hashlib
import inspect
from typing import cast

from torch import nn

from sheer.model.build import HeadMaker
from sheer.model.own import Source
from sheer.record.run import Module

__all__ = ["HeadMaker", "Source", "own_module"]


def own_module(made_by: Source | HeadMaker) -> Module:
    """Name and source hash of a module's class or of the function that makes it; "" where the source is not to be had."""
    target = type(made_by) if isinstance(made_by, nn.Module) else made_by
    try:
        source = inspect.getsource(cast(type, target))
    except (OSError, TypeError):
        source = ""
    return Module(name=getattr(target, "__name__", "?"), source_sha256=hashlib.sha256(source.encode()).hexdigest() if source else "")
