"""Somebody else's networks."""

import torch
from torch import nn

from distilset.types import Features


class Plain(nn.Module):
    """No features of its own; an activation without a module between two with one."""

    def __init__(self, spec, classes, width=8):
        super().__init__()
        self.layer1 = nn.Sequential(nn.Conv2d(spec.channels, width, 3, padding=1), nn.ReLU())
        self.layer2 = nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.ReLU())
        self.head = nn.Linear(width, classes)

    def forward(self, images):
        return self.head(self.layer2(self.layer1(images)).mean(dim=(2, 3)))


class WithFeatures(Plain):
    def features(self, images):
        first = self.layer1(images)
        second = self.layer2(first)
        return Features((first, second), second.mean(dim=(2, 3)))


class WithDropout(Plain):
    def __init__(self, spec, classes, p=0.5):
        super().__init__(spec, classes)
        self.drop = nn.Dropout(p)


class WithLooseParameter(Plain):
    def __init__(self, spec, classes):
        super().__init__(spec, classes)
        self.gain = nn.Parameter(torch.ones(1))


class WithAttention(Plain):
    def __init__(self, spec, classes):
        super().__init__(spec, classes, 8)
        self.mix = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, images):
        tokens = self.layer1(images).flatten(2).transpose(1, 2)
        return self.head(self.mix(tokens, tokens, tokens, need_weights=False)[0].mean(dim=1))


class Scaled(Plain):
    """Its scale is in no module's text."""

    def __init__(self, spec, classes, scale=1):
        super().__init__(spec, classes)
        self.scale = scale

    def forward(self, images):
        return super().forward(self.scale * images)


class Normed(Plain):
    """Draws its parts' weights itself."""

    def reset_parameters(self):
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.5)


class Convolutional(nn.Module):
    """No linear layer."""

    def __init__(self, spec, classes):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(spec.channels, 8, 3, padding=1), nn.ReLU())
        self.scores = nn.Conv2d(8, classes, 1)

    def forward(self, images):
        return self.scores(self.body(images).mean(dim=(2, 3), keepdim=True)).flatten(1)


def wrong_scores(spec, classes):
    return Plain(spec, classes + 1)


def not_a_module(spec, classes):
    return 3
