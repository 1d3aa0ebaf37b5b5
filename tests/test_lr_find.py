"""Rate sweeps: what the curves suggest, what is swept, and that nothing is left behind."""

import dataclasses
import json
import math
import random
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from torch import nn

import sheer
from conftest import Small, make_photos
from sheer.cli.main import main
from sheer.errors import DataError, ModelError, OwnershipError, PlanError
from sheer.loop.lr_find import RateSweep, momentum_at_peak
from sheer.loop.suggestions import SUGGESTIONS, smoothed, trimmed
from sheer.model.hashing import weights_sha256

X = np.linspace(0, 1, 100)
RATES = 1e-7 * 1e8 ** (np.arange(100) / 100)
DIP = 2.3 - 1.8 * np.exp(-(((X - 0.62) / 0.15) ** 2)) + 24 * np.maximum(X - 0.78, 0) ** 2
CURVES = {
    "dip": DIP,
    "noisy": DIP + 0.02 * np.sin(37 * np.arange(100)),
    "falling": 3 - 2 * X,
    "diverging": 1.5 / (1 + np.exp((X - 0.5) * 14)) + 0.6 + np.where(X > 0.8, (X - 0.8) * 30, 0),
}
# what fastai 2.8.12's functions say of these curves, in the order of SUGGESTIONS
KNOWN = {
    "dip": (5.248074602497728e-05, 0.2089296130854041, 0.0007585775750291835, 0.001),
    "noisy": (0.0002754228703338166, 0.2089296130854041, 0.0009120108393559096, 0.001737800828749376),
    "falling": (0.001202264434617413, 0.2089296130854041, 0.3311311214825908, None),
    "diverging": (0.0002754228703338166, 0.0002754228703338166, 0.02089296130854041, 0.0008317637711026709),
}


def said(losses, rates=RATES, steps=100):
    return [rule(*trimmed(rates[: len(losses)], losses, steps)) for rule in SUGGESTIONS.values()]


@pytest.mark.parametrize("name", CURVES)
def test_suggestions_of_known_curves(name):
    for found, wanted in zip(said(CURVES[name]), KNOWN[name], strict=True):
        assert wanted is None or found == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_tail_that_is_not_finite_is_cut_off(bad):
    losses = DIP.copy()
    losses[80:] = bad
    rate, loss = trimmed(RATES, losses, 100)
    assert len(rate) == len(loss) == 70 and np.isfinite(loss).all()
    valley, slide, minimum, steep = said(losses)
    assert 0 < valley < minimum * 10 and slide is not None and steep == pytest.approx(1e-3)


def test_curves_that_say_nothing():
    assert said(1 + X) == [None] * 4
    assert said(np.ones(100)) == [None] * 4
    assert said(np.full(100, np.nan)) == [None] * 4
    assert said(DIP[:15]) == said(DIP[:16]) == said([]) == [None] * 4
    assert said(3 - 2 * X[:25])[1] is None, "ten points have no window of fifteen"


def test_smoothing_is_the_mean_of_equal_losses_and_follows_the_recurrence():
    assert smoothed([3.0] * 5) == pytest.approx([3.0] * 5)
    assert smoothed([1.0, 2.0])[1] == pytest.approx((0.98 * 0.02 + 0.02 * 2) / (1 - 0.98**2))
    assert math.isnan(smoothed([1.0, math.nan])[1])


