"""Profiles: named sets of constants that recipes and defaults draw on, as data with their source.

A profile holds constants and policies, never another framework's faults. Those of frameworks other than fastai 2 are in
`plan/frameworks.py`.
"""

from __future__ import annotations

from sheer.errors import PlanError, known, nearest
from sheer.plan.frameworks import FRAMEWORKS
from sheer.plan.settings import SHARED, Choice, Profile, Setting

__all__ = ["PROFILES", "Choice", "Profile", "profile_named"]

_DEFAULT = {
    **SHARED,
    "norm_frozen": Setting(value="frozen", reason="statistics learnt on millions of pictures beat those of a few batches (log 2026-11-21)"),
    "norm_trained": Setting(
        value="frozen", reason="going over to statistics of small batches threw away what the head had learnt (log 2026-11-21)"
    ),
    "no_decay": Setting(value="norm_bias_1d", reason="shrinking scales, biases, tokens and positions regularises nothing"),
    "fine_tune.fit": Setting(value=True, reason="better than an epoch of steps, in a fraction of the time (log 2026-11-21)"),
    "prefix": Setting(value="cached", reason="what does not change is computed once an item"),
    "head.name": Setting(value="linear", reason="one layer can be fitted, and two small ones were not better (log 2026-11-21)"),
    "head.dropout": Setting(value=0.0, reason="the penalty of the fit does what dropout would"),
    "batch_size": Setting(value=32, reason="more steps an epoch than 64, and about as fast on a CPU (log 2026-11-21)"),
    "last_batch": Setting(value="drop", reason="a short last batch would unsettle norm layers; another one each epoch"),
    "split": Setting(value="stratified", reason="each class has the same share in both parts"),
    "stages": Setting(value="stride", reason="early: up to stride 8, general shapes; late: the rest; head"),
    "augmentation": Setting(value="light", reason="mirror images of most things are things of the same class"),
    "resize.fraction": Setting(value=None, reason="the crop fraction the weights were evaluated with"),
    "resize.interpolation": Setting(value=None, reason="the interpolation the weights were trained with"),
    "size.cpu": Setting(value=160, reason="half the work of 224 on a CPU (log 2026-11-21)"),
    "table.model": Setting(value="tabm", reason="a lower loss than fastai's network on four tables with every seed (log 2026-11-21)"),
    "implementation": Setting(value="fused", reason="one kernel for all tensors; differs from the plain loop by 6e-8"),
    "memory_format.cpu": Setting(value="channels_last", reason="faster on a CPU in 8 of 9 measurements (log 2026-11-21)"),
    "memory_format.cuda": Setting(value="probe", reason="it halves the speed of some networks and adds half to that of others"),
    "precision.cuda": Setting(value="probe", reason="bf16 is two to three times as fast on tensor cores, and slower without them"),
}

_FASTAI = {
    **SHARED,
    "norm_frozen": Setting(value="train", reason="train_bn=True: norm layers of a frozen body train"),
    "norm_trained": Setting(value="train", reason="norm layers train with their stage"),
    "text.norm_frozen": Setting(value="train", reason="train_bn=True: LayerNorm is among its norm layers"),
    "no_decay": Setting(value="norm_bias", reason="wd_bn_bias=False: norm layers and biases are not decayed"),
    "batch_size": Setting(value=64, reason="bs=64"),
    "last_batch": Setting(value="drop", reason="training loaders drop the last short batch"),
    "split": Setting(value="random", reason="RandomSplitter"),
    "stages": Setting(value="fastai", reason="body[:6] | rest | head for resnets; body | head for timm names"),
    "augmentation": Setting(value="none", reason="none unless batch_tfms are given"),
    "resize.fraction": Setting(value=1.0, reason="Resize cuts the largest square"),
    "resize.interpolation": Setting(value="bilinear", reason="Resize uses Pillow's bilinear filter"),
    "size.cpu": Setting(value=None, reason="the size the weights were trained at"),
    "implementation": Setting(value="foreach", reason="torch's AdamW, bit for bit the plain loop over tensors"),
    "memory_format.cpu": Setting(value="contiguous", reason="tensors as PyTorch makes them"),
}

PROFILES = {
    "default": Profile(name="default", source="sheer's own experiments, docs/log.md", settings=_DEFAULT),
    "fastai-2.8": Profile(
        name="fastai-2.8", source="fastai 2.8.12: learner.py, optimizer.py, callback/schedule.py, vision/learner.py", settings=_FASTAI
    ),
    **FRAMEWORKS,
}


def profile_named(name: str) -> Profile:
    """The profile of that name; PlanError with the nearest names otherwise."""
    if not known(name, PROFILES):
        raise PlanError(f"There is no profile {name!r}. {nearest(name, PROFILES)}")
    return PROFILES[name]
