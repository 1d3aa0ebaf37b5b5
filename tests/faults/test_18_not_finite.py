"""Fault 18: a loss or gradient that is no finite number at some step, many of them in a row, a loss spike."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn

import sheer
from conftest import Small
from scripts import run_script
from sheer.cli.main import main
from sheer.loop.fitting import fit_step
from sheer.loop.optimizers import OPTIMIZERS
from sheer.loop.step import Update, hopeless, joint, moving_buffers, put_back, train_step
from sheer.loop.watch import LEAST, spikes
from sheer.record.run import read_run
from sheer.task.losses import CrossEntropy, ItemWeighted
from test_eject import rows

BAD = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


def spoilt_net():
    """A network that gives no numbers in its third and its fourth forward pass of training."""
    import torch
    from torch import nn

    class Spoilt(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm, self.out = nn.Conv2d(3, 4, 3, stride=2), nn.BatchNorm2d(4), nn.Linear(4, 2)
            self.seen = 0

        def forward(self, images):
            self.seen += self.training
            spoilt = self.training and self.seen in (3, 4)
            images = images * torch.nan if spoilt else images
            return self.out(self.norm(self.conv(images)).relu().mean((2, 3)))

    return Spoilt()


class Root(torch.autograd.Function):
    """The identity, with a gradient that is no finite number."""

    @staticmethod
    def forward(context, values, bad):
        context.bad = bad
        return values.clone()

    @staticmethod
    def backward(context, gradient):
        return gradient * context.bad, None


def one_step(step, optimizer_name, bad, where):
    """(loss, whether the weights moved, whether anything of the optimiser is not finite) after two good steps and a spoilt one."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    settings = {"name": "lamb"} if optimizer_name == "timm" else {}
    groups = [{"params": [p], "peak": 0.1, "lr": 0.1, "weight_decay": 0.01} for p in model.parameters()]
    optimizer = OPTIMIZERS[optimizer_name](**settings).build(groups)
    inputs, target = torch.randn(6, 4), torch.arange(6) % 2
    for _ in range(2):
        step(model, CrossEntropy(), optimizer, inputs, target)
    before, state = copy.deepcopy(model.state_dict()), copy.deepcopy(optimizer.state_dict()["state"])
    loss = CrossEntropy() if where == "gradient" else lambda scores, target: CrossEntropy()(scores, target) * bad
    if where == "gradient":
        spoilt = nn.Sequential(model[0], model[1])
        whole = lambda images: model[2](Root.apply(spoilt(images), bad))  # noqa: E731
        value = step(whole, loss, optimizer, inputs, target)
    else:
        value = step(model, loss, optimizer, inputs, target)
    after = optimizer.state_dict()["state"]
    moved = any(not torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    changed = any(
        not torch.equal(torch.as_tensor(state[key][name]), torch.as_tensor(entry))
        for key, entries in after.items()
        for name, entry in entries.items()
    )
    return value, moved, changed


@pytest.mark.parametrize("optimizer", sorted(set(OPTIMIZERS) - {"lbfgs"}))
@pytest.mark.parametrize("bad", sorted(BAD))
@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_18_the_optimiser_never_sees_a_step_that_is_not_finite(optimizer, bad, where):
    for step in (train_step, Update(micro=4), Update(clip=1.0)):
        loss, moved, changed = one_step(step, optimizer, BAD[bad], where)
        assert torch.isnan(loss) and not moved and not changed


@pytest.mark.parametrize("bad", sorted(BAD))
@pytest.mark.parametrize("where", ["loss", "features"])
def test_18_a_fit_leaves_out_what_is_not_finite(bad, where):
    torch.manual_seed(0)
    head, inputs, target = nn.Linear(4, 2), torch.randn(12, 4), torch.arange(12) % 2
    rest, other, whole = torch.arange(12) != 5, copy.deepcopy(head), copy.deepcopy(head)
    loss = CrossEntropy()
    if where == "loss":
        loss = ItemWeighted(loss=loss, weight=torch.where(rest, 1.0, BAD[bad]))
    else:
        inputs[5, 1] = BAD[bad]
    optimizers = [OPTIMIZERS["lbfgs"]().build([{"params": list(one.parameters())}]) for one in (head, other, whole)]
    value = fit_step(head, loss, optimizers[0], inputs, target)
    wanted = fit_step(other, CrossEntropy(), optimizers[1], inputs[rest], target[rest])
    assert torch.equal(head.weight, other.weight) and torch.equal(value, wanted)
    assert optimizers[0].state["not_finite"] == [5] and not optimizers[1].state["not_finite"]
    spoilt = torch.where(torch.arange(12)[:, None] < 7, torch.nan, inputs)
    before = copy.deepcopy(whole.state_dict())
    assert torch.isnan(fit_step(whole, CrossEntropy(), optimizers[2], spoilt, target))
    assert all(torch.equal(before[name], tensor) for name, tensor in whole.state_dict().items())


def test_18_a_scaler_skips_by_itself_and_that_is_no_failure():
    step = Update()
    step.scaled, step.scaler = True, torch.amp.GradScaler("cpu", init_scale=2.0**16)
    loss, moved, _ = one_step(step, "adamw", math.inf, "gradient")
    assert torch.isfinite(loss) and not moved
    assert step.scaler.get_scale() < 2.0**16
    loss, moved, _ = one_step(step, "adamw", math.inf, "loss")
    assert torch.isnan(loss) and not moved


def test_18_a_skipped_step_leaves_running_statistics_as_they_were():
    net = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 2), nn.BatchNorm1d(2)).train()
    net[2].eval()
    net[0].register_buffer("large", torch.tensor([2**40 + 1]))
    moving = moving_buffers(net)
    assert sum(map(len, moving)) == 4
    before, copies = joint(moving), copy.deepcopy(net.state_dict())
    net(torch.full((4, 3), math.nan))
    assert torch.isnan(net[0].running_mean).all() and net[0].num_batches_tracked == 1
    put_back(moving, before, torch.tensor(1.0))
    assert torch.isnan(net[0].running_mean).all()
    put_back(moving, before, torch.tensor(math.nan))
    assert all(torch.equal(copies[name], tensor) for name, tensor in net.state_dict().items())


