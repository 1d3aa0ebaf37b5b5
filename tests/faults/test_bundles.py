"""Faults 7, 8 and 25 for run folders, bundles and foreign weights: what does not belong together is refused, nothing is executed."""

import io
import json
import os
import pickle
import shutil
import subprocess
import sys
import threading
import zipfile
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import sheer
from conftest import Small, make_photos
from sheer.cli.main import main
from sheer.errors import BundleError, ModelError, RunError, WeightsError

SOURCE = Path(sheer.__file__).parent


@pytest.fixture(scope="module")
def bundle(random_resnet_run, tmp_path_factory):
    return sheer.load(random_resnet_run).export(tmp_path_factory.mktemp("bundles") / "x.sheer")


def resealed(source, target, change):
    """The bundle with its members changed by `change`, each under a sum that belongs to it, as one who means harm would write it."""
    with zipfile.ZipFile(source) as packed:
        members = {name: packed.read(name) for name in packed.namelist()}
    change(members)
    head = json.loads(members["bundle.json"])
    for row in head["members"]:
        row |= {"size": len(members[row["name"]]), "sha256": sha256(members[row["name"]]).hexdigest()}
    members["bundle.json"] = json.dumps(head).encode()
    with zipfile.ZipFile(target, "w") as packed:
        for name, content in members.items():
            packed.writestr(name, content)
    return target


def edited(name, *path, to):
    """A change of one value of a JSON member; the plan's new hashes go into the record."""

    def change(members):
        value = json.loads(members[name])
        holder = value
        for key in path[:-1]:
            holder = holder[key]
        holder[path[-1]] = to
        members[name] = json.dumps(value, indent=2).encode()
        record = json.loads(members["record.json"])
        plan = sheer.Plan.from_json(members["plan.json"].decode())
        record |= {"plan_hash": plan.short_hash(), "plan_sha256": sha256(plan.to_json().encode()).hexdigest()}
        members["record.json"] = json.dumps(record).encode()

    return change


def reworded(members):
    members["plan.json"] = members["plan.json"].replace(b'"reason": "', b'"reason": "not ', 1)


CHANGES = {
    "classes in another order in one place": (edited("bundle.json", "interface", "classes", to=["red", "blue"]), r"differ in classes"),
    "another size": (edited("plan.json", "phases", 1, "size", to=64), r"differ in size \(32 against 64\)"),
    "another architecture": (edited("plan.json", "model", "name", to="timm:resnet34"), "differ in model"),
    "a newer format": (edited("bundle.json", "format", to=2), r"format 2; this sheer reads 1\. It was written by sheer"),
    "an unknown field": (edited("bundle.json", "_target_", to="os.system"), "unknown"),
    "another reason in the plan": (reworded, "is not that of its record"),
    "another record": (edited("record.json", "weights_sha256", to="0" * 64), "do not have the hash"),
}


@pytest.mark.parametrize("case", sorted(CHANGES))
def test_07_parts_of_a_bundle_that_do_not_belong_together(bundle, tmp_path, case):
    change, message = CHANGES[case]
    with pytest.raises(BundleError, match=message):
        sheer.load_bundle(resealed(bundle, tmp_path / "y.sheer", change))


def test_a_bundle_where_a_run_folder_is_wanted(bundle, tmp_path, capsys):
    for call in (lambda: sheer.load(bundle), lambda: sheer.eject(bundle, tmp_path / "x.py")):
        with pytest.raises(RunError, match=r"x\.sheer is a bundle, no run folder: it predicts, by sheer predict .*sheer\.load_bundle\("):
            call()
    for command in (["evaluate", str(bundle), str(tmp_path)], ["report", str(bundle)]):
        assert main(command) == 2
        assert "is a bundle, no run folder" in capsys.readouterr().err
    (tmp_path / "note.txt").write_text("a note")
    with pytest.raises(RunError, match=r"note\.txt is a file\. Give the run folder"):
        sheer.load(tmp_path / "note.txt")


