"""Runs in folders: start, go on, finish. What is on disk is whole at every moment."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import torch

from distilset.allocator import kept_memory
from distilset.card import additions
from distilset.checkpoint import load_checkpoint
from distilset.data.zca import zca_digest
from distilset.descent import Descent, Interrupted
from distilset.errors import ConfigError, DataError
from distilset.guard import Progress
from distilset.hardware import threads
from distilset.initial import initial_images
from distilset.models import pool_of
from distilset.optimise import MOMENTS, Record, State
from distilset.parallel import group
from distilset.placing import placed
from distilset.plan import Plan, versions
from distilset.store import Card, DistilledSet, read_settings

__all__ = ["Interrupted", "Progress", "begin", "carry_out", "finish", "resume"]


def begin(plan: Plan) -> Progress:
    """Make the state before the first step."""
    return placed(plan, _first(plan) if group.leads() else None)


def _first(plan: Plan) -> Progress:
    config, task = plan.config.distill, plan.task
    transform = task.transform.to("cpu")
    images = initial_images(config.init, task.train, transform, task.ipc, task.rng, task.factor)
    return Progress(State(images))


def check_provenance(run: Path, plan: Plan) -> list[str]:
    """Refuse to resume on other data; return a sentence if other versions compute now."""
    recorded, now = read_settings(run).get("made", {}), plan.settings["made"]
    if recorded.get("fingerprint") != now["fingerprint"]:
        raise DataError(
            f"the run at {run} was made from other data (fingerprint "
            f"{recorded.get('fingerprint')}); these have {now['fingerprint']}"
        )
    changed = [name for name in now if recorded.get(name) != now[name]]
    told = ", ".join(f"{name} {recorded.get(name)} -> {now[name]}" for name in changed)
    return [f"resumed with other versions, bits may differ: {told}"] if changed else []


def resume(run: Path, plan: Plan) -> Progress:
    """Load the newest good checkpoint, or begin where there is none.

    Raises:
        ConfigError: if the run is further already than the steps asked for.
        DataError: if the data are not the run's, or every checkpoint is damaged.
    """
    return placed(plan, _resumed(run, plan) if group.leads() else None)


def _resumed(run: Path, plan: Plan) -> Progress:
    noticed = check_provenance(run, plan)
    found = load_checkpoint(run)
    if found is None:
        return _first(plan)
    progress, problems = found
    state = progress.state
    expected = (plan.task.classes * plan.task.ipc, *plan.task.train.spec.shape)
    if tuple(state.images.shape) != expected:
        raise DataError(
            f"the checkpoint in {run} has images {tuple(state.images.shape)}; "
            f"the settings say {expected}"
        )
    optimizer = plan.config.distill.optimizer
    if state.moments and set(state.moments) != set(MOMENTS[optimizer]):
        raise DataError(
            f"the checkpoint in {run} has the moments {', '.join(state.moments)}; "
            f"the settings say {optimizer}, which has {', '.join(MOMENTS[optimizer])}"
        )
    steps = plan.config.distill.steps
    if state.step > steps:
        raise ConfigError(
            f"the run at {run} has done {state.step} steps already and can only be lengthened; "
            f"got --steps {steps}"
        )
    progress.note(*noticed, *problems)
    return progress


def carry_out(
    plan: Plan,
    run: Path | None,
    progress: Progress,
    stop: Callable[[], bool] = lambda: False,
    replanned: Callable[[Plan], Plan] = lambda plan: plan,
) -> Iterator[Record]:
    """Descend to the last step; see `Descent`.

    Raises:
        Interrupted: after the state was saved, if ``stop`` said so before the last step.
        ConfigError: if numbers stay bad, or memory short, after all that can be done.
    """
    number, descent = plan.config.engine.threads, Descent(plan, run, progress, replanned)
    del plan  # one with a smaller chunk may take its place, and its memory
    with threads(number), kept_memory():
        yield from descent.records(stop)


def finish(plan: Plan, progress: Progress) -> DistilledSet:
    """Turn the last state into a distilled set: pixels are made only here."""
    config, task = plan.config, plan.task
    transform = task.transform.to("cpu")
    images = progress.state.images.cpu()
    if task.share is not None:
        images = group.whole(images, task.share, task.ipc)
    pixels = transform.invert(images)
    if not torch.isfinite(pixels).all():
        raise DataError(
            "the images became infinite or not a number; take a smaller distill.image_lr"
        )
    labels = torch.arange(task.classes).repeat_interleave(task.ipc)
    info = task.train.info
    info = replace(info, fingerprint=info.fingerprint or task.train.digest)
    card = Card(
        kind="distilled",
        dataset=info,
        classes=task.train.classes,
        method=config.method_name,
        ipc=task.ipc,
        factor=task.factor,
        seed=config.distill.seed,
        steps=progress.state.step,
        network=",".join(one.name for one in pool_of(config.network)),
        norm=config.network.norm,
        zca=zca_digest(transform.zca),
        image=task.train.spec.shape,
        device=config.engine.device,
        precision=config.engine.precision,
        seconds=round(progress.seconds, 3),
        notes=(*_added(plan), *plan.method.notes, *progress.notes),
        versions=versions(),
    )
    return DistilledSet(pixels, labels, card, transform, plan.settings)


def _added(plan: Plan) -> list[str]:
    """Say what the run adds to its method as published."""
    found = additions(plan.settings)
    return [f"beyond the papers: {', '.join(found)}"] if found else []
