"""Distances between class means."""

from jaxtyping import Float
from torch import Tensor


def squared_distance(
    first: Float[Tensor, "classes d"], second: Float[Tensor, "classes d"]
) -> Float[Tensor, ""]:
    """Return the sum over classes of the squared L2 distance of their means (not an average)."""
    return (first - second).square().sum()
