"""Layers that several networks share: norms, activations, pooling that spares small maps."""

from math import gcd
from typing import Literal

from torch import Tensor, nn

Norm = Literal["none", "batch", "layer", "instance", "group"]
Activation = Literal["sigmoid", "relu", "leakyrelu", "swish"]
Pooling = Literal["none", "max", "avg"]
Size = tuple[int, int]

SMALLEST_MAP = 2
"""A stage that would shrink a map below this many pixels a side keeps its size.

An instance norm makes a map of one pixel 0 for every image, and the network untrainable.
"""


def make_norm(norm: Norm, channels: int, size: Size) -> nn.Module:
    """Build a norm layer, affine in every case; ``instance`` is a GroupNorm of one channel each."""
    match norm:
        case "batch":
            return nn.BatchNorm2d(channels)
        case "layer":
            return nn.LayerNorm([channels, *size])
        case "instance":
            return nn.GroupNorm(channels, channels)
        case "group":
            return nn.GroupNorm(gcd(4, channels), channels)
        case "none":
            return nn.Identity()


def make_activation(activation: Activation) -> nn.Module:
    """Build an activation."""
    made = {"sigmoid": nn.Sigmoid, "relu": nn.ReLU, "leakyrelu": nn.LeakyReLU, "swish": nn.SiLU}
    return made[activation]()


def make_pool(pooling: Pooling, size: Size, smallest: int = SMALLEST_MAP) -> tuple[nn.Module, Size]:
    """Build pooling that halves a map of ``size``, or leaves it where that would be too small.

    Returns the module and the size that comes out.
    """
    if pooling == "none" or min(size) // 2 < smallest:
        return nn.Identity(), size
    return (nn.MaxPool2d(2) if pooling == "max" else nn.AvgPool2d(2)), (size[0] // 2, size[1] // 2)


class Head(nn.Module):
    """Flatten a map, after pooling it globally where its size is not that of 32x32 images."""

    def __init__(self, channels: int, size: Size, published: Size) -> None:
        super().__init__()
        self.pool = nn.Identity() if size == published else nn.AdaptiveAvgPool2d(1)
        self.out_features = channels * (size[0] * size[1] if size == published else 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return vectors ``[n, out_features]``."""
        return self.pool(x).flatten(1)
