"""Planted differences, each found at its stage and by its cause; equal set-ups in which nothing is found."""

import contextlib
import copy
import math
import random
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from timm.layers import BatchNormAct2d
from torch import nn
from torch.nn import functional
from torchvision import transforms as T

import sheer
from conftest import Small
from sheer import Loop
from sheer.cli.main import main
from sheer.errors import DataError, PlanError
from sheer.loop.feeds import prepared_feeds
from sheer.loop.step import train_step
from sheer.loop.train import schedule_of
from sheer.model.hashing import tensors_sha256
from sheer.plan.plan import Part
from sheer.streams import borrowed_generators
from sheer.study.compare.sides import LearnerSide
from sheer.study.compare.trace import EnoughError, Recorder
from sheer.task.losses import LOSSES

MEAN, STD = torch.tensor([0.485, 0.456, 0.406]).view(-1, 1, 1), torch.tensor([0.229, 0.224, 0.225]).view(-1, 1, 1)

HALF = torch.full((3, 1, 1), 0.5)


class Net(nn.Module):
    def __init__(self, eps: float = 1e-5, momentum: float = 0.1, act: type[nn.Module] = nn.ReLU) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.conv = nn.Conv2d(3, 4, 3, stride=2, bias=False)
        self.norm = nn.BatchNorm2d(4, eps=eps, momentum=momentum)
        self.act = act()
        self.drop = nn.Dropout(0.25)
        self.out = nn.Linear(4, 3)

    def features(self, images: torch.Tensor) -> torch.Tensor:
        return self.drop(self.act(self.norm(self.conv(images))).mean((2, 3)))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.out(self.features(images))


class Ending(Net):
    """The same network with something after its scores, or between its layers."""

    def __init__(self, end: Callable[[torch.Tensor], torch.Tensor], detached: bool = False) -> None:
        super().__init__()
        self.end, self.detached = end, detached

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = self.features(images)
        return self.end(self.out(features.detach() if self.detached else features))


def pixels(size: int = 16) -> torch.Tensor:
    """uint8 pictures, smooth enough to be told from noise."""
    generator = torch.Generator().manual_seed(1)
    coarse = torch.rand((32, 3, 6, 6), generator=generator) * 200 + 20
    fine = functional.interpolate(coarse, size=(size, size), mode="bilinear", align_corners=False)
    return (fine + 20 * torch.rand(fine.shape, generator=generator)).to(torch.uint8)


TARGET = torch.arange(32) % 3


def batches(images: torch.Tensor, target: torch.Tensor = TARGET) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return list(zip(images.split(8), target.split(8), strict=True))


def normalised(images: torch.Tensor, mean: torch.Tensor = MEAN, std: torch.Tensor = STD) -> torch.Tensor:
    return (images / 255 - mean) / std


def adamw(model: nn.Module, **options: object) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), **{"lr": 1e-3, "weight_decay": 0.01, **options})


def loop(model: nn.Module | None = None, optimizer: Callable[..., torch.optim.Optimizer] = adamw, **parts: object) -> Loop:
    model = model or Net()
    given = {"loss": nn.CrossEntropyLoss(), "batches": batches(normalised(pixels()))} | parts
    return Loop(model=model, optimizer=optimizer(model), **given)


def sgd(**options: object) -> Callable[[nn.Module], torch.optim.Optimizer]:
    return lambda model: torch.optim.SGD(model.parameters(), **{"lr": 0.1, "momentum": 0.9, **options})


def changed(model: nn.Module, change: Callable[[nn.Module], object]) -> nn.Module:
    change(model)
    return model


def step_with(before: Callable[[nn.Module], object] = lambda m: None, zero: bool = True, times: float = 1.0, after=lambda m: None):
    def step(model, loss, optimizer, inputs, target):
        if zero:
            optimizer.zero_grad()
        value = loss(model(inputs), target)
        (value * times).backward()
        before(model)
        optimizer.step()
        after(model)
        return value.detach()

    return step


def penalised(model, loss, optimizer, inputs, target):
    optimizer.zero_grad()
    value = loss(model(inputs), target)
    (value + 0.01 * sum(p.square().sum() for p in model.parameters())).backward()
    optimizer.step()
    return value.detach()


