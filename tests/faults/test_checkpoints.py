"""Faults 1 to 7, 21 to 24: killed, interrupted, starved or given the wrong things, a run loses no commit and ends in the same bits."""

import contextlib
import csv
import errno
import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from dataclasses import replace

import pytest
import torch
from chaos import chaos
from runs import RECIPE, Observer, Process, full_after, learner, mlp, net, pause_at, rows_of, start_server, table

import sheer
from conftest import make_photos
from sheer.cli.main import main
from sheer.errors import OwnershipError, RunError
from sheer.model.hashing import weights_sha256
from sheer.record import commit, keeping
from sheer.record.checkpoint import packed, read_checkpoint, unpacked
from sheer.record.lock import started

POINTS = ("before", "file carried", "half weights", "half state", "manifest", "rename", "after")


@pytest.fixture(scope="module")
def server():
    process = start_server()
    yield process
    process.stdin.close()
    assert process.wait(60) == 0
    process.stdout.close()


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return make_photos(tmp_path_factory.mktemp("tiny"), {"blue": 30, "red": 30}, side=(24, 20))


@pytest.fixture
def begin(server, pictures, tmp_path):
    """Start a run in a process: `begin(kind, OPTIONS...)`."""
    return lambda kind, *options, out="run": Process(server, tmp_path / "log", [kind, pictures, tmp_path / out, *options])


@pytest.fixture(scope="module")
def whole(server, pictures, tmp_path_factory):
    """What uninterrupted runs print at their end, and their folders."""
    results = {}
    for kind in ("arrays", "photos"):
        root = tmp_path_factory.mktemp(kind)
        assert Process(server, root / "log", [kind, pictures, root / "run"]).wait() == 0
        results[kind] = ending(root / "log"), root / "run"
    return results


@pytest.fixture(autouse=True)
def no_fault():
    pauses = keeping.PAUSES, keeping.LAST_PAUSES
    yield
    commit.fault, keeping.PAUSES, keeping.LAST_PAUSES = commit._nothing, *pauses


def ending(log):
    return log.read_text().splitlines()[-1]


def history(folder):
    with (folder / "history.csv").open(newline="") as file:
        return [{key: value for key, value in row.items() if key != "seconds"} for row in csv.DictReader(file)]


def checkpoints(folder):
    return commit.committed(folder / "checkpoints")


def same_end(log, folder, whole):
    """The run ended as the one that nobody touched, in all files, and left nothing behind."""
    end, other = whole
    assert ending(log) == end
    assert history(folder) == history(other)
    assert (folder / "weights.safetensors").read_bytes() == (other / "weights.safetensors").read_bytes()
    assert sorted(path.name for path in folder.iterdir()) == sorted(path.name for path in other.iterdir())
    mine, theirs = (json.loads((path / "record.json").read_text()) for path in (folder, other))
    assert {key for key in mine if mine[key] != theirs[key]} <= {"seconds", "events", "history_sha256"}


@pytest.mark.parametrize(("kind", "readers", "then"), [("arrays", 2, 2), ("photos", 0, 2), ("photos", 2, 0)])
def test_01_killed_in_an_epoch_then_the_same_command_again(begin, whole, tmp_path, kind, readers, then):
    killed = begin(kind, "--slow", 0.02, "--readers", readers).until("8").kill()
    assert killed.wait() == -signal.SIGKILL
    assert checkpoints(tmp_path / "run") and not (tmp_path / "run" / "record.json").exists()
    assert begin(kind, "--readers", then).wait() == 0
    same_end(tmp_path / "log", tmp_path / "run", whole[kind])


