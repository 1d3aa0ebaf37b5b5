"""Augmentations beside torchvision's, and what must hold of all of them: the same draws give the same pixels."""

import numpy as np
import pytest
import torch
from torchvision.transforms import InterpolationMode, RandAugment, RandomErasing, RandomResizedCrop, TrivialAugmentWide, autoaugment
from torchvision.transforms import functional as tv

from sheer.data import augment, boxes, colour, geometry, mix, policies
from sheer.data.augmentations import AUGMENTATIONS, augmentations_of
from sheer.plan.augmentations import augmentation_parts
from sheer.plan.plan import Part
from sheer.streams import uniform_draws

SIDE = 64
BILINEAR = InterpolationMode.BILINEAR
RAMP = torch.linspace(0, 1, SIDE)
WAVE = torch.sin(6 * RAMP).abs() * torch.cos(RAMP)[:, None]
SMOOTH = torch.stack([RAMP.expand(SIDE, SIDE), RAMP[:, None].expand(SIDE, SIDE), WAVE])[None]
NOISE = torch.rand((4, 3, SIDE, SIDE), generator=torch.Generator().manual_seed(0))


def read(matrices, values=SMOOTH):
    return geometry.sampled(values, torch.from_numpy(matrices.astype(np.float32)), (SIDE, SIDE))


def inside(transform):
    """Where torchvision's result comes from inside the picture, so that its black and our reflection do not matter."""
    return transform(torch.ones_like(SMOOTH)) > 0.999


class Phase:
    """As much of a phase as augmentations_of reads."""

    def __init__(self, *given, size=SIDE):
        self.augmentation, self.size = augmentation_parts(given), size


@pytest.mark.parametrize("number", range(8))
def test_symmetries_as_matrices_are_the_exact_ones(number):
    draws = np.array([[(number + 0.5) / 8]])
    exact = augment.Dihedral()(SMOOTH, draws)
    assert (exact - read(geometry.DihedralMatrix().matrices(draws, (SIDE, SIDE)))).abs().max() < 1e-5
    assert (SMOOTH.flip(3) - read(geometry.FlipMatrix().matrices(np.array([[0.1]]), (SIDE, SIDE)))).abs().max() < 1e-5


@pytest.mark.parametrize("angle", [-30, 10])
def test_rotation_is_torchvisions(angle):
    draws = np.array([[0.0, 1.0 if angle > 0 else 0.0]])
    ours = read(geometry.Rotate(degrees=abs(angle)).matrices(draws, (SIDE, SIDE)))
    theirs = tv.rotate(SMOOTH, angle, BILINEAR)
    assert ((ours - theirs).abs() * inside(lambda image: tv.rotate(image, angle, BILINEAR))).max() < 1e-5


def test_rotation_keeps_shapes_in_a_wide_picture():
    square = np.array([[-0.5, -1.0, 1.0], [0.5, -1.0, 1.0]])
    moved = square @ geometry.rotations(np.array([37.0]), (50, 100))[0].T
    assert np.hypot(*((moved[0] - moved[1])[:2] * [100, 50])) == pytest.approx(100)


def test_perspective_is_torchvisions():
    draws = np.array([[0.0, 0.1, 0.4, 0.3, 0.2, 0.9, 0.5, 0.6, 0.7]])
    corners = np.array([[0, 0], [SIDE, 0], [SIDE, SIDE], [0, SIDE]], float)
    ends = corners + np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]]) * 0.5 * draws[0, 1:].reshape(4, 2) * SIDE / 2
    ours = read(geometry.Perspective(distortion=0.5).matrices(draws, (SIDE, SIDE)))

    def theirs(image):
        return tv.perspective(image, corners.tolist(), ends.tolist(), BILINEAR)

    assert ((ours - theirs(SMOOTH)).abs() * inside(theirs)).max() < 1e-5


