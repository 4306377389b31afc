"""Many images, decoded in blocks: what an interruption leaves is kept, and memory is bounded.

At most five blocks are in memory, encoded or decoded, however many there are.
"""

import os
import warnings
from collections import deque
from collections.abc import Container, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

import numpy as np
from jaxtyping import Bool, UInt8

from distilset.data.decode import CHUNK, Canvas, Encoded, Item, chunks
from distilset.data.parts import Size

BLOCK = 1024
"""Images that are written and noted together: what an interruption may cost."""


@dataclass(frozen=True)
class Block:
    """Images ``first`` and following: those that can be read, and the names of those that cannot.

    ``keep`` marks the former. Where every image is grey, ``colour`` is false.
    """

    number: int
    images: UInt8[np.ndarray, "k 3 height width"]
    keep: Bool[np.ndarray, " n"]
    failed: dict[int, str]
    colour: bool

    @property
    def first(self) -> int:
        """The number of the block's first image."""
        return self.number * BLOCK


def common_size(parts: Iterable[Encoded], size: Size | None) -> tuple[Size | None, str]:
    """Return the size that all images are to have, and the name of the image that decides it.

    That is the first that can be read; with ``size``, none. None where no image can be read.
    """
    if size is not None:
        return size, ""
    canvas = Canvas(0, None, None)
    for part in parts:
        for _, chunk in chunks(part.items):
            canvas.prepare(chunk)
            if canvas.images is not None:
                return (canvas.images.shape[2], canvas.images.shape[3]), canvas.first
    return None, ""


def decode_blocks(
    items: Iterable[Item], size: Size | None, common: tuple[Size, str], done: Container[int] = ()
) -> Iterator[Block]:
    """Decode images to the common size, block by block in order; those ``done`` are left out.

    Raises:
        DataError: an image of another size, where ``size`` is None.
    """
    workers = min(16, os.cpu_count() or 1)
    ahead = 1 + -(-2 * workers * CHUNK // BLOCK)
    begun: deque[tuple[int, Canvas, list[Future[int]]]] = deque()
    pool = ThreadPoolExecutor(workers)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, on damaged metadata and large images
        try:
            for number, block in enumerate(_blocks(items)):
                if number in done:
                    continue
                canvas = Canvas(len(block), size, common[0])
                canvas.first = common[1]
                parts = [pool.submit(canvas.fill, at, chunk) for at, chunk in chunks(block)]
                begun.append((number, canvas, parts))
                if len(begun) > ahead:
                    yield _finished(*begun.popleft())
            while begun:
                yield _finished(*begun.popleft())
        finally:
            pool.shutdown(cancel_futures=True)


def _finished(number: int, canvas: Canvas, parts: list[Future[int]]) -> Block:
    for part in parts:
        part.result()
    images, keep = canvas.kept()
    return Block(number, images, keep, dict(sorted(canvas.failed.items())), canvas.colour)


def _blocks(items: Iterable[Item]) -> Iterator[list[Item]]:
    iterator = iter(items)
    while block := list(islice(iterator, BLOCK)):
        yield block
