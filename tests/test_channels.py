"""Input channels: the first convolution's rules, the statistics, and what is refused."""

import numpy as np
import pytest
import torch
from PIL import Image

import sheer
from conftest import Small
from scripts import run_script
from sheer.data.pixels import Luma, Squish
from sheer.errors import DataError, ModelError, PlanError
from sheer.model.channels import CHANNEL_INITS, widen
from sheer.plan.plan import origin_of
from test_eject import rows


def pictures(channels, side=32, items=24):
    generator = torch.Generator().manual_seed(channels)
    return torch.randint(0, 255, (items, channels, side, side), dtype=torch.uint8, generator=generator)


def make(planes, model="test_resnet", **options):
    data = sheer.arrays(pictures(planes), [0, 1] * 12)
    return sheer.learner(data, model, weights=options.pop("weights", "none"), batch_size=8, quiet=True, **options)


def first_conv(learn):
    return next(module for module in learn.model.modules() if isinstance(module, torch.nn.Conv2d))


@pytest.mark.parametrize("channels", [1, 2, 4, 13])
@pytest.mark.parametrize("rule", sorted(CHANNEL_INITS))
def test_the_rules_against_their_formulas(channels, rule):
    weight = torch.rand(4, 3, 2, 2)
    wide = CHANNEL_INITS[rule](weight, channels)
    assert wide.shape == (4, channels, 2, 2)
    if channels == 1:
        assert torch.allclose(wide[:, 0], weight.sum(1))
    elif rule == "zero" and channels == 2:
        assert torch.equal(wide, weight[:, :2] * 1.5)
    elif rule == "zero":
        assert torch.equal(wide[:, :3], weight) and not wide[:, 3:].any()
    elif rule == "tile":
        assert all(torch.equal(wide[:, index], weight[:, index % 3] * (3 / channels)) for index in range(channels))
    else:
        assert torch.allclose(wide, weight.mean(1, keepdim=True) * (3 / channels))
    if rule == "mean":
        assert torch.allclose(wide.sum(1), weight.sum(1), rtol=1e-5)


@pytest.mark.parametrize("name", ["resnet18", "vit_tiny_patch16_224", "convnext_atto", "torchvision:squeezenet1_1"])
def test_zero_gives_the_logits_of_rgb_whatever_the_fourth_channel_holds(name):
    side = 224 if "vit" in name else 64
    rgb, rgba = pictures(3, side, 4), pictures(4, side, 4)
    three = sheer.learner(sheer.arrays(rgb, [0, 1] * 2, valid=0.5), name, weights="none", quiet=True)
    four = sheer.learner(sheer.arrays(rgba, [0, 1] * 2, valid=0.5), name, weights="none", quiet=True)
    inputs = torch.randn(2, 3, side, side)
    with torch.no_grad():
        wanted = three.model.eval()(inputs)
        for fourth in (torch.zeros(2, 1, side, side), torch.randn(2, 1, side, side) * 50):
            assert torch.equal(four.model.eval()(torch.cat([inputs, fourth], 1)), wanted)
    if first_conv(three).bias is not None:
        assert torch.equal(first_conv(three).bias, first_conv(four).bias)


@pytest.mark.parametrize("channels", [1, 2, 4, 13])
def test_statistics_are_extended_and_say_who_decided(channels):
    learn = make(channels, "resnet18")
    plan = learn.plan(sheer.recipes.one_cycle(1))
    phase, model = plan.phases[0], plan.model
    assert (model.channels, model.channel_init) == (channels, "zero") and f"{channels}, first convolution zero" in str(plan)
    assert len(phase.mean) == len(phase.std) == channels
    assert sheer.Plan.from_json(plan.to_json()) == plan
    assert origin_of(model, "channels").by == "data" and origin_of(model, "channel_init").by == "default"
    assert origin_of(phase, "mean").by == ("weights" if channels == 1 else "measured")
    if channels == 1:
        assert phase.mean[0] == pytest.approx((0.485 + 0.456 + 0.406) / 3)
        return
    train = learn.data.arrays[torch.from_numpy(learn.data.train)][:, -1].double() / 255
    assert phase.mean[-1] == pytest.approx(float(train.mean())) and phase.std[-1] == pytest.approx(float(train.std(correction=0)))
    if channels > 3:
        assert phase.mean[:3] == (0.485, 0.456, 0.406)


