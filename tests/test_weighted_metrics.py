"""`weighted_metrics`: held-out items count by their weights in all that is said of them, alike in the run, its script and what reads it."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import own_code
import sheer
from conftest import Leave
from own_code import heavy_share
from scripts import run_script
from sheer.cli.main import main
from sheer.errors import DataError, PlanError
from sheer.interpret.calibration import expected_calibration_error, fit_temperature, negative_log_likelihood, reliability
from sheer.interpret.mistakes import class_scores
from sheer.model.hashing import weights_sha256
from sheer.study.ablate.variants import scores
from sheer.task.metrics import METRICS, counting
from test_eject import rows

sklearn = pytest.importorskip("sklearn.metrics", reason="pip install '.[demo]'")


def share_of_path(path):
    return int(path.rpartition("/")[2][:3]) % 3


def frame(items=120, seed=0):
    draw = np.random.default_rng(seed)
    x, z = draw.normal(size=(2, items)).round(3)
    kind = np.where(x + draw.normal(size=items) > 0, "up", "down")
    return pd.DataFrame({"x": x, "z": z, "kind": kind, "price": (x * 3 + z).round(3), "w": draw.integers(0, 5, items)})


def learner(target="kind", weighted=True, batch_size=16, **options):
    ignore = ["price"] if target == "kind" else ["kind"]
    data = sheer.table(frame(), target=target, weight="w", ignore=ignore, valid=0.4)
    return sheer.learner(data, quiet=True, batch_size=batch_size, weighted_metrics=weighted, **options)


def photo_learner(photos, out, model=own_code.small_net, **options):
    data = sheer.images(photos, weight=share_of_path)
    return sheer.learner(data, model, size=32, batch_size=8, quiet=True, out=out, weighted_metrics=True, **options)


@pytest.mark.parametrize("target", ["kind", "price"])
def test_history_validation_and_baselines_are_scikit_learns_with_sample_weight(target):
    learn = learner(target, metrics=list(METRICS["classify" if target == "kind" else "regress"])).fit_one_cycle(2)
    data, found = learn.data, learn.validate()
    weight, true, row = data.weights[data.valid], data.targets[data.valid], learn.history[-1].metrics
    if target == "kind":
        wanted = {
            "accuracy": sklearn.accuracy_score(true, found.predicted, sample_weight=weight),
            "balanced_accuracy": sklearn.balanced_accuracy_score(true, found.predicted, sample_weight=weight),
            "auroc": sklearn.roc_auc_score(true, found.outputs[:, 1], sample_weight=weight),
        }
    else:
        wanted = {
            "mean_absolute_error": sklearn.mean_absolute_error(true, found.outputs, sample_weight=weight),
            "r2": sklearn.r2_score(true, found.outputs, sample_weight=weight),
        }
    seen = found.metrics()
    for name, value in wanted.items():
        assert row[name] == pytest.approx(value, rel=1e-6) and seen[name] == pytest.approx(row[name], rel=1e-12)
        assert seen[f"{name}_low"] < value < seen[f"{name}_high"]
    assert seen["items"] == len(data.valid) and seen["effective_items"] == pytest.approx(weight.sum() ** 2 / (weight**2).sum())
    first = next(iter(wanted))
    taught, weights_taught = data.targets[data.train], data.weights[data.train]
    prior = (
        np.bincount(taught, weights_taught) / weights_taught.sum() if target == "kind" else np.average(taught[:, 0], weights=weights_taught)
    )
    assert found.prior == pytest.approx(prior, rel=1e-6) and "usual by weight" in str(learn.plan())
    usual = np.repeat(found.prior[None], len(found), axis=0)
    assert seen["baseline"] == METRICS["classify" if target == "kind" else "regress"][first](*counting(usual, true, weight))
    others = [one.predictions for one in learn.baselines().others]
    assert len(others) == 2 and all(np.array_equal(one.weights, weight) for one in others)
    assert f"({len(found)} items, weighted: as much as {seen['effective_items']:.1f} of equal weight)" in found.report()
    alike = learner(target, weighted=False).fit_one_cycle(2)
    assert alike.history[-1].weights_sha256 == learn.history[-1].weights_sha256, "metrics never change training"
    assert alike.history[-1].valid_loss == learn.history[-1].valid_loss
    assert alike.history[-1].metrics[first] != row[first] and "effective_items" not in alike.validate().metrics()


def test_the_plan_prints_explains_compares_and_keeps_it(capsys):
    learn, alike = learner(), learner(weighted=None)
    plan, plain = learn.plan(sheer.recipes.one_cycle(1)), alike.plan(sheer.recipes.one_cycle(1))
    assert "weighted metrics  by item weights  [you: you gave it]" in str(plan)
    assert "weighted metrics  no  [default: every held-out item counts alike" in str(plain)
    assert sheer.Plan.from_json(plan.to_json()) == plan and plan.short_hash() != plain.short_hash()
    learn.fit_one_cycle(1)
    alike.fit_one_cycle(1)
    assert "each held-out item counts what its weight is" in str(sheer.explain(learn))
    assert "all items count alike" in str(sheer.explain(alike))
    assert [one.change.decision for one in sheer.diff(learn, alike).differences] == ["weighted_metrics"]
    sheer.learner(learn.data, weighted_metrics=True, batch_size=16).fit_one_cycle(1)
    assert "Each held-out item counts in the metrics what its weight is." in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["photographs", "photographs, cached", "table"])
def test_script_resumed_and_loaded_runs_give_the_same_history(kind, photos, tmp_path):
    def made(name):
        if kind == "table":
            return learner(metrics=["accuracy", "auroc", "f1", heavy_share], keep=("best", "accuracy"), stop=("auroc", 1)).write_to(
                tmp_path / name
            )
        options = {"model": "test_resnet", "weights": "none"} if "cached" in kind else {"keep": ("best", "balanced_accuracy")}
        return photo_learner(photos, tmp_path / name, metrics=["balanced_accuracy", heavy_share], **options)

    def run(learn, **options):
        return learn.run(sheer.recipes.fine_tune(2), **options) if "cached" in kind else learn.fit_one_cycle(3, **options)

    whole, objects = run(made("run")), {"small_net": own_code.small_net, "heavy_share": heavy_share}
    run(made("left"), callbacks=[Leave(5)])
    resumed = sheer.resume(tmp_path / "left", objects=objects, quiet=True)
    assert rows(tmp_path / "left" / "history.csv") == rows(tmp_path / "run" / "history.csv") and len(resumed.history) == len(whole.history)
    assert {phase.prefix.name for phase in whole.plan().phases} == ({"cached", "whole"} if "cached" in kind else {"whole"})
    script = sheer.eject(tmp_path / "run", tmp_path / "train.py", objects=objects)
    source = photos if kind != "table" else tmp_path / "train_items.csv"
    done = run_script(script, source, "--out", tmp_path / "again")
    assert done.returncode == 0, done.stderr
    assert rows(tmp_path / "again" / "history.csv") == rows(tmp_path / "run" / "history.csv")
    loaded = sheer.load(tmp_path / "run", objects=objects, data=whole.data)
    assert loaded.plan() == whole.plan() and loaded.validate().metrics() == whole.validate().metrics()
    assert np.array_equal(loaded.validate().weights, whole.data.weights[whole.data.valid])


def test_the_best_epoch_is_that_of_the_weighted_metric(photos, tmp_path):
    learn = photo_learner(photos, tmp_path / "run", keep=("best", "accuracy")).fit_one_cycle(4, 0.01)
    best = max(learn.history, key=lambda row: row.metrics["accuracy"])
    assert weights_sha256(learn.model) == best.weights_sha256
    assert learn.validate().metrics()["accuracy"] == pytest.approx(best.metrics["accuracy"])


def test_shares_of_classes_and_calibration_are_by_weight():
    learn = learner().fit_one_cycle(2)
    found = learn.validate()
    weight, true = found.weights, found.target
    precision, recall, f1, _ = sklearn.precision_recall_fscore_support(true, found.predicted, sample_weight=weight)
    for number, row in enumerate(class_scores(found)):
        assert (row.precision, row.recall, row.f1) == pytest.approx((precision[number], recall[number], f1[number]))
        assert row.recall_interval[0] < row.recall < row.recall_interval[1] and row.items == (true == number).sum()
    assert f"{recall[0]:.3f} (" in found.report() and learn.interpret().report().count("0.") > 10
    assert negative_log_likelihood(found) == pytest.approx(sklearn.log_loss(true, found.outputs, sample_weight=weight))
    bins = [row for row in reliability(found) if row.share]
    assert sum(row.share for row in bins) == pytest.approx(1)
    assert sum(row.share * row.accuracy for row in bins) == pytest.approx(found.metrics()["accuracy"])
    alike = replace(found, weights=None)
    assert expected_calibration_error(found) != expected_calibration_error(alike)
    assert fit_temperature(found).temperature != fit_temperature(alike).temperature
    assert replace(found, weights=weight * (true == 0)).report().count("no items that count") == 1
    times = (weight / weight[weight > 0].min()).round().astype(int)
    repeated = replace(alike, **{name: np.repeat(getattr(alike, name), times, axis=0) for name in ("outputs", "target", "losses")})
    repeated = replace(repeated, items=tuple(np.repeat(alike.items, times)))
    assert expected_calibration_error(found) == pytest.approx(expected_calibration_error(repeated))
    assert fit_temperature(found).temperature == pytest.approx(fit_temperature(repeated).temperature)
    assert scores(found).mean() == pytest.approx(found.metrics()["accuracy"])


def test_errors_of_numbers_and_thresholds_of_labels_are_by_weight():
    found = learner("price").fit_one_cycle(1).validate()
    error = np.abs(found.outputs - found.target)[:, 0]
    cells = found.report().splitlines()[-1].split()
    assert cells[2] == f"{np.average(error, weights=found.weights):.4g}"
    order, counts = np.argsort(error), found.weights
    within = error[order][np.cumsum(counts[order]) >= 0.9 * counts.sum()][0]
    assert cells[3] == f"{within:.4g}" and cells[3] != f"{np.quantile(error, 0.9):.4g}"
    assert scores(found).mean() == pytest.approx(-found.metrics()["mean_absolute_error"])
    outputs, target = np.array([[0.9], [0.8], [0.3], [0.6]]), np.array([[1.0], [0.0], [1.0], [0.0]], np.float32)
    tags = replace(found, task="tag", classes=("a",), outputs=outputs, target=target, items=tuple("abcd"), weights=None)
    assert replace(tags, weights=np.array([1.0, 5.0, 0.1, 5.0])).thresholds() == (0.9,)
    assert replace(tags, weights=np.array([1.0, 0.1, 5.0, 0.1])).thresholds() == (0.3,)


def test_further_items_are_judged_with_weights_of_their_own(photos, tmp_path, capsys):
    learn = learner().write_to(tmp_path / "run").fit_one_cycle(1)
    other = frame(60, seed=1)
    other.to_csv(tmp_path / "other.csv", index=False)
    found = learn.evaluate(other, target="kind")
    assert found.metrics()["accuracy"] == pytest.approx(np.average(np.array(found.labels) == other["kind"], weights=other["w"]))
    assert main(["evaluate", str(tmp_path / "run"), str(tmp_path / "other.csv"), "--target", "kind", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["accuracy"] == found.metrics()["accuracy"] and said["effective_items"] < said["items"] == 60
    with pytest.raises(DataError, match="lacks the column of weights 'w'"):
        learn.evaluate(other.drop(columns="w"), target="kind")
    with pytest.raises(DataError, match="'w': weights are finite numbers of at least 0, and not all 0"):
        learn.evaluate(other.assign(w=0), target="kind")
    alike = learner(weighted=False).write_to(tmp_path / "alike").fit_one_cycle(1)
    assert alike.evaluate(other, target="kind").weights is None
    assert alike.evaluate(other, target="kind", weight="w").metrics() == found.metrics()
    assert main(["evaluate", str(tmp_path / "alike"), str(tmp_path / "other.csv"), "--target", "kind", "--weight", "w"]) == 0
    assert "weighted: as much as" in capsys.readouterr().out
    seen = photo_learner(photos, tmp_path / "photos").fit(1)
    assert "note: the run's metrics are weighted, but these items were given no weights" in seen.evaluate(photos).report()
    plan = seen.plan().data
    assert seen.evaluate(photos).prior.tolist() == [count / plan.train_items for count in plan.train_counts]
    assert seen.validate().prior.tolist() == list(plan.weighted_prior) != seen.evaluate(photos).prior.tolist()
    by_path = seen.evaluate(photos, weight=share_of_path)
    assert by_path.weights.min() == 0 and "note" not in by_path.report()
    with pytest.raises(DataError, match="give a function of a photograph's path"):
        seen.evaluate(photos, weight="w")
    assert main(["report", str(tmp_path / "photos")]) == 0
    assert "weighted" in capsys.readouterr().out


def two(outputs, target):
    return 0.0


def test_what_cannot_be_weighted_is_refused(photos, tmp_path):
    with pytest.raises(PlanError, match="these items have none: give weight="):
        sheer.learner(sheer.images(photos), own_code.small_net, weighted_metrics=True)
    with pytest.raises(PlanError, match="class_weights are of the loss alone"):
        sheer.learner(sheer.images(photos), own_code.small_net, weighted_metrics=True, class_weights="balanced")
    with pytest.raises(PlanError, match="weighted_metrics='items': give True or False"):
        learner(weighted="items")
    with pytest.raises(PlanError, match=r"metric 'two': .*third parameter"):
        learner(metrics=["accuracy", two])
    alike = learner(weighted=False, metrics=[two]).fit_one_cycle(1)
    with pytest.raises(PlanError, match="metric 'two'"):
        alike.evaluate(frame(), target="kind", weight="w")
    photo_learner(photos, tmp_path / "run").fit(1)
    with pytest.raises(PlanError, match="these items have none"):
        sheer.load(tmp_path / "run", data=sheer.images(photos), objects={"small_net": own_code.small_net})


def test_the_command_line_and_the_estimator_take_it(tmp_path, capsys):
    path = tmp_path / "rows.csv"
    frame().to_csv(path, index=False)
    options = ["--set", "weight=w", "--set", "weighted_metrics=True", "--set", "ignore=['price']", "--epochs", "1", "--batch-size", "16"]
    assert main(["train", str(path), "--target", "kind", "--out", str(tmp_path / "run"), *options]) == 0
    said = capsys.readouterr().out
    assert "weighted metrics  by item weights" in said and "weighted: as much as" in said and "logistic regression" in said
    rows_of, kind = frame()[["x", "z"]], frame()["kind"]
    settings = {"weighted_metrics": True, "batch_size": 16}
    est = sheer.SheerClassifier(epochs=1, validation_fraction=0.4, settings=settings).fit(rows_of, kind, sample_weight=frame()["w"])
    assert "effective_items" in est.learner_.validate().metrics()
    wanted = sklearn.accuracy_score(kind, est.predict(rows_of), sample_weight=frame()["w"])
    assert est.score(rows_of, kind, sample_weight=frame()["w"]) == pytest.approx(wanted)
    with pytest.raises(PlanError, match="weighs metrics by the rows"):
        sheer.SheerClassifier(epochs=1, settings=settings).fit(rows_of, kind)


def test_what_a_branch_is_worth_is_by_weight():
    rows_of = frame()
    block = sheer.DataBlock(
        inputs={"one": sheer.TableInput(columns=["x"]), "other": sheer.TableInput(columns=["z"])}, label="kind", weight="w", valid=0.4
    )
    for more in ({"weighted_metrics": True}, {}, {"class_weights": [1.0, 30.0]}, {"loss_mean": "items"}):
        learn = sheer.learner(block.build(rows_of), quiet=True, batch_size=16, **more).fit_one_cycle(1)
        report = sheer.branches(learn, repeats=2)
        assert report.value == pytest.approx(learn.validate().metrics()["accuracy"])
        assert report.loss == pytest.approx(learn.history[-1].valid_loss, rel=1e-5), more


def test_a_bundle_a_module_swapped_and_an_ablation_keep_it(tmp_path):
    learn = learner(metrics=["accuracy", heavy_share]).fit_one_cycle(1)
    bundle = sheer.load_bundle(learn.export(tmp_path / "model.sheer"))
    assert bundle.plan.weighted_metrics and np.array_equal(bundle.predict(frame()).outputs, learn.predict(frame()).outputs)
    swapped = learn.with_model(own_code.Rows)
    assert swapped.plan().weighted_metrics and "effective_items" in swapped.fit(1).validate().metrics()
    plain = learner(metrics=["accuracy", heavy_share], batch_size=32).fit_one_cycle(1)
    found = sheer.ablate(
        learn, plain, data=learn.data, seeds=2, out=tmp_path / "ablation", quiet=True, objects={"heavy_share": heavy_share}
    )
    first = found.outcomes[found.a][0]
    assert not found.failed() and first.items.mean() == pytest.approx(first.metrics["accuracy"])
    assert set(first.items) != {0.0, 1.0} and first.metrics["heavy_share"] == pytest.approx(first.metrics["accuracy"])
