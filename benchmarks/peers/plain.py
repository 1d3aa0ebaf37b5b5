"""PyTorch without a library of training: what a careful engineer writes for a network from timm."""

from __future__ import annotations

import os
from collections.abc import Callable

import timm
import torch
from benchmarks.peers.task import Curve, Result, Task
from timm.data import resolve_model_data_config
from torch import nn
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def every_file(path: str) -> bool:
    """ImageFolder's own list of endings leaves photographs out that others read; all files here are photographs."""
    return True


class Work:
    """Network, photographs and judging, which both loops share; `crop` is the share of the side that evaluation looks at."""

    def __init__(
        self, task: Task, *, batch: int, scale: tuple[float, float], crop: float, layout: torch.memory_format, drop_last: bool
    ) -> None:
        torch.manual_seed(task.seed)
        folders = [os.path.join(task.folder, part) for part in ("train", "valid")]
        classes = sum(entry.is_dir() for entry in os.scandir(folders[0]))
        self.layout = layout
        overlay = {"file": task.weights}
        model = timm.create_model(task.model, pretrained=True, pretrained_cfg_overlay=overlay, num_classes=classes)
        self.model = model.to(DEVICE, memory_format=layout)
        self.head = list(model.get_classifier().parameters())
        ids = {id(parameter) for parameter in self.head}
        self.body = [parameter for parameter in model.parameters() if id(parameter) not in ids]
        facts = resolve_model_data_config(model)
        how = transforms.InterpolationMode(facts["interpolation"])
        ready = [transforms.ToTensor(), transforms.Normalize(facts["mean"], facts["std"])]
        cut = [transforms.RandomResizedCrop(task.size, scale=scale, interpolation=how), transforms.RandomHorizontalFlip(), *ready]
        seen = [transforms.Resize(round(task.size / crop), how), transforms.CenterCrop(task.size), *ready]
        sets = [
            ImageFolder(folder, transforms.Compose(steps), is_valid_file=every_file)
            for folder, steps in zip(folders, (cut, seen), strict=True)
        ]
        workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        shared = {"batch_size": batch, "num_workers": workers, "persistent_workers": True, "pin_memory": DEVICE.type == "cuda"}
        drop_last = drop_last and len(sets[0]) >= batch
        self.train, self.valid = DataLoader(sets[0], shuffle=True, drop_last=drop_last, **shared), DataLoader(sets[1], **shared)
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

    def result(self, hits: torch.Tensor) -> Result:
        learned, held_out = ([path for path, _ in part.dataset.samples] for part in (self.train, self.valid))
        return Result(learned=learned, hits=dict(zip(held_out, hits.tolist(), strict=True)))


def train(task: Task, curve: Curve) -> Result:
    work = Work(task, batch=32, scale=(0.35, 1.0), crop=0.875, layout=torch.channels_last, drop_last=True)
    norms = {id(parameter) for parameter in work.norm_parameters()}
    body = [parameter for parameter in work.body if id(parameter) not in norms]
    for parameter in work.body:
        parameter.requires_grad_(False)
    hits = torch.zeros(0)
    for groups, rates, epochs in (((work.head,), (2e-3,), 1), ((body, work.head), (1e-4, 1e-3), task.epochs)):
        for parameter in (parameter for group in groups for parameter in group):
            parameter.requires_grad_(True)
        optimizer = torch.optim.AdamW([{"params": group} for group in groups], lr=1e-3, weight_decay=0.01, fused=True)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=list(rates), total_steps=epochs * len(work.train))
        for _ in range(epochs):
            work.training(norms_train=False)
            work.epoch(optimizer, schedule.step)
            hits = work.judge()
            curve.point(hits.float().mean().item())
    return work.result(hits)
