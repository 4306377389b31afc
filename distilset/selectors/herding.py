"""Herding (Welling, ICML 2009), as iCaRL picks exemplars (Rebuffi et al., CVPR 2017, alg. 4)."""

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
    """Select images whose running mean stays nearest the class mean; see `Selector`.

    Deterministic: ``rng`` is not used.
    """
    return select_by(pick, train, ipc, features)


def pick(vectors: Float[Tensor, "m d"], ipc: int) -> Int64[Tensor, " ipc"]:
    """Pick greedily, without replacement: the k-th pick minimises ``|mean - (sum + x) / k|``.

    That is the vector nearest ``k mean - sum``; among equals the first.
    """
    mean = vectors.mean(0)
    aim = torch.zeros_like(mean)  # k mean - sum
    picked: list[int] = []
    for _ in range(ipc):
        aim = aim + mean
        distance = distances(vectors, aim)
        distance[picked] = torch.inf
        picked.append(int(distance.argmin()))
        aim = aim - vectors[picked[-1]]
    return torch.tensor(picked)
