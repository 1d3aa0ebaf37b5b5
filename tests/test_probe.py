"""What is measured before a run: the decision follows the seconds, the usual value stays where another gains next to nothing."""

import re
from dataclasses import replace

import pytest
import torch

import sheer
from conftest import Small
from sheer.errors import PlanError
from sheer.loop import probe
from sheer.model.hashing import weights_sha256
from sheer.plan.document import differences
from sheer.plan.plan import Origin
from sheer.plan.profiles import profile_named


def learned(**options):
    inputs = torch.randint(0, 255, (20, 3, 16, 16), dtype=torch.uint8)
    return sheer.learner(sheer.arrays(inputs, [0, 1] * 10), Small, quiet=True, device="cpu", **options)


def told(learn, field):
    numerics = learn.plan().numerics
    (origin,) = [one for one in numerics.origins if one.field == field]
    return getattr(numerics, field), origin


@pytest.mark.parametrize(
    ("seconds", "chosen"), [({4: 1.0, 2: 0.5, 1: 0.8}, 2), ({4: 1.0, 2: 0.97, 1: 3.0}, 4), ({4: 9.0, 2: 5.0, 1: 4.0}, 1)]
)
def test_threads_are_those_whose_step_is_shortest(monkeypatch, seconds, chosen):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    monkeypatch.setattr(probe, "step_seconds", lambda model, sample, numerics: seconds[numerics.threads])
    threads, origin = told(learned(threads="probe"), "threads")
    assert (threads, origin.by) == (chosen, "measured")
    assert re.search(r"a step took \S+ ms with 4, \S+ ms with 2, \S+ ms with 1 \(", origin.reason.replace("e+03", "000"))


def test_threads_of_your_own_and_those_that_cannot_be_had():
    assert told(learned(threads=1), "threads") == (1, Origin(field="threads", by="you", reason="you gave it"))
    for wrong, message in ((0, "threads"), (5000, "1 to 4096 can be had"), ("many", "threads='many'")):
        with pytest.raises(PlanError, match=message):
            learned(threads=wrong)


@pytest.mark.parametrize(("bf16", "chosen"), [(0.4, "bf16"), (0.97, "float32"), (7.0, "float32")])
def test_a_precision_is_taken_where_it_pays(monkeypatch, bf16, chosen):
    monkeypatch.setattr(probe, "step_seconds", lambda model, sample, numerics: {"float32": 1.0, "bf16": bf16}[numerics.precision])
    assert told(learned(precision="probe"), "precision")[0] == chosen


def test_on_a_cuda_device_the_default_profile_probes_and_others_do_not():
    numerics = learned().plan().numerics
    there = replace(numerics, device="cuda:0")
    for field, plain in (("precision", "float32"), ("memory_format", "contiguous")):
        assert probe.by_profile(None, field, there, profile_named("default")) == "probe"
        assert probe.by_profile(None, field, there, profile_named("fastai-2.8")) == plain
        assert probe.by_profile(None, field, numerics, profile_named("default")) is None
        assert probe.by_profile(plain, field, there, profile_named("default")) == plain


def test_compiling_says_when_it_is_won_back(monkeypatch):
    monkeypatch.setattr(probe, "step_seconds", lambda model, sample, numerics: 0.5 if numerics.compile else 1.0)
    clock = iter((0.0, 102.0))
    monkeypatch.setattr(probe.time, "perf_counter", lambda: next(clock))
    numerics = probe.measured(
        learned().plan().numerics, Small(), torch.rand(2, 3, 8, 8), precision=None, memory_format=None, compile="probe"
    )
    (origin,) = [one for one in numerics.origins if one.field == "compile"]
    assert numerics.compile and "compiling took 100 s, which 200 steps win back (2 items" in origin.reason


def test_a_probe_draws_nothing():
    data = sheer.arrays(torch.zeros(20, 3, 16, 16, dtype=torch.uint8), [0, 1] * 10)
    before = torch.get_rng_state()
    sheer.learner(data, Small, quiet=True, device="cpu", precision="probe", memory_format="probe", threads="probe")
    assert torch.equal(before, torch.get_rng_state())


def test_what_was_measured_for_both_makes_no_other_plan():
    plan = learned().plan()

    def measured(precision, by):
        origins = tuple(one for one in plan.numerics.origins if one.field != "precision")
        origin = Origin(field="precision", by=by, reason="x")
        return replace(plan, numerics=replace(plan.numerics, precision=precision, origins=(*origins, origin)))

    assert not differences(measured("bf16", "measured"), measured("float32", "measured"))
    assert differences(measured("bf16", "you"), measured("float32", "measured")) == ["numerics.precision: 'bf16' there, 'float32' here"]


