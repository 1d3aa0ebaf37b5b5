"""The cache of presized photographs: the same pixels with and without, never stale, bounded, shared by processes."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import sheer
from conftest import Small, make_photos
from sheer.cli.main import main
from sheer.data import cache as cache_module
from sheer.data import pictures as pictures_module
from sheer.data.cache import MARK, Cache, Shelf, default_folder, read_index
from sheer.data.pictures import Pictures, resize_of
from sheer.data.pixels import decode
from sheer.errors import DataError
from sheer.plan.plan import Part

CROP = Part(name="crop", settings=(("fraction", 0.875), ("interpolation", "bilinear")))
SQUISH = Part(name="squish", settings=(("interpolation", "bilinear"),))


@pytest.fixture
def folder(tmp_path):
    made = make_photos(tmp_path / "photos", {"blue": 10, "red": 14})
    time.sleep(0.06)  # so that the files are older than the steps of the file system's clock
    return made


@pytest.fixture
def decoded(monkeypatch):
    """How many pictures were decoded."""
    calls = []

    def counted(file):
        calls.append(file)
        return decode(file)

    monkeypatch.setattr(pictures_module, "decode", counted)
    return calls


def learner_of(folder, cache, **options):
    return sheer.learner(sheer.images(folder), Small, quiet=True, size=32, batch_size=4, cache=cache, **options)


def hashes(learn):
    return [row.weights_sha256 for row in learn.history]


def names_of(folder):
    return tuple(sorted(str(path.relative_to(folder)) for path in folder.rglob("*.*")))


def test_the_same_history_with_a_cold_and_a_warm_cache_and_without(folder, tmp_path, decoded):
    cache = Cache(folder=tmp_path / "cache")
    cold = learner_of(folder, cache).fit(2)
    assert len(decoded) == 24
    warm = learner_of(folder, cache).fit(2)
    assert len(decoded) == 24
    without = learner_of(folder, False).fit(2)
    assert len(decoded) == 48
    assert hashes(cold) == hashes(warm) == hashes(without)
    assert cold._record().data_sha256 == warm._record().data_sha256 == without._record().data_sha256 != ""
    assert np.array_equal(cold.validate().outputs, without.validate().outputs)


@pytest.mark.parametrize("cached", [True, False])
def test_validation_and_further_fits_decode_nothing_again(folder, tmp_path, decoded, cached):
    learn = learner_of(folder, Cache(folder=tmp_path / "cache") if cached else False).fit(1)
    learn.validate()
    learn.fit_one_cycle(2)
    learn.predictions("train")
    assert len(decoded) == 24


def test_what_validation_has_read_the_fit_does_not_read_again(folder, tmp_path, decoded):
    learn = learner_of(folder, Cache(folder=tmp_path / "cache"))
    learn.validate()
    assert len(decoded) == len(learn.data.valid)
    learn.fit(1)
    assert len(decoded) == 24


def test_kept_pixels_are_those_of_a_new_reading_and_cannot_be_written(folder, tmp_path):
    names = names_of(folder)
    for _ in range(2):
        pictures = Pictures(str(folder), names, Cache(folder=tmp_path / "cache"), 2)
        pictures.read(CROP, 40, range(len(names)))
        photos = pictures.photos(CROP, 40)
        assert sorted(photos.kept) == list(range(len(names)))
        for item, name in enumerate(names):
            wanted = resize_of(CROP).presize(decode(str(folder / name)), 40)
            assert np.array_equal(photos.read(item), wanted)
            with pytest.raises(ValueError, match="read-only"):
                photos.read(item)[0] = 0


def test_a_changed_file_of_the_same_size_and_time_is_never_taken_from_the_cache(folder, tmp_path, decoded):
    cache, names = Cache(folder=tmp_path / "cache"), names_of(folder)
    target = folder / names[3]
    Image.fromarray(np.zeros((40, 48, 3), np.uint8)).save(target, format="BMP")
    time.sleep(0.06)
    same_session = Pictures(str(folder), names, cache, 2)
    before, first = os.stat(target), same_session.read(CROP, 32, range(len(names)))
    Image.fromarray(np.full((40, 48, 3), 200, np.uint8)).save(target, format="BMP")
    os.utime(target, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert os.stat(target).st_size == before.st_size and os.stat(target).st_mtime_ns == before.st_mtime_ns
    time.sleep(0.06)
    for pictures in (Pictures(str(folder), names, cache, 2), same_session):
        second = pictures.read(CROP, 32, range(len(names)))
        assert pictures.photos(CROP, 32).read(3).min() == 200
        assert [one == two for one, two in zip(first, second, strict=True)].count(False) == 1
    assert len(decoded) == len(names) + 1


def test_a_file_that_has_just_been_written_is_not_kept_on_disk(folder, tmp_path, decoded, monkeypatch):
    monkeypatch.setattr(cache_module, "SETTLED_NS", 10**15)
    assert hashes(learner_of(folder, Cache(folder=tmp_path / "cache")).fit(1)) == hashes(learner_of(folder, False).fit(1))
    assert Cache(folder=tmp_path / "cache").files() == []


@pytest.mark.parametrize("change", ["size", "resize", "decode rule", "folder"])
def test_another_transform_or_data_set_has_entries_of_its_own(folder, tmp_path, decoded, change, monkeypatch):
    cache, names = Cache(folder=tmp_path / "cache"), names_of(folder)
    Pictures(str(folder), names, cache, 2).read(CROP, 32, range(4))
    if change == "decode rule":
        monkeypatch.setattr(cache_module, "decode_version", lambda: "another")
    if change == "folder":
        folder = folder.rename(tmp_path / "moved")
    Pictures(str(folder), names, cache, 2).read(SQUISH if change == "resize" else CROP, 48 if change == "size" else 32, range(4))
    assert len(decoded) == 8 and len(cache.files()) == 2


def test_a_new_file_is_added_to_what_is_kept(folder, tmp_path, decoded):
    cache = Cache(folder=tmp_path / "cache")
    learner_of(folder, cache).fit(1)
    Image.new("RGB", (40, 40)).save(folder / "red" / "new.jpg")
    time.sleep(0.06)
    learner_of(folder, cache).fit(1)
    assert len(decoded) == 25 and len(cache.files()) == 2
    learner_of(folder, cache).fit(1)
    assert len(decoded) == 25 and sum(entry.pictures for entry in cache.entries()) == 25


def test_an_unreadable_file_is_named_before_the_run_folder_is_made(folder, tmp_path):
    cache = Cache(folder=tmp_path / "cache")
    learner_of(folder, cache).fit(1)
    (folder / "red" / "003.jpg").write_bytes(b"hello")
    with pytest.raises(DataError, match=r"1 of 24 files cannot be read as photographs: red/003.jpg"):
        learner_of(folder, cache, out=tmp_path / "run").fit(1)
    assert not (tmp_path / "run").exists()
    (folder / "red" / "003.jpg").unlink()
    names = (*names_of(folder), "red/003.jpg")
    with pytest.raises(DataError, match="No such file"):
        Pictures(str(folder), names, cache, 2).read(CROP, 32, range(24))


def test_the_same_file_twice_among_the_items(folder, tmp_path):
    names = (*names_of(folder), names_of(folder)[0])
    for _ in range(2):
        pictures = Pictures(str(folder), names, Cache(folder=tmp_path / "cache"), 2)
        found = pictures.read(CROP, 32, range(len(names)))
        assert found[0] == found[-1] and len(pictures.photos(CROP, 32).kept) == 25


@pytest.mark.parametrize("harm", ["cut", "empty", "other", "unfinished", "list", "keys", "rows"])
def test_a_damaged_file_of_the_cache_is_as_if_it_were_not_there(folder, tmp_path, decoded, harm):
    cache = Cache(folder=tmp_path / "cache")
    wanted = hashes(learner_of(folder, cache).fit(1))
    (kept,) = cache.files()
    whole = kept.read_bytes()
    ends = {"list": b"[]", "keys": b"{}", "rows": b'{"data_set": "a", "transform": "b", "pictures": [5]}'}
    content = {"cut": whole[: len(whole) // 2], "empty": b"", "other": b"x" * 999, "unfinished": whole[300:]}
    content |= {name: index + len(index).to_bytes(8, "little") + MARK for name, index in ends.items()}
    kept.write_bytes(content[harm])
    assert read_index(kept) is None
    assert hashes(learner_of(folder, cache).fit(1)) == wanted and len(decoded) == 48
    assert kept.read_bytes() == whole


def test_the_size_is_bounded_and_what_was_used_longest_ago_goes_first(folder, tmp_path, decoded):
    room, names = Cache(folder=tmp_path / "cache"), names_of(folder)
    everything = range(len(names))
    Pictures(str(folder), names, room, 2).read(CROP, 32, everything)
    one = sum(path.stat().st_size for path in room.files())
    Pictures(str(folder), names, room, 2).read(CROP, 33, everything)
    Pictures(str(folder), names, room, 2).read(CROP, 32, everything)
    narrow = Cache(folder=tmp_path / "cache", limit=int(2.9 * one))
    Pictures(str(folder), names, narrow, 2).read(CROP, 34, everything)
    assert [entry.transform.split()[-2] for entry in narrow.entries()] == ["34", "32"]
    assert sum(entry.bytes for entry in narrow.entries()) <= narrow.limit


def test_what_the_cache_has_no_room_for_is_kept_in_memory(folder, tmp_path, decoded):
    small = Cache(folder=tmp_path / "cache", limit=30_000)
    learn = learner_of(folder, small).fit(2)
    learn.validate()
    assert len(decoded) == 24 and hashes(learn) == hashes(learner_of(folder, False).fit(2))
    kept = sum(entry.pictures for entry in small.entries())
    assert 0 < kept < 24 and sum(path.stat().st_size for path in small.files()) <= small.limit


@pytest.mark.parametrize("where", ["folder", "write", "rename"])
def test_a_cache_that_cannot_be_written_is_said_and_training_goes_on(folder, tmp_path, capsys, monkeypatch, where):
    def full(*args):
        raise OSError(28, "No space left on device")

    place = tmp_path / "cache"
    if where == "folder":
        place.write_text("a file")
    elif where == "write":
        monkeypatch.setattr(Shelf, "put", full)
    else:
        monkeypatch.setattr(cache_module.os, "replace", full)
    learn = sheer.learner(sheer.images(folder), Small, size=32, batch_size=4, cache=Cache(folder=place)).fit(1)
    said = capsys.readouterr().out
    assert said.count("cannot be written") == 1 and ("No space left" in said or "Not a directory" in said)
    monkeypatch.undo()
    assert hashes(learn) == hashes(learner_of(folder, False).fit(1))
    assert where == "folder" or Cache(folder=place).files() == []


TWO = """
import sys, time
from sheer.data.cache import Cache
from sheer.data.pictures import Pictures
from sheer.plan.plan import Part
root, place, start, *names = sys.argv[1:]
pictures = Pictures(root, names, Cache(folder=place), 2)
time.sleep(max(0, float(start) - time.time()))
pictures.read(Part(name="squish", settings=(("interpolation", "bilinear"),)), 64, range(len(names)))
print(len(pictures.photos(Part(name="squish", settings=(("interpolation", "bilinear"),)), 64).kept))
"""


def test_two_processes_may_build_it_at_once(folder, tmp_path, decoded):
    names, start = names_of(folder), str(time.time() + 8)
    command = [sys.executable, "-c", TWO, str(folder), str(tmp_path / "cache"), start, *names]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert [process.communicate(timeout=120)[0].strip() for process in running] == ["24"] * 3
    cache = Cache(folder=tmp_path / "cache")
    assert [path.suffix for path in cache.files()] == [".pixels"] and cache.entries()[0].pictures == 24
    pictures = Pictures(str(folder), names, cache, 2)
    pictures.read(SQUISH, 64, range(24))
    assert decoded == []
    for item, name in enumerate(names):
        assert np.array_equal(pictures.photos(SQUISH, 64).read(item), resize_of(SQUISH).presize(decode(str(folder / name)), 64))


def test_clearing_while_it_is_used(folder, tmp_path, decoded):
    cache = Cache(folder=tmp_path / "cache")
    learn = learner_of(folder, cache).fit(1)
    assert cache.clear() > 0 and cache.files() == [] and cache.entries() == []
    assert hashes(learn.fit(1)) == hashes(learner_of(folder, False).fit(1).fit(1))


def test_a_half_written_file_of_a_killed_process_is_removed_in_its_turn(folder, tmp_path):
    cache = Cache(folder=tmp_path / "cache", limit=200_000)
    left = tmp_path / "cache" / "presized" / "0123" / "new.pixels.1.2"
    left.parent.mkdir(parents=True)
    left.write_bytes(bytes(150_000))
    os.utime(left, (1, 1))
    learner_of(folder, cache).fit(1)
    assert not left.parent.exists() and len(cache.files()) == 1


def test_several_frames_and_wrong_names_are_said_once_not_a_line_a_file(folder, tmp_path, capsys):
    frames = [Image.new("RGB", (40, 40), colour) for colour in ("red", "blue")]
    for name in ("a.gif", "b.gif"):
        frames[0].save(folder / "red" / name, save_all=True, append_images=frames[1:])
    frames[0].save(folder / "blue" / "c.jpg", format="PNG")
    time.sleep(0.06)
    for cache in (Cache(folder=tmp_path / "cache"), Cache(folder=tmp_path / "cache"), False):
        learn = sheer.learner(sheer.images(folder), Small, size=32, batch_size=4, cache=cache).fit(1).fit(1)
        said = capsys.readouterr().out
        assert said.count("2 files hold several frames or pages, such as red/a.gif: the first of each is used.") == 1
        assert said.count("1 file is not what the name says, such as blue/c.jpg, which is PNG: read by content.") == 1
    learner_of(folder, False).fit(1)
    assert "frames" not in capsys.readouterr().out
    summary = learn.data.summary()
    assert "note: 2 files hold several frames or pages, such as red/a.gif" in summary and "blue/c.jpg, which is PNG" in summary


def test_the_command_lists_and_clears(folder, tmp_path, capsys, cache_folder):
    options = [str(folder), "--model", "resnet18", "--weights", "none", "--size", "32", "--batch-size", "4", "--epochs", "1"]
    assert main(["cache", "--clear"]) == 0
    assert main(["train", *options, "--out", str(tmp_path / "one"), "--no-cache"]) == 0
    assert Cache().files() == []
    assert main(["train", *options, "--out", str(tmp_path / "two")]) == 0
    capsys.readouterr()
    assert main(["cache"]) == 0
    listed = capsys.readouterr().out
    assert os.path.realpath(folder) in listed and "crop(" in listed and " 24 " in listed and str(cache_folder) in listed
    assert main(["cache", "--clear"]) == 0 and "MiB removed" in capsys.readouterr().out
    assert main(["cache"]) == 0 and "0.0 MiB of at most 4,096" in capsys.readouterr().out
    assert main(["cache", "--folder", str(tmp_path / "none")]) == 0
    rows = [[line.split(",")[-1] for line in (tmp_path / run / "history.csv").read_text().splitlines()] for run in ("one", "two")]
    assert rows[0] == rows[1]


def test_where_it_lies(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_folder() == tmp_path / "sheer"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    for platform, inside in {"linux": ".cache/sheer", "darwin": "Library/Caches/sheer"}.items():
        monkeypatch.setattr(cache_module.sys, "platform", platform)
        assert default_folder() == tmp_path / inside

    def homeless():
        raise RuntimeError("no home")

    monkeypatch.setattr(Path, "home", homeless)
    with pytest.raises(DataError, match="pass cache=False"):
        default_folder()


def test_predictions_for_files_are_not_kept(folder, tmp_path, decoded):
    learn = learner_of(folder, Cache(folder=tmp_path / "cache"))
    learn.predict(folder / "red")
    assert Cache(folder=tmp_path / "cache").files() == []


def test_other_data_has_other_photographs(folder, tmp_path):
    learn = learner_of(folder, Cache(folder=tmp_path / "cache")).fit(1)
    learn.data = sheer.images(make_photos(tmp_path / "others", {"blue": 5, "red": 5}))
    assert learn.validate().items == tuple(learn.data.paths[item] for item in learn.data.valid)
