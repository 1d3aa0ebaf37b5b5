"""What people asked for years, answered by the product itself for the reader's own model and data: one test a question.

Questions 1, 2 and 4 are answered by `diff`, 7, 9 and 21 by `doctor`, `compare` and the ownership check, 22 and 23 by `ablate`, the
others by `explain`, `inspect` and the learner.
"""

import re

import numpy as np
import pytest
import timm
import torch
import torchvision
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader

import sheer
from conftest import Small
from sheer.errors import DataError
from sheer.model.hashing import weights_sha256


def resnet(photos, **options):
    return sheer.learner(sheer.images(photos), "resnet18", weights="none", batch_size=8, quiet=True, **{"size": 64} | options)


def said(target, value: str) -> str:
    """What `explain` says of a plan value."""
    return " ".join(one.text for one in sheer.explain(target, against=None).about(value))


def test_q03_why_does_the_size_of_the_pictures_matter(photos):
    """At 32 px a network of stride 32 ends in one cell: half the head's input is a duplicate, and objects are tiny."""
    small, large = (sheer.inspect(resnet(photos, size=size, head="concat_pool"), items=16) for size in (32, 64))
    assert (small.last_map, large.last_map) == (1, 2) and small.scale == pytest.approx(large.scale / 2, rel=0.05)
    assert "concat pooling is redundant" in str(small) and "Try sizes from 64 to 224" in str(small)
    assert "redundant" not in str(large)
    plan = resnet(photos, size=32, head="concat_pool").plan(sheer.recipes.fine_tune(1))
    assert "the last map is about 1 x 1" in said(plan, "phases[0].size") and "repeat the other half" in said(plan, "phases[0].size")
    model = resnet(photos, size=32, head="concat_pool").model
    with torch.inference_mode():
        pooled = model.head.pool(model.body(torch.rand(2, 3, 32, 32)))
    assert torch.equal(pooled[:, :512], pooled[:, 512:])


def test_q05_does_a_frozen_model_train_its_last_layer_only_and_has_the_head_dropout(photos):
    """The whole head trains, under fastai's policy all norm layers of the body too; dropout is a quarter and a half."""
    data = sheer.images(photos, profile="fastai-2.8", split="random")
    options = {"weights": "none", "profile": "fastai-2.8", "size": 64, "batch_size": 8, "quiet": True}
    learn = sheer.learner(data, "torchvision:resnet18", **options)
    plan = learn.plan(sheer.recipes.fine_tune(1, profile="fastai-2.8"))
    norms = sum(isinstance(module, nn.BatchNorm2d) for module in learn.model.body.modules())
    assert f"Yet {2 * norms} tensors" in said(plan, "phases[0].trains_from") and "Frozen is not frozen" in said(
        plan, "phases[0].trains_from"
    )
    trained = [group for group in plan.phases[0].groups if group.trains]
    assert {group.stage for group in trained} == {"early", "late", "head"}
    assert "dropout 0.25, linear 1,024 to 512" in said(plan, "model.head") and "dropout 0.5, linear 512 to 2" in said(plan, "model.head")
    assert [module.p for module in learn.model.head.modules() if isinstance(module, nn.Dropout)] == [0.25, 0.5]


def test_q06_a_data_set_that_states_no_number_of_classes(photos):
    """The classes come from the targets; a data set given in the wrong place is refused with the line that mends it."""
    datasets = pytest.importorskip("torchvision.datasets")
    folder = datasets.ImageFolder(str(photos))
    assert not hasattr(folder, "c")
    learn = sheer.learner(sheer.images(folder), "resnet18", weights="none", size=32, batch_size=8, quiet=True)
    assert learn.classes == ("blue", "red") and "in this order: blue, red" in said(learn, "data.classes")
    assert learn.model.head.linear.out_features == 2
    with pytest.raises(DataError, match=r"give what sheer\.images\(folder\)"):
        sheer.learner(folder, "resnet18", weights="none")


