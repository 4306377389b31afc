"""The ConvNet of the dataset-condensation line of work (Zhao et al., DC, ICLR 2021)."""

from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from distilset.models.layers import (
    Activation,
    Norm,
    Pooling,
    Size,
    make_activation,
    make_norm,
    make_pool,
)
from distilset.types import Features, ImageSpec


def default_depth(spec: ImageSpec) -> int:
    """Return the published depth for an image size: 3 up to 32 pixels, 4 up to 64, then 5.

    The side that counts is the longer one; the last map is then 4x4 at 32, 64 and 128.
    """
    side = max(spec.height, spec.width)
    return 3 if side <= 32 else 4 if side <= 64 else 5


class Stage(nn.Module):
    """Convolution 3x3, norm and activation; ``pool`` halves the map afterwards (or is identity)."""

    def __init__(
        self,
        channels: tuple[int, int],
        size: Size,
        norm: Norm,
        activation: Activation,
        pooling: Pooling,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(*channels, kernel_size=3, padding=1)
        self.norm = make_norm(norm, channels[1], size)
        self.activation = make_activation(activation)
        self.pool, self.out_size = make_pool(pooling, size)

    def forward(self, x: Tensor) -> Tensor:
        """Return the map before pooling, ``[n, C, H, W]``."""
        return self.activation(self.norm(self.conv(x)))


class ConvNet(nn.Module):
    """Stages of convolution, norm, activation and pooling, then one linear classifier.

    With the defaults at 32x32 and 10 classes it has 320,010 parameters. Weights start from
    PyTorch's default initialisation, as in the published code. ``depth`` None is by resolution.
    """

    norms: ClassVar[tuple[Norm, ...]] = ("none", "batch", "layer", "instance", "group")

    def __init__(
        self,
        spec: ImageSpec,
        classes: int,
        *,
        width: int = 128,
        depth: int | None = None,
        norm: Norm = "instance",
        activation: Activation = "relu",
        pooling: Pooling = "avg",
    ) -> None:
        super().__init__()
        size = (spec.height, spec.width)
        channels = spec.channels
        self.stages = nn.ModuleList()
        for _ in range(default_depth(spec) if depth is None else depth):
            stage = Stage((channels, width), size, norm, activation, pooling)
            self.stages.append(stage)
            channels, size = width, stage.out_size
        self.classifier = nn.Linear(channels * size[0] * size[1], classes)

    def features(self, images: Float[Tensor, "n c h w"]) -> Features:
        """Return the activation maps of all stages and the flattened last features."""
        maps = []
        x = images
        for stage in self.stages:
            activation = stage(x)
            maps.append(activation)
            x = stage.pool(activation)  # type: ignore[operator]
        return Features(tuple(maps), x.flatten(1))

    def forward(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n classes"]:
        """Return class scores."""
        x = images
        for stage in self.stages:
            x = stage.pool(stage(x))  # type: ignore[operator]
        return self.classifier(x.flatten(1))
