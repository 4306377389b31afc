"""Several images in each stored one: the uniform multi-formation of IDC (Kim et al., ICML 2022).

A stored image is cut into ``factor`` x ``factor`` pieces, and networks see each piece enlarged to
the full size. That happens in the space that networks see: whitening (ZCA) and enlarging do not
commute. A factor of 1 changes nothing, not even the tensor.
"""

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from distilset.errors import ConfigError
from distilset.types import ImageSpec

LEAST_SIDE = 4
"""Pixels on the shorter side of a piece, at least."""


def check_factor(factor: int, spec: ImageSpec) -> None:
    """Refuse a factor by which images of this size cannot be cut.

    Raises:
        ConfigError: a factor below 1, one that does not divide both sides, pieces below 4 pixels.
    """
    if factor < 1:
        raise ConfigError(f"factor must be 1 or more; got {factor}")
    if spec.height % factor or spec.width % factor:
        raise ConfigError(f"factor {factor} does not divide the sides of images of {spec}")
    if factor > 1 and min(spec.height, spec.width) // factor < LEAST_SIDE:
        raise ConfigError(
            f"factor {factor} cuts images of {spec} into pieces of less than {LEAST_SIDE} pixels "
            "a side; take a smaller factor"
        )


def cut_into(factor: int) -> str:
    """Say, after a number of stored images, what becomes of them; nothing without a factor."""
    return "" if factor == 1 else f", each cut into {factor**2} to train on (factor {factor})"


def decode(images: Float[Tensor, "n c h w"], factor: int) -> Float[Tensor, "m c h w"]:
    """Cut every image into ``factor`` x ``factor`` pieces and enlarge each to the full size.

    Bilinearly. The pieces of an image follow each other, row by row: m is n times ``factor ** 2``.
    """
    if factor == 1:
        return images
    n, channels, height, width = images.shape
    h, w = height // factor, width // factor
    pieces = images.reshape(n, channels, factor, h, factor, w).permute(0, 2, 4, 1, 3, 5)
    pieces = pieces.reshape(n * factor**2, channels, h, w)
    return interpolate(pieces, size=(height, width), mode="bilinear")


def decode_labels(labels: Tensor, factor: int) -> Tensor:
    """Repeat the label of every stored image for the images decoded from it."""
    return labels if factor == 1 else labels.repeat_interleave(factor**2, 0)


def encode(images: Float[Tensor, "m c h w"], factor: int) -> Float[Tensor, "n c h w"]:
    """Shrink images to pieces, each pixel the mean of those it covers, and put them into grids.

    `decode` gives smooth versions of the images back, in the same order.
    """
    if factor == 1:
        return images
    channels, height, width = images.shape[1:]
    pieces = avg_pool2d(images, factor).unflatten(0, (-1, factor, factor))
    return pieces.permute(0, 3, 1, 4, 2, 5).reshape(-1, channels, height, width)
