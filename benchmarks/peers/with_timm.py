"""timm's own train.py (1.0), which its package does not bring: give the path of a copy as TIMM_TRAIN.

It is run here with its defaults but for what a short fine-tuning needs: AdamW at 5e-4, one epoch of warm-up, the others' sizes. What
it reports to `timm.utils.update_summary` after each epoch is the curve; it keeps no predictions.
"""

from __future__ import annotations

import os
import runpy
import sys
import tempfile
from pathlib import Path

import timm.utils
import torch
from benchmarks.peers.task import Curve, Result, Skipped, Task

SCRIPT = os.environ.get("TIMM_TRAIN", "")
if not Path(SCRIPT).is_file():
    raise Skipped(f"TIMM_TRAIN={SCRIPT!r} is no file, and timm's package brings no train.py; give the path of a copy of it")


def train(task: Task, curve: Curve) -> Result:
    def report(epoch, train_metrics, eval_metrics, *rest, **named):
        curve.point(eval_metrics["top1"] / 100)

    timm.utils.update_summary = report
    learned, held_out = ([str(path) for path in sorted(Path(task.folder, part).glob("*/*"))] for part in ("train", "valid"))
    options = {
        "data-dir": task.folder,
        "train-split": "train",
        "val-split": "valid",
        "num-classes": len({Path(path).parent for path in learned}),
        "model": task.model,
        "pretrained-path": task.weights,
        "img-size": task.size,
        "batch-size": 32,
        "seed": task.seed,
        "opt": "adamw",
        "lr": 5e-4,
        "warmup-epochs": 1,
        "epochs": 1 + task.epochs,
        "workers": os.cpu_count() or 1,
        "device": "cuda" if torch.cuda.is_available() else "cpu",
    }
    with tempfile.TemporaryDirectory() as out:
        words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        sys.argv = [SCRIPT, *words, "--pretrained", "--output", out]
        runpy.run_path(SCRIPT, run_name="__main__")
    return Result(learned=learned, hits=dict.fromkeys(held_out))
