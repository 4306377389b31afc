"""What a source hands over: images and labels of its parts, before splits are carved."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64, UInt8

from distilset.errors import ConfigError

Progress = Callable[[int, int], None]
"""Called with the number of images done and their total, from the calling thread."""

Size = tuple[int, int]
"""Height and width in pixels."""


@dataclass(frozen=True)
class Part:
    """The images of one split and their class indices, in the order of the source."""

    images: UInt8[np.ndarray, "n channels height width"]
    labels: Int64[np.ndarray, " n"]


@dataclass(frozen=True)
class Raw:
    """A data set as its source has it; ``test`` is None where a test part is to be carved."""

    train: Part
    test: Part | None
    classes: tuple[str, ...]
    skipped: tuple[str, ...] = ()


def square(resolution: object) -> Size | None:
    """Turn a resolution into a size.

    Raises:
        ConfigError: it is not a whole number from 1 to 4096.
    """
    if resolution is None:
        return None
    if isinstance(resolution, bool) or not isinstance(resolution, int):
        raise ConfigError(f"resolution must be a whole number of pixels; got {resolution!r}")
    if not 1 <= resolution <= 4096:
        raise ConfigError(f"resolution must lie in 1..4096 pixels; got {resolution}")
    return (resolution, resolution)
