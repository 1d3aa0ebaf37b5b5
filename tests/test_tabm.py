"""TabM beside its authors' package `tabm`, with copied weights; its losses, its mean, its stages, its settings."""

import numpy as np
import pandas as pd
import pytest
import torch

import sheer
from sheer.data.columns import bin_edges
from sheer.errors import ModelError, PlanError
from sheer.model.heads import EnsembleLinear
from sheer.model.tabular import BatchEnsembleLinear, PiecewiseLinear, TabMBody
from sheer.task.losses import CrossEntropy, EnsembleLoss, ItemWeighted, SquaredError, Weighted

ROWS = 200


def theirs_of(name):
    return pytest.importorskip(name, reason=f"the package {name} is not installed: pip install '.[test]'")


@pytest.fixture(scope="module")
def data():
    draw = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "colour": draw.choice(["red", "green", "blue"], ROWS),
            "width": draw.normal(5, 2, ROWS).round(2),
            "height": draw.exponential(2, ROWS).round(1),  # fewer different quantiles than the other columns
            "half": np.where(draw.random(ROWS) < 0.99, 0.5, 7.5),  # one bin
            "size": draw.choice(["s", "m"], ROWS),
        }
    )
    frame["y"] = (frame["width"] > 5).astype(int) + (frame["colour"] == "red")
    return sheer.table(frame, target="y", valid=list(range(150, 200)), continuous=["half"])


@pytest.mark.filterwarnings("ignore:The 2-th feature has just two bin edges")
@pytest.mark.parametrize("embedding", [0, 6])
@pytest.mark.parametrize("training", [False, True])
def test_the_same_outputs_with_copied_weights(data, embedding, training):
    tabm, rtdl_num_embeddings = theirs_of("tabm"), theirs_of("rtdl_num_embeddings")
    settings = {"members": 5, "hidden": (9, 9), "dropout": 0.0, "embedding": embedding}
    learn = sheer.learner(data, ("tabm", settings), quiet=True)
    edges = [torch.tensor(bin_edges(part)) for part in data.plan.columns if part.name == "continuous"]
    assert len({len(one) for one in edges}) == 3 and min(map(len, edges)) == 2
    theirs = tabm.TabM(
        n_num_features=3,
        cat_cardinalities=[3, 2],
        d_out=3,
        num_embeddings=rtdl_num_embeddings.PiecewiseLinearEmbeddings(edges, embedding, activation=False, version="B")
        if embedding
        else None,
        n_blocks=2,
        d_block=9,
        dropout=0.0,
        k=5,
        arch_type="tabm",
        start_scaling_init="normal",
    )
    for module in theirs.modules():  # all weights at random, also those that start at 0 or 1
        for tensor in module.parameters(recurse=False):
            torch.nn.init.normal_(tensor, generator=torch.Generator().manual_seed(tensor.numel()))
    ours, mine = theirs.state_dict(), learn.model.state_dict()
    names = {"numbers.line": "num_module.linear0.weight", "numbers.bias": "num_module.linear0.bias"}
    names["numbers.weight"] = "num_module.linear.weight"
    names |= {f"layers.linear{n}.{a}": f"backbone.blocks.{n}.0.{b}" for n in (0, 1) for a, b in (("scale_in", "r"), ("scale_out", "s"))}
    names |= {f"layers.linear{n}.{a}": f"backbone.blocks.{n}.0.{a}" for n in (0, 1) for a in ("weight", "bias")}
    names = {f"body.{name}": other for name, other in names.items()} | {"head.weight": "output.weight", "head.bias": "output.bias"}
    learn.model.load_state_dict({name: ours[names[name]] for name in mine})
    table = data.arrays
    codes, numbers = table[:, :2].long() - 1, table[:, 2:]
    learn.model.train(training)
    with torch.no_grad():
        found, wanted = learn.model(table), theirs(numbers, codes)
    if training:
        assert torch.equal(found, wanted)
    else:
        assert torch.allclose(torch.softmax(found, 1), torch.softmax(wanted, 2).mean(1), atol=1e-6)