def test_01_what_a_phase_carries_is_the_same_too(tmp_path):
    """Optimiser, average, patience, best epoch and losses, at a step that one run reached in one go and the other in three."""
    options = {"stop": ("accuracy", 2), "clip": 1.0}
    learns = [learner("arrays", None, tmp_path / name, **options) for name in ("one", "other")]
    learns[0].run(RECIPE, callbacks=[pause_at(26)])
    for step in (4, 20, 26):
        learns[1].run(RECIPE, callbacks=[pause_at(step)])
    kept = [read_checkpoint(checkpoints(tmp_path / name)[-1]) for name in ("one", "other")]
    tensors = [{}, {}]
    values = [packed(one.carried, into, "carried") for one, into in zip(kept, tensors, strict=True)]
    assert values[0] == values[1] and list(tensors[0]) == list(tensors[1]) and len(tensors[0]) > 20
    for pair in zip([*tensors[0].values(), *kept[0].weights.values()], [*tensors[1].values(), *kept[1].weights.values()], strict=True):
        assert torch.equal(*pair)
    assert rows_of(learns[0].resume()) == rows_of(learns[1].resume())


@pytest.mark.parametrize("point", POINTS)
def test_02_killed_at_each_point_of_a_save(begin, whole, tmp_path, point):
    folder = tmp_path / "run"
    assert begin("arrays", "--slow", 0.01, "--die-at", point, 4).wait() == -signal.SIGKILL
    left = [path.name for path in (folder / "checkpoints").iterdir() if path.name.endswith(".tmp")]
    assert any(not commit.damage(path) for path in checkpoints(folder))
    assert bool(left) == (point not in ("before", "after"))
    assert begin("arrays").wait() == 0
    assert all(name in (tmp_path / "log").read_text() for name in left)
    same_end(tmp_path / "log", folder, whole["arrays"])


def test_02_killed_while_the_finished_run_is_put_in_its_place(begin, whole, tmp_path):
    folder = tmp_path / "run"
    assert begin("arrays", "--steps", 1000, "--die-at", "after", 3).wait() == -signal.SIGKILL  # two phases begin, then the end
    assert not (folder / "record.json").exists()
    loaded = sheer.load(folder, objects={"mlp": mlp})
    assert weights_sha256(loaded.model) in whole["arrays"][0] and len(loaded.history) == 5
    assert begin("arrays").wait() == 0
    assert "already done" in (tmp_path / "log").read_text()
    same_end(tmp_path / "log", folder, whole["arrays"])


def test_02_a_second_fit_that_is_killed_leaves_the_first_ones_run(tmp_path):
    first = learner("arrays", None, tmp_path / "run").run(RECIPE)
    before, done = rows_of(first), weights_sha256(first.model)
    first.run(sheer.recipes.constant(2, rate=1e-3), callbacks=[pause_at(3)])
    assert first._out == tmp_path / "run" and checkpoints(tmp_path / "run")
    loaded = sheer.load(tmp_path / "run", objects={"mlp": mlp})
    assert rows_of(loaded) == before and weights_sha256(loaded.model) == done
    resumed = sheer.resume(tmp_path / "run", data=table(), objects={"mlp": mlp}, quiet=True)
    again = learner("arrays", None, tmp_path / "again").run(RECIPE).run(sheer.recipes.constant(2, rate=1e-3))
    assert rows_of(resumed) == rows_of(again) and len(rows_of(again)) == 7
    assert resumed.plan() == again.plan()
    assert rows_of(sheer.load(tmp_path / "run", objects={"mlp": mlp})) == rows_of(again)


def test_03_three_kills_in_one_epoch(begin, whole, tmp_path):
    for step in (12, 15, 18):
        assert begin("arrays", "--slow", 0.02, "--steps", 1).until(str(step)).kill().wait() == -signal.SIGKILL
    assert begin("arrays").wait() == 0
    same_end(tmp_path / "log", tmp_path / "run", whole["arrays"])
    events = json.loads((tmp_path / "run" / "record.json").read_text())["events"]
    assert [event["kind"] for event in events] == ["resume"] * 3 and all(event["step"] < 20 for event in events)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGUSR1, 143), (signal.SIGINT, 130)])