def test_q08_why_are_there_parameter_groups_at_all(photos):
    """For freezing, rates and decay; they are rules that are read anew, so a plan's groups follow each phase."""
    plan = resnet(photos).plan(sheer.recipes.fine_tune(1))
    text = said(plan, "model.stages")
    assert "can be frozen, have rates of their own, and be left out of weight decay" in text
    assert "rules over names, read anew from the model at the start of each phase" in text
    frozen, unfrozen = ([(group.stage, group.kind) for group in phase.groups] for phase in plan.phases)
    assert ("late", "fixed") in frozen and ("late", "decay") in unfrozen


def test_q11_what_is_the_difference_between_cut_and_split(photos):
    """The cut takes the classifier away, the split sorts what is there; neither initialises anything but a new head."""
    plan = resnet(photos).plan(sheer.recipes.fine_tune(1))
    text = said(plan, "model.stages")
    assert "The cut took the old classifier away; this split is another thing" in text
    assert "no part in how weights are initialised" in text
    for stage in plan.model.stages:
        assert f"{stage.name} = names under {stage.prefixes[0]}" in text
    assert "All of it starts from random numbers" in said(plan, "model.head")


def test_q12_why_has_the_head_twice_as_many_inputs(photos):
    """Maximum and average of each channel; nothing to do with 1,000 classes."""
    learn = resnet(photos, head="concat_pool")
    text = said(learn, "model.features")
    assert "512 channels" in text and "2 x 512 = 1,024" in text and "nothing to do with how many classes" in text
    assert learn.model.head.norm0.num_features == 1024
    assert "nothing is doubled" in said(resnet(photos), "model.features")


@pytest.mark.parametrize("name", ["densenet121", "torchvision:densenet121"])
def test_q13_where_is_a_network_cut_that_nobody_listed(photos, name):
    """Found by the network's own method or its traced graph, and proved by its own logits; what is dropped is counted."""
    learn = sheer.learner(sheer.images(photos), name, weights="none", size=64, batch_size=8, quiet=True)
    text, cut = said(learn, "model.surgery"), learn.plan().model.surgery
    assert cut.dropped_parameters == 1024 * 1000 + 1000 and "1,025,000 values in 2 tensors (classifier.weight, classifier.bias)" in text
    assert "gave the old logits" in text and "the largest difference of a logit was 0." in text
    where = said(learn, "model.node")
    assert ("traced its graph" in where) if name.startswith("torchvision") else ("no table of cuts is needed" in where)


@pytest.mark.parametrize("rule", ["zero", "tile", "mean"])
def test_q14_a_first_convolution_for_four_channels(rule):
    """Assigning into a list of children changes nothing; the channels of the data widen the convolution by a stated rule."""
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (20, 4, 32, 32), dtype=np.uint8))
    learn = sheer.learner(sheer.arrays(pixels, [0, 1] * 10), "resnet18", weights="none", channel_init=rule, batch_size=4, quiet=True)
    weight, old = learn.model.body.conv1.weight, timm.create_model("resnet18").conv1.weight
    assert weight.shape == (64, 4, 7, 7) and old.shape == (64, 3, 7, 7)
    assert bool((weight[:, 3] == 0).all()) == (rule == "zero")
    plan = learn.plan(sheer.recipes.one_cycle(1))
    assert "4 channels" in said(plan, "model.channels")
    assert ("weights of zero" in said(plan, "model.channel_init")) == (rule == "zero")
    assert rule == "zero" or repr(rule) in said(plan, "model.channel_init")
    (deviation,) = sheer.explain(plan).about("phases[0].std")
    assert deviation.by == "measured" and f"{float(pixels[learn.data.train][:, 3].float().std(correction=0)) / 255:.4g}" in deviation.text


def test_q15_what_is_the_default_rate(photos):
    """1e-3, not 10e-3; fine_tune's base is 2e-3: printed with its reason before anything runs."""
    learn = resnet(photos)
    assert re.search(r"peak rates +\(0\.001, 0\.001, 0\.001\).*\n?.*when none is given", str(learn.plan(sheer.recipes.one_cycle(1))))
    plan = learn.plan(sheer.recipes.fine_tune(1))
    assert "head 0.00025" in said(plan, "phases[1].rates") and "base rate 0.002" in str(plan)
    assert "A fit has no rates" in said(plan, "phases[0].rates")
    assert "head 0.002" in said(learn.plan(sheer.recipes.fine_tune(1, freeze_epochs=1)), "phases[0].rates")


