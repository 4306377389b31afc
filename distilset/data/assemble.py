"""From a source's parts to ``Splits``: padding, carving, statistics, fingerprint."""

from collections.abc import Callable
from dataclasses import replace
from hashlib import blake2b

import numpy as np
import torch
from jaxtyping import UInt8

from distilset.data.known import KnownDataset
from distilset.data.labels import check_names
from distilset.data.normalise import channel_statistics
from distilset.data.parts import Part, Raw
from distilset.data.split import divide, mark_test, mark_val
from distilset.errors import ConfigError, DataError
from distilset.types import DatasetInfo, ImageSet, Role, Splits

ROLES: tuple[Role, ...] = ("train", "val", "test")
"""The parts of a data set, in the order of its fingerprint and of a memory map."""

Statistics = tuple[tuple[float, ...], tuple[float, ...]]


def assemble(raw: Raw, info: DatasetInfo, like: KnownDataset | None) -> Splits:
    """Make the splits of a source's data; ``info`` has all that was known before reading.

    A 28x28 image is padded with zeros to 32x32. A missing test part is carved, then a validation
    part of ``info.val_fraction``. Mean and std are those of ``like``, else measured on train.

    Raises:
        DataError: a class without training images, parts of different shapes.
        ConfigError: nothing to carve a validation part from; ``like`` of other channels.
    """
    classes = raw.classes
    check_names(classes)
    train, test = _pad(raw.train), None if raw.test is None else _pad(raw.test)
    check_classes(train.labels, classes)
    _check_shapes(train, test)
    part: str = "official"
    if test is None:
        marked = mark_test(train.labels, len(classes), info.split_seed)
        part = "carved" if marked.any() else "none"
        train, test = divide(train, marked) if marked.any() else (train, None)
    train, val = _carve_val(train, len(classes), info)
    mean, std = statistics(like, train.images.shape[1], lambda: channel_statistics(train.images))
    info = replace(
        info,
        mean=mean,
        std=std,
        test_part=part,
        skipped_count=len(raw.skipped),
        skipped=raw.skipped[:10],
    )
    parts: dict[Role, Part | None] = {"train": train, "test": test, "val": val}
    del train, test, val, raw
    return _splits(parts, classes, info)


def _pad(part: Part) -> Part:
    return Part(padded(part.images), part.labels)


def padded(images: UInt8[np.ndarray, "n c h w"]) -> UInt8[np.ndarray, "n c H W"]:
    """Bring 28x28 images to 32x32 with zeros around; leave others as they are."""
    if images.shape[2:] != (28, 28):
        return images
    return np.pad(images, ((0, 0), (0, 0), (2, 2), (2, 2)))


def check_classes(labels: np.ndarray, classes: tuple[str, ...]) -> None:
    """Refuse classes without training images.

    Raises:
        DataError: naming them.
    """
    counts = np.bincount(labels, minlength=len(classes))
    empty = [classes[c] for c in np.flatnonzero(counts == 0)]
    if empty or not len(counts):
        raise DataError(
            f"{len(empty)} of {len(counts)} classes have no readable training images "
            f"({', '.join(empty[:10])}); every class needs one or more"
        )


def _check_shapes(train: Part, test: Part | None) -> None:
    if test is not None and test.images.shape[1:] != train.images.shape[1:]:
        raise DataError(
            f"train and test images differ in shape: {train.images.shape[1:]} and "
            f"{test.images.shape[1:]}; give the side they are all brought to (--resolution N)"
        )


def _carve_val(train: Part, classes: int, info: DatasetInfo) -> tuple[Part, Part | None]:
    marked = mark_val(train.labels, classes, info)
    return divide(train, marked) if marked.any() else (train, None)


def statistics(
    like: KnownDataset | None, channels: int, measured: Callable[[], Statistics]
) -> Statistics:
    """Return the mean and std of a known data set, else those that are measured.

    Raises:
        ConfigError: it has another number of channels.
    """
    if like is None:
        return measured()
    if len(like.mean) != channels:
        raise ConfigError(
            f"{like.name} has statistics of {len(like.mean)} channels and the images have "
            f"{channels}; name a data set of as many channels, or none to measure them"
        )
    return like.mean, like.std


def _splits(parts: dict[Role, Part | None], classes: tuple[str, ...], info: DatasetInfo) -> Splits:
    sets: dict[Role, ImageSet] = {}
    for role in list(parts):
        part = parts.pop(role)
        if part is not None:
            sets[role] = _image_set(part, classes, role, info)
    return splits_of(sets)


def splits_of(sets: dict[Role, ImageSet]) -> Splits:
    """Join the parts of a data set, and write their common fingerprint into each."""
    hasher = blake2b(digest_size=16)
    for role in ROLES:
        if role in sets:
            hasher.update(f"{role}:{sets[role].digest};".encode())
    final = {k: v.with_info(fingerprint=hasher.hexdigest()) for k, v in sets.items()}
    return Splits(final["train"], final.get("test"), final.get("val"))


def _image_set(part: Part, classes: tuple[str, ...], role: Role, info: DatasetInfo) -> ImageSet:
    images = torch.from_numpy(part.images)
    if not (part.labels[1:] >= part.labels[:-1]).all():
        return ImageSet.from_labels(images, part.labels, classes, role, info)
    counts = np.bincount(part.labels, minlength=len(classes))
    offsets = (0, *(int(v) for v in counts.cumsum()))
    return ImageSet(images, offsets, classes, role, info)  # sorted already: no second copy
