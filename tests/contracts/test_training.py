"""Every schedule, optimiser, loss, recipe and extra: trained, through JSON, and ejected with equal hashes after every epoch."""

import csv
import dataclasses
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import sheer
from conftest import Small, make_photos
from sheer.data.sampling import balanced_sample
from sheer.errors import ModelError, PlanError
from sheer.loop import probe
from sheer.loop.optimizers import OPTIMIZERS
from sheer.loop.step import Update, train_step
from sheer.loop.updates import Average, BestEpoch, Patience
from sheer.model.hashing import tensors_sha256
from sheer.model.layers import layer_stages
from sheer.model.stages import stage_of
from sheer.plan.parts import LOSS_SETTINGS, OPTIMIZER_SETTINGS, SCHEDULE_SETTINGS
from sheer.plan.recipes import RECIPES, Given
from sheer.plan.schedules import SCHEDULES
from sheer.record.checkpoint import COMPLETED, NOTHING, joined_reasons
from sheer.task.losses import LOSSES, CrossEntropy, Focal, Weighted

BLOCK = """
import runpy, sys
sys.modules["sheer"] = None
for script, photos, out in zip(*[iter(sys.argv[1:])] * 3):
    sys.argv = [script, photos, "--out", out]
    runpy.run_path(script, run_name="__main__")
"""
COMPOSED = [(("linear", {"start": 0.1, "end": 1.0}), 0.4), ("flat_cosine", 0.6)]
EXTRAS = [
    Given(optimizer="adamw", clip=0.5),
    Given(optimizer="adam", accumulate=16),
    Given(optimizer=("sgd", {"nesterov": True}), ema=0.9),
    Given(optimizer="rmsprop", accumulate=24, clip=0.1, ema=0.5),
    Given(optimizer="timm:lamb", loss="focal"),
    Given(optimizer=("timm:sgd", {"nesterov": False}), loss=("focal", {"gamma": 1.0}), class_weights="balanced"),
    Given(sampling="balanced", class_weights=(1.0, 2.0), label_smoothing=0.1),
    Given(keep="best", ema=0.9, sampling="balanced", accumulate=16),
    Given(optimizer="adam", weight_decay=0.1),
]


def small_net():
    """Your own function, whose source is copied."""
    from torch import nn

    layers = [nn.Conv2d(3, 4, 3, stride=2), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Dropout(0.1), nn.Linear(4, 2))


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    return make_photos(tmp_path_factory.mktemp("few"), {"blue": 21, "red": 30})


def made(few, out, **options):
    return sheer.learner(sheer.images(few), small_net, size=32, batch_size=8, quiet=True, out=out, **options)


def every_schedule_and_extra():
    schedules = [COMPOSED if name == "composed" else name for name in SCHEDULES]
    drafts = [sheer.recipes.scheduled(1, schedule=schedule, rate=1e-3)[0] for schedule in schedules]
    return [replace(draft, given=given) for draft, given in zip(drafts, EXTRAS, strict=True)]


def early_ends():
    """A phase that can never get better after its first epoch, and one that must come out as if all epochs had been run."""
    first = sheer.recipes.constant(4, rate=1e-12)[0]
    return [replace(first, given=Given(stop=("accuracy", 1), keep=("best", "accuracy"))), sheer.recipes.one_cycle(1)[0]]