def test_18_skipped_steps_are_named_and_the_script_skips_them_too(photos, tmp_path):
    learn = sheer.learner(sheer.images(photos), spoilt_net, size=32, batch_size=8, norm="train", quiet=True, out=tmp_path / "run")
    learn.fit(2)
    events = read_run(tmp_path / "run").record.events
    assert [(event.kind, event.step, len(event.items)) for event in events] == [("skipped", 2, 8), ("skipped", 3, 8)]
    assert all((photos / name).is_file() for event in events for name in event.items)
    assert not set(events[0].items) & set(events[1].items)
    assert all(math.isfinite(row.train_loss) and math.isfinite(row.valid_loss) for row in learn.history)
    script = sheer.eject(tmp_path / "run", tmp_path / "train.py", objects={"spoilt_net": spoilt_net})
    done = run_script(script, photos, "--out", tmp_path / "again")
    assert done.returncode == 0, done.stderr
    assert rows(tmp_path / "run" / "history.csv") == rows(tmp_path / "again" / "history.csv")
    assert sheer.load(tmp_path / "run", objects={"spoilt_net": spoilt_net})._record().events == events


class Endless(Small):
    """No numbers from the ninth forward pass of training on."""

    seen = 0

    def forward(self, images):
        self.seen += self.training
        return super().forward(images) * (math.nan if self.training and self.seen > 8 else 1.0)


def test_18_many_in_a_row_stop_the_run_at_the_last_good_weights(small_learner, tmp_path, capsys):
    learn = small_learner(model=Endless, norm="train", out=tmp_path / "run").fit(9)
    record = read_run(tmp_path / "run").record
    limit = learn.plan().phases[0].skip_limit
    assert "not finite" in str(learn.plan()) and f"the last {limit} steps" in record.stop_reason
    assert [event.step for event in record.events] == list(range(8, 20)) and len(learn.history) == 4
    assert math.isnan(learn.history[-1].train_loss) and math.isfinite(learn.history[-1].valid_loss)
    again = small_learner(model=Endless, norm="train")

    class Keep:
        def on_start(self, position): ...
        def on_epoch(self, position, row): ...
        def on_end(self, position): ...
        def on_step(self, position):
            if position.step == 8:
                self.weights = copy.deepcopy(again.model.state_dict())

    keep = Keep()
    again.fit(9, callbacks=[keep])
    assert all(torch.equal(keep.weights[name], tensor) for name, tensor in learn.model.state_dict().items())
    with pytest.raises(sheer.SheerError, match="did not complete"):
        sheer.eject(tmp_path / "run", tmp_path / "train.py")


def test_18_the_command_of_a_run_that_stopped_so_fails(photos, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("sheer.loop.train.train_step", lambda *given: torch.tensor(math.nan))
    options = ["--model", "resnet18", "--weights", "none", "--size", "32", "--batch-size", "4", "--epochs", "2"]
    assert main(["train", str(photos), *options, "--out", str(tmp_path / "run")]) == 1
    said = capsys.readouterr().out
    assert "skipped: " in said and "Stopped: the last 10 steps" in said


def test_18_spikes_are_told_and_change_nothing():
    calm = np.full(LEAST, 0.5)
    assert spikes(calm, np.array([0.6, 1.3, math.nan, math.inf, 1.3, 2.7])).tolist() == [1, 5]
    assert spikes(calm[:-1], np.array([9.0])).tolist() == []
    assert spikes(np.empty(0), np.array([])).tolist() == []
    inputs = torch.randn(400, 4, generator=torch.Generator().manual_seed(0))
    inputs[4] = 1e4  # an item of one of the last batches
    learn = sheer.learner(sheer.arrays(inputs, [0, 1] * 200), lambda: nn.Linear(4, 2), batch_size=8, quiet=True)
    learn.fit(1, 1e-3)
    (event,) = [event for event in learn._record().events if event.kind == "spike"]
    assert "item 4" in event.items and "loss" in event.what and learn._record().stop_reason == "plan completed"


def test_18_a_window_that_is_not_full_stops_nothing():
    bad, good = torch.tensor(math.nan), torch.tensor(0.5)
    assert hopeless([good, bad, bad], 2)
    assert not hopeless([bad, good], 2) and not hopeless([bad], 2)
