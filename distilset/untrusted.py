"""What a stranger may have written: read within bounds.

Every reader of a run, card, checkpoint or import goes through here or says why not. The readers
raise ValueError or OSError with a reason; who calls them names the file.
"""

import json
import tomllib
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import isnan
from pathlib import Path
from typing import Any

from torch import Tensor

from distilset.errors import DataError
from distilset.memory import memory_bytes

MOST_JSON = 64 * 2**20
"""Bytes of a card: 50,000 row numbers and 20,000 class names take one MiB."""
MOST_TOML = 2**20
"""Bytes of settings; ours have 2 kB."""
MOST_DOTS = 200
"""Dots in a line of TOML: the time for a key of n pieces grows as n squared."""
MOST_LINE = 2**20
"""Bytes of a line of metrics or baselines; a thousand accuracies take 20 kB."""
MOST_ROWS = 256 * 2**20
"""Bytes of a table of scores; a million networks take 150 MB."""
MOST_SECONDS = 1e12
"""Seconds that something may have taken: 30,000 years."""
MOST_DEPTH = 32
"""Levels of nesting; ours have four."""
MOST_BITS = 1000
"""Bits of a whole number, which then becomes a float and text without complaint."""
MOST_HEADER = 16 * 2**20
"""Bytes of a safetensors header: it holds names and shapes, and a network's 20,000 classes."""


def read_text(path: Path, most: int, errors: str = "strict") -> str:
    """Read UTF-8 text of ``most`` bytes or fewer from a regular file: a pipe would never end."""
    if not path.is_file():
        raise ValueError("it is no regular file")
    with path.open("rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise ValueError(f"it has more than {most:,} bytes")
    return content.decode("utf-8", errors)


def parse_json(text: str) -> Any:
    """Parse JSON as we write it: finite numbers, text that is text, no more than `MOST_DEPTH`."""
    try:
        found = json.loads(text, parse_constant=_no_constant)
    except RecursionError:
        raise ValueError(_DEEP) from None
    _check(found)
    return found


def parse_toml(text: str) -> dict[str, Any]:
    """Parse TOML; one that would take hours, or could not be printed, is refused."""
    if any(line.count(".") > MOST_DOTS for line in text.splitlines()):
        raise ValueError(f"a line has more than {MOST_DOTS} dots")
    try:
        found = tomllib.loads(text)
    except RecursionError:
        raise ValueError(_DEEP) from None
    _check(found, finite=False)
    return found


def number_in(value: object, low: float = 0.0, high: float = 100.0) -> float:
    """Return a number as a float; by default one in per cent. NaN, text and true are none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise ValueError(f"{value!r:.80} is no number from {low:g} to {high:g}")
    return float(value)


def accuracy_in(text: str) -> float:
    """Return an accuracy in per cent from a row's text; NaN is that of a network that diverged."""
    value = float(text)
    return value if isnan(value) else number_in(value)


def json_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the objects of a file of JSON lines; lines that are none, or cut off, are left out."""
    if not path.is_file():
        return
    with path.open("rb") as file:
        while line := file.readline(MOST_LINE):
            try:
                found = parse_json(line.decode("utf-8", errors="replace"))
            except ValueError:
                continue
            if isinstance(found, dict):
                yield found


_DEEP = f"it is nested deeper than {MOST_DEPTH} levels"


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no number")


def _check(found: Any, *, finite: bool = True) -> None:
    """Refuse depth, numbers and text that code further on would stumble over."""
    waiting = [(found, 0)]
    while waiting:
        value, depth = waiting.pop()
        if depth > MOST_DEPTH:
            raise ValueError(_DEEP)
        if isinstance(value, Mapping):
            waiting += [(part, depth + 1) for pair in value.items() for part in pair]
        elif isinstance(value, list):
            waiting += [(part, depth + 1) for part in value]
        elif isinstance(value, str):
            value.encode()  # half of a surrogate pair is no text
        elif isinstance(value, int) and value.bit_length() > MOST_BITS:
            raise ValueError(f"a number has more than {MOST_BITS} bits")
        elif finite and isinstance(value, float) and abs(value) == float("inf"):
            raise ValueError("a number is infinite")


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read a safetensors file: its tensors, and its text.

    Raises:
        DataError: it is damaged, or no regular file.
    """
    with telling_damage(path), open_tensors(path) as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return tensors, file.metadata() or {}


def open_tensors(path: Path) -> Any:
    """Open a safetensors file to read tensor by tensor; the file may be removed meanwhile.

    Shapes are checked against the file's size by the library, before anything is allocated. What
    it raises is meant for `telling_damage`.
    """
    from safetensors import safe_open

    _check_header(path)
    return safe_open(path, framework="pt")


@contextmanager
def telling_damage(path: Path) -> Iterator[None]:
    """Make a DataError of whatever is raised: the library has errors of its own, PyTorch too."""
    try:
        yield
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"{path} is damaged: {reason}") from None


def _check_header(path: Path) -> None:
    if not path.is_file():
        raise ValueError("it is no regular file")
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
    if size > MOST_HEADER:
        raise ValueError(f"its header claims {size:,} bytes; at most {MOST_HEADER:,} are read")


def check_unpacked(path: Path) -> None:
    """Refuse an archive whose content is larger than the machine's memory.

    Raises:
        DataError: naming both sizes.
    """
    try:
        if not zipfile.is_zipfile(path):
            return
        with zipfile.ZipFile(path) as file:
            size = sum(entry.file_size for entry in file.infolist())
    except Exception:  # struct's and zipfile's own
        raise DataError(f"{path} is damaged: its table of contents cannot be read") from None
    check_memory(path, size)


def check_memory(what: object, size: int) -> None:
    """Refuse what claims more bytes than the machine has.

    Raises:
        DataError: naming the size.
    """
    if size > (memory_bytes() or size):
        raise DataError(
            f"{what} unpacks to {size / 1e9:.0f} GB, more than the memory of this machine"
        )
