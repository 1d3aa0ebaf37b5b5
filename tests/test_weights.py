"""What items and classes count: the weighted mean against torch's and by hand; and losses of your own, an item each."""

import shutil

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import own_code
import sheer
from conftest import Leave, Small
from own_code import HingeLoss, hinge
from scripts import run_script
from sheer.data.mix import Mixup
from sheer.errors import DataError, EjectError, PlanError, RunError
from sheer.loop.step import Update, train_step
from sheer.loop.train import loss_of
from sheer.task.losses import CrossEntropy, ItemWeighted, Weighted, per_weight
from test_eject import rows

CLASSES = (0.413250185, 0.586749815)
NETS = {"small_net": own_code.small_net}


def batch(items, seed=0):
    generator = torch.Generator().manual_seed(seed)
    target = torch.randint(0, 2, (items,), generator=generator)
    return torch.randn(items, 3, generator=generator), target, torch.rand(items, generator=generator)


def stepped(loss, inputs, target, step=train_step):
    """The loss and the gradient of one step."""
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    value = step(model, loss, torch.optim.SGD(model.parameters(), lr=0.1), inputs, target)
    return value, model.weight.grad


@pytest.mark.parametrize("items", [32, 7], ids=["full", "short"])
@pytest.mark.parametrize("micro", [0, 4, 3])
def test_weighted_classes_are_torchs_whole_and_in_parts(items, micro):
    inputs, target, _ = batch(items)
    ours = stepped(
        per_weight(Weighted(loss=CrossEntropy(), weights=CLASSES), target), inputs, target, Update(micro=micro) if micro else train_step
    )
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    value = nn.CrossEntropyLoss(weight=torch.tensor(CLASSES))(model(inputs), target)
    value.backward()
    torch.testing.assert_close(ours[0], value.detach(), rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(ours[1], model.weight.grad, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("micro", [0, 4])
def test_weighted_items_are_the_weighted_mean_by_hand_mixed_or_not(micro):
    inputs, target, weight = batch(10)
    step = Update(micro=micro) if micro else train_step
    both = ItemWeighted(loss=Weighted(loss=CrossEntropy(), weights=CLASSES), weight=weight)
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    counts = weight.double() * torch.tensor(CLASSES, dtype=torch.float64)[target]
    each = functional.cross_entropy(model(inputs), target, reduction="none").detach().double()
    value, _ = stepped(per_weight(both, target), inputs, target, step)
    assert value.item() == pytest.approx(float((counts * each).sum() / counts.sum()), rel=1e-6)
    mixed, loss = Mixup()(inputs, target, both, 5)
    scores, share, other = model(mixed), loss.share.double(), loss.other
    order = [next(i for i in range(10) if torch.equal(loss.other_loss.weight[k], weight[i])) for k in range(10)]
    assert torch.equal(target[order], other)
    mine, theirs = (functional.cross_entropy(scores, of, reduction="none").detach().double() for of in (target, other))
    total = (share * counts + (1 - share) * counts[order]).sum()
    wanted = (share * counts * mine + (1 - share) * counts[order] * theirs).sum() / total
    value, _ = stepped(per_weight(loss, target), mixed, target, step)
    assert value.item() == pytest.approx(float(wanted), rel=1e-6)


def learner(loss_mean=None, **options):
    inputs, target, weight = batch(60)
    data = sheer.arrays(inputs, target, weight=weight if options.pop("weighed", False) else None)
    return sheer.learner(data, own_code.linear, batch_size=8, quiet=True, loss_mean=loss_mean, **options)


def test_a_run_takes_torchs_mean_and_says_so():
    learn = learner(class_weights=CLASSES).fit(1, 0.0001)
    phase = learn.plan().phases[0]
    assert phase.loss_mean == "weights" and "over weights" in str(learn.plan())
    found, data = learn.validate(), learn.data
    with torch.no_grad():
        scores = learn.model(data.arrays[torch.from_numpy(data.valid)])
    expected = nn.CrossEntropyLoss(weight=torch.tensor(CLASSES))(scores, torch.from_numpy(data.targets[data.valid]))
    assert learn.history[-1].valid_loss == pytest.approx(float(expected), rel=1e-6) and len(found) == len(data.valid)
    assert "the sum of their weights" in str(sheer.explain(learn))
    change = sheer.diff(learn, learner("items", class_weights=CLASSES).fit(1, 0.0001)).about("loss_mean").change
    assert (change.places[0].a, change.places[0].b) == ("weights", "items")


def test_the_scale_of_weights_matters_for_the_mean_over_items_alone():
    def end(mean, scale):
        return learner(mean, class_weights=tuple(scale * w for w in CLASSES), optimizer="sgd").fit(1, 0.1).history[-1].train_loss

    assert end("weights", 1) == pytest.approx(end("weights", 4), rel=1e-5)
    assert end("items", 1) != pytest.approx(end("items", 4), rel=0.1)


def test_the_held_out_loss_counts_items_as_training_does():
    learn = learner(weighed=True).fit(1)
    data, found = learn.data, learn.validate()
    weights = data.weights[data.valid]
    assert learn.history[-1].valid_loss == pytest.approx(float(np.average(found.losses, weights=weights)), rel=1e-6)
    assert data.weights[data.train].mean() == pytest.approx(1, rel=1e-6) and data.plan.weight == "given"


def share_of_path(path):
    return 1 + int(path.rpartition("/")[2][:3]) % 3


CASES = {
    "classes": {"class_weights": "balanced"},
    "items": {"weighed": True},
    "items, mixed, in parts": {"weighed": True, "mix": "mixup", "accumulate": 16, "class_weights": (1.0, 3.0)},
    "mean over items": {"weighed": True, "loss_mean": "items"},
    "own function": {"loss": hinge},
    "own class, weighed": {"loss": HingeLoss, "weighed": True, "class_weights": "balanced"},
}


@pytest.mark.parametrize("case", sorted(CASES))
def test_the_script_and_the_loaded_run_give_the_same(case, photos, tmp_path):
    options = dict(CASES[case])
    data = sheer.images(photos, weight=share_of_path if options.pop("weighed", False) else None)
    learn = sheer.learner(data, own_code.small_net, size=32, batch_size=8, quiet=True, out=tmp_path / "run", **options).fit(2, 0.01)
    objects = NETS | {"hinge": hinge, "HingeLoss": HingeLoss}
    again = sheer.load(tmp_path / "run", data=data, objects=objects)
    assert again.plan() == learn.plan() and np.array_equal(again.validate().losses, learn.validate().losses)
    script = sheer.eject(tmp_path / "run", tmp_path / "train.py", objects=objects)
    done = run_script(script, photos, "--out", tmp_path / "again")
    assert done.returncode == 0, done.stderr
    assert rows(tmp_path / "run" / "history.csv") == rows(tmp_path / "again" / "history.csv")
    again.fit(1)
    assert again.plan().phases[-1].loss == learn.plan().phases[0].loss


def test_a_script_proves_the_weights_that_its_list_has(photos, tmp_path):
    data = sheer.images(photos, weight=share_of_path)
    sheer.learner(data, own_code.small_net, size=32, batch_size=8, quiet=True, out=tmp_path / "run").fit(1)
    script, items = sheer.eject(tmp_path / "run", tmp_path / "train.py", objects=NETS), tmp_path / "train_items.csv"
    header, first, *others = items.read_text().splitlines()
    names, cells = header.split(","), first.split(",")
    cells[names.index("weight")] = "0.125"
    items.write_text("\n".join([header, ",".join(cells), *others, ""]))
    done = run_script(script, photos, "--out", tmp_path / "again")
    assert done.returncode == 1 and "targets, weights or split of the items are not those of the run" in done.stderr
    shutil.copy(items, tmp_path / "run" / "items.csv")
    with pytest.raises(RunError, match="does not have the targets, weights or split of the run"):
        sheer.eject(tmp_path / "run", tmp_path / "other.py", objects=NETS)
    (tmp_path / "run" / "items.csv").unlink()
    with pytest.raises(EjectError, match=r"bring the items\.csv that lists them back"):
        sheer.eject(tmp_path / "run", tmp_path / "other.py", objects=NETS)


def test_a_run_with_a_loss_of_your_own_is_resumed_from_its_folder(photos, tmp_path):
    def make(name):
        data = sheer.images(photos, weight=share_of_path)
        return sheer.learner(data, own_code.small_net, loss=hinge, size=32, batch_size=8, quiet=True, out=tmp_path / name)

    whole = make("whole").fit(2)
    make("left").fit(2, callbacks=[Leave(7)])
    with pytest.raises(PlanError, match="own loss 'hinge'"):
        sheer.resume(tmp_path / "left", objects=NETS, quiet=True)
    resumed = sheer.resume(tmp_path / "left", objects=NETS | {"hinge": hinge}, quiet=True)
    assert resumed.history[-1].weights_sha256 == whole.history[-1].weights_sha256


def test_a_run_with_a_loss_of_your_own_is_kept_and_carried_away(photos, tmp_path):
    learn = sheer.learner(sheer.images(photos), own_code.small_net, loss=hinge, size=32, batch_size=8, quiet=True).fit(1)
    learn.save(tmp_path / "run")
    assert "hinge" in str(learn.plan()) and "hinge" in str(sheer.explain(learn)) and learn.lr_find(steps=20).losses
    loaded = sheer.load(tmp_path / "run", objects=NETS)
    assert len(loaded.predict(photos / "red")) == 30
    with pytest.raises(PlanError, match="own loss 'hinge'"):
        loaded.evaluate(photos)
    with pytest.raises(EjectError, match="own 'hinge'; give it"):
        sheer.eject(tmp_path / "run", tmp_path / "train.py", objects=NETS)

    def other(output, target):
        return hinge(output, target)

    with pytest.raises(RunError, match="source of 'hinge'"):
        sheer.load(tmp_path / "run", objects=NETS | {"hinge": other})
    plain = sheer.learner(sheer.images(photos), own_code.small_net, size=32, batch_size=8, quiet=True).fit(1)
    assert [one.change.decision for one in sheer.diff(learn, plain).differences] == ["loss"]
    assert sheer.compare(learn, learn, steps=2).first is None
    out = tmp_path / "ablation"
    lone = sheer.ablate(tmp_path / "run", plain, data=learn.data, seeds=2, objects=NETS | {"hinge": hinge}, out=out, quiet=True)
    assert [one.decision for one in lone.changes] == ["loss"] and not lone.failed()
    bundle = sheer.load_bundle(learn.export(tmp_path / "model.sheer"), objects=NETS)
    assert (bundle.predict(photos / "red").outputs == learn.predict(photos / "red").outputs).all()


def mean_loss(output, target):
    return functional.cross_entropy(output, target)


def wide_loss(output, target):
    return (output - functional.one_hot(target, output.shape[1])).square()


def counted_loss(output, target):
    return (output.argmax(1) != target).float()


def failing_loss(output, target):
    raise KeyError("no such thing")


def numpy_loss(output, target):
    return np.abs(output.detach().numpy()[:, 0])


def detached_loss(output, target):
    return functional.cross_entropy(output.detach(), target, reduction="none")


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (mean_loss, r"a tensor \(\): a mean where items are wanted.*\(2,\)"),
        (wide_loss, r"gives a tensor \(2, 2\)"),
        (counted_loss, "not differentiable"),
        (detached_loss, "not differentiable"),
        (failing_loss, "fails: KeyError"),
        (numpy_loss, "gives ndarray"),
        (nn.CrossEntropyLoss(reduction="none"), "write a function that calls it"),
        (5, "give a name, or a function"),
    ],
)
def test_a_loss_that_is_none_is_refused_before_training(loss, message):
    with pytest.raises(PlanError, match=message):
        learner(loss=loss).fit(1)


