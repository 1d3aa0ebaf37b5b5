"""Faults 2, 5, 8, 10, 14, 21, 24 in run folders: killed while it is made, files that fail, links and contents of a stranger."""

import ast
import hashlib
import json
import os
import shutil
import signal

import pytest
from runs import RECIPE, Observer, learner, mlp, net, pause_at, rows_of, table

import sheer
from conftest import make_photos
from sheer.errors import EjectError, ModelError, PlanError, RunError
from sheer.record import commit
from sheer.record import run as run_module
from sheer.record.held import last_checkpoint


@pytest.fixture(scope="module")
def left(tmp_path_factory):
    """A run that was left in its second phase, with two checkpoints; and its rows if it had not been."""
    folder = tmp_path_factory.mktemp("left") / "run"
    learner("arrays", None, folder).run(RECIPE, callbacks=[pause_at(34)])
    return folder, rows_of(learner("arrays", None, None).run(RECIPE))


def resumed(folder):
    return rows_of(sheer.resume(folder, data=table(), objects={"mlp": mlp}, quiet=True))


class Killed(BaseException):
    """What stands for SIGKILL: nothing catches it."""


@pytest.mark.parametrize("count", range(4))
@pytest.mark.parametrize("half", [False, True], ids=["whole", "half"])
def test_02_killed_while_the_run_folder_is_made(left, tmp_path, monkeypatch, count, half):
    """After each of its files, and in the middle of each, the same lines go on; a lock and what was half written are taken away."""
    folder, write, written = tmp_path / "run", run_module.write_atomically, []

    def dying(path, content):
        if len(written) == count:
            if half:
                path.with_name(f".{path.name}.{os.getpid()}.tmp").write_bytes(content[: len(content) // 2])
            raise Killed
        written.append(path.name)
        write(path, content)

    monkeypatch.setattr(run_module, "write_atomically", dying)
    if count < 3:  # plan.json, history.csv and data.json: an MLP on arrays has no more
        with pytest.raises(Killed):
            learner("arrays", None, folder).run(RECIPE)
        folder.mkdir(exist_ok=True)
        (folder / ".lock").write_text("")
        if written and "data.json" not in written:
            with pytest.raises(RunError, match=r"not made to its end.*again"):
                sheer.resume(folder, data=table(), objects={"mlp": mlp})
    monkeypatch.setattr(run_module, "write_atomically", write)
    assert rows_of(learner("arrays", None, folder).run(RECIPE)) == left[1]
    assert not [path for path in folder.iterdir() if path.name.startswith(".") or path.name.endswith(".tmp")]


def test_02_what_is_not_a_half_written_file_of_a_run_stays(left, tmp_path):
    folder = shutil.copytree(left[0], tmp_path / "run")
    (folder / "notes.tmp").mkdir()
    (folder / "notes.tmp" / "mine").write_text("mine")
    (folder / "link.tmp").symlink_to(tmp_path)
    (folder / ".plan.json.77.tmp").write_text("half")
    (folder / "checkpoints" / "000077.77.tmp").symlink_to(tmp_path)
    assert resumed(folder) == left[1]
    assert (folder / "notes.tmp" / "mine").read_text() == "mine" and (folder / "link.tmp").is_symlink()
    assert not (folder / ".plan.json.77.tmp").exists() and not (folder / "checkpoints").exists()


def test_02_a_strange_file_among_the_checkpoints_does_not_fail_the_end(left, tmp_path):
    folder = shutil.copytree(left[0], tmp_path / "run")
    (folder / "checkpoints" / ".DS_Store").write_text("x")
    assert resumed(folder) == left[1]
    assert [path.name for path in (folder / "checkpoints").iterdir()] == [".DS_Store"] and (folder / "record.json").is_file()


def test_05_a_row_that_cannot_be_written_costs_no_training(left, tmp_path, capfd):
    folder = tmp_path / "run"

    def in_the_way(position):
        if position.step == 5:
            (folder / "history.csv").unlink()
            (folder / "history.csv").mkdir()
        if position.step == 45:
            (folder / "history.csv").rmdir()

    learn = learner("arrays", None, folder).run(RECIPE, callbacks=[Observer(in_the_way)])
    assert rows_of(learn) == left[1]
    assert capfd.readouterr().err.count("Training goes on") == 4
    assert rows_of(sheer.load(folder, objects={"mlp": mlp})) == left[1]


def test_05_a_folder_that_is_lost_in_the_middle_of_a_run(left, tmp_path, capfd):
    """The checkpoint that cannot be written then, and the room that cannot be asked for, are told; the training is not lost."""
    folder, gone = tmp_path / "runs" / "run", tmp_path / "gone"

    def lost(position):
        if position.step == 5:
            (tmp_path / "runs").rename(gone)
            (tmp_path / "runs").write_text("in the way")
        if position.step == 45:
            (tmp_path / "runs").unlink()
            gone.rename(tmp_path / "runs")

    learn = learner("arrays", None, folder, checkpoints=sheer.Checkpoints(minutes=0, steps=1)).run(RECIPE, callbacks=[Observer(lost)])
    told = capfd.readouterr().err
    assert "could not be saved" in told and "does not say what is free" in told
    assert rows_of(learn) == rows_of(sheer.load(folder, objects={"mlp": mlp})) == left[1]


def test_05_a_file_system_that_flushes_no_folders(tmp_path, monkeypatch):
    flush, number = os.fsync, commit.errno.EINVAL

    def folders_refused(descriptor):
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):
            raise OSError(number, os.strerror(number))
        flush(descriptor)

    monkeypatch.setattr(os, "fsync", folders_refused)
    assert commit.commit(tmp_path, 1, {"a": lambda: b"a"}).is_dir()
    number = commit.errno.EIO
    with pytest.raises(OSError, match="Input/output"):
        commit.commit(tmp_path, 2, {"a": lambda: b"a"})


def test_08_nothing_outside_a_strangers_run_folder_is_written(left, tmp_path):
    folder, outside = shutil.copytree(left[0], tmp_path / "run"), tmp_path / "outside"
    (folder / "checkpoints").rename(outside)
    (outside / "000000.1.tmp").write_text("mine")
    (folder / "checkpoints").symlink_to(outside)
    before = sorted(path.relative_to(outside) for path in outside.rglob("*"))
    with pytest.raises(RunError, match="checkpoints is a link"):
        resumed(folder)
    assert sorted(path.relative_to(outside) for path in outside.rglob("*")) == before and not (folder / ".lock").exists()
    (folder / "checkpoints").unlink()
    outside.rename(folder / "checkpoints")
    (tmp_path / "mine").write_text("mine")
    (folder / ".lock").symlink_to(tmp_path / "mine")
    with pytest.raises(RunError, match="cannot be written"):
        resumed(folder)
    assert (tmp_path / "mine").read_text() == "mine"


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_08_a_checkpoint_holds_files_only(left, tmp_path, capfd, kind):
    """A link to /dev/zero has a size of 0 and no end."""
    folder = shutil.copytree(left[0], tmp_path / "run")
    weights = commit.committed(folder / "checkpoints")[-1] / "weights.safetensors"
    weights.unlink()
    {"link": lambda: weights.symlink_to("/dev/zero"), "pipe": lambda: os.mkfifo(weights), "folder": weights.mkdir}[kind]()
    signal.alarm(60)  # a reading that does not end ends the tests
    try:
        assert resumed(folder) == left[1]
    finally:
        signal.alarm(0)
    assert "weights.safetensors is a link, a folder or a device" in capfd.readouterr().err


@pytest.mark.parametrize("name", ["\0", "..", "", "\ud800", "x" * 5000, "../../weights.safetensors", "/dev/zero"])
def test_08_a_manifest_names_files_of_its_folder_only(left, tmp_path, capfd, name):
    folder = shutil.copytree(left[0], tmp_path / "run")
    (commit.committed(folder / "checkpoints")[-1] / "manifest.json").write_text(json.dumps({name: {"bytes": 1, "sha256": ""}}))
    assert resumed(folder) == left[1]
    assert "is damaged" in capfd.readouterr().err


def written_anew(folder, **files):
    """The newest checkpoint with other files, under sums that are right; it is the only one then."""
    root = folder / "checkpoints"
    kept = {path.name: path.read_bytes() for path in commit.committed(root)[-1].iterdir() if path.name != "manifest.json"}
    for path in commit.committed(root):
        shutil.rmtree(path)
    changed = kept | {name.replace("_", "."): change(kept[name.replace("_", ".")]) for name, change in files.items()}
    commit.commit(root, 9, {name: lambda content=content: content for name, content in changed.items()})


def with_values(**values):
    return lambda content: json.dumps(json.loads(content) | values).encode()


def with_strides(strides):
    def change(content):
        assert b'"strides": [6, 1]' in content  # of the first layer's weight
        return content.replace(b'"strides": [6, 1]', f'"strides": {json.dumps(strides)}'.encode())

    return change


@pytest.mark.parametrize(
    "files",
    [
        *(
            {"state_json": with_values(**{name: value})}
            for name in ("first", "phase", "epoch", "batch")
            for value in (-1, 99, 10**400, None)
        ),
        *({"state_json": lambda content, text=text: text} for text in (b"[]", b"3", b"[" * 90000, b"")),
        *({"state_json": with_strides(strides)} for strides in ([0, 0], [-1, 1], [10**9, 1], ["a", 1], [1])),
        {"carried_safetensors": lambda content: b"nothing"},
        {"weights_safetensors": lambda content: b""},
        {"history_csv": lambda content: content + b"x" * 200_000},
        {"plan_json": lambda content: content.replace(b'"seed": 0', b'"seed": ' + b"[" * 900 + b"]" * 900)},
        {"record_json": with_values(seconds=10**400)},
    ],
)
def test_08_a_checkpoint_whose_sums_are_right_but_not_its_contents(left, tmp_path, files):
    folder = shutil.copytree(left[0], tmp_path / "run")
    written_anew(folder, **files)
    with pytest.raises(sheer.SheerError):
        resumed(folder)


@pytest.mark.parametrize("text", ['{"root": 5}', '{"root": "\\u0000"}', "[" * 9000, "[]", "\x00"])
def test_08_a_place_of_the_data_that_is_none(left, tmp_path, text):
    folder = shutil.copytree(left[0], tmp_path / "run")
    (folder / "data.json").write_text(text)
    with pytest.raises(RunError, match=r"--data FOLDER|data=\.\.\."):
        sheer.resume(folder, objects={"mlp": mlp})


def test_14_a_relative_run_folder_and_another_current_folder(left, tmp_path, monkeypatch):
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "one")

    def leave(position):
        if position.step == 8:
            os.chdir(tmp_path / "other")

    every = sheer.Checkpoints(minutes=0, steps=3)
    learn = learner("arrays", None, "run", checkpoints=every).run(RECIPE, callbacks=[Observer(leave), pause_at(34)])
    learn.resume()
    learn.run(sheer.recipes.constant(1))
    assert len(sheer.load(tmp_path / "one" / "run", objects={"mlp": mlp}).history) == len(left[1]) + 1
    assert not list((tmp_path / "other").iterdir())