def test_the_edges_are_the_package_s(data):
    widths = torch.tensor([[float(cell)] for cell in data.arrays[torch.from_numpy(data.train), 2]])
    theirs = theirs_of("rtdl_num_embeddings").compute_bins(widths, n_bins=48)[0]
    edges = bin_edges(data.plan.columns[2])
    assert len(edges) == len(theirs) and torch.allclose(torch.tensor(edges), theirs, atol=1e-6)


def test_weights_start_as_the_package_s_do():
    torch.manual_seed(0)
    layer = BatchEnsembleLinear(6, 4, members=500, scale_init="normal", chunks=(4, 2))
    scales = layer.scale_in.detach()
    assert (scales[:, :4] == scales[:, :1]).all() and (scales[:, 4:] == scales[:, 4:5]).all()  # one draw a column
    assert abs(float(scales[:, 0].mean())) < 0.15 and abs(float(scales[:, 0].std()) - 1) < 0.15
    assert (layer.scale_out == 1).all() and (layer.bias == layer.bias[0]).all() and float(layer.weight.detach().abs().max()) <= 6**-0.5
    signs = BatchEnsembleLinear(2, 4, members=500, scale_init="signs", chunks=(1, 1)).scale_in.detach()
    assert set(signs.unique().tolist()) == {-1.0, 1.0} and abs(float(signs.mean())) < 0.15
    numbers = PiecewiseLinear(edges=((0.0, 1.0, 2.0),), width=4)
    assert (numbers.weight == 0).all() and float(numbers.line.detach().abs().max()) <= 0.5
    first = TabMBody(codes=(), edges=((0.0, 1.0),), members=3, hidden=(5, 5), dropout=0.0, embedding=4, one_hot=9).layers
    assert not (first.linear0.scale_in == 1).all() and (first.linear1.scale_in == 1).all()


def test_each_member_has_its_own_loss_and_one_loss_an_item():
    scores, target = torch.randn(4, 3, 2), torch.tensor([0, 1, 1, 0])
    plain = torch.nn.functional.cross_entropy
    wanted = torch.stack([plain(scores[:, member], target, reduction="none") for member in range(3)]).mean(0)
    loss = EnsembleLoss(loss=CrossEntropy())
    assert torch.allclose(loss(scores, target), wanted)
    assert torch.equal(loss(scores[:, 0], target), CrossEntropy()(scores[:, 0], target))  # what is validated has no members
    doubled = EnsembleLoss(loss=Weighted(loss=CrossEntropy(), weights=(2.0, 2.0)))
    assert torch.allclose(doubled(scores, target), 2 * wanted)
    weights = torch.tensor([0.0, 1.0, 2.0, 3.0])
    assert torch.allclose(ItemWeighted(loss=loss, weight=weights)(scores, target), weights * wanted)
    numbers = torch.randn(4, 3, 2)
    assert torch.allclose(EnsembleLoss(loss=SquaredError())(numbers, torch.zeros(4, 2)), numbers.square().mean((1, 2)))


@pytest.mark.parametrize(("task", "outputs"), [("classify", lambda s: s.softmax(2)), ("tag", torch.sigmoid), ("regress", lambda s: s)])
def test_what_it_says_is_the_mean_of_what_the_members_say(task, outputs):
    head = EnsembleLinear(6, 3, members=4, task=task)
    features = 3 * torch.randn(5, 4, 6)
    with torch.no_grad():
        each, one = head.train()(features), head.eval()(features)
    said = {"classify": lambda s: s.softmax(1), "tag": torch.sigmoid, "regress": lambda s: s}[task](one)
    assert each.shape == (5, 4, 3) and torch.allclose(said, outputs(each).mean(1), atol=1e-6)


