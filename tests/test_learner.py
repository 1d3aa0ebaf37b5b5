"""What training may and may not do: streams, ownership, frozen tensors, observers."""

import threading

import numpy as np
import pytest
import torch
from torch import nn

import sheer
from conftest import Small, make_photos
from scripts import run_script
from sheer.errors import DataError, FrozenError, ModelError, OwnershipError, PlanError, RunError
from sheer.loop.callbacks import Progress
from sheer.loop.train import check_ownership
from sheer.model.hashing import weights_sha256
from test_eject import rows


def test_twice_the_same_bits_and_the_callers_generators_are_left_alone(small_learner):
    torch.manual_seed(5)
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    first = small_learner().fit_one_cycle(2)
    assert torch.equal(torch.get_rng_state(), state) and torch.get_num_threads() == threads
    assert not torch.are_deterministic_algorithms_enabled()
    torch.manual_seed(6)
    second = small_learner().fit_one_cycle(2)
    assert [row.weights_sha256 for row in first.history] == [row.weights_sha256 for row in second.history]
    assert first.history[0].weights_sha256 != first.history[1].weights_sha256


def test_another_seed_gives_other_weights(small_learner):
    hashes = {small_learner(seed=seed).fit(1).history[-1].weights_sha256 for seed in (0, 1)}
    assert len(hashes) == 2


@pytest.mark.parametrize("look", ["validate", "plan", "predictions", "predict", "print"])
def test_looking_changes_nothing(small_learner, photos, look):
    wanted = small_learner().fit(1).fit(1).history[-1].weights_sha256
    learn = small_learner().fit(1)
    actions = {
        "validate": learn.validate,
        "plan": lambda: learn.plan(sheer.recipes.fine_tune(3)),
        "predictions": lambda: learn.predictions("train"),
        "predict": lambda: learn.predict(photos / "red"),
        "print": lambda: str(learn.plan()),
    }
    actions[look]()
    torch.rand(3)
    assert learn.fit(1).history[-1].weights_sha256 == wanted


@pytest.mark.parametrize("policy", ["train", "adapt", "frozen"])
def test_norm_policies_move_what_they_say(photos, policy):
    learn = sheer.learner(sheer.images(photos), "resnet18", weights="none", size=32, batch_size=8, quiet=True, norm=policy)
    before = {name: tensor.clone() for name, tensor in learn.model.state_dict().items()}
    learn.freeze().fit_one_cycle(1)
    after = learn.model.state_dict()
    moved = {name for name in before if name.startswith("body.") and not torch.equal(before[name], after[name])}
    affine = {name for name in moved if name.endswith(("weight", "bias"))}
    statistics = {name for name in moved if "running" in name}
    assert all(before[name].ndim == 1 for name in affine)
    assert bool(affine) == (policy == "train") and bool(statistics) == (policy != "frozen")


def test_frozen_stages_are_bit_identical_after_training_them_first(photos):
    learn = sheer.learner(sheer.images(photos), "resnet18", weights="none", size=32, batch_size=8, quiet=True)
    learn.unfreeze().fit(1).freeze()
    before = {name: tensor.clone() for name, tensor in learn.model.state_dict().items() if name.startswith("body.")}
    learn.fit(1)
    assert all(torch.equal(before[name], learn.model.state_dict()[name]) for name in before)


def test_a_callback_that_moves_a_frozen_tensor_is_caught(photos):
    class Meddler:
        def on_start(self, position): ...
        def on_step(self, position): ...
        def on_end(self, position): ...

        def on_epoch(self, position, row):
            with torch.no_grad():
                learn.model.body.conv1.weight.add_(1)

    learn = sheer.learner(sheer.images(photos), "resnet18", weights="none", size=32, batch_size=8, quiet=True)
    with pytest.raises(FrozenError, match="frozen"):
        learn.fit(1, callbacks=[Meddler()])


def test_a_callback_may_stop_the_run(small_learner):
    class Stopper:
        def on_start(self, position): ...
        def on_step(self, position): ...
        def on_end(self, position): ...

        def on_epoch(self, position, row):
            position.stop = "seen enough"

    learn = small_learner().fit(3, callbacks=[Stopper()])
    assert len(learn.history) == 1


def test_a_swapped_model_stops_the_next_fit_by_name(small_learner):
    learn = small_learner().fit(1)
    learn.model = Small()
    before = weights_sha256(learn.model)
    with pytest.raises(OwnershipError, match=r"conv\.weight"):
        learn.fit(1)
    assert weights_sha256(learn.model) == before


