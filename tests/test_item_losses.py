"""The training loss of every item in every epoch: what was watched, that watching changes nothing, and what it says."""

import csv

import numpy as np
import pytest
import torch
from torch.nn import functional

import sheer
from conftest import Leave, Small
from own_code import small_net
from sheer.errors import PlanError, RunError
from sheer.loop.item_losses import ItemLosses


def watched(photos, out=None, epochs=2, callbacks=(), **options):
    seen = sheer.ItemLosses()
    learn = sheer.learner(sheer.images(photos), small_net, size=32, batch_size=8, quiet=True, out=out, **options)
    learn.fit(epochs, 0.01, callbacks=[seen, *callbacks])
    return learn, seen


@pytest.mark.parametrize(
    "options",
    [{}, {"accumulate": 16, "mix": "mixup"}, {"class_weights": (1.0, 3.0)}, {"sampling": "balanced"}, {"profile": "keras-guide"}],
    ids=["plain", "mixed, in parts", "weighted", "drawn", "short last batch"],
)
def test_watching_changes_no_bit_and_keeps_every_item_that_was_drawn(photos, options):
    learn, seen = watched(photos, **options)
    alone = sheer.learner(sheer.images(photos), small_net, size=32, batch_size=8, quiet=True, **options).fit(2, 0.01)
    assert [row.weights_sha256 for row in learn.history] == [row.weights_sha256 for row in alone.history]
    train = len(learn.data.train)
    assert seen.losses.shape == seen.right.shape == (2, train) and seen.losses.dtype == np.float32 and seen.epochs == (1, 2)
    assert ((seen.right == -1) == np.isnan(seen.losses)).all()
    if "sampling" not in options:
        kept = train if options.get("profile") else train - train % 8
        assert (~np.isnan(seen.losses)).sum(axis=1).tolist() == [kept, kept]
    if not options:
        assert seen.losses[0][~np.isnan(seen.losses[0])].mean() == pytest.approx(learn.history[0].train_loss, rel=1e-5)


def test_a_loss_is_that_before_the_items_step():
    generator = torch.Generator().manual_seed(0)
    inputs, target = torch.randn(40, 3, generator=generator), torch.arange(40) % 2
    learn = sheer.learner(sheer.arrays(inputs, target), torch.nn.Linear(3, 2), batch_size=32, quiet=True)
    before = {name: tensor.clone() for name, tensor in learn.model.state_dict().items()}
    seen = sheer.ItemLosses()
    learn.fit(1, callbacks=[seen])  # one step, so all that were drawn met the first weights
    model = torch.nn.Linear(3, 2)
    model.load_state_dict(before)
    scores = model(inputs[learn.data.train])
    each = functional.cross_entropy(scores, target[learn.data.train], reduction="none").detach().numpy()
    drawn = ~np.isnan(seen.losses[0])
    np.testing.assert_allclose(seen.losses[0][drawn], each[drawn], rtol=1e-6)
    right = (scores.argmax(1) == target[learn.data.train]).numpy()
    assert (seen.right[0][drawn] == right[drawn]).all()
    assert seen.items == tuple(f"item {item}" for item in learn.data.train)


def test_a_fit_that_goes_on_is_watched_on(photos, tmp_path):
    whole, every = watched(photos)
    learn, seen = watched(photos, callbacks=[Leave(7)])
    assert seen.epochs == (1,)
    learn.resume(callbacks=[seen])
    assert learn.history[-1].weights_sha256 == whole.history[-1].weights_sha256
    np.testing.assert_array_equal(seen.losses, every.losses)
    learn.fit(1, callbacks=[seen])
    assert seen.epochs == (1, 2, 3)


def made(right, losses=None):
    """Losses of items by hand."""
    found = ItemLosses()
    found.right = np.array(right, dtype=np.int8)
    epochs, items = found.right.shape
    found.items, found.epochs = tuple("abcdefg"[:items]), tuple(range(1, epochs + 1))
    found.losses = np.where(found.right < 0, np.nan, 1 - found.right if losses is None else losses).astype(np.float32)
    return found