def test_q16_what_does_warm_up_divide_by(photos):
    """25 for one cycle and the frozen phase, 5 after it: as numbers before training."""
    learn = resnet(photos)
    recipe = sheer.recipes.fine_tune(2, freeze_epochs=1)
    frozen, unfrozen = learn.plan(recipe).phases
    steps = learn.schedule_data(recipe)
    head = steps.rates[:, steps.groups.index("head")]
    assert head[0] == pytest.approx(frozen.rates[-1] / 25) and head[frozen.steps_per_epoch] == pytest.approx(unfrozen.rates[-1] / 5)
    plan = learn.plan(recipe)
    assert "0.002 / 25 = 8e-05" in said(plan, "phases[0].schedule") and "0.001 / 5 = 0.0002" in said(plan, "phases[1].schedule")
    (schedule,) = sheer.explain(plan).about("phases[1].schedule")
    assert schedule.rows[1][0] == f"1 of {len(head) - frozen.steps_per_epoch}" and schedule.rows[1][3] == "0.0002"


def test_q17_what_is_carried_over_and_must_the_learner_be_reset(photos):
    """Weights and norm statistics are; the optimiser's state is fresh in each phase, and a sweep leaves no trace."""
    learn = resnet(photos, size=32)
    learn.fit_one_cycle(1)
    learn.unfreeze().fit_one_cycle(1)
    (ledger,) = [one for one in sheer.explain(learn).about("phases[1].optimizer") if one.rows]
    rows = dict(ledger.rows)
    assert "nothing of the phase before is carried" in rows["optimiser state"] and "Adam moments begin at 0" in rows["optimiser state"]
    assert rows["weights of head"] == "phase 1, its last" and "carried on in head" in rows["norm statistics"]
    assert rows["random streams"] == f"go on at epoch 2, step {learn.plan().phases[0].steps_per_epoch + 1}"
    before = weights_sha256(learn.model)
    learn.lr_find(steps=20)
    assert weights_sha256(learn.model) == before


def test_q18_is_a_difference_of_a_few_tenths_of_a_point_an_effect(photos):
    """Accuracies come with their interval, the plan says how wide it will be, and the split has an identity."""
    learn = resnet(photos, size=32)
    metrics = learn.validate().metrics()
    assert metrics["accuracy_low"] < metrics["accuracy"] < metrics["accuracy_high"] or metrics["accuracy"] in (0.0, 1.0)
    text, count = said(learn, "data.valid_items"), learn.plan().data.valid_items
    assert f"+-{196 * (0.09 / count) ** 0.5:.1f} points" in text and "may be chance" in text
    other = sheer.learner(sheer.images(photos, seed=1), Small, size=32, batch_size=8, quiet=True)
    mine, theirs = (said(one, "data.held_out_sha256") for one in (learn, other))
    assert mine != theirs and "comparable only where it is the same" in mine


def test_q19_must_a_saved_model_be_rebuilt_by_hand(photos, tmp_path):
    """No: the run knows its model, classes and transforms."""
    learn = resnet(photos, size=32).fit(1)
    run = learn.save(tmp_path / "run")
    again, file = sheer.load(run), next((photos / "red").iterdir())
    assert again.classes == learn.classes and weights_sha256(again.model) == weights_sha256(learn.model)
    assert np.array_equal(again.predict(file).outputs, learn.predict(file).outputs)
    assert str(sheer.explain(run)) == str(sheer.explain(learn))


def test_q20_is_frozen_frozen(photos):
    """`requires_grad=False` fixes scale and shift alone; whether statistics move is the norm policy, and is said."""
    for policy, moves in (("adapt", True), ("frozen", False)):
        learn = resnet(photos, size=32, norm=policy)
        plan = learn.plan(sheer.recipes.linear_probe(1))
        text = said(plan, "phases[0].norm")
        assert ("the frozen stages early, late are not what they were afterwards" in text) == moves
        assert ("the running statistics move" in text.partition("head:")[0]) == moves
        assert "None of their tensors trains" in said(plan, "phases[0].trains_from")
        parameters = [p.clone() for p in learn.model.body.parameters()]
        buffers = [b.clone() for b in learn.model.body.buffers()]
        learn.run(sheer.recipes.linear_probe(1))
        assert all(torch.equal(old, new) for old, new in zip(parameters, learn.model.body.parameters(), strict=True))
        assert all(torch.equal(old, new) for old, new in zip(buffers, learn.model.body.buffers(), strict=True)) != moves
    gap = sheer.inspect(resnet(photos, size=32), items=16).gap
    assert gap is not None and gap.layers == 20 and gap.difference > 0


