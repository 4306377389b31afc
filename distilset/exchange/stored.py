"""A set as somebody stored it: checked for shape, not yet brought to pixels."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from distilset.errors import DataError

MOST_SIDE = 4096
_SUM_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Stored:
    """Images ``[n, C, H, W]`` and labels as they are in the file.

    ``pixels`` says that the layout itself promises pixels in [0, 1]. ``names`` are the class names
    in the file, if it has any.
    """

    images: Tensor
    labels: Tensor
    layout: str
    names: tuple[str, ...] | None = None
    pixels: bool = False
    notes: tuple[str, ...] = ()


def check_images(images: Tensor) -> Tensor:
    """Return images as finite float32 ``[n, C, H, W]``; bytes become pixels in [0, 1].

    Raises:
        DataError: another shape or type, no images, or values that are not finite.
    """
    shape = tuple(images.shape)
    if len(shape) != 4 or not shape[0] or not 1 <= shape[1] <= 4:
        raise DataError(f"images must be [n, 1 to 4 channels, height, width]; got {shape}")
    if not 1 <= min(shape[2:]) <= max(shape[2:]) <= MOST_SIDE:
        raise DataError(f"images must have 1 to {MOST_SIDE} pixels a side; got {shape}")
    if images.dtype == torch.uint8:
        return images.float() / 255
    if not images.is_floating_point():
        raise DataError(f"images must be floats or bytes; got {images.dtype}")
    images = images.float().contiguous()
    if not images.isfinite().all():
        raise DataError("images must be finite numbers; the file has infinite ones or NaN")
    return images


def check_labels(labels: Tensor, count: int, classes: int, *, softmax: bool = False) -> Tensor:
    """Return class indices, int64 ``[n]``, or probabilities, float32 ``[n, classes]``.

    ``softmax`` turns scores into probabilities.

    Raises:
        DataError: labels that do not fit the images or the classes, or are neither of the two.
    """
    shape = tuple(labels.shape)
    if len(shape) == 2 and shape[1] == 1 and classes > 1:
        labels, shape = labels[:, 0], shape[:1]
    if not shape or shape[0] != count or len(shape) > 2:
        raise DataError(f"{count} images need as many labels; got shape {shape}")
    if len(shape) == 2:
        return _soft(labels.float(), classes, softmax)
    if softmax:
        raise DataError(f"softmax is for scores [n, {classes}]; the labels are indices {shape}")
    whole = labels.long()
    if labels.is_floating_point() and not torch.equal(whole.to(labels.dtype), labels):
        raise DataError("labels [n] must be whole numbers; the file has fractions")
    if not 0 <= int(whole.min()) <= int(whole.max()) < classes:
        raise DataError(
            f"labels must lie in 0..{classes - 1} for the {classes} classes of the data; "
            f"got {int(whole.min())}..{int(whole.max())}"
        )
    return whole


def _soft(labels: Tensor, classes: int, softmax: bool) -> Tensor:
    if labels.shape[1] != classes:
        raise DataError(
            f"soft labels need one value for each of the {classes} classes of the data; "
            f"got {labels.shape[1]}"
        )
    if not labels.isfinite().all():
        raise DataError("labels must be finite numbers; the file has infinite ones or NaN")
    if softmax:
        return labels.softmax(1)
    sums = labels.sum(1)
    if float(labels.min()) < 0 or float((sums - 1).abs().max()) > _SUM_TOLERANCE:
        raise DataError(
            "soft labels must be probabilities, from 0 and of sum 1; got values in "
            f"{float(labels.min()):.3g}..{float(labels.max()):.3g} with sums in "
            f"{float(sums.min()):.3g}..{float(sums.max()):.3g} (--softmax if they are scores)"
        )
    return labels


def sort_by_class(
    images: Tensor, labels: Tensor, classes: tuple[str, ...]
) -> tuple[Tensor, Tensor, int]:
    """Sort by class, keeping the order inside one; return images, labels and images per class.

    Raises:
        DataError: classes of different numbers of images, which a set here does not have.
    """
    soft = labels.is_floating_point()
    hard = labels.argmax(1) if soft else labels
    count = len(classes)
    counts = np.bincount(hard.numpy(), minlength=count)
    if soft and len(labels) % count:
        raise DataError(f"{len(labels)} images cannot be shared evenly among {count} classes")
    if not soft and counts.min() != counts.max():
        few, many = classes[counts.argmin()], classes[counts.argmax()]
        raise DataError(
            f"classes must have equally many images; got {counts.min()} of {few!r} and "
            f"{counts.max()} of {many!r}"
        )
    order = torch.argsort(hard, stable=True)
    return images[order], labels[order], len(labels) // count
