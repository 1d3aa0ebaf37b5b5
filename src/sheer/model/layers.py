"""Stages by layer: every block of the body a stage of its own, for rates that fall layer by layer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from torch import nn

from sheer.errors import ModelError, PlanError
from sheer.model.build import Built, tensor_facts
from sheer.model.stages import is_norm
from sheer.plan.plan import Origin, Stage

CONTAINERS = (nn.Sequential, nn.ModuleList)


def _holds_blocks(module: nn.Module) -> bool:
    """Whether somewhere in it a container repeats one kind of module: then it is a stage of blocks, not a block."""
    for inner in module.modules():
        kinds = [type(child) for child in inner.children()] if isinstance(inner, CONTAINERS) else []
        if len(kinds) > 1 and len(set(kinds)) == 1:
            return True
    return False


def _parts(module: nn.Module, path: str) -> Iterator[tuple[str, nn.Module | None]]:
    """(name, block) in the module's order; (name, None) for a parameter that an opened module holds itself."""
    for name, _ in module.named_parameters(recurse=False):
        yield f"{path}.{name}", None
    for name, child in module.named_children():
        inside = f"{path}.{name}"
        if isinstance(child, CONTAINERS) or _holds_blocks(child):
            yield from _parts(child, inside)
        elif any(True for _ in child.parameters()):
            yield inside, child


def layer_stages(body: nn.Module) -> tuple[Stage, ...]:
    """A stage a block of `body`, in its order, then the head; norm layers and loose tensors join a neighbour.

    A block is what a container repeats, or a module without such a container in it. A norm layer
    (or a module of nothing else) beside blocks belongs to the block before it, loose tensors (tokens, positions) to the first block.
    """
    groups: list[list[str]] = []
    loose: list[str] = []
    for name, block in _parts(body, "body"):
        if block is None:
            loose.append(name)
        elif groups and all(is_norm(owner) for owner in block.modules() if list(owner.parameters(recurse=False))):
            groups[-1].append(name)
        else:
            groups.append([name])
    groups = groups or [[]]
    groups[0] = [*loose, *groups[0]]
    first = [next((name for name in group if name not in loose), group[0] if group else "body") for group in groups]
    blocks = tuple(Stage(name=name.removeprefix("body."), prefixes=tuple(group)) for name, group in zip(first, groups, strict=True))
    return (*blocks, Stage(name="head", prefixes=("head",)))


def by_layers(built: Built, rule: str) -> Built:
    """The same model with a stage a layer.

    Raises:
        PlanError: the rule is not `layers`.
        ModelError: the module is your own, whose blocks nobody has named.
    """
    if rule != "layers":
        raise PlanError(f"stages={rule!r}: give 'layers', or leave it away for the profile's rule.")
    if built.plan.head is None:
        raise ModelError("stages='layers' is for models by name; a module of your own is one stage.")
    stages = layer_stages(built.model.get_submodule("body"))
    kept = tuple(origin for origin in built.plan.origins if origin.field != "stages")
    why = Origin(field="stages", by="you", reason="you gave layers: every block a stage of its own")
    plan = replace(built.plan, stages=stages, origins=(*kept, why))
    return replace(built, plan=plan, tensors=tensor_facts(built.model, stages, plan.undecayed))
