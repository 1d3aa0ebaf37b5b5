"""Every augmentation, set and mix: two training steps, JSON and back, and an ejected script with equal weights."""

import runpy
import sys

import numpy as np
import pytest
import torch

import sheer
from conftest import make_photos
from sheer.data.augmentations import AUGMENTATIONS, MIXES
from sheer.data.own import PerItem
from sheer.errors import EjectError, PlanError, RunError
from sheer.plan.augmentations import SETS
from sheer.plan.plan import Plan


def tiny_net():
    """A convolution, a norm layer and a linear layer."""
    from torch import nn

    layers = [nn.Conv2d(3, 4, 3, stride=2), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)]
    return nn.Sequential(*layers)


def one_channel_net():
    from torch import nn

    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())


def grain(image):
    """Noise from PyTorch's generator."""
    return (image + 0.1 * torch.randn(image.shape)).clamp(0, 1)


def dimmed(images):
    """One factor for the whole batch."""
    return images * (0.5 + 0.5 * torch.rand(()))


CASES = {
    **{name: {"augmentation": (name,)} for name in AUGMENTATIONS},
    **{f"set {name}": {"augmentation": name} for name in SETS},
    **{name: {"mix": name} for name in MIXES},
    "own": {"augmentation": ("flip", grain, (dimmed, {"per": "batch"}))},
    "all at once": {
        "augmentation": ("dihedral", ("rotate", {"degrees": 45.0}), "hue", "random_resized_crop", "rand_augment", grain, "random_erasing"),
        "mix": ("cutmix", {"alpha": 0.5}),
        "resize": "squish",
    },
}


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    return make_photos(tmp_path_factory.mktemp("few"), {"blue": 11, "red": 11})


@pytest.mark.parametrize("case", CASES)
def test_the_script_trains_the_same_weights(case, few, tmp_path, monkeypatch):
    learn = sheer.learner(sheer.images(few), tiny_net, size=32, batch_size=8, quiet=True, out=tmp_path / "run", **CASES[case])
    learn.fit(1)
    plan = learn.plan()
    assert plan.phases[0].steps_per_epoch == 2
    assert Plan.from_json(plan.to_json()) == plan
    for part in plan.phases[0].augmentation:
        assert part.name in str(plan)
    assert learn.history[-1].weights_sha256 in ejected_again(learn, few, tmp_path, monkeypatch)


def test_a_default_script_has_none_of_it(random_resnet_run, tmp_path):
    text = sheer.eject(random_resnet_run, tmp_path / "train.py").read_text()
    for name in ("OnePass", "boxes", "relit", "PerItem", "MixedLoss", "recoloured", "grid_sample"):
        assert name not in text


def test_training_goes_on_after_loading(few, tmp_path):
    options = {"size": 32, "batch_size": 8, "quiet": True, "augmentation": ("flip", grain), "mix": "mixup"}
    whole = sheer.learner(sheer.images(few), tiny_net, **options).fit(1)
    whole.save(tmp_path / "run")
    again = sheer.load(tmp_path / "run", data=sheer.images(few), objects={"tiny_net": tiny_net, "grain": grain})
    whole.fit(1)
    again.fit(1)
    assert again.plan().phases[-1].augmentation == whole.plan().phases[-1].augmentation
    assert again.plan().phases[-1].mix == whole.plan().phases[-1].mix
    assert again.history[-1].weights_sha256 == whole.history[-1].weights_sha256


def ejected_again(learn, few, tmp_path, monkeypatch):
    """The last row of history that the ejected script writes."""
    script = sheer.eject(tmp_path / "run", tmp_path / "train.py", objects={"tiny_net": tiny_net, "grain": grain, "dimmed": dimmed})
    monkeypatch.setattr(sys, "argv", [str(script), str(few), "--out", str(tmp_path / "again")])
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    try:
        runpy.run_path(str(script), run_name="__main__")
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic)
    assert "import sheer" not in script.read_text()
    return (tmp_path / "again" / "history.csv").read_text()


