"""Faults 10 to 14 and 20: files that cannot be read, odd files and names, readers that fail or hang. Threads read; there are no workers."""

import csv
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import sheer
from conftest import Small, make_photos
from scripts import run_script
from sheer.cli.main import main
from sheer.data import reading
from sheer.data.preflight import KINDS, verdict
from sheer.data.reading import in_threads
from sheer.errors import DataError
from test_eject import rows


def learner(folder, **options):
    data = sheer.images(folder, **{name: options.pop(name) for name in ("bad_files",) if name in options})
    return sheer.learner(data, options.pop("model", Small), size=32, batch_size=4, quiet=True, **options)


@pytest.fixture
def spoiled(tmp_path):
    """Photographs of two classes, and one of each kind of bad file among them."""
    folder = make_photos(tmp_path / "photos", {"a": 10, "b": 10}, side=(120, 90))
    whole = (folder / "a" / "001.jpg").read_bytes()
    (folder / "a" / "001.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "a" / "003.jpg").write_bytes(b"")
    (folder / "b" / "002.jpg").write_bytes(os.urandom(500))
    (folder / "b" / "005.jpg").write_text("hello")
    (folder / "b" / "notes.txt").write_text("hello")
    (folder / "a" / "gone.jpg").symlink_to(folder / "nowhere.jpg")
    (folder / "a" / "loop.jpg").symlink_to(folder / "a" / "loop.jpg")
    os.mkfifo(folder / "a" / "pipe.jpg")
    Image.new("1", (20_000, 10_000)).save(folder / "b" / "bomb.png")
    Image.open(folder / "b" / "000.jpg").save(folder / "b" / "really.jpg", format="PNG")
    return folder


FOUND = {
    "a/001.jpg": "damaged",
    "a/003.jpg": "empty",
    "a/gone.jpg": "link",
    "a/loop.jpg": "link",
    "a/pipe.jpg": "no file",
    "b/002.jpg": "damaged",
    "b/005.jpg": "damaged",
    "b/bomb.png": "too large",
    "b/notes.txt": "name",
    "b/really.jpg": "wrong suffix",
}


def test_10_check_lists_every_bad_file_with_its_reason(spoiled, tmp_path, capsys):
    found = sheer.check(spoiled)
    assert {one.file: one.kind for one in found.problems} == FOUND and set(FOUND.values()) <= set(KINDS)
    assert found.files == 26 and len(found.unusable) == 9 and all(one.reason for one in found.problems)
    assert main(["check", str(spoiled), "--csv", str(tmp_path / "bad.csv")]) == 1
    shown = capsys.readouterr().out
    assert "26 files, 9 cannot be used, 1 oddities" in shown and all(name in shown for name in FOUND)
    with (tmp_path / "bad.csv").open(newline="") as file:
        assert {row["file"]: row["kind"] for row in csv.DictReader(file)} == FOUND
    assert main(["check", str(make_photos(tmp_path / "good", {"a": 2}))]) == 0


def test_10_raise_stops_before_the_first_epoch(spoiled):
    with pytest.raises(DataError, match=r"notes\.txt is no photograph by its name"):
        sheer.images(spoiled)
    for name in ("b/notes.txt", "a/gone.jpg", "a/loop.jpg", "a/pipe.jpg"):
        (spoiled / name).unlink()
    learn = learner(spoiled)
    with pytest.raises(DataError, match=r"5 of 22 files cannot be read.*a/001\.jpg \(item 1: .*bad_files='skip'"):
        learn.fit(1)
    assert not learn.history


def test_10_skip_leaves_them_out_says_so_and_keeps_every_label(spoiled, tmp_path):
    learn = learner(spoiled, bad_files="skip", out=tmp_path / "run")
    data = learn.data
    assert set(data.plan.skipped) == set(FOUND) - {"b/really.jpg"} and data.plan.bad_files == "skip"
    assert not set(data.paths) & set(data.plan.skipped) and len(data.paths) == 17
    assert all(data.classes[target] == path[0] for target, path in zip(data.targets, data.paths, strict=True))
    assert "9 files cannot be used and are left out" in str(learn.plan()) and "9: a/001.jpg" in str(learn.plan())
    learn.fit(1)
    with (tmp_path / "run" / "skipped.csv").open(newline="") as file:
        assert {row["file"] for row in csv.DictReader(file)} == set(data.plan.skipped)
    again = sheer.load(tmp_path / "run", data=sheer.images(spoiled, bad_files="skip"), objects={"Small": Small})
    assert again.plan() == learn.plan()


@pytest.mark.parametrize("source", ["folders", "parts", "table"])
def test_10_the_script_leaves_out_the_same_files(spoiled, tmp_path, source):
    root, given = spoiled, spoiled
    if source == "parts":
        root = given = tmp_path / "parts"
        root.mkdir()
        spoiled.rename(root / "train")
        make_photos(root, {"a": 3, "b": 3}, part="valid")
        (root / "valid" / "a" / "000.jpg").write_bytes(b"")
    elif source == "table":
        names = sorted(path.relative_to(spoiled).as_posix() for path in spoiled.rglob("*.*"))
        given = tmp_path / "t.csv"
        given.write_text("file,kind\n" + "".join(f"photos/{name},{name[0]}\n" for name in names))
        root = tmp_path
    data = sheer.images(given, bad_files="skip")
    learn = sheer.learner(data, Small, size=32, batch_size=4, quiet=True, out=tmp_path / "run").fit(1)
    assert len(data.skipped) == 9 + (source == "parts")
    script = sheer.eject(tmp_path / "run", tmp_path / "train.py", objects={"Small": Small})
    done = run_script(script, root, "--out", tmp_path / "again")
    assert done.returncode == 0, done.stderr
    assert rows(tmp_path / "run" / "history.csv") == rows(tmp_path / "again" / "history.csv") and len(learn.history) == 1


def test_10_positions_mean_the_items_of_the_source(spoiled, tmp_path):
    names = [f"photos/a/00{n}.jpg" for n in range(6)] + [f"photos/b/00{n}.jpg" for n in (0, 1, 3, 4)]
    (tmp_path / "t.csv").write_text("file,kind\n" + "".join(f"{name},{name[7]}\n" for name in names))
    data = sheer.images(tmp_path / "t.csv", bad_files="skip", valid=[3, 4, 7, 9])
    assert [data.paths[item] for item in data.valid] == ["photos/a/004.jpg", "photos/b/001.jpg", "photos/b/004.jpg"]


def test_10_a_class_is_never_left_out_and_policies_have_names(spoiled):
    for path in (spoiled / "b").iterdir():
        path.write_bytes(b"")
    with pytest.raises(DataError, match=r"no file of b can be read .*a class is not left out"):
        sheer.images(spoiled, bad_files="skip")
    with pytest.raises(DataError, match=r"bad_files='ignore' is no policy"):
        sheer.images(spoiled, bad_files="ignore")


def test_10_what_was_read_once_is_not_read_again_unless_it_changed(tmp_path, monkeypatch):
    folder = make_photos(tmp_path / "photos", {"a": 4, "b": 4})
    time.sleep(0.1)
    looked = []
    monkeypatch.setattr("sheer.data.preflight.verdict", lambda path: looked.append(path) or verdict(path))
    cache = sheer.Cache(folder=tmp_path / "cache")
    assert not sheer.check(folder, cache=cache).problems and len(looked) == 8
    assert not sheer.check(folder, cache=cache).problems and len(looked) == 8
    (folder / "a" / "001.jpg").write_bytes(b"")
    assert [one.file for one in sheer.check(folder, cache=cache).problems] == ["a/001.jpg"] and len(looked) == 9
    assert sheer.check(folder, cache=False).problems and len(looked) == 17
    cache.clear()
    assert sheer.check(folder, cache=cache).problems and len(looked) == 25


def save_odd(kind, path):
    """A picture of a kind that decodes by a rule of its own; returns its file."""
    generator = np.random.default_rng(0)
    colours = Image.fromarray(generator.integers(0, 255, (40, 50, 3), dtype=np.uint8))
    frames = {"save_all": True, "append_images": [colours.rotate(180)]}
    exif = Image.Exif()
    exif[0x0112] = 6
    table = {
        "cmyk": ("jpg", colours.convert("CMYK"), {}),
        "16-bit grey": ("png", Image.fromarray(np.arange(0, 64000, 32, dtype=np.uint16).reshape(40, 50)), {}),
        "1-bit": ("png", colours.convert("1"), {}),
        "palette and alpha": ("png", colours.convert("P"), {"transparency": 3}),
        "grey and alpha": ("png", colours.convert("LA"), {}),
        "floats": ("tif", Image.fromarray(np.linspace(-1, 7, 2000, dtype=np.float32).reshape(40, 50)), {}),
        "gif": ("gif", colours, frames),
        "webp": ("webp", colours, frames | {"lossless": True}),
        "apng": ("png", colours, frames),
        "turned": ("jpg", colours, {"exif": exif}),
    }
    suffix, picture, options = table[kind]
    picture.save(path.with_suffix(f".{suffix}"), **options)


ODD = ["cmyk", "16-bit grey", "1-bit", "palette and alpha", "grey and alpha", "floats", "gif", "webp", "apng", "turned"]


@pytest.mark.parametrize("kind", ODD)
def test_11_training_validation_prediction_script_and_bundle_decode_alike(tmp_path, kind):
    """The golden arrays of each kind are in tests/data/test_decode.py; here every way to the network gives the same pixels."""
    for number in range(4):
        for label in "ab":
            (tmp_path / "photos" / label).mkdir(parents=True, exist_ok=True)
            save_odd(kind, tmp_path / "photos" / label / f"{number}.x")
    learn = learner(tmp_path / "photos", model=Small, out=tmp_path / "run").fit(1)
    paths = [str(tmp_path / "photos" / path) for path in learn.data.paths]
    wanted = learn.predict(paths).outputs
    assert np.abs(learn.predictions("train").outputs - wanted[learn.data.train]).max() < 1e-6
    assert np.abs(learn.validate().outputs - wanted[learn.data.valid]).max() < 1e-6
    predictor = sheer.load_bundle(learn.export(tmp_path / "x.sheer"), objects={"Small": Small})
    assert np.abs(predictor.predict(paths).outputs - wanted).max() < 1e-6
    if kind in ("16-bit grey", "turned", "palette and alpha"):
        script = sheer.eject(tmp_path / "run", tmp_path / "train.py", objects={"Small": Small})
        done = run_script(script, tmp_path / "photos", "--out", tmp_path / "again")
        assert done.returncode == 0 and rows(tmp_path / "run" / "history.csv") == rows(tmp_path / "again" / "history.csv"), done.stderr


BOMB = """
import resource, sys, sheer
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
found = sheer.check(sys.argv[1], cache=False)
print([one.kind for one in found.problems], (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.parametrize(("size", "kind"), [((12_000, 12_000), "too large"), ((1, 100_000), "too large"), ((1, 1), "")])
def test_12_bombs_and_odd_shapes(tmp_path, size, kind):
    folder = make_photos(tmp_path / "photos", {"a": 3, "b": 3})
    Image.new("L", size).save(folder / "a" / "odd.png", optimize=True)
    assert (folder / "a" / "odd.png").stat().st_size < 200_000
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", BOMB, str(folder)], capture_output=True, text=True, check=True)
    kinds, grown = done.stdout.rsplit(" ", 1)
    assert kinds == (f"['{kind}']" if kind else "[]")
    assert int(grown) < 100, f"{grown} MiB more memory"


def test_12_a_file_of_gigabytes_is_not_read_at_once(tmp_path):
    with (tmp_path / "x.jpg").open("wb") as file:
        file.truncate(5 << 30)
    assert verdict(str(tmp_path / "x.jpg"))[0][0] == "too large"


def test_13_a_file_that_the_system_keeps_to_itself():
    place = Path(tempfile.mkdtemp())  # pytest's own folders are closed to the user that the child becomes
    folder = make_photos(place / "photos", {"a": 4, "b": 4})
    (folder / "a" / "002.jpg").chmod(0)
    place.chmod(0o755)
    child = (
        "import os, sys\nfrom PIL import Image\nfrom sheer.data.preflight import check\nImage.init()\n"
        "if os.geteuid() == 0: os.seteuid(65534)\nprint(check(sys.argv[1], cache=False))"
    )
    done = subprocess.run([sys.executable, "-c", child, str(folder)], capture_output=True, text=True, check=False)
    shutil.rmtree(place)
    assert "a/002.jpg" in done.stdout and "access" in done.stdout and "Permission denied" in done.stdout, done.stderr


def test_13_a_folder_that_leads_back_to_itself_ends(tmp_path):
    folder = make_photos(tmp_path / "photos", {"a": 3, "b": 3})
    (folder / "a" / "again").symlink_to(folder)
    assert sheer.check(folder).files == 6 and len(sheer.images(folder).paths) >= 6


def test_13_a_file_lost_in_the_middle_of_a_run_is_named_with_its_item(tmp_path):
    folder = make_photos(tmp_path / "photos", {"a": 8, "b": 8})
    learn = learner(folder, cache=False)

    class Lose:
        def on_start(self, position):
            photos = learn._album.of(learn.data)
            for size in photos._sizes.values():
                size.photos.kept.clear()
                size.photos.keep_bytes = 0
            (folder / "a" / "003.jpg").unlink()

        def __getattr__(self, name):
            return lambda *given: None

    with pytest.raises(DataError, match=r"a/003\.jpg \(item 3: .*No such file.*a file was changed or lost while it was in use"):
        learn.fit(1, callbacks=[Lose()])


def test_13_a_reading_that_never_ends_is_given_up_and_the_process_ends(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    child = (
        "import sys\nfrom sheer.data.reading import in_threads\n"
        "list(in_threads(lambda name: open(name).read(), [sys.argv[1], sys.argv[2]], 2, str, patience=1.0))"
    )
    (tmp_path / "good").write_text("x")
    started = time.monotonic()
    command = [sys.executable, "-c", child, str(tmp_path / "good"), str(tmp_path / "pipe")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1 and "No file could be read for 1 s; waited for" in done.stderr and "pipe" in done.stderr
    assert time.monotonic() - started < 50


def test_13_a_slow_reading_is_no_hanging_one(monkeypatch):
    monkeypatch.setattr(reading, "PATIENCE", 0.5)
    assert list(in_threads(lambda n: time.sleep(0.1) or n, list(range(12)), 2, str)) == list(range(12))


NFC, NFD = unicodedata.normalize("NFC", "café"), unicodedata.normalize("NFD", "café")


@pytest.mark.parametrize("name", ["with space", NFC, NFD, "🙂", "new\nline", "n" * 251, "quote'\"", "comma,", "-dash", "#hash%20"])
def test_14_names_of_any_kind(tmp_path, name):
    folder = make_photos(tmp_path / "photos", {"a": 4, name: 4})
    (folder / "a" / "000.jpg").rename(folder / "a" / f"{name}.jpg")
    learn = learner(folder, out=tmp_path / "run").fit(1)
    assert learn.classes == tuple(sorted(("a", name))) and f"a/{name}.jpg" in learn.data.paths
    assert sheer.load(tmp_path / "run", data=sheer.images(folder), objects={"Small": Small}).validate().classes == learn.classes
    if name in ("new\nline", NFD, "quote'\""):
        script = sheer.eject(tmp_path / "run", tmp_path / "train.py", objects={"Small": Small})
        done = run_script(script, folder, "--out", tmp_path / "again")
        assert done.returncode == 0 and rows(tmp_path / "run" / "history.csv") == rows(tmp_path / "again" / "history.csv"), done.stderr


def test_14_classes_that_look_alike_are_noted(tmp_path):
    folder = make_photos(tmp_path / "photos", {NFC: 2, NFD: 2, "Dog": 2, "dog": 2, "cat": 2})
    notes = [note for note in sheer.images(folder).plan.notes if "look alike" in note]
    assert len(notes) == 2 and "'Dog', 'dog'" in "".join(notes)


def test_14_links_read_only_folders_and_another_current_folder(tmp_path, monkeypatch):
    folder = make_photos(tmp_path / "photos", {"a": 4, "b": 4})
    (tmp_path / "link").symlink_to(folder)
    wanted = learner(folder).fit(1).history[-1].weights_sha256
    assert learner(tmp_path / "link").fit(1).history[-1].weights_sha256 == wanted
    for path in (folder / "a", folder / "b", folder):
        path.chmod(0o555)
    before = sorted(folder.rglob("*"))
    monkeypatch.chdir(tmp_path)
    learn = learner(Path("photos"))
    monkeypatch.chdir("/")
    assert learn.fit(1).history[-1].weights_sha256 == wanted and sorted(folder.rglob("*")) == before


def test_20_what_a_reader_raises_comes_out_and_no_thread_stays():
    def work(number):
        if number == 30:
            raise ValueError("item 30")
        return number

    seen = []
    with pytest.raises(ValueError, match="item 30"):
        for number in in_threads(work, list(range(1000)), 4, str):
            seen.append(number)
    assert seen == list(range(30))
    end = time.monotonic() + 5
    while any(thread.name.startswith("Thread") and thread.daemon for thread in threading.enumerate()) and time.monotonic() < end:
        time.sleep(0.02)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("Thread") and thread.daemon]


def test_20_your_own_data_set_that_raises_is_named_with_its_item():
    class Broken:
        targets = [0, 1] * 10

        def __len__(self):
            return 20

        def __getitem__(self, number):
            if number == 7:
                raise RuntimeError("the seventh is broken")
            return Image.new("RGB", (40, 40)), self.targets[number]

    with pytest.raises(DataError, match=r"7 \(item 7: the seventh is broken\)"):
        learner(Broken()).fit(1)
    assert sheer.images(Broken(), bad_files="skip").plan.skipped == ("7",)
    assert [one.file for one in sheer.check(Broken()).problems] == ["7"]
