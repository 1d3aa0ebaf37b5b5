"""The training loss of every item in every epoch: what was watched, that watching changes nothing, and what it says."""

import copy
import csv

import numpy as np
import pandas
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


def rows_of_a_table():
    """60 rows with a class, a number and two labels."""
    draw = np.random.default_rng(0)
    x = {f"x{n}": draw.normal(size=60) for n in range(2)}
    sign = (x["x0"] > 0).astype(int)
    return pandas.DataFrame(x | {"kind": np.where(sign + (x["x1"] > 1), "a", "b"), "y": x["x0"] * 2, "flag": sign, "mark": 1 - sign})


@pytest.mark.parametrize("target", ["kind", "y", ["flag", "mark"]], ids=["class", "number", "labels"])
@pytest.mark.parametrize("options", [{}, {"accumulate": 32, "batch_size": 8}], ids=["whole", "in parts"])
def test_an_ensemble_is_right_where_its_members_mean_is(target, options):
    used = rows_of_a_table()[["x0", "x1", *([target] if isinstance(target, str) else target)]]
    network = ("tabm", {"members": 5, "hidden": (8,), "dropout": 0.0})

    def fitted(callbacks):
        learn = sheer.learner(sheer.table(used, target=target), network, quiet=True, **({"batch_size": 48, "seed": 3} | options))
        before = copy.deepcopy(learn.model)
        return learn.fit(2, callbacks=callbacks), before

    seen = sheer.ItemLosses()
    learn, before = fitted([seen])
    assert [row.weights_sha256 for row in learn.history] == [row.weights_sha256 for row in fitted([])[0].history]
    assert seen.losses.shape == (2, len(learn.data.train)) and np.isfinite(seen.losses).any(axis=1).all()
    if target != "kind":
        assert seen.right is None and len(seen.learning(below=1.0)) == len(seen.items)
        return
    drawn, inputs = seen.right[0] >= 0, learn.data.arrays[torch.from_numpy(learn.data.train)]
    with torch.no_grad():
        each, joint = before.train()(inputs), before.eval()(inputs)  # members, and what validation sees
    wanted = torch.from_numpy(learn.data.targets[learn.data.train])
    assert (each.argmax(2) != joint.argmax(1)[:, None]).any(), "members that say the same would prove nothing"
    if not options:  # one step, so all that were drawn met the first weights
        assert (seen.right[0][drawn] == (joint.argmax(1) == wanted).numpy()[drawn]).all()
        losses = functional.cross_entropy(each.flatten(0, 1), wanted.repeat_interleave(5), reduction="none").view(-1, 5).mean(1)
        np.testing.assert_allclose(seen.losses[0][drawn], losses.numpy()[drawn], rtol=1e-5)


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


def test_items_that_no_epoch_drew_are_told_by_themselves():
    #              a  b   c   d
    seen = made([[1, 0, -1, -1], [1, 0, -1, 1]], [[0.1, 2.0, np.nan, np.nan], [0.1, np.nan, np.nan, 0.2]])  # b's last loss was no number
    assert seen.never_drawn() == ("c",) and [one.item for one in seen.never_learnt()] == ["b"]
    report = seen.report().splitlines()
    assert report[0] == "4 items over 2 epochs: 1 never learnt, 0 forgotten, 2 unforgettable"
    assert report[1].startswith("Of 1 item nothing is known: no epoch drew it,")
    assert "nothing is known" not in made([[1, 0]]).report()
    lost = made([[0, 0, 0]], [[1.0, np.nan, 3.0]])
    assert [one.item for one in lost.never_learnt()] == ["b", "c", "a"]


def test_numbers_need_a_threshold():
    data = sheer.table(rows_of_a_table()[["x0", "x1", "y"]], target="y")
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
    from_csv = sheer.ItemLosses.load(tmp_path / "losses.csv")
    assert (from_csv.items, from_csv.epochs) == (seen.items, seen.epochs)
    for name in ("losses", "right"):
        found, wanted = getattr(from_csv, name), getattr(seen, name)
        assert found.dtype == wanted.dtype
        np.testing.assert_array_equal(found, wanted)
    assert from_csv.report() == seen.report() == again.report()


def test_losses_of_numbers_and_odd_names_are_read_again(tmp_path):
    seen = made([[0, 1, 0]], [[0.1, np.inf, np.nan]])
    seen.items, seen.right = ('a,"b"\nc', "\udce9\r", ""), None
    for name in ("losses.csv", "losses.npz"):
        again = sheer.ItemLosses.load(seen.save(tmp_path / name))
        assert again.items == seen.items and again.right is None
        np.testing.assert_array_equal(again.losses, seen.losses)


def test_what_cannot_be_said_is_refused(photos, tmp_path):
    seen = sheer.ItemLosses()
    with pytest.raises(PlanError, match="No epoch was watched"):
        seen.forgotten()
    (tmp_path / "there.csv").write_text("mine")
    for name in ("there.csv", "losses.txt"):
        with pytest.raises(RunError, match=r"new file that ends in \.npz or \.csv"):
            seen.save(tmp_path / name)
    with pytest.raises(RunError, match=r"none\.npz cannot be read"):
        ItemLosses.load(tmp_path / "none.npz")
    bad = {"bad.npz": b"mine", "bad.csv": b"item,loss 1\na,0.5\nb", "cells.csv": b"item,loss 1\na,x\n", "empty.csv": b""}
    whole = made([[0, 1]]).save(tmp_path / "whole.npz").read_bytes()
    bad |= {"half.npz": whole[: len(whole) // 2], "changed.npz": whole[:60] + b"\0\1\2\3" + whole[64:]}
    for name, content in bad.items():
        (tmp_path / name).write_bytes(content)
    np.save(tmp_path / "plain.npy", np.zeros(2))
    np.savez(tmp_path / "objects.npz", losses=np.array([{}], dtype=object), right=[[1]], items=["a"], epochs=[1])
    np.savez(tmp_path / "shapes.npz", losses=[[0.5]], right=[[1]], items=["a", "b"], epochs=[1])
    for name in (*bad, "plain.npy", "objects.npz", "shapes.npz"):
        with pytest.raises(RunError, match=r"holds no losses of items: give a file that ItemLosses\.save wrote") as caught:
            ItemLosses.load(tmp_path / name)
        assert "pickle" not in str(caught.value), name
    _, seen = watched(photos)
    inputs = torch.rand(20, 3, 16, 16)
    other = sheer.learner(sheer.arrays(inputs, [0, 1] * 10), Small, batch_size=8, quiet=True)
    with pytest.raises(PlanError, match="watched other items"):
        other.fit(1, callbacks=[seen])
    with pytest.raises(PlanError, match="n=0"):
        seen.latest_learnt(0)