def test_04_a_signal_ends_after_the_step_with_a_commit(begin, whole, tmp_path, number, status):
    left = begin("arrays", "--slow", 0.05, "--steps", 1000).until("7").kill(number)
    assert left.wait() == status
    text = (tmp_path / "log").read_text()
    done = int([line for line in text.splitlines() if line.isdigit()][-1])
    assert read_checkpoint(checkpoints(tmp_path / "run")[-1]).step == done >= 7
    assert text.count("requeued") == (number == signal.SIGUSR1)
    assert begin("arrays").wait() == 0
    same_end(tmp_path / "log", tmp_path / "run", whole["arrays"])
    events = json.loads((tmp_path / "run" / "record.json").read_text())["events"]
    assert [(event["kind"], event["what"], event["step"]) for event in events[:1]] == [("interrupt", signal.Signals(number).name, done)]


def test_04_a_second_interrupt_ends_at_once(begin, whole, tmp_path):
    left = begin("arrays", "--slow", 30, "--steps", 1).until("1")
    asked = time.monotonic()
    left.kill(signal.SIGINT)
    time.sleep(0.2)
    left.kill(signal.SIGINT)
    assert left.wait() == 130 and time.monotonic() - asked < 20
    assert any(not commit.damage(path) for path in checkpoints(tmp_path / "run"))
    assert begin("arrays").wait() == 0
    same_end(tmp_path / "log", tmp_path / "run", whole["arrays"])


