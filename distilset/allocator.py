"""Keeping freed memory in the process, where giving it back costs more than the arithmetic.

glibc hands large freed blocks back to the system, which maps, zeroes and faults them in again at
the next step. The engine's chunks are small enough not to notice; a network with BatchNorm, whose
batch goes through whole, spends a third of its step on that, and large groups of synthetic images
some of it.
"""

import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4  # malloc.h
_KEEP = {_TRIM_THRESHOLD: 2**31 - 1, _MMAP_MAX: 0}
_USUAL = {_TRIM_THRESHOLD: 64 << 20, _MMAP_THRESHOLD: 32 << 20, _MMAP_MAX: 65536}
"""Where glibc's own adjustment ends once a program has freed large blocks."""

_LOCK = threading.Lock()
_USERS = [0]


@cache
def _glibc() -> ctypes.CDLL | None:
    try:
        library = ctypes.CDLL(None)
        library.gnu_get_libc_version  # noqa: B018 - raises where the C library is another one
        return library
    except (AttributeError, OSError, TypeError):
        return None


@contextmanager
def kept_memory() -> Iterator[bool]:
    """Keep freed memory for reuse inside the block; give it back at its end.

    Holds for the whole process, and does nothing where the C library is not glibc. Yields whether
    memory is kept. Blocks may nest and run in several threads; the last one out gives back.
    """
    library = _glibc()
    if library is None:
        yield False
        return
    with _LOCK:
        _USERS[0] += 1
        kept = [library.mallopt(option, value) for option, value in _KEEP.items()]
    try:
        yield all(kept)
    finally:
        with _LOCK:
            _USERS[0] -= 1
            if not _USERS[0]:
                for option, value in _USUAL.items():
                    library.mallopt(option, value)
                library.malloc_trim(0)
