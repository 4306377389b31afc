"""Reading what `distilset export` writes, and class folders, parquet and ``.npz`` of others."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from distilset.data.parts import Raw
from distilset.errors import DataError
from distilset.exchange.stored import Stored
from distilset.exchange.tensorfiles import check_tensor

MARK = "distilset set, version 1"
"""What a ``.pt`` file of ours says of itself under the key ``format``."""


def from_dictionary(path: Path, found: dict[Any, Any]) -> Stored:
    """Take images, labels and class names from a ``.pt`` dictionary of ours."""
    images = check_tensor(path, "images", found.get("images"))
    labels = check_tensor(path, "labels", found.get("labels"))
    names = found.get("classes")
    if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) for name in names):
        raise DataError(f"{path} is damaged: classes must be a list of names")
    return Stored(images, labels, "a .pt file of distilset", tuple(names), pixels=True)


def read_npz(path: Path) -> Stored:
    """Read an ``.npz`` of ours with its float pixels, or any that `load_data` reads."""
    from distilset.data.arrays import load_arrays
    from distilset.data.arrays import read_npz as read_arrays

    found = load_arrays(path)
    if "pixels" not in found:
        return _from_raw(read_arrays(path, None), "an .npz file")
    try:
        names = tuple(str(name) for name in found["classes"])
        labels = found["soft_labels" if "soft_labels" in found else "labels"]
        arrays = [torch.from_numpy(np.ascontiguousarray(a)) for a in (found["pixels"], labels)]
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path} is no .npz of distilset: {error}") from None
    return Stored(arrays[0], arrays[1], "an .npz of distilset", names, pixels=True)


def read_folder_of_images(path: Path) -> Stored:
    """Read class folders, or parquet files, of encoded images."""
    from distilset.data.folder import has_class_folders, read_folder
    from distilset.data.tables import find_parquet

    if path.is_dir() and has_class_folders(path):
        return _from_raw(read_folder(path, None, None), "class folders")
    if path.is_dir() and not find_parquet(path):
        raise DataError(
            f"{path} has neither class folders, parquet files, images_best.pt nor images.pt"
        )
    return _from_parquet(path)


def _from_parquet(path: Path) -> Stored:
    from distilset.data.tables import read_parquet
    from distilset.exchange.parquet import read_soft_labels

    stored = _from_raw(read_parquet(path, None, None), "parquet")
    soft = read_soft_labels(path)
    if soft is None:
        return stored
    return Stored(stored.images, soft, stored.layout, stored.names, pixels=True)


def _from_raw(raw: Raw, layout: str) -> Stored:
    notes = (f"{len(raw.skipped)} images could not be read",) if raw.skipped else ()
    images, labels = torch.from_numpy(raw.train.images), torch.from_numpy(raw.train.labels)
    return Stored(images, labels, layout, raw.classes, pixels=True, notes=notes)
