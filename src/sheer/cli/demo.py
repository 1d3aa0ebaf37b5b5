"""The demo's data: photographs that a package brings, laid out as class folders of links or small files."""

from __future__ import annotations

import importlib.metadata
import os
from pathlib import Path

from sheer.api import learner
from sheer.data.images import images
from sheer.errors import DataError
from sheer.learner import Learner
from sheer.plan.recipes import Draft, fine_tune

FOLDER = Path("sheer-demo-data")
MISSING = 'The demo needs its packages: pip install "sheer[demo]" (missing: {}). From a clone: pip install ".[demo]".'


def prepare(*, quick: bool) -> tuple[Path, Learner, tuple[Draft, ...]]:
    """The folder of photographs, a learner on it, and the recipe.

    Raises:
        DataError: a package of the extra `demo` is not installed.
    """
    folder = digits() if quick else solar_cells()
    size, epochs = (64, 3) if quick else (128, 3)
    learn = learner(images(folder), "tf_efficientnet_lite0", weights="package", size=size, augmentation=() if quick else ("dihedral",))
    return folder, learn, fine_tune(epochs)


def solar_cells(target: Path = FOLDER / "solar-cells") -> Path:
    """2,624 photographs of solar cells as class folders `sound` and `defective` (probability of a defect of 0.5 or more)."""
    try:
        distribution = importlib.metadata.distribution("elpv-dataset")
    except importlib.metadata.PackageNotFoundError as error:
        raise DataError(MISSING.format("elpv-dataset")) from error
    print("Photographs: elpv-dataset, 2,624 solar cells by electroluminescence (Deitsch et al. 2019), CC BY-NC-SA 4.0.")
    source = Path(str(distribution.locate_file("elpv_dataset/data")))
    for line in (source / "labels.csv").read_text().splitlines():
        path, probability, kind = line.split()
        label = "defective" if float(probability) >= 0.5 else "sound"
        _place(source / path, target / label / f"{kind}-{Path(path).name}")
    return target


def digits(target: Path = FOLDER / "digits") -> Path:
    """scikit-learn's 1,797 handwritten digits as PNG files in class folders, enlarged eightfold to 64 pixels."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise DataError(MISSING.format("scikit-learn")) from error
    import numpy as np
    from PIL import Image

    print("Pictures: scikit-learn's digits, 1,797 handwritten digits of 8 x 8 (UCI, Alpaydin and Kaynak 1998), CC BY 4.0.")
    found = load_digits()
    for number, (pixels, label) in enumerate(zip(found.images, found.target, strict=True)):
        path = target / str(label) / f"{number:04d}.png"
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            grey = Image.fromarray((pixels * 15.9375).astype(np.uint8))
            grey.resize((64, 64), Image.Resampling.BICUBIC).save(path)
    return target


def _place(source: Path, target: Path) -> None:
    """Link the file, or copy it where links are not allowed."""
    if target.is_file():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        target.write_bytes(source.read_bytes())
