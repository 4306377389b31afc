"""Handwritten digits and what is needed to train on them, as fixtures."""

import numpy as np
import pytest
import torch

from distilset.augment import AugmentConfig
from distilset.data.normalise import Transform
from distilset.models import NetworkConfig
from distilset.training import Protocol
from distilset.types import DatasetInfo, ImageSet


@pytest.fixture(scope="session")
def digits() -> dict[str, ImageSet]:
    from sklearn.datasets import load_digits

    pixels, target = map(np.asarray, load_digits(return_X_y=True))
    images = torch.from_numpy(pixels.reshape(-1, 8, 8) * 15.9375).to(torch.uint8)[:, None]
    info = DatasetInfo("digits", "sklearn", (0.305,), (0.376,), mirror=False)
    names = [str(c) for c in range(10)]
    even = torch.arange(len(images)) % 2 == 0
    return {
        "train": ImageSet.from_labels(images[even], target[even], names, "train", info),
        "test": ImageSet.from_labels(images[~even], target[~even], names, "test", info),
    }


@pytest.fixture
def transform(digits) -> Transform:
    return Transform(digits["train"].info.mean, digits["train"].info.std)


@pytest.fixture
def network() -> NetworkConfig:
    return NetworkConfig(width=16, depth=2)


@pytest.fixture
def protocol() -> Protocol:
    return Protocol("short", epochs=20, batch=32, lr=0.02, schedule="cosine")


@pytest.fixture
def augmentation() -> AugmentConfig:
    return AugmentConfig()
