"""From a file of somebody else's to pixels and labels that fit a data set."""

from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from distilset.data.normalise import Transform, fit_transform
from distilset.errors import ConfigError, DataError
from distilset.exchange.layouts import Where, read_stored
from distilset.exchange.names import match_names
from distilset.exchange.spaces import check_space, find_space, sentence, to_pixels
from distilset.exchange.stored import Stored, check_images, check_labels, sort_by_class
from distilset.formation import check_factor
from distilset.types import ImageSet, ImageSpec


@dataclass(frozen=True)
class Imported:
    """A set that fits the data: stored images sorted by class, labels, and what was assumed."""

    pixels: Float[Tensor, "n c h w"]
    labels: Tensor
    transform: Transform
    ipc: int
    layout: str
    space: str
    notes: tuple[str, ...]


def read_set(
    path: Path,
    train: ImageSet,
    *,
    zca: bool = False,
    space: str = "auto",
    where: Where | None = None,
    factor: int = 1,
    softmax: bool = False,
) -> Imported:
    """Read a set that was distilled from the data of ``train``.

    The arguments are those of `import_set`; ``where`` has its ``index`` and ``labels``.

    Raises:
        DataError: a file that is missing, damaged, unsafe, of no known layout, or unfit.
        ConfigError: settings that do not fit the file or each other.
    """
    check_space(space, zca=zca)
    check_factor(factor, train.spec)
    stored = read_stored(path, where or Where())
    images, labels, ipc = _fitted(stored, train, softmax)
    space = _settle(space, stored, images, zca)
    _check_size(images, train.spec, space, factor)
    transform = fit_transform(train, zca=zca)
    pixels = to_pixels(images, space, transform)
    told = sentence(space, pixels, train.info.name)
    notes = [f"imported from {stored.layout}", *stored.notes, told]
    pixels = _padded(pixels, train.spec, notes)
    if factor > 1:
        notes.append(
            f"each of the {ipc} stored images per class is cut into {factor**2} to train on "
            f"(factor {factor})"
        )
    return Imported(pixels, labels, transform, ipc, stored.layout, space, tuple(notes))


def _fitted(stored: Stored, train: ImageSet, softmax: bool) -> tuple[Tensor, Tensor, int]:
    """Return images and labels that fit the classes of the data, sorted, and images per class."""
    images, count = check_images(stored.images), len(train.classes)
    labels = check_labels(stored.labels, len(images), count, softmax=softmax)
    if stored.names is not None:
        order = torch.tensor(match_names(stored.names, train.classes))
        soft = labels.is_floating_point()
        labels = labels[:, order.argsort()] if soft else order[labels]
    return sort_by_class(images, labels, train.classes)


def _settle(space: str, stored: Stored, images: Tensor, zca: bool) -> str:
    if not stored.pixels and stored.images.dtype != torch.uint8:
        return find_space(images, zca=zca) if space == "auto" else space
    if space not in ("auto", "pixels"):
        raise ConfigError(f"{stored.layout} holds pixels; leave --space {space} out")
    return "pixels"


def _check_size(images: Tensor, spec: ImageSpec, space: str, factor: int) -> None:
    shape = tuple(images.shape[1:])
    if shape != spec.shape and (shape != _smaller(spec) or space == "whitened"):
        raise DataError(
            f"images of {'x'.join(map(str, shape))} do not fit {space} images of {spec}; "
            "give the resolution of the set (--resolution N)"
        )
    if factor > 1 and shape != spec.shape:
        raise DataError(
            f"images of 28x28 that hold several each (factor {factor}) cannot be padded to {spec} "
            "as the data are; cut and enlarge them first, and import the result without a factor"
        )


def _smaller(spec: ImageSpec) -> tuple[int, int, int] | None:
    """Return the shape that `load_data` has padded, if it may have: 28x28 to 32x32."""
    return (spec.channels, 28, 28) if (spec.height, spec.width) == (32, 32) else None


def _padded(pixels: Tensor, spec: ImageSpec, notes: list[str]) -> Tensor:
    if tuple(pixels.shape[1:]) == spec.shape:
        return pixels
    notes.append("28x28 images were padded with black to 32x32, as the data are")
    return pad(pixels, (2, 2, 2, 2))
