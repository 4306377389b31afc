"""AlexNet for small images, as the dataset-condensation line of work has it."""

from typing import ClassVar

from torch import nn

from distilset.models.layers import Head, Norm, make_norm, make_pool
from distilset.models.staged import Staged
from distilset.types import ImageSpec


class AlexNet(Staged):
    """Five convolutions in three stages, max pooling, one linear classifier.

    Published without norm and with batch norm at width 128, the channels of the first layer. The
    published code pads 28x28 images to 32 in the first layer; this one does not.
    """

    norms: ClassVar[tuple[Norm, ...]] = ("none", "batch", "instance", "group")

    def __init__(
        self, spec: ImageSpec, classes: int, *, width: int = 128, norm: Norm = "instance"
    ) -> None:
        middle, deep = 3 * width // 2, 2 * width
        size, channels, stages = (spec.height, spec.width), spec.channels, []
        for layers in (((width, 5),), ((middle, 5),), ((deep, 3), (middle, 3), (middle, 3))):
            modules: list[nn.Module] = []
            for out, kernel in layers:
                modules.append(nn.Conv2d(channels, out, kernel, padding=kernel // 2))
                modules += [make_norm(norm, out, size), nn.ReLU()]
                channels = out
            pool, size = make_pool("max", size)
            stages.append((nn.Sequential(*modules), pool))
        head = Head(channels, size, (4, 4))
        super().__init__(stages, head, head.out_features, classes)
