"""The steps of a run and what guards them: metrics, checkpoints, going back, smaller chunks."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from distilset.checkpoint import save_checkpoint
from distilset.guard import Agree, Guard, Progress, rate_of
from distilset.metrics import Metrics
from distilset.optimise import Record, descend
from distilset.parallel import group
from distilset.parallel.running import Losses
from distilset.placing import gathered
from distilset.plan import Plan
from distilset.shortage import attempt, smaller
from distilset.store import METRICS


class Interrupted(Exception):
    """The run was asked to stop; its state is saved at ``step`` and can be resumed."""

    def __init__(self, step: int, steps: int) -> None:
        super().__init__(f"stopped after step {step} of {steps}")
        self.step = step


class Descent:
    """Descends to the last step, writing metrics and checkpoints into ``run`` if there is one.

    What decides the course of a run (a bad number, a lack of memory, a wish to stop) goes through
    ``agree``, so that processes that work together go the same way: after every step it is asked
    whether anything is amiss in any, and now and then whether all numbers are good. Of several
    processes each yields the records when their losses are put together, some steps later, and
    rank 0 writes. ``replanned`` is called with a plan of a smaller chunk, after the state was
    saved, and returns the one to go on with.
    """

    def __init__(
        self,
        plan: Plan,
        run: Path | None,
        progress: Progress,
        agree: Agree = group.agree,
        replanned: Callable[[Plan], Plan] = lambda plan: plan,
    ) -> None:
        self.plan, self.run, self.progress = plan, run, progress
        self.agree, self.replanned = agree, replanned
        self.guard = Guard(progress, plan.config.distill.guard_every, agree)
        writes = run is not None and group.leads()
        self.metrics = Metrics(run / METRICS, progress.state.step) if run and writes else None
        self.losses = losses_of(plan)
        self.base, self.started = progress.seconds, time.perf_counter()
        self.steps = plan.config.distill.steps

    def records(self, stop: Callable[[], bool] = lambda: False) -> Iterator[Record]:
        """Do the steps; ``stop`` is asked after each.

        Raises:
            Interrupted: after the state was saved, if ``stop`` said so before the last step.
            ConfigError: if numbers stay bad, or memory short, after all that can be done.
        """
        descending = self._descend()
        while self.progress.state.step < self.steps:
            record, told = attempt(partial(next, descending))
            halted = record is not None and record.step < self.steps and stop()
            if self.agree(told is not None or halted):  # one question, as long as all is well
                if self.agree(told is not None):
                    descending = iter(())  # the old one holds what took the memory
                    yield from self._whole()
                    self._shrink(told)
                    descending = self._descend()
                    continue
                halted = True
            assert record is not None, "a step gives a record, or memory ran out"
            whole, went_back = self._after(record, halted)
            if went_back:
                descending = self._descend()
            yield from whole
            if halted:
                raise Interrupted(self.progress.state.step, self.steps)

    def _descend(self) -> Iterator[Record]:
        distill, state = self.plan.config.distill, self.progress.state
        return descend(
            state,
            self.plan.method,
            steps=self.steps,
            image_lr=rate_of(distill.image_lr or 1.0, state),
            momentum=distill.momentum,
        )

    def _after(self, record: Record, halted: bool) -> tuple[list[Record], bool]:
        """Note, check and save after a step as is due.

        Returns the records whose losses are whole now, and whether the run went back.
        """
        self.progress.seconds = self.base + time.perf_counter() - self.started
        self.guard.see(record)
        self.losses.add((record, self.progress.seconds), getattr(self.plan.method, "losses", ()))
        every = self.plan.config.engine.checkpoint_every or 1
        due = record.step % every == 0 or record.step == self.steps or halted
        checked = due or self.guard.due(record.step)
        whole = self._whole() if checked or self.losses.due() else []
        went_back = checked and self._check()
        if due or went_back:
            self._save()
        return whole, went_back

    def _whole(self) -> list[Record]:
        """Return the records whose losses can be put together, and pass them to the metrics."""
        found = []
        for (record, seconds), loss in self.losses.gather():
            found.append(record if loss is None else replace(record, loss=loss))
            if self.metrics is not None:
                self.metrics.add(found[-1], seconds)
        return found

    def _check(self) -> bool:
        """Keep a good state where that is due, and leave a bad one; tell whether it was bad."""
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

    def _shrink(self, told: str | None) -> None:
        """Go on with half the chunk from the last whole step, or from the kept state.

        The latter where the step that failed has changed the images already, here or in a process
        that did not run out of memory.
        """
        self.plan, note = smaller(self.plan, told)
        self.losses = losses_of(self.plan)
        if self.agree(told is None or self.progress.state.torn):
            self.guard.back()
            self._forget()
        self._check()
        self.progress.note(f"after step {self.progress.state.step} {note}")
        self._save()  # before the new chunk is on disk: earlier steps were made with the old one
        self.plan = self.replanned(self.plan)


def losses_of(plan: Plan) -> Losses[tuple[Record, float]]:
    """Return what puts the losses of a plan's processes together."""
    task = plan.task
    return Losses(task.share, task.ipc, task.classes, task.settings.chunk)
