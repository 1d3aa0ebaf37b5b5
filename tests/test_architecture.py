"""The layout of the project as tests: layers, leaves, length, and what an import may load."""

import ast
from pathlib import Path

import pytest

import sheer
from sheer.export.eject import LEAVES

SOURCE = Path(sheer.__file__).parent
LAYERS = (
    *("errors", "streams", "plan", "data", "task", "model", "record", "loop"),
    *("interpret", "export", "learner", "api", "loading", "scikit", "study", "cli"),
)
FILES = sorted(SOURCE.rglob("*.py"))


def layer_of(dotted: str) -> int:
    return LAYERS.index(dotted.split(".")[1])


def imported(tree: ast.AST) -> list[str]:
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names.append(node.module or "")
            names += [f"{node.module}.{alias.name}" for alias in node.names if node.module == "sheer"]
    return [name for name in names if name.startswith("sheer.")]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_a_file_keeps_the_rules(path):
    text = path.read_text()
    tree = ast.parse(text)
    own = ".".join(["sheer", *path.relative_to(SOURCE).with_suffix("").parts])
    if path != SOURCE / "__init__.py":
        for name in imported(tree):
            assert layer_of(name) <= layer_of(own), f"{own} imports {name}, which lies to its right"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            assert not [inner for inner in node.body if imported(inner)], f"{node.name} imports sheer inside"
            assert node.name.startswith("_") or node.args.kwarg is None, f"{node.name} takes ** arguments"
    documented = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module) and ast.get_docstring(node):
            documented |= set(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    length = len(text.splitlines()) - len(documented)
    assert length <= 300, f"{length} lines without docstrings"


@pytest.mark.parametrize("leaf", LEAVES, ids=lambda leaf: leaf.__name__)
def test_a_leaf_never_imports_sheer(leaf):
    assert not imported(ast.parse(Path(leaf.__file__).read_text()))


def test_public_names_are_one_explicit_list():
    assert sheer.__all__ == sorted(sheer.__all__)
    assert all(hasattr(sheer, name) for name in sheer.__all__)


def test_plan_needs_no_torch():
    for path in (SOURCE / "plan").glob("*.py"):
        assert "torch" not in {
            name.partition(".")[0]
            for node in ast.walk(ast.parse(path.read_text()))
            for name in ([a.name for a in node.names] if isinstance(node, ast.Import) else [getattr(node, "module", None) or ""])
        }, path
