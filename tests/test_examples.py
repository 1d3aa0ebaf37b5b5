"""The examples that make a page: run briefly, with random weights."""

import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parent.parent / "examples"


def test_behind_the_learner_answers_the_walk_throughs_questions(photos, tmp_path):
    command = [sys.executable, str(EXAMPLES / "behind_the_learner.py"), str(photos), "--model", "resnet18", "--weights", "none"]
    done = subprocess.run([*command, "--size", "64", "--out", str(tmp_path / "walk.md")], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "walk.md").read_text()
    assert "2 x 512 = 1,024" in text and "The first layer of its head takes 1,024 numbers; its dropouts are 0.25, 0.5" in text
    assert "this split is another thing" in text and "the convolution still took 3 channels" in text and "weights sum to 0" in text
    assert "script line" in text and "What the network sees: " in text and "norm_frozen: here 'frozen'; fastai-2.8 has 'train'" in text
