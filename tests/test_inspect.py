"""The input report: what the network sees against its pretraining, alarms, batch against running statistics; no trace left."""

import json
import tarfile

import numpy as np
import pytest
import torch
from torch import nn

import sheer
from conftest import Small, make_photos
from sheer.cli.main import main
from sheer.errors import DataError, PlanError
from sheer.model.hashing import weights_sha256
from sheer.study.inspect.alarms import Channel, label_alarms, order_alarm
from sheer.study.inspect.norm_gap import norm_gap


def resnet(photos, **options):
    return sheer.learner(sheer.images(photos), "resnet18", weights="none", batch_size=8, quiet=True, **{"size": 64} | options)


def test_looking_changes_nothing(photos):
    hashes = []
    for looks in (False, True):
        learn = resnet(photos, size=32)
        if looks:
            sheer.inspect(learn, sheer.recipes.fine_tune(1))
        learn.fine_tune(1)
        if looks:
            before, draws = weights_sha256(learn.model), torch.get_rng_state()
            sheer.inspect(learn)
            assert weights_sha256(learn.model) == before and torch.equal(torch.get_rng_state(), draws)
        learn.fit_one_cycle(1)
        hashes.append([row.weights_sha256 for row in learn.history])
    assert hashes[0] == hashes[1]


def test_values_are_those_that_the_network_gets(photos):
    learn = resnet(photos)
    report = sheer.inspect(learn, items=16)
    assert report.items == 16 and report.size == 64 and report.trained_size == 224 and report.last_map == 2
    feed = learn._view().feed(learn.data)
    every = torch.cat([batch.inputs for batch in feed.plain(learn.data.train)])
    for number, one in enumerate(report.channels):
        assert every[:, number].min() - 1e-6 <= one.low < one.mean < one.high <= every[:, number].max() + 1e-6
        assert one.pixel_mean == pytest.approx(one.mean * one.trained_std + one.trained_mean)
    assert [one.name for one in report.channels] == ["red", "green", "blue"]
    assert report.labels == tuple(zip(learn.classes, learn.plan().data.train_counts, learn.plan().data.valid_counts, strict=True))
    assert report.short_side == 40 and report.enlarged == pytest.approx(64 / 40 / report.fraction)
    assert report.scale == pytest.approx((64 / report.fraction) / (224 / report.trained_fraction))
    assert "enlarged" in str(report) and "2 x 2 cells" in str(report)


def test_one_cell_makes_concat_pooling_redundant(photos):
    report = sheer.inspect(resnet(photos, size=32, head="concat_pool"), items=16)
    (alarm,) = [one for one in report.alarms if "1 x 1" in one.what]
    assert "concat pooling is redundant" in alarm.what and "1,024 inputs" in alarm.what
    assert "Try sizes from 64 to 224" in alarm.remedy
    (plain,) = [one for one in sheer.inspect(resnet(photos, size=32), items=16).alarms if "1 x 1" in one.what]
    assert "redundant" not in plain.what and plain.remedy == alarm.remedy
    assert not [one for one in sheer.inspect(resnet(photos, size=64), items=16).alarms if "1 x 1" in one.what]


def planted(mean: float, running: float) -> nn.Module:
    """A whole module whose logits are its norm layer's outputs: with batch statistics their mean is 0."""
    norm = nn.BatchNorm1d(2, affine=False)
    norm.running_mean.fill_(running)
    return norm


def test_the_gap_between_batch_and_running_statistics_is_measured():
    inputs = torch.tensor([[1.0, 3.0], [3.0, 1.0], [5.0, 5.5], [7.0, 6.5]])
    model = planted(0, 4.0)
    before = weights_sha256(model)
    gap = norm_gap(model, [inputs], np.array([0, 0, 1, 1]), ("a", "b"))
    running = (inputs - 4.0) / np.sqrt(1 + 1e-5)
    own = (inputs - inputs.mean(0)) / (inputs.var(0, correction=0) + 1e-5).sqrt()
    assert gap.difference == pytest.approx(float((own - running).abs().mean()), rel=1e-5)
    assert gap.spread == pytest.approx(float(running.std()), rel=1e-5)
    assert gap.changed == pytest.approx(float((own.argmax(1) != running.argmax(1)).float().mean()))
    assert [one.name for one in gap.classes] == ["a", "b"] and sum(one.items for one in gap.classes) == 4
    assert sum(one.difference * one.items for one in gap.classes) / 4 == pytest.approx(gap.difference)
    assert weights_sha256(model) == before and model.training


def test_equal_statistics_have_no_gap():
    inputs = torch.randn(64, 2, generator=torch.Generator().manual_seed(0))
    model = nn.BatchNorm1d(2, affine=False)
    model.running_mean.copy_(inputs.mean(0))
    model.running_var.copy_(inputs.var(0, correction=0))
    gap = norm_gap(model, [inputs], np.zeros(64), ("a",))
    assert gap.difference < 1e-6 and gap.changed == 0


def test_a_body_without_running_statistics_says_so(photos):
    report = sheer.inspect(sheer.learner(sheer.images(photos), "convnext_atto", weights="none", size=32, batch_size=8, quiet=True), items=8)
    assert report.gap is None and "no norm layers with running statistics" in str(report)


