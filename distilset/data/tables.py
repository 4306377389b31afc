"""Images in Arrow tables: local parquet files and what the hub hands over are both read here."""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from distilset.data.decode import Again, Encoded, Item, Listed, Look, decode_listed
from distilset.data.labels import encode_labels
from distilset.data.parts import Progress, Raw, Size
from distilset.errors import DataError
from distilset.untrusted import check_memory, parse_json

_IMAGE_NAMES = ("image", "img", "images")
_LABEL_NAMES = ("label", "fine_label", "labels")
_TEST_NAMES = ("test", "validation", "valid", "val")
_BATCH = 64
_LABEL_BYTES = 64
"""Bytes for each row of a table before any image is decoded: labels, codes, what is kept."""
_DAMAGE = (OSError, ValueError, TypeError, LookupError, OverflowError, MemoryError)
"""What a damaged file raises beside Arrow's own errors."""


@dataclass(frozen=True)
class Columns:
    """The columns of images and labels, and the class names if the table states them."""

    image: str
    label: str
    classes: tuple[str, ...] | None


def find_columns(schema: Any, image: str | None = None, label: str | None = None) -> Columns:
    """Find the columns by the features written into the schema, else by usual names.

    Raises:
        DataError: no such columns, or several and none with a usual name.
    """
    features = _features(schema)
    kinds = {name: _kind(features.get(name), schema.field(name).type) for name in schema.names}
    image = _choose(kinds, "Image", image, _IMAGE_NAMES)
    label = _choose(kinds, "ClassLabel", label, _LABEL_NAMES)
    names = (features.get(label) or {}).get("names")
    return Columns(image, label, tuple(str(name) for name in names) if names else None)


def _features(schema: Any) -> dict[str, Any]:
    try:
        text = (schema.metadata or {})[b"huggingface"].decode()
        features = parse_json(text)["info"]["features"]
    except (KeyError, ValueError, TypeError):
        return {}
    return features if isinstance(features, dict) else {}


def _kind(feature: Any, arrow_type: Any) -> str:
    kind = feature.get("_type", "") if isinstance(feature, dict) else ""
    if kind in ("Image", "ClassLabel"):
        return kind
    text = str(arrow_type)
    if text.startswith(("binary", "large_binary")) or "bytes: binary" in text:
        return "Image"
    return ""


def _choose(kinds: dict[str, str], kind: str, given: str | None, usual: Sequence[str]) -> str:
    candidates = [name for name, k in kinds.items() if k == kind]
    if given in kinds:
        return str(given)
    for name in usual:
        if name in candidates or (name in kinds and kind == "ClassLabel"):
            return name
    if len(candidates) == 1:
        return candidates[0]
    raise DataError(
        f"{len(candidates)} columns could be the {kind}; columns are {', '.join(kinds)}; expected "
        f"one column of type {kind}, or one named {', '.join(usual)}"
    )


@dataclass(frozen=True)
class TableSource:
    """Arrow data sets of encoded images whose images nobody has read yet, and their files.

    ``made`` stands for what is not in a file of its own.
    """

    train: Any
    test: Any | None
    columns: Columns
    files: tuple[Path, ...]
    class_subset: tuple[int, ...] | None = None
    where: str = "a table"
    made: str = ""

    def look(self) -> Look:
        """Hash the files' names, sizes and times of change, and what is looked at in them."""
        hasher = blake2b(repr((self.columns, self.made)).encode(), digest_size=16)
        for path in self.files:
            stat = path.stat()
            hasher.update(os.fsencode(f"{path.resolve()}\0{stat.st_size} {stat.st_mtime_ns}\n"))
        return Look(hasher.hexdigest(), self._listed.total)

    def list(self) -> Listed:
        """List the images; see `list_tables`."""
        return self._listed

    @cached_property
    def _listed(self) -> Listed:
        return list_tables(self.train, self.test, self.columns, self.class_subset, self.where)


def list_tables(
    train: Any,
    test: Any | None,
    columns: Columns,
    class_subset: Sequence[int] | None = None,
    where: str = "a table",
) -> Listed:
    """List Arrow data sets (``pyarrow.dataset.Dataset``) of encoded images and labels.

    Raises:
        DataError: labels without a class, files that cannot be read.
    """
    sets = [train] if test is None else [train, test]
    labels = [_labels(table, columns.label, where) for table in sets]
    if len(sets) == 2 and labels[1].dtype.kind in "iu" and (labels[1] < 0).all():
        raise DataError("the test part has no labels (all are negative); give a part that has")
    classes, codes = encode_labels(labels, columns.classes)
    keep = [np.ones(len(code), dtype=bool) for code in codes]
    if class_subset is not None:
        if max(class_subset) >= len(classes):
            raise DataError(f"class {max(class_subset)} is not among the {len(classes)} classes")
        new_code = np.full(len(classes), -1, dtype=np.int64)
        new_code[list(class_subset)] = np.arange(len(class_subset))
        classes = tuple(classes[c] for c in class_subset)
        codes = [new_code[code] for code in codes]
        keep = [code >= 0 for code in codes]
    parts = [
        Encoded(Again(partial(_items, table, columns.image, mask, where)), code[mask])
        for table, code, mask in zip(sets, codes, keep, strict=True)
    ]
    return Listed(tuple(parts), classes)


