"""sheer: fine-tune pretrained PyTorch models with nothing hidden.

A public name is imported when it is first used, so that `import sheer` costs next to nothing.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

from sheer.errors import SheerError
from sheer.errors import nearest as _nearest

if TYPE_CHECKING:
    from sheer.api import learner
    from sheer.data.archive import extract
    from sheer.data.arrays import arrays
    from sheer.data.block import DataBlock
    from sheer.data.cache import Cache
    from sheer.data.images import images
    from sheer.data.preflight import FileCheck, check
    from sheer.data.several import ImageInput, TableInput, TextInput
    from sheer.data.sources import Data
    from sheer.data.tabular import table
    from sheer.data.text import text
    from sheer.export.eject import eject
    from sheer.export.predictor import Predictor, load_bundle
    from sheer.interpret.predictions import Predictions
    from sheer.learner import Learner
    from sheer.loading import load, resume
    from sheer.loop.item_losses import ItemLosses, Learning
    from sheer.loop.lr_find import RateSweep
    from sheer.plan import recipes
    from sheer.plan.plan import Plan
    from sheer.record.keeping import Checkpoints
    from sheer.scikit import SheerClassifier, SheerRegressor  # noqa: F401
    from sheer.study.ablate.ablate import ablate
    from sheer.study.ablate.ablation import Ablation
    from sheer.study.ablate.measure import Measurement, measure_norm_policy, measure_resolution
    from sheer.study.branches import BranchReport, branches
    from sheer.study.compare.compare import compare
    from sheer.study.compare.comparison import Comparison
    from sheer.study.compare.sides import Loop
    from sheer.study.diff.diff import Differences, diff
    from sheer.study.doctor.doctor import doctor
    from sheer.study.explain.explain import Explanation, explain
    from sheer.study.inspect.inspect import InputReport, inspect

__version__ = "0.1.0"

__all__ = [
    "Ablation",
    "BranchReport",
    "Cache",
    "Checkpoints",
    "Comparison",
    "Data",
    "DataBlock",
    "Differences",
    "Explanation",
    "FileCheck",
    "ImageInput",
    "InputReport",
    "ItemLosses",
    "Learner",
    "Learning",
    "Loop",
    "Measurement",
    "Plan",
    "Predictions",
    "Predictor",
    "RateSweep",
    "SheerError",
    "TableInput",
    "TextInput",
    "ablate",
    "arrays",
    "branches",
    "check",
    "compare",
    "diff",
    "doctor",
    "eject",
    "explain",
    "extract",
    "images",
    "inspect",
    "learner",
    "load",
    "load_bundle",
    "measure_norm_policy",
    "measure_resolution",
    "recipes",
    "resume",
    "table",
    "text",
]

HOMES = {
    "Ablation": "sheer.study.ablate.ablation",
    "BranchReport": "sheer.study.branches",
    "Cache": "sheer.data.cache",
    "Checkpoints": "sheer.record.keeping",
    "Comparison": "sheer.study.compare.comparison",
    "Data": "sheer.data.sources",
    "DataBlock": "sheer.data.block",
    "Differences": "sheer.study.diff.diff",
    "Explanation": "sheer.study.explain.explain",
    "FileCheck": "sheer.data.preflight",
    "ImageInput": "sheer.data.several",
    "InputReport": "sheer.study.inspect.inspect",
    "ItemLosses": "sheer.loop.item_losses",
    "Learner": "sheer.learner",
    "Learning": "sheer.loop.item_losses",
    "Loop": "sheer.study.compare.sides",
    "Measurement": "sheer.study.ablate.measure",
    "Plan": "sheer.plan.plan",
    "Predictions": "sheer.interpret.predictions",
    "Predictor": "sheer.export.predictor",
    "RateSweep": "sheer.loop.lr_find",
    "TableInput": "sheer.data.several",
    "TextInput": "sheer.data.several",
    "ablate": "sheer.study.ablate.ablate",
    "arrays": "sheer.data.arrays",
    "branches": "sheer.study.branches",
    "check": "sheer.data.preflight",
    "compare": "sheer.study.compare.compare",
    "diff": "sheer.study.diff.diff",
    "doctor": "sheer.study.doctor.doctor",
    "eject": "sheer.export.eject",
    "explain": "sheer.study.explain.explain",
    "extract": "sheer.data.archive",
    "images": "sheer.data.images",
    "inspect": "sheer.study.inspect.inspect",
    "learner": "sheer.api",
    "load": "sheer.loading",
    "load_bundle": "sheer.export.predictor",
    "measure_norm_policy": "sheer.study.ablate.measure",
    "measure_resolution": "sheer.study.ablate.measure",
    "recipes": "sheer.plan.recipes",
    "resume": "sheer.loading",
    "table": "sheer.data.tabular",
    "text": "sheer.data.text",
}
"""The module of each public name that is imported when it is first used; `recipes` is a module itself."""

OPTIONAL = {"SheerClassifier": "sheer.scikit", "SheerRegressor": "sheer.scikit"}
"""Public names that need an optional package, so `from sheer import *` leaves them out."""


class _Package(ModuleType):
    """The package; importing its submodule `sheer.learner` does not put that in the place of the function of the same name."""

    def __setattr__(self, name: str, value: object) -> None:
        if not (name == "learner" and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package

if not TYPE_CHECKING:  # a type checker reads the imports above, and reports names that are none
    # An exception to two house rules (no __getattr__, no imports of our own inside functions): `import sheer` would load 180 modules.
    def __getattr__(name: str) -> object:
        homes = HOMES | OPTIONAL
        if name not in homes:
            raise AttributeError(f"module 'sheer' has no attribute {name!r}. {_nearest(name, [*__all__, *OPTIONAL])}")
        module = import_module(homes[name])
        found = globals()[name] = module if name == "recipes" else getattr(module, name)
        return found

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__, *OPTIONAL})
