"""The real fastai 2.8.12 beside sheer on a table: codes, numbers, shapes, order of layers, forward outputs with copied weights."""

import warnings

import numpy as np
import pandas as pd
import pytest
import torch

import sheer
from sheer.model.tabular import embedding_width, init_embedding

fastai = pytest.importorskip("fastai", reason="fastai is not installed: pip install '.[bench]'")


@pytest.fixture(scope="module")
def frame():
    draw = np.random.default_rng(0)
    rows = 120
    return pd.DataFrame(
        {
            "colour": draw.choice(["red", "green", "blue", None], rows),
            "width": np.where(draw.random(rows) < 0.2, np.nan, draw.normal(5, 2, rows)),
            "size": draw.choice(["s", "m", "l"], rows),
            "height": draw.normal(-1, 30, rows),
            "y": np.arange(rows) % 3,
        }
    )


@pytest.fixture(scope="module")
def both(frame):
    """fastai's table and model, and sheer's learner, on the same rows and split."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from fastai.data.block import CategoryBlock
        from fastai.tabular.core import Categorify, FillMissing, Normalize, TabularPandas
        from fastai.tabular.learner import tabular_learner

        held_out = list(range(90, 120))
        theirs = TabularPandas(
            frame.copy(),
            [Categorify, FillMissing, Normalize],
            cat_names=["colour", "size"],
            cont_names=["width", "height"],
            y_names="y",
            y_block=CategoryBlock(),
            splits=(list(range(90)), held_out),
        )
        model = tabular_learner(theirs.dataloaders(16), config={"ps": [0.1, 0.1], "embed_p": 0.2}).model
    data = sheer.table(frame, target="y", valid=held_out)
    settings = {"dropout": 0.1, "embedding_dropout": 0.2}
    return theirs, model, sheer.learner(data, ("tabular", settings), profile="fastai-2.8", quiet=True)


def test_the_same_codes_and_numbers(both):
    theirs, _, learn = both
    assert [part.name for part in learn.data.plan.columns] == ["categorical", "categorical", "missing", "continuous", "continuous"]
    assert list(theirs.cat_names) + list(theirs.cont_names) == ["colour", "size", "width_na", "width", "height"]
    ours = learn.data.arrays.numpy()
    assert (ours[:, :3] == theirs.cats.to_numpy()).all()
    assert np.allclose(ours[:, 3:], theirs.conts.to_numpy(), rtol=1e-5, atol=1e-6)


def test_the_same_layers_in_the_same_order(both):
    _, theirs, learn = both
    ours, their_tensors = learn.model.state_dict(), theirs.state_dict()
    assert [tuple(tensor.shape) for tensor in ours.values()] == [tuple(tensor.shape) for tensor in their_tensors.values()]
    table = learn.data.arrays
    assert called(learn.model, table) == called(theirs, table[:, :3].long(), table[:, 3:])


def called(model, *inputs):
    """The kinds of layers in the order in which a forward pass calls them; fastai's last layer has no dropout, ours one of 0."""
    kinds = []
    hooks = [
        module.register_forward_hook(lambda module, given, out: kinds.append(type(module).__name__))
        for module in model.modules()
        if not list(module.children()) and getattr(module, "p", 1) > 0
    ]
    model(*inputs)
    for hook in hooks:
        hook.remove()
    return kinds


def test_the_same_outputs_with_copied_weights(both):
    _, theirs, learn = both
    ours = dict(zip(learn.model.state_dict(), (tensor.clone() for tensor in theirs.state_dict().values()), strict=True))
    learn.model.load_state_dict(ours)
    table = learn.data.arrays
    for mode in (False, True):  # running statistics, then those of the batch, without dropout
        for model in (theirs, learn.model):
            model.train(mode)
            for module in model.modules():
                if isinstance(module, torch.nn.Dropout):
                    module.eval()
        with torch.no_grad():
            assert torch.equal(learn.model(table), theirs(table[:, :3].long(), table[:, 3:]))


def test_the_same_rule_for_embeddings_and_their_weights():
    from fastai.layers import Embedding
    from fastai.tabular.model import emb_sz_rule

    for codes in (*range(2, 300), 1000, 10**5, 10**6):
        assert embedding_width(codes) == emb_sz_rule(codes)
    torch.manual_seed(0)
    theirs = Embedding(500, 20).weight
    torch.manual_seed(0)
    ours = init_embedding(torch.nn.Embedding(500, 20)).weight
    assert torch.equal(theirs, ours)
