"""Where things are kept that several runs share; what there is of them, and how it is cleared."""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from distilset.errors import unknown_name

KINDS: Mapping[str, str] = {
    "mapped": "images decoded once (data larger than memory)",
    "banks": "targets of runs with --bank",
    "experts": "networks trained for runs with --experts",
    "transforms": "whitening (ZCA) of runs",
    "fits": "which whitening the images of a data set have",
    "whole": "accuracies of networks trained on all images",
    "baselines": "accuracies of networks trained on selected images",
    "reference": "accuracies of a search's networks trained on all images",
    "hardness": "scores of the selectors forgetting and el2n",
    "locks": "files that keep two processes from one piece of work",
}
"""The kinds of things in the cache, each in a folder of its name."""


@dataclass(frozen=True)
class Entry:
    """One thing in the cache; ``about`` says what it is of, as far as it tells itself."""

    kind: str
    path: Path
    bytes: int
    about: str = ""


def cache_root() -> Path:
    """Return the folder of all: in the user's cache directory, or ``$DISTILSET_CACHE``."""
    from platformdirs import user_cache_path

    base = os.environ.get("DISTILSET_CACHE")
    return Path(base) if base else user_cache_path("distilset", appauthor=False)


def cache_folder(kind: str) -> Path:
    """Return (and make) the cache folder of one kind of thing.

    Raises:
        KeyError: a kind that is not in `KINDS`, which nobody could list or clear.
    """
    if kind not in KINDS:
        raise KeyError(f"{kind!r} is no kind of cache; add it to KINDS")
    folder = cache_root() / kind
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def canonical(facts: Mapping[str, Any]) -> bytes:
    """Write facts in the one way that a name is hashed from."""
    return json.dumps(facts, sort_keys=True).encode()


def entries(kind: str | None = None) -> list[Entry]:
    """List what the cache has, of one kind or of all.

    Raises:
        ConfigError: an unknown kind.
    """
    return [entry for one in _kinds(kind) for entry in _entries(one)]


def clear(kind: str | None = None) -> tuple[list[Entry], list[Entry]]:
    """Remove what the cache has; return what was removed, and what is in use and was left.

    A run that reads from a memory map goes on: the disk is freed when it ends.

    Raises:
        ConfigError: an unknown kind.
    """
    removed: list[Entry] = []
    used: list[Entry] = []
    for entry in entries(kind):
        (removed if _remove(entry) else used).append(entry)
    return removed, used


def _kinds(kind: str | None) -> list[str]:
    if kind is not None and kind not in KINDS:
        raise unknown_name("kind of cache", kind, KINDS)
    return [kind] if kind else list(KINDS)


def _entries(kind: str) -> Iterator[Entry]:
    folder = cache_root() / kind
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.suffix == ".lock" and kind != "locks":
            continue
        inside = list(path.rglob("*")) if path.is_dir() and not path.is_symlink() else [path]
        size = sum(
            file.lstat().st_blocks * 512 if _sparse(file) else _size(file) for file in inside
        )
        yield Entry(kind, path, size, _about(path))


def _size(path: Path) -> int:
    return path.lstat().st_size if path.is_file() else 0


def _sparse(path: Path) -> bool:
    """Tell a file that may have holes: its length says nothing about the disk."""
    return path.name.startswith("unfinished") and hasattr(path.lstat(), "st_blocks")


def _about(path: Path) -> str:
    """Return what a memory map is of."""
    for name, state in (("header.json", ""), ("unfinished.jsonl", "unfinished: ")):
        try:
            with (path / name).open(encoding="utf-8") as file:
                text = file.read() if name.endswith("json") else file.readline()
            document = json.loads(text)
            facts = document.get("header", document)["facts"]
            side = "x".join(map(str, facts["size"] or ())) or "own size"
            return f"{state}{facts['source']} ({side})"
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            continue
    return ""


def _remove(entry: Entry) -> bool:
    """Remove one thing, unless a process holds its lock; links are removed, not followed."""
    path = entry.path
    if entry.kind == "locks":
        return _unlock(path)
    lock = path.with_suffix(".lock") if entry.kind == "mapped" else path / "lock"
    if lock.exists() and not _unlock(lock):
        return False
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    return True


def _unlock(lock: Path) -> bool:
    """Remove a lock that nobody holds; tell whether that was so."""
    try:
        with FileLock(lock).acquire(timeout=0):
            lock.unlink(missing_ok=True)
    except Timeout:
        return False
    return True
