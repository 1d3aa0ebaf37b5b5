"""Fault 19: out of memory, in training and in validation. On the CPU the allocator is faked by the network itself."""

import pytest
import torch
from runs import pause_at
from torch import nn

import sheer
from conftest import Small
from scripts import run_script
from sheer.errors import DeviceMemoryError, RunError
from sheer.loop.memory import changed_by_splitting, in_update
from sheer.loop.step import Update
from sheer.loop.train import split_step
from sheer.record.run import read_run
from test_eject import rows


class Crowded(Small):
    """Takes at most `room` items at a time, and has moved its running statistics when it finds that out."""

    room, valid_room = 3, 10**6

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    def forward(self, images):
        scores = super().forward(images)
        if len(images) > (self.room if self.training else self.valid_room):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
        self.sizes.append(len(images))
        return scores


def crowded_net():
    """A network that takes at most 3 items at a time in training."""
    import torch
    from torch import nn

    class Narrow(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm, self.out = nn.Conv2d(3, 4, 3, stride=2), nn.BatchNorm2d(4), nn.Linear(4, 2)
            self.drop = nn.Dropout(0.5)

        def forward(self, images):
            scores = self.out(self.drop(self.norm(self.conv(images)).relu().mean((2, 3))))
            if self.training and len(images) > 3:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return scores

    return Narrow()


def test_19_a_batch_that_does_not_fit_is_split_and_the_update_is_the_same(small_learner, tmp_path):
    class Linear(nn.Module):
        room = 3

        def __init__(self):
            super().__init__()
            self.out = nn.Linear(3, 2)

        def forward(self, images):
            if self.training and len(images) > self.room:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return self.out(images.mean((2, 3)))

    learn = small_learner(model=Linear, out=tmp_path / "run", optimizer="sgd").fit(2)
    events = read_run(tmp_path / "run").record.events
    assert [(event.kind, event.step, event.size) for event in events] == [("split", 0, 4), ("split", 0, 2)]
    Linear.room = 100
    whole = small_learner(model=Linear, optimizer="sgd").fit(2)
    for mine, other in zip(learn.model.parameters(), whole.model.parameters(), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-7)


def test_19_halved_until_it_fits_and_told_with_what_changes(small_learner):
    learn = small_learner(model=Crowded, norm="train").fit(1)
    events = learn._record().events
    assert [(event.kind, event.step, event.size) for event in events] == [("split", 0, 4), ("split", 0, 2)]
    assert "1 norm layers" in events[1].what and "1 dropouts" in events[1].what
    assert learn.model.sizes[:4] == [2, 2, 2, 2]
    steps = learn.plan().phases[0].steps_per_epoch
    assert learn.model.norm.num_batches_tracked == 4 * steps, "attempts that failed leave no trace"


def test_19_a_smaller_batch_splits_no_further_than_it_must(small_learner):
    model, plan = nn.Linear(3, 2), small_learner().plan(sheer.recipes.one_cycle(1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    assert split_step(Update(micro=8), model, optimizer, plan.phases[0], plan.numerics, 5, False).micro == 3


@pytest.mark.parametrize("accumulate", [0, 16])
def test_19_the_script_splits_where_the_run_did(accumulate, photos, tmp_path):
    out = tmp_path / "run"
    learn = sheer.learner(
        sheer.images(photos), crowded_net, size=32, batch_size=8, norm="train", quiet=True, out=out, accumulate=accumulate, seed=3
    )
    learn.fit(1).fit(1)
    events = read_run(out).record.events
    assert {event.kind for event in events} == {"split"} and {event.size for event in events} == {4, 2}
    script = sheer.eject(out, tmp_path / "train.py", objects={"crowded_net": crowded_net})
    assert "SPLITS = {" in script.read_text()
    done = run_script(script, photos, "--out", tmp_path / "again")
    assert done.returncode == 0, done.stderr
    assert rows(out / "history.csv") == rows(tmp_path / "again" / "history.csv")


def test_19_one_item_that_does_not_fit_is_an_error_with_a_table(small_learner):
    class Full(Crowded):
        room = 0

    with pytest.raises(DeviceMemoryError, match="one item at a time") as caught:
        small_learner(model=Full).fit(1)
    assert "optimiser state" in str(caught.value) and "weights" in str(caught.value) and "MiB" in str(caught.value)
    assert caught.value.__context__ is None, "the error is raised outside the handler, which would hold the tensors"


def test_19_memory_that_the_update_lacks_is_an_error_at_once(small_learner, monkeypatch):
    def fails(self, closure=None):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(torch.optim.AdamW, "step", fails)
    with pytest.raises(DeviceMemoryError, match="the update"):
        small_learner().fit(1)
    error = ValueError("mine")
    assert not in_update(error, torch.optim.SGD([torch.zeros(1)]))


def test_19_other_errors_are_not_taken_for_it(small_learner):
    class Broken(Small):
        def forward(self, images):
            if self.training:
                raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory")
            return super().forward(images)

    with pytest.raises(RuntimeError, match="alloc_cpu"):
        small_learner(model=Broken).fit(1)


def test_19_validation_that_does_not_fit_is_split_too(small_learner):
    class Narrow(Crowded):
        room, valid_room = 100, 3

    class Wide(Small):
        pass

    learn, whole = small_learner(model=Narrow).fit(1), small_learner(model=Wide).fit(1)
    assert learn.history[0].weights_sha256 == whole.history[0].weights_sha256
    assert learn.history[0].valid_loss == pytest.approx(whole.history[0].valid_loss, rel=1e-5)
    assert learn.validate().metrics()["accuracy"] == whole.validate().metrics()["accuracy"]
    Narrow.valid_room = 0
    with pytest.raises(DeviceMemoryError, match="validation"):
        learn.validate()


def test_19_a_fit_that_goes_on_validates_as_it_did_before(small_learner):
    class Narrow(Crowded):
        room, valid_room = 100, 3

    learn, whole = small_learner(model=Narrow), small_learner(model=Narrow).fit(2)
    learn.fit(2, callbacks=[pause_at(whole.plan().phases[0].steps_per_epoch + 1)])
    learn.resume()
    assert [row.valid_loss for row in learn.history] == [row.valid_loss for row in whole.history]
    assert [event.kind for event in learn._state.events].count("split valid") == 1


def test_19_a_checkpoint_with_something_else_in_it_is_named(small_learner):
    learn = small_learner()
    learn.fit(2, callbacks=[pause_at(2)])
    del learn._paused.carried["losses"]
    with pytest.raises(RunError, match=r"does not hold what phase \S+ carries: KeyError\('losses'\)"):
        learn.resume()


def test_19_what_splitting_changes():
    net = nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2), nn.Dropout(0.0))
    assert changed_by_splitting(net) == "the gradient is that of the whole batch but for rounding"
    net = nn.Sequential(nn.BatchNorm1d(2), nn.Dropout(0.1))
    assert "1 norm layers" in changed_by_splitting(net) and "1 dropouts" in changed_by_splitting(net)
    assert "rounding" in changed_by_splitting(net.eval())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_19_on_a_real_device(small_learner):
    class Greedy(Small):
        def forward(self, images):
            if self.training:
                free, _ = torch.cuda.mem_get_info()
                torch.empty(free // 5 * len(images) // 8 * 10, dtype=torch.uint8, device="cuda")
            return super().forward(images)

    learn = small_learner(model=Greedy, device="cuda").fit(1)
    assert {event.kind for event in learn._record().events} == {"split"}