class Maximum(Net):
    """The same modules with another pooling between them, which is no module."""

    def features(self, images: torch.Tensor) -> torch.Tensor:
        return self.drop(self.act(self.norm(self.conv(images))).amax((2, 3)))


def penalty_told(model, loss, optimizer, inputs, target):
    optimizer.zero_grad()
    value = loss(model(inputs), target) + 0.01 * sum(p.square().sum() for p in model.parameters())
    value.backward()
    optimizer.step()
    return value.detach()


def evaluating(model, loss, optimizer, inputs, target):
    model.eval()
    return train_step(model, loss, optimizer, inputs, target)


def in_bfloat16(model, loss, optimizer, inputs, target):
    with torch.autocast("cpu", torch.bfloat16):
        return train_step(model, loss, optimizer, inputs, target)


def own_optimizer(model: nn.Module, names: tuple[str, ...]) -> torch.optim.Optimizer:
    return torch.optim.SGD([p for name, p in model.named_parameters() if not name.startswith(names)], lr=0.1)


def normalising(model, loss, optimizer, inputs, target):
    return train_step(model, loss, optimizer, normalised(inputs), target)


def clipped_step(model, loss, optimizer, inputs, target):
    optimizer.zero_grad()
    value = loss(model(inputs), target).mean()
    value.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 0.01)
    optimizer.step()
    return value.detach()


@dataclass
class Planted:
    """b, against a; at which step and stage, by which cause, and what the evidence must say."""

    a: Callable[[], object]
    b: Callable[[], object]
    where: tuple[int, str]
    cause: str
    says: tuple[str, ...]


def plain(**parts: object) -> Callable[[], Loop]:
    return lambda: loop(**parts)


def net(change: Callable[[nn.Module], object]) -> Callable[[], Loop]:
    return lambda: loop(changed(Net(), change))


def images(make: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[], Loop]:
    return lambda: loop(batches=batches(make(pixels())))


def flipped_some(values: torch.Tensor) -> torch.Tensor:
    values = normalised(values).clone()
    values[1::3] = values[1::3].flip(-1)
    return values


def other_resize(values: torch.Tensor) -> torch.Tensor:
    small = functional.interpolate(normalised(values), size=(11, 11), mode="nearest")
    return functional.interpolate(small, size=(16, 16), mode="bilinear", align_corners=False)


def smooth(**options: object) -> Callable[[], Loop]:
    return lambda: loop(loss=nn.CrossEntropyLoss(**options))


