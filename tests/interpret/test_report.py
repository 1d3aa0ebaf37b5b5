"""`sheer report`: the recorded epoch, the held-out items of the very folder, or another folder whole."""

import shutil

import pytest

import sheer
from conftest import make_photos
from sheer.cli.main import main


def test_without_data_it_prints_the_record(random_resnet_run, capsys):
    assert main(["report", str(random_resnet_run)]) == 0
    text = capsys.readouterr().out
    assert "plan completed" in text and "valid_loss" in text and "--data FOLDER" in text


def test_the_folder_learned_from_is_split_as_it_was(random_resnet_run, photos, capsys):
    assert main(["report", str(random_resnet_run), "--data", str(photos)]) == 0
    text = capsys.readouterr().out
    learn = sheer.load(random_resnet_run, data=sheer.images(photos))
    assert f"The {len(learn.data.valid)} items" in text and learn.interpret().report() in text
    assert all(part in text for part in ("accuracy", "precision", "Largest losses", "temperature"))


def test_another_folder_is_judged_whole(random_resnet_run, photos, tmp_path, capsys):
    other = tmp_path / "other"
    shutil.copytree(photos, other)
    (other / "red" / "000.jpg").unlink()
    assert main(["report", str(random_resnet_run), "--data", str(other)]) == 0
    text = capsys.readouterr().out
    assert "not the folder" in text and "(50 items)" in text


def test_a_run_on_parts_and_a_shuffled_seed(tmp_path, capsys):
    root = make_photos(tmp_path / "data", {"blue": 6, "red": 6}, part="train")
    make_photos(root, {"blue": 3, "red": 2}, part="valid", side=(30, 30))
    learn = sheer.learner(sheer.images(root), "test_resnet", weights="none", size=32, batch_size=4, quiet=True, out=tmp_path / "run")
    learn.fit(1)
    assert main(["report", str(tmp_path / "run"), "--data", str(root)]) == 0
    assert "The 5 items" in capsys.readouterr().out
    single = make_photos(tmp_path / "single", {"blue": 8, "red": 12})
    data = sheer.images(single, valid=0.3, seed=5)
    sheer.learner(data, "test_resnet", weights="none", size=32, batch_size=4, quiet=True, out=tmp_path / "seeded").fit(1)
    assert main(["report", str(tmp_path / "seeded"), "--data", str(single)]) == 0
    text = capsys.readouterr().out
    assert f"The {len(data.valid)} items" in text and all(data.paths[item] in text for item in data.valid)


def test_a_folder_of_one_class_is_judged_too(random_resnet_run, tmp_path, capsys):
    assert main(["report", str(random_resnet_run), "--data", str(make_photos(tmp_path / "one", {"red": 3}))]) == 0
    assert "(3 items)" in capsys.readouterr().out


def test_other_tasks_are_sent_to_python(tmp_path, capsys):
    root = make_photos(tmp_path / "data", {"blue": 6, "red": 6})
    lines = [f"{path.relative_to(root)},{'a;b' if path.parent.name == 'red' else 'b'}" for path in sorted(root.rglob("*.jpg"))]
    (root / "table.csv").write_text("\n".join(["file,labels", *lines]) + "\n")
    data = sheer.images(root / "table.csv", path="file", label="labels", separator=";")
    learn = sheer.learner(data, "test_resnet", weights="none", size=32, batch_size=4, quiet=True, out=tmp_path / "run").fit(1)
    assert "Largest losses" in learn.interpret().report() and learn.tta(n=2).losses.shape == (len(data.valid),)
    assert main(["report", str(tmp_path / "run"), "--data", str(root)]) == 2
    assert "interpret" in capsys.readouterr().err
    assert main(["report", str(tmp_path / "run")]) == 0


@pytest.mark.parametrize("arguments", [["no-such-run"], ["no-such-run", "--data", "nothing"]])
def test_what_is_not_there_is_named(arguments, capsys):
    assert main(["report", *arguments]) == 2
    assert "no-such-run" in capsys.readouterr().err


def test_a_folder_that_is_not_there_is_named(random_resnet_run, capsys):
    assert main(["report", str(random_resnet_run), "--data", "nowhere"]) == 2
    assert "nowhere" in capsys.readouterr().err
