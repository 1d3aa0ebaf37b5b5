"""Batches and the device: made ahead of the step, or all items there, with the same bits either way."""

import re
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch

import sheer
from conftest import make_photos
from scripts import run_script
from sheer.data import feed, pictures
from sheer.data.photos import Photos, Resident, chunks
from sheer.data.pictures import room_for
from sheer.data.pixels import Crop, Squish, decode
from sheer.errors import DeviceMemoryError, PlanError
from sheer.plan.looks import Look, Room, resident_of
from sheer.plan.plan import Part
from sheer.plan.recipes import Given


def small_net():
    """Your own function, whose source is copied."""
    from torch import nn

    layers = [nn.Conv2d(3, 4, 3, stride=2), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Dropout(0.1), nn.Linear(4, 2))


def test_the_next_batch_is_made_while_a_step_runs_and_never_waited_for_by_a_longer_one():
    order, made = [], [threading.Event() for _ in range(5)]
    done = iter(range(4))

    class Marked(Squish):
        def join(self, cuts):
            number = next(done)
            order.append(f"batch {number}")
            made[number].set()
            return np.stack(cuts)

    photos = Photos(["x"] * 8, lambda path: None, Marked(interpolation="bilinear"), 2, readers=2)
    photos.kept = {item: np.zeros((2, 2, 3), np.uint8) for item in range(8)}
    rows = chunks(np.arange(8), 2, "keep")
    made[4].set()
    for number, _ in enumerate(photos.batches(rows, [np.zeros((2, 2))] * 4)):
        assert made[number + 1].wait(60), "nothing was made while the step ran"
        order.append(f"step {number}")
    assert order == ["batch 0", "batch 1", "step 0", "batch 2", "step 1", "batch 3", "step 2", "step 3"]


@pytest.mark.parametrize("resize", [Crop(fraction=0.8, interpolation="bilinear"), Squish(interpolation="bicubic")], ids=["crop", "squish"])
def test_photographs_on_the_device_have_the_pixels_of_those_that_are_read(photos, resize):
    paths = sorted(str(path) for path in photos.rglob("*.jpg"))
    read = Photos(paths, decode, resize, 24, readers=2)
    there = Resident(read, torch.device("cpu"))
    rows = chunks(np.random.default_rng(0).permutation(len(paths)), 5, "keep")
    draws = [np.random.default_rng(len(row)).random((len(row), 3)) for row in rows]
    pairs = zip(read.batches(rows, draws), there.batches(rows, draws), strict=True)
    assert all(torch.equal(a, b) and a.stride() == b.stride() for a, b in pairs)


LOOK = Look(
    size=224,
    resize=Part(name="crop", settings=(("fraction", 0.875), ("interpolation", "bicubic"))),
    augmentation=(),
    mean=(0.5,) * 3,
    std=(0.5,) * 3,
    origins=(),
)
ROOM = Room(device="cuda", free=80_000_000_000, items=50_000, array_bytes=0)  # 256 x 384 x 3 bytes each: 14.75 GB


@pytest.mark.parametrize(
    ("given", "room", "look", "expected", "why"),
    [
        (None, ROOM, LOOK, True, "50,000 items take about 14.75 GB, and a quarter of the 80.0 GB that are free on cuda is enough"),
        (None, replace(ROOM, items=70_000), LOOK, False, "about 20.64 GB.* is not enough"),
        (None, replace(ROOM, free=20_000_000_000), LOOK, False, "not enough"),
        (False, ROOM, LOOK, False, "you gave it"),
        (True, replace(ROOM, items=70_000), LOOK, True, "you gave it"),
        (None, replace(ROOM, device="cuda:1"), replace(LOOK, resize=Part(name="squish")), True, "7.53 GB.*free on cuda:1"),
        (None, replace(ROOM, device="cpu", free=0), LOOK, False, "cpu shares the machine's memory"),
        (None, replace(ROOM, device="mps", free=0), LOOK, False, "mps shares the machine's memory"),
        (None, ROOM, replace(LOOK, resize=Part(name="pad")), False, "only colour pictures under crop or squish"),
        (None, ROOM, replace(LOOK, mean=(0.5,), std=(0.5,)), False, "only colour pictures"),
        (None, ROOM, replace(LOOK, augmentation=(Part(name="random_resized_crop"),)), False, "only colour pictures"),
        (None, replace(ROOM, array_bytes=10**9), replace(LOOK, resize=Part(name="none")), True, "50,000 items take 1.00 GB"),
        (None, replace(ROOM, array_bytes=10**11), replace(LOOK, resize=Part(name="none")), False, "100.00 GB.*not enough"),
    ],
)
def test_items_lie_on_the_device_where_they_fit(given, room, look, expected, why):
    found, origin = resident_of(given, room, look)
    assert found is expected and origin.field == "resident" and re.search(why, origin.reason)