def rows(path):
    with path.open(newline="") as file:
        return [{key: value for key, value in row.items() if key != "seconds"} for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def runs(few, tmp_path_factory):
    """Each run's learner, its folder, and the folder that its ejected script wrote; one process runs all scripts."""
    root, patch = tmp_path_factory.mktemp("training"), pytest.MonkeyPatch()
    patch.setattr(probe, "step_seconds", lambda model, sample, numerics: {"float32": 2.0, "bf16": 1.0}[numerics.precision])
    todo = {
        "extras": (every_schedule_and_extra(), {}),
        "early": (early_ends(), {}),
        "bf16": (sheer.recipes.progressive(1, sizes=(24, 32)), {"precision": "bf16", "size": None}),
    }
    learners, arguments = {}, []
    for name, (recipe, options) in todo.items():
        options = {"size": 32} | options
        learn = sheer.learner(sheer.images(few), small_net, batch_size=8, quiet=True, out=root / name, **options).run(recipe)
        script = sheer.eject(root / name, root / f"{name}.py", objects={"small_net": small_net})
        arguments += [script, few, root / f"{name}-again"]
        learners[name] = learn
    patch.undo()
    done = subprocess.run([sys.executable, "-c", BLOCK, *map(str, arguments)], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return root, learners


@pytest.mark.parametrize("name", ["extras", "early", "bf16"])
def test_the_ejected_script_gives_the_same_rows_and_weights(runs, name):
    root, learners = runs
    assert rows(root / name / "history.csv") == rows(root / f"{name}-again" / "history.csv")
    state = torch.load(root / f"{name}-again" / "weights.pt", weights_only=True)
    assert tensors_sha256(list(state.values())) == tensors_sha256(list(learners[name].model.state_dict().values()))
    plan = learners[name].plan()
    assert sheer.Plan.from_json(plan.to_json()) == plan and str(plan)


def test_every_schedule_and_optimiser_is_among_them(runs):
    phases = runs[1]["extras"].plan().phases
    assert {phase.schedule.name for phase in phases} == set(SCHEDULES)
    assert {phase.optimizer.name for phase in phases} == set(OPTIMIZERS) - {"lbfgs"}  # nothing is frozen here
    hashes = [row.weights_sha256 for row in runs[1]["extras"].history]
    assert len(set(hashes)) == len(hashes)


def test_an_early_end_is_told_and_leaves_the_later_phase_its_streams(runs):
    root, learners = runs
    record = (root / "early" / "record.json").read_text()
    assert "phase constant ended after epoch 2 of 4: no better accuracy for 1 epochs" in record
    assert [row.epoch for row in learners["early"].history] == [1, 2, 5]


def test_only_what_a_plan_uses_is_in_its_script(runs):
    texts = {name: (runs[0] / f"{name}.py").read_text() for name in ("extras", "early", "bf16")}
    assert "class Patience" in texts["early"] and "class Patience" not in texts["extras"] + texts["bf16"]
    assert "class Update" in texts["extras"] and "class Update" not in texts["early"] + texts["bf16"]
    assert "autocast(model" in texts["bf16"] and "autocast" not in texts["extras"] + texts["early"]
    assert all("# only" not in text for text in texts.values())


def test_a_run_goes_on_from_its_folder_with_the_same_settings(runs, few):
    again = sheer.load(runs[0] / "extras", data=sheer.images(few), objects={"small_net": small_net})
    last, following = runs[1]["extras"].plan().phases[-1], again.plan(sheer.recipes.constant(1)).phases[-1]
    for field in ("optimizer", "loss", "class_weights", "sampling", "clip", "accumulate", "ema", "stop", "keep"):
        assert getattr(last, field) == getattr(following, field), field


def test_the_tables_of_names_agree_with_what_carries_them_out():
    assert set(SCHEDULE_SETTINGS) | {"composed"} == set(SCHEDULES)
    assert set(OPTIMIZER_SETTINGS) | {"timm"} == set(OPTIMIZERS)
    assert {name for table in LOSS_SETTINGS.values() for name in table} == set(LOSSES)
    losses = {name: keys for table in LOSS_SETTINGS.values() for name, keys in table.items()}
    for table, classes in ((SCHEDULE_SETTINGS, SCHEDULES), (OPTIMIZER_SETTINGS, OPTIMIZERS), (losses, LOSSES)):
        for name, keys in table.items():
            assert set(keys) == {field.name for field in dataclasses.fields(classes[name])}, name


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_every_recipe_trains_a_network_of_several_stages(name):
    inputs = torch.randint(0, 255, (20, 3, 32, 32), dtype=torch.uint8)
    learn = sheer.learner(sheer.arrays(inputs, [0, 1] * 10), "resnet18", weights="none", batch_size=8, quiet=True)
    options = {"sizes": (32, 32)} if name == "progressive" else {}
    learn.run(RECIPES[name](1, **options))
    plan = learn.plan()
    assert sheer.Plan.from_json(plan.to_json()) == plan
    if name == "gradual":
        assert [phase.trains_from for phase in plan.phases] == [2, 1, 0]
    if name == "progressive":
        assert [phase.size for phase in plan.phases] == [32, 32, 32]


def no_norm() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))


