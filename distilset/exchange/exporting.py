"""One set to one format: written whole or not at all, and never over what is not ours."""

import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from distilset.errors import DataError, unknown_name
from distilset.exchange.arrays import write_npz, write_pt
from distilset.exchange.ddranking import write_ddranking
from distilset.exchange.imagefolder import write_imagefolder
from distilset.exchange.parquet import write_parquet
from distilset.files import expanded, write_atomically, write_text
from distilset.store import DistilledSet
from distilset.untrusted import MOST_JSON, parse_json, read_text

FILES = ".distilset.json"
"""In a folder of ours: the list of its files, so that another export may replace just those."""


@dataclass(frozen=True)
class Format:
    """How a format is written, and whether it is a folder; ``about`` says what it is."""

    write: Callable[[Path, DistilledSet], None]
    folder: bool
    about: str


FORMATS: Mapping[str, Format] = {
    "imagefolder": Format(write_imagefolder, True, "a folder of PNG files for each class"),
    "parquet": Format(write_parquet, True, "the hub's layout, with a data card"),
    "npz": Format(write_npz, False, "NumPy arrays: bytes, float pixels, labels, class names"),
    "pt": Format(write_pt, False, "a dictionary of tensors and text for torch.load"),
    "ddranking": Format(write_ddranking, True, "what DD-Ranking's metrics read"),
}


def write_export(
    distilled: DistilledSet, format: str, path: Path, *, overwrite: bool = False
) -> Path:
    """Write a set in a format of `FORMATS` to a file or folder: the images to train on.

    Raises:
        ConfigError: an unknown format.
        DataError: ``path`` is there and may not be replaced, or the format cannot hold the set.
    """
    if format not in FORMATS:
        raise unknown_name("format", format, FORMATS)
    chosen, path = FORMATS[format], expanded(path)
    _check_free(path, folder=chosen.folder, overwrite=overwrite)
    if not path.parent.is_dir():
        raise DataError(f"there is no folder {path.parent} to write {path.name} into")
    distilled = distilled.decoded()
    if chosen.folder:
        _write_folder(path, lambda partial: chosen.write(partial, distilled))
    else:
        write_atomically(path, lambda partial: chosen.write(partial, distilled))
    return path


def _check_free(path: Path, *, folder: bool, overwrite: bool) -> None:
    if not path.exists() or (folder and path.is_dir() and not any(path.iterdir())):
        return
    if not overwrite:
        raise DataError(f"{path} is there already; choose another, or replace it with --overwrite")
    if folder != path.is_dir():
        kind, needed = ("folder", "file") if path.is_dir() else ("file", "folder")
        raise DataError(f"{path} is a {kind} and the format needs a {needed}; choose another path")
    if folder:
        foreign = sorted(_content(path) - _listed(path))
        if foreign:
            raise DataError(
                f"{path} holds files that no export wrote ({', '.join(foreign[:3])}); they are "
                "not removed: choose another folder"
            )


def _content(folder: Path) -> set[str]:
    paths = (path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
    return {path.relative_to(folder).as_posix() for path in paths}


def _listed(folder: Path) -> set[str]:
    try:
        listed = parse_json(read_text(folder / FILES, MOST_JSON))["files"]
        return {FILES, *map(str, listed)}
    except (OSError, ValueError, KeyError, TypeError):
        return set()


def _write_folder(path: Path, write: Callable[[Path], None]) -> None:
    """Have ``write`` fill a folder beside ``path``, then put it in its place."""
    partial, old = (path.with_name(f".{path.name}.{os.getpid()}.{end}") for end in ("new", "old"))
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        write(partial)
        write_text(partial / FILES, json.dumps({"files": sorted(_content(partial))}) + "\n")
        if path.exists():
            path.rename(old)
        partial.rename(path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)
