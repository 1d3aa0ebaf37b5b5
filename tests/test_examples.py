"""The examples that make a page: run briefly, with random weights."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"


def test_behind_the_learner_answers_the_walk_throughs_questions(photos, tmp_path):
    command = [sys.executable, str(EXAMPLES / "behind_the_learner.py"), str(photos), "--model", "resnet18", "--weights", "none"]
    done = subprocess.run([*command, "--size", "64", "--out", str(tmp_path / "walk.md")], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "walk.md").read_text()
    assert "so the head has 512 inputs: nothing is doubled" in text
    assert "The first layer of its head takes 512 numbers; its dropouts are 0.0;" in text
    assert "this split is another thing" in text and "the convolution still took 3 channels" in text and "weights sum to 0" in text
    assert "script line" in text and "What the network sees: " in text
    assert "norm: here body frozen, head train; fastai-2.8 has body train" in text


def experiment(name, photos, tmp_path, *more):
    command = [sys.executable, str(EXAMPLES / name), str(photos), "--items", "30", "--epochs", "1", "--seeds", "2", "--weights", "none"]
    command += ["--work", str(tmp_path / "work"), "--json", str(tmp_path / "all.json"), "--markdown", str(tmp_path / "page.md"), *more]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout, (tmp_path / "page.md").read_text(), json.loads((tmp_path / "all.json").read_text())


def test_the_riddle_is_four_runs_and_two_ways(photos, tmp_path):
    printed, page, runs = experiment("riddle_89_73.py", photos, tmp_path, "--models", "test_resnet")
    assert (
        all(f"| {run} | " in page for run in ("A-X", "B-X", "A-Y", "B-Y", "plain PyTorch"))
        and "optimizer.beta2" in page
        and page in printed
    )
    assert "| rates | 0.0003, 0.003 | 0.003, 0.003 |" in page and str(tmp_path) not in page
    assert [run["run"] for run in runs] == ["A-X", "B-X", "A-Y", "B-Y", "plain PyTorch", "norm layers still"]
    assert all(len(run["accuracy"]) == 2 for run in runs)


def test_the_seven_tricks_are_seven_rows_with_tests(photos, tmp_path):
    _, page, runs = experiment("seven_tricks.py", photos, tmp_path, "--model", "test_resnet", "--size", "32")
    rows = [line for line in page.splitlines() if line.startswith("| ") and line[2].isdigit()]
    assert len(rows) == 7 and len(runs) == 7 and "p seeds" in page and "failed" not in page
    again, _, _ = experiment("seven_tricks.py", photos, tmp_path, "--model", "test_resnet", "--size", "32")
    assert again.count("already done") == 14


def test_fusion_trains_each_branch_alone_and_both(tmp_path):
    pytest.importorskip("elpv_dataset")
    command = [
        sys.executable,
        str(EXAMPLES / "fusion.py"),
        "--items",
        "60",
        "--epochs",
        "1",
        "--seeds",
        "2",
        "--size",
        "32",
        "--weights",
        "none",
    ]
    command += ["--model", "test_resnet", "--fusion", "gated_sum", "--work", str(tmp_path), "--markdown", str(tmp_path / "page.md")]
    done = subprocess.run([*command, "--json", str(tmp_path / "all.json")], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "page.md").read_text()
    assert all(f"| {name} | 0." in page for name in ("image + table", "image", "table")) and "permuted" in page and "failed" not in page
    assert [len(row["balanced_accuracy"]) for row in json.loads((tmp_path / "all.json").read_text())] == [2, 2, 2]
