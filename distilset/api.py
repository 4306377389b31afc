"""The facade: what ``import distilset`` offers, and what the command line calls."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any

import torch

from distilset.config import Tables, build, from_flags, load_preset, merge
from distilset.data.known import KNOWN
from distilset.data.normalise import fit_transform
from distilset.optimise import Record
from distilset.plan import check_train, versions
from distilset.rng import Rng
from distilset.selectors import get_selector
from distilset.runfolder import RunFolder
from distilset.session import open_session
from distilset.store import Card, DistilledSet, zca_digest
from distilset.types import DatasetInfo, ImageSet


def distill(
    train: ImageSet,
    *,
    method: str | None = None,
    ipc: int | None = None,
    preset: str | None = None,
    settings: Tables | None = None,
    out: str | PathLike[str] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: Callable[[Record], None] | None = None,
    **flags: Any,
) -> DistilledSet:
    """Distil a training part to ``ipc`` synthetic images per class.

    Args:
        train: the train split of `load_data`.
        method: ``atom`` (the default), ``datadam``, ``dm``, or ``package.module:Class``.
        ipc: images per class (10).
        preset: a preset's name or a TOML file.
        settings: tables of settings, e.g. ``{"method": {"power": 1.0}}``; they win over the preset.
        out: a run folder; with it the run writes checkpoints and can be resumed.
        resume: go on from the last checkpoint in ``out``, or start.
        overwrite: replace an earlier run in ``out``.
        progress: called after every step.
        flags: ``steps``, ``network``, ``norm``, ``init``, ``batch_real``, ``image_lr``, ``seed``,
            ``zca``, ``device``, ``precision``, ``threads``, ``checkpoint_every``; they win over
            everything.

    Raises:
        ConfigError: settings that are wrong or do not fit; another split than train.
        DataError: a folder that holds another run, or a damaged one.
    """
    stated = merge(
        load_preset(preset) if preset else {},
        settings or {},
        from_flags({"method": method, "ipc": ipc, **flags}),
        {"data": data_table(train.info)},
    )
    folder = None if out is None else RunFolder(Path(out), resume=resume, overwrite=overwrite)
    config = build(stated) if folder is None else folder.settle(stated)
    if folder is not None and (done := folder.finished(config.distill.steps)) is not None:
        return done
    session = open_session(config, train, folder)
    for record in session.records():
        if progress is not None:
            progress(record)
    return session.finish()


def select(
    train: ImageSet,
    selector: str = "random",
    ipc: int = 10,
    *,
    seed: int = 0,
    zca: bool = False,
) -> DistilledSet:
    """Select ``ipc`` real images per class: a coreset, in the same form as a distilled set.

    Raises:
        ConfigError: an unknown selector, or more images asked for than the smallest class has.
    """
    check_train(train)
    chosen = get_selector(selector)(train, ipc, Rng(seed).child("init"))
    transform = fit_transform(train, zca=zca)
    card = Card(
        kind="selection",
        dataset=replace(train.info, fingerprint=train.info.fingerprint or train.digest),
        classes=train.classes,
        method=selector,
        ipc=ipc,
        seed=seed,
        zca=zca_digest(transform.zca),
        image=train.spec.shape,
        rows=tuple(int(row) for row in chosen),
        versions=versions(),
    )
    labels = torch.arange(len(train.classes)).repeat_interleave(ipc)
    settings = {"data": data_table(train.info), "selection": {"selector": selector, "ipc": ipc}}
    return DistilledSet(train.images[chosen].float() / 255, labels, card, transform, settings)


def data_table(info: DatasetInfo) -> dict[str, Any]:
    """Return the settings that load a data set again."""
    known = info.name in KNOWN or info.name == "digits"
    table: Mapping[str, Any] = {
        "source": info.name if known and not Path(info.source).exists() else info.source,
        "resolution": info.resolution,
        "like": info.like,
        "val": info.val_fraction,
        "split_seed": info.split_seed,
    }
    return {key: value for key, value in table.items() if value is not None}
