"""How much memory there is: the machine's, or less where a control group says so."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

GROUPS = Path("/sys/fs/cgroup")
OWN_GROUP = Path("/proc/self/cgroup")
MEMINFO = Path("/proc/meminfo")


def memory_bytes() -> int | None:
    """Return the memory that this process may have at most; None where the system does not say.

    A container's limit counts, not only the machine's memory.
    """
    limits = [limit for limit, _ in _groups()]
    with suppress(AttributeError, OSError, ValueError):
        limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return min(limits, default=None)


def available_bytes() -> int | None:
    """Return the memory that is free or can be freed now; None where the system does not say."""
    left = [max(0, limit - used) for limit, used in _groups()]
    for line in _lines(MEMINFO):
        if line.startswith("MemAvailable:"):
            left.append(int(line.split()[1]) * 1024)
    return min(left, default=None)


def _groups() -> Iterator[tuple[int, int]]:
    """Yield limit and used bytes of every control group of memory that this process is in."""
    for line in _lines(OWN_GROUP):
        _, kinds, path = line.split(":", 2)
        if kinds and "memory" not in kinds.split(","):
            continue
        names = ("memory.limit_in_bytes", "memory.usage_in_bytes") if kinds else _UNIFIED
        base = GROUPS / "memory" if kinds else GROUPS
        inner = base / path.lstrip("/")
        for folder in (inner, *inner.parents):
            limit, used = (_number(folder / name) for name in names)
            if limit is not None and used is not None:
                yield limit, max(0, used - _forgettable(folder))
            if folder == base:
                break


_UNIFIED = ("memory.max", "memory.current")


def _forgettable(folder: Path) -> int:
    """Return the bytes of files that the group keeps in memory and would give up first."""
    for line in _lines(folder / "memory.stat"):
        name, _, value = line.partition(" ")
        if name in ("inactive_file", "total_inactive_file"):
            return int(value)
    return 0


def _number(path: Path) -> int | None:
    text = "".join(_lines(path)).strip()
    return int(text) if text.isdigit() else None  # "max" is no limit


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text("utf-8").splitlines()
    except (OSError, ValueError):
        return []
