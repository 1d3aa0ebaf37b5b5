"""The networks for tables: an MLP over embeddings of categories and normalised numbers; TabM, many MLPs that share their weights."""

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


class PiecewiseLinear(nn.Module):
    """Embeddings of numbers: a line, plus how far the number is through each bin of its column, times weights that start at 0.

    Takes (N, columns), gives (N, columns, width). `edges` has each column's bin edges, rising, at least two; numbers beyond the outer
    ones go on along the line of their bin. Source: Gorishniy et al. 2022 (arXiv 2203.05556), in the form of TabM (arXiv 2410.24210).

    >>> tuple(PiecewiseLinear(edges=((0.0, 1.0), (0.0, 1.0, 3.0)), width=4)(torch.zeros(5, 2)).shape)
    (5, 2, 4)
    """

    slope: torch.Tensor
    start: torch.Tensor
    low: torch.Tensor
    high: torch.Tensor

    def __init__(self, *, edges: tuple[tuple[float, ...], ...], width: int) -> None:
        super().__init__()
        columns, most = len(edges), max(map(len, edges)) - 1
        slope, start = torch.zeros(columns, most), torch.zeros(columns, most)
        low, high = torch.zeros(columns, most), torch.ones(columns, most)
        for column, values in enumerate(edges):  # the last bin has the last place in each column, unused places are 0
            ends = torch.tensor(values)
            place = [*range(len(values) - 2), most - 1]
            slope[column, place], start[column, place] = 1.0 / ends.diff(), -ends[:-1] / ends.diff()
            low[column, place[0]], high[column, -1] = -torch.inf, torch.inf
        for name, buffer in (("slope", slope), ("start", start), ("low", low), ("high", high)):
            self.register_buffer(name, buffer, persistent=False)  # they are in the plan, not learnt
        self.line = nn.Parameter(torch.empty(columns, width).uniform_(-(width**-0.5), width**-0.5))
        self.bias = nn.Parameter(torch.empty(columns, width).uniform_(-(width**-0.5), width**-0.5))
        self.weight = nn.Parameter(torch.zeros(columns, most, width))

    def forward(self, numbers: torch.Tensor) -> torch.Tensor:
        each = numbers[..., None]
        through = torch.addcmul(self.start, self.slope, each).clamp(self.low, self.high)
        bent = (through.transpose(0, 1) @ self.weight).transpose(0, 1)
        return torch.addcmul(self.bias, self.line, each) + bent


class BatchEnsembleLinear(nn.Module):
    """A linear layer for each of several members: one weight for all, and for each a scale of the inputs and of the outputs, and a bias.

    Takes (N, members, inputs), gives (N, members, outputs). Scales of outputs start at 1, those of inputs as `scale_init` says: all
    "ones", or one draw from "normal" or of random "signs" for each member and for each of the `chunks` of inputs (one a column).
    Source: Wen et al. 2020 (arXiv 2002.06715) with the start of TabM (arXiv 2410.24210).

    >>> layer = BatchEnsembleLinear(2, 3, members=4, scale_init="ones", chunks=(2,))
    >>> tuple(layer(torch.zeros(5, 4, 2)).shape)
    (5, 4, 3)
    """

    def __init__(self, inputs: int, outputs: int, *, members: int, scale_init: str, chunks: tuple[int, ...]) -> None:
        super().__init__()
        bound = inputs**-0.5
        self.weight = nn.Parameter(torch.empty(outputs, inputs).uniform_(-bound, bound))
        drawn = torch.ones(members, len(chunks))
        if scale_init != "ones":
            drawn = drawn.normal_() if scale_init == "normal" else drawn.bernoulli_(0.5).mul_(2).sub_(1)
        self.scale_in = nn.Parameter(drawn.repeat_interleave(torch.tensor(chunks), dim=1, output_size=inputs))
        self.scale_out = nn.Parameter(torch.ones(members, outputs))
        self.bias = nn.Parameter(torch.empty(outputs).uniform_(-bound, bound).repeat(members, 1))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return inputs * self.scale_in @ self.weight.T * self.scale_out + self.bias


class TabMBody(nn.Module):
    """`members` MLPs side by side that share their weights, but for scales and biases: BatchEnsemble, ReLU, Dropout a hidden layer.

    Takes float32 (N, columns): one code for each of `codes` (how many there are of a column), then one number for each of `edges`
    (bin edges); gives (N, members, last of `hidden`). A column of at most `one_hot` codes becomes a 0 or 1 for each code but 0 (unknown,
    missing), one of more an embedding; numbers become `embedding` numbers each by `PiecewiseLinear`, or go in as they are where
    that is 0. Source: Gorishniy et al. 2024 (arXiv 2410.24210), and their package `tabm`.

    >>> settings = {"members": 4, "hidden": (8,), "dropout": 0.0, "embedding": 0, "one_hot": 9}
    >>> tuple(TabMBody(codes=(3, 10), edges=((0.0, 1.0),), **settings)(torch.zeros(2, 3)).shape)
    (2, 4, 8)
    """

    column: torch.Tensor
    code: torch.Tensor

    def __init__(
        self,
        *,
        codes: tuple[int, ...],
        edges: tuple[tuple[float, ...], ...],
        members: int,
        hidden: tuple[int, ...],
        dropout: float,
        embedding: int,
        one_hot: int,
    ) -> None:
        super().__init__()
        self.members, self.codes, self.features = members, len(codes), hidden[-1]
        many = [place for place, count in enumerate(codes) if count > one_hot]
        few = [place for place in range(len(codes)) if place not in many]
        self.many = tuple(many)
        self.embeddings = nn.ModuleList(init_embedding(nn.Embedding(codes[place], embedding_width(codes[place]))) for place in many)
        for name, values in (
            ("column", [place for place in few for _ in range(1, codes[place])]),
            ("code", [code for place in few for code in range(1, codes[place])]),
        ):
            self.register_buffer(name, torch.tensor(values, dtype=torch.int64), persistent=False)
        self.numbers = PiecewiseLinear(edges=edges, width=embedding) if edges and embedding else nn.Identity()
        chunks = (*[embedding or 1] * len(edges), *(codes[place] - 1 for place in few), *(embedding_width(codes[place]) for place in many))
        widths = [sum(chunks), *hidden]
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        for index, (width, out) in enumerate(pairwise(widths)):
            scale_init = "ones" if index else "normal" if embedding and edges else "signs"
            layers[f"linear{index}"] = BatchEnsembleLinear(
                width, out, members=members, scale_init=scale_init, chunks=(width,) if index else chunks
            )
            layers[f"act{index}"], layers[f"drop{index}"] = nn.ReLU(), nn.Dropout(dropout)
        self.layers = nn.Sequential(layers)

    def forward(self, table: torch.Tensor) -> torch.Tensor:
        parts = [self.numbers(table[:, self.codes :]).flatten(1), (table[:, self.column] == self.code).to(table.dtype)]
        parts += [embedding(table[:, place].long()) for place, embedding in zip(self.many, self.embeddings, strict=True)]
        features: torch.Tensor = self.layers(torch.cat(parts, dim=1)[:, None].expand(-1, self.members, -1))
        return features
