"""The ConvNet of the dataset-condensation line of work (Zhao et al., DC, ICLR 2021)."""

from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn

from distilset.types import Features, ImageSpec

Norm = Literal["none", "batch", "layer", "instance", "group"]
Activation = Literal["sigmoid", "relu", "leakyrelu"]
Pooling = Literal["none", "max", "avg"]

SMALLEST_MAP = 2
"""A stage that would shrink a map below this many pixels a side keeps its size."""


def default_depth(spec: ImageSpec) -> int:
    """Return the published depth for an image size: 3 up to 32 pixels, 4 up to 64, then 5.

    The side that counts is the longer one; the last map is then 4x4 at 32, 64 and 128.
    """
    side = max(spec.height, spec.width)
    return 3 if side <= 32 else 4 if side <= 64 else 5


def make_norm(norm: Norm, channels: int, height: int, width: int) -> nn.Module:
    """Build a norm layer, affine in every case; ``instance`` is a GroupNorm of one channel each."""
    match norm:
        case "batch":
            return nn.BatchNorm2d(channels)
        case "layer":
            return nn.LayerNorm([channels, height, width])
        case "instance":
            return nn.GroupNorm(channels, channels)
        case "group":
            return nn.GroupNorm(4, channels)
        case "none":
            return nn.Identity()


def _activation(activation: Activation) -> nn.Module:
    return {"sigmoid": nn.Sigmoid, "relu": nn.ReLU, "leakyrelu": nn.LeakyReLU}[activation]()


class Stage(nn.Module):
    """Convolution 3x3, norm and activation; ``pool`` halves the map afterwards (or is identity)."""

    def __init__(
        self,
        channels: tuple[int, int],
        size: tuple[int, int],
        norm: Norm,
        activation: Activation,
        pooling: Pooling,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(*channels, kernel_size=3, padding=1)
        self.norm = make_norm(norm, channels[1], *size)
        self.activation = _activation(activation)
        shrinks = pooling != "none" and min(size) // 2 >= SMALLEST_MAP
        pool = nn.MaxPool2d(2) if pooling == "max" else nn.AvgPool2d(2)
        self.pool = pool if shrinks else nn.Identity()
        self.out_size = (size[0] // 2, size[1] // 2) if shrinks else size

    def forward(self, x: Tensor) -> Tensor:
        """Return the map before pooling, ``[n, C, H, W]``."""
        return self.activation(self.norm(self.conv(x)))


class ConvNet(nn.Module):
    """Stages of convolution, norm, activation and pooling, then one linear classifier.

    With the defaults at 32x32 and 10 classes it has 320,010 parameters. Weights start from
    PyTorch's default initialisation, as in the published code.
    """

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
