"""Space on disk: checked before a run starts, told in a sentence when it runs out."""

import errno
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from distilset.errors import DataError

REST = 4 << 20
"""Bytes for the small files of a run: settings, metrics, card, the grid of images."""

_WAYS = {
    errno.ENOSPC: "make space",
    errno.EDQUOT: "make space",
    errno.EFBIG: "allow larger files",
    errno.EROFS: "make it writable",
    errno.EACCES: "make it writable",
    errno.EPERM: "make it writable",
    errno.EIO: "see to the disk",
}


def check_room(needs: Mapping[Path, int]) -> None:
    """Refuse to start where files do not fit: the bytes that each folder is to take.

    Folders need not exist yet; those on one disk are added up.

    Raises:
        DataError: too little space, or a folder that cannot be written to.
    """
    disks: dict[int, tuple[Path, int]] = {}
    for folder, size in needs.items():
        there = _existing(folder)
        if not os.access(there, os.W_OK | os.X_OK):
            raise DataError(f"{there} cannot be written to; choose another folder for the run")
        number = there.stat().st_dev
        disks[number] = (folder, disks.get(number, (folder, 0))[1] + size)
    for folder, size in disks.values():
        free = shutil.disk_usage(_existing(folder)).free
        if size > free:
            raise DataError(
                f"the run needs about {size / 1e6:.0f} MB on the disk of {folder}, "
                f"and {free / 1e6:.0f} MB are free; make space, or choose another folder"
            )


def _existing(folder: Path) -> Path:
    """Return a folder, or the nearest one above it that exists."""
    folder = folder.absolute()
    return next(path for path in (folder, *folder.parents) if path.is_dir())


@contextmanager
def told_if_full(run: Path) -> Iterator[None]:
    """Turn the system's refusal to write into a sentence that says how to go on.

    Raises:
        DataError: a full or read-only disk, or files larger than allowed.
    """
    try:
        yield
    except OSError as error:
        way = _WAYS.get(error.errno or 0)
        if way is None:
            raise
        raise DataError(
            f"{error.filename or run} cannot be written ({os.strerror(error.errno or 0)}); what "
            f"the run saved before is whole: {way}, then give the same command with --resume"
        ) from None
