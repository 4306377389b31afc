"""Random selection: uniform without replacement inside each class."""

import torch
from jaxtyping import Int64
from torch import Tensor

from distilset.rng import Rng
from distilset.selectors.base import check_request
from distilset.selectors.features import Features
from distilset.types import ImageSet


def select(
    train: ImageSet, ipc: int, rng: Rng, features: Features | None = None
) -> Int64[Tensor, " rows"]:
    """Select ``ipc`` images of every class at random; see `Selector`. ``features`` is not used."""
    check_request(train, ipc)
    rows = [
        torch.from_numpy(rng.sample("select", 0, c, count, ipc)).to(torch.int64) + train.offsets[c]
        for c, count in enumerate(train.counts)
    ]
    return torch.cat(rows)
