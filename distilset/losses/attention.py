"""Attention vectors of feature maps (DataDAM, ICCV 2023; ATOM, CVPR-W 2024).

Powers and sums are taken in float32, whatever the precision of the map.
"""

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize


def _energy(maps: Tensor, power: float) -> Tensor:
    """``|f|^p`` in float32; whole even powers need no absolute value and no ``pow``."""
    maps = maps.float()
    if power == 1:
        return maps.abs()
    if power == 2:
        return maps.square()
    if power == 4:
        return maps.square().square()
    return maps.abs().pow(power)


def spatial_attention(maps: Float[Tensor, "n c h w"], power: float) -> Float[Tensor, "n positions"]:
    """Unit spatial attention of each image: ``z = sum over channels of |f|^p``, then ``z / ||z||``.

    DataDAM, section 3.2. A map that is zero everywhere gives a zero vector.
    """
    return normalize(_energy(maps, power).sum(dim=1).flatten(1), dim=1)


def channel_attention(maps: Float[Tensor, "n c h w"], power: float) -> Float[Tensor, "n c"]:
    """Unit channel attention of each image: ``z = sum over positions of |f|^p``, ``z / ||z||``.

    ATOM, as its text is naturally read; no code of the authors' exists to compare with.
    """
    return normalize(_energy(maps, power).sum(dim=(2, 3)), dim=1)