def test_what_cannot_be_cut_there_or_does_not_fit_is_refused_with_what_to_do(photos):
    learn = sheer.learner(sheer.images(photos), small_net, size=32, resize="pad", resident=True, quiet=True)
    with pytest.raises(PlanError, match=r"resident=True: the pictures cannot lie on the device: only colour.*Leave resident away"):
        learn.plan(sheer.recipes.one_cycle(1))
    with (
        pytest.raises(DeviceMemoryError, match=r"The 12,000 items do not all fit on cuda \(no room\)\. Give .*resident=False"),
        room_for(12_000, torch.device("cuda")),
    ):
        raise torch.OutOfMemoryError("no room")


def test_residence_changes_no_bit_and_the_script_has_it_too(tmp_path):
    photos = make_photos(tmp_path / "photos", {"blue": 21, "red": 30})
    options = {"batch_size": 8, "quiet": True, "cache": False}
    recipe = (*sheer.recipes.progressive(1, sizes=(24, 32)), *sheer.recipes.one_cycle(1))
    plain = sheer.learner(sheer.images(photos), small_net, **options).run(recipe)
    learn = sheer.learner(sheer.images(photos), small_net, resident=True, out=tmp_path / "run", **options).run(recipe)
    weights = [row.weights_sha256 for row in plain.history]
    assert [row.weights_sha256 for row in learn.history] == weights
    assert all(phase.resident for phase in learn.plan().phases) and learn.plan().short_hash() == plain.plan().short_hash()
    assert sheer.Plan.from_json(learn.plan().to_json()) == learn.plan() and "  on the device  [you: you gave it]" in str(learn.plan())
    script = sheer.eject(tmp_path / "run", tmp_path / "train.py", objects={"small_net": small_net})
    assert script.read_text().count("Resident(photos, device)") == 1
    done = run_script(script, photos, "--out", tmp_path / "again")
    assert done.returncode == 0, done.stderr
    rows = (tmp_path / "again" / "history.csv").read_text().splitlines()[1:]
    assert [row.rpartition(",")[2] for row in rows] == weights
    again = sheer.learner(sheer.images(photos), small_net, out=tmp_path / "run", **options)
    assert [row.weights_sha256 for row in again.run(recipe).history] == weights  # the same run: already done


def test_items_in_memory_lie_there_once_for_all_phases(monkeypatch):
    inputs, made, kind = torch.randint(0, 255, (40, 3, 8, 8), dtype=torch.uint8), [], feed.Arrays
    monkeypatch.setattr(feed, "Arrays", lambda arrays, pinned: made.append(arrays) or kind(arrays, pinned))
    recipe, weights = (
        [replace(draft, given=Given(batch_size=size)) for draft, size in zip(sheer.recipes.fine_tune(1), (4, 8), strict=True)],
        [],
    )
    for resident in (False, True):
        learn = sheer.learner(sheer.arrays(inputs, [0, 1] * 20), small_net, quiet=True, resident=resident).run(recipe)
        weights.append(learn.history[-1].weights_sha256)
    assert weights[0] == weights[1]
    assert len(made) == 2 + 3  # one a feed, and for the second run one on the device


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_cuda_items_lie_there_by_themselves_with_the_same_bits_as_copied_from_pinned_memory(photos):
    hashes = []
    for resident in (None, False):
        learn = sheer.learner(sheer.images(photos), small_net, size=32, batch_size=8, precision="float32", resident=resident, quiet=True)
        hashes.append([row.weights_sha256 for row in learn.fine_tune(1).history])
        assert all(phase.resident is (resident is None) for phase in learn.plan().phases)
    assert hashes[0] == hashes[1]


def test_the_number_of_reading_threads_is_found_while_reading_with_the_same_result(photos, monkeypatch):
    names = sorted(str(path.relative_to(photos)) for path in photos.rglob("*.jpg"))
    crop = Part(name="crop", settings=(("fraction", 0.8), ("interpolation", "bilinear")))
    found = []
    for readers, most in ((None, 8), (2, 8), (None, 2)):
        monkeypatch.setattr(pictures, "cores", lambda most=most: most)
        monkeypatch.setattr(pictures, "SHARE", 1)
        kept = pictures.Pictures(str(photos), names, None, readers)
        found.append(kept.read(crop, 24, range(len(names))))
        notices = [text for text in kept.fresh_notices() if "are read by" in text]
        assert len(notices) == (readers is None and most == 8)
        assert (
            kept.readers == 2
            if not notices
            else re.fullmatch(
                rf"Photographs are read by {kept.readers} threads \(a second: \d+ with 2, \d+ with 4(, \d+ with 8)?\)\.", notices[0]
            )
        )
        assert kept.photos(crop, 24).readers == kept.readers
    assert found[0] == found[1] == found[2]
