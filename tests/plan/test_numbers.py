"""The acceptance numbers of the default recipe's ingredients, written down independently of the library."""

import math

import pytest
import torch
from torch import nn

import sheer
from sheer.errors import PlanError
from sheer.loop.optimizers import AdamW, set_rates
from sheer.model.heads import ConcatPool
from sheer.plan.rates import spread
from sheer.plan.schedules import OneCycle


@pytest.mark.parametrize(
    ("rate", "wanted"),
    [
        (3e-3, (3e-3, 3e-3, 3e-3)),
        (slice(3e-3), (3e-4, 3e-4, 3e-3)),
        (slice(1e-6, 1e-4), (1e-6, 1e-5, 1e-4)),
        ([1e-5, 2e-5, 3e-5], (1e-5, 2e-5, 3e-5)),
    ],
)
def test_rates_per_stage(rate, wanted):
    assert spread(rate, 3) == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize("rate", [[1e-3, 1e-3], -1.0, 0.0, math.inf, slice(1e-3, None), slice(1e-5, 1e-3, 2)])
def test_a_rate_that_is_none_is_refused(rate):
    with pytest.raises(PlanError, match="rate"):
        spread(rate, 3)


def test_one_cycle_numbers():
    schedule, steps = OneCycle(), 40
    assert schedule.rate(0.0) == pytest.approx(1 / 25) and schedule.momentum(0.0) == pytest.approx(0.95)
    assert schedule.rate(0.25) == pytest.approx(1.0) and schedule.momentum(0.25) == pytest.approx(0.85)
    place = (steps - 1) / steps
    wave = (1 + math.cos(math.pi * (1 - (place - 0.25) / 0.75))) / 2
    assert schedule.rate(place) == pytest.approx(1 + wave * (1e-5 - 1), rel=1e-12)


@pytest.fixture(scope="module")
def fastai_plan():
    """fine_tune(2) at 16 steps an epoch under the profile fastai-2.8, three groups."""
    data = sheer.arrays(torch.zeros(1280, 3, 32, 32, dtype=torch.uint8), [0, 1] * 640, valid=0.2, split="random", profile="fastai-2.8")
    learn = sheer.learner(data, "torchvision:resnet18", weights="none", profile="fastai-2.8", quiet=True)
    assert len(data.train) == 16 * 64
    return learn, learn.plan(sheer.recipes.fine_tune(2, profile="fastai-2.8"))


def test_fine_tune_numbers(fastai_plan):
    _, plan = fastai_plan
    first, second = plan.phases
    curves = []
    for phase in plan.phases:
        schedule, total = OneCycle(**phase.schedule.options()), phase.epochs * phase.steps_per_epoch
        curves.append([(schedule.rate(step / total), schedule.momentum(step / total)) for step in range(total)])
    assert first.rates == pytest.approx((2e-4, 2e-4, 2e-3)) and second.rates == pytest.approx((1e-5, 1e-4, 1e-3))
    assert curves[0][0][0] * 2e-3 == pytest.approx(8e-5) and curves[0][0][1] == pytest.approx(0.95)
    assert curves[0][15][0] * 2e-3 == pytest.approx(1.98671e-3, rel=1e-5)
    assert curves[0][15][1] == pytest.approx(0.850692, rel=1e-5)
    assert [rate * curves[1][0][0] for rate in second.rates] == pytest.approx([2e-6, 2e-5, 2e-4])
    assert max(range(32), key=lambda step: curves[1][step][0]) == 10
    assert curves[1][10][0] * 1e-3 == pytest.approx(9.99213e-4, rel=1e-5)
    assert curves[1][31][0] * 1e-3 == pytest.approx(4.91939e-6, rel=1e-5)
    head = [group for group in second.groups if group.stage == "head"]
    assert {round(group.rate_end, 12) for group in head} == {round(curves[1][31][0] * 1e-3, 12)}


def test_resnet18_groups_under_the_fastai_profile(fastai_plan):
    _, plan = fastai_plan
    tensors, trainable = {}, {}
    for group in plan.phases[0].groups:
        tensors[group.stage] = tensors.get(group.stage, 0) + group.tensors
        trainable[group.stage] = trainable.get(group.stage, 0) + group.tensors * group.trains
    assert tensors == {"early": 30, "late": 30, "head": 6}
    assert trainable == {"early": 20, "late": 20, "head": 6}


def test_head_shapes_order_and_initial_spread():
    head = ConcatPool().build(512, 3, "map")
    kinds = [type(layer).__name__ for layer in head]
    assert kinds == ["MaxAvgPool", "BatchNorm1d", "Dropout", "Linear", "ReLU", "BatchNorm1d", "Dropout", "Linear"]
    assert (head.drop0.p, head.drop1.p) == (0.25, 0.5)
    assert head.linear0.weight.shape == (512, 1024) and head.linear1.weight.shape == (3, 512)
    assert head.linear0.bias is None and head.linear1.bias is None
    assert float(head.linear0.weight.detach().std()) == pytest.approx(0.0442, rel=0.02)
    assert float(head.linear1.weight.detach().std()) == pytest.approx(0.0625, rel=0.1)
    features = torch.arange(8.0).reshape(1, 2, 2, 2)
    assert head.pool(features).tolist() == [[3.0, 7.0, 1.5, 5.5]]


@pytest.mark.parametrize("implementation", ["single", "foreach", "fused"])
def test_adamw_follows_the_written_formula(implementation):
    torch.manual_seed(0)
    layer = nn.Linear(5, 3).double()
    weight, moment, square = layer.weight.detach().clone(), 0.0, 0.0
    group = {"params": [layer.weight], "peak": 1e-2, "lr": 1e-2, "weight_decay": 0.01}
    optimizer = AdamW(implementation=implementation).build([group])
    schedule = OneCycle()
    for step in range(100):
        rate, momentum = schedule.rate(step / 100), schedule.momentum(step / 100)
        set_rates(optimizer, rate, momentum)
        gradient = torch.randn(3, 5, dtype=torch.float64)
        layer.weight.grad = gradient.clone()
        optimizer.step()
        weight = weight * (1 - 1e-2 * rate * 0.01)
        moment = momentum * moment + (1 - momentum) * gradient
        square = 0.99 * square + 0.01 * gradient**2
        root = (square / (1 - 0.99 ** (step + 1))).sqrt() + 1e-5
        weight = weight - 1e-2 * rate / (1 - momentum ** (step + 1)) * moment / root
    assert float((layer.weight.detach() - weight).abs().max()) <= 1e-6
