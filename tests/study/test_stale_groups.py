"""The example of the swapped model: what is moved, what is learned, what is said."""

import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest

PATH = Path(__file__).parents[2] / "examples" / "stale_groups.py"


@pytest.fixture(scope="module")
def example():
    return SimpleNamespace(**runpy.run_path(str(PATH)))


def test_the_swapped_model_learns_nothing_and_only_sheer_says_so(example):
    seen = {name: way(0) for name, way in example.WAYS.items()}
    learned = {name for name, one in seen.items() if one.moved == one.tensors}
    assert learned == {"stored groups, not swapped", "stored groups, swapped, groups made anew", "sheer, with_model"}
    assert all(seen[name].accuracy > 0.8 for name in learned)
    assert (seen["stored groups, swapped"].moved, seen["stored groups, swapped"].said) == (0, "nothing")
    assert seen["stored groups, swapped"].accuracy < 0.7
    assert seen["sheer, swapped"].said.startswith("OwnershipError: The model is not the one that the plan left: 16 tensors differ")


def test_the_doctor_names_the_swap(example):
    diagnosis = example.examined(0)
    assert diagnosis.codes == ("model_replaced",) and dict(diagnosis.findings[0].numbers)["strangers"] == 10


def test_fastai_says_nothing_where_it_keeps_its_optimiser(example):
    pytest.importorskip("fastai", reason="fastai is not installed: pip install '.[bench]'")
    seen = {name: way(0) for name, way in example.FASTAI.items()}
    assert [one.moved for one in seen.values()] == [10, 0, 0] and {one.said for one in seen.values()} == {"nothing"}