LOCKS = ["[" * 90000, '{"pid": 1, "host": "x", "started": "", "since": 1' + "0" * 400 + "}", "\0", "[]", "{}"]


@pytest.mark.parametrize("text", LOCKS, ids=range(len(LOCKS)))
def test_21_a_lock_without_an_owner_is_stale(left, tmp_path, text):
    folder = shutil.copytree(left[0], tmp_path / "run")
    (folder / ".lock").write_text(text)
    assert resumed(folder) == left[1]


def test_24_other_versions_are_told(left, tmp_path, capfd):
    folder = shutil.copytree(left[0], tmp_path / "run")
    assert last_checkpoint(folder)[1] == []
    written_anew(folder, record_json=with_values(torch="2.0.0", pillow="1.0"))
    assert resumed(folder) == left[1]
    told = capfd.readouterr().err
    assert "was written with torch 2.0.0 (here 2." in told and "pillow 1.0 (here" in told and "may be others" in told


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("left out", {"bad_files": "skip"}),
        ("nothing left out", {"bad_files": "skip"}),
        ("held out", {"valid": "holdout"}),
        ("shares", {"valid": 0.3, "split": "random", "seed": 5}),
        ("shares of train", {"valid": 0.4}),
    ],
)
def test_10_class_folders_are_found_again_however_they_were_given(tmp_path, kind, options):
    """`sheer resume RUN` has the folder's name alone: files left out, another name of the held-out part, shares and seed are the plan's."""
    photos, parts = tmp_path / "photos", {"held out": ("train", "holdout", "valid"), "shares of train": ("train",)}.get(kind, ("",))
    for part in parts:
        make_photos(photos / part, {"blue": 12, "red": 12}, side=(24, 20))
    if kind == "left out":
        first = sorted((photos / "blue").iterdir())[0]
        first.write_bytes(first.read_bytes()[:60])
        (photos / "red" / "gone.png").symlink_to(tmp_path / "nowhere")
    mine = {"size": 16, "batch_size": 8, "cache": False, "quiet": True}
    data = sheer.images(photos, cache=False, **options)
    assert len(data.skipped) == 2 * (kind == "left out")
    sheer.learner(data, net, out=tmp_path / "run", **mine).run(RECIPE[:1], callbacks=[pause_at(3)])
    again = sheer.resume(tmp_path / "run", objects={"net": net}, cache=False, quiet=True)
    assert rows_of(again) == rows_of(sheer.learner(data, net, **mine).run(RECIPE[:1]))
    if kind == "left out":
        (photos / "red" / "gone.png").unlink()
        shutil.copy(photos / "red" / os.listdir(photos / "red")[0], photos / "red" / "gone.png")  # it can be read now
        sheer.learner(data, net, out=tmp_path / "other", **mine).run(RECIPE[:1], callbacks=[pause_at(3)])
        with pytest.raises(RunError, match=r"data\.skipped"):
            sheer.resume(tmp_path / "other", objects={"net": net}, cache=False)


