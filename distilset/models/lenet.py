"""LeNet as the dataset-condensation line of work has it (Zhao et al., ICLR 2021)."""

from typing import ClassVar

from torch import nn

from distilset.models.layers import SMALLEST_MAP, Head, Norm, Size, make_pool
from distilset.models.staged import Staged
from distilset.types import ImageSpec


class LeNet(Staged):
    """Two convolutions 5x5 with ReLU and max pooling, then 120 and 84 units and the classifier.

    The first convolution pads images below 32 pixels, as the published one does at 28; a
    convolution that would shrink a map below 2x2 after pooling pads too.
    """

    norms: ClassVar[tuple[Norm, ...]] = ("none",)

    def __init__(self, spec: ImageSpec, classes: int) -> None:
        size, channels, stages = (spec.height, spec.width), spec.channels, []
        for out, pads in ((6, min(size) < 32), (16, False)):
            conv, size = _convolution(channels, out, size, pads=pads)
            pool, pooled = make_pool("max", size)
            stages.append((nn.Sequential(conv, nn.ReLU()), pool))
            channels, size = out, pooled
        flat = Head(channels, size, (5, 5))
        first, second = nn.Linear(flat.out_features, 120), nn.Linear(120, 84)
        head = nn.Sequential(flat, first, nn.ReLU(), second, nn.ReLU())
        super().__init__(stages, head, 84, classes)


def _convolution(inner: int, out: int, size: Size, *, pads: bool) -> tuple[nn.Module, Size]:
    """Build a convolution 5x5, padded if wanted or needed, and the size that comes out."""
    if pads or min(size) - 4 < 2 * SMALLEST_MAP:
        return nn.Conv2d(inner, out, kernel_size=5, padding=2), size
    return nn.Conv2d(inner, out, kernel_size=5), (size[0] - 4, size[1] - 4)