def test_07_weights_or_probe_of_another_model(bundle, photos, tmp_path):
    learn = sheer.learner(sheer.images(photos), Small, size=32, batch_size=8, quiet=True).fit(1)
    with zipfile.ZipFile(learn.export(tmp_path / "small.sheer")) as packed:
        others = {name: packed.read(name) for name in packed.namelist()}
    with pytest.raises(BundleError, match="do not belong together"):
        sheer.load_bundle(
            resealed(bundle, tmp_path / "y.sheer", lambda members: members.update({"weights.safetensors": others["weights.safetensors"]}))
        )
    with pytest.raises(BundleError, match="probe does not give the"):
        sheer.load_bundle(
            resealed(bundle, tmp_path / "z.sheer", lambda members: members.update({"probe.safetensors": others["probe.safetensors"]}))
        )


def test_07_a_network_with_more_classes_is_no_bundle_of_fewer(bundle, tmp_path):
    def change(members):
        for name, keys in (("plan.json", ("data",)), ("bundle.json", ("interface",))):
            value = json.loads(members[name])
            value[keys[0]]["classes"] = ["blue", "green", "red"]
            if name == "plan.json":
                value["data"] |= {"train_counts": [1, 1, 1], "valid_counts": [1, 1, 1]}
            members[name] = json.dumps(value, indent=2).encode()
        edited("record.json", "seconds", to=0.0)(members)

    with pytest.raises(BundleError, match="do not belong together"):
        sheer.load_bundle(resealed(bundle, tmp_path / "y.sheer", change))


