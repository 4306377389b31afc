"""What may be scored on, and whether a set to train on fits it."""

import torch
from torch import Tensor

from distilset.errors import ConfigError, DataError
from distilset.types import ImageSet


def check_scored(test: ImageSet) -> None:
    """Raise a ConfigError unless a set may be scored on."""
    if test.role not in ("test", "val"):
        raise ConfigError(f"networks are scored on a test or val part; got a {test.role} part")
    if not len(test):
        raise DataError(f"the {test.role} part of {test.info.name} has no images to score on")


def check_images(images: Tensor, labels: Tensor, test: ImageSet) -> None:
    """Raise a DataError unless images and labels fit the part that is scored."""
    classes = len(test.classes)
    if images.ndim != 4 or tuple(images.shape[1:]) != test.spec.shape:
        raise DataError(
            f"images of shape {tuple(images.shape)} do not fit test images of {test.spec}"
        )
    if len(labels) != len(images) or not len(images):
        raise DataError(f"{len(images)} images need as many labels, at least 1; got {len(labels)}")
    if labels.is_floating_point():
        if labels.shape[1:] != (classes,):
            raise DataError(
                f"soft labels need shape [{len(images)}, {classes}]; got {tuple(labels.shape)}"
            )
    elif labels.ndim != 1 or not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        raise DataError(
            f"labels must be class indices in 0..{classes - 1}, shape [n]; got "
            f"{tuple(labels.shape)} from {int(labels.min())} to {int(labels.max())}"
        )


def label_kind(labels: Tensor) -> str:
    """Return ``soft`` for probabilities and ``hard`` for class indices."""
    return "soft" if torch.is_floating_point(labels) else "hard"
