"""The facade: what ``import distilset`` offers, and what the command line calls."""

from collections.abc import Callable
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any

import torch

from distilset.compilation import has_cpp_compiler
from distilset.config import Tables, build, merge
from distilset.data.normalise import fit_transform
from distilset.data.zca import zca_digest
from distilset.errors import ConfigError
from distilset.evaluation.book import Book
from distilset.evaluation.cells import Bench, Cell
from distilset.evaluation.judge import Trainers
from distilset.evaluation.matrix import Entry, Request, check_fit
from distilset.evaluation.score import Score
from distilset.hardware import resolve_device, resolve_precision
from distilset.hardware import threads as limit_threads
from distilset.live import check_tensorboard
from distilset.models import network_config, network_table
from distilset.optimise import Record
from distilset.parallel import group
from distilset.plan import check_train, versions
from distilset.rng import Rng
from distilset.runfolder import RunFolder
from distilset.selectors import Features, Selector, get_selector
from distilset.selectors.base import check_rows, selector_name
from distilset.selectors.features import network_features
from distilset.session import open_session
from distilset.stated import data_table, from_flags, load_preset
from distilset.store import Card, DistilledSet
from distilset.trained import TrainedNetwork, fit_network
from distilset.training.step import Precision, TrainSettings
from distilset.types import ImageSet, Splits

_TRAINERS = Trainers()
"""Networks built and compiled by earlier calls, to be used again."""


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
    tensorboard: bool = False,
    **flags: Any,
) -> DistilledSet:
    """Distil a training part to ``ipc`` synthetic images per class.

    In a script that torchrun has started in several processes each works on some of the classes;
    all return the set, and rank 0 writes and calls ``progress``.

    Args:
        train: the train split of `load_data`.
        method: ``atom`` (the default), ``datadam``, ``dm``, ``frepo``, ``mtt``, or
            ``package.module:Class``.
        ipc: images per class (10).
        preset: a preset's name or a TOML file.
        settings: tables of settings, e.g. ``{"method": {"power": 1.0}}``; they win over the preset.
        out: a run folder; with it the run writes checkpoints and can be resumed.
        resume: go on from the last checkpoint in ``out``, or start.
        overwrite: replace an earlier run in ``out``.
        progress: called after every step.
        tensorboard: write losses and images into ``out``'s folder ``tensorboard``.
        flags: ``steps``, ``network``, ``norm``, ``init``, ``factor``, ``batch_real``, ``image_lr``,
            ``optimizer``, ``schedule``, ``seed``, ``bank``, ``bank_workers``, ``experts``, ``zca``,
            ``device``, ``precision``, ``threads``, ``checkpoint_every``; they win over everything.

    Raises:
        ConfigError: settings that are wrong or do not fit; another split than train.
        DataError: a folder that holds another run, or a damaged one.
    """
    group.start()
    check_train(train)
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
    if tensorboard:
        check_tensorboard(folder)
    session = open_session(config, train, folder)
    session.tensorboard = tensorboard
    session.train_experts()
    session.build_bank()
    for record in session.records():
        if progress is not None and group.leads():
            progress(record)
    return session.finish()


def select(
    train: ImageSet,
    selector: str | Selector = "random",
    ipc: int = 10,
    *,
    seed: int = 0,
    zca: bool = False,
    features: str | Features | None = None,
) -> DistilledSet:
    """Select ``ipc`` real images per class: a coreset, in the same form as a distilled set.

    ``selector`` is a name, or any function of ``(train, ipc, rng, features)`` that returns rows of
    ``train``, class by class (see `Selector`). A run starts from what it picked with
    ``distill(init=...)``, given the folder in which the selection was saved.

    ``features`` says in which vectors distances are measured: flattened normalised pixels without
    it, else the last features of a network with drawn weights (``"convnet"``), or a function from
    bytes ``[n, C, H, W]`` to ``[n, d]``.

    Raises:
        ConfigError: an unknown selector; more images asked for than the smallest class has; a
            function that returns other rows than asked for.
    """
    check_train(train)
    rng = Rng(seed).child("init")
    named = features if isinstance(features, str) else None
    if isinstance(features, str):
        features = network_features(network_config(network_table(features)), train, rng)
    name = selector if isinstance(selector, str) else selector_name(selector)
    pick = get_selector(selector) if isinstance(selector, str) else selector
    chosen = check_rows(name, pick(train, ipc, rng, features), train, ipc)
    transform = fit_transform(train, zca=zca)
    card = Card(
        kind="selection",
        dataset=replace(train.info, fingerprint=train.info.fingerprint or train.digest),
        classes=train.classes,
        method=name,
        ipc=ipc,
        seed=seed,
        zca=zca_digest(transform.zca),
        image=train.spec.shape,
        rows=tuple(int(row) for row in chosen),
        versions=versions(),
    )
    labels = torch.arange(len(train.classes)).repeat_interleave(ipc)
    selection: dict[str, Any] = {"selector": name, "ipc": ipc, "seed": seed}
    if named is not None:
        selection["features"] = named
    settings = {"data": data_table(train.info), "selection": selection}
    return DistilledSet(train.images[chosen].float() / 255, labels, card, transform, settings)