def test_the_peers_own_suggestion_functions():
    schedule = pytest.importorskip("fastai.callback.schedule", reason="fastai is not installed: pip install '.[bench]'")
    theirs = {name: getattr(schedule, name) for name in SUGGESTIONS}
    generator = np.random.default_rng(3)
    compared = 0
    for number in range(60):
        count = int(generator.integers(40, 101))
        noise = 0.03 * (number % 3) * generator.standard_normal(100)
        depth = generator.uniform(1, 2) * np.exp(-(((X - generator.uniform(0.3, 0.7)) / 0.2) ** 2))
        losses = np.array(smoothed((2.5 - depth + noise)[:count].tolist()))
        rates, trim = trimmed(RATES[:count], losses, 100)
        # float64 on both sides: fastai's float32 may find two losses equal that differ
        tensors = torch.from_numpy(rates), torch.from_numpy(trim)
        for name, rule in SUGGESTIONS.items():
            ours = rule(rates, trim)
            if ours is not None:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    wanted = float(theirs[name](*tensors, 100)[0])
                assert ours == pytest.approx(wanted, rel=1e-12), (name, number)
                compared += 1
    assert compared > 200
    print("suggestions compared with fastai's", compared)


def test_the_sweep_of_the_peer_smooths_alike():
    learner = pytest.importorskip("fastai.learner", reason="fastai is not installed: pip install '.[bench]'")
    mean, values = learner.AvgSmoothLoss(), [2.0, 1.5, 1.7, 0.9]
    found = []
    for value in values:
        mean.accumulate(type("Step", (), {"loss": torch.tensor(value)}))
        found.append(float(mean.value))
    assert smoothed(values) == pytest.approx(found, rel=1e-5)


def test_the_sweep_keeps_the_profile_of_the_next_phase(photos):
    learn = sheer.learner(sheer.images(photos), "resnet18", weights="none", size=32, batch_size=8, quiet=True)
    sweep = learn.unfreeze().lr_find(slice(1e-6, 1e-4), steps=20, end=1e-3)
    assert sweep.stages == ("early", "late", "head") and sweep.trains == (True, True, True)
    assert sweep.profile == pytest.approx((0.01, 0.1, 1.0))
    assert sweep.stage_rates(2e-3) == pytest.approx((2e-5, 2e-4, 2e-3))
    assert sweep.rates[0] == 1e-7 and sweep.rates[10] == pytest.approx(1e-5) and len(sweep.rates) == 20
    learn.fit_one_cycle(1, sweep.stage_rates(1e-4))
    assert learn.plan().phases[-1].rates == pytest.approx((1e-6, 1e-5, 1e-4))


def test_rates_set_in_the_optimiser_are_the_profiles(photos, monkeypatch):
    seen = []
    learn = sheer.learner(sheer.images(photos), "resnet18", weights="none", size=32, batch_size=8, quiet=True).unfreeze()
    module = sys.modules["sheer.loop.lr_find"]
    inner = module.set_rates

    def watched(optimizer, factor, momentum):
        inner(optimizer, factor, momentum)
        seen.append(([group["lr"] for group in optimizer.param_groups], momentum))

    monkeypatch.setattr(module, "set_rates", watched)
    sweep = learn.lr_find(slice(1e-5, 1e-3), steps=20, end=1e-4)
    for rate, (rates, momentum) in zip(sweep.rates, seen, strict=True):
        assert sorted(set(rates)) == pytest.approx([rate * 0.01, rate * 0.1, rate]) and momentum == sweep.momentum
    assert sweep.momentum == pytest.approx(0.85, abs=0.01)


def test_a_recipes_first_phase_is_what_is_swept(small_learner):
    learn = small_learner()
    assert learn.lr_find(sheer.recipes.fine_tune(2), steps=20, end=1e-3).phase == "frozen"
    assert learn.lr_find(steps=20, end=1e-3).phase == learn.lr_find(3e-3, steps=20, end=1e-3).phase == "one_cycle"


def test_frozen_stages_say_so(photos):
    learn = sheer.learner(sheer.images(photos), "resnet18", weights="none", size=32, batch_size=8, quiet=True)
    sweep = learn.lr_find(sheer.recipes.fine_tune(1, freeze_epochs=1), steps=20, end=1e-3)
    assert sweep.trains == (False, False, True) and str(sweep).count("frozen") >= 8


