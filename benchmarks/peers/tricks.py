"""The loop of an article on seven tricks of transfer learning: its fourth row, which was its best (docs/seven_tricks.md).

ImageFolder, batches of 64, random resized crops and mirrored pictures, Adam without decay. First the head and the body's norm layers
train at 1e-3; then the whole network, the body at 5e-6 and the head at 5e-4. The article trained one epoch of each and normalised by
ImageNet's statistics; here the second part has as many epochs as the other peers', and the statistics are those of the weights.
"""

from __future__ import annotations

import torch
from benchmarks.peers.plain import Work
from benchmarks.peers.task import Curve, Result, Task


def train(task: Task, curve: Curve) -> Result:
    work = Work(task, batch=64, scale=(0.08, 1.0), crop=0.875, layout=torch.contiguous_format, drop_last=False)
    norms = {id(parameter) for parameter in work.norm_parameters()}
    for parameter in work.body:
        parameter.requires_grad_(id(parameter) in norms)
    optimizer = torch.optim.Adam([{"params": work.body}, {"params": work.head}], lr=1e-3)
    hits = torch.zeros(0)
    for epoch in range(1 + task.epochs):
        if epoch == 1:
            for group, rate in zip(optimizer.param_groups, (5e-6, 5e-4), strict=True):
                group["lr"] = rate
            for parameter in work.body:
                parameter.requires_grad_(True)
        work.model.train()
        work.epoch(optimizer)
        hits = work.judge()
        curve.point(hits.float().mean().item())
    return work.result(hits)