def test_the_optimiser_must_hold_the_models_tensors():
    model, other = nn.Linear(2, 2), nn.Linear(2, 2)
    check_ownership(model, torch.optim.SGD(model.parameters(), lr=1.0))
    with pytest.raises(OwnershipError, match="weight, bias"):
        check_ownership(model, torch.optim.SGD(other.parameters(), lr=1.0))


def test_frozen_tensors_are_not_in_the_optimiser_so_decay_cannot_move_them(photos):
    learn = sheer.learner(sheer.images(photos), "resnet18", weights="none", size=32, batch_size=8, quiet=True, weight_decay=0.5)
    plan = learn.plan(sheer.recipes.fine_tune(1, freeze_epochs=1))
    assert all(group.weight_decay == 0 for group in plan.phases[0].groups if not group.trains)
    assert {group.weight_decay for group in plan.phases[0].groups if group.kind == "decay"} == {0.5}
    fitted, unfrozen = learn.plan(sheer.recipes.fine_tune(1)).phases
    assert fitted.optimizer.name == "lbfgs" and {group.weight_decay for group in fitted.groups} == {0.0}
    assert {group.weight_decay for group in unfrozen.groups if group.kind == "decay"} == {0.5}


def test_predictions_are_in_item_order_and_sum_to_one(small_learner):
    learn = small_learner().fit(1)
    table = learn.validate()
    assert list(table.items) == [learn.data.paths[item] for item in learn.data.valid]
    assert np.allclose(table.probabilities.sum(1), 1) and len(table) == len(learn.data.valid)
    assert learn.history[-1].metrics["accuracy"] == pytest.approx(table.metrics()["accuracy"])


def test_a_learner_learns(small_learner):
    learn = small_learner().fit_one_cycle(6, 2e-2)
    metrics = learn.validate().metrics()
    assert metrics["accuracy"] > metrics["baseline"]


def test_freeze_to_out_of_range(small_learner):
    with pytest.raises(PlanError, match="freeze_to"):
        small_learner().freeze_to(4)


def test_a_module_with_another_number_of_scores_is_refused(small_learner):
    class Wide(Small):
        def __init__(self):
            super().__init__()
            self.out = nn.Linear(4, 7)

    with pytest.raises(ModelError, match=r"\(2, 2\) is needed"):
        small_learner(model=Wide).plan(sheer.recipes.one_cycle(1))


def test_save_and_load_give_the_whole_learner_back(small_learner, tmp_path, photos):
    learn = small_learner().fit(1)
    before = learn.predict(photos / "red")
    learn.save(tmp_path / "run")
    with pytest.raises(RunError, match="Nothing was overwritten"):
        learn.save(tmp_path / "run")
    with pytest.raises(ModelError, match="objects"):
        sheer.load(tmp_path / "run")
    again = sheer.load(tmp_path / "run", objects={"Small": Small})
    assert again.classes == ("blue", "red") and again.plan() == learn.plan() and again.history == learn.history
    assert np.array_equal(again.predict(photos / "red").probabilities, before.probabilities)
    with pytest.raises(RunError, match="source"):
        sheer.load(tmp_path / "run", objects={"Small": nn.Identity})


def test_no_pickle_and_only_relative_paths_in_a_run(random_resnet_run, photos):
    names = sorted(path.name for path in random_resnet_run.iterdir())
    assert names == ["data.json", "history.csv", "plan.json", "record.json", "weights.safetensors"]
    assert all(str(photos.parent).encode() not in (random_resnet_run / name).read_bytes() for name in names)