def test_momentum_is_that_of_the_highest_rate(small_learner):
    phase = small_learner().plan(sheer.recipes.one_cycle(3)).phases[0]
    assert momentum_at_peak(phase) == pytest.approx(0.85, abs=0.01)
    assert momentum_at_peak(small_learner().plan(sheer.recipes.constant(1)).phases[0]) == 0.9


def state_of(learn):
    model = learn.model
    return (
        weights_sha256(model),
        [(name, buffer.tolist()) for name, buffer in model.named_buffers()],
        [(name, p.requires_grad, p.grad is None, p.device, id(p)) for name, p in model.named_parameters()],
        [(name, module.training) for name, module in model.named_modules()],
        learn.plan(),
        list(learn.history),
        learn._trains_from,
        torch.get_rng_state().tolist(),
        random.getstate(),
        str(np.random.get_state()),
        torch.get_num_threads(),
        torch.are_deterministic_algorithms_enabled(),
    )


@pytest.mark.parametrize("before", [True, False], ids=["after a fit", "before any fit"])
def test_a_sweep_leaves_the_learner_as_it_was(small_learner, before):
    learn = small_learner()
    if before:
        learn.fit(1)
    learn.model.norm.eval()
    learn.model.conv.weight.requires_grad_(False)
    kept = state_of(learn)
    learn.lr_find(steps=30)
    assert state_of(learn) == kept


def test_a_failing_sweep_leaves_the_learner_as_it_was(photos):
    class Failing(Small):
        calls = 0

        def forward(self, images):
            if self.training:
                Failing.calls += 1
            if Failing.calls > 3:
                raise RuntimeError("out of luck")
            return super().forward(images)

    learn = sheer.learner(sheer.images(photos), Failing(), size=32, batch_size=8, quiet=True)
    kept = state_of(learn)
    with pytest.raises(RuntimeError, match="out of luck"):
        learn.lr_find(steps=20)
    assert state_of(learn) == kept


def test_looking_in_between_leaves_the_final_hash_unchanged(small_learner, photos):
    """Number 9 of the acceptance list: previews, validation, predictions and sweeps change no weight."""
    plain = small_learner().fit_one_cycle(1).fit_one_cycle(2, 1e-2)
    learn = small_learner()

    def look():
        learn.show_batch()
        learn.show_results()
        learn.validate()
        learn.lr_find(steps=40)
        learn.predictions("train")
        learn.predict(photos / "red")
        learn.plot_schedule(sheer.recipes.fine_tune(2))
        learn.plot_confusion()
        learn.plot_top_losses(2)
        torch.rand(3)

    look()
    learn.fit_one_cycle(1)
    look()
    learn.plot_loss()
    learn.fit_one_cycle(2, 1e-2)
    look()
    assert [row.weights_sha256 for row in learn.history] == [row.weights_sha256 for row in plain.history]
    assert weights_sha256(learn.model) == weights_sha256(plain.model)
    assert learn.plan() == plain.plan()


def test_twice_the_same_sweep(small_learner):
    learn = small_learner()
    torch.manual_seed(1)
    first = learn.lr_find(steps=30)
    torch.manual_seed(2)
    assert learn.lr_find(steps=30) == first
    assert small_learner().lr_find(steps=30) == first
    assert small_learner(seed=1).lr_find(steps=30).losses != first.losses


def test_it_stops_where_the_loss_diverges(small_learner):
    sweep = small_learner().lr_find(start=1e-2, end=1e4, steps=60)
    assert len(sweep.rates) < 60 and "4 times its best" in sweep.stop_reason
    assert sweep.smoothed[-1] > 4 * min(sweep.smoothed)