def test_numbers_beyond_the_outer_edges_go_on_along_the_line():
    numbers = PiecewiseLinear(edges=((0.0, 1.0, 2.0),), width=1)
    with torch.no_grad():
        for name, values in (("line", 0.0), ("bias", 0.0), ("weight", 1.0)):
            getattr(numbers, name).fill_(values)
        found = numbers(torch.tensor([[-1.0], [0.5], [1.5], [4.0]])).flatten().tolist()
    assert found == [-1.0, 0.5, 1.5, 4.0]


def test_a_column_of_many_codes_gets_an_embedding_and_an_unknown_one_is_nothing():
    body = TabMBody(codes=(3, 100), edges=(), members=2, hidden=(5,), dropout=0.0, embedding=4, one_hot=10)
    assert len(body.embeddings) == 1 and body.layers.linear0.weight.shape == (5, 2 + 21)
    with torch.no_grad():
        body.embeddings[0].weight.zero_()
        assert torch.equal(body(torch.zeros(1, 2)), torch.relu(body.layers.linear0.bias)[None])


def test_stages_scales_and_batches_are_in_the_plan(data):
    learn = sheer.learner(data, "tabm", quiet=True)
    phase, model = learn.plan(sheer.recipes.one_cycle(1)).phases[0], learn.plan().model
    assert [stage.name for stage in model.stages] == ["embeddings", "layers", "head"] and model.kind == "ensemble"
    assert model.undecayed == tuple(f"body.layers.linear{n}.scale_{s}" for n in (0, 1) for s in ("in", "out"))
    assert phase.batch_size == 64 and phase.rates == pytest.approx((3e-3, 3e-3, 3e-3))
    assert "times 3: TabM takes larger steps" in str(learn.plan(sheer.recipes.one_cycle(1)))
    assert learn.plan(sheer.recipes.one_cycle(1, rate=1e-3)).phases[0].rates == (1e-3, 1e-3, 1e-3)
    assert sheer.learner(data, "tabular", quiet=True).plan(sheer.recipes.one_cycle(1)).phases[0].rates == (1e-3, 1e-3, 1e-3)
    assert sheer.learner(data, quiet=True).plan().model.name == "sheer:tabm"
    assert sheer.learner(data, quiet=True, profile="fastai-2.8").plan().model.name == "sheer:tabular"
    plain = sheer.learner(data, ("tabm", {"embedding": 0}), quiet=True)
    assert [stage.name for stage in plain.plan().model.stages] == ["layers", "head"]
    assert plain.plan().short_hash() != learn.plan().short_hash()
    assert "quantiles from" in str(learn.plan())


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"members": 0}, ModelError, "members=0; give a whole number of at least 1"),
        ({"embedding": -1}, ModelError, "embedding=-1"),
        ({"one_hot": 0.5}, ModelError, "one_hot=0.5"),
        ({"hidden": ()}, ModelError, "model=tabm"),
        ({"dropout": 2.0}, ModelError, "model=tabm"),
        ({"k": 3}, PlanError, "no setting 'k'"),
    ],
)
def test_settings_that_make_no_network_are_refused(data, settings, error, message):
    with pytest.raises(error, match=message):
        sheer.learner(data, ("tabm", settings))


def test_it_takes_no_other_head(data):
    with pytest.raises(ModelError, match="ends in a head of its own"):
        sheer.learner(data, "tabm", head="linear")
    with pytest.raises(ModelError, match="ends in a head of its own"):
        sheer.learner(data, "tabm", head=lambda features, classes: torch.nn.Linear(features, classes))
    with pytest.raises(PlanError, match="head='ensemble' is no head"):
        sheer.learner(data, head="ensemble")


def test_it_learns_and_its_features_are_the_members_mean(data):
    learn = sheer.learner(data, ("tabm", {"members": 8, "hidden": (32, 32)}), quiet=True, batch_size=32).fit_one_cycle(30, 5e-3)
    assert learn.validate().metrics()["accuracy"] > 0.9
    assert learn.features().shape == (50, 32) and np.isfinite(learn.features()).all()
    assert learn.lr_find(steps=20).losses and "loss cross_entropy" in str(learn.preview())
