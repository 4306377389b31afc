"""Sets from files and to files: what `distilset.import_set` and `export_set` are."""

from dataclasses import replace
from os import PathLike
from pathlib import Path

from distilset.card import Card
from distilset.exchange.exporting import write_export
from distilset.exchange.importing import Imported, read_set
from distilset.exchange.layouts import Where
from distilset.plan import check_train, versions
from distilset.stated import data_table
from distilset.store import DistilledSet, zca_digest
from distilset.types import ImageSet


def import_set(
    path: str | PathLike[str],
    train: ImageSet,
    *,
    zca: bool = False,
    space: str = "auto",
    index: int | None = None,
    labels: str | PathLike[str] | None = None,
    factor: int = 1,
    softmax: bool = False,
    method: str = "imported",
) -> DistilledSet:
    """Read a set that other code distilled, or an export of ours; nothing in it is run.

    Args:
        path: a file or folder in a layout of DC, DSA, DM, DataDAM, MTT, IDC or NCFM, class folders,
            parquet, or what `export_set` writes.
        train: the training part of the data it was made from: its classes, mean and std apply.
        zca: the set belongs to whitened data; ZCA is fitted on ``train``.
        space: ``pixels``, ``normalised`` or ``whitened``; ``auto`` tells by the range of values.
        index: which experiment of a file that lists several [0].
        labels: the file of the labels of a file of images alone.
        factor: every image holds ``factor`` x ``factor`` training images (IDC).
        softmax: the labels are scores; make them probabilities.
        method: the name that tables show.

    Raises:
        DataError: a file that is missing, damaged, unsafe, of no known layout, or unfit.
        ConfigError: settings that do not fit the file or each other.
    """
    check_train(train)
    found = read_set(
        Path(path),
        train,
        zca=zca,
        space=space,
        where=Where(index, None if labels is None else Path(labels)),
        factor=factor,
        softmax=softmax,
    )
    imported = {"file": Path(path).name, "layout": found.layout, "space": found.space}
    settings = {"data": data_table(train.info) | {"zca": zca}, "imported": imported}
    card = _imported_card(found, train, method, factor)
    return DistilledSet(found.pixels, found.labels, card, found.transform, settings)


def _imported_card(found: Imported, train: ImageSet, method: str, factor: int) -> Card:
    return Card(
        kind="distilled",
        dataset=replace(train.info, fingerprint=train.info.fingerprint or train.digest),
        classes=train.classes,
        method=method,
        ipc=found.ipc,
        factor=factor,
        seed=0,
        zca=zca_digest(found.transform.zca),
        image=train.spec.shape,
        notes=found.notes,
        versions=versions(),
    )


def export_set(
    distilled: DistilledSet,
    format: str,
    path: str | PathLike[str],
    *,
    overwrite: bool = False,
) -> Path:
    """Write a set as ``imagefolder``, ``parquet``, ``npz``, ``pt`` or ``ddranking``.

    With a factor it is the images to train on that are written; see `DistilledSet.decoded`.

    Raises:
        ConfigError: an unknown format.
        DataError: ``path`` is there already, or the format cannot hold the set.
    """
    return write_export(distilled, format, Path(path), overwrite=overwrite)
