"""Profiles: named sets of constants that recipes and defaults draw on, as data with their source.

A profile holds constants and policies, never another framework's faults.
"""

from __future__ import annotations

from dataclasses import dataclass

from sheer.errors import PlanError, known, nearest
from sheer.plan.plan import Value


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A value nobody gave, and in one sentence why it is this one."""

    value: Value
    reason: str


@dataclass(frozen=True, kw_only=True)
class Profile:
    """A named set of settings; `source` says where they come from."""

    name: str
    source: str
    settings: dict[str, Setting]

    def value(self, key: str) -> Value:
        """The setting's value."""
        return self.settings[key].value

    def number(self, key: str) -> float:
        """The setting's value as a float."""
        value = self.settings[key].value
        if not isinstance(value, int | float):
            raise TypeError(f"{self.name}: {key} is {value!r}, no number")
        return float(value)

    def reason(self, key: str) -> str:
        """The setting's reason."""
        return self.settings[key].reason


_SHARED = {
    "rate": Setting(value=1e-3, reason="peak rate of fit and fit_one_cycle when none is given"),
    "rest_divisor": Setting(value=10.0, reason="slice(x) gives the body a tenth of the head's rate"),
    "momentum_high": Setting(value=0.95, reason="momentum is high where the rate is low"),
    "momentum_low": Setting(value=0.85, reason="momentum is low where the rate is high"),
    "constant_momentum": Setting(value=0.9, reason="Adam's usual beta1"),
    "beta2": Setting(value=0.99, reason="a shorter memory of squared gradients than torch's 0.999: short runs"),
    "eps": Setting(value=1e-5, reason="larger than torch's 1e-8: tames steps where gradients are tiny"),
    "weight_decay": Setting(value=0.01, reason="decoupled decay, a hundredth of the rate a step"),
    "one_cycle.warmup": Setting(value=0.25, reason="a quarter of the steps up, the rest down"),
    "one_cycle.start_div": Setting(value=25.0, reason="starts at a 25th of the peak"),
    "one_cycle.end_div": Setting(value=1e5, reason="ends near 0"),
    "fine_tune.rate": Setting(value=2e-3, reason="base rate of fine_tune"),
    "fine_tune.freeze_epochs": Setting(value=1, reason="one epoch for the new head before the body moves"),
    "fine_tune.frozen_warmup": Setting(value=0.99, reason="the frozen phase only warms up"),
    "fine_tune.unfrozen_divisor": Setting(value=2.0, reason="half the rate once the body trains"),
    "fine_tune.spread": Setting(value=100.0, reason="the first stage trains at a hundredth of the head's rate"),
    "fine_tune.unfrozen_warmup": Setting(value=0.3, reason="a little longer warm-up for the whole network"),
    "fine_tune.unfrozen_start_div": Setting(value=5.0, reason="the head is warm already: starts at a fifth"),
    "mix": Setting(value="none", reason="items are not mixed"),
    "head.name": Setting(value="concat_pool", reason="max and average pooling see different things; two small layers"),
    "head.hidden": Setting(value=(512,), reason="one hidden layer of 512"),
    "head.dropout": Setting(value=0.5, reason="half of it before the hidden layer, all of it after"),
    "channel_init": Setting(value="zero", reason="keeps what the weights know of red, green and blue; further channels start silent"),
    "valid": Setting(value=0.2, reason="a fifth is held out"),
    "loss.classify": Setting(value="cross_entropy", reason="one class an item"),
    "loss.tag": Setting(value="binary_cross_entropy", reason="each label by itself"),
    "loss.regress": Setting(value="squared_error", reason="the mean is what is predicted"),
    "metrics.classify": Setting(value=("accuracy", "balanced_accuracy"), reason="what is right, and what is right a class"),
    "metrics.tag": Setting(value=("f1", "average_precision"), reason="at a threshold of 0.5, and over all thresholds"),
    "metrics.regress": Setting(value=("mean_absolute_error", "r2"), reason="in the unit of the target, and as a share of its variance"),
    "resize.method": Setting(value="crop", reason="keeps shapes, fills the square"),
    "resize.padding": Setting(value="reflection", reason="goes on with the picture's own texture, without the edge of a black bar"),
    "loss.label_smoothing": Setting(value=0.0, reason="plain cross-entropy"),
    "huber.delta": Setting(value=1.0, reason="squared within one standard deviation, linear beyond"),
    "focal.gamma": Setting(value=2.0, reason="the exponent its authors found best"),
    "optimizer": Setting(value="adamw", reason="torch's AdamW"),
    "sgd.nesterov": Setting(value=False, reason="plain momentum"),
    "rmsprop.alpha": Setting(value=0.99, reason="torch's own"),
    "rmsprop.eps": Setting(value=1e-8, reason="torch's own"),
    "rmsprop.implementation": Setting(value="foreach", reason="torch has no fused RMSprop"),
    "sampling": Setting(value="shuffle", reason="every item once an epoch"),
    "keep": Setting(value="last", reason="the weights that training ends with"),
    "flat_cosine.start": Setting(value=0.75, reason="flat for three quarters of the steps, then down"),
    "sgdr.cycles": Setting(value=2, reason="one restart: short runs"),
    "sgdr.mult": Setting(value=2.0, reason="each cycle twice as long as the one before"),
    "fall.start": Setting(value=1.0, reason="begins at the peak"),
    "fall.end": Setting(value=0.0, reason="ends near 0"),
    "exponential.end": Setting(value=0.01, reason="ends at a hundredth: equal ratios never reach 0"),
    "polynomial.power": Setting(value=2.0, reason="a parabola"),
    "progressive.sizes": Setting(value=(96, 128, 160), reason="small pictures first: most steps are cheap"),
}

