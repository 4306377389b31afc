"""A memory map in the making: pixels in a file, and a log of the blocks that are in it."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from hashlib import blake2b
from os import fsync
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from jaxtyping import Int64, UInt8

from distilset.data import blocks
from distilset.data.assemble import padded
from distilset.data.blocks import Block

PIXELS, LOG = "unfinished.u8", "unfinished.jsonl"


@dataclass(frozen=True)
class Noted:
    """What the log has of a block; ``failed`` has the unreadable images' names by their place."""

    number: int
    colour: bool
    digest: str
    failed: dict[int, str] = field(default_factory=dict)


class Worklog:
    """The unfinished map in a folder: every image at its planned place.

    ``place`` has the place of every image of the source; ``shape`` is that of an image in the file,
    three channels. What an earlier attempt left is taken up, block by block, where its log and its
    pixels agree.
    """

    def __init__(
        self, folder: Path, place: Int64[np.ndarray, " n"], shape: Sequence[int], facts: Any
    ) -> None:
        self.place, self.shape = place, tuple(shape)
        self.path, self.log = folder / PIXELS, folder / LOG
        self.head = {
            "facts": facts,
            "shape": list(shape),
            "block": blocks.BLOCK,
            "place": blake2b(place.tobytes(), digest_size=16).hexdigest(),
        }
        self.noted: dict[int, Noted] = {}
        if not self._take_up():
            self.path.unlink(missing_ok=True)
            self.path.touch()
            self.log.write_text(json.dumps(self.head) + "\n", "utf-8")

    @property
    def bytes(self) -> int:
        """The bytes of the finished file."""
        return len(self.place) * int(np.prod(self.shape))

    @property
    def done(self) -> int:
        """The images of the blocks that are in the file."""
        return sum(len(self._places(number)) for number in self.noted)

    @property
    def failed(self) -> dict[int, str]:
        """The names of unreadable images by their number, in order."""
        found = {
            number * blocks.BLOCK + at: name
            for number, noted in self.noted.items()
            for at, name in noted.failed.items()
        }
        return dict(sorted(found.items()))

    @property
    def channels(self) -> int:
        """1 if every image is grey, else 3."""
        return 3 if any(noted.colour for noted in self.noted.values()) else 1

    def add(self, block: Block) -> None:
        """Write a block's pixels, wait until the disk has them, and only then note it."""
        images = padded(block.images)
        places = self._places(block.number)[block.keep]
        with self.path.open("r+b", buffering=0) as file:
            for place, image in zip(places, images, strict=True):
                file.seek(int(place) * image.nbytes)
                _write(file, np.ascontiguousarray(image).data.cast("B"))
            fsync(file.fileno())
        noted = Noted(block.number, block.colour, _digest(images), block.failed)
        with self.log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(noted)) + "\n")
            file.flush()
            fsync(file.fileno())
        self.noted[block.number] = noted

    def complete(self) -> None:
        """Give the file its length: the last image may be unreadable, or damage lie behind it."""
        with self.path.open("r+b") as file:
            file.truncate(self.bytes)

    def remove(self) -> None:
        """Remove both files."""
        self.log.unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)

    def _places(self, number: int) -> Int64[np.ndarray, " n"]:
        return self.place[number * blocks.BLOCK : (number + 1) * blocks.BLOCK]

    def _take_up(self) -> bool:
        """Read the log of an earlier attempt; tell whether there is one of the same map."""
        try:
            lines = self.log.read_text("utf-8").splitlines(keepends=True)
            same = bool(lines) and self.path.is_file() and json.loads(lines[0]) == self.head
        except (OSError, ValueError, RecursionError):
            return False
        if not same:
            return False
        whole = [lines[0]]
        for line in lines[1:]:
            noted = _parse(line)
            if noted is not None and self._holds(noted):
                self.noted[noted.number] = noted
                whole.append(line)
        self.log.write_text(
            "".join(whole), "utf-8"
        )  # a line that was cut off would swallow the next
        return True

    def _holds(self, noted: Noted) -> bool:
        """Tell whether the file has a block's pixels."""
        places = self._places(noted.number)
        if noted.number < 0 or not all(0 <= at < len(places) for at in noted.failed):
            return False
        size = int(np.prod(self.shape))
        hasher = blake2b(digest_size=16)
        with self.path.open("rb") as file:
            for place in np.delete(places, list(noted.failed)):
                file.seek(int(place) * size)
                hasher.update(file.read(size))
        return len(places) > 0 and hasher.hexdigest() == noted.digest


def _parse(line: str) -> Noted | None:
    try:
        values = json.loads(line)
        failed = {int(at): str(name) for at, name in values["failed"].items()}
        return Noted(int(values["number"]), bool(values["colour"]), str(values["digest"]), failed)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return None


def _digest(images: UInt8[np.ndarray, "k c h w"]) -> str:
    return blake2b(np.ascontiguousarray(images).data, digest_size=16).hexdigest()


def _write(file: BinaryIO, data: memoryview) -> None:
    """Write all of it: one call may write less, on a full disk for instance."""
    while data:
        data = data[file.write(data) :]
