"""The doctor's checks of the pixels: their scale, their mean and standard deviation, and the order of channels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image

from sheer.errors import first_line
from sheer.model.pretrained import IMAGENET
from sheer.study.doctor.case import Case, Said, device_of
from sheer.study.doctor.findings import Unchecked, found
from sheer.study.doctor.items import dataset_of, files_of
from sheer.study.doctor.model import looks_random
from sheer.study.inspect.alarms import swap_seen
from sheer.study.inspect.norm_gap import first_drift, running_norms

Statistics = tuple[tuple[float, ...], tuple[float, ...]]
HALVES: Statistics = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
USUAL: dict[str, Statistics] = {
    "ImageNet's": (IMAGENET.mean, IMAGENET.std),
    "halves": HALVES,
    "no normalisation (0 to 1)": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    "CLIP's": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
    "CIFAR-10's": ((0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.2616)),
}
FILES = 24
FEWEST = 16


def _expected(case: Case) -> tuple[Statistics, str] | None:
    """Mean and standard deviation that the weights want, and who says so."""
    if case.mean is not None and case.std is not None:
        return (case.mean, case.std), "as you gave them"
    if case.weights is not None:
        recipe = case.weights.transforms()
        return (tuple(recipe.mean), tuple(recipe.std)), f"transforms of {case.weights}"
    if looks_random(case.model, case.look.head)[0]:
        return None
    for module in case.model.modules():
        config = getattr(module, "pretrained_cfg", None)
        if config and "mean" in config:
            return (tuple(config["mean"]), tuple(config["std"])), "timm's pretrained_cfg of the model"
        if type(module).__module__.startswith("torchvision.models."):
            statistics = HALVES if type(module).__name__ in ("GoogLeNet", "Inception3") else (IMAGENET.mean, IMAGENET.std)
            return statistics, "torchvision's weights of this network"
    return None


def check_pixels(case: Case) -> Said:
    """Pixels in 0..255, or of other statistics than those of the weights."""
    if not case.train_batches:
        yield Unchecked(what="pixels, labels, scores and the last map", need=case.trouble)
        return
    pixels = case.look.entered if case.look.entered is not None else _all_pixels(case)
    if pixels.ndim != 4 or pixels.shape[1] not in (1, 3):
        return
    words: dict[str, object] = {"low": float(pixels.min()), "high": float(pixels.max()), "average": float(pixels.double().mean())}
    if float(words["high"]) > 30:  # type: ignore[arg-type]
        yield found("pixels_unscaled", "pixels are from {low:g} to {high:g}, {average:.1f} on average", words)
        return
    known = _expected(case)
    if known is None or len(known[0][0]) != pixels.shape[1]:
        yield Unchecked(what="mean and std for these weights", need="give mean= and std=, or weights= of torchvision")
        return
    expected, source = known
    backwards = (expected[0][::-1], expected[1][::-1])
    if _lies_on(pixels, expected) or (pixels.shape[1] == 1 and not _beyond(pixels, expected)):
        return
    words |= {"source": source, "mean": _shown(expected[0]), "std": _shown(expected[1])}
    if backwards != expected and _lies_on(pixels, backwards):
        yield found("channel_order", "the first channel was normalised as the last: every pixel fits {mean} read backwards", words)
        return
    other = next(
        (name for name, one in USUAL.items() if one != expected and (_lies_on(pixels, one) or _touches(pixels, one, expected))), None
    )
    outside = _beyond(pixels, expected)
    if other or outside > 0.01:
        words |= {"outside": 100 * outside, "other": other or "none that is known here"}
        words["black"] = min(-mean / std for mean, std in zip(*expected, strict=True))
        words["white"] = max((1 - mean) / std for mean, std in zip(*expected, strict=True))
        text = "pixels are from {low:.3g} to {high:.3g}, which fits {other}; with {mean} and {std} they are from {black:.3g} to {white:.3g}"
        yield found("wrong_normalisation", text, words)


def _all_pixels(case: Case) -> torch.Tensor:
    """The inputs of all batches that are looked at, those of the first one's shape."""
    first = case.train_batches[0][0]
    return torch.cat([inputs for inputs, _ in case.train_batches if inputs.shape[1:] == first.shape[1:]]).cpu()


