"""A table of predictions made by hand."""

import numpy as np

from sheer.interpret.predictions import Predictions
from sheer.task.metrics import METRICS

CLASSES = ("ant", "bee", "cat", "dog")


def table(items=200, seed=0, sharpness=3.0, known=True):
    """Predictions that are often right, and losses of theirs."""
    generator = np.random.default_rng(seed)
    target = generator.integers(0, len(CLASSES), items)
    scores = generator.normal(size=(items, len(CLASSES))) + sharpness * np.eye(len(CLASSES))[target] * generator.random((items, 1))
    weights = np.exp(scores)
    probabilities = weights / weights.sum(1, keepdims=True)
    return Predictions(
        items=tuple(f"{number:03d}.jpg" for number in range(items)),
        classes=CLASSES,
        task="classify",
        metric_functions={"accuracy": METRICS["classify"]["accuracy"]},
        outputs=probabilities,
        target=target if known else None,
        prior=np.full(len(CLASSES), 1 / len(CLASSES)),
        losses=-np.log(probabilities[np.arange(items), target]) if known else None,
    )


def small(outputs, target, task="classify"):
    """A table of few items whose outputs are given."""
    outputs = np.array(outputs, dtype=np.float64)
    return Predictions(
        items=tuple("abcdefgh"[: len(outputs)]),
        classes=CLASSES[: outputs.shape[1]],
        task=task,
        metric_functions=dict([next(iter(METRICS[task].items()))]),
        outputs=outputs,
        target=np.array(target),
        prior=outputs.mean(0),
        losses=np.arange(len(outputs), dtype=np.float64),
    )
