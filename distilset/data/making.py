"""The making of a memory map: decode, put in order, read once for what is to be known."""

import errno
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int64

from distilset.data.arrange import Arrangement, arrange
from distilset.data.blocks import common_size, decode_blocks
from distilset.data.decode import Item, Listed, check_share, unreadable
from distilset.data.header import HEADER, PIXELS, Header, write_header
from distilset.data.labels import check_names
from distilset.data.normalise import count_values, statistics_of
from distilset.data.parts import Progress, Size
from distilset.data.worklog import Worklog
from distilset.errors import DataError
from distilset.files import sync
from distilset.types import DatasetInfo, Role, content_hasher

Note = Callable[[str], None]
"""Called with a sentence that is worth telling."""

_CHUNK = 2048


@dataclass
class Making:
    """The making of one map in its folder; ``facts`` are what its name is made of."""

    folder: Path
    listed: Listed
    info: DatasetInfo
    size: Size | None
    facts: dict[str, object]

    def run(self, progress: Progress | None, note: Note) -> Header:
        """Decode what is not decoded yet, put it in order, and write the header.

        Raises:
            DataError: what decoding in memory raises; too little disk.
            ConfigError: nothing to carve a validation part from.
        """
        listed, total = self.listed, self.listed.total
        check_names(listed.classes)
        planned = self._arranged(np.ones(total, dtype=bool))
        common, first = common_size(listed.parts, self.size)
        if common is None:
            raise unreadable([name for name, _ in self._items()], total)
        shape = (3, *((32, 32) if common == (28, 28) else common))
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / HEADER).unlink(missing_ok=True)
        (self.folder / PIXELS).unlink(missing_ok=True)
        place = np.empty(total, dtype=np.int64)
        place[planned.order] = np.arange(total)
        log = Worklog(self.folder, place, shape, self.facts)
        self._announce(log, note)
        with self._enough_disk(log.bytes):
            self._decode(log, (common, first), progress)
            final = self._settle(log, planned)
        return self._header(log, final)

    def _items(self) -> Iterator[Item]:
        return chain.from_iterable(part.items for part in self.listed.parts)

    def _arranged(self, keep: Bool[np.ndarray, " n"]) -> Arrangement:
        labels = [part.labels for part in self.listed.parts]
        return arrange(labels, keep, self.listed.classes, self.info)

    def _announce(self, log: Worklog, note: Note) -> None:
        there = log.done * int(np.prod(log.shape))
        self._check_disk(log.bytes - there)
        kept = f", of which {log.done} are decoded already" if log.done else ""
        note(
            f"{self.listed.total} images are decoded once{kept}, to {gigabytes(log.bytes)} in "
            f"{self.folder} (distilset cache lists and clears it)"
        )

    def _check_disk(self, needed: int) -> None:
        free = shutil.disk_usage(self.folder).free
        if needed > free:
            raise DataError(_too_little(self.folder, needed, free))

    @contextmanager
    def _enough_disk(self, needed: int) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            free = shutil.disk_usage(self.folder).free
            raise DataError(_too_little(self.folder, needed, free)) from None

    def _decode(self, log: Worklog, common: tuple[Size, str], progress: Progress | None) -> None:
        total = self.listed.total
        for block in decode_blocks(self._items(), self.size, common, set(log.noted)):
            log.add(block)
            if progress is not None:
                progress(log.done, total)
        check_share(tuple(log.failed.values()), total)

    def _settle(self, log: Worklog, planned: Arrangement) -> Arrangement:
        """Give the pixels their final places: others than planned only if some are unreadable."""
        keep = np.ones(len(log.place), dtype=bool)
        keep[list(log.failed)] = False
        final, path = self._arranged(keep), self.folder / PIXELS
        log.complete()
        if log.channels == 3 and np.array_equal(final.order, planned.order):
            log.path.replace(path)
        else:
            self._check_disk(len(final.order) * log.channels * int(np.prod(log.shape[1:])))
            partial = path.with_suffix(".partial")
            _copy(log, final.order, partial)
            partial.replace(path)
        sync(path)
        sync(self.folder)
        return final

    def _header(self, log: Worklog, final: Arrangement) -> Header:
        shape = (log.channels, log.shape[1], log.shape[2])
        digests, counts = _read_once(self.folder / PIXELS, shape, self.listed.classes, final)
        mean, std = statistics_of(counts)
        official = "carved" if final.carved else "none"
        header = Header(
            facts=self.facts,
            shape=shape,
            classes=self.listed.classes,
            offsets=final.offsets,
            digests=digests,
            mean=mean,
            std=std,
            test_part="official" if len(self.listed.parts) > 1 else official,
            skipped_count=len(log.failed),
            skipped=tuple(log.failed.values())[:10],
        )
        write_header(self.folder, header)
        log.remove()
        return header


def _too_little(folder: Path, needed: int, free: int) -> str:
    return (
        f"the memory map of these data needs {gigabytes(needed)} more in {folder}, where "
        f"{gigabytes(free)} are free; free some, let DISTILSET_CACHE name a folder of a larger "
        "disk, take a smaller resolution, or keep the data in memory (--no-mapped)"
    )


def gigabytes(count: int) -> str:
    """Write a number of bytes as GB or MB."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def _copy(log: Worklog, order: Int64[np.ndarray, " n"], path: Path) -> None:
    """Write the images in another order, or with one channel."""
    source = np.memmap(log.path, np.uint8, "r", shape=(len(log.place), *log.shape))
    with path.open("wb") as file:
        for start in range(0, len(order), _CHUNK):
            images = source[log.place[order[start : start + _CHUNK]], : log.channels]
            file.write(np.ascontiguousarray(images).data)


def _read_once(
    path: Path, shape: tuple[int, int, int], classes: tuple[str, ...], final: Arrangement
) -> tuple[dict[Role, str], Int64[np.ndarray, "C 256"]]:
    """Read all pixels once; return the digest of every part and the counts of train's values.

    By reading and not by mapping the file, so that this process never seems to hold it all.
    """
    digests: dict[Role, str] = {}
    counts = np.zeros((shape[0], 256), dtype=np.int64)
    size = int(np.prod(shape))
    with path.open("rb") as file:
        for role, offsets in final.offsets.items():
            hasher = content_hasher(shape, offsets, classes)
            for start in range(0, offsets[-1], _CHUNK):
                number = min(_CHUNK, offsets[-1] - start)
                chunk = np.frombuffer(file.read(number * size), np.uint8).reshape(number, *shape)
                hasher.update(chunk.data)
                counts += count_values(chunk) if role == "train" else 0
            digests[role] = hasher.hexdigest()
    return digests, counts
