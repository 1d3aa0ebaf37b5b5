"""Which lines of the templates a run needs: those marked `# only NAME` stay where NAME is one of its marks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from sheer.data.pictures import cut_of
from sheer.loop.batch_loss import weighs
from sheer.model.prefix import MOST_IN_MEMORY
from sheer.model.rebuild import OWN
from sheer.plan.facts import adapter_of
from sheer.plan.plan import Plan
from sheer.record.run import Event


def needed_marks(plan: Plan, events: Sequence[Event] = ()) -> frozenset[str]:
    """Which marks (`# only NAME`) of the template the plan needs."""
    phases, numerics = plan.phases, plan.numerics
    cached = [phase.prefix.options() for phase in phases if phase.prefix.name == "cached"]
    chain = all(_is_chain(plan, options["modules"]) for options in cached)
    pictures = plan.data.pictures != "none" if plan.data.inputs else not plan.data.columns
    one_size = pictures and not plan.data.inputs and len({(phase.size, repr(cut_of(phase))) for phase in phases}) == 1
    one_size = one_size and not any(phase.resident for phase in phases)
    part = plan.data.split.options().get("train") or plan.data.split.options().get("part")
    small = all(_most_values(plan, options) * 4 <= MOST_IN_MEMORY for options in cached)
    marks = {
        "parts": plan.data.split.name == "folders",
        "split": plan.data.split.name != "folders",
        "weight": bool(plan.data.weight),
        "alike": not plan.weighted_metrics,
        "weighted_metrics": plan.weighted_metrics,
        "per_weight": any(weighs(phase, plan.data.weight or None) for phase in phases),
        "splits": any(event.kind in ("split", "split valid") for event in events),
        "skip": bool(plan.data.skipped),
        "resident": any(phase.resident for phase in phases) and plan.data.pictures != "none",
        "photos": pictures,
        "part": bool(part),
        "no part": not part,
        "table": any(one.kind != "image" for one in plan.data.inputs),
        "encoder": any(branch.model.name.startswith("transformers:") for branch in plan.model.branches),
        "timm": any(branch.model.name.startswith("timm:") for branch in plan.model.branches),
        "torchvision": any(branch.model.name.startswith("torchvision:") for branch in plan.model.branches),
        "mix": any(phase.mix for phase in phases),
        "sampling": any(phase.sampling != "shuffle" for phase in phases),
        "average": any(phase.ema for phase in phases),
        "keep": any(phase.keep.name != "last" for phase in phases),
        "stop": any(phase.stop for phase in phases),
        "autocast": numerics.precision != "float32",
        "compile": numerics.compile,
        "fits": any(phase.optimizer.name == "lbfgs" for phase in phases),
        "no fits": all(phase.optimizer.name != "lbfgs" for phase in phases),
        "moves": _moves(plan) or any(event.kind == "skipped" for event in events),
        "cpu": numerics.device == "cpu",
        "gpu": numerics.device != "cpu",
        "sizes": not one_size,
        "one size": one_size,
        "reads": pictures and not one_size,
        "cached": bool(cached),
        "chain": bool(cached) and chain,
        "cut": bool(cached) and not chain,
        "small": small,
        "large": not small,
        "fold": any(options["fold"] for options in cached),
        "views": any(options["views"] for options in cached),
        "channels": plan.model.channel_init != "kept",
        "lora": plan.model.lora is not None,
        "adapter": bool(adapter_of(plan.model.lora)),
        "own": any(branch.model.name.partition(":")[0] in OWN for branch in plan.model.branches),
        "afresh": plan.model.channel_init != "kept" or plan.model.lora is not None,
    }
    return frozenset(name for name, used in marks.items() if used)


def _is_chain(plan: Plan, modules: Any) -> bool:
    """Whether the frozen `modules` are the body and the first layers of a head, so that each takes what the one before it gives."""
    layers = plan.model.head is not None and plan.model.head.name in ("linear", "concat_pool", "plain")
    plain = plan.numerics.precision == "float32"  # autocast is a hook of the whole network
    return layers and plain and not plan.data.inputs and modules[0] == "body" and all(name.startswith("head.") for name in modules[1:])


def _most_values(plan: Plan, options: Mapping[str, Any]) -> float:
    """At most so many numbers are kept of all items: up to two pooled ones a channel; of a map nobody knows."""
    pooled = _is_chain(plan, options["modules"]) and (plan.model.kind == "vector" or len(options["modules"]) > 1)
    items = plan.data.train_items + plan.data.valid_items
    return 2.0 * plan.model.features * items * max(options["views"], 1) if pooled else math.inf


def _moves(plan: Plan) -> bool:
    """Whether a forward pass in training may move what is no parameter: statistics of norm layers, or what your own modules keep."""
    names = [plan.model.name, *(branch.model.name for branch in plan.model.branches)]
    known = plan.model.head is not None and plan.model.head.name == "linear" and not any(name.partition(":")[0] in OWN for name in names)
    return not known or any(policy != "frozen" for phase in plan.phases for policy in phase.norm[:-1])
