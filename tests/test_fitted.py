"""A fitted head in a run's life: what was given for later phases, items that are no numbers, memory that runs out or is let go."""

import math
import weakref
from dataclasses import replace

import pytest
import torch
from torch import nn

import sheer
from scripts import run_script
from sheer.errors import DataError, DeviceMemoryError
from sheer.loop import cached as cached_module
from sheer.loop.fitting import fit_step
from sheer.loop.optimizers import LBFGS
from sheer.model.hashing import weights_sha256
from sheer.plan.document import differences
from sheer.plan.plan import Plan
from sheer.record.run import read_run
from sheer.task.losses import CrossEntropy
from test_eject import rows

GIVEN = {
    "augmentation": ("flip", ("rotate", {"degrees": 5.0})),
    "mix": "mixup",
    "sampling": "balanced",
    "clip": 0.5,
    "accumulate": 16,
    "ema": 0.9,
    "stop": ("accuracy", 2),
    "keep": "best",
    "weight_decay": 0.3,
    "prefix": ("cached", {"views": 5}),
}


@pytest.fixture
def resnet(photos):
    def make(**options) -> sheer.Learner:
        return sheer.learner(sheer.images(photos), "test_resnet", weights="none", size=32, batch_size=8, quiet=True, **options)

    return make


def test_what_was_given_goes_on_after_a_run_that_ends_with_a_fit(resnet, photos, tmp_path):
    learn = resnet(**GIVEN, out=tmp_path / "run").run(sheer.recipes.linear_probe())
    (phase,) = learn.plan().phases
    assert phase.optimizer.name == "lbfgs" and (phase.clip, phase.ema, phase.mix, phase.augmentation) == (0.0, 0.0, None, ())
    loaded = sheer.load(tmp_path / "run", data=sheer.images(photos))
    for recipe in (sheer.recipes.one_cycle(2), sheer.recipes.fine_tune(2)):
        mine, theirs = ([replace(phase, groups=()) for phase in one.unfreeze().plan(recipe).phases] for one in (learn, loaded))
        assert [differences(*pair) for pair in zip(mine, theirs, strict=True)] == [[]] * len(mine)
        assert mine[-1].clip == 0.5 and mine[-1].stop.options()["epochs"] == 2
        assert [part.name for part in mine[-1].augmentation] == ["flip", "rotate"]
    for one in (learn, loaded):
        one._given = replace(one._given, mix=None)
        assert one.freeze().plan(sheer.recipes.one_cycle(9)).phases[-1].prefix.options()["views"] == 5


def test_it_is_said_in_the_plan_and_no_part_of_its_hash(resnet):
    recipe = sheer.recipes.linear_probe()
    plain, given = resnet().plan(recipe), resnet(clip=0.5, augmentation=("flip", "rotate")).plan(recipe)
    words = " ".join(str(given).split())
    assert "a fit has no use for clip 0.5, augmentation flip() and rotate(): later phases take it" in words
    assert "no use for" not in str(plain) and plain.phases[0].aside is None
    assert given.short_hash() == plain.short_hash()
    assert Plan.from_json(given.to_json()) == given


def test_a_function_of_your_own_goes_on_too(resnet, photos, tmp_path):
    def darker(images: torch.Tensor) -> torch.Tensor:
        return images * 0.5

    resnet(augmentation=(darker,), out=tmp_path / "run").run(sheer.recipes.linear_probe())
    loaded = sheer.load(tmp_path / "run", data=sheer.images(photos), objects={"darker": darker})
    assert loaded.unfreeze().fit(1, 1e-3).plan().phases[-1].augmentation[0].options()["function"] == "darker"


class Look:
    """Calls a function after each step, or leaves the fit after some of them."""

    def __init__(self, function=lambda position: None, pause=0):
        self.function, self.pause = function, pause

    def on_start(self, position): ...
    def on_epoch(self, position, row): ...
    def on_end(self, position): ...

    def on_step(self, position):
        self.function(position)
        position.pause = "enough" if position.step == self.pause else ""


