"""The ejected script: processes of its own in which `import sheer` fails, the same weights after every epoch."""

import ast
import csv
import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

import own_code
import sheer
from conftest import Small, make_photos
from scripts import run_fresh, run_script
from sheer.errors import EjectError
from sheer.export.eject import LEAVES
from sheer.export.source import definitions, elsewhere, names_read
from sheer.plan.plan import Part


def tiny_net():
    """Your own function, whose source is copied."""
    from torch import nn

    layers = [nn.Conv2d(3, 4, 3, stride=2), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Dropout(0.1), nn.Linear(4, 2))


def needs_numpy_only():
    return np.zeros(3)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


CASES = {
    "timm": {"model": "resnet18", "weights": "none"},
    "timm vector": {"model": "convnext_atto", "weights": "none"},
    "torchvision": {"model": "torchvision:resnet18", "weights": "none"},
    "fastai profile": {"model": "torchvision:resnet18", "weights": "none", "profile": "fastai-2.8"},
    "own function": {"model": tiny_net, "augmentation": ("flip", "dihedral"), "label_smoothing": 0.1, "resize": "squish"},
    "pad": {"model": tiny_net, "resize": Part(name="pad", settings=(("padding", "zeros"),))},
    "linear head": {"model": "resnet18", "weights": "none", "head": "linear", "norm": "adapt"},
}


@pytest.mark.parametrize("case", sorted(CASES))
def test_script_and_library_give_the_same_weights_after_every_epoch(case, photos, tmp_path):
    options = dict(CASES[case])
    profile = options.get("profile", "default")
    split = "random" if profile != "default" else None
    out = tmp_path / "run"
    learn = sheer.learner(sheer.images(photos, profile=profile, split=split), size=32, batch_size=8, quiet=True, out=out, **options)
    learn.fine_tune(1)
    if case == "timm":
        learn.freeze_to(1).fit_one_cycle(1, slice(1e-5, 1e-3))
    objects = {"tiny_net": tiny_net} if options["model"] is tiny_net else {}
    script = sheer.eject(out, tmp_path / "train.py", objects=objects)
    run = run_fresh if case == "timm" else run_script
    done = run(script, photos, "--out", tmp_path / "again", "--predict", photos / "red")
    assert done.returncode == 0, done.stderr
    assert rows(out / "history.csv") == rows(tmp_path / "again" / "history.csv")
    assert len(rows(out / "history.csv")) == len(learn.history)
    shown = [line for line in done.stdout.splitlines() if ".jpg" in line]
    assert [line.split("  ")[1] for line in shown] == list(learn.predict(photos / "red").labels)