def test_it_stops_where_the_loss_is_not_finite(photos):
    class Breaking(Small):
        def forward(self, images):
            scores = super().forward(images)
            self.steps = getattr(self, "steps", 0) + self.training
            return scores * (math.nan if self.steps > 8 else 1.0)

    sweep = sheer.learner(sheer.images(photos), Breaking(), size=32, batch_size=8, quiet=True).lr_find(steps=20)
    assert len(sweep.rates) == 9 and "not finite" in sweep.stop_reason
    assert set(sweep.suggestions().values()) == {None} and "No suggestion" in str(sweep)
    record = json.loads(json.dumps(sweep.record(), allow_nan=False))
    assert record["losses"][-1] is None and record["suggestions"] == dict.fromkeys(SUGGESTIONS)


def test_the_record_is_frozen_and_prints_every_suggestion(small_learner):
    sweep = small_learner().lr_find(steps=40)
    with pytest.raises(dataclasses.FrozenInstanceError):
        sweep.steps = 3
    text = str(sweep)
    assert all(name in text for name in SUGGESTIONS) and "valley (default)" in text and "half way down" in text
    assert max(map(len, text.splitlines())) <= 150
    assert [sweep.valley, sweep.slide, sweep.minimum, sweep.steep] == list(sweep.suggestions().values())
    assert isinstance(sweep, RateSweep) and sweep.valley is not None and 1e-7 < sweep.valley < 10


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"steps": 19}, "at least 20"),
        ({"steps": 20.0}, "whole number"),
        ({"steps": True}, "whole number"),
        ({"start": 0}, "above 0"),
        ({"start": 1.0, "end": 0.1}, "rises"),
        ({"end": math.inf}, "finite"),
        ({"end": math.nan}, "finite"),
        ({"start": "1e-7"}, "start='1e-7'"),
        ({"upcoming": -1.0}, "positive"),
        ({"upcoming": [1e-3] * 5}, "5 values"),
    ],
)
def test_what_cannot_be_swept(small_learner, options, words):
    with pytest.raises(PlanError, match=words):
        small_learner().lr_find(**options)


def test_a_module_that_cannot_be_copied(photos):
    class Uncopied(Small):
        def __deepcopy__(self, memo):
            raise TypeError("never copy me")

    with pytest.raises(ModelError, match="cannot be copied: never copy me"):
        sheer.learner(sheer.images(photos), Uncopied(), size=32, batch_size=8, quiet=True).lr_find(steps=20)


def test_a_sweep_needs_data_and_the_plans_model(small_learner, random_resnet_run):
    with pytest.raises(DataError, match="without its data"):
        sheer.load(random_resnet_run).lr_find()
    learn = small_learner()
    learn.model = Small()
    nn.init.ones_(learn.model.out.weight)
    with pytest.raises(OwnershipError):
        learn.lr_find()


def test_a_photo_that_cannot_be_read_is_named(tmp_path):
    folder = make_photos(tmp_path, {"a": 8, "b": 8})
    learn = sheer.learner(sheer.images(folder), Small, size=32, batch_size=4, quiet=True)
    for path in (folder / "a").iterdir():
        path.write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"6 of 12 files cannot be read as photographs: a/00[01]\.jpg"):
        learn.lr_find(steps=20)


def test_a_sweep_of_arrays_and_no_threads_left(photos):
    inputs = torch.randn(40, 6, generator=torch.Generator().manual_seed(0))
    labels = (inputs[:, 0] > 0).long().tolist()
    learn = sheer.learner(sheer.arrays(inputs, labels), nn.Linear(6, 2), batch_size=8, quiet=True)
    assert learn.lr_find(steps=50).losses[0] > 0


