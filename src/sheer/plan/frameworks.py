"""Other frameworks' settings as profiles: what their own guides, scripts and defaults say, each with its source.

What a source leaves open is the default's. What sheer cannot do in the same way is said in the reason.
"""

from __future__ import annotations

from sheer.plan.settings import SHARED, Profile, Setting, Stretch

_TORCH = {
    **SHARED,
    "norm_frozen": Setting(value="adapt", reason="requires_grad=False fixes scale and shift; in train() the statistics still move"),
    "norm_trained": Setting(value="train", reason="train() and requires_grad=True: norm layers train with the rest"),
    "no_decay": Setting(value="none", reason="one parameter group: everything decays"),
    "batch_size": Setting(value=32, reason="left open by the source: sheer's default"),
    "last_batch": Setting(value="keep", reason="DataLoader's drop_last=False: a short last batch trains too"),
    "split": Setting(value="stratified", reason="left open by the source: sheer's default"),
    "stages": Setting(value="body", reason="body | head: one rate for the whole network, or one for each of the two"),
    "augmentation": Setting(value="inception", reason="RandomResizedCrop with its own settings, and RandomHorizontalFlip"),
    "resize.fraction": Setting(value=0.875, reason="Resize(256), CenterCrop(224)"),
    "resize.interpolation": Setting(value="bilinear", reason="torchvision's Resize is bilinear unless told otherwise"),
    "size.cpu": Setting(value=None, reason="the size the weights were trained at"),
    "beta2": Setting(value=0.999, reason="torch's own"),
    "eps": Setting(value=1e-8, reason="torch's own"),
    "constant_momentum": Setting(value=0.9, reason="torch's own beta1, and the momentum of nearly every SGD"),
    "weight_decay": Setting(value=0.0, reason="torch's Adam and SGD do not decay unless told to"),
    "implementation": Setting(value="foreach", reason="torch's own on a GPU; bit for bit the plain loop over tensors"),
    "memory_format.cpu": Setting(value="contiguous", reason="tensors as PyTorch makes them"),
    "head.name": Setting(value="plain", reason="the last linear layer is replaced"),
    "head.hidden": Setting(value=(), reason="no hidden layer"),
    "head.dropout": Setting(value=0.0, reason="no dropout in the new layer"),
    "head.init": Setting(value="torch", reason="nn.Linear as torch makes it"),
}

_KERAS = {
    **_TORCH,
    "norm_frozen": Setting(value="frozen", reason="trainable=False puts BatchNormalization in inference mode: nothing of it moves"),
    "norm_trained": Setting(
        value="frozen",
        reason="training=False keeps the statistics when the body trains (scale and shift train there; here they are fixed too)",
    ),
    "batch_size": Setting(value=32, reason="batch_size = 32"),
    "loss_mean": Setting(value="items", reason="reduction='sum_over_batch_size': weighted losses are divided by how many there are"),
    "augmentation": Setting(value="keras-guide", reason="RandomFlip('horizontal'), RandomRotation(0.1): a tenth of a turn either way"),
    "size": Setting(value=150, reason="Standardize to a fixed image size: 150x150"),
    "resize.method": Setting(value="squish", reason="tf.image.resize does not keep the aspect"),
    "resize.interpolation": Setting(value="bilinear", reason="tf.image.resize is bilinear (without antialiasing, which is used here)"),
    "optimizer": Setting(value="adam", reason="keras.optimizers.Adam()"),
    "eps": Setting(value=1e-7, reason="Keras's own"),
    "beta2": Setting(value=0.999, reason="Keras's own"),
    "rate": Setting(value=1e-3, reason="Keras's own for Adam"),
    "head.dropout": Setting(value=0.2, reason="Dropout(0.2) before the classes"),
    "head.init": Setting(value="glorot_uniform", reason="Dense's own initial weights"),
}

