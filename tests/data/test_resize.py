"""Resize methods: geometry by hand, settings that are named, and the same plan in the ejected script (tests/test_eject.py)."""

import numpy as np
import pytest
from PIL import Image

import sheer
from conftest import Small
from sheer.data.pixels import RESIZES, Crop, Pad, Squish
from sheer.errors import PlanError
from sheer.plan.looks import RESIZE_SETTINGS
from sheer.plan.plan import Part

ROW = np.repeat(np.arange(4, dtype=np.uint8)[None, :, None], 3, 2)


def test_the_plan_knows_every_method_and_its_settings():
    assert set(RESIZE_SETTINGS) == set(RESIZES)
    for name, settings in RESIZE_SETTINGS.items():
        assert set(settings) == set(RESIZES[name].__dataclass_fields__)


def test_pad_goes_on_with_the_mirror_image():
    three = np.repeat(ROW, 3, 0)[:, :3]
    padded = Pad(padding="reflection", interpolation="bilinear").cut(three, 7, (0.5, 0.5))
    assert padded[3, :, 0].tolist() == [2, 1, 0, 1, 2, 1, 0]


@pytest.mark.parametrize(("place", "top"), [(0.0, 0), (0.5, 2), (0.999, 4)])
def test_pad_with_zeros_at_a_place(place, top):
    white = np.full((2, 6, 3), 255, np.uint8)
    square = Pad(padding="zeros", interpolation="bilinear").cut(white, 6, (0.3, place))
    assert np.flatnonzero(square[:, 0, 0]).tolist() == [top, top + 1] and square.shape == (6, 6, 3)


def test_presize_keeps_the_shape_but_for_squish():
    picture = Image.new("RGB", (80, 40))
    assert Crop(fraction=0.5, interpolation="bicubic").presize(picture, 20).shape == (40, 80, 3)
    assert Pad(padding="zeros", interpolation="bicubic").presize(picture, 20).shape == (10, 20, 3)
    assert Squish(interpolation="bicubic").presize(picture, 20).shape == (20, 20, 3)


@pytest.mark.parametrize(
    ("resize", "shown", "by"),
    [
        (None, "crop(fraction=", "weights"),
        ("pad", "pad(padding='reflection', interpolation=", "you"),
        ("squish", "squish(interpolation=", "you"),
        (Part(name="pad", settings=(("padding", "zeros"),)), "pad(padding='zeros', interpolation=", "you"),
        (
            Part(name="crop", settings=(("fraction", 1.0), ("interpolation", "lanczos"))),
            "crop(fraction=1.0, interpolation='lanczos')",
            "you",
        ),
    ],
)
def test_the_plan_says_how_and_why(photos, resize, shown, by):
    phase = sheer.learner(sheer.images(photos), Small, resize=resize, size=32, batch_size=8).plan(sheer.recipes.one_cycle(1)).phases[0]
    assert str(phase.resize).startswith(shown)
    origin = next(origin for origin in phase.origins if origin.field == "resize")
    assert origin.by == by and origin.reason


@pytest.mark.parametrize(
    ("resize", "message"),
    [
        ("zoom", "'zoom' is no resize method. Allowed: 'crop', 'pad', 'squish'"),
        (Part(name="pad", settings=(("fraction", 1.0),)), "has no setting 'fraction'"),
        (Part(name="pad", settings=(("padding", "zero"),)), "Did you mean 'zeros'"),
        (Part(name="crop", settings=(("fraction", 1.5),)), "above 0 and at most 1"),
        (Part(name="squish", settings=(("interpolation", "cubic"),)), "Did you mean 'bicubic'"),
    ],
)
def test_what_is_not_allowed(photos, resize, message):
    with pytest.raises(PlanError) as caught:
        sheer.learner(sheer.images(photos), Small, resize=resize, size=32, batch_size=8).plan(sheer.recipes.one_cycle(1))
    assert message in str(caught.value)
