"""Files that are there whole or not at all."""

import os
from collections.abc import Callable
from pathlib import Path

from distilset.errors import DataError


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Have ``write`` make a temporary file beside ``path``, sync it, and rename it into place."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    partial.unlink(missing_ok=True)  # a link left there would be written through
    try:
        write(partial)
        sync(partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    sync(path.parent)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    write_atomically(path, lambda partial: _dump(partial, text))


def write_bytes(path: Path, content: bytes) -> None:
    """Write bytes atomically; the file gets the usual permissions, unlike safetensors' own."""
    write_atomically(path, lambda partial: _put(partial, content))


def expanded(path: str | os.PathLike[str]) -> Path:
    """Return a path with ``~`` as the home folder.

    Raises:
        DataError: the home of a user who is not known here.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise DataError(f"{path} is in the home of a user who is not known here") from None


def _dump(path: Path, text: str) -> None:
    path.write_text(text, "utf-8", errors="replace")  # half a surrogate costs a ?, not the file


def _put(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def sync(path: Path) -> None:
    """Wait until the disk has a file, or the names in a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def unlink_link(path: Path) -> None:
    """Remove a link: a run may have been handed on, and nothing is written through it."""
    if path.is_symlink():
        path.unlink()
