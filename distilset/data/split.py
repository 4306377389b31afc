"""Carving a stratified part out of a set, by the split seed alone."""

import math

import numpy as np
from jaxtyping import Bool

from distilset.data.parts import Part
from distilset.errors import ConfigError
from distilset.rng import Rng
from distilset.types import DatasetInfo

TEST_FRACTION = 0.2


def check_fraction(val: float) -> None:
    """Refuse a validation fraction outside [0, 1).

    Raises:
        ConfigError: naming what was got.
    """
    if not 0 <= val < 1:
        raise ConfigError(f"val must be a fraction of train, from 0 to below 1; got {val}")


def carve(
    labels: np.ndarray, classes: int, fraction: float, purpose: str, split_seed: int
) -> Bool[np.ndarray, " n"]:
    """Mark the images that are carved out, class by class.

    Of ``m`` images of a class, ``fraction * m`` (rounded half up) are drawn: at least one, and at
    most ``m - 1``, so that a class with one image gives none. The draw depends on ``split_seed``,
    ``purpose``, the class index and the order of the images, and on nothing else.
    """
    marked = np.zeros(len(labels), dtype=bool)
    for c in range(classes):
        rows = np.flatnonzero(labels == c)
        count = min(max(1, math.floor(fraction * len(rows) + 0.5)), len(rows) - 1)
        if count > 0:
            order = Rng(split_seed).numpy(purpose, c).permutation(len(rows))
            marked[rows[order[:count]]] = True
    return marked


def mark_test(labels: np.ndarray, classes: int, split_seed: int) -> Bool[np.ndarray, " n"]:
    """Mark the images of the test part of a source that has none."""
    return carve(labels, classes, TEST_FRACTION, "split", split_seed)


def mark_val(labels: np.ndarray, classes: int, info: DatasetInfo) -> Bool[np.ndarray, " n"]:
    """Mark the validation part of a training part, if one is asked for.

    Raises:
        ConfigError: nothing to carve it from.
    """
    if not info.val_fraction:
        return np.zeros(len(labels), dtype=bool)
    marked = carve(labels, classes, info.val_fraction, "val", info.split_seed)
    if not marked.any():
        raise ConfigError(
            f"val={info.val_fraction:g} leaves no validation part: every class has one training "
            "image, which stays in train; leave val out"
        )
    return marked


def divide(part: Part, marked: Bool[np.ndarray, " n"]) -> tuple[Part, Part]:
    """Return the unmarked and the marked images as two parts."""
    rest = Part(part.images[~marked], part.labels[~marked])
    return rest, Part(part.images[marked], part.labels[marked])
