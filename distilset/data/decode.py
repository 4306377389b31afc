"""Many images at once: threads that decode into one array that is allocated beforehand.

Threads and not processes: Pillow lets go of Python's lock while it decodes and resizes, which is
where large images spend their time, and small ones need 70 microseconds each (60,000 CIFAR-10 files
in 5 to 8 s). Processes would need a guard in the caller's script.
"""

import os
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, UInt8

from distilset.data.parts import Part, Progress, Raw, Size
from distilset.data.pixels import read_pixels
from distilset.errors import DataError

Item = tuple[str, Path | bytes | None]
"""A name to report and where the encoded image is; None for one that is missing."""

CHUNK = 64
_ALLOWED_UNREADABLE = 0.05


@dataclass(frozen=True)
class Again:
    """What can be gone through again and again: a function that begins anew."""

    begin: Callable[[], Iterator[Item]]

    def __iter__(self) -> Iterator[Item]:
        return self.begin()


@dataclass(frozen=True)
class Encoded:
    """A part whose images are still encoded, in order of labels; ``items`` may be read again."""

    items: Iterable[Item]
    labels: np.ndarray


@dataclass(frozen=True)
class Listed:
    """A data set whose images are still encoded: train and, if the source has one, test."""

    parts: tuple[Encoded, ...]
    classes: tuple[str, ...]

    @property
    def total(self) -> int:
        """The number of images, unreadable ones too."""
        return sum(len(part.labels) for part in self.parts)


@dataclass(frozen=True)
class Look:
    """What a quick look at a source's files tells.

    ``stamp`` changes when a file comes, goes or is written to (names, sizes, times of change).
    """

    stamp: str
    images: int


@runtime_checkable
class Source(Protocol):
    """Encoded images that nobody has read yet; of all classes, or of some by their index."""

    @property
    def class_subset(self) -> tuple[int, ...] | None:
        """The classes that are wanted, in this order."""
        ...

    def look(self) -> Look:
        """Tell quickly how many there are, and which."""
        ...

    def list(self) -> Listed:
        """List them by class.

        Raises:
            DataError: what the source's reader refuses.
        """
        ...


def decode_listed(listed: Listed, size: Size | None, progress: Progress | None) -> Raw:
    """Decode a data set into memory; see `decode_parts`."""
    decoded, skipped = decode_parts(list(listed.parts), size, progress)
    return Raw(decoded[0], decoded[1] if len(decoded) > 1 else None, listed.classes, skipped)


class Canvas:
    """The array that images are decoded into; its shape is that of the first readable image."""

    def __init__(self, total: int, size: Size | None, shape: Size | None) -> None:
        self.total = total
        self.size = size
        self.first = ""
        self.colour = False
        self.failed: dict[int, str] = {}
        self.images: UInt8[np.ndarray, "n 3 height width"] | None = None
        if size or shape:
            self.allocate(size or shape)

    def allocate(self, shape: Size | None) -> None:
        """Make the array."""
        assert shape is not None
        try:
            self.images = np.empty((self.total, 3, *shape), dtype=np.uint8)
        except MemoryError:
            need = self.total * 3 * shape[0] * shape[1] / 2**30
            raise DataError(
                f"{self.total} images of {shape[0]}x{shape[1]} pixels need {need:.1f} GiB, more "
                "than there is; give a smaller resolution (--resolution N)"
            ) from None

    def prepare(self, chunk: list[Item]) -> None:
        """Find the common shape from the first image that can be read."""
        for name, source in chunk if self.images is None else ():
            pixels = self.read(source)
            if isinstance(pixels, np.ndarray):
                self.first = name
                self.allocate(pixels.shape[:2])
                return

    def read(self, source: Path | bytes | None) -> np.ndarray | str:
        """Return the pixels, or why there are none."""
        if source is None:
            return "no bytes"
        try:
            return read_pixels(source, self.size)
        except Exception as error:  # a damaged file can raise anything in Pillow
            return str(error) or type(error).__name__

    def fill(self, start: int, chunk: list[Item]) -> int:
        """Decode a chunk into its rows; return how many images that were."""
        for row, (name, source) in enumerate(chunk, start):
            pixels = self.read(source)
            if isinstance(pixels, str) or self.images is None:
                self.failed[row] = name
                continue
            self.check_size(name, pixels.shape[:2])
            self.images[row] = pixels.transpose(2, 0, 1)
            if not self.colour and not _is_grey(pixels):
                self.colour = True  # only ever set, so threads cannot undo each other
        return len(chunk)

    def check_size(self, name: str, shape: Size) -> None:
        """Refuse an image of another size than the first."""
        assert self.images is not None
        height, width = self.images.shape[2:]
        if shape != (height, width):
            first = f" ({self.first})" if self.first else ""
            raise DataError(
                f"images differ in size: {height}x{width}{first} and {shape[0]}x{shape[1]} "
                f"({name}); give the side they are all brought to (--resolution N)"
            )

    def kept(self) -> tuple[np.ndarray, Bool[np.ndarray, " n"]]:
        """Close the gaps of unreadable images, in place."""
        keep = np.ones(self.total, dtype=bool)
        keep[list(self.failed)] = False
        if self.images is None:
            return np.empty((0, 3, 1, 1), dtype=np.uint8), keep
        if self.failed:
            for row, source in enumerate(np.flatnonzero(keep)):
                if row != source:
                    self.images[row] = self.images[source]
        return self.images[: int(keep.sum())], keep


