"""Bad input: one paragraph that names the thing and the remedy, before training; no traceback; nothing overwritten."""

import json
import shutil
import time

import numpy as np
import pytest
import torch
from PIL import Image

import sheer
from conftest import Small, make_photos
from sheer.cli.main import main
from sheer.errors import DataError, SheerError


def fails(capsys, *arguments):
    assert main([str(argument) for argument in arguments]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("sheer: ") and captured.err.count("\n") == 1 and "Traceback" not in captured.err
    return captured.err


@pytest.fixture
def train(capsys, tmp_path):
    def run(folder, *options):
        message = fails(
            capsys,
            "train",
            folder,
            "--model",
            "resnet18",
            "--weights",
            "none",
            "--epochs",
            "1",
            "--size",
            "32",
            "--out",
            tmp_path / "out",
            *options,
        )
        assert not (tmp_path / "out").exists() or (tmp_path / "out" / "mine").exists()
        return message

    return run


def test_no_folder(train, tmp_path):
    assert "There is no folder" in train(tmp_path / "nowhere")


def test_empty_folder(train, tmp_path):
    (tmp_path / "photos").mkdir()
    assert "holds no photographs in class folders" in train(tmp_path / "photos")


def test_loose_photos(train, tmp_path):
    make_photos(tmp_path / "photos", {"a": 3})
    assert "There are 3 photos in it directly" in train(tmp_path / "photos" / "a")


def test_one_class(train, tmp_path):
    assert "one class only, 'a'" in train(make_photos(tmp_path / "photos", {"a": 3}))


def test_one_photo_in_a_class(train, tmp_path):
    assert "one item only of b" in train(make_photos(tmp_path / "photos", {"a": 3, "b": 1}))


def test_a_file_that_is_no_image_by_name(train, tmp_path):
    folder = make_photos(tmp_path / "photos", {"a": 3, "b": 3})
    (folder / "a" / "notes.txt").write_text("hello")
    assert "notes.txt is no photograph by its name" in train(folder)


def test_heic_has_its_remedy(train, tmp_path):
    folder = make_photos(tmp_path / "photos", {"a": 3, "b": 3})
    (folder / "a" / "x.HEIC").write_bytes(b"")
    assert "save it as JPEG" in train(folder)


@pytest.mark.parametrize("content", [b"", b"hello", None], ids=["empty", "text", "truncated"])
def test_a_broken_photo(train, tmp_path, content):
    folder = make_photos(tmp_path / "photos", {"a": 8, "b": 8}, side=(200, 200))
    bad = folder / "b" / "002.jpg"
    whole = bad.read_bytes()
    bad.write_bytes(whole[: len(whole) // 2] if content is None else content)
    message = train(folder, "--batch-size", "4")
    assert "1 of 16 files cannot be read" in message and "b/002.jpg" in message and "nothing has been trained" in message


def test_a_class_in_valid_that_train_lacks(train, tmp_path):
    folder = make_photos(tmp_path / "photos", {"a": 3, "b": 3}, part="train")
    make_photos(folder, {"c": 2}, part="valid")
    assert "has classes that" in (message := train(folder)) and ": c (2 files)." in message


def test_unknown_model(capsys, photos):
    assert "Did you mean 'resnet34'" in fails(capsys, "plan", photos, "--model", "resnet43")


@pytest.mark.parametrize("size", ["0", "1", "16"])
def test_a_size_that_the_model_cannot_take(capsys, photos, size):
    message = fails(capsys, "plan", photos, "--model", "resnet18", "--weights", "none", "--size", size)
    assert "size=" + size in message


def test_a_fixed_size_model(capsys, photos):
    message = fails(capsys, "plan", photos, "--model", "vit_tiny_patch16_224", "--weights", "none", "--size", "64")
    assert "cannot take pictures of 64 px" in message


@pytest.mark.parametrize("option", [("--epochs", "-1"), ("--batch-size", "1"), ("--seed", "-1"), ("--valid", "1.5"), ("--valid", "held")])
def test_options_out_of_range(train, photos, option):
    assert option[0].strip("-").replace("-", "_") in train(photos, *option)


def test_out_folder_with_something_else(train, photos, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("precious")
    assert "Nothing was overwritten" in train(photos)
    assert (tmp_path / "out" / "mine").read_text() == "precious"


def test_out_folder_with_another_run_and_with_this_one(capsys, photos, tmp_path):
    options = [
        "train",
        photos,
        "--model",
        "resnet18",
        "--weights",
        "none",
        "--size",
        "32",
        "--epochs",
        "1",
        "--batch-size",
        "8",
        "--out",
        tmp_path / "out",
    ]
    options = [str(option) for option in options]
    assert main(options) == 0
    saved = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    capsys.readouterr()
    assert main(options) == 0 and "already done" in capsys.readouterr().out
    assert "the finished run of another plan: seed: 0 there, 3 here" in fails(capsys, *options, "--seed", "3")
    assert saved == {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}


def test_no_network_is_said_within_ten_seconds(capsys, photos, monkeypatch):
    import huggingface_hub

    def refuse(*args, **options):
        raise OSError("no route to host")

    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", refuse)
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *args, **options: None)
    started = time.perf_counter()
    message = fails(capsys, "plan", photos, "--model", "tf_efficientnet_lite0")
    assert "could not be reached" in message and "--weights FILE" in message and "--weights package" in message
    assert time.perf_counter() - started < 10


def test_weights_file_that_is_none(capsys, photos, tmp_path):
    assert "is no file" in fails(capsys, "plan", photos, "--model", "resnet18", "--weights", tmp_path / "no.pth")
    bad = tmp_path / "bad.pth"
    bad.write_bytes(b"nonsense")
    assert "could not be loaded" in fails(capsys, "plan", photos, "--model", "resnet18", "--weights", bad)


def test_run_folder_that_is_none(capsys, tmp_path, photos):
    assert "is no finished run" in fails(capsys, "predict", tmp_path, photos / "red")


def test_predict_of_a_missing_file(capsys, random_resnet_run, tmp_path):
    assert "There is no file or folder" in fails(capsys, "predict", random_resnet_run, tmp_path / "no.jpg")
    (tmp_path / "bad.jpg").write_text("hello")
    assert "bad.jpg" in fails(capsys, "predict", random_resnet_run, tmp_path / "bad.jpg")


def test_evaluate_of_unknown_classes(capsys, random_resnet_run, tmp_path):
    folder = make_photos(tmp_path / "other", {"red": 2, "zebra": 2})
    assert "zebra" in fails(capsys, "evaluate", random_resnet_run, folder)


def test_plan_json_is_the_plan_and_nothing_else(capsys, photos):
    assert main(["plan", str(photos), "--model", "resnet18", "--weights", "none", "--size", "32", "--json"]) == 0
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    assert document["model"]["surgery"]["largest_difference"] == 0 and len(document["phases"]) == 2


def test_plan_ends_with_an_estimate(capsys, photos):
    assert main(["plan", str(photos), "--model", "resnet18", "--weights", "none", "--size", "32"]) == 0
    last = capsys.readouterr().out.strip().splitlines()[-1]
    assert last.startswith("Estimate: about") and "memory" in last and "disk" in last


def test_predict_prints_a_table_json_lines_and_csv(capsys, random_resnet_run, photos, tmp_path):
    run, red = str(random_resnet_run), str(photos / "red")
    assert main(["predict", run, red]) == 0
    assert capsys.readouterr().out.count(".jpg") == 30
    assert main(["predict", run, red, "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(lines) == 30 and set(lines[0]["probabilities"]) == {"blue", "red"}
    target = tmp_path / "out.csv"
    assert main(["predict", run, red, "--csv", str(target)]) == 0
    assert len(target.read_text().splitlines()) == 31
    capsys.readouterr()
    assert "exists" in fails(capsys, "predict", run, red, "--csv", target)


def test_evaluate_prints_the_metrics(capsys, random_resnet_run, photos):
    assert main(["evaluate", str(random_resnet_run), str(photos), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["items"] == 51


def test_folders_that_would_mislead(train, tmp_path):
    folder = make_photos(tmp_path / "photos", {"a": 3, "b": 3})
    make_photos(folder, {"a": 2, "b": 2}, part="val")
    assert "a folder val but none called train" in train(folder)
    parted = make_photos(tmp_path / "parted", {"a": 3, "b": 3}, part="train")
    assert "is the folder to learn from" in train(parted, "--valid", "train")
    (folder / "a" / "gone.jpg").symlink_to(folder / "nowhere.jpg")
    (folder / "val").rename(folder / ".val")
    assert "is no file that can be read" in train(folder)


def test_an_empty_folder_is_noted(tmp_path):
    folder = make_photos(tmp_path / "photos", {"a": 3, "b": 3})
    (folder / "c").mkdir()
    assert any("folders without photographs are no classes: c" in note for note in sheer.images(folder).plan.notes)


def test_the_same_picture_in_two_classes_is_noted(tmp_path):
    folder = make_photos(tmp_path / "photos", {"a": 3, "b": 3})
    (folder / "b" / "000.jpg").write_bytes((folder / "a" / "001.jpg").read_bytes())
    assert any("different targets" in note for note in sheer.images(folder).plan.notes)


def test_csv_into_no_folder_is_refused_before_predicting(capsys, random_resnet_run, photos, tmp_path):
    assert "There is no folder" in fails(capsys, "predict", random_resnet_run, photos, "--csv", tmp_path / "no" / "x.csv")


def test_an_edited_history_or_garbage_is_named(capsys, random_resnet_run, photos, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(random_resnet_run, run)
    (run / "history.csv").write_text((run / "history.csv").read_text().replace("frozen", "thawed"))
    assert "history.csv was changed" in fails(capsys, "predict", run, photos / "red")
    (run / "record.json").write_text("[1]")
    assert "is damaged" in fails(capsys, "predict", run, photos / "red")


def test_a_very_thin_picture_is_named(train, tmp_path):
    folder = make_photos(tmp_path / "photos", {"a": 8, "b": 8})
    Image.new("RGB", (60000, 1)).save(folder / "a" / "thin.png")
    assert "a/thin.png" in train(folder)


TABLE = "file,label,n\nblue/000.jpg,a,1\nblue/001.jpg,a,2\nred/000.jpg,b,3\nred/001.jpg,b,4\n"
BYTES = torch.zeros((20, 3, 16, 16), dtype=torch.uint8)
HALVES = [0, 1] * 10


def cannot(name):
    raise KeyError(name)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label": 5}, "label=5: give the name of a column"),
        ({"label": ()}, r"label=\(\)"),
        ({"label": [5]}, r"label=\[5\]"),
        ({"label": cannot}, "Your function cannot fails on 'blue/000.jpg': KeyError"),
        ({"group": cannot}, "Your function cannot fails on 'blue/000.jpg'"),
        ({"separator": ""}, "what stands between"),
        ({"separator": 5}, "separator=5: give a text"),
        ({"path": 5}, "path=5: give a text"),
        ({"root": 5}, "root=5: give a path"),
        ({"task": 5}, "task=5: give a text"),
        ({"split": 5}, "split=5: give a text"),
        ({"weight": [1.0]}, "weight=.*give the name of a column"),
        ({"profile": 5}, "profile=5: give a text"),
        ({"group": 5}, "group=5: give the name of a column"),
        ({"seed": 1.5}, "seed=1.5: give a whole number"),
        ({"seed": -1}, "seed=-1"),
        ({"folds": 5.5}, "folds=5.5: give a whole number"),
        ({"folds": 2, "fold": 0.5}, "fold=0.5"),
        ({"valid": {}}, "valid: give a share"),
        ({"valid": []}, "valid=.*a mask of 4"),
        ({"valid": [True]}, "valid=.*a mask of 4"),
    ],
    ids=str,
)
def test_wrong_types_for_data(photos, tmp_path, options, message):
    (tmp_path / "table.csv").write_text(TABLE)
    with pytest.raises(SheerError, match=message):
        sheer.images(tmp_path / "table.csv", **{"root": photos} | options)
    with pytest.raises(SheerError):
        sheer.DataBlock(**options).build(photos)


@pytest.mark.parametrize("source", [None, 5, {"a": 1}, b"abc", {1, 2}, [1, 2, 3], [("picture", 1), None]], ids=str)
def test_a_source_that_is_none(source):
    with pytest.raises(DataError, match="Give a folder, a CSV file, a data frame"):
        sheer.images(source)


def test_a_table_for_photographs_is_told_apart(capsys, tmp_path):
    rows = tmp_path / "house.csv"
    rows.write_text("longitude,price\n" + "".join(f"-121.{number},{number}\n" for number in range(10, 30)))
    for command in (["train", str(rows)], ["check", str(rows)]):
        said = " ".join(fails(capsys, *command).split())
        assert "column 'longitude' names no files: '-121.1' is no photograph by its name" in said
        assert "--target COLUMN" in said and "--text COLUMN" in said
    assert "--root is for photographs" in fails(capsys, "plan", rows, "--target", "price", "--root", tmp_path)
    odd = tmp_path / "odd.csv"
    odd.write_text("file\nscan.dcm\n")
    assert [one.kind for one in sheer.check(odd, root=tmp_path).problems] == ["missing"]


def test_a_table_that_is_not_utf_8_or_has_an_open_quote(tmp_path):
    (tmp_path / "latin.csv").write_bytes("file,label\na.jpg,gr\u00fcn\n".encode("latin-1"))
    with pytest.raises(DataError, match="is no UTF-8 text"):
        sheer.images(tmp_path / "latin.csv")
    (tmp_path / "open.csv").write_text('file,label\na.jpg,"green\n')
    with pytest.raises(DataError, match=r"cannot be read as CSV after line 1: .* Is a quote not closed"):
        sheer.images(tmp_path / "open.csv")


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((None, HALVES), {}, "inputs are NoneType: give a tensor or an array"),
        (("abc", HALVES), {}, "inputs are str"),
        ((np.array(["a"] * 20), HALVES), {}, "inputs are an array of <U1"),
        ((torch.tensor(1), HALVES), {}, "give a tensor"),
        ((BYTES, None), {}, "give one class number an item"),
        ((BYTES, [[1], [2, 3]]), {}, "Give one class number an item"),
        ((BYTES, HALVES), {"classes": 5}, "classes=5: give the names"),
        ((BYTES, HALVES), {"classes": "ab"}, "classes='ab'"),
        ((BYTES, HALVES), {"seed": 1.5}, "seed=1.5"),
        ((BYTES, HALVES), {"profile": 5}, "There is no profile 5"),
        ((BYTES, HALVES), {"split": []}, r"split=\[\] is no split"),
    ],
    ids=str,
)
def test_wrong_types_for_arrays(arguments, options, message):
    with pytest.raises(SheerError, match=message):
        sheer.arrays(*arguments, **options)


def test_numpy_arrays_and_tensors_are_taken_as_data():
    one = sheer.arrays(BYTES.numpy(), torch.tensor(HALVES), classes=["a", "b"])
    assert one.plan == sheer.arrays(BYTES, HALVES, classes=("a", "b")).plan
    assert sheer.arrays(np.zeros((20, 4)), HALVES).arrays.dtype == torch.float32


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"out": 5}, "out=5: give a path"),
        ({"seed": 1.5}, "seed=1.5"),
        ({"size": "a"}, "size='a'"),
        ({"size": 32.5, "precision": "probe"}, "size=32.5"),
        ({"batch_size": "8", "precision": "probe"}, "batch_size='8'"),
        ({"channel_init": 5}, "channel_init=5: give a text"),
        ({"sampling": []}, r"sampling=\[\]: give a text"),
        ({"memory_format": torch.channels_last}, "memory_format=.*give a text"),
        ({"compile": 1}, "compile=1 is not known"),
        ({"metrics": "accuracy"}, "metrics='accuracy': give names"),
        ({"metrics": 5}, "metrics=5: give names"),
        ({"cache": "x"}, "cache='x': give True"),
        ({"resize": 5}, "resize: 5 is no name"),
        ({"class_weights": np.ones(3)}, "class_weights=.*2 numbers"),
        ({"class_weights": 5}, "class_weights=5"),
        ({"stop": "accuracy"}, "stop='accuracy': give a metric"),
        ({"stop": 1.5}, "stop=1.5: give a metric"),
        ({"stop": ("accuracy",)}, "stop=.*give a metric"),
        ({"stop": ("accuracy", 1, "up")}, "'up' after the metric 'accuracy': give 'min' or 'max'"),
        ({"stop": ([], 1)}, r"stop: \[\] is no metric"),
        ({"keep": ("best",)}, "keep=.*give 'last'"),
        ({"keep": 5}, "keep=5: give 'last'"),
        ({"keep": ()}, r"keep=\(\): give 'last'"),
        ({"keep": ("best", [])}, r"keep: \[\] is no metric"),
        ({"optimizer": ("sgd", {5: 1})}, "a setting's name=5: give a text"),
        ({"loss": torch.nn.CrossEntropyLoss()}, "loss=.*give a name"),
    ],
    ids=str,
)
def test_wrong_types_for_a_learner(photos, options, message):
    with pytest.raises(SheerError, match=message):
        sheer.learner(sheer.images(photos), Small, **{"size": 32, "quiet": True} | options).plan(sheer.recipes.one_cycle(1))


