"""A folder of images: ``train/<class>/*`` with ``test/`` or ``val/``, or just ``<class>/*``."""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import TypeVar

import numpy as np

from distilset.data.decode import Again, Encoded, Item, Listed, Look, decode_listed
from distilset.data.labels import check_names, natural_key
from distilset.data.parts import Progress, Raw, Size
from distilset.errors import DataError

_IMAGE_NAME = re.compile(r".*\.(png|jpe?g|jpe|jfif|bmp|gif|tiff?|webp|p[bgnp]m|jp2)", re.I | re.S)
DEEPEST = 50
"""Levels of folders inside a class folder; Python gives up at 1,000."""
_TEST_NAMES = ("test", "val", "valid", "validation")
T = TypeVar("T")
_LAYOUT = "expected <class>/<images>, or train/<class>/<images> with test/ or val/"


@dataclass(frozen=True)
class FolderSource:
    """A folder of class folders that nobody has read yet."""

    root: Path
    class_subset: tuple[int, ...] | None = None

    def look(self) -> Look:
        """Count the files that may be images, and hash their names, sizes and times of change."""
        return self._look

    def list(self) -> Listed:
        """List the images; see `list_folder`."""
        return self._listed

    @cached_property
    def _look(self) -> Look:
        train_root, test_root = _find_parts(self.root)
        train = _folders(train_root)
        if self.class_subset is not None:
            train = _choose(train, self.class_subset, train_root)
        test = {} if test_root is None else _folders(test_root)
        hasher, count = blake2b(digest_size=16), 0
        for folder in (*train.values(), *test.values()):
            count += _stamp(self.root, folder, hasher)
        return Look(hasher.hexdigest(), count)

    @cached_property
    def _listed(self) -> Listed:
        return list_folder(self.root, self.class_subset)


def _stamp(root: Path, folder: Path, hasher: blake2b) -> int:
    """Hash a folder's image files and those further down; return their number.

    Not by way of `_walk`, whose natural order takes most of the time of a million files.
    """
    count, waiting = 0, [folder]
    while waiting:
        inside = waiting.pop()
        hasher.update(os.fsencode(f"{inside.relative_to(root)}\n"))
        entries = [entry for entry in os.scandir(inside) if not entry.name.startswith(".")]
        for entry in sorted(entries, key=lambda e: e.name):
            if entry.is_dir(follow_symlinks=False):
                waiting.append(Path(entry.path))
            elif _IMAGE_NAME.fullmatch(entry.name) and _is_image_file(entry):
                broken = entry.is_symlink() and not entry.is_file()
                stat = entry.stat(follow_symlinks=not broken)
                text = f"{entry.name}\0{stat.st_size} {stat.st_mtime_ns}\n"
                hasher.update(os.fsencode(text))
                count += 1
    return count


def read_folder(
    root: Path,
    size: Size | None,
    progress: Progress | None,
    class_subset: Sequence[int] | None = None,
) -> Raw:
    """Read a folder of class folders into memory; see `list_folder` and `decode_parts`."""
    return decode_listed(list_folder(root, class_subset), size, progress)


def list_folder(root: Path, class_subset: Sequence[int] | None = None) -> Listed:
    """List a folder of class folders; images may lie deeper inside a class folder.

    Hidden files and files without an image suffix are passed over. A class folder and an image may
    be links; links to folders further down are not followed.

    Raises:
        DataError: no class folders, an empty class, a test class that train lacks, class names with
            control characters.
    """
    train_root, test_root = _find_parts(root)
    train = _list_classes(train_root)
    if not train:
        raise DataError(f"no class folders in {train_root}; {_LAYOUT}")
    if class_subset is not None:
        train = _choose(train, class_subset, train_root)
    classes = tuple(train)
    check_names(classes)
    for name, files in train.items():
        if not files:
            raise DataError(f"class {name!r} has no images in {train_root}; add some or remove it")
    parts = [_encoded(root, classes, train)]
    if test_root is not None:
        parts.append(_encoded(root, classes, _list_test(test_root, classes, class_subset)))
    return Listed(tuple(parts), classes)


def has_class_folders(root: Path) -> bool:
    """Tell whether some folder in ``root`` (or in its ``train``) holds images."""
    train_root, _ = _find_parts(root)
    return any(True for path in _folders(train_root).values() for _ in _walk(path))


def _folders(root: Path) -> dict[str, Path]:
    names = [e.name for e in os.scandir(root) if not e.name.startswith(".") and e.is_dir()]
    return {name: root / name for name in sorted(names, key=lambda n: (natural_key(n), n))}


def _find_parts(root: Path) -> tuple[Path, Path | None]:
    """Find the folders of the train and test parts; the latter may be missing."""
    folders = _folders(root)
    lower = {name.lower(): path for name, path in folders.items()}
    if "train" not in lower or not _folders(lower["train"]):
        return root, None  # a class may be called "train" as well: it has images, not folders
    found = (lower[name] for name in _TEST_NAMES if name in lower)
    return lower["train"], next(found, None)


def _list_classes(root: Path) -> dict[str, list[Path]]:
    return {name: list(_walk(path)) for name, path in _folders(root).items()}


def _walk(folder: Path, depth: int = 0) -> Iterator[Path]:
    """Yield the image files of a folder and of those inside it, in natural order."""
    if depth > DEEPEST:
        raise DataError(f"folders in {str(folder)[:100]}... lie more than {DEEPEST} deep")
    entries = [entry for entry in os.scandir(folder) if not entry.name.startswith(".")]
    for entry in sorted(entries, key=lambda e: (natural_key(e.name), e.name)):
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(Path(entry.path), depth + 1)
        elif _IMAGE_NAME.fullmatch(entry.name) and _is_image_file(entry):
            yield Path(entry.path)


def _is_image_file(entry: os.DirEntry[str]) -> bool:
    """Tell regular files (and links to them), and broken links, which count as unreadable."""
    return entry.is_file() or (entry.is_symlink() and not Path(entry.path).exists())


def _choose(found: dict[str, T], subset: Sequence[int], root: Path) -> dict[str, T]:
    names = list(found)
    if max(subset) >= len(names):
        raise DataError(
            f"class index {max(subset)} is not among the {len(names)} classes in {root}"
        )
    return {names[i]: found[names[i]] for i in subset}


def _list_test(
    root: Path, classes: tuple[str, ...], subset: Sequence[int] | None
) -> dict[str, list[Path]]:
    found = _list_classes(root)
    if not any(found.values()):
        raise DataError(f"no class folders with images in {root}; {_LAYOUT}")
    if subset is not None:
        return {name: found.get(name, []) for name in classes}
    extra = [name for name in found if name not in classes]
    if extra:
        raise DataError(
            f"class {extra[0]!r} in {root} is missing from the training part, which has "
            f"{', '.join(classes[:10])}{', ...' if len(classes) > 10 else ''}"
        )
    return found


def _encoded(root: Path, classes: tuple[str, ...], files: dict[str, list[Path]]) -> Encoded:
    counts = [len(files.get(name, [])) for name in classes]

    def items() -> Iterator[Item]:
        paths = (path for name in classes for path in files.get(name, []))
        return ((str(path.relative_to(root)), path) for path in paths)

    return Encoded(Again(items), np.repeat(np.arange(len(classes), dtype=np.int64), counts))
