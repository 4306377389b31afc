"""The steps of a run and what guards them: metrics, checkpoints, going back, smaller chunks."""

import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from distilset.checkpoint import save_checkpoint
from distilset.guard import Agree, Guard, Progress, rate_of
from distilset.metrics import Metrics
from distilset.optimise import Record, descend
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
    whether memory ran out in any and whether any is to stop, and now and then whether all is well.
    ``replanned`` is called with a plan of a smaller chunk, after the state was saved, and returns
    the one to go on with.
    """

    def __init__(
        self,
        plan: Plan,
        run: Path | None,
        progress: Progress,
        agree: Agree = bool,
        replanned: Callable[[Plan], Plan] = lambda plan: plan,
    ) -> None:
        self.plan, self.run, self.progress = plan, run, progress
        self.agree, self.replanned = agree, replanned
        self.guard = Guard(progress, plan.config.distill.guard_every, agree)
        self.metrics = None if run is None else Metrics(run / METRICS, progress.state.step)
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
            if self.agree(told is not None):
                descending = iter(())  # the old one holds what took the memory
                self._shrink(told)
                descending = self._descend()
                continue
            assert record is not None, "a step gives a record, or memory ran out"
            halted = self.agree(record.step < self.steps and stop())
            if self._after(record, halted):
                descending = self._descend()
            yield record
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

    def _after(self, record: Record, halted: bool) -> bool:
        """Note, check and save after a step as is due; tell whether the run went back."""
        self.progress.seconds = self.base + time.perf_counter() - self.started
        self.guard.see(record)
        if self.metrics is not None:
            self.metrics.add(record, self.progress.seconds)
        every = self.plan.config.engine.checkpoint_every or 1
        due = record.step % every == 0 or record.step == self.steps or halted
        if not (due or self.guard.due(record.step)):
            return False
        went_back = self._check()
        if due or went_back:
            self._save()
        return went_back

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
        if self.run is not None and self.metrics is not None:
            self.metrics.flush()
            save_checkpoint(self.run, self.progress)

    def _shrink(self, told: str | None) -> None:
        """Go on with half the chunk from the last whole step, or from the kept state.

        The latter where the step that failed has changed the images already, here or in a process
        that did not run out of memory.
        """
        self.plan, note = smaller(self.plan, told)
        if self.agree(told is None or self.progress.state.torn):
            self.guard.back()
            self._forget()
        self._check()
        self.progress.note(f"after step {self.progress.state.step} {note}")
        self._save()  # before the new chunk is on disk: earlier steps were made with the old one
        self.plan = self.replanned(self.plan)
