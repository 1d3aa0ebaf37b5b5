"""The example that replays a thread: a table's network, the same one put in by hand, and the script without sheer, to the same bits."""

import importlib.util
import runpy
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import sheer

PATH = Path(__file__).parent.parent / "examples" / "off_ramp.py"


@pytest.fixture(scope="module")
def example():
    return SimpleNamespace(**runpy.run_path(str(PATH)))


@pytest.fixture(scope="module")
def frame(example):
    return example.frame_of(600, 0)


def test_the_model_by_hand_and_the_script_give_the_numbers_of_the_baseline(example, frame):
    seen = example.in_sheer(frame, 2)
    table, own, script = (seen[name] for name in ("tabular", "by hand, with_model", "script, without sheer"))
    assert table.hashes == own.hashes == script.hashes and len(set(table.hashes)) == 2
    assert table.train == own.train == script.train and table.valid == own.valid == script.valid
    assert table.sweep == own.sweep and len(table.sweep) > 500 and min(table.sweep) < table.sweep[0] / 2
    assert (table.moved, own.moved) == ("13 of 13", "13 of 13")


def test_the_thread_s_set_up(example, frame):
    learn = example.baseline(frame)
    phase = learn.plan(sheer.recipes.one_cycle(1)).phases[0]
    assert (phase.class_weights, phase.loss_mean) == (example.WEIGHTS, "weights")
    assert [round(share, 2) for share in frame["target"].value_counts(normalize=True)] == [0.59, 0.41]
    linear = [module.out_features for module in learn.model.modules() if isinstance(module, torch.nn.Linear)]
    dropout = [module.p for module in learn.model.body.layers if isinstance(module, torch.nn.Dropout)]
    assert (tuple(linear), tuple(dropout)) == ((337, 290, 82, 2), (0.3, 0.3, 0.07))


def test_kept_groups_train_nothing_and_sheer_says_what_to_do(example, frame):
    seen = example.stale(frame, 1)
    assert seen.moved == "0 of 13"
    said = example.said_on_assignment(frame)
    assert said.startswith("OwnershipError: ") and "learn.with_model(your_module)" in said


def test_fastai_s_loss_of_the_same_weights_is_the_same(example, frame):
    if importlib.util.find_spec("fastai") is None:
        pytest.skip("fastai is not installed: pip install '.[bench]'")
    learn, seen = example.baseline(frame), example.in_fastai(frame, 1)
    data = learn.data
    learn.model.eval()
    with torch.no_grad():
        scores = learn.model(data.arrays[data.valid])
    weighted = torch.nn.CrossEntropyLoss(weight=torch.tensor(example.WEIGHTS))(scores, torch.from_numpy(data.targets[data.valid]))
    first, after = seen["fastai, own model before its first fit"], seen["fastai, own model after its first fit"]
    assert first.valid[0] == pytest.approx(float(weighted), rel=1e-4) == after.valid[0]
    assert (first.moved, after.moved) == ("13 of 13", "0 of 13")


def test_it_prints_its_table():
    command = [sys.executable, str(PATH), "--rows", "400", "--epochs", "1", "--seeds", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "The first three have equal weights after every epoch, the first two equal sweeps: 1 of 1 seeds." in done.stdout