@pytest.mark.parametrize("rule", ["ruff", "no sheer", "short"])
def test_the_script_is_plain_linted_and_short(random_resnet_run, tmp_path, rule):
    script = sheer.eject(random_resnet_run, tmp_path / "train.py")
    text = script.read_text()
    if rule == "ruff":
        done = subprocess.run(
            [sys.executable, "-m", "ruff", "check", "--isolated", "--line-length", "130", str(script)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout
    elif rule == "no sheer":
        assert "import sheer" not in text and "from sheer" not in text
    else:
        print(f"{code_lines(text)} lines of code, {len(text.splitlines())} with blank lines and docstrings")
        assert code_lines(text) < 550, "more than when this was last looked at"
        if code_lines(text) >= 500:
            pytest.xfail(f"with a fitted head and a folded prefix a script has {code_lines(text)} lines, not under 500 (docs/log.md)")


def test_without_a_fit_and_a_cache_the_script_is_shorter(photos, tmp_path):
    learn = sheer.learner(
        sheer.images(photos), "test_resnet", weights="none", size=32, batch_size=8, quiet=True, prefix="whole", out=tmp_path / "run"
    )
    learn.fine_tune(1, freeze_epochs=1)
    assert code_lines(sheer.eject(tmp_path / "run", tmp_path / "train.py").read_text()) < 500


def code_lines(text: str) -> int:
    """Lines without blank ones and without docstrings."""
    import ast

    documented: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module) and ast.get_docstring(node):
            documented |= set(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    return sum(bool(line.strip()) for number, line in enumerate(text.splitlines(), 1) if number not in documented)


def test_another_folder_is_refused_by_the_script(random_resnet_run, tmp_path):
    script = sheer.eject(random_resnet_run, tmp_path / "train.py")
    other = make_photos(tmp_path / "other", {"blue": 3, "red": 3})
    done = run_script(script, other, "--out", tmp_path / "again")
    assert done.returncode != 0 and "is not the folder of the run" in done.stderr


def test_nothing_is_overwritten(random_resnet_run, tmp_path):
    (tmp_path / "train.py").write_text("mine")
    with pytest.raises(EjectError, match="exists"):
        sheer.eject(random_resnet_run, tmp_path / "train.py")
    assert (tmp_path / "train.py").read_text() == "mine"


def test_an_instance_of_your_own_cannot_be_ejected(small_learner, tmp_path):
    small_learner(model=Small()).fit(1).save(tmp_path / "run")
    with pytest.raises(EjectError, match="function that makes it"):
        sheer.eject(tmp_path / "run", tmp_path / "train.py")


def test_your_function_must_be_given(photos, tmp_path):
    learn = sheer.learner(sheer.images(photos), tiny_net, size=32, batch_size=8, quiet=True)
    learn.fit(1).save(tmp_path / "run")
    with pytest.raises(EjectError, match="objects"):
        sheer.eject(tmp_path / "run", tmp_path / "train.py")


def test_arrays_cannot_be_ejected(tmp_path):
    import torch

    inputs = torch.randint(0, 255, (40, 3, 16, 16), dtype=torch.uint8)
    learn = sheer.learner(sheer.arrays(inputs, [0, 1] * 20), tiny_net, batch_size=8, quiet=True)
    learn.fit(1).save(tmp_path / "run")
    with pytest.raises(EjectError, match="class folders"):
        sheer.eject(tmp_path / "run", tmp_path / "train.py", objects={"tiny_net": tiny_net})


def test_every_leaf_has_names_of_its_own():
    import inspect

    names = [item.name for leaf in LEAVES for item in definitions(inspect.getsource(leaf))]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("make", [own_code.make_documented, own_code.make_raw], ids=["docstring", "raw"])
def test_docstrings_of_your_own_code_are_copied_as_they_are(photos, tmp_path, make):
    sheer.learner(sheer.images(photos), make, size=32, batch_size=8, quiet=True, out=tmp_path / "run").fit(1)
    script = sheer.eject(tmp_path / "run", tmp_path / "train.py", objects={make.__name__: make})
    done = run_script(script, photos, "--out", tmp_path / "again")
    assert done.returncode == 0, done.stderr
    assert rows(tmp_path / "run" / "history.csv") == rows(tmp_path / "again" / "history.csv")


@pytest.mark.parametrize(
    ("model", "message"),
    [(own_code.Scaled, "SEED would be replaced"), (own_code.Wide, "by a statement that cannot be copied")],
    ids=["clash", "unpacking"],
)
def test_your_own_code_that_cannot_be_copied_is_refused(photos, tmp_path, model, message):
    sheer.learner(sheer.images(photos), model, size=32, batch_size=8, quiet=True, out=tmp_path / "run").fit(1)
    with pytest.raises(EjectError, match=message):
        sheer.eject(tmp_path / "run", tmp_path / "train.py", objects={model.__name__: model})


READS = {
    "parameters": ("def f(x, *rest, key=1, **more): return g(x, rest, key, more)", "g"),
    "defaults and decorators": ("@mark(size)\ndef f(n=n, *, m: int = m): return n + m", "mark size n m int"),
    "locals": ("def f():\n n = 1\n n += n\n for i in range(n): print(i)", "range print"),
    "with, except, walrus, import": (
        "def f():\n import a\n with a as b:\n  if c := b: pass\n try: d = c\n except E as e: print(d, e)",
        "E print",
    ),
    "nested": ("def f(x):\n def g(y): return x + y + z\n return g", "z"),
    "lambda": ("f = lambda x, y=y: x + y + z", "y z"),
    "comprehensions": ("f = [i * j for i in rows if i for j in i] + list({k: v for k, v in i})", "rows list i"),
    "a declared global": ("def f():\n global count\n count += 1", "count"),
    "a class body": ("class A(B):\n x = 3\n size = size\n def f(self): return x\n @property\n def g(self): return 1", "B size x property"),
    "a setter": ("class A:\n @property\n def x(self): return 1\n @x.setter\n def x(self, to): pass", "property"),
    "annotations": ("def f(x: T) -> U:\n y: V = x\n return y", "T U V"),
    "itself": ("class A(B):\n def f(self): return super(A, self).f()", "B super"),
}


@pytest.mark.parametrize("case", READS)
def test_which_names_a_piece_of_source_reads_from_around_it(case):
    source, names = READS[case]
    assert names_read(ast.parse(source).body[0]) == set(names.split())


def test_which_names_a_file_binds_by_statements_that_are_not_copied():
    source = "rows = f([i for i in range(9)], lambda j: j)\nx = 1\nx += 1\na, b = c = 1, 2\nif c:\n  def g(k): m = k\n"
    source += "lost = []\nlost.append([x.real for one in lost])\nkept = []\nprint([kept.real for kept in lost])\nd = {}\nd['a'] = 1\n"
    assert elsewhere(source) == {"x", "a", "b", "g", "lost", "d"}


NOTEBOOK = """
import pandas as pd
import torch
from torch import nn

df = pd.DataFrame({"income": [1, 2]})
x, y = df.drop(columns="income"), df.income
target, output = "income", 3
n = len(df)
rows = []
rows.append([images for images in range(n)])


class Net(nn.Module):
    def __init__(self, n=4):
        super().__init__()
        rows = [nn.Linear(3, n), nn.Linear(n, 2)]
        self.layers = nn.Sequential(*[df for df in rows])

    def forward(self, x):
        for y in self.layers:
            x = y(x.mean((2, 3)) if x.ndim == 4 else x)
        return x


def hinge(output, target):
    true = output.gather(1, target[:, None])
    return (1 - true + output).clamp(min=0).sum(1)
"""


def test_globals_of_a_file_are_not_the_parameters_and_locals_of_your_own_code(photos, tmp_path, monkeypatch):
    (tmp_path / "notebook.py").write_text(NOTEBOOK)
    spec = importlib.util.spec_from_file_location("notebook", tmp_path / "notebook.py")
    notebook = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "notebook", notebook)
    spec.loader.exec_module(notebook)
    learn = sheer.learner(sheer.images(photos), notebook.Net, loss=notebook.hinge, size=32, quiet=True, out=tmp_path / "run").fit(1)
    objects = {"Net": notebook.Net, "hinge": notebook.hinge}
    script = sheer.eject(tmp_path / "run", tmp_path / "train.py", objects=objects)
    assert "pandas" not in script.read_text() and "rows.append" not in script.read_text()
    done = run_script(script, photos, "--out", tmp_path / "again")
    assert done.returncode == 0, done.stderr
    assert [row["weights_sha256"] for row in rows(tmp_path / "again" / "history.csv")] == [row.weights_sha256 for row in learn.history]


def test_your_own_code_must_be_what_the_run_used(photos, tmp_path):
    sheer.learner(sheer.images(photos), Small, size=32, batch_size=8, quiet=True, out=tmp_path / "run").fit(1)
    with pytest.raises(EjectError, match="not what the run was made with"):
        sheer.eject(tmp_path / "run", tmp_path / "train.py", objects={"Small": own_code.Scaled})


def test_a_script_predicts_without_its_first_weights(random_resnet_run, photos, tmp_path):
    script = sheer.eject(random_resnet_run, tmp_path / "train.py")
    assert run_script(script, photos, "--out", tmp_path / "again").returncode == 0
    script.write_text(script.read_text().replace("BODY_WEIGHTS = NoWeights()", "BODY_WEIGHTS = None"))
    done = run_script(script, "--out", tmp_path / "again", "--predict", photos / "red" / "000.jpg")
    assert done.returncode == 0 and "000.jpg" in done.stdout
    missing = run_script(script, "--out", tmp_path / "again", "--predict", tmp_path / "no.jpg")
    assert missing.returncode == 1 and "There is no file" in missing.stderr


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_weights_from_a_local_file(photos, tmp_path, monkeypatch, suffix):
    monkeypatch.chdir(tmp_path)
    whole = timm.create_model("resnet18")
    if suffix == ".pth":
        torch.save({"state_dict": whole.state_dict()}, tmp_path / "my.pth")
    else:
        save_file(whole.state_dict(), tmp_path / "my.safetensors")
    learn = sheer.learner(
        sheer.images(photos), "resnet18", weights=str(tmp_path / f"my{suffix}"), size=32, batch_size=8, quiet=True, out="run"
    )
    assert torch.equal(learn.model.body.conv1.weight, whole.conv1.weight)
    assert str(tmp_path) not in learn.plan().to_json() and learn.plan().model.weights.options()["path"] == f"my{suffix}"
    learn.fit_one_cycle(1)
    done = run_script(sheer.eject("run", tmp_path / "train.py"), photos, "--out", tmp_path / "again")
    assert done.returncode == 0, done.stderr
    assert rows(tmp_path / "run" / "history.csv") == rows(tmp_path / "again" / "history.csv")