@pytest.mark.parametrize("name", ["plan.json", "record.json", "history.csv", "weights.safetensors"])
@pytest.mark.parametrize("harm", ["missing", "cut"])
def test_a_damaged_run_is_named(random_resnet_run, tmp_path, name, harm):
    for path in random_resnet_run.iterdir():
        content = path.read_bytes()
        if path.name != name:
            (tmp_path / path.name).write_bytes(content)
        elif harm == "cut":
            (tmp_path / path.name).write_bytes(content[: len(content) // 2])
    with pytest.raises(sheer.SheerError):
        sheer.load(tmp_path)


def test_classes_in_another_order_are_refused(random_resnet_run, tmp_path):
    data = sheer.images(make_photos(tmp_path / "other", {"red": 4, "zebra": 4}))
    with pytest.raises(RunError, match="classes"):
        sheer.load(random_resnet_run, data=data)


def test_training_leaves_no_threads_behind(small_learner):
    before = threading.active_count()
    small_learner().fit(1)
    assert threading.active_count() == before


def test_more_data_and_new_classes_start_a_plan_from_the_runs_weights(random_resnet_run, photos, tmp_path):
    folder = make_photos(tmp_path / "more", {"amber": 9, "blue": 12, "red": 14})
    learn = sheer.load(random_resnet_run, data=sheer.images(folder))
    before = sheer.load(random_resnet_run).predict(photos / "red")
    after = learn.predict(photos / "red")
    old = np.log(before.outputs)
    new = np.log(after.outputs[:, [learn.classes.index(name) for name in before.classes]])
    assert np.allclose(old[:, 0] - old[:, 1], new[:, 0] - new[:, 1], atol=1e-4)
    assert learn.plan().phases == () and learn.plan().model.weights.name == "run" and learn.history == []
    learn.write_to(tmp_path / "run").fit_one_cycle(1)
    kept = sheer.load(tmp_path / "run", data=sheer.images(folder))
    assert kept.classes == ("amber", "blue", "red") and kept.plan() == learn.plan()
    script = sheer.eject(tmp_path / "run", tmp_path / "train.py")
    done = run_script(script, folder, "--out", tmp_path / "again")
    assert done.returncode == 0, done.stderr
    assert rows(tmp_path / "run" / "history.csv") == rows(tmp_path / "again" / "history.csv")


def test_another_split_of_the_runs_files_is_refused(random_resnet_run, photos, tmp_path):
    with pytest.raises(RunError, match="split of the run"):
        sheer.load(random_resnet_run, data=sheer.images(photos, seed=7))
    with pytest.raises(RunError, match="all the classes"):
        sheer.load(random_resnet_run, data=sheer.images(make_photos(tmp_path / "other", {"blue": 9, "zebra": 9})))


class Stop:
    """Stops after the first epoch."""

    def on_start(self, position): ...
    def on_step(self, position): ...
    def on_end(self, position): ...
    def on_epoch(self, position, row):
        position.stop = "enough"


def test_a_run_that_stopped_early_stays_one_that_did(small_learner, photos, tmp_path):
    learn = small_learner(model="resnet18", weights="none").fit(3, callbacks=[Stop()])
    learn.fit(1)
    learn.save(tmp_path / "run")
    with pytest.raises(sheer.SheerError, match="enough"):
        sheer.eject(tmp_path / "run", tmp_path / "train.py")
    again = sheer.load(tmp_path / "run", data=sheer.images(photos)).fit(1)
    again.save(tmp_path / "again")
    with pytest.raises(sheer.SheerError, match="enough"):
        sheer.eject(tmp_path / "again", tmp_path / "train.py")


def test_an_epoch_that_is_left_is_not_done_whatever_was_to_stop_after_it(small_learner, tmp_path):
    class StopThenLeave(Stop):
        def on_step(self, position):
            position.stop = position.stop or ("enough" if position.step == 2 else "")
            position.pause = "a signal" if position.step == 3 else ""

    learn = small_learner(out=tmp_path / "run").fit(2, callbacks=[StopThenLeave()])
    assert not learn.history and not (tmp_path / "run" / "record.json").exists()
    assert len(sheer.resume(tmp_path / "run", objects={"Small": Small}, quiet=True).history) == 2


def test_a_model_that_is_not_the_plans_is_not_saved(small_learner, tmp_path):
    class Fails(Stop):
        def on_step(self, position):
            if position.step == 2:
                raise KeyError("mine")

    learn = small_learner()
    with pytest.raises(KeyError):
        learn.fit(1, callbacks=[Fails()])
    with pytest.raises(OwnershipError, match="did not come to its end"):
        learn.save(tmp_path / "run")
    assert not (tmp_path / "run").exists()
    other = small_learner().fit(1)
    other.model = Small()
    with pytest.raises(OwnershipError):
        other.save(tmp_path / "run")


def test_a_finished_run_survives_a_fit_that_fails(photos, tmp_path):
    class Fails(Stop):
        def on_step(self, position):
            raise KeyError("mine")

    learn = sheer.learner(sheer.images(photos), "resnet18", weights="none", size=32, batch_size=8, quiet=True, out=tmp_path / "run")
    learn.fit(1)
    with pytest.raises(KeyError):
        learn.fit(1, callbacks=[Fails()])
    assert len(sheer.load(tmp_path / "run").history) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"norm": ["train"]}, "norm="),
        ({"norm": 3}, "norm="),
        ({"size": 5000}, "at most 4096"),
        ({"weight_decay": "x"}, "weight_decay="),
        ({"weight_decay": True}, "weight_decay="),
        ({"seed": True}, "seed="),
        ({"device": 0}, "device="),
        ({"batch_size": 2.0}, "batch_size="),
    ],
)
def test_options_of_a_wrong_kind(small_learner, options, message):
    base = {"size": 32, "batch_size": 8} | options
    with pytest.raises(PlanError, match=message):
        sheer.learner(small_learner().data, Small, quiet=True, **base).plan(sheer.recipes.constant(1))


