"""Code of a user's, in every shape that an ejected script has to copy or to refuse."""

import torch
from torch import nn

SEED = 5
WIDTH, DEPTH = 4, 2


class Documented(nn.Sequential):
    "A class with nothing but its docstring."


def make_documented():
    '''Ends in a quote: "scores"'''
    return Documented(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))


def make_raw():
    r"""Not an escape: \u03b."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))


class Scaled(nn.Module):
    def __init__(self):
        super().__init__()
        self.out = nn.Linear(3, 2)

    def forward(self, images):
        return self.out(images.mean((2, 3))) * torch.tensor(float(SEED))


class Wide(nn.Module):
    def __init__(self):
        super().__init__()
        self.out = nn.Linear(3, 2 + WIDTH - DEPTH - 2)

    def forward(self, images):
        return self.out(images.mean((2, 3)))