def evaluate(
    distilled: DistilledSet,
    test: ImageSet,
    *,
    network: str | None = None,
    norm: str | None = None,
    protocol: str = "dm",
    epochs: int | None = None,
    trials: int = 5,
    seed: int = 0,
    device: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
    together: int | None = None,
    augment: str = "protocol",
    labels: str = "own",
    pixels: str = "float",
) -> Score:
    """Train fresh networks on a distilled set, score each once on ``test``, and return the row.

    Args:
        distilled: a `DistilledSet`, from `distill`, `select` or a run folder.
        test: the test or validation part of the same data.
        network: a network's name, with options if wanted (``convnet:width=64``); None is the one
            it was distilled with.
        norm: none, batch, layer, instance or group; None is the set's own.
        protocol: ``dm``, ``datadam`` or ``quick``.
        epochs: another number of epochs than the protocol's.
        trials: how many networks.
        seed: decides weights, shuffling and augmentation.
        device: ``auto``, ``cpu``, ``cuda`` ...
        precision: ``auto``, ``bf16`` or ``fp32``.
        threads: CPU threads; None is as many as PyTorch takes.
        together: how many networks are trained at once, at most; None is one on a CPU, and on a
            GPU as many as its memory allows. A network comes out the same but for rounding.
        augment: ``protocol``, ``on`` or ``off``.
        labels: ``own``, or ``hard`` for the most probable class of soft labels.
        pixels: ``float``, or ``png`` for the images as their 8-bit export has them.

    Raises:
        ConfigError: an unknown name; a training part as ``test``; ``both``, which is two rows.
        DataError: a ``test`` that does not fit the set.
    """
    request = Request(
        networks=() if network is None else (network_table(network),),
        norm=norm,
        protocols=(protocol,),
        epochs=epochs,
        trials=trials,
        seed=seed,
        settings=train_settings(device, precision, together),
        augment=augment,
        labels=labels,
        pixels=pixels,
    )
    if len(request.variants) > 1:
        raise ConfigError("evaluate gives one row; call it twice instead of asking for both")
    check_fit("the distilled set", distilled, test)
    chosen = request.networks_of(distilled)[0]
    splits = Splits(test, test, test)
    entry = Entry(f"{distilled.card.label} (in memory)", distilled, splits)
    with limit_threads(threads):
        named = request.protocol(protocol)
        cell = Cell(entry, chosen, named, request.variants[0].settled(distilled, named))
        return Bench(request, _TRAINERS, Book()).score(cell)[0]


def train_network(
    distilled: DistilledSet,
    *,
    network: str | None = None,
    norm: str | None = None,
    protocol: str = "dm",
    epochs: int | None = None,
    seed: int = 0,
    device: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> TrainedNetwork:
    """Train one network on a distilled set, to be used: see `TrainedNetwork`.

    The settings are those of `evaluate`; with the same seed it is the network that is scored there
    as the first. ``progress`` is called with the updates done and their total.

    Raises:
        ConfigError: an unknown name.
        DataError: the training diverged.
    """
    request = Request(
        networks=() if network is None else (network_table(network),),
        norm=norm,
        protocols=(protocol,),
        epochs=epochs,
        seed=seed,
        settings=train_settings(device, precision),
    )
    with limit_threads(threads):
        return fit_network(
            distilled,
            request.networks_of(distilled)[0],
            request.protocol(protocol),
            seed=seed,
            settings=request.settings,
            progress=progress,
        )


def train_settings(
    device: str = "auto", precision: str = "auto", together: int | None = None
) -> TrainSettings:
    """Resolve how networks are trained here."""
    device = resolve_device(device)
    chosen, _ = resolve_precision(precision, device)
    reduced: Precision = "bf16" if chosen == "bf16" else "fp32"
    return TrainSettings(device, reduced, has_cpp_compiler(), together)