def _shown(values: Sequence[float]) -> str:
    return "[" + ", ".join(f"{value:g}" for value in values) + "]"


def _levels(pixels: torch.Tensor, statistics: Statistics) -> torch.Tensor:
    """What the pixels were before they were normalised, in 0..255."""
    mean, std = (torch.tensor(values, dtype=torch.float64)[:, None, None] for values in statistics)
    return (pixels.double() * std + mean) * 255


def _lies_on(pixels: torch.Tensor, statistics: Statistics) -> bool:
    """Whether nearly all pixels are whole levels of 8 bits with these statistics."""
    levels = _levels(pixels, statistics)
    whole = ((levels - levels.round()).abs() < 0.02) & (levels > -0.5) & (levels < 255.5)
    return bool(whole.double().mean() > 0.9)


def _beyond(pixels: torch.Tensor, statistics: Statistics) -> float:
    """The share of pixels darker than black or brighter than white by more than 5 % of the range."""
    levels = _levels(pixels, statistics)
    return float(((levels < -12.75) | (levels > 267.75)).double().mean())


def _touches(pixels: torch.Tensor, statistics: Statistics, expected: Statistics) -> bool:
    """Whether the pixels fill black to white with these statistics, and far from it with the expected ones."""
    low, high = (float(_levels(pixels, statistics).flatten().kthvalue(max(int(q * pixels.numel()), 1)).values) for q in (0.001, 0.999))
    filled = -3 < low < 13 and 242 < high < 258
    levels = _levels(pixels, expected)
    return filled and bool(levels.min() > 25 or levels.max() < 230 or _beyond(pixels, expected) > 0.01)


def check_channels(case: Case) -> Said:
    """The order of channels: against the files themselves where they are known, else against pretrained weights."""
    dataset = dataset_of(case.loader)
    files = files_of(dataset)
    first = case.train_batches[0][0] if case.train_batches else None
    if first is None or first.ndim != 4 or first.shape[1] != 3:
        return
    if files is None:
        yield from _against_weights(case)
        return
    pairs = []
    try:
        for index in np.linspace(0, len(files) - 1, min(FILES, len(files))).astype(int).tolist():
            item: Any = dataset[index]
            with Image.open(files[index]) as picture:
                colours = np.asarray(picture.convert("RGB").resize((16, 16))).reshape(-1, 3).mean(0)
            means = item[0].float().mean((1, 2)).numpy()
            pairs.append((means[0] - means[2], colours[0] - colours[2]))
    except Exception as error:  # whatever a user's data set or file raises
        yield Unchecked(what="order of channels", need=f"reading an item raised {type(error).__name__}: {first_line(error)}")
        return
    given, true = np.array(pairs).T
    if len(pairs) < 4 or true.std() < 2:
        yield Unchecked(what="order of channels", need=f"the {len(pairs)} files looked at are too few, or too grey, to tell red from blue")
        return
    agreement = float(np.corrcoef(given, true)[0, 1])
    if agreement < -0.5:
        text = "over {files} files, the first channel less the last goes with red less blue by a correlation of {agreement:.2f}"
        yield found("channel_order", text, {"files": len(pairs), "agreement": agreement})


def _against_weights(case: Case) -> Said:
    """What the first norm layer knows of colours: see the log of experiments, 2026-11-21."""
    known, pixels = _expected(case), _all_pixels(case)
    if case.look.entered is not None:
        yield Unchecked(what="order of channels", need="the model changes its inputs itself: give a training set with .samples (its files)")
        return
    if known is None or len(known[0][0]) != 3 or len(pixels) < FEWEST or case.look.error or not running_norms(case.model):
        need = f"give a training set with .samples (its files), or pretrained weights with norm layers and {FEWEST} pictures to look at"
        yield Unchecked(what="order of channels", need=need)
        return
    mean, std = (torch.tensor(values)[:, None, None] for values in known[0])
    levels = pixels.float() * std + mean
    drifts = []
    for order in (levels, levels.flip(1)):
        drift = first_drift(case.model, [((order - mean) / std).to(device_of(case.model))])
        drifts.append(drift or 0.0)
    seen = swap_seen(levels.mean((0, 2, 3)).tolist(), *drifts)
    if seen:
        yield found("channel_order", seen, {"drift": drifts[0], "turned": drifts[1], "pictures": len(pixels)})
