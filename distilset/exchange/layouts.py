"""What peers' files look like: from a file or folder to images and labels as they are stored.

The layouts, by the code that writes them: DC, DSA, DM and DataDAM save a dictionary whose ``data``
lists ``[images, labels]`` of every experiment; MTT and what builds on it save images and labels in
two files; IDC and NCFM save one pair.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from distilset.errors import ConfigError, DataError
from distilset.exchange.own import MARK, from_dictionary, read_folder_of_images, read_npz
from distilset.exchange.stored import Stored
from distilset.exchange.tensorfiles import check_tensor, read_object
from distilset.files import expanded

LAYOUTS = (
    "a dictionary with data: [[images, labels], ...] (DC, DSA, DM, DataDAM), a pair [images, "
    "labels] (IDC, NCFM), images and labels in two files (MTT), or what distilset export writes"
)
_PAIRS = ("images_best.pt", "images.pt")


@dataclass(frozen=True)
class Where:
    """Which part of a file is meant: the experiment of a list, and the file of the labels."""

    index: int | None = None
    labels: Path | None = None


def read_stored(path: Path, where: Where) -> Stored:
    """Read a file or folder in any known layout.

    Raises:
        DataError: nothing there, damaged, of no known layout, or with code in it.
        ConfigError: ``where`` says what this layout has no use for, or is out of range.
    """
    path = expanded(path)
    if path.is_dir():
        images = next((path / name for name in _PAIRS if (path / name).is_file()), None)
        if images is None:
            return _no_choice(read_folder_of_images(path), where)
        return _images_alone(images, read_object(images), where)
    if path.suffix.lower() == ".npz" and path.is_file():
        return _no_choice(read_npz(path), where)
    if path.suffix.lower() == ".parquet" and path.is_file():
        return _no_choice(read_folder_of_images(path), where)
    return _from_object(path, read_object(path), where)


def _from_object(path: Path, found: Any, where: Where) -> Stored:
    if isinstance(found, Tensor):
        return _images_alone(path, found, where)
    if isinstance(found, dict) and found.get("format") == MARK:
        return _no_choice(from_dictionary(path, found), where)
    if isinstance(found, dict) and isinstance(found.get("data"), (list, tuple)):
        return _experiment(path, found["data"], where)
    if _is_pair(found):
        return _no_choice(_pair(path, found, "a pair of images and labels"), where)
    raise DataError(f"{path} has no known layout ({_describe(found)}); known are {LAYOUTS}")


def _describe(found: Any) -> str:
    if isinstance(found, dict):
        return f"a dictionary of {', '.join(str(key)[:30] for key in list(found)[:5]) or 'nothing'}"
    size = f" of {len(found)}" if isinstance(found, (list, tuple)) else ""
    return f"{type(found).__name__}{size}"


def _is_pair(found: Any) -> bool:
    return isinstance(found, (list, tuple)) and len(found) == 2 and isinstance(found[0], Tensor)


def _pair(path: Path, pair: Any, layout: str, notes: tuple[str, ...] = ()) -> Stored:
    images, labels = (
        check_tensor(path, what, value)
        for what, value in zip(("images", "labels"), pair, strict=True)
    )
    return Stored(images, labels, layout, notes=notes)


def _experiment(path: Path, experiments: Sequence[Any], where: Where) -> Stored:
    _refuse_labels(where)
    count, index = len(experiments), where.index or 0
    if not 0 <= index < count:
        raise ConfigError(
            f"--index must lie in 0..{count - 1} for the {count} experiments of {path}; got {index}"
        )
    chosen: Any = experiments[index]
    if not _is_pair(chosen):
        kind = _describe(chosen)
        raise DataError(f"experiment {index} of {path} must be [images, labels]; got {kind}")
    several = (f"experiment {index} of {count} in the file",) if count > 1 else ()
    return _pair(path, chosen, "a list of experiments", several)


def _images_alone(path: Path, images: Any, where: Where) -> Stored:
    _refuse_index(where)
    labels = where.labels or path.with_name(path.name.replace("images", "labels", 1))
    if labels == path or not labels.is_file():
        missing = "" if labels == path else f" and there is no {labels}"
        raise DataError(f"{path} has images alone{missing}; name the file of the labels (--labels)")
    found = (images, read_object(labels))
    return _pair(path, found, "images and labels in two files", (f"labels from {labels.name}",))


def _no_choice(stored: Stored, where: Where) -> Stored:
    _refuse_labels(where)
    _refuse_index(where)
    return stored


def _refuse_labels(where: Where) -> None:
    if where.labels is not None:
        raise ConfigError("--labels is for a file of images alone; this one has its own labels")


def _refuse_index(where: Where) -> None:
    if where.index is not None:
        raise ConfigError("--index is for a file that lists experiments; this one holds one set")
