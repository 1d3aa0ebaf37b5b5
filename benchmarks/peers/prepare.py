"""What all peers share, made once: the photographs as train/ and valid/, and one file of weights."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
from pathlib import Path

import torch

import sheer
from sheer.errors import DataError, ModelError
from sheer.model.backbones import WEIGHTS, timm_whole
from sheer.model.pretrained import PACKAGES, check_reachable, choose_weights, qualify

VERSIONS = ("sheer", "fastai", "torch", "torchvision", "timm", "keras", "numpy", "pillow")


def lay_out(folder: str, target: Path, valid: float | str | None) -> sheer.Data:
    """Links to every readable photograph as target/train/<class>/ and target/valid/<class>/, by the split that `sheer.images` makes.

    Raises:
        DataError: no such folder, no classes, or a split that cannot be made.
    """
    data = sheer.images(folder, valid=valid, bad_files="skip", cache=False)
    if data.plan.task.name != "classify" or not data.paths:
        raise DataError(f"{folder} holds no class folders of photographs, and only these are compared here.")
    for part, items in (("train", data.train), ("valid", data.valid)):
        for label in data.classes:
            (target / part / label).mkdir(parents=True)
        for item in items:
            source = Path(data.root, data.paths[item])
            place(source, target / part / data.classes[data.targets[item]] / f"{item:07d}{source.suffix}")
    return data


def place(source: Path, target: Path) -> None:
    """A link to the file, or a copy of it where links are not allowed."""
    try:
        target.symlink_to(source)
    except OSError:
        target.write_bytes(source.read_bytes())


def write_weights(model: str, choice: str | None, file: Path) -> dict[str, str]:
    """The whole network's tensors as a file that torch.load and timm read; returns the model, where they are from, and their SHA-256.

    Raises:
        ModelError: timm does not know the name.
        WeightsError: the weights cannot be had; it says which can.
    """
    library, name = qualify(model)
    if library != "timm":
        raise ModelError(f"model={model!r} is {library}'s, which not every peer can make; give a name of timm's.")
    if choice is None:
        choice = "package" if name.partition(".")[0] in PACKAGES else "default"
    torch.manual_seed(0)
    whole = timm_whole(name)
    part, _ = choose_weights(library, name, choice, whole)
    if part.name == "timm":
        check_reachable(library, name)
    torch.save(WEIGHTS[part.name](**part.options()).load(whole, name).state_dict(), file)
    return {"model": name, "weights": part.name, "weights_sha256": hashlib.sha256(file.read_bytes()).hexdigest()}


def machine() -> dict[str, object]:
    """Cores, processor, memory, accelerator and versions."""
    info = Path("/proc/cpuinfo")
    names = (
        [line.partition(":")[2].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
        if info.is_file()
        else []
    )
    found: dict[str, object] = {
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "cpu": names[0] if names else platform.processor() or platform.machine(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
    }
    for name in VERSIONS:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