@pytest.mark.parametrize("items", [32, 24])
def test_micro_batches_are_one_batch(items):
    """Two of 16, and 16 and 8: what is left over at an epoch's end counts by its items."""
    inputs, target = torch.randn(items, 3, 8, 8), torch.arange(items) % 2
    results = []
    for step in (train_step, Update(micro=16)):
        model = no_norm()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        value = step(model, CrossEntropy(), optimizer, inputs, target)
        results.append([value, *model.parameters()])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_accumulation_equals_a_larger_batch_in_a_whole_fit():
    inputs = torch.randn(70, 3, 8, 8)
    data = sheer.arrays(inputs, [0, 1] * 35, valid=0.2)
    large = sheer.learner(data, no_norm, batch_size=32, quiet=True).fit(2, 1e-2)
    small = sheer.learner(data, no_norm, batch_size=16, accumulate=32, quiet=True).fit(2, 1e-2)
    assert [phase.steps_per_epoch for phase in (*large.plan().phases, *small.plan().phases)] == [1, 2]
    kept = sheer.arrays(inputs[:64], [0, 1] * 32, valid=32 / 64)
    pair = [sheer.learner(kept, no_norm, quiet=True, **options) for options in ({"batch_size": 32}, {"batch_size": 16, "accumulate": 32})]
    for learn in pair:
        learn.fit(2, 1e-2)
    for one, other in zip(*(learn.model.parameters() for learn in pair), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_clipping_bounds_the_norm_of_the_gradients():
    model = no_norm()
    Update(clip=1e-3)(model, CrossEntropy(), torch.optim.SGD(model.parameters(), lr=0.0), torch.randn(8, 3, 8, 8), torch.arange(8) % 2)
    assert torch.cat([p.grad.flatten() for p in model.parameters()]).norm() == pytest.approx(1e-3, rel=1e-3)


def test_the_average_follows_its_formula_and_swaps_back():
    model, average = nn.BatchNorm1d(2), Average(decay=0.9)
    average.start(model)
    expected = model.weight.detach().clone()
    for update in range(1, 4):
        with torch.no_grad():
            model.weight.add_(1.0)
            model.running_mean.add_(1.0)
        average.follow(model)
        kept = min(0.9, (1 + update) / (10 + update))
        expected = kept * expected + (1 - kept) * model.weight.detach()
    raw = model.weight.detach().clone()
    average.swap(model)
    torch.testing.assert_close(model.weight.detach(), expected)
    assert model.running_mean[0] != 3.0
    average.swap(model)
    assert torch.equal(model.weight.detach(), raw)


def test_patience_and_best_epoch_know_their_direction():
    patience = Patience(metric="accuracy", better="max", epochs=2)
    assert [patience.over(value) for value in (0.5, 0.6, float("nan"), 0.6)] == [False, False, False, True]
    model, best = nn.Linear(1, 1), BestEpoch(metric="accuracy", better="max")
    for value in (0.5, 0.9, 0.9, 0.1):
        with torch.no_grad():
            model.weight.fill_(value)
            model.bias.add_(1.0)
        best.look(model, value)
    wanted = float(model.bias.detach()) - 2
    best.restore(model)
    assert float(model.weight.detach()) == pytest.approx(0.9) and float(model.bias.detach()) == pytest.approx(wanted)


def test_keep_best_ends_with_the_best_epochs_weights(few, tmp_path):
    learn = made(few, None, keep=("best", "train_loss")).fit(3, 1e-2)
    best = min(learn.history, key=lambda row: row.train_loss)
    assert learn.plan().phases[-1].keep.options() == {"metric": "train_loss", "better": "min"}
    assert tensors_sha256(list(learn.model.state_dict().values())) == best.weights_sha256


def my_error(outputs, targets):
    return float((outputs.argmax(1) != targets).mean())


def test_a_metric_of_your_own_may_be_best_where_it_is_least(few, tmp_path):
    least = {"stop": ("my_error", 2, "min"), "keep": ("best", "my_error", "min"), "metrics": ["accuracy", my_error]}
    most = {"stop": ("accuracy", 2), "keep": ("best", "accuracy"), "metrics": ["accuracy", my_error]}
    learn, other = (made(few, None, **options).fit(4, 1e-2) for options in (least, most))
    assert learn.history[-1].weights_sha256 == other.history[-1].weights_sha256 and len(learn.history) == len(other.history)
    assert "patience(metric='my_error', better='min', epochs=2)" in str(learn.plan()) and "better='max'" in str(other.plan())
    learn.save(tmp_path / "run")
    phase = sheer.load(tmp_path / "run", objects={"small_net": small_net, "my_error": my_error}).plan(sheer.recipes.constant(1)).phases[-1]
    assert (phase.stop, phase.keep) == (learn.plan().phases[0].stop, learn.plan().phases[0].keep)


def test_early_ends_are_kept_however_a_later_fit_ends():
    early = f"{COMPLETED}; phase a ended after epoch 1 of 3"
    assert joined_reasons(NOTHING, early) == early and joined_reasons(early, COMPLETED) == early
    assert joined_reasons(early, f"{COMPLETED}; phase b ended") == f"{early}; phase b ended"
    assert joined_reasons(early, "you stopped it") == "you stopped it; phase a ended after epoch 1 of 3"
    assert joined_reasons("you stopped it", COMPLETED) == f"you stopped it; then {COMPLETED}"


def test_losses_give_one_value_an_item():
    scores, target = torch.randn(6, 3), torch.arange(6) % 3
    plain = CrossEntropy()(scores, target)
    assert torch.equal(Weighted(loss=CrossEntropy(), weights=(1.0, 1.0, 1.0))(scores, target), plain)
    torch.testing.assert_close(Focal(gamma=0.0)(scores, target), plain)
    smoothed = CrossEntropy(label_smoothing=0.1)(scores, target)
    logs = torch.log_softmax(scores, 1)
    torch.testing.assert_close(smoothed, 0.9 * plain - 0.1 * logs.mean(1))


def test_balanced_sampling_draws_each_class_as_often():
    labels = np.array([0] * 90 + [1] * 10)
    drawn = labels[balanced_sample(labels, np.random.default_rng(0).random(4000))]
    assert abs(drawn.mean() - 0.5) < 0.03


def test_balanced_weights_mean_one_an_item(few):
    phase = made(few, None, class_weights="balanced").plan(sheer.recipes.constant(1)).phases[0]
    counts = sheer.images(few).plan.train_counts
    assert sum(w * c for w, c in zip(phase.class_weights, counts, strict=True)) == pytest.approx(sum(counts))


def test_layers_make_every_block_a_stage_and_rates_fall():
    inputs = torch.randint(0, 255, (20, 3, 32, 32), dtype=torch.uint8)
    learn = sheer.learner(sheer.arrays(inputs, [0, 1] * 10), "resnet18", weights="none", batch_size=8, quiet=True, stages="layers")
    stages = learn.plan().model.stages
    assert [stage.name for stage in stages] == ["conv1", *(f"layer{a}.{b}" for a in (1, 2, 3, 4) for b in (0, 1)), "head"]
    rates = learn.plan(sheer.recipes.one_cycle(1, rate=1e-3, decay=0.8)).phases[0].rates
    assert rates == pytest.approx([1e-3 * 0.8**power for power in range(9, -1, -1)])
    learn.unfreeze().fit_one_cycle(1, 1e-3, decay=0.8)


@pytest.mark.parametrize("name", ["efficientnet_lite0", "convnext_atto", "vit_tiny_patch16_224"])
def test_layers_cover_every_parameter(name):
    import timm

    body = timm.create_model(name, num_classes=0)
    stages = layer_stages(body)
    counts = [0] * len(stages)
    for key, _ in body.named_parameters():
        counts[stage_of(f"body.{key}", [stage.prefixes for stage in stages])] += 1
    assert len(stages) > 10 and all(counts[:-1])
    assert len({stage.name for stage in stages}) == len(stages)


def test_precision_and_format_are_measured(monkeypatch):
    inputs = torch.randint(0, 255, (20, 3, 16, 16), dtype=torch.uint8)
    data = sheer.arrays(inputs, [0, 1] * 10)
    learn = sheer.learner(data, Small, precision="probe", memory_format="probe", quiet=True)
    measured = {origin.field: origin for origin in learn.plan().numerics.origins}
    assert measured["precision"].by == measured["memory_format"].by == "measured" and "ms with bf16" in measured["precision"].reason
    slow = {"float32": 1.0, "bf16": 3.0}
    monkeypatch.setattr(probe, "step_seconds", lambda model, sample, numerics: slow[numerics.precision])
    with pytest.raises(PlanError, match="slower than float32 on this CPU"):
        sheer.learner(data, Small, precision="bf16", quiet=True)


def test_a_compiler_that_does_not_work_is_named(monkeypatch):
    def broken(model, sample, numerics):
        raise RuntimeError("no compiler")

    monkeypatch.setattr(probe, "step_seconds", broken)
    inputs = torch.randint(0, 255, (20, 3, 16, 16), dtype=torch.uint8)
    with pytest.raises(PlanError, match=r"torch\.compile does not work here \(no compiler\)"):
        sheer.learner(sheer.arrays(inputs, [0, 1] * 10), Small, compile=True, quiet=True)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_fp16_trains_on_cuda():
    inputs = torch.randint(0, 255, (40, 3, 32, 32), dtype=torch.uint8)
    learners = [sheer.learner(sheer.arrays(inputs, [0, 1] * 20), Small, precision="fp16", clip=1.0, quiet=True).fit(2) for _ in range(2)]
    assert learners[0].history[-1].weights_sha256 == learners[1].history[-1].weights_sha256


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"optimizer": "adamv"}, "or 'adamw'"),
        ({"optimizer": ("sgd", {"nestrov": True})}, "Did you mean 'nesterov'"),
        ({"optimizer": ("sgd", {"nesterov": 3})}, "truth value"),
        ({"optimizer": ["sgd"]}, "a name with its settings"),
        ({"optimizer": "timm:nothing"}, "cannot be made"),
        ({"loss": "focul"}, "Did you mean 'focal'"),
        ({"loss": ("focal", {"gamma": -1.0})}, "gamma"),
        ({"loss": "focal", "label_smoothing": 0.1}, "label_smoothing"),
        ({"class_weights": (1.0,)}, "class_weights"),
        ({"sampling": "balance"}, "Did you mean 'balanced'"),
        ({"clip": -1.0}, "clip"),
        ({"accumulate": 12}, "multiple of the batch size, 8"),
        ({"ema": 1.0}, "ema"),
        ({"stop": ("acuracy", 1)}, "Did you mean 'accuracy'"),
        ({"stop": 0}, "epochs may pass"),
        ({"keep": "bast"}, "or 'best'"),
        ({"precision": "fp16", "device": "cpu"}, "needs CUDA"),
        ({"precision": "fp8"}, "precision"),
        ({"memory_format": "channel_last"}, "Did you mean 'channels_last'"),
        ({"stages": "blocks"}, "layers"),
    ],
)
def test_a_value_that_is_not_allowed_is_named(small_learner, options, message):
    with pytest.raises(PlanError, match=message):
        small_learner(**options).plan(sheer.recipes.one_cycle(1))


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (lambda: sheer.recipes.scheduled(1, schedule="sgdrr"), "Did you mean 'sgdr'"),
        (lambda: sheer.recipes.scheduled(1, schedule=[("linear", 0.5)]), "sum to 1"),
        (lambda: sheer.recipes.one_cycle(1, rate=slice(1e-3), decay=0.5), "one number"),
        (lambda: sheer.recipes.one_cycle(1, decay=1.5), "decay"),
        (lambda: sheer.recipes.progressive(1, sizes=()), "sizes"),
        (lambda: sheer.recipes.scheduled(1, schedule=("sgdr", {"cycles": 0})), "no rates"),
        (lambda: sheer.recipes.scheduled(1, schedule=("linear", {"end": -1.0})), "below 0"),
        (lambda: sheer.recipes.gradual(1, rate=-1.0), "rate"),
    ],
)
def test_a_recipe_that_makes_no_sense_is_named(small_learner, recipe, message):
    with pytest.raises(PlanError, match=message):
        small_learner().plan(recipe())


def test_your_own_module_has_no_layers(small_learner):
    with pytest.raises(ModelError, match="one stage"):
        small_learner(stages="layers")


def test_pictures_in_memory_keep_their_size():
    inputs = torch.randint(0, 255, (20, 3, 32, 32), dtype=torch.uint8)
    learn = sheer.learner(sheer.arrays(inputs, [0, 1] * 10), Small, batch_size=8, quiet=True)
    with pytest.raises(PlanError, match="keep their 32 px"):
        learn.plan(sheer.recipes.progressive(1, sizes=(16, 32)))


class Tied(nn.Module):
    """Two layers with one weight."""

    def __init__(self):
        super().__init__()
        self.one, self.two, self.out = nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 2)
        self.two.weight = self.one.weight

    def forward(self, images):
        return self.out(self.two(self.one(images.mean((2, 3))).relu()))


def test_an_average_of_tied_weights_does_not_change_training(photos):
    losses = []
    for ema in (None, 0.99):
        learn = sheer.learner(sheer.images(photos), Tied, size=32, batch_size=8, quiet=True, ema=ema).fit(3, 1e-2)
        losses.append([row.train_loss for row in learn.history])
    assert losses[0] == losses[1]
