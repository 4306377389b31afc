"""Continual learning: classes in tasks, a memory of a few images of each, a fresh network a task.

Class-incremental learning as GDumb does it (Prabhu et al., ECCV 2020) and as DM and DataDAM use it:
the memory holds ``ipc`` images of every class seen, made from the data of the class's own task, and
after each task a network is trained on the memory alone.
"""

from collections.abc import Sequence
from dataclasses import asdict
from os import PathLike
from typing import Any

from distilset.api import train_settings
from distilset.apps.curves import Curve
from distilset.apps.folder import AppFolder
from distilset.apps.remembering import check_maker
from distilset.apps.stream import check_part, task_sizes
from distilset.apps.study import Bench, Study, Watch
from distilset.config import DistillConfig, build, merge
from distilset.data.normalise import fit_transform
from distilset.errors import ConfigError
from distilset.models import pool_of, settled
from distilset.plan import check_train
from distilset.stated import data_table, from_flags
from distilset.training.step import eager
from distilset.types import ImageSet, Splits

KIND = "continual"
MAY_CHANGE = ("continual.methods", "continual.orders")
"""What may be more, or fewer, when a study is resumed: its jobs do not depend on each other."""


def make_bench(splits: Splits, study: Study, **flags: Any) -> Bench:
    """Check everything that can be checked before anything is trained.

    Raises:
        ConfigError: settings that are wrong, or do not fit the data or the machine.
        DataError: a class that is missing from the part that is scored on.
    """
    train, test = splits.train, splits.test if study.split == "test" else splits.val
    check_train(train)
    task_sizes(len(train.classes), study.tasks)
    if test is None:
        hint = "carve one out with --val F" if study.split == "val" else "none came with them"
        raise ConfigError(f"the data of {train.info.name} have no {study.split} part; {hint}")
    check_part(train, test)
    stated = merge({"distill": {"steps": DistillConfig.steps}}, from_flags(flags))
    config = build({"data": data_table(train.info)}, stated)
    transform = fit_transform(train, zca=config.data.zca)
    for method in study.methods:
        check_maker(method, train, study.ipc, stated, transform)
    network = settled(pool_of(config.network)[0], train.spec)
    engine = config.engine
    settings = train_settings(engine.device, engine.precision)
    settings = eager(settings) if engine.compile == "off" else settings
    return Bench(study, train, test, stated, transform, network, settings, engine.threads)


def open_folder(
    bench: Bench, out: str | PathLike[str], *, resume: bool = False, overwrite: bool = False
) -> AppFolder:
    """Take the folder of a study."""
    info = bench.train.info
    data = {
        "name": info.name,
        **data_table(info),
        "zca": bench.transform.zca is not None,
        "fingerprint": info.fingerprint or bench.train.digest,
    }
    settings = merge(bench.stated, {KIND: asdict(bench.study), "data": data})
    return AppFolder(out, KIND, settings, resume=resume, overwrite=overwrite, may_change=MAY_CHANGE)


def continual(
    train: ImageSet,
    test: ImageSet,
    *,
    out: str | PathLike[str],
    methods: str | Sequence[str] = ("datadam",),
    tasks: int = 5,
    ipc: int = 20,
    orders: int = 5,
    trials: int = 3,
    protocol: str = "quick",
    epochs: int | None = None,
    pixels: str = "float",
    seed: int = 0,
    resume: bool = False,
    overwrite: bool = False,
    progress: Watch | None = None,
    **flags: Any,
) -> list[Curve]:
    """Run a class-incremental study, and return each method's accuracy after every task.

    Args:
        train: the train split of `load_data`.
        test: the test or validation split of the same data.
        out: the folder for memories, rows, table and plot.
        methods: distillation methods and selectors, side by side.
        tasks: in how many tasks the classes come.
        ipc: images kept per class.
        orders: how many orders of the classes are drawn.
        trials: networks trained after each task.
        protocol: how they are trained: ``quick``, ``dm`` or ``datadam``.
        epochs: another number of epochs than the protocol's.
        pixels: ``float``, or ``png`` to train on what 8 bits hold of the images.
        seed: decides orders, memories and networks.
        resume: go on with what is in ``out``, or start.
        overwrite: replace an earlier study in ``out``.
        progress: called with what is being done, how much of it is done, and the total.
        flags: settings of the distillation as in `distilset.distill`: ``steps``, ``network`` (which
            is trained on the memory, too), ``norm``, ``init``, ``factor``, ``batch_real``,
            ``image_lr``, ``bank``, ``zca``, ``device``, ``precision``, ``compile``, ``threads``.

    Raises:
        ConfigError: settings that are wrong or do not fit, before anything is trained.
        DataError: a class missing from ``test``; a folder in use.
    """
    names = (methods,) if isinstance(methods, str) else tuple(dict.fromkeys(methods))
    study = Study(tasks, ipc, names, orders, trials, protocol, epochs, test.role, pixels, seed)
    parts = Splits(train, test) if test.role == "test" else Splits(train, None, test)
    bench = make_bench(parts, study, **flags)
    folder = open_folder(bench, out, resume=resume, overwrite=overwrite)
    return bench.run(folder, progress or (lambda what, done, total: None))