def test_10_a_link_that_leads_nowhere_now_is_other_data(tmp_path):
    photos = make_photos(tmp_path / "photos", {"blue": 12, "red": 12}, side=(24, 20))
    mine = {"size": 16, "batch_size": 8, "cache": False, "quiet": True}
    sheer.learner(sheer.images(photos), net, out=tmp_path / "run", **mine).run(RECIPE[:1], callbacks=[pause_at(2)])
    (photos / "red" / "gone.png").symlink_to(tmp_path / "nowhere")
    with pytest.raises(RunError, match="does not hold the 24 items"):
        sheer.resume(tmp_path / "run", objects={"net": net}, cache=False)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run of a named network with a head."""
    root = tmp_path_factory.mktemp("finished")
    photos = make_photos(root / "photos", {"blue": 12, "red": 12}, side=(24, 20))
    learn = sheer.learner(
        sheer.images(photos), "test_resnet", weights="none", size=32, batch_size=8, cache=False, quiet=True, out=root / "run"
    )
    learn.fit(1)
    return root / "run"


def edited(folder, change):
    """The run folder with its plan changed by one who knows how the record's sums are made."""
    values = json.loads((folder / "plan.json").read_text())
    change(values)
    plan = sheer.Plan.from_json(json.dumps(values))
    (folder / "plan.json").write_text(json.dumps(values))
    record = json.loads((folder / "record.json").read_text())
    sums = {"plan_hash": plan.short_hash(), "plan_sha256": hashlib.sha256(plan.to_json().encode()).hexdigest()}
    (folder / "record.json").write_text(json.dumps(record | sums))


