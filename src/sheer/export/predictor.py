"""Predicting with a bundle: decode, resize, normalise, one forward pass. Nothing here, or below it, can train."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from PIL import Image
from torch import nn

from sheer.data.formats import unread_format
from sheer.data.inputs import Inputs, with_gaps
from sheer.data.listing import as_picture, photo_paths
from sheer.data.photos import to_network
from sheer.data.pixels import RESIZES, Crop, Pad, Squish, decode
from sheer.data.several import check_root, further_items
from sheer.data.tabular import further_rows
from sheer.errors import BundleError, DataError, SheerError, first_line
from sheer.export.bundle import Interface, Parts, interface_of, read_bundle
from sheer.interpret.predictions import Predictions, check_finite, prior_outputs
from sheer.loop.engine import DTYPES, choose_numerics
from sheer.model.hashing import weights_sha256
from sheer.model.lora import merge_lora
from sheer.model.rebuild import rebuild
from sheer.plan.plan import Plan
from sheer.plan.profiles import profile_named
from sheer.record.own import own_makers
from sheer.task.tasks import TASKS, Task

BATCH = 16
# how far a score may be from the stored one, as a share of the largest score and at least of 1
TOLERANCE = {"float32": 1e-3, "bf16": 5e-2, "fp16": 2e-2}
LEVELS = 2.0

Picture = str | Path | Image.Image | np.ndarray | torch.Tensor


class Predictor:
    """A trained model that predicts; make one with `sheer.load_bundle`. Threads may share one: it changes nothing of itself.

    Attributes:
        classes: Names of classes, labels or numbers, in the order of the outputs.
        plan: The plan that the model was trained by.
        probe_difference: How far the replayed probe's scores were from the stored ones, as a share of the largest.
    """

    def __init__(self, model: nn.Module, plan: Plan, device: str, tokenizer: str = "") -> None:
        self.plan, self.classes, self.probe_difference, self._tokenizer = plan, plan.data.classes, 0.0, tokenizer
        self._in = interface_of(plan)
        self._batch = plan.phases[-1].batch_size if plan.data.columns and plan.phases else BATCH  # as the run does: equal bits
        self._device = torch.device(device)
        self._layout = torch.channels_last if plan.numerics.memory_format == "channels_last" else torch.contiguous_format
        self._model = merge_lora(model).eval().to(device, memory_format=self._layout)  # type: ignore[call-overload]
        self._task: Task = self._in.task.made(TASKS)
        self._resize: Crop | Pad | Squish | None = None  # inputs in memory have their size already
        if self._in.resize.name in RESIZES:
            self._resize = cast(Crop | Pad | Squish, self._in.resize.made(RESIZES))
        self._mean, self._std = (torch.tensor(values).view(-1, 1, 1) for values in (self._in.mean, self._in.std))

    def __repr__(self) -> str:
        return f"<Predictor {self._in.model}: {self._in.task.name}, {len(self.classes)} outputs, on {self._device}>"

    def predict(self, pictures: Any, *, root: str | Path | None = None) -> Predictions:
        """Predictions for files, folders, Pillow pictures or arrays, one or several, in the order given.

        A picture is a file's path, a Pillow picture, an array (H, W) or (H, W, 3), or a tensor (3, H, W), bytes or 0 .. 1;
        all are resized and normalised as in training. Models of other inputs than photographs take one batch instead:
        uint8 (N, channels, size, size), or float32 (N, ...) as the network was trained on. A model of a table, of texts, or of
        several inputs, takes a CSV file or a data frame with the columns that it was trained on; one of texts alone also a list of texts.
        Photographs that a column names lie below `root`, by default the CSV file's folder, for a frame the current one.

        Raises:
            DataError: a file is missing or is no photograph, an array is no picture, or a column is missing or holds what it cannot.
            ModelError: the model's outputs are no finite numbers.
        """
        notes: tuple[str, ...] = ()
        check_root(self.plan.data.inputs, root)
        if self.plan.data.inputs:
            scores, notes = self._of_items(pictures, root)
            return self._said(tuple(f"item {number}" for number in range(len(scores))), scores, notes)
        if self.plan.data.columns:
            pictures, notes = further_rows(self.plan.data.columns, pictures, self._tokenizer)
        batch = isinstance(pictures, np.ndarray | torch.Tensor) and (pictures.ndim == 4 or self._in.pictures == "none")
        if batch:
            items = [f"item {number}" for number in range(len(pictures))]
            scores = self._of_batch(torch.as_tensor(pictures))
        else:
            listed = _listed(pictures)
            items = [str(one) if isinstance(one, str) else f"item {number}" for number, one in enumerate(listed)]
            starts = range(0, len(listed), BATCH)
            scores = torch.cat([self.scores(self.inputs(listed[start : start + BATCH])) for start in starts])
        return self._said(tuple(items), scores, notes)

    def _said(self, items: tuple[str, ...], scores: torch.Tensor, notes: tuple[str, ...]) -> Predictions:
        outputs = self._task.outputs(scores)
        check_finite(outputs)
        return Predictions(
            items=items,
            classes=self.classes,
            task=self._in.task.name,
            metric_functions={},
            outputs=outputs,
            target=None,
            prior=prior_outputs(self.plan.data),
            notes=notes,
        )

    def _of_items(self, source: Any, root: str | Path | None) -> tuple[torch.Tensor, tuple[str, ...]]:
        """The scores of the rows of a CSV file or data frame, and notes on what was not known of them."""
        folder, paths, inputs, notes = further_items(self.plan.data.inputs, source, self._tokenizer, root)
        scores = []
        for rows in np.array_split(np.arange(len(inputs[0].present)), -(-len(inputs[0].present) // BATCH)):
            parts = dict[str, torch.Tensor]()
            for one in inputs:
                if one.array is not None:
                    parts[one.name] = one.array[torch.from_numpy(rows)]
                elif one.place is not None:
                    files = [os.path.join(folder, paths[place]) for place in one.place[rows] if place >= 0]
                    empty = torch.zeros(0, len(self._in.mean), self._in.size, self._in.size)
                    parts[one.name] = with_gaps(self.inputs(files) if files else empty, one.present[rows], self._layout)
            scores.append(self.scores(Inputs(parts, torch.from_numpy(np.stack([one.present[rows] for one in inputs], axis=1)))))
        return torch.cat(scores), notes

    def _of_batch(self, batch: torch.Tensor) -> torch.Tensor:
        if self._in.pictures != "none" and batch.dtype != torch.uint8:
            raise DataError(f"A batch of {batch.dtype}: give bytes, uint8 (N, channels, side, side).")
        side = self._in.size
        if batch.dtype == torch.uint8 and tuple(batch.shape[1:]) != (self._in.channels, side, side):
            raise DataError(f"A batch of shape {tuple(batch.shape)}: the model takes (N, {self._in.channels}, {side}, {side}).")
        if len(batch) == 0:
            raise DataError("Nothing to predict: the batch is empty.")
        try:
            return torch.cat([self.scores(self.normalised(part)) for part in batch.split(self._batch)])
        except RuntimeError as error:
            raise DataError(f"The model cannot take a batch of shape {tuple(batch.shape)}: {first_line(error)}") from error

    def inputs(self, pictures: Sequence[Any]) -> torch.Tensor:
        """The pictures as the network gets them, float32 (N, 3, size, size), cut at the centre.

        Raises:
            DataError: one cannot be read, or the model takes no photographs.
        """
        cuts, rule = [], self._resize
        if rule is None:
            raise DataError(
                "The model takes items of its own size, no photographs: give one array of them, (N, ...), as it was trained on."
            )
        for number, one in enumerate(pictures):
            try:
                upright = decode(one) if isinstance(one, str) else as_picture(one)
                cuts.append(rule.cut(rule.presize(upright, self._in.size), self._in.size, (0.5, 0.5)))
            except Exception as error:  # Pillow raises many kinds for bad bytes; each becomes one message
                name = one if isinstance(one, str) else f"item {number}"
                raise DataError(f"{name} cannot be read as a photograph ({_reason(one) or first_line(error)}).") from error
        pixels = torch.from_numpy(np.ascontiguousarray(np.stack(cuts).transpose(0, 3, 1, 2)))
        return self.normalised(pixels)

    def normalised(self, batch: torch.Tensor) -> torch.Tensor:
        """Bytes (N, C, size, size) as the network gets them; other numbers are what it gets."""
        return to_network(batch, self._mean, self._std, self._layout) if batch.dtype == torch.uint8 else batch

    def scores(self, inputs: Any) -> torch.Tensor:
        """The raw scores, float32 (N, classes) on the CPU, of inputs as the network gets them, a tensor or `Inputs`."""
        lower = self._in.precision != "float32"
        with torch.inference_mode(), torch.autocast(self._device.type, dtype=DTYPES.get(self._in.precision), enabled=lower):
            return cast(torch.Tensor, self._model(inputs.to(self._device))).float().cpu()


def _listed(pictures: Any) -> list[Any]:
    several = isinstance(pictures, Sequence) and not isinstance(pictures, str)
    found: list[Any] = []
    for one in pictures if several else [pictures]:
        found += photo_paths([one]) if isinstance(one, str | Path) else [one]
    if not found:
        raise DataError("Nothing to predict: give files, folders, pictures or arrays.")
    return found


def _reason(file: object) -> str:
    try:
        with open(file, "rb") as opened:  # type: ignore[call-overload]
            return unread_format(opened.read(256))
    except (OSError, TypeError):
        return ""  # no file, or one that cannot be opened: then the first error says so


def load_bundle(file: str | Path, *, objects: Mapping[str, Any] | None = None, device: str = "cpu") -> Predictor:
    """The predictor of a bundle that `learn.export` wrote, after its parts were compared with their SHA-256 and its probe replayed.

    The probe's pictures must give the stored inputs within 2 of 255 levels, and the stored inputs the stored scores
    within 0.001 (float32), 0.05 (bf16) or 0.02 (fp16) of the largest score, or of 1 if that is more.

    Args:
        file: The bundle.
        objects: Your own module's class or function, and head, under their names, for runs that used them.
        device: Where to predict.

    Raises:
        BundleError: the file is no bundle, is damaged or of another format, or says something else than when it was written.
        ModelError: it needs a module of your own that `objects` does not give.
        RunError: what `objects` gives is not the code that the run used.
        PlanError: there is no such device.
    """
    parts = read_bundle(file)
    makers = own_makers(parts.plan, objects or {}, parts.record)
    return opened(file, parts, makers.made_by, makers.made_head, device)


def opened(file: str | Path, parts: Parts, made_by: Any, made_head: Any, device: str) -> Predictor:
    """The predictor of a bundle's parts, its probe replayed."""
    pictures = parts.interface.pictures != "none"
    choose_numerics(device, profile_named(parts.plan.profile), pictures=pictures)  # says which devices there are
    try:
        model = rebuild(parts.plan, made_by, made_head).model
        model.load_state_dict(parts.weights)
        if weights_sha256(model) != parts.record.weights_sha256:
            raise BundleError(f"{file} is damaged: its tensors do not have the hash that its record states.")
        predictor = Predictor(model, parts.plan, device, parts.tokenizer)
        predictor.probe_difference = replay(predictor, parts.probe, parts.interface)
    except SheerError:
        raise
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise BundleError(f"{file}: its weights, probe and plan do not belong together: {first_line(error)}") from error
    return predictor


