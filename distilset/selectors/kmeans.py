"""k-means medoids, class by class: the images nearest to the centres of as many clusters.

What DC-BENCH (Cui et al., NeurIPS 2022) runs under the name of k-center.
"""

import warnings

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from distilset.rng import Rng
from distilset.selectors.base import select_by
from distilset.selectors.features import Features
from distilset.types import ImageSet


def select(
    train: ImageSet, ipc: int, rng: Rng, features: Features | None = None
) -> Int64[Tensor, " rows"]:
    """Select the images nearest to k-means centres of each class; see `Selector`.

    The order is that of the clusters' sizes, the largest first.
    """
    seed = int(rng.numpy("kmeans").integers(2**31))
    return select_by(lambda vectors, number: pick(vectors, number, seed), train, ipc, features)


def pick(vectors: Float[Tensor, "m d"], ipc: int, seed: int = 0) -> Int64[Tensor, " ipc"]:
    """Pick the medoid of each of ``ipc`` clusters (k-means++, Lloyd, one start).

    A vector is picked once only: where clusters share their nearest vector, or fewer distinct
    vectors than clusters exist, the next nearest takes its place.
    """
    from sklearn.cluster import KMeans  # a second to import

    points = vectors.cpu().double().numpy()
    with warnings.catch_warnings():  # fewer distinct vectors than clusters: dealt with below
        warnings.simplefilter("ignore")
        found = KMeans(ipc, random_state=seed).fit(points)
    sizes = torch.bincount(torch.from_numpy(found.labels_).long(), minlength=ipc)
    gaps = torch.cdist(torch.from_numpy(found.cluster_centers_), torch.from_numpy(points))
    picked: list[int] = []
    for cluster in sizes.argsort(descending=True, stable=True).tolist():
        nearest = gaps[cluster].clone()
        nearest[picked] = torch.inf
        picked.append(int(nearest.argmin()))
    return torch.tensor(picked)