@pytest.mark.parametrize("weights", [np.ones(2), np.array([1, 1]), torch.ones(2), [1, 1.0]], ids=str)
def test_class_weights_are_any_row_of_numbers(small_learner, weights):
    plan = small_learner(class_weights=weights).plan(sheer.recipes.one_cycle(1))
    assert plan.phases[0].class_weights == (1.0, 1.0) and sheer.Plan.from_json(plan.to_json()) == plan


def test_numbers_of_numpy_are_plain_numbers_in_a_plan(photos):
    options = {"batch_size": np.int64(4), "accumulate": np.int64(8), "ema": np.float64(0.9), "clip": np.float32(1), "stop": np.int64(2)}
    learn = sheer.learner(sheer.images(photos, folds=np.int64(3)), Small, size=np.int64(16), seed=np.int64(1), quiet=True, **options)
    plan = learn.plan(sheer.recipes.one_cycle(np.int64(1), rate=np.float32(1e-3)))
    assert sheer.Plan.from_json(plan.to_json()) == plan


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda learn: learn.plan("x"), "'x' is no recipe: give what a function of sheer.recipes returns"),
        (lambda learn: learn.plan(5), "5 is no recipe"),
        (lambda learn: learn.plan(sheer.recipes.one_cycle(1)[0]), "is no recipe"),
        (lambda learn: learn.run([5]), "is no recipe"),
        (lambda learn: learn.schedule_data("x"), "is no recipe"),
        (lambda learn: learn.fit(1, callbacks=5), "callbacks=5: give a list of objects"),
        (lambda learn: learn.fit(1, callbacks=[5]), r"callbacks=\[5\]"),
        (lambda learn: learn.write_to(5), "folder=5: give a path"),
        (lambda learn: learn.save(5), "folder=5: give a path"),
        (lambda learn: learn.predictions(5), "part=5"),
        (lambda learn: learn.tta(beta="a"), "beta='a'"),
        (lambda learn: learn.preview("a"), "item='a'"),
        (lambda learn: learn.predict(5), "file=5: give a path"),
        (lambda learn: learn.predict([5]), "file=5: give a path"),
        (lambda learn: learn.evaluate(5), "folder=5: give a path"),
        (lambda learn: learn.duplicates("x"), "threshold='x'"),
        (lambda learn: learn.grad_cam(1.5), "file=1.5: give a path"),
        (lambda learn: learn.grad_cam(True), "file=True: give a path"),
        (lambda learn: learn.plot_lr_find(5), "sweep=5: give what"),
        (lambda learn: learn.plot_confusion(5), "predictions=5: give what"),
    ],
    ids=str,
)
def test_wrong_types_for_a_verb(small_learner, call, message):
    learn = small_learner()
    with pytest.raises(SheerError, match=message):
        call(learn)
    assert not learn.history


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda run, other: sheer.load(5), "run=5: give a path"),
        (lambda run, other: sheer.load(run, data=5), "data=5: give what sheer.images"),
        (lambda run, other: sheer.load(run, objects=[Small]), "objects=.*by their names"),
        (lambda run, other: sheer.load(run, device=5), "device=5: give a text"),
        (lambda run, other: sheer.load(run, cache="x"), "cache='x'"),
        (lambda run, other: sheer.eject(5, other), "run=5: give a path"),
        (lambda run, other: sheer.eject(run, 5), "script=5: give a path"),
        (lambda run, other: sheer.eject(run, other, objects=5), "objects=5"),
        (lambda run, other: sheer.Plan.from_json(5), "not JSON"),
        (lambda run, other: sheer.Cache(folder=5), "folder=5"),
        (lambda run, other: sheer.Cache(limit=-1), "limit=-1"),
        (lambda run, other: sheer.recipes.progressive(1, sizes=32), "sizes=32: give the sides"),
        (lambda run, other: sheer.recipes.progressive(1, sizes=["a"]), "sizes='a'"),
        (lambda run, other: sheer.recipes.scheduled(1, schedule=["linear"]), "schedule=.*each with its share"),
        (lambda run, other: sheer.recipes.scheduled(1, schedule=5), "schedule=5"),
        (lambda run, other: sheer.recipes.scheduled(1, schedule=[("linear", "a")]), "a share='a'"),
        (lambda run, other: sheer.recipes.scheduled(1, schedule=[(5, 1.0)]), "schedule=5"),
        (lambda run, other: sheer.recipes.one_cycle(1, profile=[]), r"no profile \[\]"),
    ],
    ids=str,
)
def test_wrong_types_elsewhere(random_resnet_run, tmp_path, call, message):
    with pytest.raises(SheerError, match=message):
        call(random_resnet_run, tmp_path / "script.py")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("folds", "give NAME=VALUE"),
        ("fold=1", "give folds as well"),
        ("foldz=5", "Did you mean 'fold' or 'folds'"),
        ("seed=5", "give --seed instead"),
        ("cache=5", "a keyword of"),
        ("rate=-1", "rate=-1"),
        ("mix=mixdown", "mix 'mixdown' is not known"),
        ("stop=(1", "stop='(1'"),
        ("mix={[1]: 2}", "mix '{[1]: 2}' is not known"),
        ("root=elsewhere", "--set root=elsewhere: give --root instead"),
    ],
)
def test_a_setting_on_the_command_line_that_is_none(capsys, photos, given, message):
    assert message in fails(capsys, "plan", photos, "--model", "resnet18", "--weights", "none", "--size", "32", "--set", given)
    assert "Give it once" in fails(capsys, "plan", photos, "--set", "fold=1", "--set", "fold=2")
    assert "is not Python: give" in fails(capsys, "plan", photos, "--model", "{[1]: 2}")