@pytest.fixture
def interruptible():
    """SIGINT as in a session that somebody sits at; a shell has what it runs in the background ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_04_in_a_notebook_the_learner_goes_on(interruptible):
    whole, learn = learner("arrays", None, None).run(RECIPE), learner("arrays", None, None)
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)

    def interrupt(position):
        if position.step == 14:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt, match="after step 14"):
        learn.run(RECIPE, callbacks=[Observer(interrupt)])
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    assert len(learn.plan().phases) == 0 and learn.history == []
    weights = weights_sha256(learn.model)
    learn.validate()
    assert weights_sha256(learn.model) == weights
    with pytest.raises(OwnershipError, match="resume"):
        learn.run(sheer.recipes.constant(1))
    with pytest.raises(OwnershipError, match="resume"):
        learn.save("nowhere")
    assert rows_of(learn.run(RECIPE)) == rows_of(whole)
    assert [event.kind for event in learn._state.events] == ["interrupt", "resume"]
    with pytest.raises(RunError, match="No fit"):
        learn.resume()
    assert rows_of(learn.fit(1)) == rows_of(whole.fit(1))


def test_05_a_full_disk_costs_no_training_and_no_checkpoint(begin, whole, tmp_path):
    folder = tmp_path / "run"
    assert begin("arrays", "--slow", 0.01, "--full-after", 2).wait() == 2
    text = (tmp_path / "log").read_text()
    assert text.count("No space left on device") > 3 and "bytes) free" in text and "Training goes on" in text
    assert "\n50\n" in text and "The run could not be saved" in text and "finished" not in text
    assert not [path for path in (folder / "checkpoints").iterdir() if path.name.endswith(".tmp")]
    assert len(checkpoints(folder)) == 2 and not any(commit.damage(path) for path in checkpoints(folder))
    assert begin("arrays").wait() == 0
    same_end(tmp_path / "log", folder, whole["arrays"])


def test_05_a_save_that_failed_is_tried_again(tmp_path, capfd):
    def once(position):
        if position.step == 5:
            full_after(0)
        if position.step == 12:
            commit.fault = commit._nothing
        time.sleep(0.02)

    every = sheer.Checkpoints(minutes=0, steps=3)
    learn = learner("arrays", None, tmp_path / "run", checkpoints=every).run(RECIPE, callbacks=[Observer(once)])
    assert "No space left" in capfd.readouterr().err
    kinds = [event.kind for event in sheer.load(tmp_path / "run", objects={"mlp": mlp})._state.events]
    assert kinds and set(kinds) <= {"failed save", "retried save"} and rows_of(learn)


def broken(times):
    """A drive on which so many writes fail."""
    left = [times]

    def fault(name):
        if name.startswith("half") and left[0] > 0:
            left[0] -= 1
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    commit.fault = fault


@pytest.fixture
def keeper(tmp_path):
    """A keeper with the model and the state of a run that was left after its fourth step; nothing is written yet."""
    learn = learner("arrays", None, None)
    learn.run(RECIPE[:1], callbacks=[pause_at(4)])
    state = replace(learn._paused, events=[])
    kept = keeping.Keeper(tmp_path / "run", sheer.Checkpoints(minutes=0, steps=1000), [])
    yield kept, learn.model, state
    kept.close()


@pytest.mark.parametrize(("pauses", "fails", "event"), [((0.01, 0.02, 0.03), 3, "retried save"), ((0.01, 0.02), 9, "failed save")])
def test_05_a_save_is_tried_again_before_the_next_one_is_due(keeper, capfd, pauses, fails, event):
    kept, model, state = keeper
    keeping.PAUSES = pauses
    broken(fails)
    kept.save(model, state, state.carried)
    kept._writer.join()
    said, (told,) = capfd.readouterr().err, state.events
    assert "Input/output error" in said and "Training goes on, and it is tried again in 0.01 s" in said
    assert (told.kind, told.step) == (event, 4) and "Input/output error" in told.what
    if event == "retried save":
        assert "saved at attempt 4" in told.what and [read_checkpoint(path).step for path in checkpoints(kept.folder)] == [4]
    else:
        assert "(3 attempts)" in told.what and "the next one is tried when it is due" in said and not checkpoints(kept.folder)


def test_05_a_checkpoint_that_cannot_be_removed_is_no_failed_save(keeper, capfd, monkeypatch):
    def refused(path):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    kept, model, state = keeper
    with monkeypatch.context() as patch:
        patch.setattr(commit, "remove", refused)
        for _ in range(3):
            assert kept.commit(state.kept(model, state.carried, 0.0))
    said = capfd.readouterr().err
    assert len(checkpoints(kept.folder)) == 3 and not state.events
    assert said.count("could not be removed: [Errno 13] Permission denied") == 1 and "could not be saved" not in said
    assert kept.commit(state.kept(model, state.carried, 0.0)) and len(checkpoints(kept.folder)) == 2


def test_05_what_is_not_read_back_as_written_is_removed(keeper, capfd, monkeypatch):
    kept, model, state = keeper
    monkeypatch.setattr(keeping, "LAST_PAUSES", ())
    with monkeypatch.context() as patch:
        patch.setattr(keeping, "damage", lambda path: "weights is damaged")
        assert not kept.commit(state.kept(model, state.carried, 0.0))
    assert "was not read back as it was written: weights is damaged" in capfd.readouterr().err
    assert not checkpoints(kept.folder) and kept.commit(state.kept(model, state.carried, 0.0))


def test_05_a_newer_checkpoint_takes_the_place_of_one_that_failed(keeper):
    kept, model, state = keeper
    keeping.PAUSES = (600.0,)
    broken(1)
    kept.save(model, state, state.carried)
    kept.save(model, replace(state, batch=5), state.carried)  # it is due while the other one is waiting
    kept._writer.join(20)
    kept.look(model, replace(state, batch=6), lambda: state.carried)
    kept._writer.join(20)
    assert [event.kind for event in state.events] == ["failed save"]
    assert [read_checkpoint(path).step for path in checkpoints(kept.folder)] == [6]


def test_05_what_would_fail_again_is_not_tried_again(keeper):
    kept, model, state = keeper
    kept.save(model, state, {"a": {1}})
    kept._writer.join()
    (event,) = state.events
    assert event.kind == "failed save" and "a set" in event.what and "attempts" not in event.what


@pytest.mark.parametrize("fails", [2, 9])
def test_05_the_finished_run_is_tried_again_and_fails_with_the_last_attempt_alone(tmp_path, capfd, fails):
    def at_the_end(position):
        for thread in threading.enumerate():
            if "_write" in thread.name:  # the checkpoint at the beginning, on a busy machine
                thread.join(20)
        broken(fails)

    keeping.LAST_PAUSES, end = (0.01, 0.02), Observer()
    end.on_end = at_the_end
    learn = learner("arrays", None, tmp_path / "run", checkpoints=sheer.Checkpoints(minutes=0))
    if fails > 2:
        with pytest.raises(RunError, match=r"could not be saved.*still in memory"):
            learn.run(RECIPE[:1], callbacks=[end])
        assert not (tmp_path / "run" / "record.json").exists()
        commit.fault = commit._nothing
        assert rows_of(sheer.resume(tmp_path / "run", data=table(), objects={"mlp": mlp}, quiet=True)) == rows_of(learn)
        return
    learn.run(RECIPE[:1], callbacks=[end])
    assert "It is tried again in 0.01 s" in capfd.readouterr().err
    events = sheer.load(tmp_path / "run", objects={"mlp": mlp})._state.events
    assert [event.what for event in events] == ["the finished run: [Errno 5] Input/output error"] * 2
    assert learn._state.events == events
    assert main(["report", str(tmp_path / "run")]) == 0
    assert "failed save: 2 (step 30, 30)" in capfd.readouterr().out


def test_05_a_small_disk(tmp_path, capfd):
    """A real file system without room, where this process may mount one; then one that may only be read."""
    keeping.LAST_PAUSES, disk = (0.01,), tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "none", disk], capture_output=True).returncode:
        pytest.skip("this process may not mount a file system")
    try:
        learn = learner("arrays", None, disk / "run", checkpoints=sheer.Checkpoints(minutes=0, steps=2))

        def fill(position):
            if position.step == 6:
                with contextlib.suppress(OSError), (disk / "other").open("wb", buffering=0) as file:
                    for _ in range(512):
                        file.write(bytes(1024))
            time.sleep(0.01)

        with pytest.raises(RunError, match=r"No space left.*bytes\) free.*still in memory"):
            learn.run(RECIPE, callbacks=[Observer(fill)])
        assert "Training goes on" in capfd.readouterr().err
        assert any(not commit.damage(path) for path in checkpoints(disk / "run"))
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        with pytest.raises(RunError, match="cannot be written"):
            learner("arrays", None, disk / "run").run(RECIPE)
        subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
        (disk / "other").unlink()
        assert rows_of(learner("arrays", None, disk / "run").run(RECIPE)) == rows_of(learn)
    finally:
        subprocess.run(["umount", disk], check=True)


@pytest.fixture(scope="module")
def left(tmp_path_factory):
    """A run that was left in its second phase, with two checkpoints; and its rows if it had not been."""
    folder = tmp_path_factory.mktemp("left") / "run"
    learner("arrays", None, folder).run(RECIPE, callbacks=[pause_at(34)])
    assert len(checkpoints(folder)) == 2
    return folder, rows_of(learner("arrays", None, None).run(RECIPE))


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(bytes(content))


DAMAGE = {
    "bit flip": flip,
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-7]),
    "0 bytes": lambda path: path.write_bytes(b""),
    "missing": lambda path: path.unlink(),
}


@pytest.mark.parametrize("kind", DAMAGE)
@pytest.mark.parametrize("name", ["weights.safetensors", "state.json", "carried.safetensors", "manifest.json"])
def test_06_a_damaged_checkpoint_is_named_and_the_one_before_used(left, tmp_path, capfd, kind, name):
    folder = shutil.copytree(left[0], tmp_path / "run")
    older, newer = checkpoints(folder)
    DAMAGE[kind](newer / name)
    learn = sheer.resume(folder, data=table(), objects={"mlp": mlp}, quiet=True)
    told = capfd.readouterr().err
    assert str(newer) in told and (name in told or name == "manifest.json") and f"{older.name}, which is whole, is used" in told
    assert rows_of(learn) == left[1]


def test_06_no_whole_checkpoint_is_an_error(left, tmp_path):
    folder = shutil.copytree(left[0], tmp_path / "run")
    for path in checkpoints(folder):
        flip(path / "weights.safetensors")
    for again in (lambda: sheer.resume(folder, data=table(), objects={"mlp": mlp}), lambda: learner("arrays", None, folder).run(RECIPE)):
        with pytest.raises(RunError, match=r"weights\.safetensors is damaged.*None is whole"):
            again()


def wrong_format(folder):
    """Another format under a manifest that is right."""
    newest = checkpoints(folder)[-1]
    files = {path.name: path.read_bytes() for path in newest.iterdir() if path.name != "manifest.json"}
    values = json.loads(files["state.json"]) | {"format": 99}
    files["state.json"] = json.dumps(values).encode()
    commit.commit(folder / "checkpoints", 9, {name: lambda content=content: content for name, content in files.items()})


def edited(folder):
    text = (folder / "plan.json").read_text()
    (folder / "plan.json").write_text(text.replace('"weight_decay": 0.01', '"weight_decay": 0.02'))


def wide():
    return torch.nn.Sequential(torch.nn.Linear(6, 17), torch.nn.Linear(17, 2))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"data": table(seed=1)}, r"data\.listing_sha256"),
        ({"data": table(classes=("no", "yes"))}, r"data\.classes\[0\]: '0' there, 'no' here"),
        ({"change": edited}, r"plan\.json is not the plan of the run.*weight_decay: 0\.02 there, 0\.01 here"),
        ({"change": wrong_format}, "format 99; this sheer reads 1. Use sheer"),
        ({"objects": {"mlp": wide}}, "source of 'mlp'"),
    ],
    ids=["data", "classes", "plan", "format", "model"],
)
def test_07_resume_refuses_what_is_not_the_run(left, tmp_path, options, message):
    folder = shutil.copytree(left[0], tmp_path / "run")
    options.get("change", lambda folder: None)(folder)
    with pytest.raises(RunError, match=message):
        sheer.resume(folder, data=options.get("data", table()), objects=options.get("objects", {"mlp": mlp}))
    assert (folder / "checkpoints").is_dir() and not (folder / "record.json").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 16}, r"phases\[0\]\.steps_per_epoch: 10 there, 5 here.*phases\[0\]\.batch_size: 8 there, 16 here"),
        ({"ema": 0.5}, r"phases\[0\]\.ema: 0\.9 there, 0\.5 here"),
        ({"seed": 1}, "seed: 0 there, 1 here"),
        ({"recipe": RECIPE[:1]}, r"phases: 2 \(one_cycle, constant\) there, 1"),
    ],
    ids=["batch size", "average", "seed", "recipe"],
)
def test_07_the_same_folder_refuses_another_plan(left, tmp_path, options, message):
    folder = shutil.copytree(left[0], tmp_path / "run")
    recipe = options.pop("recipe", RECIPE)
    with pytest.raises(RunError, match=message):
        learner("arrays", None, folder, **options).run(recipe)
    assert len(checkpoints(folder)) == 2


def test_07_classes_in_another_order_are_another_plan(left, tmp_path):
    folder = shutil.copytree(left[0], tmp_path / "run")
    swapped = sheer.learner(table(classes=("1", "0")), mlp, batch_size=8, quiet=True, out=folder, ema=0.9, keep="best")
    with pytest.raises(RunError, match=r"data\.classes\[0\]: '0' there, '1' here"):
        swapped.run(RECIPE)


def test_07_a_folder_without_a_run_is_an_error(tmp_path):
    with pytest.raises(RunError, match="no run"):
        sheer.resume(tmp_path / "nothing")


def test_21_a_second_writer_is_refused_and_a_crash_leaves_no_lock(begin, whole, tmp_path):
    first = begin("arrays", "--slow", 0.1).until("4")
    with pytest.raises(RunError, match=rf"being written by process {first.pid} on {socket.gethostname()}, since \d+ s"):
        learner("arrays", None, tmp_path / "run").run(RECIPE)
    first.kill().wait()
    assert (tmp_path / "run" / ".lock").exists()
    assert begin("arrays").wait() == 0
    assert f"process {first.pid} " in (tmp_path / "log").read_text()
    same_end(tmp_path / "log", tmp_path / "run", whole["arrays"])


@pytest.mark.parametrize("host", ["elsewhere", None])
def test_21_a_lock_that_cannot_be_proved_stale_is_kept(left, tmp_path, host):
    """Another host's; and this host's where the file system does not know locks, by number and start."""
    folder, other = shutil.copytree(left[0], tmp_path / "run"), os.getppid()
    owner = {"pid": other, "host": host or socket.gethostname(), "started": started(other), "since": time.time() - 7}
    (folder / ".lock").write_text(json.dumps(owner))
    with pytest.raises(RunError, match=f"process {other} on {owner['host']}, since 7 s.*remove"):
        learner("arrays", None, folder).run(RECIPE)
    (folder / ".lock").write_text(json.dumps(owner | {"host": socket.gethostname(), "started": "1"}))  # its number was given again
    assert rows_of(learner("arrays", None, folder).run(RECIPE)) == left[1]


@pytest.mark.skip(reason="needs a distributed engine: a run has one process")
def test_22_one_rank_dies():
    raise NotImplementedError


@pytest.mark.skip(reason="needs a distributed engine: a run has one process")
def test_23_uneven_inputs_across_ranks():
    raise NotImplementedError


def test_24_other_numbers_of_readers_give_the_same_bits(pictures):
    ends = [rows_of(learner("photos", pictures, None, readers=readers).run(RECIPE[:1])) for readers in (0, 1, 8)]
    assert ends[0] == ends[1] == ends[2]


@pytest.mark.parametrize(("options", "message"), [({"precision": "bf16"}, "numerics.precision: 'float32' there, 'bf16' here")])
def test_24_another_precision_is_another_plan(left, tmp_path, monkeypatch, options, message):
    monkeypatch.setattr("sheer.loop.probe.step_seconds", lambda model, sample, numerics: 1.0 + (numerics.precision == "float32"))
    folder = shutil.copytree(left[0], tmp_path / "run")
    with pytest.raises(RunError, match=message):
        learner("arrays", None, folder, **options).run(RECIPE)


def test_24_other_threads_are_another_plan(left, tmp_path):
    folder, threads = shutil.copytree(left[0], tmp_path / "run"), torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        with pytest.raises(RunError, match=f"numerics.threads: {threads} there, {threads + 1} here"):
            learner("arrays", None, folder).run(RECIPE)
        resumed = sheer.resume(folder, data=table(), objects={"mlp": mlp}, quiet=True)  # under the plan's own
    finally:
        torch.set_num_threads(threads)
    assert rows_of(resumed) == left[1]


def test_24_a_data_folder_that_moved(pictures, tmp_path):
    whole = learner("photos", pictures, None).run(RECIPE)
    folder = tmp_path / "photos"
    shutil.copytree(pictures, folder)
    learner("photos", folder, tmp_path / "run").run(RECIPE, callbacks=[pause_at(5)])
    assert not any(str(tmp_path) in path.read_text() for path in (tmp_path / "run").rglob("*.json"))
    folder.rename(tmp_path / "moved")
    with pytest.raises(RunError, match="--data FOLDER"):
        sheer.resume(tmp_path / "run", objects={"net": net}, cache=False)
    resumed = sheer.resume(tmp_path / "run", data=tmp_path / "moved", objects={"net": net}, cache=False, quiet=True)
    assert rows_of(resumed) == rows_of(whole)


def test_strides_come_back():
    """A fused optimiser runs over memory as it lies: a moment of a channels_last weight must lie like it."""
    tree = {"a": [torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last), 1], 0: (None, 0.1, float("inf"))}
    tensors = {}
    back = unpacked(json.loads(json.dumps(packed(tree, tensors, "x"))), tensors)
    assert back["a"][0].stride() == tree["a"][0].stride() and torch.equal(back["a"][0], tree["a"][0])
    assert back[0] == tree[0] and all(tensor.is_contiguous() for tensor in tensors.values())
    with pytest.raises(TypeError, match=r"x\.b is a set"):
        packed({"b": {1}}, {}, "x")


def test_chaos_with_a_few_kills(tmp_path):
    assert chaos(5, 1, "arrays", tmp_path) >= 1
