"""A few images of every class of a task, distilled or selected from the task's data alone."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from distilset.api import select
from distilset.config import Tables, build, merge
from distilset.data.normalise import Transform
from distilset.data.zca import zca_digest
from distilset.errors import ConfigError, unknown_name
from distilset.methods import METHODS
from distilset.plan import make_plan
from distilset.runfolder import RunFolder
from distilset.selectors import SELECTORS
from distilset.selectors.base import check_request
from distilset.session import open_session
from distilset.stated import data_table
from distilset.store import DistilledSet
from distilset.types import ImageSet

Steps = Callable[[int, int], None]
"""Called with the distillation steps done and their total."""


def check_budget(method: str, ipc: int) -> None:
    """Refuse an unknown method or selector, and a budget below one image per class.

    Raises:
        ConfigError: with what is allowed.
    """
    if method not in SELECTORS and method not in METHODS and ":" not in method:
        raise unknown_name("method or selector", method, [*METHODS, *SELECTORS])
    if ipc < 1:
        raise ConfigError(f"ipc is {ipc}, a budget below one image per class; it must be 1 or more")


def check_maker(
    method: str, train: ImageSet, ipc: int, stated: Tables, transform: Transform
) -> None:
    """Check, before anything is trained, that images of ``train`` can be remembered so.

    Raises:
        ConfigError: an unknown method, a budget below one image per class, more images than a
            class has to select from, settings that do not fit.
    """
    check_budget(method, ipc)
    if method in SELECTORS:
        check_request(train, ipc)
        return
    config = build(_tables(train, method, ipc, 0, stated))
    make_plan(config, train, transform)


def remember(
    train: ImageSet,
    method: str,
    ipc: int,
    seed: int,
    stated: Tables,
    transform: Transform,
    folder: Path | None = None,
    progress: Steps | None = None,
) -> DistilledSet:
    """Distil or select ``ipc`` images of every class of ``train``, which is all that is looked at.

    With a ``folder`` the result is kept there as a run folder; what is there already is taken, and
    a distillation that was interrupted goes on.
    """
    if method in SELECTORS:
        chosen = select(train, method, ipc, seed=seed)
        card = replace(chosen.card, zca=zca_digest(transform.zca))
        chosen = replace(chosen, transform=transform, card=card)
        if folder is not None:
            chosen.save(folder, overwrite=True)
        return chosen
    run = None if folder is None else RunFolder(folder, resume=True)
    tables = _tables(train, method, ipc, seed, stated)
    config = build(tables) if run is None else run.settle(tables)
    if run is not None and (done := run.finished(config.distill.steps)) is not None:
        return done
    session = open_session(config, train, run, transform=transform)
    session.train_experts()
    session.build_bank()
    for record in session.records():
        if progress is not None:
            progress(record.step, config.distill.steps)
    return session.finish()


def _tables(
    train: ImageSet, method: str, ipc: int, seed: int, stated: Tables
) -> dict[str, dict[str, Any]]:
    own = {"method": {"name": method}, "distill": {"ipc": ipc, "seed": seed}}
    return merge({"data": data_table(train.info)}, stated, own)