def test_hue_and_saturation_are_torchvisions():
    draws = np.tile([[0.0, 1.0]], (4, 1))
    assert (colour.Hue(strength=0.07).recolour(NOISE, draws) - tv.adjust_hue(NOISE, 0.07)).abs().max() < 1e-5
    assert (colour.Saturation(strength=0.3).recolour(NOISE, draws) - tv.adjust_saturation(NOISE, 1.3)).abs().max() < 1e-5


SPACES = {
    False: RandAugment()._augmentation_space(31, (SIDE, SIDE)),
    True: TrivialAugmentWide()._augmentation_space(31),
}
THEIR_NAMES = {"colour": "Color"}


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("name", policies.OPERATIONS[1:])
def test_policy_operations_are_torchvisions(name, wide):
    """Colours within 1.5 of 255 (torchvision rounds each picture to bytes), places within 1e-5 in the picture."""
    theirs = THEIR_NAMES.get(name, "".join(word.capitalize() for word in name.split("_")))
    number, magnitudes = policies.OPERATIONS.index(name), SPACES[wide][theirs][0]
    for step in (0, 9, 20):
        amounts = policies.amounts_of(np.full(4, number), np.full(4, 0.9), np.full(4, step / 30), wide, (SIDE, SIDE))
        magnitude = float(magnitudes[step]) if magnitudes.ndim else 0.0
        if magnitudes.ndim:
            assert amounts[0] * (255 if name == "solarize" else 1) == pytest.approx(magnitude, abs=1e-4)
        if name in policies.RECOLOURED:
            as_bytes = (NOISE * 255).round().to(torch.uint8)
            expected = autoaugment._apply_op(as_bytes, theirs, magnitude, BILINEAR, None).float()
            given = policies.recoloured(as_bytes.float() / 255, np.full(4, number), amounts)
            assert (given * 255 - expected).abs().max() < 1.5
        else:

            def moved(image, magnitude=magnitude):
                return autoaugment._apply_op(image, theirs, magnitude, BILINEAR, None)

            given = read(policies.all_moved(np.full(1, number), amounts[:1], (SIDE, SIDE)))
            assert ((given - moved(SMOOTH)).abs() * inside(moved)).max() < 1e-5


def test_the_negative_half_of_a_signed_operation():
    signs = np.array([0.2, 0.8])
    rotate, solarize = policies.OPERATIONS.index("rotate"), policies.OPERATIONS.index("solarize")
    assert policies.amounts_of(np.full(2, rotate), signs, np.ones(2), False, (8, 8)).tolist() == [-30, 30]
    assert policies.amounts_of(np.full(2, solarize), signs, np.full(2, 0.5), False, (8, 8)).tolist() == [0.5, 0.5]


@pytest.mark.parametrize(
    ("theirs", "area", "ratio"),
    [
        (lambda image, area, ratio: RandomResizedCrop.get_params(image, area, ratio), (0.08, 1.0), (3 / 4, 4 / 3)),
        (lambda image, area, ratio: RandomErasing.get_params(image, area, [1 / r for r in ratio[::-1]])[:4], (0.02, 0.33), (0.3, 3.3)),
    ],
    ids=["resized crop", "erasing"],
)
def test_boxes_are_spread_as_torchvisions(theirs, area, ratio):
    """Means over 4,000 boxes of torchvision and of ours, each within 4 standard errors of the difference."""
    count, extent = 4000, (60, 90)
    torch.manual_seed(0)
    blank = torch.zeros(3, *extent)
    expected = np.array([theirs(blank, list(area), list(ratio)) for _ in range(count)])
    given = boxes.boxes(uniform_draws(7, np.arange(count), 22), extent, area, ratio)
    assert (given[:, 2] > 0).all() and (given[:, :2] + given[:, 2:] <= extent).all()
    error = np.sqrt(expected.var(0) / count + given.var(0) / count)
    assert (np.abs(expected.mean(0) - given.mean(0)) < 4 * error).all()