def norm_layers(model):
    return {name: module for name, module in model.named_modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)}


def noise_pictures(count=8, side=64):
    generator = torch.Generator().manual_seed(0)
    return [(torch.randn(3, side, side, generator=generator), index % 2) for index in range(count)]


def of_numbers(width=6):
    torch.manual_seed(0)
    inputs = torch.randn(80, width)
    return sheer.arrays(inputs, (inputs[:, 0] > 0).long())


def small_network():
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 2))


def test_q07_a_replaced_model_learns_nothing_elsewhere_and_is_an_error_here():
    learn = sheer.learner(of_numbers(), small_network(), quiet=True, batch_size=16).fit(1)
    learn.model = small_network()
    with pytest.raises(sheer.SheerError, match=r"4 tensors differ \(0.weight, 0.bias, 2.weight, 2.bias\).*with_model\(your_module\)"):
        learn.fit(1)
    kept, swapped = small_network(), small_network()
    loader = DataLoader(torch.utils.data.TensorDataset(torch.randn(16, 6), torch.arange(16) % 2), 8, shuffle=True)
    seen = sheer.doctor(swapped, torch.optim.Adam(kept.parameters()), loader, nn.CrossEntropyLoss())
    assert seen.codes == ("model_replaced",) and "none of the optimiser's 4 tensors" in seen.findings[0].evidence
    assert "all 4 trainable ones are missing" in seen.findings[0].evidence


def test_q09_the_rate_sweep_of_a_replaced_model_is_refused():
    learn = sheer.learner(of_numbers(), small_network(), quiet=True, batch_size=16)
    assert learn.lr_find(steps=20).losses
    learn.model = small_network()
    with pytest.raises(sheer.SheerError, match="The model is not the one that the plan left"):
        learn.lr_find(steps=20)


def test_q10_items_have_weights(tmp_path):
    """A column of weights: each item's loss counts that much, scaled to a mean of 1 over the items to train on."""
    pandas = pytest.importorskip("pandas")
    names, generator = [], np.random.default_rng(0)
    for index in range(20):
        names.append(f"{index}.png")
        Image.fromarray(generator.integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(tmp_path / f"{index}.png")
    table = pandas.DataFrame({"file": names, "kind": ["a", "b"] * 10, "cost": [1.0, 4.0] * 10})
    runs = {}
    for weight in ("cost", None):
        data = sheer.DataBlock(label="kind", root=tmp_path, weight=weight).build(table)
        learn = sheer.learner(data, "resnet18", weights="none", size=32, batch_size=8, quiet=True)
        runs[weight] = (data, " ".join(str(learn.plan()).split()), learn.fit(1).history[0].weights_sha256)
    data, text, _ = runs["cost"]
    train = data.weights[data.train]
    assert train.mean() == pytest.approx(1) and train.max() == pytest.approx(4 * train.min()) and "item weights cost" in text
    assert runs["cost"][2] != runs[None][2] and "item weights 1 each" in runs[None][1]


def test_q20_the_doctor_sees_a_frozen_body_whose_statistics_move():
    """requires_grad=False fixes scale and shift; in train mode the statistics move all the same."""
    model = torchvision.models.resnet18(num_classes=2)
    for norm in norm_layers(model).values():
        nn.init.uniform_(norm.weight, 0.5, 1.5)  # as trained ones are
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith("fc"))
    optimizer = torch.optim.SGD(model.fc.parameters(), 0.01)
    seen = sheer.doctor(
        model, optimizer, DataLoader(noise_pictures(), 4, shuffle=True), nn.CrossEntropyLoss(), mean=[0.5] * 3, std=[0.1] * 3
    )
    assert "frozen_norm_adapts" in seen.codes
    finding = seen.findings[seen.codes.index("frozen_norm_adapts")]
    assert dict(finding.numbers)["moving"] == 20 and "running statistics move" in finding.why