@pytest.mark.parametrize("mix", MIXES)
def test_mixing_works_with_several_labels(mix, few, tmp_path, monkeypatch):
    files = sorted(str(path.relative_to(few)) for path in few.rglob("*.jpg"))
    rows = [f"{name},{('a', 'b', 'a b')[number % 3]}" for number, name in enumerate(files)]
    (tmp_path / "labels.csv").write_text("\n".join(["file,labels", *rows]) + "\n")
    data = sheer.DataBlock(label="labels", separator=" ", root=few).build(tmp_path / "labels.csv")
    options = {"size": 32, "batch_size": 8, "quiet": True, "mix": mix, "augmentation": "strong", "out": tmp_path / "run"}
    learn = sheer.learner(data, tiny_net, **options).fit(1)
    assert learn.plan().data.task.name == "tag"
    assert learn.history[-1].weights_sha256 in ejected_again(learn, few, tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"augmentation": "stron"}, "Did you mean 'strong'"),
        ({"augmentation": "flip"}, "One augmentation is given as"),
        ({"augmentation": 3}, "name of a set"),
        ({"augmentation": (3,)}, "no name"),
        ({"augmentation": ("rotat",)}, "Did you mean 'rotate'"),
        ({"augmentation": (("rotate", {"degree": 3}),)}, "it has degrees, p"),
        ({"augmentation": (("rotate", {"p": 1.5}),)}, "a number from 0 to 1"),
        ({"augmentation": (("zoom", {"high": "big"}),)}, "give a number"),
        ({"augmentation": (("rand_augment", {"magnitude": 9.5}),)}, "a whole number from 0 to 30"),
        ({"augmentation": (("random_erasing", {"area": (0.5, 0.1)}),)}, "the smaller one first"),
        ({"augmentation": (("random_erasing", {"area": 0.5}),)}, "two numbers"),
        ({"augmentation": ((grain, {"per": "epoch"}),)}, "per='item' or per='batch'"),
        ({"augmentation": (grain, lambda image: image, lambda image: -image)}, "are called '<lambda>'"),
        ({"mix": "mixu"}, "Did you mean 'mixup'"),
        ({"mix": 3}, "mix: 3 is no name"),
        ({"mix": ("mixup", {"alpha": 0.0})}, "give a number from 1e-06"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_runs(options, message, few):
    with pytest.raises(PlanError, match=message):
        sheer.learner(sheer.images(few), tiny_net, size=32, batch_size=8, quiet=True, **options).plan(sheer.recipes.constant(1))


def test_colours_need_red_green_and_blue():
    inputs = torch.randint(0, 255, (20, 1, 8, 8), dtype=torch.uint8)
    learn = sheer.learner(sheer.arrays(inputs, [0, 1] * 10), one_channel_net, quiet=True, batch_size=4, augmentation=("hue",))
    with pytest.raises(PlanError, match="Hue needs pictures of red, green and blue; these have 1"):
        learn.fit(1)


def test_own_functions_must_be_given_as_they_were(few, tmp_path):
    options = {"size": 32, "batch_size": 8, "quiet": True}
    sheer.learner(sheer.images(few), tiny_net, augmentation=(grain,), **options).fit(1).save(tmp_path / "run")
    again = sheer.load(tmp_path / "run", data=sheer.images(few), objects={"tiny_net": tiny_net})
    with pytest.raises(PlanError, match="your own augmentation 'grain'"):
        again.fit(1)
    assert len(again.predict(few / "red").items) == 11
    other = {"tiny_net": tiny_net, "grain": dimmed}
    with pytest.raises(RunError, match="is not what the run was made with"):
        sheer.load(tmp_path / "run", objects=other)
    with pytest.raises(EjectError, match="is not what the run was made with"):
        sheer.eject(tmp_path / "run", tmp_path / "train.py", objects=other)
    with pytest.raises(EjectError, match="give it"):
        sheer.eject(tmp_path / "run", tmp_path / "train.py", objects={"tiny_net": tiny_net})


class Doubled:
    def __call__(self, image):
        return image * 2


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (Doubled(), "wrap it in a top-level function|is not what the run"),
        (torch.abs, "wrap it in"),
        (lambda image: image, "not a top-level function"),
    ],
)
def test_what_has_no_source_to_copy_trains_but_is_not_ejected(function, message, few, tmp_path):
    options = {"size": 32, "batch_size": 8, "quiet": True}
    learn = sheer.learner(sheer.images(few), tiny_net, augmentation=(function,), **options).fit(1)
    learn.save(tmp_path / "run")
    name = learn.plan().phases[0].augmentation[0].options()["function"]
    with pytest.raises(EjectError, match=message):
        sheer.eject(tmp_path / "run", tmp_path / "train.py", objects={"tiny_net": tiny_net, name: function})


def test_your_functions_leave_the_generator_as_it_was(few):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    values = PerItem(function=grain)(torch.zeros(2, 3, 4, 4), np.array([[0.1], [0.2]]))
    assert torch.equal(before, torch.get_rng_state())
    assert not torch.equal(values[0], values[1])
