"""What the measuring commands do apart from measuring: they fail, repeat and skip as they say."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest
import torch

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def guard(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    yield importlib.import_module("guard").guard
    for name in ("guard", "cache", "overhead"):
        del sys.modules[name]


def one_after_another(*ratios):
    return iter(ratios).__next__


def test_a_ratio_beyond_its_bound_twice_fails_by_name(guard, capsys):
    measures = {"memory": (one_after_another(1.0), 1.1), "a step": (one_after_another(1.5, 1.4), 1.2)}
    assert guard(measures) == 1
    told = capsys.readouterr().out
    assert told.splitlines()[1:] == [
        "memory     1.000    1.10  holds",
        "a step     1.400    1.20  TOO MUCH",
        "Beyond their bounds, twice: a step.",
    ]


def test_a_ratio_that_holds_the_second_time_does_not_fail(guard, capsys):
    assert guard({"a step": (one_after_another(1.5, 1.1), 1.2), "reading": (one_after_another(0.1), 0.2)}) == 0
    assert "TOO MUCH" not in capsys.readouterr().out


def test_what_is_guarded_can_be_measured_and_ci_runs_it(guard):
    measures = sys.modules["guard"].MEASURES
    assert len(measures) == 5 and all(callable(measure) and bound > 0 for measure, bound in measures.values())
    assert "python benchmarks/guard.py" in (FOLDER.parent / ".ci" / "run").read_text()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device, so it would measure")
def test_without_a_cuda_device_gpu_says_so_in_one_line_and_exits_with_0():
    done = subprocess.run([sys.executable, FOLDER / "gpu.py"], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert done.stdout.splitlines() == [
        "skipped: PyTorch finds no CUDA device on this machine, and nothing here says how fast one would be"
    ]