def test_q21_norm_layers_are_chosen_by_type_and_a_test_of_names_is_found(small_learner):
    """In a resnet34 `name.find("bn")` misses the three norm layers called downsample.1."""
    model = torchvision.models.resnet34(num_classes=2)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.find("bn") > -1 or name.startswith("fc"))
    held = [parameter for parameter in model.parameters() if parameter.requires_grad]
    loader = DataLoader(noise_pictures(), 4, shuffle=True)
    seen = sheer.doctor(model, torch.optim.SGD(held, 0.01), loader, nn.CrossEntropyLoss(), pretrained=False)
    assert seen.codes == ("norm_missed_by_name",)
    numbers = dict(seen.findings[0].numbers)
    assert (numbers["missed"], numbers["norms"]) == (3, 36) and "layer2.0.downsample.1" in seen.findings[0].evidence
    learn = small_learner(model="torchvision:resnet34", weights="none", norm="train").freeze().fit(1, 1e-3)
    norms = norm_layers(learn.model.body)
    assert len(norms) == 36 and all(module.weight.requires_grad for module in norms.values())


def test_q02_equal_scores_are_no_evidence_of_equal_set_ups(photos):
    """Two norm policies, one accuracy: the tensors say which of them trains scale and shift of the body, and which does not."""
    rates = sheer.recipes.linear_probe(1, rate=1e-9)
    mine, theirs = (resnet(photos, size=32, norm=("train", "train", "train") if trains else "adapt") for trains in (True, False))
    found = sheer.compare(mine, theirs, recipe=rates, steps=1)
    norms = sum(2 for module in mine.model.body.modules() if isinstance(module, nn.BatchNorm2d))
    assert found.first is not None and (found.first.stage, found.first.cause) == ("gradient", "frozen"), str(found)
    assert f"{norms} tensors do not train in b" in found.first.evidence and "body.layer4.1.bn2.weight" in found.first.evidence
    scores = [learn.run(rates).validate().metrics()["accuracy"] for learn in (mine, theirs)]
    assert scores[0] == scores[1]


def own_loop(model: nn.Module, trained: list[nn.Parameter]) -> sheer.Loop:
    generator = torch.Generator().manual_seed(0)
    batches = [(torch.rand((8, 3, 32, 32), generator=generator), torch.arange(8) % 2) for _ in range(2)]
    return sheer.Loop(model=model, loss=nn.CrossEntropyLoss(), optimizer=torch.optim.SGD(trained, lr=0.1), batches=batches)


def test_q07_a_replaced_model_is_seen_by_compare_as_in_no_group():
    """The optimiser still holds the old model's tensors: every parameter of the new one is in no group, and stays as it is."""
    old, new = Small(), Small()
    found = sheer.compare(own_loop(old, list(old.parameters())), own_loop(new, list(old.parameters())))
    assert found.first is not None and (found.first.stage, found.first.cause) == ("parameter", "ownership"), str(found)
    assert "6 parameters are in no group of b's optimiser" in found.first.evidence
    assert any(line.startswith("owned by one optimiser only: 6 parameters") for line in found.settings)


def test_q21_norm_layers_found_by_name_are_not_all_of_them():
    """`"bn" in name` misses the norm layers of the shortcuts: compared with a choice by type, their gradients are missing."""
    models = [timm.create_model("resnet18", num_classes=2) for _ in range(2)]
    norms = {path for path, module in models[0].named_modules() if isinstance(module, nn.BatchNorm2d)}
    chosen = [lambda name: name.rpartition(".")[0] in norms, lambda name: "bn" in name]
    for model, choice in zip(models, chosen, strict=True):
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(choice(name))
    loops = [own_loop(model, [p for p in model.parameters() if p.requires_grad]) for model in models]
    found = sheer.compare(*loops, steps=1)
    assert found.first is not None and (found.first.stage, found.first.cause) == ("gradient", "frozen"), str(found)
    assert "6 tensors do not train in b" in found.first.evidence and "layer4.0.downsample.1.weight" in found.first.evidence


