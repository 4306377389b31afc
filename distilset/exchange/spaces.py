"""Which space a file's values are in, and from there to pixels."""

from jaxtyping import Float
from torch import Tensor

from distilset.data.normalise import Transform
from distilset.errors import ConfigError, DataError, unknown_name

SPACES = ("auto", "pixels", "normalised", "whitened")

_BELOW, _SLACK = -0.5, 1e-4
"""No image of a data set stays above -0.5 when its mean is taken out; none goes below as pixels."""


def check_space(space: str, *, zca: bool) -> None:
    """Refuse an unknown space, and whitened values without a whitening.

    Raises:
        ConfigError: saying what is allowed.
    """
    if space not in SPACES:
        raise unknown_name("space", space, SPACES)
    if space == "whitened" and not zca:
        raise ConfigError("whitened values need the whitening that made them; give --zca as well")


def find_space(images: Float[Tensor, "n c h w"], *, zca: bool) -> str:
    """Tell the space of values by their range: pixels lie in [0, 1], the others go far below 0.

    Raises:
        DataError: values that could be either.
    """
    low, high = float(images.min()), float(images.max())
    if low >= -_SLACK and high <= 1 + _SLACK:
        return "pixels"
    if low < _BELOW:
        return "whitened" if zca else "normalised"
    raise DataError(
        f"values from {low:.3g} to {high:.3g} could be pixels or normalised ones; say which with "
        "--space pixels (0 is black, 1 is white), --space normalised, or --space whitened"
    )


def to_pixels(
    images: Float[Tensor, "n c h w"], space: str, transform: Transform
) -> Float[Tensor, "n c h w"]:
    """Bring values of a space to pixels; nothing is clamped."""
    if space == "pixels":
        return images
    plain = Transform(transform.mean, transform.std)
    return (transform if space == "whitened" else plain).invert(images)


def sentence(space: str, pixels: Float[Tensor, "n c h w"], data: str) -> str:
    """Say what was assumed, with the range that came of it."""
    meant = {
        "pixels": "pixels, 0 black and 1 white",
        "normalised": f"normalised by the mean and std of {data}",
        "whitened": f"normalised and whitened (ZCA) as fitted on the training part of {data}",
    }[space]
    return (
        f"values were taken as {meant}: pixels from {float(pixels.min()):.2f} to "
        f"{float(pixels.max()):.2f}"
    )
