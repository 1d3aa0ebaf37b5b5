"""Stages: rules that say which part of a model a tensor belongs to, evaluated on the model as it is now.

A stage is a tuple of name prefixes; the longest match wins. What trains, in which mode each module
runs, and the optimiser's groups all follow from the stages, so nothing is kept from an older model.

Norm layers are chosen by their type, never by their name, and have a policy a stage.
Three switches that people take for one: do scale and shift train, are batch or running statistics
used, do the running statistics move.

    policy   scale and shift   statistics used   running statistics
    train    train             of the batch      move
    adapt    fixed             of the batch      move
    frozen   fixed             running           stand still

Layers without running statistics (LayerNorm, GroupNorm, RMSNorm) know only the first switch: where a
stage has no others, `adapt` is `frozen`, resting dropout included.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import nn

Stages = Sequence[Sequence[str]]

NORM_TYPES = (nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


def is_norm(module: nn.Module) -> bool:
    """Whether the module is a norm layer, subclasses (timm's BatchNormAct2d, ...) included.

    >>> is_norm(nn.BatchNorm2d(3)), is_norm(nn.Linear(3, 3))
    (True, False)
    """
    return isinstance(module, NORM_TYPES)


def stage_of(name: str, stages: Stages) -> int | None:
    """The index of the stage with the longest prefix of `name`, whole dotted parts only; None if none matches.

    >>> stage_of("body.layer10.weight", [["body.layer1"], ["body"]])
    1
    """
    rules = [(len(prefix), -index, prefix) for index, prefixes in enumerate(stages) for prefix in prefixes]
    hits = [rule for rule in rules if rule[2] in ("", name) or name.startswith(rule[2] + ".")]
    return -max(hits)[1] if hits else None


def staged_parameters(model: nn.Module, stages: Stages) -> Iterator[tuple[str, nn.Parameter, int, nn.Module]]:
    """(name, parameter, stage, owner) of every parameter, in the model's order, shared ones once.

    Raises ValueError where a parameter belongs to no stage.
    """
    for name, parameter in model.named_parameters():
        stage = stage_of(name, stages)
        if stage is None:
            raise ValueError(f"The parameter {name} belongs to none of the plan's stages.")
        yield name, parameter, stage, model.get_submodule(name.rpartition(".")[0])


def set_trainable(model: nn.Module, stages: Stages, trains_from: int, norm: Sequence[str]) -> None:
    """Set `requires_grad` of every parameter: norm layers by their stage's policy, the rest by `trains_from`."""
    for _, parameter, stage, owner in staged_parameters(model, stages):
        parameter.requires_grad_(norm[stage] == "train" if is_norm(owner) else stage >= trains_from)


def set_modes(model: nn.Module, stages: Stages, trains_from: int, norm: Sequence[str]) -> None:
    """Training mode, but for stages in which nothing may move (their dropout rests too) and frozen norm layers."""
    model.train()
    adapts = {stage_of(path, stages) for path, module in model.named_modules() if is_norm(module) and list(module.buffers(False))}
    rests = {stage for stage in range(trains_from) if norm[stage] == "frozen" or (norm[stage] == "adapt" and stage not in adapts)}
    for path, module in model.named_modules():
        inside = {stage_of(f"{path}.{name}" if path else name, stages) for name, _ in module.named_parameters()} or {stage_of(path, stages)}
        if inside <= rests or (is_norm(module) and any(norm[stage] == "frozen" for stage in inside if stage is not None)):
            module.eval()


def exempt_from_decay(name: str, parameter: nn.Parameter, owner: nn.Module, rule: str, skip: Sequence[str]) -> bool:
    """Whether the no-decay rule exempts a parameter from weight decay.

    `none`: everything decays. `norm_bias`: parameters of norm layers and everything called bias. `norm_bias_1d`: those, all
    tensors with fewer than two dimensions, and the names in `skip` (what the model itself lists).
    """
    usual = is_norm(owner) or name.rpartition(".")[2] == "bias"
    return rule != "none" and (usual or (rule == "norm_bias_1d" and (parameter.ndim < 2 or name in skip)))


def parameter_groups(
    model: nn.Module, stages: Stages, rates: Sequence[float], weight_decay: float, no_decay: str, skip: Sequence[str]
) -> list[dict[str, object]]:
    """The optimiser's groups: per stage the trainable tensors with decay, then those without; `peak` is the stage's rate."""
    groups: dict[tuple[int, bool], list[nn.Parameter]] = {}
    for name, parameter, stage, owner in staged_parameters(model, stages):
        if parameter.requires_grad:
            exempt = exempt_from_decay(name, parameter, owner, no_decay, skip)
            groups.setdefault((stage, exempt), []).append(parameter)
    return [
        {"params": groups[stage, exempt], "peak": rates[stage], "lr": rates[stage], "weight_decay": 0.0 if exempt else weight_decay}
        for stage, exempt in sorted(groups)
    ]


def early_prefixes(rule: str, library: str, name: str, network: nn.Module) -> tuple[str, ...] | None:
    """The rule's early stage of a network: by its name in EARLY, else by its class; None where neither is listed.

    An entry that ends in `.*` stands for the first half of that module's children.
    """
    table = EARLY.get(f"{rule} {library}", {})
    listed = table.get(name.partition(".")[0], table.get(type(network).__name__))
    if listed is None:
        return None
    found: list[str] = []
    for entry in listed:
        if not entry.endswith(".*"):
            found.append(entry)
            continue
        path = entry.removesuffix(".*")
        children = [child for child, _ in network.get_submodule(path).named_children()]
        found += [f"{path}.{child}" for child in children[: len(children) // 2]]
    return tuple(found)


def _numbered(path: str, count: int) -> tuple[str, ...]:
    return tuple(f"{path}.{number}" for number in range(count))


_DENSENET = ("features.conv0", "features.norm0", "features.denseblock1", "features.transition1", "features.denseblock2")
_INCEPTION_3 = (
    *("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "Conv2d_3b_1x1", "Conv2d_4a_3x3"),
    *("Mixed_5b", "Mixed_5c", "Mixed_5d"),
)
_SMALL_MOBILENETS = (  # their first block halves already
    *("mobilenetv3_small_050", "mobilenetv3_small_075", "mobilenetv3_small_100"),
    *("tf_mobilenetv3_small_075", "tf_mobilenetv3_small_100", "tf_mobilenetv3_small_minimal_100"),
)
_VGG = {  # up to the fourth pooling, whose place depends on the depth
    "vgg11": _numbered("features", 15),
    "vgg11_bn": _numbered("features", 21),
    "vgg13": _numbered("features", 19),
    "vgg13_bn": _numbered("features", 27),
    "vgg16": _numbered("features", 23),
    "vgg16_bn": _numbered("features", 33),
    "vgg19": _numbered("features", 27),
    "vgg19_bn": _numbered("features", 39),
}
EARLY: dict[str, dict[str, tuple[str, ...]]] = {
    "stride timm": {
        "ResNet": ("conv1", "bn1", "layer1", "layer2"),
        "ResNetV2": ("stem", "stages.0", "stages.1"),
        "EfficientNet": ("conv_stem", "bn1", "blocks.0", "blocks.1", "blocks.2"),
        "MobileNetV3": ("conv_stem", "bn1", "blocks.0", "blocks.1", "blocks.2"),
        **dict.fromkeys(_SMALL_MOBILENETS, ("conv_stem", "bn1", "blocks.0", "blocks.1")),
        "ConvNeXt": ("stem", "stages.0", "stages.1"),
        "RegNet": ("stem", "s1", "s2"),
        "SwinTransformer": ("patch_embed", "layers.0", "layers.1"),
        "SwinTransformerV2": ("patch_embed", "layers.0", "layers.1"),
        "MaxxVit": ("stem", "stages.0", "stages.1"),
        "VisionTransformer": ("cls_token", "reg_token", "pos_embed", "patch_embed", "norm_pre", "blocks.*"),
        "DenseNet": _DENSENET,
        "InceptionV3": _INCEPTION_3,
        **_VGG,
    },
    "stride torchvision": {
        "ResNet": ("conv1", "bn1", "layer1", "layer2"),
        "EfficientNet": _numbered("features", 4),
        "MobileNetV2": _numbered("features", 7),
        "mobilenet_v3_small": _numbered("features", 4),
        "mobilenet_v3_large": _numbered("features", 7),
        "MNASNet": _numbered("layers", 10),
        "ConvNeXt": _numbered("features", 4),
        "RegNet": ("stem", "trunk_output.block1", "trunk_output.block2"),
        "ShuffleNetV2": ("conv1", "stage2"),
        "GoogLeNet": ("conv1", "conv2", "conv3", "inception3a", "inception3b"),
        "Inception3": _INCEPTION_3,
        "squeezenet1_0": _numbered("features", 11),
        "squeezenet1_1": _numbered("features", 8),
        "AlexNet": _numbered("features", 5),
        "SwinTransformer": _numbered("features", 4),
        "MaxVit": ("stem", "blocks.0", "blocks.1"),
        "VisionTransformer": ("class_token", "conv_proj", "encoder.pos_embedding", "encoder.layers.*"),
        "DenseNet": _DENSENET,
        **_VGG,
    },
    "fastai torchvision": {
        "ResNet": ("conv1", "bn1", "layer1", "layer2"),
        "DenseNet": _DENSENET,
        "VGG": _numbered("features", 22),
        "AlexNet": _numbered("features", 6),
        "SqueezeNet": _numbered("features", 5),
    },
}
"""Where a body's early stage ends, by rule and library, then by the network's name without its tag, or by its class.

`stride`: everything computed at stride 8 or finer, so up to the layer that makes the fourth halving; of a plain
transformer, whose stride never changes, the first half of its blocks with patches and positions. `fastai`: the
boundaries of fastai 2.8 `vision/learner.py`. A network that is not listed has one stage, `body`.
"""
