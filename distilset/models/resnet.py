"""ResNet-18 for small images (He et al., CVPR 2016), and its average-pooling variant."""

from typing import ClassVar, Literal

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import conv2d

from distilset.models.layers import SMALLEST_MAP, Head, Norm, Size, make_norm
from distilset.types import Features, ImageSpec

Shrinking = Literal["none", "avg"]
"""How a stage halves its map: ``none`` by strided convolutions, ``avg`` by average pooling."""


class Pointwise(nn.Conv2d):
    """A convolution of single pixels, which leaves out what its stride passes over first.

    The same sums as `nn.Conv2d`. That one, with a stride, below 8 channels and channels last, makes
    PyTorch 2.13 write behind the gradient of its input on processors without AVX-512.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Return the map, ``[n, out, ceil(H / stride), ceil(W / stride)]``."""
        down, across = self.stride
        return conv2d(input[:, :, ::down, ::across], self.weight, self.bias)


class Block(nn.Module):
    """Two convolutions 3x3 and a shortcut around them; ``shrinks`` halves the map."""

    def __init__(
        self, inner: int, out: int, size: Size, norm: Norm, pooling: Shrinking, *, shrinks: bool
    ) -> None:
        super().__init__()
        stride = 2 if shrinks and pooling == "none" else 1
        pool = [nn.AvgPool2d(2)] if shrinks and pooling == "avg" else []
        self.residual = nn.Sequential(
            nn.Conv2d(inner, out, kernel_size=3, stride=stride, padding=1, bias=False),
            make_norm(norm, out, size),
            nn.ReLU(),
            *pool,
            nn.Conv2d(out, out, kernel_size=3, padding=1, bias=False),
            make_norm(norm, out, size),
        )
        same = inner == out and not shrinks
        self.shortcut = nn.Sequential()
        if not same:
            short = Pointwise(inner, out, kernel_size=1, stride=stride, bias=False)
            self.shortcut = nn.Sequential(short, *pool, make_norm(norm, out, size))
        self.activation = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Return the map, ``[n, out, H, W]``."""
        return self.activation(self.residual(x) + self.shortcut(x))


class ResNet18(nn.Module):
    """A convolution and four stages of two blocks, then one linear classifier.

    ``width`` is the channels of the first stage, doubled in each of the others; published with 64.
    With ``pooling="avg"``, the variant that distils better, average pooling stands in for strides,
    and at 32x32 the last map enters the classifier as it is; else it is pooled globally.
    """

    norms: ClassVar[tuple[Norm, ...]] = ("batch", "instance", "group")
    poolings: ClassVar[tuple[str, ...]] = ("none", "avg")

    def __init__(
        self,
        spec: ImageSpec,
        classes: int,
        *,
        width: int = 64,
        norm: Norm = "instance",
        pooling: Shrinking = "none",
    ) -> None:
        super().__init__()
        size, channels = (spec.height, spec.width), width
        self.stem = nn.Sequential(
            nn.Conv2d(spec.channels, width, kernel_size=3, padding=1, bias=False),
            make_norm(norm, width, size),
            nn.ReLU(),
        )
        self.stages = nn.ModuleList()
        for stage in range(4):
            out = width * 2**stage
            smaller = _halved(size, pooling)
            shrinks = stage > 0 and min(smaller) >= SMALLEST_MAP
            size = smaller if shrinks else size
            first = Block(channels, out, size, norm, pooling, shrinks=shrinks)
            second = Block(out, out, size, norm, pooling, shrinks=False)
            self.stages.append(nn.Sequential(first, second))
            channels = out
        self.head = Head(channels, size, (4, 4) if pooling == "avg" else (1, 1))
        self.classifier = nn.Linear(self.head.out_features, classes)

    def features(self, images: Float[Tensor, "n c h w"]) -> Features:
        """Return the output of every stage and what enters the classifier."""
        maps = []
        x = self.stem(images)
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return Features(tuple(maps), self.head(x))

    def forward(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n classes"]:
        """Return class scores."""
        return self.classifier(self.features(images).last)


def _halved(size: Size, pooling: Shrinking) -> Size:
    """Return the size after halving: a strided convolution rounds up, pooling down."""
    more = 1 if pooling == "none" else 0
    return (size[0] + more) // 2, (size[1] + more) // 2
