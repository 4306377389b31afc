"""Greedy k-center (Gonzalez, 1985; Sener and Savarese, ICLR 2018, algorithm 1), class by class."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from distilset.rng import Rng
from distilset.selectors.base import select_by
from distilset.selectors.features import Features, distances
from distilset.types import ImageSet


def select(
    train: ImageSet, ipc: int, rng: Rng, features: Features | None = None
) -> Int64[Tensor, " rows"]:
    """Select images that cover each class; see `Selector`.

    Deterministic: ``rng`` is not used.
    """
    return select_by(pick, train, ipc, features)


def pick(vectors: Float[Tensor, "m d"], ipc: int) -> Int64[Tensor, " ipc"]:
    """Pick the vector nearest the mean, then always the one farthest from its nearest pick.

    Among equals the first. The covering radius is at most twice the smallest possible one.
    """
    picked = [int(distances(vectors, vectors.mean(0)).argmin())]
    nearest = torch.full((len(vectors),), torch.inf, device=vectors.device)
    while len(picked) < ipc:
        nearest = torch.minimum(nearest, distances(vectors, vectors[picked[-1]]))
        nearest[picked] = -1  # never again, even where all others are equal to a pick
        picked.append(int(nearest.argmax()))
    return torch.tensor(picked)