def test_label_smoothing_is_not_for_a_loss_of_your_own():
    with pytest.raises(PlanError, match="label_smoothing"):
        learner(loss=hinge, label_smoothing=0.1).fit(1)


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        ([1.0] * 59, "59 numbers for 60 items"),
        ([-1.0] * 60, "at least 0"),
        ([0.0] * 60, "at least 0"),
        (["a"] * 60, "no number"),
    ],
)
def test_weights_that_are_none_are_refused(weight, message):
    inputs, target, _ = batch(60)
    with pytest.raises(DataError, match=message):
        sheer.arrays(inputs, target, weight=weight)


@pytest.mark.parametrize("accumulate", [None, 32])
def test_batches_that_weigh_nothing_are_steps_without_a_gradient(accumulate):
    generator = np.random.default_rng(0)
    rows = torch.from_numpy(generator.normal(size=(400, 3)).astype(np.float32))
    labels = (rows[:, 0] > 0).long()
    weight = np.zeros(400)
    weight[generator.choice(400, 12, replace=False)] = 1.0
    data = sheer.arrays(rows, labels, weight=weight, valid=0)
    learn = sheer.learner(data, nn.Linear(3, 2), batch_size=16, quiet=True, accumulate=accumulate).fit_one_cycle(2, 0.1)
    assert not learn._state.events and all(np.isfinite(row.train_loss) for row in learn.history)
    loss = per_weight(ItemWeighted(loss=CrossEntropy(), weight=torch.zeros(4)), labels[:4])
    scores = torch.ones(4, 2, requires_grad=True)
    value = loss(scores, labels[:4]).mean()
    value.backward()
    assert value == 0 and not scores.grad.any()


def test_held_out_items_that_all_weigh_nothing_are_refused():
    inputs, target, _ = batch(60)
    held_out = sheer.arrays(inputs, target).valid
    weight = np.ones(60)
    weight[held_out] = 0
    with pytest.raises(DataError, match="all held-out items weigh 0"):
        sheer.arrays(inputs, target, weight=weight)


def test_what_a_weight_can_be(photos):
    with pytest.raises(DataError, match="column of a table"):
        sheer.images(photos, weight="size")
    with pytest.raises(DataError, match="weight=5"):
        sheer.images(photos, weight=5)
    with pytest.raises(PlanError, match="loss_mean='item'"):
        learner("item").fit(1)
    assert sheer.images(photos, weight=share_of_path).plan.weight == "function:share_of_path"


def test_the_loss_of_a_plan_is_a_name_or_given():
    phase = learner().plan(sheer.recipes.constant(1)).phases[0]
    assert isinstance(loss_of(phase, {}), CrossEntropy) and issubclass(Small, nn.Module)
