"""The real fastai 2.8.12 beside the profile fastai-2.8: group contents, every step's rates and momenta, the head."""

import warnings

import numpy as np
import pytest
import torch
from PIL import Image

import sheer
from sheer.data.pixels import Pad
from sheer.plan.schedules import OneCycle
from sheer.task.losses import CrossEntropy

fastai = pytest.importorskip("fastai", reason="fastai is not installed: pip install '.[bench]'")


@pytest.fixture(scope="module")
def both():
    """fastai's learner and sheer's on the same network and the same number of steps: 5 an epoch."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import torchvision
        from fastai.callback.core import Callback
        from fastai.callback.schedule import fine_tune  # noqa: F401
        from fastai.data.core import DataLoaders
        from fastai.learner import Learner
        from fastai.losses import CrossEntropyLossFlat
        from fastai.optimizer import Adam
        from fastai.vision.learner import create_vision_model, model_meta

        inputs, labels = torch.rand(40, 3, 32, 32), torch.tensor([0, 1, 2, 0] * 10)
        items = list(zip(inputs, labels, strict=True))
        loaders = DataLoaders(torch.utils.data.DataLoader(items, batch_size=8), torch.utils.data.DataLoader(items, batch_size=8))
        model = create_vision_model(torchvision.models.resnet18, 3, pretrained=False)
        theirs = Learner(
            loaders,
            model,
            loss_func=CrossEntropyLossFlat(),
            opt_func=Adam,
            splitter=model_meta[torchvision.models.resnet18]["split"],
        )
        seen = []

        class Watch(Callback):
            order = 70

            def before_step(self):
                hypers = self.opt.hypers
                moving = [sum(p.requires_grad for p in group) for group in self.opt.param_lists]
                seen.append(([h["lr"] for h in hypers], hypers[0]["mom"], moving))

        theirs.freeze()
        names = {id(p): n for n, p in theirs.model.named_parameters()}
        groups = [[names[id(p)] for p in group] for group in theirs.opt.param_lists]
        with theirs.no_bar(), theirs.no_logging():
            theirs.fine_tune(2, cbs=[Watch()])
    data = sheer.arrays(
        (inputs * 255).to(torch.uint8).repeat(2, 1, 1, 1), labels.tolist() * 2, valid=0.5, split="random", profile="fastai-2.8"
    )
    ours = sheer.learner(data, "torchvision:resnet18", weights="none", profile="fastai-2.8", quiet=True, batch_size=8)
    return theirs, groups, seen, ours, ours.plan(sheer.recipes.fine_tune(2, profile="fastai-2.8"))


def test_groups_hold_the_same_tensors(both):
    _, groups, _, ours, _ = both
    fact = {}
    for tensor in ours._tensors:
        fact.setdefault(tensor.stage, []).append(tensor.values)
    assert [len(group) for group in groups] == [len(fact[stage]) for stage in sorted(fact)] == [30, 30, 6]
    print("groups", [len(group) for group in groups])


def test_group_sizes_and_what_trains(both):
    theirs, _, seen, ours, plan = both
    for index, group in enumerate(theirs.opt.param_lists):
        sizes = sorted(parameter.numel() for parameter in group)
        assert sizes == sorted(tensor.values for tensor in ours._tensors if tensor.stage == index)
    stages = [stage.name for stage in plan.model.stages]
    for phase, moving in zip(plan.phases, (seen[0][2], seen[-1][2]), strict=True):
        trains = [sum(g.tensors for g in phase.groups if g.stage == stage and g.trains) for stage in stages]
        assert trains == moving
        print(phase.name, "trainable tensors", trains)


def test_every_steps_rates_and_momenta(both):
    _, _, seen, _, plan = both
    steps = []
    for phase in plan.phases:
        schedule, total = OneCycle(**phase.schedule.options()), phase.epochs * phase.steps_per_epoch
        for step in range(total):
            steps.append(([rate * schedule.rate(step / total) for rate in phase.rates], schedule.momentum(step / total)))
    assert len(steps) == len(seen) == 15
    for (rates, momentum), (their_rates, their_momentum, _) in zip(steps, seen, strict=True):
        # fastai computes the position in float32: a relative 1e-7 of the peak rate and of the momentum
        assert rates == pytest.approx(their_rates, abs=2e-10)
        assert momentum == pytest.approx(their_momentum, abs=2e-7)
    worst = max(abs(a - b) for (r, _), (t, _, _) in zip(steps, seen, strict=True) for a, b in zip(r, t, strict=True))
    print("largest difference of a rate", worst)


def test_the_heads_have_the_same_shapes(both):
    theirs, _, _, ours, _ = both
    their_shapes = [tuple(p.shape) for p in theirs.model[1].parameters()]
    our_shapes = [tuple(p.shape) for p in ours.model.head.parameters()]
    assert their_shapes == our_shapes
    their_drops = [m.p for m in theirs.model[1].modules() if isinstance(m, torch.nn.Dropout)]
    assert their_drops == [m.p for m in ours.model.head.modules() if isinstance(m, torch.nn.Dropout)]
    assert float(theirs.model[1][2].bias.detach().mean()) == pytest.approx(float(ours.model.head.norm0.bias.detach().mean()), abs=1e-2)
    print("head", our_shapes, their_drops)


@pytest.mark.parametrize("size", [(60, 30), (31, 64), (50, 50)])
@pytest.mark.parametrize("padding", ["reflection", "zeros"])
def test_padding_gives_their_picture_but_for_the_seam(size, padding):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from fastai.vision.augment import Resize
        from fastai.vision.core import PILImage

        across, down = np.meshgrid(np.arange(size[0]), np.arange(size[1]))
        pixels = np.stack([across * 3, down * 3, (across + down) * 2], 2).astype(np.uint8)
        theirs = np.asarray(Resize(32, method="pad", pad_mode=padding)(PILImage.create(pixels), split_idx=1)).astype(int)
    rule = Pad(padding=padding, interpolation="bilinear")
    ours = rule.cut(rule.presize(Image.fromarray(pixels), 32), 32, (0.5, 0.5)).astype(int)
    difference = np.abs(ours - theirs).max((0, 2) if size[0] < size[1] else (1, 2))
    # they mirror, then resize; we resize, then mirror: rows may move by half a pixel of ours, and the seam is theirs mixed
    assert np.sort(difference)[-5] <= 8


def test_label_smoothing_is_fastais():
    from fastai.losses import LabelSmoothingCrossEntropy

    generator = torch.Generator().manual_seed(0)
    scores, target = torch.randn(16, 5, generator=generator), torch.randint(0, 5, (16,), generator=generator)
    ours = CrossEntropy(label_smoothing=0.1)(scores, target)
    assert torch.allclose(ours, LabelSmoothingCrossEntropy(eps=0.1, reduction="none")(scores, target), atol=1e-6)