_TUTORIAL = {
    **_TORCH,
    "batch_size": Setting(value=4, reason="batch_size=4"),
    "optimizer": Setting(value="sgd", reason="optim.SGD, momentum 0.9"),
    "rate": Setting(value=1e-3, reason="lr=0.001"),
    "step.every": Setting(value=0.28, reason="StepLR(step_size=7) of 25 epochs: the same share of the steps"),
    "step.factor": Setting(value=0.1, reason="gamma=0.1"),
}

_TORCHVISION = {
    **_TORCH,
    "batch_size": Setting(value=32, reason="--batch-size 32"),
    "optimizer": Setting(value="sgd", reason="--opt sgd, --momentum 0.9"),
    "rate": Setting(value=0.1, reason="--lr 0.1"),
    "weight_decay": Setting(value=1e-4, reason="--wd 1e-4"),
    "no_decay": Setting(value="none", reason="--norm-weight-decay is not given: norm layers and biases decay too"),
    "step.every": Setting(value=1 / 3, reason="--lr-step-size 30 of 90 epochs: the same share of the steps"),
    "step.factor": Setting(value=0.1, reason="--lr-gamma 0.1"),
}

_TIMM = {
    **_TORCH,
    "no_decay": Setting(value="norm_bias_1d", reason="biases, tensors with fewer than two dimensions, and the network's own list"),
    "batch_size": Setting(value=128, reason="--batch-size 128"),
    "last_batch": Setting(value="drop", reason="timm's training loader drops the short last batch"),
    "augmentation": Setting(value="timm", reason="--scale 0.08 1.0, --ratio 3/4 4/3, --hflip 0.5, --color-jitter 0.4"),
    "resize.fraction": Setting(value=None, reason="the crop fraction the weights were evaluated with"),
    "resize.interpolation": Setting(
        value=None, reason="the weights' own interpolation (timm draws bilinear or bicubic for each training item)"
    ),
    "optimizer": Setting(value="sgd", reason="--opt sgd"),
    "sgd.nesterov": Setting(value=True, reason="timm's 'sgd' has Nesterov's momentum, 0.9"),
    "rate": Setting(value=0.05, reason="--lr 0.05 for batches of 128 (since 0.8 --lr-base 0.1 for 256 items: as much)"),
    "weight_decay": Setting(value=2e-5, reason="--weight-decay 2e-5"),
    "loss.label_smoothing": Setting(value=0.1, reason="--smoothing 0.1"),
    "one_cycle.end_div": Setting(value=5e4, reason="--min-lr 1e-6"),
    "flat_cosine.start": Setting(value=0.0, reason="--sched cosine: down from the first step after the warm-up"),
}

_HF = {
    **_TORCH,
    "no_decay": Setting(value="norm_bias", reason="get_decay_parameter_names leaves out norm layers and biases"),
    "batch_size": Setting(value=8, reason="per_device_train_batch_size=8"),
    "resize.method": Setting(value="squish", reason="the image processors of ViT and its kin resize to a square"),
    "optimizer": Setting(value="adamw", reason="optim='adamw_torch'"),
    "rate": Setting(value=5e-5, reason="learning_rate=5e-5"),
    "weight_decay": Setting(value=0.0, reason="weight_decay=0.0"),
    "clip": Setting(value=1.0, reason="max_grad_norm=1.0"),
}

_FASTAI_1 = {
    **_TORCH,
    "norm_frozen": Setting(value="train", reason="train_bn=True: norm layers of a frozen body train"),
    "norm_trained": Setting(value="train", reason="norm layers train with their stage"),
    "no_decay": Setting(value="none", reason="bn_wd=True: norm layers and biases decay too"),
    "batch_size": Setting(value=64, reason="bs=64"),
    "last_batch": Setting(value="drop", reason="training loaders drop the last short batch"),
    "split": Setting(value="random", reason="split_by_rand_pct"),
    "stages": Setting(value="fastai", reason="body[:6] | rest | head for resnets; body | head elsewhere"),
    "augmentation": Setting(value="none", reason="none unless ds_tfms are given"),
    "resize.fraction": Setting(value=1.0, reason="crop_pad takes the largest square"),
    "optimizer": Setting(value="adamw", reason="AdamW = partial(optim.Adam, betas=(0.9, 0.99)) with true_wd=True"),
    "beta2": Setting(value=0.99, reason="betas=(0.9, 0.99)"),
    "eps": Setting(value=1e-8, reason="torch's own"),
    "weight_decay": Setting(value=0.01, reason="defaults.wd = 1e-2"),
    "rate": Setting(value=3e-3, reason="defaults.lr = slice(3e-3)"),
    "rate.sliced": Setting(value=True, reason="a slice: the body at a tenth of the head's rate"),
    "one_cycle.warmup": Setting(value=0.3, reason="pct_start=0.3"),
    "one_cycle.end_div": Setting(value=2.5e5, reason="final_div = div_factor * 1e4"),
    "head.name": Setting(value="concat_pool", reason="create_head (its linear layers have biases; these have none)"),
    "head.hidden": Setting(value=(512,), reason="lin_ftrs=[512]"),
    "head.dropout": Setting(value=0.5, reason="ps=0.5, half of it before the hidden layer"),
}