class Marked(nn.Module):
    """A body that gives no numbers for a picture whose first value is above 50."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, images):
        return self.conv(images).mean((2, 3)) + torch.where(images[:, 0, 0, :1] > 50, math.nan, 0.0)


def marked(count, **options):
    """A learner of 40 items, `count` of those that train marked, and the names of these."""
    inputs, labels = torch.randn(40, 3, 8, 8, generator=torch.Generator().manual_seed(0)), [0, 1] * 20
    bad = sheer.arrays(inputs, labels).train[-count:]  # the plan looks at the first two items
    inputs[torch.from_numpy(bad), 0, 0, 0] = 99.0
    return sheer.learner(sheer.arrays(inputs, labels), Marked, head="linear", batch_size=8, **options), {f"item {item}" for item in bad}


def test_items_that_are_no_numbers_have_no_part_in_the_fit_and_are_named(capsys):
    learn, names = marked(3)
    before = weights_sha256(learn.model)
    (row,) = learn.fine_tune(0).history
    skipped, fitted = learn._record().events
    assert (skipped.kind, fitted.kind, set(skipped.items)) == ("skipped", "fitted", names)
    assert "3 of 32 items had no part in the fit" in skipped.what and "3 of 32 items" in capsys.readouterr().out
    assert math.isfinite(row.train_loss) and row.weights_sha256 != before
    assert all(bool(tensor.isfinite().all()) for tensor in learn.model.state_dict().values())


def test_a_fit_of_next_to_nothing_is_an_error_and_trained_instead_it_is_no_silent_one(tmp_path):
    learn, _ = marked(29, quiet=True)
    before = weights_sha256(learn.model)
    with pytest.raises(DataError, match=r"could not be fitted.*freeze_epochs=1"):
        learn.fine_tune(1)
    assert weights_sha256(learn.model) == before and not learn.history and not learn.plan().phases
    learn.fine_tune(1, freeze_epochs=1)  # every batch has an item that is no number
    assert len(learn.history) == 1 and math.isnan(learn.history[0].train_loss) and weights_sha256(learn.model) == before


def test_a_loss_that_is_no_number_on_the_way_leaves_the_head_as_it_was():
    head, inputs, target = nn.Linear(4, 2), torch.randn(12, 4), torch.arange(12) % 2
    before, optimizer = weights_sha256(head), LBFGS().build([{"params": list(head.parameters())}])

    def spoilt(scores, target):
        return CrossEntropy()(scores, target) + torch.where((scores != 0).any(1), math.nan, 0.0)

    assert math.isnan(fit_step(head, spoilt, optimizer, inputs, target)) and weights_sha256(head) == before


def narrow_body():
    """A body whose frozen part takes at most 3 items at a time."""
    import torch
    from torch import nn

    class Narrow(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8)

        def forward(self, images):
            if torch.is_inference_mode_enabled() and len(images) > 3:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return self.norm(self.conv(images)).relu().mean((2, 3))

    return Narrow()


def patchy_body():
    """A body that gives no numbers for about a third of the photographs, by their pixels."""
    import torch
    from torch import nn

    class Patchy(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 8, 3, stride=2)

        def forward(self, images):
            odd = (images[:, :, 8:24, 8:24].mean((1, 2, 3)) * 997).floor() % 3 == 2
            return self.conv(images).relu().mean((2, 3)) + torch.where(odd, torch.nan, 0.0)[:, None]

    return Patchy()


def test_the_script_leaves_out_the_same_items(photos, tmp_path):
    options = {"head": "linear", "size": 32, "batch_size": 8, "quiet": True, "out": tmp_path / "run"}
    learn = sheer.learner(sheer.images(photos), patchy_body, **options).fine_tune(0)
    (skipped, _) = read_run(tmp_path / "run").record.events
    assert 2 <= len(skipped.items) <= len(learn.data.train) - 6 and all((photos / name).is_file() for name in skipped.items)
    script = sheer.eject(tmp_path / "run", tmp_path / "train.py", objects={"patchy_body": patchy_body})
    done = run_script(script, photos, "--out", tmp_path / "again")
    assert done.returncode == 0, done.stderr
    hashes = [(tmp_path / name / "history.csv").read_text().rpartition(",")[2] for name in ("run", "again")]
    assert hashes[0] == hashes[1]


@pytest.fixture
def narrow(photos):
    def make(**options) -> sheer.Learner:
        options = {"head": "linear", "size": 32, "batch_size": 8, "quiet": True, "augmentation": "light"} | options
        return sheer.learner(sheer.images(photos), narrow_body, **options)

    return make


def test_a_frozen_part_that_does_not_fit_is_computed_in_smaller_batches_and_so_does_the_script(narrow, photos, tmp_path):
    learn = narrow(out=tmp_path / "run", prefix=("cached", {"batch_size": 8})).fine_tune(1).freeze().fit(2, 1e-3)
    events = [event for event in read_run(tmp_path / "run").record.events if event.kind == "split frozen"]
    assert [(event.step, event.size) for event in events] == [(0, 4), (0, 2), (6, 4), (6, 2)] and "batches of 2" in events[1].what
    small = narrow(prefix=("cached", {"batch_size": 2})).fine_tune(1).freeze().fit(2, 1e-3)
    assert [row.weights_sha256 for row in learn.history] == [row.weights_sha256 for row in small.history]
    script = sheer.eject(tmp_path / "run", tmp_path / "train.py", objects={"narrow_body": narrow_body})
    assert "batch_size=2, fold" in script.read_text()
    done = run_script(script, photos, "--out", tmp_path / "again")
    assert done.returncode == 0, done.stderr
    assert rows(tmp_path / "run" / "history.csv") == rows(tmp_path / "again" / "history.csv")


def test_a_phase_that_goes_on_takes_the_batches_that_fitted_and_no_others(narrow, monkeypatch):
    options = {"prefix": ("cached", {"batch_size": 8})}
    whole, learn = (narrow(**options).freeze() for _ in range(2))
    whole.fit(2, 1e-3)
    learn.fit(2, 1e-3, callbacks=[Look(pause=3)]).resume()
    assert [row.weights_sha256 for row in learn.history] == [row.weights_sha256 for row in whole.history]
    assert [event.size for event in learn._record().events if event.kind == "split frozen"] == [4, 2]
    left = narrow(**options).freeze().fit(2, 1e-3, callbacks=[Look(pause=3)])
    left.model.body.register_forward_pre_hook(crowded)
    with pytest.raises(DeviceMemoryError, match="was begun with what its frozen part gave in batches of 2"):
        left.resume()


def crowded(module, inputs):
    if torch.is_inference_mode_enabled():
        raise torch.OutOfMemoryError("CUDA out of memory.")


def test_one_item_that_does_not_fit_is_an_error(narrow):
    learn = narrow()
    plan = learn.plan(sheer.recipes.linear_probe())
    learn.model.body.register_forward_pre_hook(crowded)
    with pytest.raises(DeviceMemoryError, match="the frozen part, even with one item at a time"):
        learn.run(plan.phases)


def test_features_are_let_go_when_their_phase_ends(resnet, monkeypatch):
    """Of a fit and of a phase with views: before the next phase's first step is done, and after the last."""
    kept, alive, made = [], [], cached_module.Cached.__init__

    def watched(self, views, first):
        made(self, views, first)
        kept.append(weakref.ref(views[0].source.inputs))

    def look(position):
        alive.append((position.phase, sum(one() is not None for one in kept)))

    monkeypatch.setattr(cached_module.Cached, "__init__", watched)
    learn = resnet(prefix=("cached", {"views": 2})).fine_tune(1, callbacks=[Look(look)])
    assert alive[0] == ("frozen", 1) and set(alive[1:]) == {("unfrozen", 0)}
    alive.clear()
    learn.freeze().fit(2, 1e-3, callbacks=[Look(look)])
    assert set(alive) == {("constant", 1)} and len(kept) == 2
    assert not any(one() is not None for one in kept)
