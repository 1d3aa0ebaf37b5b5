"""sheer: fine-tune pretrained PyTorch models with nothing hidden."""

from sheer.api import learner
from sheer.data.archive import extract
from sheer.data.arrays import arrays
from sheer.data.block import DataBlock
from sheer.data.cache import Cache
from sheer.data.images import images
from sheer.data.preflight import FileCheck, check
from sheer.data.sources import Data
from sheer.data.tabular import table
from sheer.errors import SheerError
from sheer.export.eject import eject
from sheer.export.predictor import Predictor, load_bundle
from sheer.interpret.predictions import Predictions
from sheer.learner import Learner
from sheer.loading import load, resume
from sheer.loop.lr_find import RateSweep
from sheer.plan import recipes
from sheer.plan.plan import Plan
from sheer.record.keeping import Checkpoints
from sheer.study.ablate.ablate import ablate
from sheer.study.ablate.ablation import Ablation
from sheer.study.ablate.measure import Measurement, measure_norm_policy, measure_resolution
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
    "Cache",
    "Checkpoints",
    "Comparison",
    "Data",
    "DataBlock",
    "Differences",
    "Explanation",
    "FileCheck",
    "InputReport",
    "Learner",
    "Loop",
    "Measurement",
    "Plan",
    "Predictions",
    "Predictor",
    "RateSweep",
    "SheerError",
    "ablate",
    "arrays",
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
]