def replay(predictor: Predictor, probe: Mapping[str, torch.Tensor], interface: Interface) -> float:
    """How far the scores of the stored inputs are from the stored ones, as a share of the largest of them (at least 1).

    Raises:
        BundleError: further than the tolerance, or the stored pictures do not give the stored inputs.
    """
    if "pictures" in probe:
        seen = predictor.inputs([picture.numpy() for picture in probe["pictures"]])
        allowed = LEVELS / 255 / min(interface.std)
        _check_near("inputs", seen, probe["inputs"], allowed, "Pillow resizes otherwise than the one it was written with")
    if "present" in probe:
        inputs: Any = Inputs({name.removeprefix("input "): probe[name] for name in probe if name.startswith("input ")}, probe["present"])
    scores = predictor.scores(inputs if "present" in probe else probe["inputs"])
    scale = max(1.0, float(probe["scores"].abs().max()))
    tolerance = TOLERANCE[interface.precision]
    return _check_near("scores", scores, probe["scores"], tolerance * scale, "the weights or this machine's arithmetic are others") / scale


def _check_near(what: str, found: torch.Tensor, stored: torch.Tensor, allowed: float, why: str) -> float:
    same = found.shape == stored.shape
    difference = float((found - stored).abs().max()) if same and found.numel() else 0.0
    if not same or not difference <= allowed:  # NaN is not within any tolerance
        raise BundleError(
            f"The bundle's probe does not give the {what} that were stored with it: {tuple(found.shape)} against {tuple(stored.shape)}, "
            f"largest difference {difference:.3g}, allowed {allowed:.3g}; {why}. Export the run again where it was made."
        )
    return difference
