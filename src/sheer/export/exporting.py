"""Writing a bundle: the parts, a probe made by the very predictor that will replay it, and the proof that it does."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from sheer.errors import BundleError, unwritable
from sheer.export.bundle import read_bundle, write_bundle
from sheer.export.predictor import Predictor, opened
from sheer.model.branches import sample_items, sample_rows
from sheer.model.surgery import probe_images
from sheer.plan.plan import Plan
from sheer.record.own import HeadMaker, MadeBy
from sheer.record.run import Record


def export_bundle(
    file: str | Path,
    plan: Plan,
    record: Record,
    model: nn.Module,
    made_by: MadeBy | None,
    made_head: HeadMaker | None,
    sample: torch.Tensor | None,
    tokenizer: str = "",
) -> Path:
    """Write `model` with its plan and record as one file, read it back and replay its probe; see `Learner.export`.

    `sample` are two items (2, ...) where the data is no photographs in files, None where it is; `tokenizer` is a text encoder's.

    Raises:
        BundleError: the file exists, cannot be written, nothing was trained, or the probe's scores are not the same.
    """
    target = Path(file).expanduser()
    if target.exists():
        raise BundleError(f"{target} exists. Nothing was overwritten: give another name, or remove it.")
    if not plan.phases:
        raise BundleError("The plan has no phases: nothing was trained, so there is nothing to export.")
    sample = sample_rows(plan.data.columns) if sample is None and plan.data.columns else sample
    if sample is None and plan.data.pictures == "none" and not plan.data.inputs:
        raise BundleError("The model takes numbers, and their shape is not known: load the run with its data, then export it.")
    predictor = Predictor(copy.deepcopy(model).cpu(), plan, "cpu")
    if plan.model.name.startswith("module:"):  # it was passed as it is: its code is here, its tensors come from the file
        made_by = copy.deepcopy(model.get_submodule("body") if plan.model.head else model)
    instances = [branch.name for branch in plan.model.branches if branch.model.name.startswith("module:")]
    if instances:
        functions = made_by if isinstance(made_by, Mapping) else {}
        made_by = {**functions, **{name: copy.deepcopy(model.get_submodule(f"body.branches.{name}")) for name in instances}}
    probe = make_probe(predictor, sample)
    if not all(bool(tensor.isfinite().all()) for tensor in probe.values()):
        raise BundleError("The model's scores are no finite numbers, so nothing can be promised of it. Was it trained at too high a rate?")
    half = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        write_bundle(half, plan, record, model.state_dict(), probe, tokenizer)
        opened(half, read_bundle(half), made_by, made_head, "cpu")
        os.replace(half, target)
    except OSError as error:
        raise BundleError(unwritable(target, error)) from error
    finally:
        half.unlink(missing_ok=True)
    return target


def make_probe(predictor: Predictor, sample: torch.Tensor | None) -> dict[str, torch.Tensor]:
    """Two made-up items with what the predictor makes of them; `sample` are inputs (2, ...) where they are no photographs.

    For several inputs: `input NAME`, `present`, `scores`.
    For photographs: `pictures` uint8 (2, H, W, 3) of waves, not square, `inputs` and `scores`.
    """
    if predictor.plan.data.inputs:
        items = sample_items(predictor.plan.data.inputs, 2, predictor.plan.phases[-1].size)
        parts = {f"input {name}": part.contiguous() for name, part in items.parts.items()}
        return {**parts, "present": items.present, "scores": predictor.scores(items)}
    if sample is not None:
        inputs = predictor.normalised(sample)
        return {"inputs": inputs.contiguous(), "scores": predictor.scores(inputs)}
    waves = ((probe_images(96) * 0.5 + 0.5) * 255).to(torch.uint8)[:, :, :72].permute(0, 2, 3, 1).contiguous()
    inputs = predictor.inputs([picture.numpy() for picture in waves])
    return {"pictures": waves, "inputs": inputs.contiguous(), "scores": predictor.scores(inputs)}