def test_what_was_forgotten_and_learnt_late_by_hand():
    #              a  b  c  d   e
    seen = made([[0, 1, 1, 0, 1], [1, 1, 0, 0, -1], [1, 1, 1, 0, 0], [1, 1, 0, 0, 1]])
    assert seen.forgetting_events().tolist() == [0, 0, 2, 0, 1]
    assert [(one.item, one.first, one.since, one.events) for one in seen.learning()] == [
        *(("a", 2, 2, 0), ("b", 1, 1, 0), ("c", 1, 0, 2)),
        *(("d", 0, 0, 0), ("e", 1, 4, 1)),
    ]
    assert [one.item for one in seen.forgotten()] == ["c", "e"]
    assert [one.item for one in seen.never_learnt()] == ["d"] and [one.item for one in seen.unforgettable()] == ["b", "a"]
    assert [one.item for one in seen.latest_learnt(2)] == ["e", "a"]
    assert "5 items over 4 epochs: 1 never learnt, 2 forgotten, 2 unforgettable" in seen.report()
    by_loss = made([[0, 0], [0, 0], [0, 0]], [[0.5, 0.05], [0.05, 0.5], [0.04, 0.06]])
    assert by_loss.forgetting_events(below=0.1).tolist() == [0, 1]


def test_numbers_need_a_threshold(photos):
    table = {f"x{n}": np.random.default_rng(n).normal(size=60) for n in range(2)}
    import pandas

    data = sheer.table(pandas.DataFrame(table | {"y": table["x0"] * 2}), target="y")
    seen = sheer.ItemLosses()
    sheer.learner(data, batch_size=16, quiet=True).fit(2, callbacks=[seen])
    assert seen.right is None
    with pytest.raises(PlanError, match=r"below=0\.1"):
        seen.forgotten()
    assert len(seen.learning(below=1.0)) == len(data.train)


def test_they_are_kept_beside_a_run(photos, tmp_path):
    _, seen = watched(photos, out=tmp_path / "run")
    again = sheer.ItemLosses.load(seen.save(tmp_path / "run" / "item_losses.npz"))
    np.testing.assert_array_equal(again.losses, seen.losses)
    assert (again.items, again.epochs, again.right.tolist()) == (seen.items, seen.epochs, seen.right.tolist())
    assert again.learning() == seen.learning() or np.isnan(again.losses).any()
    sheer.load(tmp_path / "run", objects={"small_net": small_net})
    with open(seen.save(tmp_path / "losses.csv"), newline="") as file:
        table = list(csv.DictReader(file))
    assert [row["item"] for row in table] == list(seen.items) and list(table[0])[1:] == ["loss 1", "loss 2", "right 1", "right 2"]
    assert float(table[0]["loss 1"]) == seen.losses[0, 0] or np.isnan(seen.losses[0, 0])


def test_what_cannot_be_said_is_refused(photos, tmp_path):
    seen = sheer.ItemLosses()
    with pytest.raises(PlanError, match="No epoch was watched"):
        seen.forgotten()
    (tmp_path / "there.csv").write_text("mine")
    for name in ("there.csv", "losses.txt"):
        with pytest.raises(RunError, match=r"new file that ends in \.npz or \.csv"):
            seen.save(tmp_path / name)
    (tmp_path / "bad.npz").write_text("mine")
    with pytest.raises(RunError, match="holds no losses"):
        ItemLosses.load(tmp_path / "bad.npz")
    _, seen = watched(photos)
    inputs = torch.rand(20, 3, 16, 16)
    other = sheer.learner(sheer.arrays(inputs, [0, 1] * 10), Small, batch_size=8, quiet=True)
    with pytest.raises(PlanError, match="watched other items"):
        other.fit(1, callbacks=[seen])
    with pytest.raises(PlanError, match="n=0"):
        seen.latest_learnt(0)
