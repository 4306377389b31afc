"""Distances between class means."""

from jaxtyping import Float
from torch import Tensor


def squared_distances(
    first: Float[Tensor, "classes d"], second: Float[Tensor, "classes d"]
) -> Float[Tensor, " classes"]:
    """Return the squared L2 distance of the means of each class (to be summed, not averaged)."""
    return (first - second).square().sum(1)