_DEFAULT = {
    **_SHARED,
    "norm_frozen": Setting(value="frozen", reason="statistics learnt on millions of pictures beat those of a few batches (log 2026-11-21)"),
    "norm_trained": Setting(
        value="frozen", reason="going over to statistics of small batches threw away what the head had learnt (log 2026-11-21)"
    ),
    "no_decay": Setting(value="norm_bias_1d", reason="shrinking scales, biases, tokens and positions regularises nothing"),
    "batch_size": Setting(value=32, reason="more steps an epoch than 64, and about as fast on a CPU (log 2026-11-21)"),
    "last_batch": Setting(value="drop", reason="a short last batch would unsettle norm layers; another one each epoch"),
    "split": Setting(value="stratified", reason="each class has the same share in both parts"),
    "stages": Setting(value="stride", reason="early: up to stride 8, general shapes; late: the rest; head"),
    "augmentation": Setting(value="light", reason="mirror images of most things are things of the same class"),
    "resize.fraction": Setting(value=None, reason="the crop fraction the weights were evaluated with"),
    "resize.interpolation": Setting(value=None, reason="the interpolation the weights were trained with"),
    "size.cpu": Setting(value=160, reason="half the work of 224 on a CPU (log 2026-11-21)"),
    "implementation": Setting(value="fused", reason="one kernel for all tensors; differs from the plain loop by 6e-8"),
    "memory_format.cpu": Setting(value="channels_last", reason="faster on a CPU in 8 of 9 measurements (log 2026-11-21)"),
}

_FASTAI = {
    **_SHARED,
    "norm_frozen": Setting(value="train", reason="train_bn=True: norm layers of a frozen body train"),
    "norm_trained": Setting(value="train", reason="norm layers train with their stage"),
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
}


def profile_named(name: str) -> Profile:
    """The profile of that name; PlanError with the nearest names otherwise."""
    if not known(name, PROFILES):
        raise PlanError(f"There is no profile {name!r}. {nearest(name, PROFILES)}")
    return PROFILES[name]