@pytest.mark.parametrize(
    "change",
    [
        lambda plan: plan["model"]["head"].update(name="os.system"),
        lambda plan: plan["model"]["head"]["settings"].update(command="touch canary"),
    ],
    ids=["name", "setting"],
)
def test_08_a_model_that_cannot_be_made_from_its_plan(finished, tmp_path, change):
    folder = shutil.copytree(finished, tmp_path / "run")
    edited(folder, change)
    with pytest.raises(RunError, match=r"cannot be made from its plan.*Was it edited"):
        sheer.load(folder, cache=False)


def test_08_a_model_that_is_too_large_is_not_made(finished, tmp_path):
    folder = shutil.copytree(finished, tmp_path / "run")
    edited(folder, lambda plan: plan["model"].update(features=10**13))
    with pytest.raises(ModelError, match=r"head=linear\(dropout=0.0\): its weights alone would take 74,506 GiB; at most 8 are made"):
        sheer.load(folder, cache=False)


@pytest.mark.parametrize(
    "text", [None, "", "[]", '{"root": 5}', '{"root": "x"', "\udcff"], ids=["gone", "empty", "list", "number", "half", "bytes"]
)
@pytest.mark.parametrize("reader", ["load", "eject", "resume"])
def test_08_a_run_folder_without_the_place_of_its_data_is_not_whole(finished, tmp_path, reader, text):
    folder = shutil.copytree(finished, tmp_path / "run")
    (folder / "data.json").unlink()
    if text is not None:
        (folder / "data.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    read = {"load": sheer.load, "eject": lambda run: sheer.eject(run, tmp_path / "train.py"), "resume": sheer.resume}[reader]
    with pytest.raises(RunError, match=r"data\.json cannot be read: .*bring it back, or write .*root") as caught:
        read(folder)
    assert not (tmp_path / "train.py").exists() and str(folder) in str(caught.value)
    (folder / "data.json").write_text('{"root": ""}')  # as the error says
    read(folder)


@pytest.mark.parametrize("threads", [0, -1, 10**9])
def test_08_a_plan_that_asks_for_threads_that_no_machine_has(finished, tmp_path, threads):
    """The library of threads ends the process where it cannot have them."""
    with pytest.raises(PlanError, match=f"asks for {threads} threads"):
        edited(shutil.copytree(finished, tmp_path / "run"), lambda plan: plan["numerics"].update(threads=threads))


@pytest.mark.parametrize("field", ["optimizer", "schedule", "loss", "resize"])
def test_08_a_script_of_a_technique_that_is_none(finished, tmp_path, field):
    folder = shutil.copytree(finished, tmp_path / "run")
    edited(folder, lambda plan: plan["phases"][0][field].update(name="os.system"))
    with pytest.raises(EjectError, match=r"'os\.system'.*Was it edited"):
        sheer.eject(folder, tmp_path / "script.py")
    assert not (tmp_path / "script.py").exists()


TEXTS = [
    ("data", "classes", 0),
    ("data", "source"),
    ("model", "licence"),
    ("phases", 0, "name"),
    ("profile",),
    ("model", "stages", 0, "name"),
]


@pytest.mark.parametrize("place", TEXTS, ids=lambda place: place[-1] if isinstance(place[-1], str) else place[-2])
@pytest.mark.parametrize("text", ['"""\ncanary()\n"""', "\ncanary()\n", "'\ncanary()\n'", "\rcanary()\r", "{canary()}", "\\"])
def test_08_a_text_of_a_plan_is_never_code_of_its_script(finished, tmp_path, place, text):
    folder = shutil.copytree(finished, tmp_path / "run")

    def change(values):
        for part in place[:-1]:
            values = values[part]
        values[place[-1]] += text

    try:
        edited(folder, change)
        script = sheer.eject(folder, tmp_path / "script.py")
    except sheer.SheerError:
        return  # refused
    with script.open(newline="") as file:
        tree = ast.parse(file.read())
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id == "canary"]
