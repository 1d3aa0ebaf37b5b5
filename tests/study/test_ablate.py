"""Ablations: one decision at a time over seeds, a waterfall, what was done stays done, failures are named; and probes."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

import sheer
from conftest import Small
from sheer.cli.main import main
from sheer.errors import DataError, ModelError, PlanError, RunError
from sheer.interpret.predictions import Predictions
from sheer.plan.plan import origin_of
from sheer.study.ablate.ablation import Effect
from sheer.study.ablate.statistics import half_width, paired_p, t_quantile, t_within
from sheer.study.ablate.variants import scores


@pytest.fixture(scope="module")
def run(photos, tmp_path_factory):
    out = tmp_path_factory.mktemp("ablate") / "run"
    sheer.learner(sheer.images(photos), "test_resnet", weights="none", size=32, batch_size=8, quiet=True, out=out).fit_one_cycle(1)
    return out


def ablated(run, photos, out, **options):
    return sheer.ablate(run, "fastai-2.8", out=out, **({"data": sheer.images(photos), "quiet": True, "seeds": 2} | options))


@pytest.fixture(scope="module")
def measured(run, photos, tmp_path_factory):
    decisions = ["norm", "augmentation"]
    return ablated(run, photos, run / "ablation-fastai", decisions=decisions, waterfall=True)


def test_effects_steps_and_the_remainder_add_up(measured):
    assert [one.name for one in measured.effects] == [one.name for one in measured.steps] == ["norm", "augmentation"]
    assert measured.whole.mean == pytest.approx(sum(one.mean for one in measured.steps))
    assert measured.remainder() == pytest.approx(measured.whole.mean - sum(one.mean for one in measured.effects))
    assert {name: len(ones) for name, ones in measured.outcomes.items()} == dict.fromkeys(
        ["run", "norm", "augmentation", "up to norm", "up to augmentation"], 2
    )
    for text in (str(measured), measured.markdown(), measured._repr_html_()):
        assert "norm" in text and "interactions (and noise)" in text and "seeds 0, 1" in text
    assert [row[0] for row in measured.step_rows()] == ["run", "+ norm", "+ augmentation"]


def test_an_effect_is_the_difference_of_the_runs_own_scores(measured):
    base, norm = measured.outcomes["run"], measured.outcomes["norm"]
    gaps = [
        sheer.load(b.folder).history[-1].metrics["accuracy"] - sheer.load(a.folder).history[-1].metrics["accuracy"]
        for a, b in zip(base, norm, strict=True)
    ]
    effect = measured.effects[0]
    assert effect.mean == pytest.approx(np.mean(gaps)) and effect.seeds == 2
    assert effect.half == pytest.approx(t_quantile(1) * np.std(gaps, ddof=1) / math.sqrt(2))
    assert (effect.verdict() == "smaller than seed noise") == (abs(effect.mean) <= effect.half)
    plan = sheer.load(norm[1].folder).plan()
    assert plan.seed == 1 and plan.phases[0].norm == ("train", "train", "train") and plan.phases[0].groups
    assert [one.items.shape for one in base] == [(10,), (10,)]


@pytest.mark.parametrize(
    ("mean", "half", "p_items", "said"),
    [
        (0.02, 0.03, 0.001, "smaller than seed noise"),
        (0.02, 0.0, 0.34, "smaller than item noise"),
        (0.02, 0.01, 0.01, "higher"),
        (-0.02, 0.01, None, "lower"),
        (0.02, None, 0.01, "one seed says nothing of noise"),
    ],
)
def test_a_verdict_takes_the_noise_of_seeds_and_of_items(mean, half, p_items, said):
    effect = Effect(name="b", against="a", mean=mean, half=half, p_seeds=0.01, p_items=p_items, seconds=1.0, seeds=3)
    assert effect.verdict() == said


def test_a_variant_that_is_the_run_gives_the_runs_weights(measured, run):
    assert sheer.load(measured.outcomes["run"][0].folder).history[-1].weights_sha256 == sheer.load(run).history[-1].weights_sha256


def test_what_is_done_is_not_done_again(measured, run, photos, capsys, monkeypatch):
    monkeypatch.setattr("sheer.study.diff.diff.PUBLISHED", ())
    again = ablated(run, photos, run / "ablation-fastai", decisions=["norm", "augmentation"], quiet=False)
    assert all(one.reused for ones in again.outcomes.values() for one in ones)
    assert "already done" in capsys.readouterr().out
    assert [one.mean for one in again.effects] == [one.mean for one in measured.effects]
    found = sheer.diff(run, "fastai-2.8")
    assert found.about("norm").influence.seeds == 2 and found.about("no_decay").influence is None


def test_a_failed_variant_is_named_and_the_rest_goes_on(run, photos, tmp_path):
    plan = sheer.load(run).plan()
    broken = replace(plan, phases=(replace(plan.phases[0], batch_size=4, size=1, weight_decay=0.1),))
    found = sheer.ablate(plan, broken, data=sheer.images(photos), out=tmp_path, seeds=1, waterfall=False, quiet=True)
    assert {one.name for one in found.effects} == {"batch_size", "weight_decay"}
    assert "size, seed 0, failed: ModelError" in str(found) and found.whole is None
    assert {one.half for one in found.effects} == {None} and "one seed says nothing of noise" in str(found)
    assert found.remainder() is None


class Failing(Small):
    """Breaks in its own way where its norm layers train."""

    def forward(self, images):
        if self.training and self.norm.weight.requires_grad:
            raise KeyError("of its own")
        return super().forward(images)


def test_whatever_a_variant_dies_of_is_said_and_processes_give_the_same_weights(photos, tmp_path):
    data, hashes = sheer.images(photos), []
    plans = [
        sheer.learner(data, Failing, size=32, batch_size=8, norm=norm, quiet=True).plan(sheer.recipes.constant(1))
        for norm in ("frozen", "train")
    ]
    for processes in (1, 2):
        options = {"data": data, "seeds": 1, "quiet": True, "processes": processes, "objects": {"Failing": Failing}}
        found = sheer.ablate(*plans, out=tmp_path / str(processes), **options)
        assert not found.outcomes[found.a][0].failed and "norm, seed 0, failed: KeyError" in str(found)
        assert found.effects == () and found.level("norm") == "failed"
        hashes.append(sheer.load(found.outcomes[found.a][0].folder, objects={"Failing": Failing}).history[-1].weights_sha256)
    assert hashes[0] == hashes[1]


def test_an_unfinished_variant_is_done_anew(run, photos, tmp_path, measured):
    done = measured.outcomes["norm"][0].folder
    half = tmp_path / f".{done.name}.1"
    half.mkdir()
    (half / "plan.json").write_text("{}")
    found = ablated(run, photos, tmp_path, seeds=1, decisions=["norm"], waterfall=False)
    assert (tmp_path / done.name / "record.json").is_file() and not found.outcomes["norm"][0].reused


def test_variants_of_a_fitted_head_run_whatever_is_taken(photos, tmp_path):
    options = {"weights": "none", "size": 32, "batch_size": 8, "quiet": True}
    plan = sheer.learner(sheer.images(photos), "test_resnet", **options).plan(sheer.recipes.fine_tune(1))
    decisions = ["stages", "head", "norm", "optimizer"]
    found = ablated(plan, photos, tmp_path / "out", seeds=1, decisions=decisions)
    assert not [one.failed for ones in found.outcomes.values() for one in ones if one.failed]
    first = {name: sheer.load(ones[0].folder).plan().phases[0] for name, ones in found.outcomes.items()}
    assert {name for name, phase in first.items() if phase.optimizer.name == "lbfgs"} == {found.a, "stages", "up to stages"}
    assert all((phase.prefix.name == "cached") == (phase.optimizer.name == "lbfgs") for phase in first.values())


def test_what_cannot_be_ablated_is_refused(run, photos, tmp_path):
    plan, data = sheer.load(run).plan(), sheer.images(photos)
    with pytest.raises(PlanError, match="do not differ in any decision"):
        sheer.ablate(plan, plan, data=data, out=tmp_path)
    with pytest.raises(PlanError, match=r"do not differ in any decision that can be changed alone\. Not changed: seed"):
        sheer.ablate(plan, replace(plan, seed=4), data=data, out=tmp_path)
    with pytest.raises(PlanError, match="'siz' does not differ between"):
        ablated(run, photos, tmp_path, decisions=["siz"])
    with pytest.raises(PlanError, match="metric='f1' is not one of the plan's"):
        ablated(run, photos, tmp_path, metric="f1")
    with pytest.raises(PlanError, match=r"decisions='norm': give a list, such as \['norm'\]"):
        ablated(run, photos, tmp_path, decisions="norm")
    for seeds in ("3", 2.5, [], None):
        with pytest.raises(PlanError, match=r"seeds=.*: give a whole number of at least 1"):
            ablated(run, photos, tmp_path, seeds=seeds)
    (tmp_path / "file").write_text("")
    with pytest.raises(PlanError, match="is a file: name the folder of the variants' runs"):
        ablated(run, photos, tmp_path / "file")
    other = tmp_path / "photos" / "red"
    other.mkdir(parents=True)
    (other / "a.JPG").write_bytes(b"")
    for out, message in (
        (photos, "the data's own folder"),
        (photos / "ablation", "own folder"),
        (other.parent, r"holds photographs \(a.JPG"),
    ):
        with pytest.raises(PlanError, match=message):
            ablated(run, photos, out)
    assert sorted(path.name for path in photos.iterdir()) == ["blue", "red"]
    with pytest.raises(PlanError, match="processes=0"):
        ablated(run, photos, tmp_path, processes=0)
    with pytest.raises(PlanError, match="decisions of one network compare"):
        sheer.ablate(run, sheer.learner(data, Small, size=32, batch_size=8, quiet=True), data=data, out=tmp_path)
    with pytest.raises(DataError, match=r"give what sheer\.images"):
        ablated(run, photos, tmp_path, data=str(photos))
    with pytest.raises(RunError, match=r"itself failed.*The data is not the plan's"):
        ablated(run, photos, tmp_path / "other", data=sheer.images(photos, valid=0.5))


def test_the_command(run, photos, capsys):
    where = ["--data", str(photos), "--seeds", "2", "--decisions", "norm,augmentation", "--out", str(run / "ablation-fastai")]
    assert main(["ablate", str(run), "--to", "fastai-2.8", *where]) == 0
    assert "already done" in (text := capsys.readouterr().out) and "Waterfall" in text
    assert main(["ablate", str(run), "--to", "fastai-2.8", "--data", str(run)]) == 2


def test_the_t_distribution_is_the_tables():
    assert [round(t_quantile(freedom), 3) for freedom in (1, 2, 5, 6, 30, 1000)] == [12.706, 4.303, 2.571, 2.447, 2.042, 1.962]
    assert t_within(1.0, 1) == pytest.approx(0.5) and t_within(0.0, 7) == 0
    assert half_width([1.0]) is None and paired_p([1.0]) is None and paired_p([2.0, 2.0]) == 0.0 and paired_p([0.0, 0.0]) == 1.0


def test_scores_of_labels_and_numbers():
    outputs, target = np.array([[0.9, 0.2], [0.6, 0.4]]), np.array([[1.0, 1.0], [1.0, 0.0]])
    shared = {"items": ("a", "b"), "classes": ("x", "y"), "metric_functions": {}, "outputs": outputs, "prior": outputs[0]}
    assert scores(Predictions(task="tag", target=target, **shared)).tolist() == [0.5, 1.0]
    assert scores(Predictions(task="regress", target=target, **shared)).tolist() == pytest.approx([-0.45, -0.4])
    assert scores(Predictions(task="classify", target=np.array([0, 1]), **shared)).tolist() == [1.0, 0.0]


def test_a_measured_norm_policy_is_used_and_says_why(photos, tmp_path):
    options = {"weights": "none", "size": 32, "batch_size": 8, "quiet": True}
    learn, plain = (sheer.learner(sheer.images(photos), "test_resnet", **options) for _ in range(2))
    found = sheer.measure_norm_policy(learn, seeds=2, items=30)
    assert set(found.scores) == {"train", "adapt", "frozen"} and found.train_items + found.judged_items == 30
    assert "seconds" in str(found) and "taken" in str(found)
    plan = learn.plan(sheer.recipes.fine_tune(1))
    assert all(phase.norm[:-1] == (found.chosen,) * 2 for phase in plan.phases)
    origin = origin_of(plan.phases[0], "norm")
    assert origin.by == "measured" and origin.reason == found.reason() and "mean of 2 seeds" in origin.reason
    assert "[measured: accuracy train" in " ".join(str(plan).split())
    given = sheer.learner(sheer.images(photos), "test_resnet", norm=found.chosen, **options).fine_tune(1)
    assert learn.fine_tune(1).history[-1].weights_sha256 == given.history[-1].weights_sha256
    learn.save(tmp_path / "run")
    loaded = sheer.load(tmp_path / "run", data=sheer.images(photos))
    assert origin_of(loaded.plan(sheer.recipes.constant(1)).phases[-1], "norm").by == "measured"
    own = plain.plan(sheer.recipes.fine_tune(1))
    assert origin_of(own.phases[0], "norm").by == "default"


def test_a_measured_resolution(photos):
    learn = sheer.learner(sheer.images(photos), "test_resnet", weights="none", batch_size=8, quiet=True)
    before = sheer.learner(sheer.images(photos), "test_resnet", weights="none", batch_size=8, quiet=True)
    found = sheer.measure_resolution(learn, sizes=(48, 32), seeds=1, items=30)
    assert list(found.scores) == ["32", "48"] and found.half is None
    phase = learn.plan(sheer.recipes.constant(1)).phases[0]
    assert phase.size == int(found.chosen) and origin_of(phase, "size").by == "measured"
    assert [tuple(p.shape) for p in learn.model.parameters()] == [tuple(p.shape) for p in before.model.parameters()]
    assert all(torch.equal(a, b) for a, b in zip(learn.model.parameters(), before.model.parameters(), strict=True))


def test_probes_refuse_what_they_cannot_measure(photos, small_learner):
    learn = small_learner()
    with pytest.raises(PlanError, match="give two or more of train, adapt, frozen"):
        sheer.measure_norm_policy(learn, policies=["train", "eval"])
    with pytest.raises(PlanError, match="give two or more sides"):
        sheer.measure_resolution(learn, sizes=[64])
    with pytest.raises(PlanError, match="sizes=64: give two or more sides"):
        sheer.measure_resolution(learn, sizes=64)
    for probe in (sheer.measure_norm_policy, sheer.measure_resolution):
        with pytest.raises(PlanError, match=f"{probe.__name__} is given a str: give one of sheer.learner"):
            probe("resnet18")
    with pytest.raises(PlanError, match=r"give sheer\.learner a function that makes it"):
        sheer.measure_norm_policy(small_learner(model=Small()))
    with pytest.raises(ModelError, match="cannot take pictures of 1 px"):
        sheer.measure_resolution(learn, sizes=(1, 32), seeds=1, items=20)
    learn.data = None
    with pytest.raises(DataError, match="loaded without its data"):
        sheer.measure_norm_policy(learn)
    inputs = torch.randint(0, 255, (20, 3, 8, 8), dtype=torch.uint8)
    with pytest.raises(PlanError, match="Pictures in memory keep their size"):
        sheer.measure_resolution(sheer.learner(sheer.arrays(inputs, [0, 1] * 10), Small, quiet=True, batch_size=4))
