"""Data larger than memory: decoded once to a file of the cache, and opened from there in seconds.

The file has the bytes of every image, sorted by part and class, and is mapped into memory: the
system reads what is looked at, keeps it while there is room, and gives it up for others. It is
named by all that decides the pixels; a header beside it has what would need a pass over them.
"""

import mmap
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path

import numpy as np
import PIL
import torch
from filelock import FileLock, Timeout
from jaxtyping import UInt8
from torch import Tensor

from distilset.cache import cache_folder, canonical
from distilset.data.assemble import splits_of, statistics
from distilset.data.blocks import common_size
from distilset.data.decode import Source
from distilset.data.header import PIXELS, Header, read_header
from distilset.data.known import KnownDataset
from distilset.data.making import Making, Note, gigabytes
from distilset.data.parts import Progress, Size
from distilset.memory import memory_bytes
from distilset.types import DatasetInfo, ImageSet, Role, Splits

KIND = "mapped"
SHARE, MOST = 1 / 8, 2 << 30
"""Images above this share of the machine's memory, or above so many bytes, are mapped."""

VERSION = 1
_NORESERVE = 0x4000  # Linux's MAP_NORESERVE on x86, ARM and RISC-V; Python has no name for it yet


def limit_bytes() -> int:
    """Return the bytes of decoded images above which they are mapped by rule."""
    memory = memory_bytes()
    return MOST if memory is None else min(MOST, int(SHARE * memory))


def too_large(source: Source, size: Size | None) -> bool:
    """Tell whether a source's images are to be mapped by rule: by their number and size alone."""
    if size is not None:
        return 3 * size[0] * size[1] * source.look().images > limit_bytes()
    listed = source.list()
    common, _ = common_size(listed.parts, None)
    return common is not None and 3 * common[0] * common[1] * listed.total > limit_bytes()


def mapped_splits(
    source: Source,
    info: DatasetInfo,
    like: KnownDataset | None,
    size: Size | None,
    progress: Progress | None,
    note: Note,
) -> Splits:
    """Open the memory map of a source, made now if it is not in the cache.

    Of several processes one makes it, and the others wait. The images, their order and the hashes
    are those of the same data in memory.

    Raises:
        DataError: what decoding in memory raises; too little disk.
        ConfigError: nothing to carve a validation part from.
    """
    facts = _facts(source, info, size)
    folder = cache_folder(KIND) / blake2b(canonical(facts), digest_size=16).hexdigest()
    header = _header(folder, facts)
    if header and isinstance(header, str):
        note(f"the memory map in {folder} cannot be used, {header}; it is made anew")
    if isinstance(header, str):
        with _alone(folder, note):
            header = _header(folder, facts)
            if isinstance(header, str):
                header = Making(folder, source.list(), info, size, facts).run(progress, note)
                _drop_stale(folder, facts, note)
    return _open(folder, header, info, like)


def _facts(source: Source, info: DatasetInfo, size: Size | None) -> dict[str, object]:
    """Return all that decides a map's content."""
    return {
        "version": VERSION,
        "source": info.source,
        "files": source.look().stamp,
        "subset": None if source.class_subset is None else list(source.class_subset),
        "size": None if size is None else list(size),
        "val": info.val_fraction,
        "split_seed": info.split_seed,
        "pillow": PIL.__version__,
    }


def _header(folder: Path, facts: dict[str, object]) -> Header | str:
    """Return the header of the map of these data, else why there is none."""
    header = read_header(folder)
    if isinstance(header, str) or header.facts == facts:
        return header
    return "its header is of other data"


@contextmanager
def _alone(folder: Path, note: Note) -> Iterator[None]:
    lock = FileLock(folder.with_suffix(".lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        note("another process is making the memory map of these data; waiting for it")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _open(folder: Path, header: Header, info: DatasetInfo, like: KnownDataset | None) -> Splits:
    mean, std = statistics(like, header.shape[0], lambda: (header.mean, header.std))
    info = replace(
        info,
        mean=mean,
        std=std,
        test_part=header.test_part,
        skipped_count=header.skipped_count,
        skipped=header.skipped,
    )
    pixels = open_pixels(folder / PIXELS, header.shape)
    sets: dict[Role, ImageSet] = {}
    first = 0
    for role, offsets in header.offsets.items():
        images = pixels[first : first + offsets[-1]]
        made = ImageSet(images, offsets, header.classes, role, info, mapped=True)
        sets[role] = made.knowing(header.digests[role])
        first += offsets[-1]
    return splits_of(sets)


def open_pixels(path: Path, shape: tuple[int, int, int]) -> UInt8[Tensor, "n c h w"]:
    """Map a file of images into memory, as a tensor like any other.

    What somebody writes into it stays in this process. Linux refuses to map more than its memory
    in this way (it might all be written to) unless it is told to reserve none, which PyTorch's and
    NumPy's own maps do not; a read-only map would end the process at the first write.
    """
    if sys.platform != "linux":
        return torch.from_numpy(np.memmap(path, np.uint8, "c").reshape(-1, *shape))
    with path.open("rb") as file:
        flags, both = mmap.MAP_PRIVATE | _NORESERVE, mmap.PROT_READ | mmap.PROT_WRITE
        buffer = mmap.mmap(file.fileno(), 0, flags=flags, prot=both)
    return torch.frombuffer(buffer, dtype=torch.uint8).view(-1, *shape)


def _drop_stale(folder: Path, facts: dict[str, object], note: Note) -> None:
    """Remove maps of what this source was before its files changed: nobody can find them again."""
    for other in folder.parent.iterdir():
        header = read_header(other) if other != folder and other.is_dir() else ""
        if isinstance(header, str) or header.facts | {"files": facts["files"]} != facts:
            continue
        note(f"removed the memory map of these data as they were, {gigabytes(header.bytes)}")
        shutil.rmtree(other)
        other.with_suffix(".lock").unlink(missing_ok=True)