def _is_grey(pixels: UInt8[np.ndarray, "height width 3"]) -> bool:
    red = pixels[..., 0]
    return bool((red == pixels[..., 1]).all() and (red == pixels[..., 2]).all())


def decode_parts(
    parts: list[Encoded], size: Size | None, progress: Progress | None
) -> tuple[list[Part], tuple[str, ...]]:
    """Decode all parts to one common size: 1 channel if every image is grey, else 3.

    Returns the parts without their unreadable images, and the names of those.

    Raises:
        DataError: images of different sizes and no ``size``; more than 5 % of them unreadable.
    """
    total = sum(len(part.labels) for part in parts)
    done = 0

    def tick(count: int) -> None:
        nonlocal done
        done += count
        if progress is not None:
            progress(done, total)

    canvases: list[Canvas] = []
    shape: Size | None = None
    for part in parts:
        canvas = Canvas(len(part.labels), size, shape)
        _decode(canvas, part.items, tick)
        canvases.append(canvas)
        if canvas.images is not None:
            shape = (canvas.images.shape[2], canvas.images.shape[3])
    skipped = tuple(c.failed[row] for c in canvases for row in sorted(c.failed))
    check_share(skipped, total)
    channels = 3 if any(canvas.colour for canvas in canvases) else 1
    return [_collect(c, p.labels, channels) for c, p in zip(canvases, parts, strict=True)], skipped


def _collect(canvas: Canvas, labels: np.ndarray, channels: int) -> Part:
    images, keep = canvas.kept()
    canvas.images = None
    return Part(np.ascontiguousarray(images[:, :channels]), labels[keep])


def check_share(skipped: Sequence[str], total: int) -> None:
    """Refuse a data set of which more than 5 % cannot be read."""
    if len(skipped) > _ALLOWED_UNREADABLE * total:
        raise unreadable(skipped, total)


def unreadable(skipped: Sequence[str], total: int) -> DataError:
    """Build the error for too many unreadable images."""
    return DataError(
        f"{len(skipped)} of {total} images cannot be read ({', '.join(skipped[:10])}"
        f"{', ...' if len(skipped) > 10 else ''}); at most 5 % may be damaged"
    )


def _decode(canvas: Canvas, items: Iterable[Item], tick: Callable[[int], None]) -> None:
    workers = min(16, os.cpu_count() or 1)
    waiting = deque()
    with warnings.catch_warnings(), ThreadPoolExecutor(workers) as pool:
        warnings.simplefilter("ignore")  # Pillow's, on damaged metadata and large images
        for start, chunk in chunks(items):
            canvas.prepare(chunk)
            waiting.append(pool.submit(canvas.fill, start, chunk))
            if len(waiting) > 2 * workers:  # encoded bytes in memory stay bounded
                tick(waiting.popleft().result())
        for future in waiting:
            tick(future.result())


def chunks(items: Iterable[Item]) -> Iterator[tuple[int, list[Item]]]:
    """Yield what a thread decodes at a time, and the number of its first image."""
    iterator = iter(items)
    start = 0
    while chunk := list(islice(iterator, CHUNK)):
        yield start, chunk
        start += len(chunk)