@pytest.fixture
def resnet(photos):
    def make(settings, **options):
        prefix = ("cached", {"batch_size": "probe"} | settings)
        return sheer.learner(
            sheer.images(photos), "test_resnet", weights="none", size=32, quiet=True, device="cpu", prefix=prefix, **options
        )

    return make


def frozen_part(learn):
    *_, phase = learn.plan(sheer.recipes.linear_probe()).phases
    (origin,) = [origin for origin in phase.origins if origin.field == "prefix"]
    return phase.prefix.options()["batch_size"], origin


@pytest.mark.parametrize(
    ("seconds", "chosen", "tried"),
    [
        ({8: 1.0, 4: 1.2, 16: 0.5, 32: 0.6}, 16, 4),
        ({8: 1.0, 4: 0.97, 16: 1.1}, 8, 3),
        ({8: 1.0, 4: 0.8, 16: 1.1}, 4, 3),
        ({8: 1.0, 4: 1.1}, 8, 2),
        ({}, 8, 0),
    ],
)
def test_the_frozen_part_takes_the_batch_in_which_an_item_is_fastest(monkeypatch, resnet, seconds, chosen, tried):
    asked = []

    def timed(model, last, inputs, numerics, fold):
        if len(inputs) not in seconds:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        asked.append(len(inputs))
        return seconds[len(inputs)]

    monkeypatch.setattr(probe, "frozen_seconds", timed)
    learn = resnet({})
    size, origin = frozen_part(learn)
    assert (size, origin.by) == (chosen, "measured") and frozen_part(learn) == (size, origin)
    assert len(asked) == tried == origin.reason.count("ms in batches of") and "bit for bit" in origin.reason


@pytest.mark.parametrize(("items", "tried"), [(20, [8, 4, 16, 32]), (16, [8, 4, 16]), (3, [8, 4]), (10**6, [8, 4, 16, 32, 64])])
def test_no_batch_is_timed_beyond_all_items_or_the_memory(monkeypatch, items, tried):
    asked = []

    def timed(model, last, inputs, numerics, fold):
        asked.append(len(inputs))
        if len(inputs) == 128:
            torch.empty(2**60)  # as much as no CPU has
        return 1.0

    monkeypatch.setattr(probe, "frozen_seconds", timed)
    size, reason = probe.frozen_batch(learned().plan().numerics, items, None, (), torch.zeros(2, 3), 8, False)
    assert size == 8 and [one for one in asked if one != 128] == tried and (128 in asked) == (items > 100)
    assert reason.count("ms in batches of") == len(tried)


def test_what_is_no_want_of_memory_is_not_hidden(monkeypatch):
    def timed(model, last, inputs, numerics, fold):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(probe, "frozen_seconds", timed)
    with pytest.raises(RuntimeError, match="mat1"):
        probe.frozen_batch(learned().plan().numerics, 20, None, (), torch.zeros(2, 3), 8, False)


def test_the_probed_batch_is_a_value_that_goes_on_and_what_is_beside_it_still_counts(monkeypatch, resnet, tmp_path):
    fastest = {"size": 16}
    monkeypatch.setattr(probe, "frozen_seconds", lambda model, last, inputs, *rest: 1.0 + (len(inputs) != fastest["size"]))
    recipe = sheer.recipes.linear_probe(1)
    first = resnet({"views": 2}).plan(recipe)
    fastest["size"] = 4
    again, other = resnet({"views": 2}).plan(recipe), resnet({"views": 1}).plan(recipe)
    assert [plan.phases[0].prefix.options()["batch_size"] for plan in (first, again)] == [16, 4]
    assert first.short_hash() != again.short_hash() and not differences(first, again)
    assert any("prefix" in line for line in differences(first, resnet({"views": 2, "fold": False}).plan(recipe)))
    assert other.phases[0].prefix.options()["views"] == 1
    resnet({}, out=tmp_path / "run").run(sheer.recipes.linear_probe())
    fastest["size"] = 32
    size, origin = frozen_part(sheer.load(tmp_path / "run"))
    assert (size, origin.by) == (4, "measured")


def test_timing_the_frozen_part_leaves_no_trace(resnet):
    before = torch.get_rng_state()
    learn = resnet({})
    weights = weights_sha256(learn.model)
    size, origin = frozen_part(learn)
    assert size in (4, 8, 16, 32, 64, 128, 256, 512) and "ms in batches of 8" in origin.reason
    assert weights_sha256(learn.model) == weights and torch.equal(before, torch.get_rng_state())
    assert not any(module._forward_hooks for module in learn.model.modules())


def test_other_words_than_probe_are_refused(photos):
    data = sheer.images(photos)
    for wrong in (("cached", {"batch_size": "fast"}), ("cached",), ("cached", 5)):
        learn = sheer.learner(data, "test_resnet", weights="none", size=32, quiet=True, device="cpu", prefix=wrong)
        with pytest.raises(PlanError, match="prefix"):
            learn.plan(sheer.recipes.linear_probe())