_TRICKS = {
    **_TORCH,
    "batch_size": Setting(value=64, reason="bs = 64"),
    "optimizer": Setting(value="adam", reason="optim.Adam"),
    "rate": Setting(value=1e-3, reason="lrs=[1e-3, 1e-3]"),
    "split": Setting(value="stratified", reason="the post holds out the first 20 % of each folder; here a fifth of each class, drawn"),
}
_TRICKS_BN_EVAL = {"norm_frozen": Setting(value="frozen", reason="bn_eval=True: norm layers of a frozen body keep their statistics")}
_TRICKS_BN_TRAINS = {
    "norm_frozen": Setting(
        value="train", reason="bn_freeze=False: norm layers of a frozen body train (all of them; the post's name test missed some)"
    )
}
_ONE_RATE = Stretch(name="frozen", times=2, rate=1e-3, frozen=True, schedule="constant", reason="fit(2): the head alone, lr 1e-3")
_HEAD_FIRST = Stretch(name="frozen", times=1, rate=1e-3, frozen=True, schedule="constant", reason="fit(1): the head alone, lr 1e-3")
_TWO_RATES = Stretch(
    name="unfrozen",
    times=1,
    rate=(5e-6, 5e-4),
    frozen=False,
    schedule="constant",
    reason="fit(1) after update_lr(lr / 2): everything trains, the body at a hundredth (Adam's averages start anew; there they went on)",
)
_TRICKS_SOURCE = "V. Subramanian: PyTorch transfer learning (7 tricks), jarvislabs.ai, with the fastai and torch of its day"


