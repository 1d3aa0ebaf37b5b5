"""A learner at the beginning of a plan carries the plan out to the same bits."""

from dataclasses import replace

import pytest
import torch
from torch import nn

import sheer
from sheer.errors import DataError, ModelError, RunError
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


def test_looking_leaves_the_layout_of_your_own_network_alone(arrays):
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.net, self.conv, self.deep = Net(), nn.Conv2d(3, 3, 3), nn.Conv3d(1, 1, 1)

        def forward(self, images):
            return self.net(self.deep(self.conv(images)[:, None])[:, 0]) + self.conv.weight.view(3, -1).sum()

    own = Own()
    before = own.conv.weight.stride()
    sheer.learner(arrays, own, quiet=True).validate()
    assert own.conv.weight.stride() == before


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


def rows_of(categories, numbers):
    """Rows whose class is "yes" for category "a" and for large numbers; one number is missing."""
    cells = [float(number) for number in numbers]
    kinds = ["yes" if one == "a" or number > 4 else "no" for one, number in zip(categories, cells, strict=True)]
    return {"letter": list(categories), "width": [None, *cells[1:]], "words": [f"text {one}" for one in categories], "kind": kinds}


@pytest.mark.parametrize("kind", ["table", "several"])
def test_data_for_a_loaded_run_gets_the_schema_that_its_network_knows(kind, tmp_path):
    first = rows_of("abc" * 16, range(48))
    other = rows_of("bcz" * 10, [n / 4 for n in range(30)])

    def made(columns, **options):
        if kind == "table":
            return sheer.table(columns, target="kind", continuous=["width"], ignore=["words"], **options)
        inputs = {
            "one": sheer.TableInput(columns=["letter"], categorical=["letter"]),
            "two": sheer.TableInput(columns=["width"], continuous=["width"]),
        }
        return sheer.DataBlock(inputs=inputs, label="kind", **options).build(columns)

    model = ("tabm", {"members": 2, "hidden": (8,)}) if kind == "table" else None
    learn = sheer.learner(made(first), model, quiet=True, out=tmp_path / "run").fit_one_cycle(3)
    loaded = sheer.load(tmp_path / "run", data=made(other))
    told = learn.predict(other).outputs
    assert abs(loaded.predict(other).outputs - told).max() < 1e-6
    assert abs(loaded.validate().outputs - told[loaded.data.valid]).max() < 1e-6
    assert any("given rows hold 'z', which no row to train on did" in note for note in loaded.data.plan.notes)
    was, now = learn.plan().data, loaded.data.plan
    assert now.columns == was.columns and [one.columns for one in now.inputs] == [one.columns for one in was.inputs]
    loaded.fit_one_cycle(1)
    assert sheer.Plan.from_json(loaded.plan().to_json()) == loaded.plan()
    with pytest.raises(RunError, match="trained on the same files under the split"):
        sheer.load(tmp_path / "run", data=made(first, seed=1))
    lacks = {name: cells for name, cells in other.items() if name != "width"} | {"wide": other["width"]}
    with pytest.raises(DataError, match=r"reads the column 'width', which|Input 'two' reads the column 'width'"):
        data = sheer.table(lacks, target="kind", ignore=["words"]) if kind == "table" else made(lacks)
        sheer.load(tmp_path / "run", data=data)
    if kind == "table":
        with pytest.raises(DataError, match="reads the column 'width', which"):
            sheer.ablate(tmp_path / "run", "fastai-2.8", data=data, out=tmp_path / "ablation", quiet=True)
