"""The steps of a run and what guards them: metrics, checkpoints, going back, smaller chunks."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from distilset.checkpoint import save_checkpoint
from distilset.guard import Guard, Progress, agreeing
from distilset.metrics import Metrics
from distilset.optimise import Record
from distilset.parallel import group
from distilset.parallel.running import Losses, Together
from distilset.placing import gathered
from distilset.plan import Plan
from distilset.shortage import attempt, check_shrinkable, smaller
from distilset.store import METRICS


class Interrupted(Exception):
    """The run was asked to stop; its state is saved at ``step`` and can be resumed."""

    def __init__(self, step: int, steps: int) -> None:
        super().__init__(f"stopped after step {step} of {steps}")
        self.step = step


class Descent:
    """Descends to the last step, writing metrics and checkpoints into ``run`` if there is one.

    What decides the course of a run (a bad number, a lack of memory, a wish to stop) is asked of
    all its processes after the same steps, so that they go the same way. One that runs out of
    memory only counts steps until then, and all go back with it to the kept state. Rank 0 writes.
    ``replanned`` is called with a plan of a smaller chunk, after the state was saved, and returns
    the one to go on with.
    """

    def __init__(
        self,
        plan: Plan,
        run: Path | None,
        progress: Progress,
        replanned: Callable[[Plan], Plan] = lambda plan: plan,
    ) -> None:
        self.plan, self.run, self.progress = plan, run, progress
        self.share, self.replanned = plan.task.share, replanned
        self.agree = agreeing(self.share)
        self.guard = Guard(progress, plan.config.distill.guard_every, self.agree)
        writes = run is not None and group.leads()
        self.metrics = Metrics(run / METRICS, progress.state.step) if run and writes else None
        self.losses = _losses(plan)
        self.base, self.started = progress.seconds, time.perf_counter()
        self.steps = plan.config.distill.steps
        self.told: str | None = None

    def records(self, stop: Callable[[], bool] = lambda: False) -> Iterator[Record]:
        """Do the steps; ``stop`` is asked after each.

        Of several processes, each yields the records when their losses are put together, some
        steps later.

        Raises:
            Interrupted: after the state was saved, if ``stop`` said so before the last step.
            ConfigError: if numbers stay bad, or memory short, after all that can be done.
        """
        stop = stop if self.share is None else Together(stop)
        descending = self._descend()
        while self.progress.state.step < self.steps:
            record = self._step(descending)
            if record is None:
                descending = iter(())  # the old one holds what took the memory
                if self.share is None:
                    self._shrink()
                    descending = self._descend()
                    continue
                record = self._idle()
            halted = record.step < self.steps and stop()
            whole, went_back = self._after(record, halted)
            if went_back:
                descending = self._descend()
            yield from whole
            if halted:
                raise Interrupted(self.progress.state.step, self.steps)

    def _descend(self) -> Iterator[Record]:
        return self.plan.descend(self.progress.state, self.steps)

    def _step(self, descending: Iterator[Record]) -> Record | None:
        """Do a step, unless memory is short; return None if it is."""
        if self.told is not None:
            return None
        record, self.told = attempt(partial(next, descending))
        return record

    def _idle(self) -> Record:
        """Count a step that cannot be done, until the other processes are told of it."""
        check_shrinkable(self.plan, self.told)
        self.progress.state.step += 1
        return Record(self.progress.state.step, self.progress.state.images.new_zeros(()))

    def _after(self, record: Record, halted: bool) -> tuple[list[Record], bool]:
        """Note, check and save after a step as is due.

        Returns the records whose losses are known now, and whether the run went back.
        """
        self.progress.seconds = self.base + time.perf_counter() - self.started
        self.guard.see(record)
        self.losses.add((record, self.progress.seconds), self._own_losses())
        every = self.plan.config.engine.checkpoint_every or 1
        due = record.step % every == 0 or record.step == self.steps or halted
        asked = due or self.guard.due(record.step)
        whole = self._whole() if asked or self.losses.due() else []
        went_back = asked and self._check()
        if due or went_back:
            self._save()
        return whole, went_back

    def _own_losses(self) -> list[torch.Tensor]:
        """Return the losses of this process's classes, of several processes."""
        if self.told is not None:
            return [torch.zeros(len(self.plan.task.own))]
        return getattr(self.plan.method, "losses", [])

    def _whole(self) -> list[Record]:
        """Put losses together, and write them."""
        records = []
        for (record, seconds), loss in self.losses.gather():
            records.append(record if loss is None else replace(record, loss=loss))
            if self.metrics is not None:
                self.metrics.add(records[-1], seconds)
        return records

    def _check(self) -> bool:
        """Keep a good state where that is due, and leave a bad one; tell whether it went back."""
        if self.share is not None and self.agree(self.told is not None):
            self._shrink()
            return True
        if self.guard.sound():
            self.guard.keep()
            return False
        self.guard.roll_back(self.plan.config.distill.image_lr or 1.0)
        self._forget()
        return True

    def _forget(self) -> None:
        if self.metrics is not None:
            self.metrics.back(self.progress.state.step)

    def _save(self) -> None:
        if self.run is None:
            return
        whole = gathered(self.plan, self.progress)
        if self.metrics is not None and whole is not None:
            self.metrics.flush()
            save_checkpoint(self.run, whole)

    def _shrink(self) -> None:
        """Go on with half the chunk from the last whole step, or from the kept state.

        The latter where the step that failed has changed the images already, and with several
        processes, which stand at different steps.
        """
        self.plan, note = smaller(self.plan, self.told)
        self.losses, self.told = _losses(self.plan), None
        if self.share is not None or self.progress.state.torn:
            self.guard.back()
            self._forget()
        if not self.guard.sound():
            self.guard.roll_back(self.plan.config.distill.image_lr or 1.0)
            self._forget()
        self.progress.note(f"after step {self.progress.state.step} {note}")
        self._save()  # before the new chunk is on disk: earlier steps were made with the old one
        self.plan = self.replanned(self.plan)


def _losses(plan: Plan) -> Losses[tuple[Record, float]]:
    task = plan.task
    return Losses(task.share, task.decoded_ipc, task.classes, task.settings.chunk)