def _labels(table: Any, column: str, where: str) -> np.ndarray:
    with readable(where):
        rows = table.count_rows()  # a few bytes can stand for a billion equal labels
        check_memory(f"the column of {rows:,} labels", rows * _LABEL_BYTES)
        values = table.to_table(columns=[column]).column(column)
    if values.null_count:
        raise DataError(f"{values.null_count} labels are missing in column {column!r}; fill them")
    return values.to_numpy()


def _items(table: Any, column: str, mask: np.ndarray, where: str) -> Iterator[Item]:
    row = 0
    with readable(where):
        batches = table.to_batches(
            columns=[column], batch_size=_BATCH, batch_readahead=2, fragment_readahead=1
        )
    while True:
        with readable(where):  # not around the yield: the caller's errors are not the table's
            batch = next(batches, None)
        if batch is None:
            return
        for value in batch.column(0):
            if mask[row]:
                yield f"row {row}", _image_bytes(value.as_py())
            row += 1


@contextmanager
def readable(what: str) -> Iterator[None]:
    """Turn what Arrow raises inside the block into a DataError."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, *_DAMAGE) as error:
        raise DataError(f"{what} cannot be read: {_first_line(error)}") from None


def _image_bytes(value: Any) -> bytes | None:
    if isinstance(value, dict):
        value = value.get("bytes")
    return value if isinstance(value, bytes) else None


def find_parquet(root: Path) -> list[Path]:
    """List the parquet files of a folder and of those inside it, hidden ones left out."""
    files = [
        path
        for path in root.rglob("*.parquet")
        if path.is_file()
        and not any(piece.startswith(".") for piece in path.relative_to(root).parts)
    ]
    return sorted(files)


def read_parquet(root: Path, size: Size | None, progress: Progress | None) -> Raw:
    """Read parquet files into memory; see `open_parquet` and `decode_parts`."""
    return decode_listed(open_parquet(root).list(), size, progress)


def open_parquet(
    root: Path,
    *,
    config: str | None = None,
    columns: tuple[str | None, str | None] = (None, None),
    class_subset: tuple[int, ...] | None = None,
) -> TableSource:
    """Open a folder of parquet files (or one file) laid out as on the hub.

    File or folder names that start with ``train``, ``test`` or ``valid`` decide the part; without
    any, all files are one part, and a test part is carved from it.

    Raises:
        DataError: files of several configurations, damaged files, missing columns.
    """
    import pyarrow.dataset as pads

    files = [root] if root.is_file() else find_parquet(root)
    parts = _by_part(root, files, config)
    where = f"parquet files in {root}"
    with readable(where):
        tables = [pads.dataset([str(f) for f in part], format="parquet") for part in parts]
        found = find_columns(tables[0].schema, *columns)
    test = tables[1] if len(tables) > 1 else None
    used = tuple(path for part in parts for path in part)
    return TableSource(tables[0], test, found, used, class_subset, where)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _by_part(root: Path, files: Sequence[Path], config: str | None) -> list[list[Path]]:
    """Sort files into train and, if there is one, test."""
    by_part: dict[str, list[Path]] = {}
    for path in files:
        by_part.setdefault(_part_name(root, path), []).append(path)
    test = next((name for name in _TEST_NAMES if name in by_part), None)
    names = ["train" if "train" in by_part else "", test]
    if names[0] not in by_part:
        raise DataError(
            f"parquet files in {root} have no training part; expected names that start with train"
        )
    return [_one_folder(root, by_part[name], config) for name in names if name is not None]


def _part_name(root: Path, path: Path) -> str:
    pieces = path.relative_to(root).parts if path != root else ()
    for piece in reversed(pieces):
        match = re.match(r"(train|test|validation|valid|val)(?![a-z])", piece.lower())
        if match:
            return match[1]
    return ""


def _one_folder(root: Path, files: list[Path], config: str | None) -> list[Path]:
    """Refuse to mix configurations, which lie in folders of their own."""
    folders = sorted({path.parent for path in files})
    if config is not None and len(folders) > 1:
        folders = [folder for folder in folders if config in folder.parts] or folders
    if len(folders) > 1:
        names = ", ".join(str(folder.relative_to(root)) for folder in folders[:10])
        raise DataError(
            f"{root} has parquet files of one part in several folders ({names}); give one of them"
        )
    return [path for path in files if path.parent == folders[0]]
