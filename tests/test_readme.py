"""The README's commands are the real ones."""

import re
import shlex
from pathlib import Path

from sheer.cli.main import parsed

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_ci_runs_the_readmes_test_command():
    commands = re.findall(r"^\$ (pip install .*pytest.*)$", README, re.M)
    assert len(commands) == 1
    assert "README.md" in (ROOT / ".ci" / "run").read_text()


def test_every_sheer_command_parses():
    lines = re.findall(r"^(?:\$ pip install .* && )?(sheer [a-z].*)$", README.split("## Files")[0], re.M)
    assert len(lines) >= 5
    for line in lines:
        words = shlex.split(line.partition("#")[0].partition("&&")[0])
        assert parsed(words[1:])[0].command == words[1]


def test_the_file_map_names_every_module():
    for path in (ROOT / "src" / "sheer").rglob("*.py"):
        if path.name != "__init__.py":
            assert f"{path.name}`" in README, path


def test_constraints_hold_names_and_versions_only():
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        assert re.fullmatch(r"[A-Za-z0-9_.-]+==[0-9a-z.+]+", line), line