def test_pixels_up_to_255_are_an_alarm():
    def alarms(values):
        arrays = sheer.arrays(values, [0, 1] * 10)
        return [one for one in sheer.inspect(sheer.learner(arrays, Small, batch_size=4, quiet=True)).alarms if "not normalised" in one.what]

    pixels = torch.rand(20, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    (alarm,) = alarms(pixels * 255)
    assert "uint8" in alarm.remedy and "mean 12" in alarm.evidence
    assert not alarms((pixels - 0.5) / 0.29)


def test_labels_far_apart_are_an_alarm():
    (alarm,) = label_alarms([("cat", 200, 20), ("dog", 20, 2)])
    assert alarm.what == "Labels are out of balance" and "'cat' has 200" in alarm.evidence and "class_weights='balanced'" in alarm.remedy
    few, unseen = label_alarms([("cat", 20, 20), ("dog", 9, 0)])
    assert "dog 9" in few.evidence and unseen.evidence == "dog"
    assert label_alarms([("cat", 20, 2), ("dog", 20, 2)]) == [] == label_alarms([])


def test_both_measurements_must_say_that_channels_are_swapped():
    def channels(means):
        rest = {"low": 0.0, "high": 1.0, "mean": 0.0, "std": 1.0, "trained_mean": 0.5, "trained_std": 0.5}
        return [Channel(name=name, pixel_mean=mean, **rest) for name, mean in zip("rgb", means, strict=True)]

    swapped, right = channels((0.35, 0.46, 0.53)), channels((0.53, 0.46, 0.35))
    assert order_alarm(swapped, 0.23, 0.14)[0].what == "Red and blue may be swapped"
    assert order_alarm(swapped, 0.14, 0.14) == order_alarm(right, 0.23, 0.14) == []


def as_bytes(folder, name, size):
    """64 training photographs as uint8 pixels, red first, and their class numbers."""
    learn = sheer.learner(sheer.images(folder), name, weights="package", size=size, batch_size=32, quiet=True)
    feed, items = learn._view().feed(learn.data), learn.data.train[:: max(len(learn.data.train) // 64, 1)][:64]
    pixels = torch.cat([batch.inputs for batch in feed.plain(items)]) * feed.std + feed.mean
    return (pixels * 255).round().clamp(0, 255).to(torch.uint8), np.arange(64) % 2


@pytest.mark.parametrize("name", ["tf_efficientnet_lite0", "mobilenetv2_100"])
def test_swapped_channels_of_real_photographs_are_seen(name, real_data, tmp_path, capsys):
    with tarfile.open(real_data / "hymenoptera.tar") as archive:
        archive.extractall(tmp_path, filter="data")
    pixels, labels = as_bytes(tmp_path / "hymenoptera", name, 64)
    for planted_swap, values in ((False, pixels), (True, pixels.flip(1).contiguous())):
        report = sheer.inspect(sheer.learner(sheer.arrays(values, labels), name, weights="package", batch_size=16, quiet=True))
        assert ("Red and blue may be swapped" in [one.what for one in report.alarms]) == planted_swap
        with capsys.disabled():
            print(f"{name} swapped={planted_swap} drift {report.drift:.3f}")


def test_a_run_is_looked_at_as_it_was_trained(random_resnet_run, photos):
    learn = sheer.load(random_resnet_run, data=sheer.images(photos))
    report = sheer.inspect(learn)
    assert report.phase == "unfrozen" and report.size == 32


def test_nothing_is_concluded_from_a_pretraining_that_was_none(photos):
    own = sheer.inspect(sheer.learner(sheer.images(photos), Small, size=32, batch_size=8, quiet=True), items=16)
    assert not own.pretrained and own.drift is None and own.scale < 0.5
    assert "pretraining" not in str(own) and "smaller than in pretraining" not in " ".join(one.what for one in own.alarms)


def test_numbers_as_targets_have_no_largest_logit(tmp_path):
    folder = make_photos(tmp_path, {"a": 20})
    rows = [f"a/{number:03d}.jpg,{number / 4},{-number}" for number in range(20)]
    (folder / "numbers.csv").write_text("\n".join(["file,x,y", *rows]) + "\n")
    data = sheer.images(folder / "numbers.csv", label=("x", "y"))
    report = sheer.inspect(sheer.learner(data, "resnet18", weights="none", size=32, batch_size=4, quiet=True), items=8)
    assert report.gap.changed is None and report.gap.classes == () and "largest" not in str(report) and report.labels == ()


def test_a_learner_without_data_and_a_wrong_count_are_refused(random_resnet_run, photos):
    with pytest.raises(DataError, match="loaded without its data"):
        sheer.inspect(sheer.load(random_resnet_run))
    with pytest.raises(PlanError, match="items=1: give how many training items"):
        sheer.inspect(resnet(photos), items=1)
    with pytest.raises(PlanError, match=r"inspect is given a str: give one of sheer\.learner"):
        sheer.inspect("resnet18")


def test_html_escapes_what_comes_from_outside(tmp_path):
    folder = make_photos(tmp_path / "photos", {"<b>": 12, "&": 12})
    html = sheer.inspect(resnet(folder), items=8)._repr_html_()
    assert "&lt;b&gt;" in html and "<b>" not in html


def test_the_command_prints_a_table_or_json(photos, random_resnet_run, capsys):
    flags = ["--model", "resnet18", "--weights", "none", "--size", "32", "--batch-size", "8", "--items", "8"]
    assert main(["inspect", str(photos), *flags]) == 0
    assert "ALARM: The last map is 1 x 1" in capsys.readouterr().out
    assert main(["inspect", str(photos), *flags, "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["phase"] == "frozen" and record["channels"][0]["name"] == "red" and record["alarms"]
    assert main(["inspect", str(photos), "--run", str(random_resnet_run), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["phase"] == "unfrozen"
