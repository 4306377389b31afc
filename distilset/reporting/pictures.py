"""Images for a page: small PNG files written into the page itself."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor

from distilset.grid import to_bytes
from distilset.store import DistilledSet
from distilset.types import ImageSet

MOST_SHOWN, MOST_REAL, BUDGET = 10, 10, 1500
"""Images of a class at most, real ones at most, and synthetic images of a run at most."""
SAMPLE = 2000
"""PNG sizes are measured on so many images at most."""


@dataclass(frozen=True)
class Thumb:
    """An image as a data URI, and what it shows."""

    uri: str
    says: str
    real: bool = False


@dataclass(frozen=True)
class ClassRow:
    """A class: its name, some synthetic and some real images, how many synthetic there are."""

    name: str
    synthetic: tuple[Thumb, ...]
    real: tuple[Thumb, ...]
    total: int


def png(image: UInt8[Tensor, "c h w"]) -> bytes:
    """Encode an image of 1 to 4 channels as PNG; of 2 the first is shown."""
    from PIL import Image

    channels = image.shape[0]
    array = (image[0] if channels in (1, 2) else image[:4].permute(1, 2, 0)).numpy()
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def data_uri(image: UInt8[Tensor, "c h w"]) -> str:
    """Return an image as a ``data:`` address."""
    return "data:image/png;base64," + base64.b64encode(png(image)).decode("ascii")


def class_rows(distilled: DistilledSet, train: ImageSet | None, kind: str) -> list[ClassRow]:
    """Take images class by class: the first synthetic ones, and real ones spread over the class.

    ``kind`` is the word for an image of the set. No more than `BUDGET` synthetic images are taken;
    classes beyond it are left out.
    """
    counts = []
    rows: list[ClassRow] = []
    for c, name in enumerate(distilled.classes):
        own = to_bytes(distilled.pixels[distilled.hard_labels == c].cpu())
        shown = own[:MOST_SHOWN]
        if sum(counts) + len(shown) > BUDGET:
            break
        counts.append(len(shown))
        synthetic = _thumbs(shown, name, kind, real=False)
        real = () if train is None else _thumbs(_spread(train, c, len(shown)), name, "real", True)
        rows.append(ClassRow(name, synthetic, real, len(own)))
    return rows


def _thumbs(images: Tensor, name: str, kind: str, real: bool) -> tuple[Thumb, ...]:
    return tuple(
        Thumb(data_uri(image), f"{name}: {kind} image {i + 1}", real)
        for i, image in enumerate(images)
    )


def _spread(train: ImageSet, class_index: int, number: int) -> Tensor:
    images = train.of_class(class_index)
    wanted = min(max(number, 4), MOST_REAL, len(images))
    rows = torch.linspace(0, len(images) - 1, wanted).round().long() if wanted else []
    return images[torch.as_tensor(rows, dtype=torch.int64)]


def png_bytes(distilled: DistilledSet) -> tuple[int, bool]:
    """Return the bytes of all images as PNG, and whether that is scaled up from a sample."""
    pixels, n = distilled.pixels, len(distilled.pixels)
    rows: Sequence[int] | Any = range(n) if n <= SAMPLE else range(0, n, -(-n // SAMPLE))
    measured = sum(len(png(to_bytes(pixels[i : i + 1].cpu())[0])) for i in rows)
    return round(measured * n / len(rows)), len(rows) < n
