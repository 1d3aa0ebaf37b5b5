"""What an import loads, and how long it takes: nothing before it is needed."""

import ast
import json
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

import sheer
from sheer.cli.main import COMMANDS, parsed

SOURCE = Path(sheer.__file__).parent
HEAVY = ("timm", "torchvision", "matplotlib", "transformers", "sklearn", "pandas", "polars", "narwhals", "accelerate")


def loaded_by(code):
    """The modules that a fresh Python has after `code`."""
    code = f"import sys, json, contextlib, io\n{code}\nprint(json.dumps(list(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_the_package_alone_is_two_files():
    loaded = loaded_by("import sheer; sheer.SheerError")
    assert {name for name in loaded if name.startswith("sheer")} == {"sheer", "sheer.errors"}
    assert not loaded & {"numpy", "torch", "PIL"}


def test_a_learner_loads_no_studies_and_no_package_that_it_does_not_use():
    loaded = loaded_by("import sheer; sheer.images, sheer.learner, sheer.Plan, sheer.recipes")
    assert not loaded & set(HEAVY)
    own = {name for name in loaded if name.startswith("sheer.")}
    assert len(own) > 50 and not {name for name in own if name.split(".")[1] in ("study", "cli", "loading")}
    assert "sheer.export.eject" not in own


def test_every_public_name_has_its_home():
    tree = ast.parse((SOURCE / "__init__.py").read_text())
    typed = next(node for node in tree.body if isinstance(node, ast.If) and isinstance(node.test, ast.Name))
    seen = {alias.name: node.module for node in typed.body for alias in node.names}
    assert seen.pop("recipes") == "sheer.plan" and sheer.HOMES["recipes"] == "sheer.plan.recipes"
    assert seen | {"recipes": "sheer.plan.recipes"} == sheer.HOMES | sheer.OPTIONAL, "what a type checker sees is not what is imported"
    assert sorted([*sheer.HOMES, "SheerError"]) == sheer.__all__
    for name, home in sheer.HOMES.items():
        assert name == "recipes" or getattr(sheer, name).__module__ == home
    assert {*sheer.__all__, *sheer.OPTIONAL} <= set(dir(sheer))


def test_a_submodule_does_not_hide_the_function_of_its_name():
    loaded = loaded_by(
        "import sheer; import sheer.learner; from sheer.learner import Learner; sheer.load; sheer.resume; import inspect\n"
        "assert inspect.isfunction(sheer.learner) and sheer.Learner is Learner and inspect.isfunction(sheer.load)"
    )
    assert "sheer.learner" in loaded


def test_a_name_that_is_none_is_told_with_the_nearest():
    with pytest.raises(AttributeError, match=r"module 'sheer' has no attribute 'lerner'\. Did you mean 'learner'"):
        sheer.lerner  # noqa: B018
    with pytest.raises(ImportError, match="cannot import name 'imags'"):
        from sheer import imags  # noqa: F401


def test_help_loads_no_torch(tmp_path):
    call = "from sheer.cli.main import main\nwith contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit): main({})"
    assert not loaded_by(call.format(["--help"])) & {"torch", "numpy", "PIL", "sheer.plan.plan"}
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b.jpg").write_bytes(b"no picture")
    checking = loaded_by(call.format(["check", str(tmp_path), "--no-cache"]))
    assert "sheer.data.preflight" in checking and not checking & {"torch", "safetensors", *HEAVY}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_its_options(name, capsys):
    with pytest.raises(SystemExit) as end:
        parsed([name, "--help"])
    assert end.value.code == 0 and f"usage: sheer {name} " in capsys.readouterr().out


def test_the_package_costs_little_beside_torch():
    """Seconds in the same process, one after the other, so that a busy machine slows both; medians of three."""
    code = (
        "import time; a = time.perf_counter(); import torch; b = time.perf_counter(); import sheer; c = time.perf_counter()\n"
        "sheer.images, sheer.learner; d = time.perf_counter(); print((c - b) / (b - a), (d - b) / (b - a))"
    )
    turns = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split() for _ in range(3)]
    package, used = (statistics.median(map(float, shares)) for shares in zip(*turns, strict=True))
    assert package < 0.1 and used < 0.6, "of the time that `import torch` takes"