def twice(scores: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return functional.cross_entropy(scores.softmax(1), target)


def sheer_focal(gamma: float) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    return LOSSES["focal"](gamma=gamma)


def two(model: type[nn.Module]) -> Callable[[], Loop]:
    return lambda: loop(model(), batches=batches(normalised(pixels()), TARGET % 2))


ORDER = torch.randperm(8, generator=torch.Generator().manual_seed(2)).repeat(4) + 8 * torch.arange(4).repeat_interleave(8)
WEIGHTS = torch.tensor([1.0, 2.0, 0.5])
BIG = normalised(pixels(20))
PLANTED = {
    "std": Planted(
        plain(), images(lambda p: normalised(p, std=HALF)), (1, "inputs"), "normalisation", ("std 0.229, 0.224, 0.225 against 0.5",)
    ),
    "std from 0..1": Planted(images(lambda p: p / 255), plain(), (1, "inputs"), "normalisation", ("mean 0 against 0.485", "0.229")),
    "range": Planted(images(lambda p: p / 255), images(lambda p: p.float()), (1, "inputs"), "range", ("0..1 against 0..255", "255 times")),
    "BGR": Planted(plain(), images(lambda p: normalised(p).flip(1)), (1, "inputs"), "channel order", ("in reverse",)),
    "BGR and std": Planted(images(lambda p: p / 255), images(lambda p: normalised(p).flip(1)), (1, "inputs"), "channel order", ("b = ",)),
    "order": Planted(plain(), lambda: loop(batches=batches(normalised(pixels())[ORDER], TARGET[ORDER])), (1, "inputs"), "order", ("item",)),
    "flips": Planted(plain(), images(flipped_some), (1, "inputs"), "flip", ("3 of 8", "left to right")),
    "crop": Planted(
        lambda: loop(batches=batches(BIG[..., 1:17, 2:18])),
        lambda: loop(batches=batches(BIG[..., 3:19, 1:17])),
        (1, "inputs"),
        "crop",
        ("-1 px across", "+2 px down"),
    ),
    "resize": Planted(plain(), images(other_resize), (1, "inputs"), "resize", ("correlation", "times as much")),
    "size": Planted(plain(), lambda: loop(batches=batches(BIG)), (1, "inputs"), "size", ("16 x 16 px against 20 x 20",)),
    "channels last": Planted(
        plain(batches=batches(normalised(pixels())[..., :3])),
        plain(batches=batches(normalised(pixels())[..., :3].permute(0, 2, 3, 1))),
        (1, "inputs"),
        "layout",
        ("channels last",),
    ),
    "batch size": Planted(
        plain(), lambda: loop(batches=[(x[:6], y[:6]) for x, y in batches(normalised(pixels()))]), (1, "inputs"), "batch size", ("8", "6")
    ),
    "labels from 1": Planted(
        plain(), lambda: loop(batches=batches(normalised(pixels()), (TARGET + 1) % 3)), (1, "target"), "class order", ("0 is 1",)
    ),
    "eval mode": Planted(plain(), net(lambda m: m.norm.eval()), (1, "layer"), "mode", ("BatchNorm2d", "train mode in a", "eval mode in b")),
    "dropout in eval": Planted(plain(), net(lambda m: m.drop.eval()), (1, "layer"), "mode", ("Dropout",)),
    "dropout rate": Planted(plain(), net(lambda m: setattr(m.drop, "p", 0.5)), (1, "layer"), "layer settings", ("p=0.25", "p=0.5")),
    "norm eps": Planted(plain(), lambda: loop(Net(eps=1e-3)), (1, "layer"), "norm eps", ("eps=1e-05", "eps=0.001")),
    "norm momentum": Planted(plain(), lambda: loop(Net(momentum=0.01)), (1, "buffer"), "norm momentum", ("momentum=0.1", "0.1 times")),
    "activation": Planted(plain(), lambda: loop(Net(act=nn.GELU)), (1, "layer"), "module", ("ReLU", "GELU")),
    "softmax": Planted(plain(), lambda: loop(Ending(lambda s: s.softmax(1))), (1, "logits"), "output activation", ("b ends in a softmax",)),
    "classes": Planted(plain(), lambda: loop(Ending(lambda s: s[:, [1, 0, 2]])), (1, "logits"), "class order", ("0 is 1",)),
    "label smoothing": Planted(plain(), smooth(label_smoothing=0.1), (1, "loss"), "label smoothing", ("0 against 0.1",)),
    "class weights": Planted(plain(), smooth(weight=WEIGHTS), (1, "loss"), "class weights", ("classes 0, 1, 2",)),
    "sum": Planted(plain(), smooth(reduction="sum"), (1, "loss"), "reduction", ("8 times", "sum")),
    "softmax twice": Planted(plain(), lambda: loop(loss=twice), (1, "loss"), "loss kind", ("softmax twice",)),
    "focal": Planted(plain(loss=sheer_focal(0.0)), plain(loss=sheer_focal(2.0)), (1, "loss"), "focal", ("0 against 2",)),
    "clipping": Planted(
        plain(),
        plain(step=step_with(lambda m: nn.utils.clip_grad_norm_(m.parameters(), 0.05))),
        (1, "gradient at the update"),
        "clipping",
        ("0.05",),
    ),
    "clipping values": Planted(
        plain(),
        plain(step=step_with(lambda m: nn.utils.clip_grad_value_(m.parameters(), 0.01))),
        (1, "gradient at the update"),
        "clipping",
        ("0.01",),
    ),
    "frozen": Planted(plain(), net(lambda m: m.conv.requires_grad_(False)), (1, "gradient"), "frozen", ("1 tensors", "conv.weight")),
    "detached": Planted(plain(), lambda: loop(Ending(lambda s: s, detached=True)), (1, "gradient"), "gradient missing", ("3 tensors",)),
    "loss scaled": Planted(plain(), plain(step=step_with(times=0.25)), (1, "gradient"), "gradient scale", ("0.25 times",)),
    "penalty": Planted(plain(), plain(step=penalised), (1, "gradient"), "L2 in the gradient", ("0.02 times",)),
    "penalty told": Planted(plain(), plain(step=penalty_told), (1, "loss"), "added term", ("gradients at the scores are equal",)),
    "mode in the step": Planted(plain(), plain(step=evaluating), (1, "layer"), "mode", ("train mode in a and in eval mode in b",)),
    "pooling": Planted(plain(), lambda: loop(Maximum()), (1, "layer"), "unknown", ("Something before it is no module",)),
    "autocast": Planted(plain(), plain(step=in_bfloat16), (1, "layer"), "precision", ("float32 in a and in bfloat16 in b",)),
    "zero_grad": Planted(plain(), plain(step=step_with(zero=False)), (2, "gradient"), "zero_grad", ("not set to zero",)),
    "rate": Planted(plain(), plain(optimizer=lambda m: adamw(m, lr=3e-3)), (1, "parameter"), "rate", ("lr 0.001 against 0.003", "3 times")),
    "decay": Planted(
        plain(optimizer=lambda m: adamw(m, weight_decay=0.5)),
        plain(optimizer=lambda m: adamw(m, weight_decay=0.0)),
        (1, "parameter"),
        "weight decay",
        ("0.5 against 0",),
    ),
    "beta1": Planted(
        plain(),
        plain(optimizer=lambda m: adamw(m, betas=(0.5, 0.999))),
        (2, "parameter"),
        "momentum",
        ("(0.9, 0.999) against (0.5, 0.999)",),
    ),
    "momentum": Planted(plain(optimizer=sgd()), plain(optimizer=sgd(momentum=0.0)), (2, "parameter"), "momentum", ("0.9 against 0",)),
    "optimiser eps": Planted(plain(), plain(optimizer=lambda m: adamw(m, eps=1e-2)), (1, "parameter"), "eps", ("1e-08 against 0.01",)),
    "nesterov": Planted(
        plain(optimizer=sgd()),
        plain(optimizer=sgd(nesterov=True)),
        (1, "parameter"),
        "optimizer settings",
        ("nesterov False against True",),
    ),
    "optimiser": Planted(plain(), plain(optimizer=sgd()), (1, "parameter"), "optimizer", ("AdamW against SGD",)),
    "not owned": Planted(
        plain(optimizer=lambda m: own_optimizer(m, ())),
        plain(optimizer=lambda m: own_optimizer(m, ("norm", "conv"))),
        (1, "parameter"),
        "ownership",
        ("3 parameters", "conv.weight"),
    ),
    "another model's optimiser": Planted(
        plain(optimizer=lambda m: own_optimizer(m, ())),
        plain(optimizer=lambda m: own_optimizer(Net(), ())),
        (1, "parameter"),
        "ownership",
        ("5 parameters",),
    ),
    "no update": Planted(plain(), plain(step=lambda m, loss, o, x, y: loss(m(x), y).detach()), (1, "gradient"), "gradient missing", ("5",)),
    "architecture": Planted(two(Net), two(Small), (0, "model"), "architecture", ("conv.bias",)),
    "weights changed afterwards": Planted(
        plain(), plain(step=step_with(after=lambda m: m.out.bias.data.fill_(0.5))), (1, "parameter"), "unknown", ("after the update",)
    ),
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_difference_is_found_at_its_stage_and_by_its_cause(name):
    planted = PLANTED[name]
    found = sheer.compare(planted.a(), planted.b())
    assert not found.equal and found.first is not None, str(found)
    assert ((found.first.step, found.first.stage), found.first.cause) == (planted.where, planted.cause), str(found)
    for words in planted.says:
        assert words in found.first.evidence, str(found)
    assert str(found.first) in str(found)
    assert not any("nan" in row[3] for row in found.table()[1])


def own_net():
    """The network of a learner and of its script: a module of one's own, whose source is copied."""
    from torch import nn

    layers = [nn.Conv2d(3, 4, 3, stride=2, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Dropout(0.1), nn.Linear(4, 2))


@pytest.fixture(scope="module")
def run(photos, tmp_path_factory):
    """A finished run and its script."""
    out = tmp_path_factory.mktemp("compared") / "run"
    data = sheer.images(photos)
    options = {"head": "concat_pool", "augmentation": "light"}  # a head that is not the same in eval mode
    learn = sheer.learner(data, "resnet18", weights="none", size=32, batch_size=8, quiet=True, out=out, **options)
    learn.fit(1, 1e-3)
    return learn, out, sheer.eject(out, out.parent / "train.py")


def clean(found: sheer.Comparison) -> None:
    assert found.equal and found.first is None, str(found)
    assert len(found.stages) > 10 and all(stage.equal == stage.tensors for stage in found.stages)
    assert "No tensor differs" in str(found)


def test_a_learner_and_its_ejected_script_are_equal_bit_for_bit(run, photos):
    learn, out, script = run
    found = sheer.compare(learn, script, exact=True, steps=4)
    clean(found)
    assert {"items", "decode", "resize", "cut", "augment", "normalise", "inputs"} <= {stage.name for stage in found.stages}
    assert found.steps == 4 and "bit for bit" in str(found)
    clean(sheer.compare(out, script, data=photos, exact=True, steps=1))
    assert sheer.compare(learn, script, steps=99).steps == learn.plan().phases[0].steps_per_epoch  # the phase has no more


def test_what_a_learner_side_does_is_what_training_does(small_learner):
    learn = small_learner(seed=3)
    side = LearnerSide(learn, sheer.recipes.constant(1, rate=1e-2), None)
    steps = side.plan.phases[0].steps_per_epoch
    recorder = Recorder(steps, *side.stream)
    with borrowed_generators(torch.device("cpu")), contextlib.suppress(EnoughError):
        side.run(recorder.wrap)
    learn.fit(1, 1e-2)
    assert tensors_sha256(recorder.steps[-1].state.values()) == learn.history[-1].weights_sha256


def test_comparing_changes_no_later_training(small_learner):
    hashes = []
    for looks in (False, True):
        learn = small_learner(seed=1)
        if looks:
            mine = loop(Small())
            before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
            assert not sheer.compare(learn, mine).equal
            assert torch.equal(before[0], torch.get_rng_state()) and (before[1] == np.random.get_state()[1]).all()
            assert before[2] == random.getstate()
        learn.fit(1, 1e-2)
        if looks:
            sheer.compare(learn, learn, recipe=sheer.recipes.constant(1))
        learn.fit(1, 1e-3)
        hashes.append([row.weights_sha256 for row in learn.history])
    assert hashes[0] == hashes[1]


def test_a_loop_is_left_as_it_was():
    mine = loop(changed(Net(), lambda m: m.drop.eval()), optimizer=sgd())
    for inputs, target in mine.batches[:2]:
        mine.step(mine.model, mine.loss, mine.optimizer, inputs, target)
    untouched = copy.deepcopy((mine.model, mine.optimizer))
    rng, gradient = torch.get_rng_state(), mine.model.out.weight.grad
    assert not sheer.compare(mine, loop(), weights="own").equal
    assert tensors_sha256(mine.model.state_dict().values()) == tensors_sha256(untouched[0].state_dict().values())
    assert torch.equal(rng, torch.get_rng_state()) and mine.model.out.weight.grad is gradient
    assert mine.model.training and not mine.model.drop.training
    now, then = (optimizer.state_dict() for optimizer in (mine.optimizer, untouched[1]))
    assert now["param_groups"] == then["param_groups"]
    assert all(torch.equal(now["state"][n]["momentum_buffer"], then["state"][n]["momentum_buffer"]) for n in then["state"])


@pytest.mark.parametrize("exact", [False, True])
def test_equal_loops_are_equal(exact):
    clean(sheer.compare(loop(), loop(), exact=exact))
    clean(sheer.compare(loop(Net().to(memory_format=torch.channels_last)), loop(), steps=4))
    clean(sheer.compare(loop(optimizer=lambda m: adamw(m, fused=True)), loop(optimizer=lambda m: adamw(m, foreach=True)), steps=4))
    other = loop()
    clean(sheer.compare((other.model, other.loss, other.optimizer, other.batches), loop(step=step_with()), exact=exact))


def test_a_learner_and_a_hand_written_loop_are_equal(photos):
    learn = sheer.learner(sheer.images(photos), Small, quiet=True, size=32, batch_size=8, augmentation=())
    plan = learn.plan(sheer.recipes.constant(1, rate=1e-3))
    phase = plan.phases[0]
    model = torch.nn.Sequential(OrderedDict(mine=Small()))  # other names: matched by position
    decayed = [p for name, p in model.named_parameters() if p.ndim > 1]
    other = [p for name, p in model.named_parameters() if p.ndim <= 1]

    def groups() -> list[dict]:
        return [{"params": decayed, "weight_decay": phase.weight_decay}, {"params": other, "weight_decay": 0.0}]

    options = phase.optimizer.options()
    schedule = schedule_of(phase)
    optimizer = torch.optim.AdamW(groups(), lr=1e-3, betas=(schedule.momentum(0.0), options["beta2"]), eps=options["eps"])
    feed = prepared_feeds(learn.data, plan, 0)[0]
    mine = Loop(model=model, loss=nn.CrossEntropyLoss(), optimizer=optimizer, batches=[(b.inputs, b.target) for b in feed.training(0)])
    found = sheer.compare(learn, mine, recipe=sheer.recipes.constant(1, rate=1e-3))
    clean(found)
    assert "matched by position" in found.weights
    clean(sheer.compare(mine, learn, recipe=sheer.recipes.constant(1, rate=1e-3)))
    other_rate = Loop(model=model, loss=mine.loss, optimizer=torch.optim.AdamW(groups(), lr=2e-3), batches=mine.batches)
    found = sheer.compare(learn, other_rate, recipe=sheer.recipes.constant(1, rate=1e-3))
    assert "lr 0.001 against 0.002" in found.first.evidence and "rate" in found.first.cause


LEARNERS = {
    "resize": ({"resize": "squish"}, "resize", "resize", "Squish(interpolation="),
    "interpolation": ({"resize": Part(name="crop", settings=(("interpolation", "bicubic"),))}, "resize", "resize", "bicubic"),
    "augmentation": ({"augmentation": ()}, "augment", "augmentation", "against none"),
    "seed": ({"seed": 1}, "items", "order", "place 0"),
    "label smoothing": ({"label_smoothing": 0.2}, "loss", "label smoothing", "0.2"),
    "norm policy": ({"norm": "frozen"}, "layer", "mode", "batch against running"),
    "decay": ({"weight_decay": 0.5}, "parameter", "weight decay", "against 0.5"),
}


@pytest.mark.parametrize("name", LEARNERS)
def test_two_learners_differ_where_their_plans_do(name, small_learner):
    options, stage, cause, says = LEARNERS[name]
    base = {"augmentation": "light", "norm": "train"}
    found = sheer.compare(small_learner(**base), small_learner(**base | options))
    assert (found.first.stage, found.first.cause) == (stage, cause), str(found)
    assert says in found.first.evidence, str(found)


def test_normalisation_is_solved_from_a_learners_own_pixels(small_learner):
    learn, other = small_learner(), small_learner()
    other._inputs = replace(other._inputs, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    found = sheer.compare(learn, other)
    assert (found.first.stage, found.first.cause) == ("normalise", "normalisation")
    assert "std 0.229, 0.224, 0.225 against 0.5" in found.first.evidence and len(found.findings) == 1, str(found)


TRANSFORMS = {
    "equal": ([T.Resize((32, 32)), T.ToTensor(), T.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))], "inputs", "size", "20 x 20"),
    "statistics": (
        [T.Resize((32, 32)), T.ToTensor(), T.Normalize((0.5,) * 3, (0.5,) * 3)],
        "photo normalise",
        "normalisation",
        "against 0.5",
    ),
    "not normalised": ([T.Resize((32, 32)), T.ToTensor()], "photo normalise", "normalisation", "its values are plain 0..1"),
    "filter": ([T.Resize((32, 32), T.InterpolationMode.BICUBIC), T.ToTensor()], "photo resize", "resize", "bicubic"),
    "crop": ([T.Resize(36), T.CenterCrop(32), T.ToTensor()], "photo resize", "resize", "(32, 32, 3) against (36, 43, 3)"),
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_the_steps_of_a_transform_are_compared_on_the_same_photograph(name, small_learner):
    steps, stage, cause, says = TRANSFORMS[name]
    learn = small_learner(resize=Part(name="squish", settings=(("interpolation", "bilinear"),)))
    found = sheer.compare(learn, replace(loop(Small()), batches=batches(BIG, TARGET % 2), transform=T.Compose(steps)))
    if name == "equal":
        looks = [row for row in found.stages if row.name.startswith("photo ")]
        assert len(looks) == 4 and all(row.equal == 1 for row in looks), str(found)
    assert (found.first.stage, found.first.cause) == (stage, cause), str(found)
    assert says in found.first.evidence, str(found)


EDITS = {
    "the rate": ("set_rates(optimizer, phase.schedule.rate(progress),", "set_rates(optimizer, 2 * phase.schedule.rate(progress),", "rate"),
    "the statistics": ("(phase.mean, phase.std))", "(phase.mean, (0.9, 0.9, 0.9)))", "normalisation"),
    "the mode": ("set_modes(model, STAGES, phase.trains_from, phase.norm)\n            run =", "model.eval()\n            run =", "mode"),
    "the order": ('stream_key(SEED, "shuffle"', 'stream_key(9, "shuffle"', "order"),
}


def with_edit(script, name, folder):
    old, new, _ = EDITS[name]
    text = script.read_text()
    assert text.count(old) == 1
    edited = folder / "edited.py"
    edited.write_text(text.replace(old, new))
    return edited


@pytest.mark.parametrize("name", EDITS)
def test_an_edited_script_is_found_out(name, run, tmp_path):
    learn, _, script = run
    found = sheer.compare(learn, with_edit(script, name, tmp_path))
    assert found.first.cause == EDITS[name][2], str(found)
    assert found.b.startswith("script edited.py")


def test_a_step_function_is_compared_on_everything_of_the_other_side(small_learner, run):
    clean(sheer.compare(loop(), train_step, exact=True))
    clean(sheer.compare(run[2], train_step, exact=True, data=run[0].data, steps=2))
    found = sheer.compare(small_learner(), clipped_step)
    assert (found.first.stage, found.first.cause) == ("gradient at the update", "clipping"), str(found)


def test_differences_behind_the_data_are_found_on_the_same_batches():
    found = sheer.compare(loop(), loop(batches=batches(pixels() / 255), loss=nn.CrossEntropyLoss(label_smoothing=0.1)))
    assert [finding.cause for finding in found.findings] == ["normalisation", "label smoothing"], str(found)
    clean(sheer.compare(loop(), loop(batches=batches(pixels()), step=normalising), exact=False))


def test_no_number_on_both_sides_is_no_difference():
    def spoiled() -> Loop:
        made = normalised(pixels())
        made[3, 0, 0, 0] = math.nan
        return loop(batches=batches(made))

    clean(sheer.compare(spoiled(), spoiled()))
    one_side = sheer.compare(loop(), spoiled())
    assert one_side.first.stage == "inputs", str(one_side)


def test_another_precision_is_told_where_it_is_within_the_tolerance():
    wide = normalised(pixels()).double()
    found = sheer.compare(loop(), loop(model=Net().double(), batches=batches(wide)))
    said = [text for text in found.settings if text.startswith("precision of")]
    assert said == [f"precision of the {what}: float32 against float64" for what in ("inputs", "scores", "weights")], str(found)
    assert not found.equal


def test_settings_are_told_even_where_no_tensor_shows_them():
    found = sheer.compare(loop(), loop(optimizer=lambda m: adamw(m, betas=(0.5, 0.999))), steps=1)
    assert not found.findings and not found.equal
    assert "betas (0.9, 0.999) against (0.5, 0.999)" in found.settings[0] and "betas" in str(found)


def test_weights_as_they_are():
    other = changed(Net(), lambda m: nn.init.normal_(m.conv.weight))
    found = sheer.compare(loop(), loop(other), weights="own")
    assert (found.first.step, found.first.stage, found.first.cause) == (0, "weights", "weights") and found.first.tensor == "conv.weight"
    assert found.findings[1].cause == "weights"
    clean(sheer.compare(loop(), loop(other)))


def test_a_step_that_fails_is_a_finding():
    def broken(model, loss, optimizer, inputs, target):
        return loss(model(inputs), target.float()[:, None])

    found = sheer.compare(loop(), loop(step=broken))
    assert found.first.cause == "failure" and "RuntimeError" in found.first.evidence, str(found)
    with pytest.raises(PlanError, match="fails by itself at step 1"):
        sheer.compare(loop(step=broken), loop())


def test_a_loop_named_in_a_file(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "import torch\nfrom torch import nn\nmodel = nn.Linear(2, 2)\n"
        "optimizer, batch = torch.optim.SGD(model.parameters(), lr=0.1), (torch.ones(4, 2), torch.tensor([0, 1, 0, 1]))\n"
        "parts = (model, nn.CrossEntropyLoss(), optimizer, [batch] * 3)\n"
    )
    clean(sheer.compare(f"{file}:parts", f"{file}:parts", exact=True))
    with pytest.raises(DataError, match="has no other"):
        sheer.compare(f"{file}:other", f"{file}:parts")
    with pytest.raises(DataError, match="is no ejected script"):
        sheer.compare(file, f"{file}:parts", data=tmp_path)


def test_differences_that_grow_from_rounding_are_called_rounding():
    class Off(Net):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return super().forward(images * (1 + 2e-6))

    found = sheer.compare(loop(), loop(Off()), rtol=1e-9)
    assert (found.first.stage, found.first.cause) == ("layer", "rounding"), str(found)
    assert "grows through the layers" in found.first.evidence


def test_a_norm_layer_with_its_activation_inside_is_one_layer():
    class Fused(Net):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.act = BatchNormAct2d(4), nn.Identity()

    found = sheer.compare(loop(Fused()), loop(changed(Fused(), lambda m: m.norm.eval())))
    assert (found.first.stage, found.first.tensor, found.first.cause) == ("layer", "norm", "mode"), str(found)


def test_the_command_says_it_and_its_status_too(run, photos, tmp_path, capsys):
    _, out, script = run
    assert main(["compare", str(out), str(script), "--data", str(photos), "--steps", "2", "--exact"]) == 0
    assert "No tensor differs in 2 steps" in capsys.readouterr().out
    edited = with_edit(script, "the statistics", tmp_path)
    assert main(["compare", str(script), str(edited), "--data", str(photos), "--steps", "1"]) == 1
    assert "std 0.229, 0.224, 0.225 against 0.9" in capsys.readouterr().out
    assert main(["compare", str(out), str(script)]) == 0  # the run knows where its photographs lie
    assert main(["compare", str(script), str(edited)]) == 2
    assert "--data FOLDER" in capsys.readouterr().err


WRONG = {
    "steps": (lambda: sheer.compare(loop(), loop(), steps=0), "at least 1"),
    "weights": (lambda: sheer.compare(loop(), loop(), weights="b"), "'copy'"),
    "rtol": (lambda: sheer.compare(loop(), loop(), rtol=2), "0 .bit for bit. to 1"),
    "kind": (lambda: sheer.compare(loop(), 3), "A int cannot be compared"),
    "two steps": (lambda: sheer.compare(train_step, train_step), "cannot be compared"),
    "step": (lambda: sheer.compare(loop(), lambda inputs: None), "takes .model, loss, optimizer"),
    "iterator": (lambda: loop(batches=iter(())), "use them up"),
    "parts": (lambda: Loop(model=Net(), loss=None, optimizer=adamw(Net()), batches=[]), "NoneType"),
    "no weights": (lambda: loop(model=nn.ReLU(), optimizer=lambda _: adamw(Net())), "ReLU has no parameters"),
    "empty": (lambda: sheer.compare(loop(), loop(batches=[])), "no batches"),
    "batch": (lambda: sheer.compare(loop(), loop(batches=[torch.ones(2)])), "pairs of tensors"),
    "missing file": (lambda: sheer.compare(loop(), "no.py", data="."), "no file no.py"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_compared_is_said(name):
    action, message = WRONG[name]
    with pytest.raises((PlanError, DataError), match=message):
        action()