def test_a_resized_crop_of_the_same_box_is_torchvisions():
    crop = boxes.RandomResizedCrop(area=(0.25, 0.25), ratio=(1.0, 1.0))
    draws = np.concatenate([np.full((1, 20), 0.5), [[0.25, 0.75]]], 1)
    top, left, height, width = boxes.boxes(draws, (SIDE, SIDE), crop.area, crop.ratio)[0].tolist()
    theirs = tv.resized_crop(SMOOTH, top, left, height, width, [SIDE, SIDE], BILINEAR, antialias=False)
    assert (read(crop.matrices(draws, (SIDE, SIDE))) - theirs)[..., 2:-2, 2:-2].abs().max() < 1e-5


def test_a_crop_that_never_fits_takes_the_middle():
    crop = boxes.RandomResizedCrop(area=(1.0, 1.0), ratio=(1.0, 1.0))
    matrix = crop.matrices(np.full((1, 22), 0.5), (50, 100))[0]
    assert matrix[0].tolist() == [0.5, 0.0, 0.0] and matrix[1].tolist() == [0.0, 1.0, 0.0]


def test_erasing_fills_its_box_and_nothing_else():
    images, draws = torch.zeros(6, 3, SIDE, SIDE), uniform_draws(3, np.arange(6), 24)
    erased = boxes.RandomErasing(p=1.0)(images, draws)
    places = boxes.boxes(draws[:, 2:], (SIDE, SIDE), (0.02, 0.33), (0.3, 3.3))
    for item, (top, left, height, width) in enumerate(places.tolist()):
        box = erased[item, :, top : top + height, left : left + width]
        assert (box != 0).all() and int((erased[item] != 0).sum()) == box.numel()
        assert abs(float(box.mean())) < 0.3 and 0.7 < float(box.std()) < 1.3
    assert (boxes.RandomErasing(p=1.0, fill=0.5)(images, draws) <= 0.5).all()
    assert (boxes.RandomErasing(p=0.0)(images, draws) == images).all()


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_the_same_draws_give_the_same_pixels_beside_any_others(name):
    chain = augmentations_of(Phase(name), {}, photos=False)
    images = (NOISE[:, :, :40, :40] * 255).to(torch.uint8)
    draws = uniform_draws(11, np.arange(4), sum(step.draws for step in chain))

    def run(rows):
        values = images[rows]
        for step in chain:
            values = step(values.float() if step.normalised else values, draws[rows])
        return values

    whole = run([0, 1, 2, 3])
    assert torch.equal(whole, run([0, 1, 2, 3]))
    assert torch.equal(whole[[2, 0]], run([2, 0]))
    assert torch.equal(whole[[3]], run([3]))


def test_whole_pictures_do_not_depend_on_their_neighbours():
    shapes = [(40, 60, 3), (70, 40, 3), (40, 40, 3)]
    pictures = [np.random.default_rng(0).integers(0, 256, shape, np.uint8) for shape in shapes]
    chain = augmentations_of(Phase("random_resized_crop", "rotate", "hue", size=32), {})
    draws = uniform_draws(5, np.arange(3), 2 + chain[0].draws)
    rule = boxes.Whole(rule=None)

    def run(rows):
        canvas = rule.join([rule.cut(pictures[row], 32, draws[row].tolist()) for row in rows])
        return chain[0](torch.from_numpy(canvas.transpose(0, 3, 1, 2)), draws[rows, 2:])

    whole = run([0, 1, 2])
    assert whole.shape == (3, 3, 32, 32)
    assert torch.equal(whole[1], run([1])[0]) and torch.equal(whole[2], run([2, 0])[0])


