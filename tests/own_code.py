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


def small_net():
    layers = [nn.Conv2d(3, 4, 3, stride=2), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Dropout(0.1), nn.Linear(4, 2))


def linear():
    return nn.Linear(3, 2)


MARGIN = 1.0


def hinge(output, target):
    """One loss an item: how far the true score is from being MARGIN above each other one."""
    true = output.gather(1, target[:, None])
    return (MARGIN - true + output).clamp(min=0).sum(1) - MARGIN


class HingeLoss(nn.Module):
    """The same as a module, with a buffer."""

    def __init__(self):
        super().__init__()
        self.register_buffer("margin", torch.tensor(MARGIN))

    def forward(self, output, target):
        return hinge(output, target) * self.margin


class TableNet(nn.Module):
    """A body for the rows of a small table: two numbers in, eight features."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.1))

    def forward(self, rows):
        return self.layers(rows)


def image_net():
    """A body for pictures: a map of five channels."""
    return nn.Sequential(nn.Conv2d(3, 5, 3, stride=4), nn.BatchNorm2d(5), nn.ReLU())


class Rows(nn.Module):
    """Scores of two classes from rows of two numbers."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 2))

    def forward(self, rows):
        return self.layers(rows)


def heavy_share(outputs, targets, weights):
    """A metric of weighted items: the share of the weight that is right."""
    return float((weights * (outputs.argmax(1) == targets)).sum() / weights.sum())
