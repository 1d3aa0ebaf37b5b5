"""What of a network does not train, found by one pass and proved: run by itself and followed by the rest it gives the same."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from sheer.data.inputs import Inputs
from sheer.errors import first_line
from sheer.model.branches import sample_items
from sheer.model.fusion import Fused, branch_of
from sheer.model.prefix import Prefix, fold_norms, suffix
from sheer.model.stages import set_modes, set_trainable
from sheer.model.surgery import sample_inputs
from sheer.plan.facts import PrefixFact
from sheer.plan.plan import InputPlan, ModelPlan, Numerics

CLOSE = 1e-3
Pace = Callable[..., tuple[int, str]]


def cut(model: Any, modules: Sequence[str]) -> dict[str, tuple[nn.Module, str]]:
    """What runs by itself and its last module, by input: "" for a network of one; of several, each branch that has such a part."""
    if not isinstance(getattr(model, "body", None), Fused):
        return {"": (model, modules[-1])}
    parts = {name: branch_of(model, name, modules) for name in model.body.branches}
    return {name: (part, last) for name, (part, last) in parts.items() if last}


def features_of(model: nn.Module, modules: Sequence[str], inputs: Any, fold: bool = False) -> Any:
    """What goes into the rest of the network: the features of a batch; of several inputs, those of the branches that are cut."""
    parts = parts_of(inputs)
    for name, (part, last) in cut(model, modules).items():
        prefix = Prefix(part, last)
        if fold:
            fold_norms(prefix, parts[name])
        parts[name] = prefix(parts[name]).clone()  # no tensor of inference mode, so that backward may keep it
    return Inputs(parts, inputs.present) if isinstance(inputs, Inputs) else parts[""]


def prefix_fact(
    model: nn.Module, stages: Sequence[Sequence[str]], trains_from: int, norm: Sequence[str], sample: Any, pace: Pace | None = None
) -> PrefixFact:
    """What is known of the part of `model` before the first tensor that trains; `sample` are two inputs.
    The fact can measure what the part takes by `pace` (model, modules, inputs, usual batch size, fold).

    Of several inputs each branch may have such a part. The proof: in eval mode the part, then the model with Identity in its place,
    give the model's own scores bit for bit. Features with norm layers folded may differ by `CLOSE` of the largest one; beyond
    that they are not folded.
    """
    if not trains_from:
        return _none("everything trains", frozen=False)
    if set(norm[:trains_from]) != {"frozen"}:
        return _none("norm layers of the frozen stages do not stand still", frozen=False)
    device = next(model.parameters()).device
    copied, sample = copy.deepcopy(model), sample.to(device)
    set_trainable(copied, stages, trains_from, norm)
    set_modes(copied, stages, trains_from, norm)
    moving = [module for module in copied.modules() if _moves(module)]
    copied.eval()
    try:
        modules = _of_branches(copied, moving, sample) if isinstance(sample, Inputs) else _before(copied, moving, sample)
    except Exception as error:  # a user's own forward may raise anything
        return _none(f"the network does not take two items ({first_line(error)})")
    if not modules:
        return _none("no module ends before the first tensor that trains")
    with torch.inference_mode():
        rest = suffix(copied, modules)
        try:
            features, scores = features_of(copied, modules, sample), copied(sample)
            same = torch.equal(rest(features), scores)
        except (RuntimeError, TypeError, ValueError, AttributeError, IndexError) as error:
            return _none(f"the rest does not take what {modules[-1]} gives ({first_line(error)})")
        if not same:
            return _none(f"the rest gives other scores from what {modules[-1]} gives")
        trained = [module for module in rest.modules() if any(p.requires_grad for p in module.parameters(recurse=False))]
        linear = len(trained) == 1 and isinstance(trained[0], nn.Linear) and trained[0].bias is not None
        linear = linear and isinstance(features, torch.Tensor) and features.ndim == 2 and torch.equal(trained[0](features), scores)
        plain, folded = (_kept(copied, modules, one) for one in (features, features_of(copied, modules, sample, fold=True)))
        apart = max(float((a - b).abs().max() / b.abs().max().clamp_min(1e-12)) for a, b in zip(folded, plain, strict=True))
    proof = "the same scores bit for bit on two inputs" + (f"; folded, features differ by {apart:.0e} of the largest" if apart else "")
    values, fold = sum(part[0].numel() for part in plain), 0 < apart <= CLOSE
    drawn = any(parts_of(sample)[name].ndim == 4 for name in cut(copied, modules))
    measure = None if pace is None else functools.cache(functools.partial(pace, model, modules, sample))
    return PrefixFact(frozen=True, modules=modules, values=values, linear=linear, fold=fold, proof=proof, drawn=drawn, pace=measure)


def parts_of(inputs: Any) -> dict[str, torch.Tensor]:
    """A batch by input; "" for a network of one."""
    return dict(inputs.parts) if isinstance(inputs, Inputs) else {"": inputs}


def _kept(model: nn.Module, modules: Sequence[str], features: Any) -> list[torch.Tensor]:
    """The features alone, without inputs that go in as they are."""
    return [features.parts[name] if isinstance(features, Inputs) else features for name in cut(model, modules)]


def _of_branches(model: Any, moving: list[nn.Module], sample: Inputs) -> tuple[str, ...]:
    """`_before` of each branch that holds something frozen.

    Photographs of one item are drawn alike, so if those of one input are read at every step, those of the others are too.
    """
    found = dict.fromkeys(sample.parts, tuple[str, ...]())
    for name, part in sample.parts.items():
        branch, _ = branch_of(model, name, ())
        if not all(parameter.requires_grad for parameter in branch.parameters()):
            ended = _before(branch, moving, part)
            found[name] = tuple(f"body.{'pools' if one[0] == '1' else 'branches'}.{name}{one[1:]}" for one in ended)
    pictures = [name for name, part in sample.parts.items() if part.ndim == 4]
    if not all(found[name] for name in pictures):
        found |= dict.fromkeys(pictures, ())
    return tuple(one for names in found.values() for one in names)


@dataclass(kw_only=True)
class Facts:
    """`prefix_fact` of one network by trains_from, norm and size, each asked for once.

    `arrays` are its items, if in memory, and `inputs` what an item has, if that is several inputs. `pace` is `frozen_batch` of
    loop/probe.py under the plan's numerics.
    """

    model: nn.Module
    plan: ModelPlan
    arrays: torch.Tensor | None
    numerics: Numerics
    inputs: Sequence[InputPlan] = ()
    pace: Pace | None = None
    known: dict[tuple[int, tuple[str, ...], int], PrefixFact] = field(default_factory=dict)

    def __call__(self, trains_from: int, norm: tuple[str, ...], size: int) -> PrefixFact:
        """What is known of what does not train."""
        if self.numerics.compile:
            return _none("the network is compiled as a whole", frozen=False)
        key = (trains_from, norm, size)
        if key not in self.known:
            stages = [stage.prefixes for stage in self.plan.stages]
            sample: Any = sample_inputs(self.arrays, size, self.plan.channels or 3)
            if self.inputs:
                sample = sample_items(self.inputs, 2, size)
            self.known[key] = prefix_fact(self.model, stages, trains_from, norm, sample, self.pace)
        return self.known[key]


def _none(proof: str, frozen: bool = True) -> PrefixFact:
    return PrefixFact(frozen=frozen, modules=(), values=0, linear=False, fold=False, proof=proof)


def _moves(module: nn.Module) -> bool:
    """Whether the module itself trains, draws at random, or keeps statistics, in its present mode."""
    drops = isinstance(module, nn.modules.dropout._DropoutNd) and module.p > 0
    running = module.training and (drops or any(True for _ in module.buffers(recurse=False)))
    drops_paths = module.training and bool(getattr(module, "drop_prob", 0))
    return running or drops_paths or any(p.requires_grad for p in module.parameters(recurse=False))


def _before(model: nn.Module, moving: list[nn.Module], sample: torch.Tensor) -> tuple[str, ...]:
    """The largest modules that have ended before the first moving one begins, in that order."""
    names, ended, begun = {module: name for name, module in model.named_modules()}, list[str](), list[str]()

    def begin(module: nn.Module, inputs: object) -> None:
        if module in moving:
            begun.append(names[module])

    def end(module: nn.Module, inputs: object, output: object) -> None:
        if not begun and isinstance(output, torch.Tensor):
            ended.append(names[module])

    hooks = [module.register_forward_pre_hook(begin) for module in names] + [module.register_forward_hook(end) for module in names]
    with torch.inference_mode():
        model(sample)
    for hook in hooks:
        hook.remove()
    done = dict.fromkeys(ended)
    return tuple(name for name in done if name and not any(name.startswith(other + ".") for other in done if other))
