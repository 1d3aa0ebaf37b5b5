"""Bad input: one paragraph that names the thing and the remedy, before training; no traceback; nothing overwritten."""

import json
import shutil
import time

import pytest
from PIL import Image

import sheer
from conftest import make_photos
from sheer.cli.main import main


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
    assert "one photo only of b" in train(make_photos(tmp_path / "photos", {"a": 3, "b": 1}))


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
    assert "has classes that" in (message := train(folder)) and ": c." in message


def test_unknown_model(capsys, photos):
    assert "Did you mean 'resnet34'" in fails(capsys, "plan", photos, "--model", "resnet43")


@pytest.mark.parametrize("size", ["0", "1", "16"])
def test_a_size_that_the_model_cannot_take(capsys, photos, size):
    message = fails(capsys, "plan", photos, "--model", "resnet18", "--weights", "none", "--size", size)
    assert "size=" + size in message


def test_a_fixed_size_model(capsys, photos):
    message = fails(capsys, "plan", photos, "--model", "vit_tiny_patch16_224", "--weights", "none", "--size", "64")
    assert "cannot take pictures of 64 px" in message


@pytest.mark.parametrize("option", [("--epochs", "0"), ("--batch-size", "1"), ("--seed", "-1"), ("--valid", "1.5"), ("--valid", "held")])
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
    assert "the run of another plan" in fails(capsys, *options, "--seed", "3")
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
