"""The benchmark of peers, run as a command on a tiny set: one split for all, a curve each, and what is made of them."""

import importlib.util
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import timm.utils

import sheer
from conftest import make_photos

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
from benchmarks.peers import report, sets  # noqa: E402
from benchmarks.peers.__main__ import main  # noqa: E402
from benchmarks.peers.child import measured as measured_run  # noqa: E402
from benchmarks.peers.prepare import lay_out  # noqa: E402
from benchmarks.peers.task import Task  # noqa: E402

SCRIPT = """import argparse
from timm import utils

parser = argparse.ArgumentParser(allow_abbrev=False)
for name in "data-dir model pretrained-path num-classes img-size output device".split():
    parser.add_argument("--" + name, required=True)
args, _ = parser.parse_known_args()
for epoch in range(2):
    utils.update_summary(epoch, {"loss": 1.0}, {"loss": 1.0, "top1": 50.0 + epoch}, filename=args.output, lr=1.0)
"""
INSTALLED = [name for name in ("fastai", "keras") if importlib.util.find_spec(name)]
PEERS = ["sheer", "plain", *INSTALLED]


def command(*words: object) -> subprocess.CompletedProcess:
    path = os.pathsep.join([str(Path(sheer.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    line = [sys.executable, "-m", "benchmarks.peers", *map(str, words)]
    return subprocess.run(line, cwd=ROOT, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True)


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """What the command printed and wrote: 51 pictures of 32 px, one of them in a deeper folder, and a file that is no picture."""
    folder = make_photos(tmp_path_factory.mktemp("tiny"), {"blue": 21, "red": 30}, side=(32, 32))
    (folder / "red" / "deeper").mkdir()
    (folder / "red" / "000.jpg").rename(folder / "red" / "deeper" / "000.jpg")
    (folder / "red" / "broken.jpg").write_bytes(b"no picture")
    out = tmp_path_factory.mktemp("out")
    options = ("--model", "test_resnet", "--weights", "none", "--size", 32, "--seeds", 1, "--epochs", 1, "--peers", ",".join(PEERS))
    done = command("--data", folder, *options, "--json", out / "tiny.json", "--plot", out / "tiny.png")
    assert done.returncode == 0, done.stderr
    return done.stdout, json.loads((out / "tiny.json").read_text()), out


def test_all_learn_from_one_split(measured):
    _, result, _ = measured
    assert [run["peer"] for run in result["runs"]] == PEERS
    assert {run["split_sha256"] for run in result["runs"]} == {result["data"]["split_sha256"]}
    assert (result["data"]["train_items"], result["data"]["valid_items"], result["data"]["unreadable"]) == (41, 10, 1)


def test_a_run_is_a_curve_with_its_cost(measured):
    _, result, _ = measured
    for run in result["runs"]:
        assert len(run["curve"]) == 2
        assert 0 < run["curve"][0][0] < run["curve"][1][0]
        assert run["curve"][-1][1] == pytest.approx(run["hits"].count("1") / 10)
        assert run["import_seconds"] > 0.1
        assert 2**26 < run["peak_memory"] < 2**33


def test_what_is_made_of_the_runs(measured):
    printed, result, out = measured
    assert list(result["summary"]) == PEERS
    assert result["machine"]["cores"] >= 1
    assert "torch" in result["machine"]
    assert "seconds_ratio_to_fastai_accuracy" in result
    assert len(result["seconds_ratio_to_fastai_accuracy_per_seed"]) == int("fastai" in PEERS)
    assert "/" not in result["command"].replace("tiny.json", "")
    assert "accuracy at fastai's seconds" in printed
    assert (out / "tiny.png").read_bytes().startswith(b"\x89PNG")


def test_the_page_is_written_from_files(measured, tmp_path):
    _, _, out = measured
    files = [str(out / "tiny.json")] * 2
    assert main(["--report", *files, "--write", str(tmp_path / "page.md")]) == 0
    page = (tmp_path / "page.md").read_text()
    assert page.count("32 px, test_resnet") == 2
    assert "`sheer`: sheer's default recipe" in page
    assert "--seeds 1" in page
    assert str(out) not in page


def run_of(peer: str, seed: int, *curve: tuple[float, float], hits: str = "") -> dict:
    cost = {"import_seconds": 1.0, "peak_memory": 1, "worker_memory": 1, "turn": 0}
    return {"peer": peer, "seed": seed, "curve": curve, "hits": hits, **cost}


def test_a_train_script_of_timms_is_run_where_it_is(photos, tmp_path, monkeypatch):
    lay_out(str(photos), tmp_path / "laid", None)
    task = Task(folder=str(tmp_path / "laid"), model="test_resnet", weights="weights.pth", size=32, epochs=1, seed=0)
    monkeypatch.setattr(timm.utils, "update_summary", None)  # what the peer puts there is taken away again
    monkeypatch.setattr(sys, "argv", [])
    monkeypatch.setenv("TIMM_TRAIN", "")
    assert "give the path of a copy" in measured_run("timm", task, 0.0)["skipped"]
    (tmp_path / "train.py").write_text(SCRIPT)
    monkeypatch.setenv("TIMM_TRAIN", str(tmp_path / "train.py"))
    run = measured_run("timm", task, 0.0)
    assert [accuracy for _, accuracy in run["curve"]] == [0.5, 0.51]
    assert run["hits"] == ""


def test_ratios_and_differences_are_paired_by_seed():
    runs = [
        *(run_of("fastai", 0, (50, 0.5), (100, 0.8), hits="1100"), run_of("sheer", 0, (10, 0.8), (20, 0.9), hits="1111")),
        *(run_of("fastai", 1, (50, 0.5), (100, 0.7), hits="1100"), run_of("sheer", 1, (10, 0.6), (20, 0.9), hits="1111")),
        *(run_of("fastai", 2, (40, 0.5), (100, 0.9), hits="1100"), run_of("sheer", 2, (10, 0.6), (200, 0.95), hits="1111")),
        run_of("plain", 0, (150, 0.7)),
    ]
    found = report.summary({"peers": ["sheer", "fastai", "plain"], "runs": runs})
    assert found["seconds_ratio_to_fastai_accuracy_per_seed"] == pytest.approx([0.1, 0.2, 2.0])
    assert found["seconds_ratio_to_fastai_accuracy"] == pytest.approx(0.2)
    ours, plain = found["summary"]["sheer"], found["summary"]["plain"]
    assert ours["accuracy_at_fastai_seconds"]["per_seed"] == [0.9, 0.9, 0.6]
    gap = ours["difference_at_fastai_seconds"]
    assert gap["per_seed"] == pytest.approx([0.1, 0.2, -0.3])
    assert gap["mean"] == pytest.approx(0)
    # three values with standard deviation .2646: t(2) = 4.303 times .2646 / sqrt(3)
    assert gap["half"] == pytest.approx(0.657, abs=1e-3)
    # differences of hits 0 0 1 1: mean .5, standard deviation .577, t = 1.732 with 3 degrees of freedom
    assert ours["difference_at_end"]["p_items"] == pytest.approx(0.1817, abs=1e-3)
    nowhere = {"seeds": 0, "of": 1, "median": None}
    assert plain["seconds_to_fastai_accuracy"] == {"median": None, "per_seed": [None], "reached": nowhere}
    assert found["seconds_ratio_to_fastai_accuracy_reached"] == {"seeds": 3, "of": 3, "median": pytest.approx(0.2)}
    assert plain["difference_at_fastai_seconds"]["seeds_left_out"] == 1
    assert found["seconds_ratio_imports_included"] == pytest.approx(21 / 101)
    assert found["summary"]["fastai"]["seconds_ratio_to_fastai_accuracy"]["per_seed"] == [1, 1, 1]


def test_where_half_of_the_seeds_never_get_there_it_is_said_how_many_did_and_how_fast():
    runs = [
        *(run_of("fastai", 0, (50, 0.5), (100, 0.8), hits="1100"), run_of("sheer", 0, (10, 0.8), hits="1111")),
        *(run_of("fastai", 1, (50, 0.5), (100, 0.7), hits="1100"), run_of("sheer", 1, (10, 0.6), hits="1111")),
    ]
    found = report.summary({"peers": ["sheer", "fastai"], "runs": runs})
    assert found["seconds_ratio_to_fastai_accuracy"] is None
    assert found["seconds_ratio_to_fastai_accuracy_reached"] == {"seeds": 1, "of": 2, "median": pytest.approx(0.1)}
    (said,) = report.notes(found | {"skipped": {}, "runs": runs})
    assert "no median, for 1 of 2 seeds got there, in 0.100 of its seconds; of the others this says nothing" in said
    assert json.loads(json.dumps(found))["summary"]["sheer"]["seconds_ratio_to_fastai_accuracy"]["reached"]["of"] == 2
    nobody = report.summary({"peers": ["fastai"], "runs": [run_of("fastai", 0, (50, 0.5))]})
    assert nobody["seconds_ratio_to_fastai_accuracy_reached"] == {"seeds": 0, "of": 0, "median": None}


def test_sets_are_pooled_by_seed_and_by_set():
    def result(*gaps):
        return {"summary": {"sheer": {"difference_at_fastai_seconds": {"per_seed": list(gaps)}}}}

    by_seed, by_set = report.pooled([result(0.1, 0.2), result(0.3, 0.4), {"summary": {}}], "sheer")
    assert by_seed["mean"] == by_set["mean"] == pytest.approx(0.25)
    assert by_seed["half"] == pytest.approx(3.182 * math.sqrt(0.05 / 3) / 2, abs=1e-3)
    assert by_set["half"] == pytest.approx(12.706 * 0.1, abs=1e-3)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "Give --data FOLDER"),
        (("--data", "nowhere", "--weights", "none"), "There is no folder 'nowhere'"),
        (("--data", "EMPTY", "--weights", "none"), "EMPTY"),
        (("--data", "EMPTY", "--model", "resnet35"), "resnet34"),
        (("--data", "EMPTY", "--model", "resnet34", "--weights", "package"), "there are ones for tf_efficientnet_lite0"),
        (("--data", "EMPTY", "--peers", "fastia"), "fastai"),
        (("--data", "EMPTY", "--json", "TAKEN"), "exists. Nothing was overwritten"),
        (("--data", "EMPTY", "--plot", "TAKEN"), "a plot is written as"),
        (("--report", "TAKEN"), "is not what python -m benchmarks.peers --json wrote"),
        (("--data", "EMPTY", "--write", "page.md"), "--write is for --report"),
    ],
)
def test_what_cannot_be_done_is_said_at_once(tmp_path, capsys, words, said):
    (tmp_path / "EMPTY").mkdir()
    (tmp_path / "TAKEN").write_text("{}")
    assert main([str(tmp_path / word) if word in ("EMPTY", "TAKEN") else word for word in words]) == 2
    assert said in capsys.readouterr().err


def test_an_archive_becomes_a_class_folder(tmp_path, capsys, real_data):
    words = [str(real_data / "hymenoptera.tar"), str(tmp_path / "ants")]
    assert sets.main(words) == 0
    assert sheer.images(capsys.readouterr().out.strip()).classes == ("ants", "bees")
    assert sets.main(words) == 2
    assert "exists. Nothing was overwritten" in capsys.readouterr().err


def test_a_packaged_set_becomes_a_class_folder(tmp_path):
    pytest.importorskip("sklearn")
    assert sets.main(["digits", str(tmp_path / "digits")]) == 0
    assert len(sheer.images(tmp_path / "digits").classes) == 10
