"""The frozen part of a network by itself: cut, folded, cached; and a head that is fitted to what it gives."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import sheer
from scripts import run_script
from sheer.data.sources import Data
from sheer.errors import PlanError
from sheer.loop.fitting import fit_step, turned
from sheer.loop.optimizers import LBFGS
from sheer.model import prefix as prefixes
from sheer.model.cutting import prefix_fact
from sheer.model.hashing import weights_sha256
from sheer.model.prefix import Prefix, cached_features, fold_norms, suffix
from sheer.model.surgery import probe_images
from sheer.plan.training import given_like
from sheer.task.losses import CrossEntropy, ItemWeighted, SquaredError


@pytest.fixture
def resnet(photos):
    def make(**options) -> sheer.Learner:
        return sheer.learner(sheer.images(photos), "test_resnet", weights="none", size=32, batch_size=8, quiet=True, **options)

    return make


def test_the_default_phases_are_a_fitted_head_then_everything(resnet):
    first, second = resnet().plan(sheer.recipes.fine_tune(2)).phases
    assert (first.optimizer.name, first.steps_per_epoch, first.prefix.name) == ("lbfgs", 1, "cached")
    assert (second.optimizer.name, second.prefix.name) == ("adamw", "whole")
    options = first.prefix.options()
    assert options["modules"] == ("body", "head.pool", "head.drop") and options["views"] == 0 and options["fold"]


@pytest.mark.parametrize("name", ["timm:test_resnet", "timm:test_efficientnet", "timm:test_convnext"])
def test_every_stage_is_a_cut_with_a_proof(photos, name):
    learn = sheer.learner(sheer.images(photos), name, weights="none", size=64, batch_size=8, quiet=True)
    stages = [stage.prefixes for stage in learn.plan().model.stages]
    inputs = probe_images(64)
    for trains_from in range(1, len(stages)):
        fact = prefix_fact(learn.model, stages, trains_from, ["frozen"] * len(stages), inputs)
        assert fact.modules and fact.proof.startswith("the same scores bit for bit")
        model = learn.model.eval()
        with torch.inference_mode():
            assert torch.equal(suffix(model, fact.modules)(Prefix(model, fact.modules[-1])(inputs)), model(inputs))
        assert fact.linear == (trains_from == len(stages) - 1)


def test_a_network_that_uses_its_inputs_twice_is_run_as_a_whole(photos):
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Conv2d(3, 3, 1), nn.Linear(6, 2)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.second(torch.cat([self.first(images).mean((2, 3)), images.mean((2, 3))], 1))

    fact = prefix_fact(Twice(), [("first",), ("second",)], 1, ("frozen", "train"), probe_images(16))
    assert fact.frozen and not fact.modules and "scores" in fact.proof


def test_folded_norms_give_the_same_features_nearly():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.BatchNorm2d(8), nn.Conv2d(8, 4, 3), nn.BatchNorm2d(4)
    )
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight, module.bias, module.running_mean):
                tensor.data.normal_()
            module.running_var.uniform_(0.5, 2)
    model.eval()
    inputs = probe_images(12)
    wanted = model(inputs)
    fold_norms(model, inputs)
    assert [type(module) for module in model] == [nn.Conv2d, nn.Identity, nn.ReLU, nn.BatchNorm2d, nn.Conv2d, nn.Identity]
    assert torch.allclose(model(inputs), wanted, atol=1e-5) and not torch.equal(model(inputs), wanted)


@pytest.mark.parametrize("views", [0, 2])
def test_epochs_of_the_head_on_kept_features_are_those_of_the_whole_network(resnet, views):
    options = {"augmentation": "none", "sampling": "shuffle"}
    kept = resnet(prefix=("cached", {"views": 2, "fold": False, "batch_size": 8}), **options).freeze() if views else None
    if views:
        whole = resnet(prefix="whole", **options).freeze()
        for learn in (kept, whole):
            learn.fit(2, 1e-2)
        assert kept.plan().phases[0].prefix.options()["views"] == 2
        for ours, theirs in zip(kept.history, whole.history, strict=True):
            assert ours.train_loss == pytest.approx(theirs.train_loss, rel=1e-4) and ours.valid_loss == pytest.approx(
                theirs.valid_loss, rel=1e-4
            )
    else:
        learn = resnet(prefix=("cached", {"views": 0}), **options).freeze().fit(3, 1e-2)
        assert learn.history[-1].train_loss < learn.history[0].train_loss
        assert learn.validate().metrics()["accuracy"] == pytest.approx(learn.history[-1].metrics["accuracy"])


def test_kept_in_a_file_they_are_the_same(resnet, monkeypatch):
    first = weights_sha256(resnet().fine_tune(1).model)
    monkeypatch.setattr(prefixes, "MOST_IN_MEMORY", 0)
    made, memmap = [], np.memmap
    monkeypatch.setattr(np, "memmap", lambda *values, **options: made.append(1) or memmap(*values, **options))
    assert weights_sha256(resnet().fine_tune(1).model) == first and made == [1]


class Pause:
    """Leaves a fit after the third batch of features, or after its first step."""

    def __init__(self, *, in_features: bool) -> None:
        self.in_features, self.seen = in_features, 0

    def on_start(self, position): ...
    def on_epoch(self, position, row): ...
    def on_end(self, position): ...

    def on_step(self, position):
        position.pause = position.pause if self.in_features else "enough"

    def on_features(self, position):
        self.seen += 1
        position.pause = "enough" if self.in_features and self.seen == 3 else position.pause


@pytest.mark.parametrize("in_features", [True, False])
def test_a_pause_loses_nothing(resnet, tmp_path, in_features):
    untouched = resnet().fine_tune(1)
    learn, other = resnet(), resnet(out=tmp_path / "run")
    for left in (learn, other):
        left.fine_tune(1, callbacks=[Pause(in_features=in_features)])
        assert not left.history
    for resumed in (learn.resume(), sheer.resume(tmp_path / "run", quiet=True)):
        assert [row.weights_sha256 for row in resumed.history] == [row.weights_sha256 for row in untouched.history]
        assert [event for event in resumed._record().events if event.kind == "fitted"] == list(untouched._record().events)


def items_of(count: int, width: int, classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(count, width, generator=generator) * torch.logspace(-2, 2, width) + 3
    weights = torch.randn(width, classes, generator=generator) / torch.logspace(-2, 2, width)[:, None]
    return inputs, ((inputs - 3) @ weights + torch.randn(count, classes, generator=generator)).argmax(1)


def fitted(inputs, target, outputs, loss, penalty=0.1, folds=2):
    model = nn.Linear(inputs.shape[1], outputs)
    optimizer = LBFGS(folds=folds, penalties=(penalty,)).build([{"params": list(model.parameters())}])
    return model, fit_step(model, loss, optimizer, inputs, target)


@pytest.mark.parametrize(("count", "width"), [(300, 20), (30, 60)])
def test_with_cross_entropy_it_is_logistic_regression(count, width):
    linear_model = pytest.importorskip("sklearn.linear_model", reason="scikit-learn is not installed")
    inputs, target = items_of(count, width, 3)
    model, value = fitted(inputs, target, 3, CrossEntropy())
    mean, scale = inputs.double().mean(0), inputs.double().std(0, correction=0)
    theirs = linear_model.LogisticRegression(C=1 / (0.1 * count), max_iter=5000, tol=1e-8).fit(
        ((inputs - mean) / scale).numpy(), target.numpy()
    )
    ours = torch.softmax(model(inputs), 1).detach().numpy()
    assert np.abs(ours - theirs.predict_proba(((inputs - mean) / scale).numpy())).max() < 5e-3
    assert float(value) == pytest.approx(CrossEntropy()(model(inputs), target).mean().item(), rel=1e-4)


def test_with_the_squared_error_it_is_ridge_regression():
    inputs, _ = items_of(200, 10, 2)
    target = inputs[:, :1] * 3 + 1
    model, _ = fitted(inputs, target, 1, SquaredError(), penalty=1e-2)
    _, _, mean, _ = turned(inputs)
    z = ((inputs.double() - mean) / inputs.double().std(0, correction=0)).numpy()
    y = target.double().numpy()
    weights = np.linalg.solve(2 * z.T @ z / 200 + 1e-2 * np.eye(10), 2 * z.T @ (y - y.mean()) / 200)
    assert np.allclose(model(inputs).detach().numpy(), z @ weights + y.mean(), atol=2e-2 * y.std())


def test_a_weight_of_two_is_an_item_twice():
    inputs, target = items_of(120, 6, 2)
    twice = torch.cat([inputs, inputs[:40]])
    weights = torch.cat([torch.full((40,), 2.0), torch.ones(80)])
    scale = ItemWeighted(loss=CrossEntropy(), weight=weights * 120 / 160)
    ours, _ = fitted(inputs, target, 2, scale)
    other, _ = fitted(twice, torch.cat([target, target[:40]]), 2, CrossEntropy())
    ours_p, other_p = (torch.softmax(model(inputs), 1) for model in (ours, other))
    assert (ours_p - other_p).abs().max() < 0.05


def test_columns_without_spread_get_no_weight():
    inputs, target = items_of(60, 4, 2)
    inputs[:, 2] = 7.0
    model, _ = fitted(inputs, target, 2, CrossEntropy())
    assert torch.equal(model.weight[:, 2], torch.zeros(2)) and torch.isfinite(model.weight).all()


def test_penalties_are_tried_until_items_left_out_are_predicted_worse():
    inputs, target = items_of(90, 40, 2)
    model = nn.Linear(40, 2)
    optimizer = LBFGS(folds=3, penalties=(10.0, 0.1, 1e-3, 1e-5, 1e-7)).build([{"params": list(model.parameters())}])
    fit_step(model, CrossEntropy(), optimizer, inputs, target)
    losses = list(optimizer.state["left_out"].values())
    assert len(losses) < 5 and losses[-1] == max(losses[-2:]) and min(losses) == losses[-2]


def test_what_was_tried_is_in_the_record(resnet):
    learn = resnet().fine_tune(1)
    (event,) = [event for event in learn._record().events if event.kind == "fitted"]
    assert "penalty" in event.what and "left out" in event.what


@pytest.mark.parametrize(
    ("options", "recipe", "words"),
    [
        ({"optimizer": "lbfgs"}, sheer.recipes.one_cycle(1), "fits a head"),
        ({"optimizer": "lbfgs", "head": "concat_pool"}, sheer.recipes.linear_probe(1), "not one linear layer"),
        ({"prefix": "warm"}, sheer.recipes.fine_tune(1), "prefix='warm' is not known"),
        ({"prefix": ("cached", {"views": -1})}, sheer.recipes.linear_probe(1), "views"),
        ({"prefix": "cached", "mix": "mixup"}, sheer.recipes.linear_probe(1), "whole inputs are mixed"),
        ({"optimizer": ("lbfgs", {"folds": 1})}, sheer.recipes.linear_probe(1), "folds"),
        ({"optimizer": "lbfgs", "prefix": "whole"}, sheer.recipes.linear_probe(1), "prefix is 'whole'"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_done(resnet, options, recipe, words):
    learn = resnet(**options)
    if recipe[0].name == "one_cycle":
        learn.unfreeze()
    with pytest.raises(PlanError, match=words):
        learn.plan(recipe)


def test_features_that_would_be_too_large_are_not_fitted_to(resnet, monkeypatch):
    learn = resnet()
    monkeypatch.setattr("sheer.plan.prefixes.MOST_BYTES", 4 * 96 * learn.plan().data.train_items)
    phase = learn.plan(sheer.recipes.fine_tune(1)).phases[0]
    assert (phase.optimizer.name, phase.prefix.name) == ("adamw", "whole")
    assert any("more than 16 GiB" in origin.reason for origin in phase.origins if origin.field == "prefix")
    with pytest.raises(PlanError, match="more than 16 GiB"):
        resnet(optimizer="lbfgs").plan(sheer.recipes.linear_probe(1))


def test_where_a_profile_runs_the_whole_network_a_fit_is_still_to_kept_features(photos):
    data = sheer.images(photos, profile="keras-guide")
    options = {"profile": "keras-guide", "weights": "none", "head": "linear", "size": 32, "batch_size": 8, "quiet": True}
    learn = sheer.learner(data, "test_resnet", optimizer="lbfgs", **options).run(sheer.recipes.linear_probe(1, profile="keras-guide"))
    (phase,) = learn.plan().phases
    assert phase.prefix.name == "cached" and ("prefix", "default") in {(origin.field, origin.by) for origin in phase.origins}
    assert math.isfinite(learn.history[-1].train_loss)


def test_a_head_of_two_layers_is_trained_and_the_plan_says_why(resnet):
    phase = resnet(head="concat_pool").plan(sheer.recipes.fine_tune(1)).phases[0]
    assert phase.optimizer.name == "adamw"
    assert any(o.field == "optimizer" and "not one linear layer" in o.reason for o in phase.origins)


def test_the_profile_of_another_framework_trains_its_head_on_the_whole_network(photos):
    learn = sheer.learner(sheer.images(photos), "test_resnet", weights="none", size=32, batch_size=8, quiet=True, profile="fastai-2.8")
    phase = learn.plan(sheer.recipes.fine_tune(1, profile="fastai-2.8")).phases[0]
    assert (phase.optimizer.name, phase.prefix.name) == ("adamw", "whole")


def test_features_are_read_once_an_item(resnet, monkeypatch):
    seen, original = [], Prefix.forward
    learn = resnet(prefix=("cached", {"views": 0, "fold": False})).freeze()
    learn.plan(sheer.recipes.constant(4))  # the proof runs the prefix, too
    monkeypatch.setattr(Prefix, "forward", lambda self, inputs: seen.append(len(inputs)) or original(self, inputs))
    learn.fit(4, 1e-3)
    assert sum(seen) - 1 == len(learn.data.targets)  # one more gives the shape


def test_cached_features_are_put_where_the_item_is():
    model = nn.Sequential(nn.Flatten(), nn.Identity())
    batches = [(0, np.array([2, 0]), torch.tensor([[2.0], [0.0]])), (1, np.array([1]), torch.tensor([[1.0]]))]
    *_, (count, features) = cached_features(model, "0", False, (2, 3), iter(batches))
    assert count == 1 and features[..., 0].tolist() == [[0.0, 0.0, 2.0], [0.0, 1.0, 0.0]]


def test_cached_views_and_a_fit_eject_with_equal_hashes(photos, resnet, tmp_path):
    learn = resnet(out=tmp_path / "run", augmentation="light", prefix=("cached", {"views": 2}))
    learn.fine_tune(1, freeze_epochs=3).freeze_to(1).fit_one_cycle(1, 1e-3)
    assert isinstance(learn.data, Data)
    script = sheer.eject(tmp_path / "run", tmp_path / "train.py")
    done = run_script(script, photos, "--out", tmp_path / "again")
    assert done.returncode == 0, done.stderr
    hashes = [[line.split(",")[-1] for line in (tmp_path / name / "history.csv").read_text().splitlines()] for name in ("run", "again")]
    assert hashes[0] == hashes[1] and len(hashes[0]) == 6


def test_in_lower_precision_the_switch_is_closed_after_each_pass(resnet, photos, tmp_path, monkeypatch):
    monkeypatch.setattr("sheer.api.measured", lambda numerics, *given, **options: replace(numerics, precision="bf16"))
    learn = resnet(precision="bf16", out=tmp_path / "run").fine_tune(1)
    assert not torch.is_autocast_enabled("cpu")
    script = sheer.eject(tmp_path / "run", tmp_path / "train.py")
    done = run_script(script, photos, "--out", tmp_path / "again")
    assert done.returncode == 0, done.stderr
    hashes = [[line.split(",")[-1] for line in (tmp_path / name / "history.csv").read_text().splitlines()] for name in ("run", "again")]
    assert hashes[0] == hashes[1] and len(learn.history) == 2


def test_a_plan_of_another_network_is_not_believed(resnet):
    learn = resnet()
    first, second = learn.plan(sheer.recipes.fine_tune(1)).phases
    options = first.prefix.options()
    for wrong in ({"modules": ("body.conv1",)}, {"views": 10**7}, {"views": -1}, {"batch_size": 0}, {"modules": ()}):
        edited = replace(first, prefix=replace(first.prefix, settings=tuple((options | wrong).items())))
        with pytest.raises(PlanError, match="Was the plan edited"):
            learn.plan([edited, second])
    with pytest.raises(PlanError, match="Was the plan edited"):
        learn.plan([replace(first, prefix=second.prefix), second])
    assert learn.plan([first, second]).phases == (first, second)


def test_views_begin_anew_with_each_phase(resnet):
    options = {"augmentation": "light", "prefix": ("cached", {"views": 2, "fold": False, "batch_size": 8})}
    kept, whole = resnet(**options), resnet(**options | {"prefix": "whole"})
    for learn in (kept, whole):
        learn.freeze().fit(1, 1e-9).fit(2, 1e-2)
    for ours, theirs in zip(kept.history, whole.history, strict=True):
        assert ours.train_loss == pytest.approx(theirs.train_loss, rel=1e-4)


def test_a_fit_is_one_epoch_however_many_were_given(resnet):
    (phase,) = resnet(optimizer="lbfgs").plan(sheer.recipes.linear_probe(5)).phases
    assert (phase.epochs, phase.steps_per_epoch) == (1, 1)


def test_every_size_after_a_fit_has_the_lower_rate(resnet):
    rates = [max(phase.rates) for phase in resnet().plan(sheer.recipes.progressive(1, sizes=(32, 40))).phases]
    assert rates == [1.0, pytest.approx(2.5e-4, rel=0.01), pytest.approx(2.5e-4, rel=0.01)]


def test_too_many_features_are_trained_on(photos):
    class Wide(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 16, 1)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.conv(images).flatten(1)

    learn = sheer.learner(sheer.images(photos), Wide, head="linear", size=32, batch_size=8, quiet=True)
    phase = learn.plan(sheer.recipes.fine_tune(1)).phases[0]
    assert phase.optimizer.name == "adamw"
    assert any("features are too many" in origin.reason for origin in phase.origins)


def test_what_was_given_for_the_prefix_is_still_given_after_a_phase_that_has_no_use_for_it(resnet, photos, tmp_path):
    given = ("cached", {"views": 2, "batch_size": 8, "fold": False})
    learn = resnet(augmentation="light", prefix=given, out=tmp_path / "run").freeze().fit(2, 1e-3).unfreeze().fit(1, 1e-3)
    origins = [{origin.field: origin.by for origin in phase.origins}["prefix"] for phase in learn.plan().phases]
    assert [phase.prefix.name for phase in learn.plan().phases] == ["cached", "whole"] and origins == ["you", "data"]
    loaded = sheer.load(tmp_path / "run", data=sheer.images(photos))
    mine, theirs = (one.freeze().plan(sheer.recipes.constant(3)).phases[-1] for one in (learn, loaded))
    assert mine.prefix == theirs.prefix and theirs.prefix.options()["views"] == 2
    said = {origin.field: origin.by for origin in resnet(prefix="whole").plan(sheer.recipes.constant(1)).phases[0].origins}
    assert said["prefix"] == "you"


def test_what_was_measured_of_a_cached_prefix_is_not_said_of_a_whole_one(resnet):
    given = ("cached", {"batch_size": "probe"})
    learn = resnet(prefix=given).freeze()
    learn.fit(1, 1e-3)
    again = replace(learn._given, measured=given_like(learn.plan().phases[0]).measured)
    assert [origin.field for origin in again.measured] == ["prefix"]
    learn._given = again
    phase = learn.unfreeze().plan(sheer.recipes.constant(1)).phases[-1]
    assert phase.prefix.name == "whole" and {origin.field: origin.by for origin in phase.origins}["prefix"] == "data"