@pytest.mark.parametrize(("task", "rows"), [("tag", "red;round blue red blue;round"), ("regress", "1.5 2.5 0.5 3.5")])
def test_a_sweep_takes_the_loss_of_any_task(photos, tmp_path, task, rows):
    cells = rows.split() * 8
    paths = sorted(str(path.relative_to(photos)) for path in photos.rglob("*.jpg"))[: len(cells)]
    table = tmp_path / "table.csv"
    table.write_text("path,target\n" + "".join(f"{path},{cell}\n" for path, cell in zip(paths, cells, strict=True)))
    data = sheer.DataBlock(label="target", root=photos, task=task, separator=";" if task == "tag" else None).build(table)
    learn = sheer.learner(data, "resnet18", weights="none", size=32, batch_size=8, quiet=True)
    assert learn.lr_find(steps=20, end=1e-3).losses[0] > 0
    assert learn.batch_data(3).titles[0] in {*cells, *(";".join(sorted(cell.split(";"))) for cell in cells)}
    assert len(learn.results_data(3).titles) == 3 and ", loss " in learn.top_losses_data(2).titles[0]
    assert "target" in data._repr_html_() or "round" in data._repr_html_()


COMMAND = ["--model", "resnet18", "--weights", "none", "--size", "32", "--batch-size", "8", "--steps", "20"]


def test_the_command_prints_a_table_and_writes_a_plot(photos, tmp_path, capsys):
    plot = tmp_path / "sweep.png"
    assert main(["lr-find", str(photos), *COMMAND, "--plot", str(plot)]) == 0
    assert "valley (default)" in capsys.readouterr().out
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert main(["lr-find", str(photos), *COMMAND, "--plot", str(plot)]) == 2
    assert "Nothing was overwritten" in capsys.readouterr().err
    assert main(["lr-find", str(photos), *COMMAND, "--plot", str(tmp_path / "sweep.xyz")]) == 2
    assert "a plot is written as" in capsys.readouterr().err
    assert main(["lr-find", str(photos), *COMMAND, "--plot", str(tmp_path / "none" / "sweep.png")]) == 2
    assert "there is no folder" in capsys.readouterr().err
    assert not list(tmp_path.glob("runs"))


def test_the_command_prints_json(photos, capsys):
    assert main(["lr-find", str(photos), *COMMAND, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["steps"] == 20 and len(found["rates"]) == len(found["losses"]) and set(found["suggestions"]) == set(SUGGESTIONS)


def test_the_command_refuses_a_short_sweep(photos, capsys):
    assert main(["lr-find", str(photos), *COMMAND[:-1], "5"]) == 2
    assert "at least 20" in capsys.readouterr().err


def test_a_sweep_imports_no_matplotlib(photos):
    code = (
        "import sys, sheer, torch\n"
        f"learn = sheer.learner(sheer.images({str(photos)!r}), 'test_resnet', weights='none', size=32, batch_size=8, quiet=True)\n"
        "learn.lr_find(steps=20); learn.batch_data(); learn.schedule_data(sheer.recipes.fine_tune(1))\n"
        "print('matplotlib' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_sweep_mixes_as_the_phase_does(photos):
    learn = sheer.learner(sheer.images(photos), "resnet18", weights="none", size=32, batch_size=8, quiet=True)
    mixed = sheer.learner(sheer.images(photos), "resnet18", weights="none", size=32, batch_size=8, quiet=True, mix="mixup")
    assert mixed.lr_find(steps=20).losses != learn.lr_find(steps=20).losses
    assert mixed.lr_find(steps=20).losses == mixed.lr_find(steps=20).losses


def test_a_head_that_is_fitted_first_is_fitted_for_the_sweep_too(photos):
    learn = sheer.learner(sheer.images(photos), "test_resnet", weights="none", size=32, batch_size=8, quiet=True)
    before = weights_sha256(learn.model)
    sweep = learn.lr_find(sheer.recipes.fine_tune(1), steps=20, start=1e-9, end=1e-8)
    assert sweep.phase == "unfrozen" and weights_sha256(learn.model) == before
    cold = learn.lr_find(sheer.recipes.fine_tune(1, freeze_epochs=0), steps=20, start=1e-9, end=1e-8)
    assert sum(sweep.losses) < 0.8 * sum(cold.losses)
    with pytest.raises(PlanError, match="no rates to sweep"):
        learn.lr_find(sheer.recipes.linear_probe(), steps=20)
