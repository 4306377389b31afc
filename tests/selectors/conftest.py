from collections.abc import Callable

import pytest
import torch

from distilset.types import DatasetInfo, ImageSet, Role


@pytest.fixture
def make_set() -> Callable[..., ImageSet]:
    """Return a maker of sets of random images, of as many per class as asked for."""

    def make(counts=(9, 6, 7), channels=3, role: Role = "train", seed=0) -> ImageSet:
        shape = (sum(counts), channels, 4, 5)
        generator = torch.Generator().manual_seed(seed)
        images = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
        labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
        mean, std = (0.3, 0.4, 0.5, 0.6)[:channels], (0.2, 0.3, 0.1, 0.2)[:channels]
        names = [f"class{i}" for i in range(len(counts))]
        return ImageSet.from_labels(
            images, labels, names, role, DatasetInfo("drawn", "drawn", mean, std)
        )

    return make