def test_numbers_of_numpy_are_numbers(small_learner):
    plan = small_learner().plan(sheer.recipes.constant(int(np.int64(1)), rate=np.float32(1e-3)))
    assert plan.phases[0].rates == (float(np.float32(1e-3)),)
    with pytest.raises(PlanError, match="freeze_epochs"):
        sheer.recipes.fine_tune(1, freeze_epochs=True)
    with pytest.raises(PlanError, match="freeze_to"):
        small_learner(model="resnet18", weights="none").freeze_to(1.5)
    with pytest.raises(PlanError, match="one stage"):
        small_learner().freeze()


def test_inputs_that_are_numbers_have_no_size(small_learner):
    data = sheer.arrays(torch.rand(40, 7), [0, 1] * 20)
    learn = sheer.learner(data, lambda: nn.Linear(7, 2), quiet=True, batch_size=8).fit(1)
    phase = learn.plan().phases[0]
    assert (phase.size, phase.resize.name, phase.augmentation) == (0, "none", ())
    with pytest.raises(PlanError, match="is for pictures"):
        sheer.learner(data, lambda: nn.Linear(7, 2), augmentation=("flip",)).plan(sheer.recipes.constant(1))


def test_a_module_with_frozen_tensors_is_refused(small_learner):
    model = Small()
    model.conv.requires_grad_(False)
    with pytest.raises(ModelError, match="requires_grad=False"):
        small_learner(model=model)


def test_a_run_loaded_on_its_own_device_keeps_its_numerics(photos, tmp_path):
    options = {"weights": "none", "size": 32, "batch_size": 8, "quiet": True, "memory_format": "contiguous"}
    sheer.learner(sheer.images(photos), "resnet18", out=tmp_path / "run", **options).fit(1)
    assert sheer.load(tmp_path / "run", device="cpu").plan() == sheer.load(tmp_path / "run").plan()


def test_a_file_that_was_edited_between_two_fits_is_named(tmp_path):
    folder = make_photos(tmp_path / "photos", {"a": 8, "b": 8})
    learn = sheer.learner(sheer.images(folder), Small, size=16, batch_size=4, quiet=True).fit(1)
    whole = (folder / "b" / "003.jpg").read_bytes()
    (folder / "b" / "003.jpg").write_bytes((folder / "a" / "001.jpg").read_bytes())
    with pytest.raises(DataError, match=r"Other contents than in the fit before: 1 file \(b/003.jpg\)"):
        learn.fit(1)
    assert len(learn.history) == 1
    learn.save(tmp_path / "run")
    with pytest.raises(DataError, match="Other contents than in the fit before: files of the data"):
        sheer.load(tmp_path / "run", data=learn.data, objects={"Small": Small}).fit(1)
    (folder / "b" / "003.jpg").write_bytes(whole)
    assert len(learn.fit(1).history) == 2


def test_an_interrupted_fit_is_said_once(small_learner, capsys):
    class Stops(Progress):
        def on_step(self, position):
            if position.step == 3:
                raise KeyboardInterrupt

    learn = small_learner()
    with pytest.raises(KeyboardInterrupt):
        learn.fit(2, callbacks=[Stops()])
    capsys.readouterr()
    learn.validate()
    assert "the last fit did not come to its end" in capsys.readouterr().out
    learn.tta()
    assert not capsys.readouterr().out


def test_progressive_sizes_are_shares_of_the_learners_size(photos):
    for size, wanted in ((160, [96, 96, 128, 160]), (64, [40, 40, 48, 64])):
        learn = sheer.learner(sheer.images(photos), "resnet18", weights="none", size=size, quiet=True)
        phases = learn.plan(sheer.recipes.progressive(1)).phases
        assert [phase.size for phase in phases] == wanted and [phase.name for phase in phases[2:]] == ["80% size", "100% size"]
        assert [phase.size for phase in learn.plan(sheer.recipes.progressive(1, sizes=(32, 48))).phases] == [32, 32, 48]
