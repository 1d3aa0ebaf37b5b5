"""The network for tables: an embedding for each categorical column, beside the continuous ones, below layers."""

from __future__ import annotations

from collections import OrderedDict
from itertools import pairwise

import torch
from torch import nn


def embedding_width(codes: int) -> int:
    """Numbers that stand for one of `codes` codes: min(600, round(1.6 codes^0.56)) (fastai 2.8, `emb_sz_rule`).

    >>> [embedding_width(codes) for codes in (10, 100, 1000, 10**6)]
    [6, 21, 77, 600]
    """
    return int(min(600, round(1.6 * codes**0.56)))


def init_embedding(embedding: nn.Embedding) -> nn.Embedding:
    """Weights from a normal distribution with deviation 0.01, each draw taken modulo 2 deviations (fastai 2.8, `trunc_normal_`)."""
    with torch.no_grad():
        embedding.weight.normal_().fmod_(2).mul_(0.01)
    return embedding


class TabularBody(nn.Module):
    """Embeddings with dropout, beside batch-normalised continuous columns; then Linear, ReLU, BatchNorm, Dropout a hidden layer.

    Takes float32 (N, columns): one code for each of `codes` (how many there are of a column), then `continuous` numbers; gives
    (N, last of `hidden`). `dropout` is one share, or one a hidden layer. Linear layers before a BatchNorm have no bias.
    Source: fastai 2.8, `TabularModel`.

    >>> tuple(TabularBody(codes=(3, 10), continuous=1, hidden=(8,), dropout=0.0, embedding_dropout=0.0)(torch.zeros(2, 3)).shape)
    (2, 8)
    """

    def __init__(
        self,
        *,
        codes: tuple[int, ...],
        continuous: int,
        hidden: tuple[int, ...],
        dropout: float | tuple[float, ...],
        embedding_dropout: float,
    ) -> None:
        super().__init__()
        self.embeddings = nn.ModuleList(init_embedding(nn.Embedding(count, embedding_width(count))) for count in codes)
        self.embedding_dropout = nn.Dropout(embedding_dropout)
        self.norm = nn.BatchNorm1d(continuous) if continuous else nn.Identity()
        widths = [sum(embedding_width(count) for count in codes) + continuous, *hidden]
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        shares = dropout if isinstance(dropout, tuple) else (dropout,) * len(hidden)
        for index, ((width, out), share) in enumerate(zip(pairwise(widths), shares, strict=True)):
            layers[f"linear{index}"], layers[f"act{index}"] = nn.Linear(width, out, bias=False), nn.ReLU(inplace=True)
            layers[f"norm{index}"], layers[f"drop{index}"] = nn.BatchNorm1d(out), nn.Dropout(share)
        self.layers = nn.Sequential(layers)
        self.features = widths[-1]

    def forward(self, table: torch.Tensor) -> torch.Tensor:
        count = len(self.embeddings)
        codes, parts = table[:, :count].long(), []
        if count:
            looked_up = [embedding(codes[:, place]) for place, embedding in enumerate(self.embeddings)]
            parts.append(self.embedding_dropout(torch.cat(looked_up, dim=1)))
        if table.shape[1] > count:
            parts.append(self.norm(table[:, count:]))
        features: torch.Tensor = self.layers(torch.cat(parts, dim=1))
        return features
