"""The loop of an article on seven tricks of transfer learning: its fourth row, which was its best, and its fifth (docs/seven_tricks.md).

ImageFolder, batches of 64, random resized crops and mirrored pictures, Adam without decay. First the head trains at 1e-3, in the fourth
row with the body's norm layers; then the whole network, the body at 5e-6 and the head at 5e-4. In the fifth row norm layers stay as they
are, with running statistics. The article trained one epoch of each and normalised by ImageNet's statistics; here the second part has as
many epochs as the other peers', and the statistics are those of the weights.
"""

from __future__ import annotations

import torch
from benchmarks.peers.plain import Work, result_of
from benchmarks.peers.task import Curve, Result, Task


def row_4(task: Task, curve: Curve, *, norms_train: bool = True) -> Result:
    work = Work(task, batch=64, scale=(0.08, 1.0), layout=torch.contiguous_format, drop_last=False)
    norms = {id(parameter) for parameter in work.norm_parameters()}
    for parameter in work.body:
        parameter.requires_grad_(norms_train and id(parameter) in norms)
    optimizer = torch.optim.Adam([{"params": work.body}, {"params": work.head}], lr=1e-3)
    hits = torch.zeros(0)
    for epoch in range(1 + task.epochs):
        if epoch == 1:
            for group, rate in zip(optimizer.param_groups, (5e-6, 5e-4), strict=True):
                group["lr"] = rate
            for parameter in work.body:
                parameter.requires_grad_(norms_train or id(parameter) not in norms)
        work.training(norms_train)
        work.epoch(optimizer)
        hits = work.judge()
        curve.point(hits.float().mean().item())
    return result_of(work.train, work.valid, hits)


def row_5(task: Task, curve: Curve) -> Result:
    return row_4(task, curve, norms_train=False)
