"""PyTorch without a library of training: what a careful engineer writes for a network from timm."""

from __future__ import annotations

import os
from collections.abc import Callable

import timm
import torch
from benchmarks.peers.task import Curve, Result, Task
from timm.data import resolve_data_config
from torch import nn
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def every_file(path: str) -> bool:
    """ImageFolder's own list of endings leaves photographs out that others read; all files here are photographs."""
    return True


def facts_of(task: Task) -> dict:
    """Mean, std and interpolation that the weights want."""
    return resolve_data_config({}, pretrained_cfg=timm.get_pretrained_cfg(task.model).to_dict())


def loaders(task: Task, cut: list, seen: list, *, batch: int, drop_last: bool) -> list[DataLoader]:
    """Loaders of the photographs to learn from, cut by the steps `cut`, and of those held out, by the steps `seen`; both normalised."""
    facts = facts_of(task)
    ready = [transforms.ToTensor(), transforms.Normalize(facts["mean"], facts["std"])]
    folders = [os.path.join(task.folder, part) for part in ("train", "valid")]
    steps = [transforms.Compose([*some, *ready]) for some in (cut, seen)]
    sets = [ImageFolder(folder, some, is_valid_file=every_file) for folder, some in zip(folders, steps, strict=True)]
    workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    shared = {"batch_size": batch, "num_workers": workers, "persistent_workers": True, "pin_memory": DEVICE.type == "cuda"}
    drop_last = drop_last and len(sets[0]) >= batch
    return [DataLoader(sets[0], shuffle=True, drop_last=drop_last, **shared), DataLoader(sets[1], **shared)]


def result_of(train: DataLoader, valid: DataLoader, hits: torch.Tensor) -> Result:
    """What the loaders' data sets were, with whether each held-out photograph was right, in the data set's order."""
    learned, held_out = ([path for path, _ in part.dataset.samples] for part in (train, valid))
    return Result(learned=learned, hits=dict(zip(held_out, hits.tolist(), strict=True)))


def network(task: Task, classes: int) -> nn.Module:
    """timm's network from the shared weights, with a new last layer, or with none where there are no classes."""
    return timm.create_model(task.model, pretrained=True, pretrained_cfg_overlay={"file": task.weights}, num_classes=classes)


class Work:
    """Network, photographs and judging, which both loops share; `scale` is of the random crops' share of the area."""

    def __init__(self, task: Task, *, batch: int, scale: tuple[float, float], layout: torch.memory_format, drop_last: bool) -> None:
        torch.manual_seed(task.seed)
        how = transforms.InterpolationMode(facts_of(task)["interpolation"])
        cut = [transforms.RandomResizedCrop(task.size, scale=scale, interpolation=how), transforms.RandomHorizontalFlip()]
        seen = [transforms.Resize(round(task.size / 0.875), how), transforms.CenterCrop(task.size)]
        self.train, self.valid = loaders(task, cut, seen, batch=batch, drop_last=drop_last)
        self.layout = layout
        self.model = network(task, len(self.train.dataset.classes)).to(DEVICE, memory_format=layout)
        self.head = list(self.model.get_classifier().parameters())
        ids = {id(parameter) for parameter in self.head}
        self.body = [parameter for parameter in self.model.parameters() if id(parameter) not in ids]
        self.loss = nn.CrossEntropyLoss()

    def norm_parameters(self) -> list[nn.Parameter]:
        return [parameter for module in self.model.modules() if isinstance(module, NORMS) for parameter in module.parameters()]

    def training(self, norms_train: bool) -> None:
        """Training mode; norm layers that do not train use their running statistics."""
        self.model.train()
        for module in self.model.modules():
            if isinstance(module, NORMS):
                module.train(norms_train)

    def epoch(self, optimizer: torch.optim.Optimizer, after_step: Callable[[], object] = lambda: None) -> None:
        for images, target in self.train:
            scores = self.model(images.to(DEVICE, memory_format=self.layout, non_blocking=True))
            loss = self.loss(scores, target.to(DEVICE, non_blocking=True))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            after_step()

    def judge(self) -> torch.Tensor:
        """Which held-out photographs are right, bool (items,), in the data set's order."""
        self.model.eval()
        with torch.inference_mode():
            found = [self.model(images.to(DEVICE, memory_format=self.layout)).argmax(1).cpu() == target for images, target in self.valid]
        return torch.cat(found)


def train(task: Task, curve: Curve) -> Result:
    work = Work(task, batch=32, scale=(0.35, 1.0), layout=torch.channels_last, drop_last=True)
    norms = {id(parameter) for parameter in work.norm_parameters()}
    body = [parameter for parameter in work.body if id(parameter) not in norms]
    for parameter in work.body:
        parameter.requires_grad_(False)
    hits = torch.zeros(0)
    for groups, rates, epochs in (((work.head,), (1e-2,), 1), ((body, work.head), (1e-4, 1e-3), task.epochs)):
        for parameter in (parameter for group in groups for parameter in group):
            parameter.requires_grad_(True)
        optimizer = torch.optim.AdamW([{"params": group} for group in groups], lr=1e-3, weight_decay=0.01, fused=True)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=list(rates), total_steps=epochs * len(work.train))
        for _ in range(epochs):
            work.training(norms_train=False)
            work.epoch(optimizer, schedule.step)
            hits = work.judge()
            curve.point(hits.float().mean().item())
    return result_of(work.train, work.valid, hits)
