"""Every entry of every table through two steps, JSON, a resume and its script: what is in a table is run, with nothing to keep up.

Case number i takes entry i of each table (short tables begin again), so there are as many cases as the longest table has entries;
and one more fits a linear head to a frozen body, which is all that `lbfgs` does.
"""

import csv
import subprocess
import sys

import pytest
from test_training import BLOCK, COMPOSED

import sheer
from conftest import make_photos
from sheer.data.augmentations import MIXES
from sheer.data.pixels import RESIZES
from sheer.data.splits import SPLITS
from sheer.loading import begun
from sheer.plan.augmentations import SETS
from sheer.plan.defaults import NORM_POLICIES
from sheer.plan.parts import HEAD_SETTINGS, LOSS_SETTINGS, OPTIMIZER_SETTINGS
from sheer.plan.profiles import PROFILES
from sheer.plan.recipes import RECIPES
from sheer.plan.schedules import SCHEDULES
from sheer.plan.training import SAMPLINGS
from sheer.task.metrics import METRICS

TABLES = {
    "head": tuple(HEAD_SETTINGS),
    "resize": tuple(RESIZES),
    "norm": NORM_POLICIES,
    "augmentation": tuple(SETS),
    "mix": (*MIXES, "none"),
    "profile": tuple(PROFILES),
    "split": tuple(SPLITS),
    "sampling": SAMPLINGS,
    "optimizer": tuple(OPTIMIZER_SETTINGS),
    "loss": tuple(LOSS_SETTINGS["classify"]),
    "recipe": tuple(RECIPES),
    "schedule": tuple(SCHEDULES),
}
STEPPED = TABLES | {"optimizer": tuple(name for name in OPTIMIZER_SETTINGS if name != "lbfgs")}
CASES = [{name: entries[number % len(entries)] for name, entries in STEPPED.items()} for number in range(max(map(len, STEPPED.values())))]
CASES += [CASES[3] | {"optimizer": "lbfgs", "head": "linear", "norm": "frozen", "recipe": "linear_probe"}]


def recipe_of(name, schedule, profile):
    if name == "scheduled":
        return RECIPES[name](1, schedule=COMPOSED if schedule == "composed" else schedule, profile=profile)
    return RECIPES[name](1, **({"sizes": (32, 40)} if name == "progressive" else {}), profile=profile)


def rows(path):
    with path.open(newline="") as file:
        return [{key: value for key, value in row.items() if key != "seconds"} for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The learner of each case and the root of the runs `NUMBER` and of what their scripts wrote, `NUMBER-again`; one process for all."""
    root = tmp_path_factory.mktemp("tables")
    photos, learners, arguments = make_photos(root / "photos", {"blue": 12, "red": 12}, side=(40, 36)), [], []
    for number, case in enumerate(CASES):
        options = {name: case[name] for name in ("head", "resize", "norm", "augmentation", "mix", "sampling", "optimizer", "loss")}
        data = sheer.images(photos, split=case["split"], profile=case["profile"])
        learn = sheer.learner(
            data,
            "test_resnet",
            weights="none",
            profile=case["profile"],
            size=32,
            batch_size=8,
            metrics=list(METRICS["classify"]),
            out=root / str(number),
            quiet=True,
            **options,
        )
        learners.append(learn.run(recipe_of(case["recipe"], case["schedule"], case["profile"])))
        arguments += [sheer.eject(root / str(number), root / f"{number}.py"), photos, root / f"{number}-again"]
        if case["recipe"] != "scheduled":
            learners[-1].plan(recipe_of("scheduled", case["schedule"], case["profile"]))
    done = subprocess.run([sys.executable, "-c", BLOCK, *map(str, arguments)], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return root, learners


def trains_two_steps(root, learn, number):
    assert all(phase.epochs * phase.steps_per_epoch >= 2 or phase.optimizer.name == "lbfgs" for phase in learn.plan().phases)
    assert len({row.weights_sha256 for row in learn.history}) == len(learn.history)


def goes_through_json(root, learn, number):
    assert sheer.Plan.from_json(learn.plan().to_json()) == learn.plan()
    assert sheer.load(root / str(number)).plan() == learn.plan()


def gives_the_same_rows_ejected(root, learn, number):
    assert rows(root / str(number) / "history.csv") == rows(root / f"{number}-again" / "history.csv")


class Leave:
    """Leaves a fit after a step of it."""

    def __init__(self, step):
        self.step = step

    def on_start(self, position): ...

    def on_step(self, position):
        position.pause = "half of it is done" if position.step == self.step else ""

    def on_epoch(self, position, row): ...

    def on_end(self, position): ...


def goes_on_where_it_was_left(root, learn, number):
    """From the plan alone, left in the middle, and resumed from the folder as another process would."""
    plan, folder = learn.plan(), root / f"{number}-left"
    half = max(plan.steps_before(len(plan.phases)) // 2, 1)
    begun(plan, learn.data, out=folder, quiet=True).run(plan.phases, callbacks=[Leave(half)])
    assert not (folder / "record.json").exists()
    resumed = sheer.resume(folder, quiet=True)
    assert resumed.plan() == plan
    assert rows(folder / "history.csv") == rows(root / str(number) / "history.csv")


@pytest.mark.parametrize("promise", [trains_two_steps, goes_through_json, gives_the_same_rows_ejected, goes_on_where_it_was_left])
@pytest.mark.parametrize("number", range(len(CASES)), ids=lambda number: f"{number}-" + "-".join(CASES[number].values()))
def test_every_entry_keeps_the_promises(runs, number, promise):
    root, learners = runs
    promise(root, learners[number], number)


def test_every_entry_of_every_table_has_a_case():
    for name, entries in TABLES.items():
        assert {case[name] for case in CASES} == set(entries), name
