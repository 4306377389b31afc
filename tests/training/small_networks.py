"""Small networks of several kinds, for three classes of images of 2x8x8."""

import torch

from distilset.models import NetworkConfig, build_network, initialise
from distilset.rng import Rng
from distilset.types import ImageSpec

NETWORKS = [
    {"depth": 2},
    {"depth": 2, "norm": "batch"},
    {"name": "resnet18", "norm": "batch"},
    {"name": "vit", "depth": 1},
]


def made(width=8, **options):
    network = build_network(NetworkConfig(width=width, **options), ImageSpec(2, 8, 8), 3)
    initialise(network, Rng(0), "weights")
    return network.to(memory_format=torch.channels_last).train()
