"""The nouns of the package: what an image is, a set of them, and the splits of a data set."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import blake2b
from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from distilset.errors import DataError

Role = Literal["train", "val", "test"]


@dataclass(frozen=True)
class ImageSpec:
    """The shape of every image of a set, in pixels."""

    channels: int
    height: int
    width: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """``(channels, height, width)``."""
        return (self.channels, self.height, self.width)

    def __str__(self) -> str:
        return f"{self.channels}x{self.height}x{self.width}"


@dataclass(frozen=True)
class DatasetInfo:
    """Where a data set comes from and what must be known to use images made from it.

    ``mean`` and ``std`` are per channel, of pixels in [0, 1]: published ones for known names, else
    measured on the training part. ``mirror`` says whether a mirrored image keeps its class (false
    for digits): augmentation leaves its flip out where it does not. ``like`` names the known
    data set whose published values were taken for a local copy.
    """

    name: str
    source: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    mirror: bool = True
    resolution: int | None = None
    test_part: Literal["official", "carved", "none"] = "official"
    split_seed: int = 0
    val_fraction: float = 0.0
    skipped_count: int = 0
    skipped: tuple[str, ...] = ()
    fingerprint: str = ""
    like: str | None = None


def content_hasher(
    shape: tuple[int, int, int], offsets: tuple[int, ...], classes: tuple[str, ...]
) -> blake2b:
    """Return the hasher of `ImageSet.digest`, to be fed the images."""
    return blake2b(repr((shape, offsets, classes)).encode(), digest_size=16)


@dataclass(frozen=True)
class ImageSet:
    """Labelled images of one split, kept as bytes and sorted by class.

    ``images`` is uint8 ``[n, channels, height, width]``; the images of class ``c`` are rows
    ``offsets[c]`` to ``offsets[c + 1]``. ``role`` tells which split it is, so that the test split
    cannot be distilled by mistake. ``mapped`` says that the images lie in a file of the cache and
    are read when they are looked at (see `distilset.data.mapped`).
    """

    images: UInt8[Tensor, "n channels height width"]
    offsets: tuple[int, ...]
    classes: tuple[str, ...]
    role: Role
    info: DatasetInfo = field(repr=False)
    mapped: bool = False

    def __post_init__(self) -> None:
        if len(self.offsets) != len(self.classes) + 1 or self.offsets[-1] != len(self.images):
            raise DataError(
                f"{len(self.classes)} classes and {len(self.images)} images do not fit "
                f"{len(self.offsets)} class offsets that end at {self.offsets[-1]}"
            )

    @classmethod
    def from_labels(
        cls,
        images: UInt8[Tensor, "n channels height width"],
        labels: Sequence[int] | np.ndarray | Tensor,
        classes: Sequence[str],
        role: Role,
        info: DatasetInfo,
    ) -> "ImageSet":
        """Sort images by class (keeping their order inside a class)."""
        labels = np.asarray(labels)
        if labels.shape != (len(images),):
            raise DataError(f"{len(images)} images need as many labels; got shape {labels.shape}")
        if len(labels) and not 0 <= labels.min() <= labels.max() < len(classes):
            raise DataError(
                f"labels must lie in 0..{len(classes) - 1}; got {labels.min()}..{labels.max()}"
            )
        counts = np.bincount(labels, minlength=len(classes))
        offsets = tuple(int(v) for v in np.concatenate([[0], np.cumsum(counts)]))
        order = torch.from_numpy(np.argsort(labels, kind="stable"))
        return cls(images[order].contiguous(), offsets, tuple(classes), role, info)

    def __len__(self) -> int:
        return len(self.images)

    @property
    def spec(self) -> ImageSpec:
        """The shape of one image."""
        return ImageSpec(*self.images.shape[1:])

    @property
    def counts(self) -> tuple[int, ...]:
        """The number of images of each class."""
        return tuple(b - a for a, b in zip(self.offsets, self.offsets[1:], strict=False))

    @cached_property
    def labels(self) -> Int64[Tensor, " n"]:
        """The class index of every image."""
        return torch.repeat_interleave(torch.tensor(self.counts))

    @cached_property
    def digest(self) -> str:
        """A hash of the images, the labels and the class names."""
        hasher = content_hasher(self.spec.shape, self.offsets, self.classes)
        hasher.update(self.images.numpy().data)
        return hasher.hexdigest()

    def knowing(self, digest: str) -> "ImageSet":
        """Return the same set with its `digest`, which is then not computed: that reads all."""
        same = replace(self)
        vars(same)["digest"] = digest
        return same

    def of_class(self, class_index: int) -> UInt8[Tensor, "m channels height width"]:
        """Return the images of one class (a view)."""
        return self.images[self.offsets[class_index] : self.offsets[class_index + 1]]

    def take(self, indices: Sequence[int] | np.ndarray | Tensor, role: Role) -> "ImageSet":
        """Return the images at ``indices`` as a set of its own."""
        index = torch.as_tensor(np.asarray(indices), dtype=torch.int64).sort().values
        counts = torch.bincount(self.labels[index], minlength=len(self.classes))
        offsets = (0, *(int(v) for v in counts.cumsum(0)))
        return ImageSet(self.images[index], offsets, self.classes, role, self.info)

    def with_info(self, **changes: object) -> "ImageSet":
        """Return the same images with some facts of ``info`` replaced."""
        same = replace(self, info=replace(self.info, **changes))  # type: ignore[arg-type]
        return same.knowing(vars(self)["digest"]) if "digest" in vars(self) else same


@dataclass(frozen=True)
class Splits:
    """The parts of a data set; ``val`` is there only when it was asked for."""

    train: ImageSet
    test: ImageSet | None
    val: ImageSet | None = None

    @property
    def info(self) -> DatasetInfo:
        """The facts that all parts share."""
        return self.train.info


class Features(NamedTuple):
    """What the losses look at in one forward pass of a network.

    ``maps`` holds the activations ``[n, C_l, H_l, W_l]`` of every stage, shallow to deep, before
    pooling (none for an MLP); ``last`` is what enters the classifier, ``[n, d]``.
    """

    maps: tuple[Float[Tensor, "n _ _ _"], ...]
    last: Float[Tensor, "n d"]
