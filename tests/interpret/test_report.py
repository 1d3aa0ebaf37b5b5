"""`sheer report`: the recorded epoch, the held-out items of the very folder, or another folder whole."""

import shutil
from dataclasses import replace

import numpy as np
import pytest

import sheer
from conftest import make_photos
from own_code import Rows
from sheer.cli.main import main
from sheer.interpret.predictions import Predictions
from sheer.task.metrics import share_interval


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


def sum_of_squares(outputs, target):
    """A metric of one's own."""
    return float((outputs**2).sum())


def test_rows_of_a_run_with_something_of_ones_own_are_told_as_recorded(tmp_path, capsys):
    frame = {"x": [n / 7 for n in range(24)], "z": [n / 3 for n in range(24)], "kind": list("ab") * 12}
    data = sheer.table(frame, target="kind")
    for name, model, metrics in (("metric", None, [sum_of_squares]), ("model", Rows, ["accuracy"])):
        learn = sheer.learner(data, model, metrics=metrics, batch_size=8, quiet=True, out=tmp_path / name).fit(1)
        assert main(["report", str(tmp_path / name)]) == 0
        text = capsys.readouterr().out
        assert "valid_loss" in text and "rows that the plan held out" not in text
    learn = sheer.load(tmp_path / "metric", data=data)
    assert (
        learn.validate().metrics() == {"items": len(data.valid)} and f"no metrics  ({len(data.valid)} items)" in learn.interpret().report()
    )


def by_class(path):
    return 2.0 if path.startswith("red") else 1.0


def test_a_weight_by_a_function_is_read_from_the_run(tmp_path, capsys):
    root = make_photos(tmp_path / "data", {"blue": 8, "red": 8})
    data = sheer.images(root, weight=by_class)
    sheer.learner(data, "test_resnet", weights="none", size=32, batch_size=4, quiet=True, out=tmp_path / "run").fit(1)
    assert main(["report", str(tmp_path / "run"), "--data", str(root)]) == 0
    assert f"The {len(data.valid)} items" in capsys.readouterr().out


def test_words_of_the_tables():
    outputs, target = np.array([[0.9, 0.1], [0.2, 0.1]]), np.array([[1.0, 0.0], [0.0, 0.0]], dtype=np.float32)
    table = Predictions(
        items=("item 1", "item 2 of mine"),
        classes=("a", "b"),
        task="tag",
        metric_functions={},
        outputs=outputs,
        target=target,
        prior=np.array([0.5, 0.0]),
        weights=np.array([0.0, 1.0]),
    )
    said, never = (line for line in table.report().splitlines() if line.split()[:1] in (["a"], ["b"]))
    assert "never said" not in said and "no items that count" in said and "never said" in never
    assert table.of == "file" and replace(table, items=("item 1", "item 22")).of == "item"


def test_extreme_weights_leave_an_interval():
    share, low, high = share_interval(np.array([True, False]), np.array([1.0, 1e-17]))
    assert share == 1.0 and 0 < low < high <= 1
