"""The real fastai 2.8.12 beside sheer: test-time augmentation and the most confused classes, on the same predictions."""

import warnings

import numpy as np
import pytest
import torch
from torch import nn

import sheer

fastai = pytest.importorskip("fastai", reason="fastai is not installed: pip install '.[bench]'")
CLASSES = ["ant", "bee", "cat", "dog"]


def theirs_on(probabilities, target, passes=()):
    """fastai's learner whose model gives, pass after pass, the logs of `passes`, then of `probabilities`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from fastai.callback.progress import ProgressCallback  # noqa: F401  (it gives Learner its no_bar)
        from fastai.data.core import DataLoaders
        from fastai.data.load import DataLoader
        from fastai.data.transforms import CategoryMap
        from fastai.learner import Learner
        from fastai.losses import CrossEntropyLossFlat

        class Items(list):
            vocab = CategoryMap(CLASSES)

            def set_split_idx(self, number):
                import contextlib

                return contextlib.nullcontext()

        class Table(nn.Module):
            def __init__(self):
                super().__init__()
                self.unused, self.runs, self.seen = nn.Linear(1, 1), [*passes, probabilities], 0

            def forward(self, rows):
                table = torch.from_numpy(np.log(self.runs[self.seen // len(target)]))
                self.seen += len(rows)
                return table[rows]

        items = Items((number, torch.tensor(label)) for number, label in enumerate(target.tolist()))
        loader = DataLoader(items, bs=16)
        loader.vocab = Items.vocab
        loaders = DataLoaders(loader, loader)
        loaders.vocab = Items.vocab
        return Learner(loaders, Table(), loss_func=CrossEntropyLossFlat())


def some_table(count, seed):
    scores = np.random.default_rng(seed).normal(size=(count, len(CLASSES)))
    return np.exp(scores) / np.exp(scores).sum(1, keepdims=True)


def test_tta_combines_as_fastais():
    from sheer.interpret.looking import averaged

    target = np.random.default_rng(0).integers(0, 4, 40)
    plain, passes = some_table(40, 1), [some_table(40, seed) for seed in (2, 3, 4, 5)]
    learn = theirs_on(plain, target, passes)
    with learn.no_bar(), learn.no_logging():
        combined, seen = learn.tta(n=4)
    assert np.array_equal(seen.numpy(), target)
    assert np.allclose(combined.numpy(), averaged(plain, passes, 0.25), atol=1e-9)
    print("largest difference", np.abs(combined.numpy() - averaged(plain, passes, 0.25)).max())


def test_most_confused_and_the_confusion_table_are_fastais():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from fastai.interpret import ClassificationInterpretation

        inputs = torch.randn(80, 5)
        data = sheer.arrays(inputs, np.random.default_rng(3).integers(0, 4, 80).tolist(), classes=CLASSES, valid=0.5)
        ours = sheer.learner(data, lambda: nn.Linear(5, 4), batch_size=8, quiet=True, device="cpu").interpret()
        learn = theirs_on(ours.table.outputs, ours.table.target, [ours.table.outputs] * 3)
        with learn.no_bar(), learn.no_logging():
            theirs = ClassificationInterpretation.from_learner(learn)
            assert np.array_equal(theirs.confusion_matrix(), ours.confusion())
            for least in (1, 2, 3):
                learn.model.seen = 0
                expected = [(true, said, int(count)) for true, said, count in theirs.most_confused(least)]
                assert ours.most_confused(least) == expected and expected
            assert np.allclose(theirs.losses.numpy(), ours.table.losses, atol=1e-5)
            values, places = theirs.losses.topk(5)
    worst = ours.top_losses(5)
    assert [one.item for one in worst] == [ours.table.items[place] for place in places.tolist()]
    assert [one.loss for one in worst] == pytest.approx(values.tolist(), abs=1e-5)
