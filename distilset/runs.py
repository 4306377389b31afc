"""Runs in folders: start, go on, finish. What is on disk is whole at every moment."""

import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from distilset.allocator import kept_memory
from distilset.checkpoint import load_checkpoint, save_checkpoint
from distilset.data.zca import zca_digest
from distilset.errors import ConfigError, DataError
from distilset.files import write_text
from distilset.hardware import threads
from distilset.initial import initial_images
from distilset.models import pool_of
from distilset.optimise import Record, State, descend
from distilset.parallel import group
from distilset.parallel.running import Losses, Together
from distilset.plan import Plan, versions
from distilset.store import METRICS, Card, DistilledSet, read_settings
from distilset.untrusted import json_lines

FLUSH_EVERY = 10


class Interrupted(Exception):
    """The run was asked to stop; its state is saved at ``step`` and can be resumed."""

    def __init__(self, step: int, steps: int) -> None:
        super().__init__(f"stopped after step {step} of {steps}")
        self.step = step


@dataclass
class Progress:
    """Where a run stands: the state, the seconds spent on it in all sessions, what was noticed."""

    state: State
    seconds: float = 0.0
    notes: tuple[str, ...] = ()


def begin(plan: Plan) -> Progress:
    """Make the state before the first step."""
    return spread(plan, _first(plan) if group.leads() else None)


def _first(plan: Plan) -> Progress:
    config, task = plan.config.distill, plan.task
    transform = task.transform.to("cpu")
    images = initial_images(config.init, task.train, transform, task.ipc, task.rng)
    return Progress(State(images))


def spread(plan: Plan, found: Progress | None) -> Progress:
    """Put where a run stands on its device; of several processes, rank 0 has read or made it."""
    if plan.task.share is not None:
        found = group.lead(lambda: found)
    assert found is not None, "rank 0 makes the first state"
    state = found.state
    own = plan.start(state.images, state.momentum)
    return replace(found, state=replace(state, images=own.images, momentum=own.momentum))


def gathered(plan: Plan, state: State) -> State | None:
    """Return the state of all classes; None in a process that does not write."""
    share, ipc = plan.task.share, plan.task.ipc
    if share is None:
        return state
    images = group.gathered(state.images, share, ipc)
    momentum = state.momentum
    momentum = None if momentum is None else group.gathered(momentum, share, ipc)
    return None if images is None else replace(state, images=images, momentum=momentum)


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
    return spread(plan, _resumed(run, plan) if group.leads() else None)


def _resumed(run: Path, plan: Plan) -> Progress:
    noticed = check_provenance(run, plan)
    found = load_checkpoint(run)
    if found is None:
        return _first(plan)
    state, seconds, problems = found
    expected = (plan.task.classes * plan.task.ipc, *plan.task.train.spec.shape)
    if tuple(state.images.shape) != expected:
        raise DataError(
            f"the checkpoint in {run} has images {tuple(state.images.shape)}; "
            f"the settings say {expected}"
        )
    steps = plan.config.distill.steps
    if state.step > steps:
        raise ConfigError(
            f"the run at {run} has done {state.step} steps already and can only be lengthened; "
            f"got --steps {steps}"
        )
    return Progress(state, seconds, (*noticed, *problems))


def carry_out(
    plan: Plan, run: Path | None, progress: Progress, stop: Callable[[], bool] = lambda: False
) -> Iterator[Record]:
    """Descend to the last step, writing metrics and checkpoints into ``run`` if there is one.

    ``stop`` is asked after each step. Of several processes, each yields the records when their
    losses are put together, some steps later, and rank 0 writes.

    Raises:
        Interrupted: after the state was saved, if ``stop`` said so before the last step.
    """
    steps, every = plan.config.distill.steps, plan.config.engine.checkpoint_every or 1
    writes = run is not None and group.leads()
    metrics = Metrics(run / METRICS, progress.state.step) if run is not None and writes else None
    losses, stop = _losses(plan), Together(stop) if plan.task.share is not None else stop
    base, started = progress.seconds, time.perf_counter()
    with threads(plan.config.engine.threads), kept_memory():
        for record in _descend(plan, progress.state):
            progress.seconds = base + time.perf_counter() - started
            losses.add((record, progress.seconds), getattr(plan.method, "losses", ()))
            due = record.step % every == 0 or record.step == steps
            halted = record.step < steps and stop()
            whole = _whole(losses) if due or halted or losses.due() else []
            if metrics is not None:
                for one, seconds in whole:
                    metrics.add(one, seconds)
            if run is not None and (due or halted):
                state = gathered(plan, progress.state)
                if metrics is not None and state is not None:
                    metrics.flush()
                    save_checkpoint(run, state, progress.seconds)
            yield from (one for one, _ in whole)
            if halted:
                raise Interrupted(record.step, steps)


def _losses(plan: Plan) -> Losses[tuple[Record, float]]:
    task = plan.task
    return Losses(task.share, task.ipc, task.classes, task.settings.chunk)


def _whole(losses: Losses[tuple[Record, float]]) -> list[tuple[Record, float]]:
    return [
        (record if loss is None else replace(record, loss=loss), seconds)
        for (record, seconds), loss in losses.gather()
    ]


def _descend(plan: Plan, state: State) -> Iterator[Record]:
    distill = plan.config.distill
    return descend(
        state,
        plan.method,
        steps=distill.steps,
        image_lr=distill.image_lr or 1.0,
        momentum=distill.momentum,
    )


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
        seed=config.distill.seed,
        steps=progress.state.step,
        network=",".join(one.name for one in pool_of(config.network)),
        norm=config.network.norm,
        zca=zca_digest(transform.zca),
        image=task.train.spec.shape,
        device=config.engine.device,
        precision=config.engine.precision,
        seconds=round(progress.seconds, 3),
        notes=(*plan.method.notes, *progress.notes),
        versions=versions(),
    )
    return DistilledSet(pixels, labels, card, transform, plan.settings)


class Metrics:
    """``metrics.jsonl``: a line for each step; losses are fetched from the device in batches."""

    def __init__(self, path: Path, step: int) -> None:
        self.path = path
        self.waiting: list[tuple[Record, float]] = []
        kept = [line for line in self._lines() if line.get("step", 0) <= step]
        write_text(path, "".join(json.dumps(line) + "\n" for line in kept))

    def _lines(self) -> Iterator[dict[str, Any]]:
        for line in json_lines(self.path):  # without the one that a kill cut off
            if isinstance(line.get("step"), int):
                yield line

    def add(self, record: Record, seconds: float) -> None:
        """Take one step's record; write when ten are there."""
        self.waiting.append((record, seconds))
        if len(self.waiting) >= FLUSH_EVERY:
            self.flush()

    def flush(self) -> None:
        """Write what is waiting."""
        if not self.waiting:
            return
        losses = torch.stack([record.loss for record, _ in self.waiting]).tolist()
        with self.path.open("a", encoding="utf-8") as file:
            for (record, seconds), loss in zip(self.waiting, losses, strict=True):
                line = {
                    "step": record.step,
                    "loss": loss if math.isfinite(loss) else None,  # JSON has no NaN
                    "seconds": round(seconds, 4),
                }
                file.write(json.dumps(line) + "\n")
        self.waiting.clear()