def test_symmetries_alone_stay_bytes_and_everything_else_is_one_interpolation(monkeypatch):
    images = (NOISE * 255).to(torch.uint8)
    (flip,) = augmentations_of(Phase("flip"), {})
    assert flip(images, np.zeros((4, 1))).dtype == torch.uint8
    flip, colours = augmentations_of(Phase("brightness", "flip"), {})
    assert isinstance(flip, augment.Flip) and colours.draws == 2
    (one,) = augmentations_of(Phase("flip", "rotate", "zoom", "warp", "perspective", "rand_augment"), {})
    calls, plain = [], geometry.functional.grid_sample
    monkeypatch.setattr(geometry.functional, "grid_sample", lambda *given, **options: calls.append(1) or plain(*given, **options))
    one(images, uniform_draws(1, np.arange(4), one.draws))
    assert len(calls) == 1


def test_nothing_chosen_leaves_pixels_alone():
    parts = [(name, {"p": 0.0}) for name in ("rotate", "zoom", "warp", "perspective", "flip")]
    (one,) = augmentations_of(Phase(*parts), {})
    assert (one(NOISE, np.full((4, one.draws), 0.5)) - NOISE).abs().max() < 2e-5
    (one,) = augmentations_of(Phase(*[(name, {"p": 0.0}) for name in ("lighting", "brightness", "contrast", "saturation", "hue")]), {})
    assert torch.equal(one(NOISE, np.full((4, one.draws), 0.5)), NOISE)


def test_shrinking_by_more_than_two_averages_first():
    checks = (torch.arange(128)[:, None] + torch.arange(128)).remainder(2).float().expand(1, 1, 128, 128)
    small = geometry.sampled(checks, torch.eye(3)[None], (32, 32))
    assert (small - 0.5).abs().max() < 1e-6
    close = geometry.sampled(checks, torch.diag(torch.tensor([0.25, 0.25, 1.0]))[None], (32, 32))
    assert float(close.std()) > 0.3, "a quarter of it is as large as the result: nothing to shrink"


def test_shares_of_mixup_are_at_least_a_half():
    images, target = torch.rand(64, 3, 8, 8), torch.arange(64)
    shares = []
    for key in range(20):
        mixed, loss = mix.Mixup()(images, target, lambda scores, wanted: wanted.float(), key)
        shares.append(loss.share)
        own = loss.share.view(-1, 1, 1, 1)
        assert torch.equal(mixed, own * images + (1 - own) * images[loss.other])
        assert torch.equal(loss(mixed, target), loss.share * target + (1 - loss.share) * loss.other)
    every = torch.cat(shares).numpy()
    assert every.min() >= 0.5 and every.max() <= 1
    drawn = np.random.default_rng(0).beta(0.4, 0.4, 100_000)
    assert every.mean() == pytest.approx(np.maximum(drawn, 1 - drawn).mean(), abs=0.02)


def test_cutmix_takes_one_box_and_counts_it():
    images = torch.arange(8.0).view(-1, 1, 1, 1).expand(8, 3, 20, 30)
    for key in range(30):
        mixed, loss = mix.CutMix()(images, torch.arange(8), lambda scores, wanted: wanted.float(), key)
        for item in range(8):
            pasted = float((mixed[item, 0] != item).float().mean())
            assert pasted == pytest.approx(1 - float(loss.share), abs=1e-6) or loss.other[item] == item
            assert set(mixed[item].unique().tolist()) <= {float(item), float(loss.other[item])}


def test_mixing_takes_float_targets():
    target = torch.rand(4, 5)
    _, loss = mix.Mixup()(torch.rand(4, 3, 8, 8), target, lambda scores, wanted: (scores - wanted).abs().mean(1), 3)
    assert loss(torch.zeros(4, 5), target).shape == (4,)


def test_settings_reach_the_objects():
    (one,) = augmentations_of(Phase(("zoom", {"high": 1.5}), Part(name="rotate", settings=(("degrees", 5.0),))), {})
    assert one.parts == (geometry.Zoom(high=1.5), geometry.Rotate(degrees=5.0))
