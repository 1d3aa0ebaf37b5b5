"""A learner at the beginning of a plan carries the plan out to the same bits."""

from dataclasses import replace

import pytest
import torch
from torch import nn

import sheer
from sheer.errors import ModelError, RunError
from sheer.loading import begun

COUNT = 40
INPUTS = torch.randint(0, 256, (COUNT, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


class Net(nn.Sequential):
    """Three scores from the mean colour."""

    def __init__(self) -> None:
        super().__init__(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 3))


@pytest.fixture(scope="module")
def arrays():
    return sheer.arrays(INPUTS, torch.arange(COUNT) % 3)


@pytest.mark.parametrize("model", ["resnet18", "torchvision:mobilenet_v3_small"])
def test_a_plan_is_carried_out_again_from_its_beginning(arrays, model):
    first = sheer.learner(arrays, model, weights="none", quiet=True).fine_tune(1)
    plan = first.plan()
    again = begun(plan, arrays, quiet=True)
    assert again.plan() == replace(plan, phases=())
    again.run(plan.phases)
    assert again.plan() == plan
    assert [row.weights_sha256 for row in again.history] == [row.weights_sha256 for row in first.history]


def test_a_loaded_model_lies_in_memory_as_the_one_that_was_trained(photos, tmp_path):
    learn = sheer.learner(sheer.images(photos), "test_resnet", weights="none", size=32, quiet=True, out=tmp_path / "run")
    learn.fit_one_cycle(1)
    loaded, files = sheer.load(tmp_path / "run"), sorted(photos.glob("*/*.jpg"))
    assert (loaded.predict(files).outputs == learn.predict(files).outputs).all()
    assert learn.plan().numerics.memory_format == "channels_last"
    layouts = [[tensor.stride() for tensor in one.model.parameters()] for one in (learn, loaded)]
    assert layouts[0] == layouts[1], "sums of another layout are taken in another order: other last bits"


def test_another_seed_measures_the_start_anew(arrays):
    plan = sheer.learner(arrays, "resnet18", weights="none", quiet=True).fine_tune(1).plan()
    with pytest.raises(ModelError, match="does not start from the weights of the plan"):
        begun(replace(plan, seed=7), arrays)
    model = replace(plan.model, weights_sha256="")
    other = begun(replace(plan, seed=7, model=model), arrays, quiet=True)
    assert other.plan().model.weights_sha256 not in ("", plan.model.weights_sha256)


def test_a_plan_begins_on_its_own_data_and_with_your_own_module(arrays):
    plan = sheer.learner(arrays, Net, quiet=True).fit(1, 1e-3).plan()
    with pytest.raises(ModelError, match="a module of your own"):
        begun(plan, arrays)
    assert begun(plan, arrays, objects={"Net": Net}, quiet=True).run(plan.phases).plan() == plan
    with pytest.raises(RunError, match="The data is not the plan's"):
        begun(plan, sheer.arrays(INPUTS, (torch.arange(COUNT) + 1) % 3), objects={"Net": Net})


def test_a_plan_that_goes_on_from_a_run_needs_the_runs_weights(arrays, tmp_path):
    run = sheer.learner(arrays, "resnet18", weights="none", quiet=True).fine_tune(1).save(tmp_path / "run")
    more = sheer.arrays(INPUTS[: COUNT - 3], torch.arange(COUNT - 3) % 3)
    further = sheer.load(run, data=more).fit(1, 1e-4)
    plan = further.plan()
    again = begun(plan, more, start=further._start, quiet=True).run(plan.phases)
    assert [row.weights_sha256 for row in again.history] == [row.weights_sha256 for row in further.history]
    wrong = {name: tensor + 1 for name, tensor in further._start.items()}
    with pytest.raises(ModelError, match="not those of the plan"):
        begun(plan, more, start=wrong)