_TRICKS_BN_FIXED = {
    "norm_trained": Setting(value="frozen", reason="as the row is called (the post's second call leaves bn_eval away, which trains them)")
}
_TRICKS_POOL = {"head.pool": Setting(value="concat", reason="AdaptiveConcatPooling: the mean over places, and the maximum")}
_TRICKS_DEEPER = {
    "head.hidden": Setting(value=(512,), reason="Linear, BatchNorm, ReLU, Dropout first; its width is not in the post: sheer's default"),
    "head.dropout": Setting(value=0.5, reason="its share is not in the post: sheer's default"),
}
FRAMEWORKS = {
    "fastai-1.0": Profile(
        name="fastai-1.0",
        source="fastai 1.0.61: basic_train.py, train.py, callback.py, vision/learner.py; its lesson 1 for the phases",
        settings=_FASTAI_1,
        stretches=(
            Stretch(name="frozen", times=2, rate=(3e-3,), frozen=True, schedule="one_cycle", reason="lesson 1: fit_one_cycle(4)"),
            Stretch(
                name="unfrozen",
                times=1,
                rate=(1e-6, 1e-4),
                frozen=False,
                schedule="one_cycle",
                reason="lesson 1: unfreeze(), fit_one_cycle(2, max_lr=slice(1e-6, 1e-4))",
            ),
        ),
    ),
    "keras-guide": Profile(
        name="keras-guide",
        source="keras.io/guides/transfer_learning (Chollet 2020, its cats and dogs), and Keras's own Adam and Dense",
        settings=_KERAS,
        stretches=(
            Stretch(name="frozen", times=2, rate=1e-3, frozen=True, schedule="constant", reason="the top layer: Adam(), 20 epochs"),
            Stretch(
                name="unfrozen",
                times=1,
                rate=1e-5,
                frozen=False,
                schedule="constant",
                reason="the entire model: Adam(1e-5), 10 epochs",
            ),
        ),
    ),
    "timm-train": Profile(
        name="timm-train",
        source="timm's train.py (0.6) and timm.optim, as its defaults are",
        settings=_TIMM,
        stretches=(
            Stretch(
                name="whole",
                times=1,
                rate=0.05,
                frozen=False,
                schedule=((("linear", {"start": 0.002, "end": 1.0}), 0.01), ("flat_cosine", 0.99)),
                reason="--warmup-lr 1e-4 --warmup-epochs 3 of --epochs 300: the same share of the steps",
            ),
        ),
    ),
    "torchvision-reference": Profile(
        name="torchvision-reference",
        source="torchvision's references/classification/train.py, as its defaults are",
        settings=_TORCHVISION,
        stretches=(Stretch(name="whole", times=1, rate=0.1, frozen=False, schedule="step", reason="--lr-scheduler steplr"),),
    ),
    "pytorch-tutorial": Profile(
        name="pytorch-tutorial",
        source="pytorch.org: Transfer Learning for Computer Vision Tutorial (Chilamkurthy), fine-tuning the network",
        settings=_TUTORIAL,
        stretches=(Stretch(name="whole", times=1, rate=1e-3, frozen=False, schedule="step", reason="lr_scheduler.StepLR"),),
    ),
    "hf-trainer": Profile(
        name="hf-trainer",
        source="transformers 4: TrainingArguments, as its defaults are, and its example run_image_classification.py",
        settings=_HF,
        stretches=(Stretch(name="whole", times=1, rate=5e-5, frozen=False, schedule="linear", reason="lr_scheduler_type='linear'"),),
    ),
    "seven-tricks": Profile(
        name="seven-tricks", source=f"{_TRICKS_SOURCE}: 1, as feature extractor", settings=_TRICKS, stretches=(_ONE_RATE,)
    ),
    "seven-tricks-2": Profile(
        name="seven-tricks-2",
        source=f"{_TRICKS_SOURCE}: 2, feature extractor with norm layers in eval mode",
        settings=_TRICKS | _TRICKS_BN_EVAL,
        stretches=(_ONE_RATE,),
    ),
    "seven-tricks-3": Profile(
        name="seven-tricks-3",
        source=f"{_TRICKS_SOURCE}: 3, just the norm layers of the body train",
        settings=_TRICKS | _TRICKS_BN_TRAINS,
        stretches=(_ONE_RATE,),
    ),
    "seven-tricks-4": Profile(
        name="seven-tricks-4",
        source=f"{_TRICKS_SOURCE}: 4, norm layers trainable, discriminative rates",
        settings=_TRICKS | _TRICKS_BN_TRAINS,
        stretches=(_HEAD_FIRST, _TWO_RATES),
    ),
    "seven-tricks-5": Profile(
        name="seven-tricks-5",
        source=f"{_TRICKS_SOURCE}: 5, norm layers not trainable, discriminative rates",
        settings=_TRICKS | _TRICKS_BN_EVAL | _TRICKS_BN_FIXED,
        stretches=(_HEAD_FIRST, _TWO_RATES),
    ),
    "seven-tricks-6": Profile(
        name="seven-tricks-6",
        source=f"{_TRICKS_SOURCE}: 6, concatenated pooling (its training is not in the post: row 1's)",
        settings=_TRICKS | _TRICKS_POOL,
        stretches=(_ONE_RATE,),
    ),
    "seven-tricks-7": Profile(
        name="seven-tricks-7",
        source=f"{_TRICKS_SOURCE}: 7, a deeper head (its training is not in the post: row 1's)",
        settings=_TRICKS | _TRICKS_DEEPER,
        stretches=(_ONE_RATE,),
    ),
}
