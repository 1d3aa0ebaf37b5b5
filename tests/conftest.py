"""Shared small data: pictures that a network can tell apart, made here, and real data where it is."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import sheer


class Small(nn.Module):
    """A convolution, a norm layer, dropout and a linear layer: 2 classes from pictures of any size."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, stride=2)
        self.norm = nn.BatchNorm2d(4)
        self.drop = nn.Dropout(0.2)
        self.out = nn.Linear(4, 2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.out(self.drop(self.norm(self.conv(images)).relu().mean((2, 3))))


class Leave:
    """Leaves a fit after a number of steps, as a signal would."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_start(self, position): ...
    def on_epoch(self, position, row): ...
    def on_end(self, position): ...

    def on_step(self, position):
        if position.step == self.step:
            position.pause = "a test"


def make_photos(root: Path, counts: dict[str, int], part: str = "", side: tuple[int, int] = (48, 40)) -> Path:
    """Noise with a class's own colour, as JPEG."""
    generator = np.random.default_rng(0)
    for number, (label, count) in enumerate(counts.items()):
        folder = root / part / label
        folder.mkdir(parents=True)
        for index in range(count):
            pixels = generator.integers(0, 120, (side[1], side[0], 3))
            pixels[..., number % 3] += 100
            Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{index:03d}.jpg")
    return root


@pytest.fixture(scope="session", autouse=True)
def cache_folder(tmp_path_factory):
    """No test touches the cache of the person who runs it."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield folder / "sheer"


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    return make_photos(tmp_path_factory.mktemp("photos"), {"blue": 21, "red": 30})


@pytest.fixture
def small_learner(photos):
    return lambda **options: sheer.learner(sheer.images(photos), options.pop("model", Small), quiet=True, size=32, batch_size=8, **options)


@pytest.fixture(scope="session")
def random_resnet_run(photos, tmp_path_factory):
    """A finished run of a small timm network with random weights: frozen, then unfrozen."""
    out = tmp_path_factory.mktemp("runs") / "run"
    learn = sheer.learner(sheer.images(photos), "test_resnet", weights="none", size=32, batch_size=8, quiet=True, out=out)
    learn.fine_tune(2)
    return out


@pytest.fixture(scope="session")
def real_data():
    folder = os.environ.get("SHEER_DATA", "")
    if not folder or not Path(folder).is_dir():
        pytest.skip("SHEER_DATA names no folder of real data")
    return Path(folder)
