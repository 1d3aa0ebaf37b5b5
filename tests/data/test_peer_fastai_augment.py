"""fastai 2.8.12's augmentations beside ours, given the same draws: matrices, pixels, light, mixup and its loss."""

import types
import warnings

import numpy as np
import pytest
import torch
from torch.nn import functional

from sheer.data import colour, geometry, mix
from sheer.data.augmentations import augmentations_of
from sheer.plan.augmentations import SETS

fastai = pytest.importorskip("fastai", reason="fastai is not installed: pip install '.[bench]'")

SIDE = 48
PICTURES = torch.rand((3, 3, SIDE, SIDE), generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def theirs():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from fastai.vision import augment
        from fastai.vision.core import TensorImage
    return types.SimpleNamespace(module=augment, image=TensorImage(PICTURES))


def drawn(*columns):
    """Rows of draws for three items: every augmentation is chosen."""
    return np.stack([np.broadcast_to(np.asarray(column, float), (3,)) for column in columns], 1)


def test_rotation(theirs):
    """Up to its sign, which is drawn evenly, the angle means the same; 1e-6."""
    angles = torch.tensor([-10.0, 3.0, 10.0])
    expected = theirs.module.rotate_mat(theirs.image, p=1.0, draw=lambda x: angles.clone())
    given = geometry.Rotate(degrees=10.0).matrices(drawn(0, 0.5 - angles.numpy() / 20), (SIDE, SIDE))
    assert np.abs(given - np.asarray(expected)).max() < 1e-6


def test_zoom(theirs):
    factor, x, y = torch.tensor([1.0, 1.04, 1.1]), torch.tensor([0.1, 0.5, 0.9]), torch.tensor([0.3, 0.0, 1.0])
    draws = {"draw": lambda _: factor.clone(), "draw_x": lambda _: x.clone(), "draw_y": lambda _: y.clone()}
    expected = theirs.module.zoom_mat(theirs.image, p=1.0, **draws)
    given = geometry.Zoom().matrices(drawn(0, (factor.numpy() - 1) / 0.1, x, y), (SIDE, SIDE))
    assert np.abs(given - np.asarray(expected)).max() < 1e-6


def test_warp_and_all_together_as_pixels(theirs):
    """Two affine matrices and a perspective: 1e-4 of a value, the rounding of places in float32 twice over."""
    a, b = torch.tensor([-0.2, 0.05, 0.2]), torch.tensor([0.1, -0.2, 0.15])
    warp = theirs.module._WarpCoord(magnitude=0.2, p=1.0, draw_x=lambda x: a.clone(), draw_y=lambda x: b.clone())
    warp.before_call(theirs.image)
    ours = geometry.Warp().matrices(drawn(0, a.numpy() / 0.4 + 0.5, 0, b.numpy() / 0.4 + 0.5), (SIDE, SIDE))
    expected = theirs.image.affine_coord(coord_tfm=warp, align_corners=False)
    given = geometry.sampled(PICTURES, torch.from_numpy(ours.astype(np.float32)), (SIDE, SIDE))
    assert (given - torch.as_tensor(expected)).abs().max() < 1e-4
    turned = geometry.rotations(np.array([5.0, 0.0, -9.0]), (SIDE, SIDE))
    affine = torch.from_numpy(turned.astype(np.float32))
    expected = theirs.image.affine_coord(mat=affine[:, :2], coord_tfm=warp, align_corners=False)
    given = geometry.sampled(PICTURES, torch.from_numpy((ours @ turned).astype(np.float32)), (SIDE, SIDE))
    assert (given - torch.as_tensor(expected)).abs().max() < 1e-4


def test_brightness_and_contrast(theirs):
    light, contrast = torch.tensor([0.4, 0.5, 0.6]), torch.tensor([0.8, 1.0, 1.25])
    image = theirs.image.clone()
    brightness = theirs.module._BrightnessLogit(p=1.0, draw=lambda x: light.clone())
    change = theirs.module._ContrastLogit(p=1.0, draw=lambda x: contrast.clone())
    for step in (brightness, change):
        step.before_call(image)
    expected = torch.as_tensor(image.lighting(lambda x: change(brightness(x))))
    given = colour.relit(PICTURES, light.numpy().astype(float), contrast.numpy().astype(float))
    assert (given - expected).abs().max() < 1e-5


def test_the_set_has_the_settings_of_aug_transforms(theirs):
    settings = {part.name: part.options() for part in SETS["fastai"]}
    defaults = theirs.module.aug_transforms.__defaults__
    named = dict(zip(theirs.module.aug_transforms.__code__.co_varnames, defaults, strict=False))
    assert settings["rotate"] == {"degrees": named["max_rotate"], "p": named["p_affine"]}
    assert settings["zoom"] == {"low": named["min_zoom"], "high": named["max_zoom"], "p": named["p_affine"]}
    assert settings["warp"] == {"magnitude": named["max_warp"], "p": named["p_affine"]}
    assert settings["lighting"] == {"strength": named["max_lighting"], "p": named["p_lighting"]}
    assert named["do_flip"] and not named["flip_vert"] and settings["flip"] == {"p": 0.5}
    phase = types.SimpleNamespace(augmentation=SETS["fastai"], size=SIDE)
    (one,) = augmentations_of(phase, {})
    assert one.draws == 1 + 4 + 2 + 4 + 4


def test_mixup_and_its_loss(theirs, monkeypatch):
    """The same shares and order give the same pictures and the same mean loss, 1e-6."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from fastai.callback.mixup import MixUp
        from fastai.losses import CrossEntropyLossFlat
    target, scores = torch.tensor([0, 2, 1]), torch.randn(3, 4, generator=torch.Generator().manual_seed(1))
    generator = np.random.Generator(np.random.PCG64(9))
    beta, order = generator.beta(0.4, 0.4, 3), generator.permutation(3)
    mixed, loss = mix.Mixup()(PICTURES, target, lambda s, t: functional.cross_entropy(s, t, reduction="none"), 9)
    callback = MixUp(alpha=0.4)
    batch = {"x": PICTURES, "y": target, "xb": (PICTURES,), "yb": (target,)}
    callback.learn = types.SimpleNamespace(**batch, training=True, loss_func=CrossEntropyLossFlat())
    callback.distrib = types.SimpleNamespace(sample=lambda shape: torch.from_numpy(beta.astype(np.float32)))
    monkeypatch.setattr(torch, "randperm", lambda count: torch.from_numpy(order))
    callback.before_train()
    callback.before_batch()
    assert (callback.learn.xb[0] - mixed).abs().max() < 1e-6
    assert float(callback.learn.loss_func(scores, target)) == pytest.approx(float(loss(scores, target).mean()), abs=1e-6)
