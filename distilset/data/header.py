"""The header of a memory map: all that is to be known of it without reading its pixels."""

import json
from dataclasses import asdict, dataclass
from hashlib import blake2b
from itertools import pairwise
from math import isfinite
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError

from distilset.files import write_text
from distilset.types import Role

HEADER, PIXELS = "header.json", "pixels.u8"


@dataclass(frozen=True)
class Header:
    """What `distilset.data.mapped` wrote beside the pixels.

    ``facts`` are those of the map's name; ``shape`` is of an image; ``offsets`` and ``digests`` are
    by part, in the order of the file; ``mean`` and ``std`` are measured on train.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    facts: dict[str, Any]
    shape: tuple[int, int, int]
    classes: tuple[str, ...]
    offsets: dict[Role, tuple[int, ...]]
    digests: dict[Role, str]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    test_part: Literal["official", "carved", "none"]
    skipped_count: int
    skipped: tuple[
        Any, ...
    ]  # names of files, of any bytes, some of which pydantic takes for no str

    @property
    def bytes(self) -> int:
        """The size of the pixels' file."""
        channels, height, width = self.shape
        return sum(ends[-1] for ends in self.offsets.values()) * channels * height * width


def write_header(folder: Path, header: Header) -> None:
    """Write a header, with a hash of itself; the map is finished when it is there."""
    values = asdict(header)
    document = {"hash": _hash(values), "header": values}
    write_text(folder / HEADER, json.dumps(document, indent=1) + "\n")


def read_header(folder: Path) -> Header | str:
    """Return the header of a finished map, else why there is none ("" if none was made)."""
    try:
        document = json.loads((folder / HEADER).read_text("utf-8"))
        if document["hash"] != _hash(document["header"]):
            return "its header was altered"
        header = TypeAdapter(Header).validate_python(document["header"])
        if not _fits(header):
            return "its header contradicts itself"
        size = (folder / PIXELS).stat().st_size
    except FileNotFoundError as error:
        return "" if error.filename == str(folder / HEADER) else "its pixels are gone"
    except (OSError, ValueError, KeyError, TypeError, RecursionError, ValidationError):
        return "its header is damaged"
    if size != header.bytes:
        return f"its pixels have {size} bytes, not {header.bytes}"
    return header


def _fits(header: Header) -> bool:
    """Tell whether the parts of a header agree with each other."""
    channels, numbers = header.shape[0], (*header.mean, *header.std)
    return (
        min(header.shape) > 0
        and "train" in header.offsets
        and header.offsets.keys() == header.digests.keys()
        and all(_rises(ends, len(header.classes)) for ends in header.offsets.values())
        and len(header.mean) == len(header.std) == channels
        and all(map(isfinite, numbers))
        and min(header.std) > 0
        and header.skipped_count >= len(header.skipped)
        and all(isinstance(name, str) for name in header.skipped)
    )


def _rises(ends: tuple[int, ...], classes: int) -> bool:
    return len(ends) == classes + 1 and ends[0] == 0 and all(a <= b for a, b in pairwise(ends))


def _hash(values: Any) -> str:
    text = json.dumps(values, sort_keys=True)
    return blake2b(text.encode(), digest_size=16).hexdigest()
