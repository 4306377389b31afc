"""VGG for small images (Simonyan and Zisserman, ICLR 2015), with norms, one linear layer."""

from typing import ClassVar

from torch import nn

from distilset.models.layers import SMALLEST_MAP, Head, Norm, make_norm, make_pool
from distilset.models.staged import Staged
from distilset.types import ImageSpec

LAYERS = {11: (1, 1, 2, 2, 2), 13: (2,) * 5, 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
"""Convolutions of each of the five stages."""


class VGG(Staged):
    """Five stages of convolutions 3x3 with norm and ReLU, max pooling after each.

    ``width`` is the channels of the first stage, doubled up to eight times that; published with
    64. No norm follows the last pooling, so that one may go down to 1x1, as it does at 32x32.
    """

    norms: ClassVar[tuple[Norm, ...]] = ("batch", "instance", "group")
    layers: ClassVar[int] = 11

    def __init__(
        self, spec: ImageSpec, classes: int, *, width: int = 64, norm: Norm = "instance"
    ) -> None:
        size, channels, stages = (spec.height, spec.width), spec.channels, []
        for stage, number in enumerate(LAYERS[self.layers]):
            out = width * 2 ** min(stage, 3)
            modules: list[nn.Module] = []
            for _ in range(number):
                modules.append(nn.Conv2d(channels, out, kernel_size=3, padding=1))
                modules += [make_norm(norm, out, size), nn.ReLU()]
                channels = out
            pool, size = make_pool("max", size, 1 if stage == 4 else SMALLEST_MAP)
            stages.append((nn.Sequential(*modules), pool))
        head = Head(channels, size, (1, 1))
        super().__init__(stages, head, head.out_features, classes)


class VGG13(VGG):
    """VGG with 13 weighted layers."""

    layers = 13


class VGG16(VGG):
    """VGG with 16 weighted layers."""

    layers = 16


class VGG19(VGG):
    """VGG with 19 weighted layers."""

    layers = 19
