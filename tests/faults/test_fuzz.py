"""The fuzzer, for five seconds; the long run is python -m tests.faults.fuzz --seconds 600."""

import os
import subprocess
import sys
from pathlib import Path

import sheer

ROOT = Path(__file__).parents[2]


def test_five_seconds_of_mutated_bytes_find_no_error_but_sheers_own():
    environment = os.environ | {"PYTHONPATH": str(Path(sheer.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.faults.fuzz", "--seconds", "5", "--seed", "0"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 failures in" in done.stdout