@pytest.mark.parametrize("rule", ["tile", "mean"])
def test_a_run_with_four_channels_trains_and_comes_back(rule, tmp_path, photos):
    learn = make(4, channels=4, channel_init=rule).fine_tune(1)
    assert origin_of(learn.plan().model, "channel_init").by == "you"
    learn.save(tmp_path / "run")
    again = sheer.load(tmp_path / "run", data=learn.data)
    assert (again.validate().outputs == learn.validate().outputs).all()
    assert again.plan(sheer.recipes.one_cycle(1)).phases[-1].mean == learn.plan().phases[-1].mean
    with pytest.raises(DataError, match="4 channels"):
        again.predict(photos / "red")


def test_your_own_module_takes_the_channels_it_takes():
    class Two(Small):
        def __init__(self):
            super().__init__()
            self.conv = torch.nn.Conv2d(2, 4, 3, stride=2)

    learn = make(2, Two, weights="default").fit(1)
    assert learn.plan().model.channels == 2 and len(learn.plan().phases[0].mean) == 2


def test_a_constant_channel_is_not_divided_by_zero():
    inputs = pictures(4)
    inputs[:, 3] = 7
    learn = sheer.learner(sheer.arrays(inputs, [0, 1] * 12), "test_resnet", weights="none", batch_size=8, quiet=True)
    assert learn.plan(sheer.recipes.one_cycle(1)).phases[0].std[3] == 1.0


def test_what_is_not_allowed_is_named(photos):
    with pytest.raises(PlanError, match="photographs are decoded to three channels"):
        sheer.learner(sheer.images(photos), "test_resnet", weights="none", channels=2)
    with pytest.raises(PlanError, match="channels=3: the arrays have 4"):
        make(4, channels=3)
    with pytest.raises(PlanError, match="Did you mean 'zero'"):
        make(4, channel_init="zeros")
    with pytest.raises(PlanError, match="at least 1"):
        make(4, channels=0)
    with pytest.raises(PlanError, match="other than three channels"):
        make(3, channel_init="tile")
    with pytest.raises(DataError, match="channels, side, side"):
        sheer.arrays(torch.zeros(4, 2, 8, 9, dtype=torch.uint8), [0, 1, 0, 1])


def test_a_body_without_a_first_convolution_is_refused():
    with pytest.raises(ValueError, match="0 convolutions"):
        widen(torch.nn.Linear(3, 3), 4, "zero")
    from sheer.model.inputs import widened

    with pytest.raises(ModelError, match="cannot take 4 channels"):
        widened(torch.nn.Linear(3, 3), "x", 4, "zero")


def test_luma_is_pillows_and_leaves_grey_as_it_is():
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3)).astype(np.uint8)
    luma = Luma(rule=Squish(interpolation="bilinear"))
    assert np.array_equal(luma.cut(pixels, 32, (0.5, 0.5))[..., 0], np.asarray(Image.fromarray(pixels).convert("L")))
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, 2)
    assert np.array_equal(luma.cut(grey, 16, (0.5, 0.5)), grey[..., :1])


@pytest.mark.parametrize("augmentation", [("flip", "rotate"), ("random_resized_crop", "brightness", "random_erasing")], ids=str)
def test_grey_photographs_of_folders_train_predict_and_eject(photos, tmp_path, augmentation):
    data, options = sheer.images(photos), {"size": 32, "batch_size": 8, "quiet": True, "augmentation": augmentation}
    learn = sheer.learner(data, "test_resnet", weights="none", channels=1, out=tmp_path / "run", **options)
    assert learn.batch_data(4).images.shape == (4, 32, 32, 1)
    learn.fine_tune(1)
    plan = learn.plan()
    assert plan.model.channels == 1 and origin_of(plan.model, "channels").by == "you" and len(plan.phases[0].mean) == 1
    assert np.array_equal(sheer.load(tmp_path / "run").predict(photos / "red").outputs, learn.predict(photos / "red").outputs)
    run_script(sheer.eject(tmp_path / "run", tmp_path / "script.py"), photos, "--out", tmp_path / "again")
    assert rows(tmp_path / "again" / "history.csv") == rows(tmp_path / "run" / "history.csv")
    with pytest.raises(PlanError, match="needs pictures of red, green and blue"):
        sheer.learner(data, Small, channels=1, **options | {"augmentation": "strong"}).plan(sheer.recipes.constant(1))
