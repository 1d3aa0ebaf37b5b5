"""An ejected script as a side of a comparison: its own training loop, of pictures, rows, texts or several inputs."""

from __future__ import annotations

import contextlib
import io
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import nn

from sheer.errors import DataError
from sheer.loop.engine import prepared, switched
from sheer.loop.step import Loss
from sheer.model.prefix import suffix
from sheer.plan.plan import Numerics
from sheer.study.compare.parts import Parts
from sheer.study.compare.sides import Side, Wrap, about_of, photo_looks
from sheer.study.compare.trace import Step

BATCHES = ("input_batches", "table_batches", "network_batches")
MAKERS = (
    *("make_fused_model", "make_tabular_model", "make_encoder_model", "make_own_body"),
    *("make_timm_model", "make_torchvision_model", "make_own_model"),
)
STARTS = (
    *("start_of_run", "start_fused_model", "start_tabular_model", "start_encoder_model"),
    *("start_timm_model", "start_torchvision_model", "start_own_model", "start_head"),
)
"""What a script calls what makes its batches, its model and the model's first weights; the first that it has is used."""


class ScriptSide(Side):
    """An ejected script: its own `train` is executed in this process, in its first phase, with its step wrapped.

    The file is loaded as a module, so whatever it says at its top level is done: it is your own script, which you named.
    """

    def __init__(self, module: ModuleType, path: Path, root: str, step: Step | None, *, start: bool) -> None:
        self.batches = next((name for name in BATCHES if hasattr(module, name)), BATCHES[-1])
        missing = [name for name in ("PHASES", "SEED", "train", self.batches) if not hasattr(module, name)]
        if missing:
            raise DataError(
                f"{path} is no ejected script: it has no {missing[0]}. To compare a loop of your own, give {path}:NAME of a Loop."
            )
        self.module, self.path, self.root, self.phase = module, path, root, module.PHASES[0]
        module.PHASES = (self.phase,)  # type: ignore[attr-defined]  # what follows the first phase is not wanted
        self.own_step = self.phase.step
        if getattr(self.own_step, "__name__", "") != "fit_step":
            self.phase.cached = None  # the whole network at every step, so that pictures can be compared
        self.step = step or self.own_step
        model = next(getattr(module, name) for name in MAKERS if hasattr(module, name))()
        if start:
            _stopped(path, lambda: next(getattr(module, name) for name in STARTS if hasattr(module, name))(model))
        about = about_of(self.phase, self.phase.augmentations, self.phase)
        super().__init__(f"script {path.name} (phase {self.phase.name})", model, (module.SEED, 0), about)
        if self.batches == "table_batches":
            self.parts = _widths(module.COLUMNS)
        elif self.batches == "input_batches":
            pixels = len(self.phase.mean) * self.phase.size**2 if hasattr(self.phase, "size") else 0
            for name, one in module.INPUTS.items():
                self.parts += _widths(one.columns, f"{name}: ") if hasattr(one, "columns") else ((f"{name}: pixels", pixels),)
            self.parts += tuple((f"{name}: there or missing", 1) for name in module.INPUTS)

    def run(self, wrap: Wrap) -> None:
        """The script's own training loop."""
        module, looks = self.module, dict[str, torch.Tensor]()
        photographs = self.batches == "network_batches"
        originals = {name: getattr(module, name) for name in (self.batches, *(["augment"] if photographs else []))}
        self.items = []

        def batches(source: Any, phase: Any, rows: Any, draws: Any, augmentations: Any) -> Any:
            if not self.items and not getattr(self.phase, "cached", None):
                if photographs:
                    self._look(source, rows, looks)
                else:
                    self.items = [tuple(f"item {item}" for item in row) for row in rows]
            return originals[self.batches](source, phase, rows, draws, augmentations)

        def augment(images: torch.Tensor, augmentations: Any, draw: Any, normalised: bool) -> torch.Tensor:
            watched = looks if not getattr(self.phase, "cached", None) else {}
            watched.setdefault("cut" if not normalised else "normalise", images.clone())
            images = originals["augment"](images, augmentations, draw, normalised)
            watched.setdefault("augment again" if normalised else "augment", images.clone())
            return images

        numerics = Numerics(
            device=module.DEVICE,
            threads=module.THREADS,
            memory_format="",
            precision="float32" if not hasattr(module, "PRECISION") else {torch.bfloat16: "bf16", torch.float16: "fp16"}[module.PRECISION],
            compile=False,
            deterministic=module.DETERMINISTIC,
            origins=(),
        )
        recorded = wrap(self.step)

        def step(run: nn.Module, loss: Loss, optimizer: torch.optim.Optimizer, inputs: Any, target: torch.Tensor) -> torch.Tensor:
            kept = getattr(self.phase, "cached", None)  # a fit on kept features: by the names that the whole network has
            return recorded(suffix(self.model, kept.modules) if kept else run, loss, optimizer, inputs, target)

        self.phase.step = step
        setattr(module, self.batches, batches)
        if photographs:
            module.augment = augment  # type: ignore[attr-defined]
        self.model.to(module.DEVICE, memory_format=module.MEMORY_FORMAT)  # type: ignore[call-overload]
        try:
            with (
                switched(numerics),
                prepared(self.model, numerics),
                tempfile.TemporaryDirectory() as out,
                contextlib.redirect_stdout(io.StringIO()),
            ):
                _stopped(self.path, lambda: module.train(self.model, self.root, out))
        finally:
            for name, original in originals.items():
                setattr(module, name, original)
            self.phase.step, self.looks = self.own_step, list(looks.items())

    def _look(self, photos: Any, rows: Any, looks: dict[str, torch.Tensor]) -> None:
        """The names of each batch's items, and the first photograph as it is decoded and resized."""
        self.items = [tuple(str(Path(photos.paths[item]).relative_to(self.root)) for item in row) for row in rows]
        self.photos, self.photo = photos, photos.paths[rows[0][0]]
        picture = photos.decode(self.photo)
        looks["decode"] = torch.from_numpy(np.asarray(picture).copy())
        looks["resize"] = torch.from_numpy(photos.resize.presize(picture, photos.size).copy())

    def looks_of(self, photo: str) -> Iterator[tuple[str, torch.Tensor]]:
        """By the rules of the script's phase."""
        if self.photo:
            yield from photo_looks(self.photos, photo, self.phase)


def _widths(columns: Iterable[Any], prefix: str = "") -> Parts:
    """What each number of an item is, by the columns of a script: a name and how many numbers it has."""
    return tuple((f"{prefix}{one.column}", getattr(one, "length", 1)) for one in columns)


def _stopped(path: Path, action: Callable[[], object]) -> None:
    """Do it; where the script ends itself with a message, that is an error."""
    try:
        action()
    except SystemExit as error:
        raise DataError(f"{path} ended with: {error}") from error