def thread_plan(photos, rate, **options):
    """The thread's learner: fastai 1, frozen, its decay added to the gradient."""
    options = {"weights": "none", "profile": "fastai-1.0", "size": 64, "batch_size": 8, "optimizer": "adam", "quiet": True} | options
    data = sheer.images(photos, profile="fastai-1.0")
    recipe = sheer.recipes.constant(3, rate=rate, profile=options["profile"])
    return sheer.learner(data, "resnet18", **options).plan(recipe)


def test_q01_one_number_instead_of_a_slice(photos):
    """The body's norm layers train though it is frozen, at 3e-3 instead of 3e-4, with weight decay that was thought to be off."""
    a, b = thread_plan(photos, None), thread_plan(photos, 3e-3)
    found = sheer.diff(a, b)
    assert [one.change.decision for one in found.differences] == ["rates"]
    (place,) = found.about("rates").places()
    assert (place.a, place.b) == ("0.0003, 0.003", "0.003, 0.003")
    table = " ".join(str(b).split())
    assert "the frozen stage body trains its norm layers, 40 tensors, at 0.003 (the head's rate), decay 0.01, with the statistics" in table
    assert "40 tensors, at 0.0003, decay 0.01" in " ".join(str(a).split())


def test_q02_decisions_differ_where_scores_tie(photos):
    """His own loop scored as B did: it kept scale and shift still, B trained them."""
    one, other = (resnet(photos, size=32, norm=norm).fit(1, 1e-9) for norm in ("train", "adapt"))
    found = sheer.diff(one, other)
    scores = [learn.history[-1].metrics["accuracy"] for learn in (one, other)]
    assert abs(scores[0] - scores[1]) < 0.02 and "Scores as close as these say nothing about equal set-ups" in str(found)
    assert found.about("norm").places()[0].b == "body adapt, head train"


def test_q04_where_the_gap_to_keras_comes_from(photos):
    """Norm layers in inference mode, Adam's constants, the head and its initial weights: all of it at once, each with its reason."""
    found = sheer.diff(thread_plan(photos, None, optimizer=None), "keras-guide")
    assert found.about("norm").places()[0].b == "body frozen, head train"
    assert "trainable=False puts BatchNormalization in inference mode" in str(found).replace("\n        ", " ")
    assert "glorot_uniform" in found.about("head").places()[0].b
    place = found.about("optimizer").places()[0]
    assert "beta2=0.99, eps=1e-08" in place.a and "beta2=0.999, eps=1e-07" in place.b


def test_q22_is_a_small_gain_real(photos, tmp_path):
    """With seeds, an interval and paired tests; what is smaller than seed noise is called so."""
    options = {"weights": "none", "profile": "seven-tricks", "size": 32, "batch_size": 6, "quiet": True}
    learn = sheer.learner(sheer.images(photos), "test_resnet", **options)
    plan = learn.plan(sheer.recipes.of_profile(1, profile="seven-tricks"))
    data = sheer.images(photos)
    found = sheer.ablate(plan, "seven-tricks-2", data=data, seeds=3, decisions=["norm"], waterfall=False, out=tmp_path, quiet=True)
    (effect,) = found.effects
    assert effect.seeds == 3 and effect.half is not None and effect.p_seeds is not None and effect.p_items is not None
    assert (effect.verdict() == "smaller than seed noise") == (abs(effect.mean) <= effect.half)
    assert effect.verdict() in str(found) and "±" in str(found)


def test_q23_does_adapting_norm_layers_help(photos):
    """It depends on network and data, so it is measured: every policy with the same seeds, and the result is the plan's value."""
    learn = sheer.learner(sheer.images(photos), "test_resnet", weights="none", size=32, batch_size=8, quiet=True)
    found = sheer.measure_norm_policy(learn, seeds=2, items=24)
    assert set(found.scores) == {"train", "adapt", "frozen"} and all(len(scores) == 2 for scores in found.scores.values())
    phase = learn.plan(sheer.recipes.fine_tune(1)).phases[0]
    assert phase.norm[0] == found.chosen and "[measured: accuracy train" in " ".join(str(learn.plan(sheer.recipes.fine_tune(1))).split())
