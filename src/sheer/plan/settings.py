"""What a profile is made of: settings with their reasons, and the phases that its source trains in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sheer.plan.plan import Value

Choice = str | tuple[str, Mapping[str, Value]]


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A value nobody gave, and in one sentence why it is this one."""

    value: Value
    reason: str


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """A phase of a source's own training; its epochs are `times` those that the caller gives.

    `rate` is one for every stage, or what a slice is made of: (last,) or (first, last). `frozen`: the head trains
    alone. `schedule` is a name, or names with settings and their shares of the steps.
    """

    name: str
    times: float
    rate: float | tuple[float, ...]
    frozen: bool
    schedule: str | tuple[tuple[Choice, float], ...]
    reason: str


@dataclass(frozen=True, kw_only=True)
class Profile:
    """A named set of settings; `source` says where they come from. Without `stretches` its own training is fine_tune."""

    name: str
    source: str
    settings: dict[str, Setting]
    stretches: tuple[Stretch, ...] = ()

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


SHARED = {
    "epochs": Setting(value=(3, 0, 3), reason="what three epochs do tells whether more are worth their time"),
    "tabular.epochs": Setting(
        value=(10, 300, 50),
        reason="at least 10, as many as take 300 steps, at most 50: a network from random weights learns little in fewer, and more "
        "overfit some tables (log 2026-11-21)",
    ),
    "rate": Setting(value=1e-3, reason="peak rate of fit and fit_one_cycle when none is given"),
    "precision.cuda": Setting(value="float32", reason="full precision"),
    "memory_format.cuda": Setting(value="contiguous", reason="tensors as PyTorch makes them"),
    "rate.sliced": Setting(value=False, reason="every stage that trains at this rate"),
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
    "fine_tune.fit": Setting(value=False, reason="the new head is trained"),
    "prefix": Setting(value="whole", reason="the whole network runs at every step"),
    "prefix.views": Setting(value=2, reason="two draws of each item come in turn"),
    "prefix.batch_size": Setting(value=8, reason="small batches stay in the processor's caches (log 2026-11-21)"),
    "prefix.batch_size.gpu": Setting(value=128, reason="large batches fill a GPU; not measured yet"),
    "prefix.fold": Setting(value=True, reason="one pass over memory less a norm layer (log 2026-11-21)"),
    "lbfgs.folds": Setting(value=3, reason="enough to tell penalties apart"),
    "lbfgs.penalties": Setting(value=(1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001), reason="from almost no weights to almost no penalty"),
    "fine_tune.frozen_warmup": Setting(value=0.99, reason="the frozen phase only warms up"),
    "fine_tune.unfrozen_divisor": Setting(value=2.0, reason="half the rate once the body trains"),
    "fine_tune.fitted_divisor": Setting(
        value=8.0, reason="an eighth of the rate after a fitted head: higher ones threw away what it had (log 2026-11-21)"
    ),
    "fine_tune.spread": Setting(value=100.0, reason="the first stage trains at a hundredth of the head's rate"),
    "fine_tune.unfrozen_warmup": Setting(value=0.3, reason="a little longer warm-up for the whole network"),
    "fine_tune.unfrozen_start_div": Setting(value=5.0, reason="the head is warm already: starts at a fifth"),
    "mix": Setting(value="none", reason="items are not mixed"),
    "head.name": Setting(value="concat_pool", reason="max and average pooling see different things; two small layers"),
    "head.hidden": Setting(value=(512,), reason="one hidden layer of 512"),
    "head.dropout": Setting(value=0.5, reason="half of it before the hidden layer, all of it after"),
    "head.pool": Setting(value="avg", reason="the mean over places"),
    "head.init": Setting(value="torch", reason="torch's own initial weights of linear layers"),
    "fusion": Setting(value="concat", reason="nothing to learn but the head, which sees every branch"),
    "fusion.hidden": Setting(
        value=(512,), reason="a hidden layer, in which the branches meet: a linear head would only add up what each says"
    ),
    "fusion.dropout": Setting(value=0.5, reason="half of it before the hidden layer, all of it after"),
    "fusion.width": Setting(value=256, reason="the width to which each branch is brought"),
    "fusion.heads": Setting(value=4, reason="64 numbers a head of attention"),
    "tabular.hidden": Setting(value=(200, 100), reason="two layers, as fastai's tabular learner has them"),
    "tabular.dropout": Setting(value=0.0, reason="none between the layers of a network for tables"),
    "tabular.embedding_dropout": Setting(value=0.0, reason="none on the embeddings"),
    "table.model": Setting(value="tabular", reason="the network of fastai's tabular learner"),
    "tabm.members": Setting(value=16, reason="half of its authors' 32: no worse, and twice as fast (log 2026-11-21)"),
    "tabm.hidden": Setting(value=(128, 128), reason="a CPU trains it in some five times the time of the other network (log 2026-11-21)"),
    "tabm.dropout": Setting(value=0.1, reason="its authors' own"),
    "tabm.embedding": Setting(value=16, reason="its authors' own width of a number's piecewise-linear embedding"),
    "tabm.one_hot": Setting(value=64, reason="columns of more codes would make the first layer wide: they get embeddings"),
    "tabm.rate_factor": Setting(value=3.0, reason="TabM takes larger steps: better on all of four tables (log 2026-11-21)"),
    "tabular.batch_size": Setting(value=64, reason="a step of a network for tables costs little: fewer steps an epoch"),
    "tabular.norm": Setting(value="train", reason="the network starts from random weights, so its norm layers have to learn too"),
    "lora.rank": Setting(value=8, reason="a change of rank 8: its authors found no gain beyond it"),
    "lora.alpha": Setting(value=16.0, reason="alpha twice the rank, as usual"),
    "lora.layers": Setting(value=(), reason="beside every linear layer of the body"),
    "text.pool": Setting(value="mean", reason="the mean over the words of a text"),
    "text.batch_size": Setting(value=32, reason="as for pictures"),
    "text.norm_frozen": Setting(value="frozen", reason="LayerNorm has no statistics: frozen means that its weights stand still"),
    "text.norm": Setting(value="train", reason="LayerNorm has no statistics that could go wrong: it trains with its stage"),
    "channel_init": Setting(value="zero", reason="keeps what the weights know of red, green and blue; further channels start silent"),
    "bad_files": Setting(value="raise", reason="a file that cannot be read may be one that matters: you decide"),
    "unknown": Setting(value="raise", reason="a label that nothing can be learned of may be a slip: you decide"),
    "valid": Setting(value=0.2, reason="a fifth is held out"),
    "loss.classify": Setting(value="cross_entropy", reason="one class an item"),
    "loss.tag": Setting(value="binary_cross_entropy", reason="each label by itself"),
    "loss.regress": Setting(value="squared_error", reason="the mean is what is predicted"),
    "metrics.classify": Setting(value=("accuracy", "balanced_accuracy"), reason="what is right, and what is right a class"),
    "metrics.tag": Setting(value=("f1", "average_precision"), reason="at a threshold of 0.5, and over all thresholds"),
    "metrics.regress": Setting(value=("mean_absolute_error", "r2"), reason="in the unit of the target, and as a share of its variance"),
    "weighted_metrics": Setting(value=False, reason="every held-out item counts alike; weights say what is learned from it"),
    "size": Setting(value=None, reason="the size the weights were made for"),
    "resize.method": Setting(value="crop", reason="keeps shapes, fills the square"),
    "resize.padding": Setting(value="reflection", reason="goes on with the picture's own texture, without the edge of a black bar"),
    "loss_mean": Setting(value="weights", reason="torch's weighted mean: the scale of the weights does not matter"),
    "loss.label_smoothing": Setting(value=0.0, reason="plain cross-entropy"),
    "huber.delta": Setting(value=1.0, reason="squared within one standard deviation, linear beyond"),
    "focal.gamma": Setting(value=2.0, reason="the exponent its authors found best"),
    "optimizer": Setting(value="adamw", reason="torch's AdamW"),
    "sgd.nesterov": Setting(value=False, reason="plain momentum"),
    "rmsprop.alpha": Setting(value=0.99, reason="torch's own"),
    "rmsprop.eps": Setting(value=1e-8, reason="torch's own"),
    "rmsprop.implementation": Setting(value="foreach", reason="torch has no fused RMSprop"),
    "sampling": Setting(value="shuffle", reason="every item once an epoch"),
    "clip": Setting(value=0.0, reason="gradients as they are"),
    "skip_limit": Setting(value=10, reason="a few bad items come one at a time; what goes on this long does not mend itself"),
    "keep": Setting(value="last", reason="the weights that training ends with"),
    "flat_cosine.start": Setting(value=0.75, reason="flat for three quarters of the steps, then down"),
    "step.every": Setting(value=1 / 3, reason="two falls: long stretches at each rate"),
    "step.factor": Setting(value=0.1, reason="a tenth from one stretch to the next"),
    "sgdr.cycles": Setting(value=2, reason="one restart: short runs"),
    "sgdr.mult": Setting(value=2.0, reason="each cycle twice as long as the one before"),
    "fall.start": Setting(value=1.0, reason="begins at the peak"),
    "fall.end": Setting(value=0.0, reason="ends near 0"),
    "exponential.end": Setting(value=0.01, reason="ends at a hundredth: equal ratios never reach 0"),
    "polynomial.power": Setting(value=2.0, reason="a parabola"),
    "progressive.shares": Setting(value=(0.6, 0.8, 1.0), reason="small pictures first: most steps are cheap; then the whole side"),
}