def test_settings_on_the_command_line_go_to_data_learner_and_recipe(capsys, photos):
    given = ["folds=3", "fold=1", "mix=mixup", "optimizer=('sgd', {'nesterov': True})", "decay=0.5", "rate=0.01", "clip=1"]
    options = [word for one in given for word in ("--set", one)]
    start = ["plan", str(photos), "--model", "resnet18", "--weights", "none", "--size", "32", "--recipe", "one_cycle", "--json"]
    assert main([*start, *options]) == 0
    plan = sheer.Plan.from_json(capsys.readouterr().out)
    (phase,) = plan.phases
    assert str(plan.data.split) == "fold(folds=3, fold=1, seed=0)" and phase.mix.name == "mixup" and phase.clip == 1.0
    assert phase.optimizer.options()["nesterov"] is True and phase.rates == (0.0025, 0.005, 0.01)


def test_a_report_of_a_run_on_a_table_ends_with_what_works(capsys, photos, tmp_path):
    lines = [f"{path.relative_to(photos)},{number}.5" for number, path in enumerate(sorted(photos.rglob("*.jpg")))]
    (tmp_path / "table.csv").write_text("\n".join(["file,height", *lines]))
    data = sheer.images(tmp_path / "table.csv", root=photos)
    learn = sheer.learner(data, "resnet18", weights="none", size=32, batch_size=16, quiet=True, out=tmp_path / "run")
    learn.run(sheer.recipes.linear_probe(1))
    assert main(["report", str(tmp_path / "run")]) == 0
    assert capsys.readouterr().out.endswith("data=sheer.images(folder)).interpret().report()\n")
    assert "mean_absolute_error" in sheer.load(tmp_path / "run", data=data).interpret().report()