@pytest.mark.parametrize("harm", ["bit", "cut", "empty", "compressed", "more", "twice"])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_07_a_damaged_bundle_is_named(bundle, tmp_path, harm):
    content, path = bytearray(bundle.read_bytes()), tmp_path / "y.sheer"
    if harm == "bit":
        content[len(content) // 2] ^= 1
    path.write_bytes({"cut": content[: len(content) // 2], "empty": b""}.get(harm, content))
    if harm in ("compressed", "more", "twice"):
        with zipfile.ZipFile(bundle) as whole, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
            for name in whole.namelist():
                packed.writestr(name, whole.read(name), zipfile.ZIP_DEFLATED if harm == "compressed" else zipfile.ZIP_STORED)
            if harm != "compressed":
                packed.writestr("code.py" if harm == "more" else "plan.json", b"import os", zipfile.ZIP_STORED)
    with pytest.raises(BundleError, match=r"y\.sheer"):
        sheer.load_bundle(path)


def test_07_nothing_is_exported_twice_or_untrained(bundle, photos, tmp_path):
    learn = sheer.learner(sheer.images(photos), Small, size=32, batch_size=8, quiet=True)
    with pytest.raises(BundleError, match="nothing was trained"):
        learn.export(tmp_path / "x.sheer")
    with pytest.raises(BundleError, match="Nothing was overwritten"):
        learn.fit(1).export(bundle)
    assert not list(tmp_path.iterdir())


class Evil:
    """What a pickle runs when it is read: it makes a file."""

    def __init__(self, canary):
        self.canary = canary

    def __reduce__(self):
        return os.system, (f"touch {self.canary}",)


@pytest.mark.parametrize("kind", ["torch", "pickle", "legacy"])
def test_08_a_malicious_pickle_is_not_executed(photos, tmp_path, kind, capsys):
    canary, path = tmp_path / "canary", tmp_path / ("x.pkl" if kind == "pickle" else "x.pth")
    if kind == "pickle":
        path.write_bytes(pickle.dumps(Evil(canary)))
    else:
        torch.save({"fc.weight": Evil(canary)}, path, _use_new_zipfile_serialization=kind == "torch")
    with pytest.raises(WeightsError, match=r"run code when they are read.*save_file"):
        sheer.learner(sheer.images(photos), "resnet18", weights=str(path))
    for read in (sheer.load_bundle, sheer.load):
        with pytest.raises((BundleError, RunError)):
            read(path)
    assert main(["predict", str(path), str(photos)]) == 2
    assert "may be pickles" in capsys.readouterr().err
    assert not canary.exists()


def test_08_a_pickle_inside_a_bundle_or_a_run_is_never_read(bundle, random_resnet_run, tmp_path):
    canary = tmp_path / "canary"
    evil = pickle.dumps(Evil(canary))
    with pytest.raises(BundleError):
        sheer.load_bundle(resealed(bundle, tmp_path / "y.sheer", lambda members: members.update({"weights.safetensors": evil})))
    stream = io.BytesIO()
    torch.save(Evil(canary), stream)
    run = tmp_path / "run"
    shutil.copytree(random_resnet_run, run)
    (run / "weights.safetensors").write_bytes(stream.getvalue())
    with pytest.raises(RunError):
        sheer.load(run)
    assert not canary.exists()


@pytest.mark.parametrize(
    "name", ["function:os.system", "module:subprocess.Popen", "timm:hf-hub:someone/model", "os:system", "torchvision:os"]
)
def test_08_no_name_found_in_a_file_is_imported_or_looked_up(bundle, tmp_path, name, monkeypatch):
    import socket

    def refuse(*given, **options):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)

    def change(members):
        edited("bundle.json", "interface", "model", to=name)(members)
        edited("plan.json", "model", "name", to=name)(members)

    with pytest.raises(ModelError, match=r"nothing is imported by a name|There is no model"):
        sheer.load_bundle(resealed(bundle, tmp_path / "y.sheer", change))


TASKS = {
    "classify": {"label": "kind"},
    "tag": {"label": "kind", "separator": " "},
    "regress": {"label": "size", "task": "regress"},
}


@pytest.mark.parametrize("task", sorted(TASKS))
def test_25_the_bundle_says_what_the_learner_says(photos, tmp_path, task):
    files = sorted(path.relative_to(photos).as_posix() for path in photos.rglob("*.jpg"))
    rows = [f"{name},{name.split('/')[0]},{number}.5" for number, name in enumerate(files)]
    (tmp_path / "t.csv").write_text("\n".join(["file,kind,size", *rows]) + "\n")
    data = sheer.images(tmp_path / "t.csv", root=photos, **TASKS[task])
    learn = sheer.learner(data, "resnet18", weights="none", size=32, batch_size=8, quiet=True).fit(1)
    before, threads = learn.predict(photos), torch.get_num_threads()
    predictor = sheer.load_bundle(learn.export(tmp_path / "x.sheer"))
    after = predictor.predict(photos)
    assert after.items == before.items and after.classes == before.classes and after.task == task
    assert np.abs(after.outputs - before.outputs).max() <= 1e-4 * max(1, np.abs(before.outputs).max())
    assert after.labels == before.labels and predictor.classes == learn.classes
    assert predictor.probe_difference <= 1e-3 and torch.get_num_threads() == threads


def test_25_files_pictures_and_arrays_are_one(bundle, photos):
    predictor, path = sheer.load_bundle(bundle), photos / "red" / "000.jpg"
    with Image.open(path) as picture:
        array = np.asarray(picture)
        given = [path, str(path), picture, array, torch.from_numpy(array.transpose(2, 0, 1).copy()), array / 255]
        found = predictor.predict(given).outputs
    assert np.abs(found - found[0]).max() < 1e-6
    for one in given[:1] + given[3:]:
        assert np.abs(predictor.predict(one).outputs - found[0]).max() < 1e-6


def test_25_what_cannot_be_predicted_is_named(bundle, tmp_path):
    predictor = sheer.load_bundle(bundle)
    (tmp_path / "bad.jpg").write_bytes(b"%PDF-1.7")
    for given, message in (
        (tmp_path / "bad.jpg", "PDF document"),
        (tmp_path / "no.jpg", "There is no file"),
        (np.zeros((4, 4), np.int64), "item 0 cannot be read"),
        (np.zeros((2, 3, 8, 8), np.uint8), r"takes \(N, 3, 32, 32\)"),
        ([], "Nothing to predict"),
        (object(), "item 0 cannot be read"),
    ):
        with pytest.raises(sheer.SheerError, match=message):
            predictor.predict(given)


@pytest.mark.parametrize("kind", ["instance", "function", "numbers", "memory"])
def test_25_modules_of_your_own_are_given_never_imported(photos, tmp_path, kind):
    if kind in ("numbers", "memory"):
        inputs = torch.rand(40, 3, 8, 8) if kind == "numbers" else torch.randint(0, 255, (40, 3, 16, 16), dtype=torch.uint8)
        data = sheer.arrays(inputs, [0, 1] * 20)
        learn = sheer.learner(data, Small, batch_size=8, quiet=True).fit(1)
    else:
        learn = sheer.learner(sheer.images(photos), Small() if kind == "instance" else Small, size=32, batch_size=8, quiet=True).fit(1)
    file = learn.export(tmp_path / "x.sheer")
    with pytest.raises(ModelError, match="nothing is imported by a name found in a file"):
        sheer.load_bundle(file)
    predictor = sheer.load_bundle(file, objects={"Small": Small})
    if kind in ("numbers", "memory"):
        wanted = learn.predictions("train").outputs
        assert np.abs(predictor.predict(inputs[torch.from_numpy(data.train)]).outputs - wanted).max() < 1e-5
        return
    assert np.abs(predictor.predict(photos).outputs - learn.predict(photos).outputs).max() < 1e-5
    with pytest.raises((RunError, BundleError), match=r"not what the run was made with|do not belong together"):
        sheer.load_bundle(file, objects={"Small": torch.nn.Identity})


def test_25_threads_share_a_predictor(bundle, photos):
    predictor, files = sheer.load_bundle(bundle), sorted((photos / "red").iterdir())[:12]
    wanted, found = [predictor.predict(file).outputs for file in files], {}

    def work(number):
        found[number] = [predictor.predict(file).outputs for file in files]

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for outputs in found.values():
        assert all(np.array_equal(one, other) for one, other in zip(outputs, wanted, strict=True))
    assert len(found) == 6


WITHOUT = """
import json, socket, sys
def refuse(*given, **options): raise OSError("no network here")
socket.getaddrinfo = socket.create_connection = refuse
from sheer.export.predictor import load_bundle
found = load_bundle(sys.argv[1]).predict(sys.argv[2:])
print(json.dumps([found.records(), sorted(name for name in sys.modules if name.startswith("sheer."))]))
"""


def test_25_on_a_machine_without_the_training_code_and_offline(bundle, photos, tmp_path):
    """A copy of the package from which everything that trains was taken away still predicts the same."""
    gone = ("loop/train.py", "loop/callbacks.py", "loop/optimizers.py", "loop/updates.py", "export/eject.py", "export/main_template.py")
    gone += (
        "interpret/interpretation.py",
        "interpret/looking.py",
        "interpret/plots.py",
        "learner.py",
        "api.py",
        "loading.py",
        "study",
        "cli",
    )
    copy = tmp_path / "sheer"
    shutil.copytree(SOURCE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    for name in gone:
        shutil.rmtree(copy / name) if (copy / name).is_dir() else (copy / name).unlink()
    (copy / "__init__.py").write_text("")
    files = [str(path) for path in sorted((photos / "red").iterdir())[:3]]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1", "HOME": str(tmp_path / "no home")}
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, str(bundle), *files], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    records, modules = json.loads(done.stdout.splitlines()[-1])
    assert [record["file"] for record in records] == files
    wanted = sheer.load_bundle(bundle).predict(files).outputs.max(axis=1)
    assert np.allclose([record["probability"] for record in records], wanted, atol=1e-5)
    assert not [name for name in modules if name.split(".")[1] in ("learner", "api", "loading", "study", "cli")]


def test_25_on_the_command_line(random_resnet_run, photos, tmp_path, capsys):
    file = tmp_path / "x.sheer"
    assert main(["export", str(random_resnet_run), str(file)]) == 0 and "MiB" in capsys.readouterr().out
    assert main(["predict", str(file), str(photos / "red"), "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(lines) == 30 and set(lines[0]["probabilities"]) == {"blue", "red"}
    assert main(["export", str(random_resnet_run), str(file)]) == 2 and "exists" in capsys.readouterr().err


def test_25_the_same_run_gives_the_same_bytes(random_resnet_run, bundle, tmp_path):
    assert sheer.load(random_resnet_run).export(tmp_path / "again.sheer").read_bytes() == bundle.read_bytes()


def test_25_a_probe_from_a_picture_of_another_shape(tmp_path):
    photos = make_photos(tmp_path / "photos", {"a": 4, "b": 4}, side=(90, 30))
    learn = sheer.learner(sheer.images(photos), Small, size=32, batch_size=2, resize="squish", quiet=True).fit(1)
    predictor = sheer.load_bundle(learn.export(tmp_path / "x.sheer"), objects={"Small": Small})
    assert np.abs(predictor.predict(photos).outputs - learn.predict(photos).outputs).max() < 1e-5
