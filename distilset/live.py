"""Watching a run while it goes on: losses and images for TensorBoard."""

from functools import partial
from importlib.util import find_spec
from pathlib import Path

import torch

from distilset.errors import ConfigError
from distilset.files import unlink_link
from distilset.grid import draw_grid
from distilset.guard import Progress
from distilset.metrics import FLUSH_EVERY
from distilset.optimise import Record
from distilset.parallel import group
from distilset.plan import Plan
from distilset.runfolder import RunFolder
from distilset.store import TENSORBOARD

PICTURES = 20
"""About how many grids of images a run writes."""


def check_tensorboard(folder: RunFolder | None) -> None:
    """Raise a ConfigError where there is no folder to write to, or TensorBoard is not installed."""
    if group.size() > 1:
        raise ConfigError("--tensorboard watches runs of one process; leave it out")
    if folder is None:
        raise ConfigError("tensorboard=True needs a run folder; name one by out")
    if find_spec("tensorboard") is None:
        raise ConfigError(
            "--tensorboard needs the package tensorboard, which is not installed; "
            "install it with: pip install 'distilset[tensorboard]'"
        )


class TensorBoard:
    """Scalars of every step and now and then the images, in the run's folder ``tensorboard``.

    Losses stay on the device until ten are there, so that a step does not wait for its number.
    What a resumed run had written beyond its checkpoint is hidden by TensorBoard's purge step.
    """

    def __init__(self, run: Path, plan: Plan, progress: Progress) -> None:
        from torch.utils.tensorboard import SummaryWriter

        unlink_link(run / TENSORBOARD)
        first = progress.state.step
        self.plan, self.progress, self.seen = plan, progress, first
        self.open = partial(SummaryWriter, str(run / TENSORBOARD))
        self.writer = self.open(purge_step=first + 1 if first else None)
        self.waiting: list[Record] = []
        self.told = (first, progress.seconds)
        self.every = max(1, plan.config.distill.steps // PICTURES)
        if not first:
            self._picture(0)

    def see(self, record: Record) -> None:
        """Take one step's record; write when ten are there, and the images when they are due."""
        if record.step <= self.seen:  # the run went back
            self.close()
            self.writer = self.open(purge_step=record.step)
            self.told = (record.step, self.progress.seconds)
        self.seen = record.step
        self.waiting.append(record)
        if len(self.waiting) >= FLUSH_EVERY:
            self.flush()
        if record.step % self.every == 0 or record.step == self.plan.config.distill.steps:
            self._picture(record.step)

    def flush(self) -> None:
        """Write the losses that wait, and the speed since the last time."""
        if not self.waiting:
            return
        for record in self.waiting:
            self.writer.add_scalar("loss", float(record.loss), record.step)
        step, seconds = self.waiting[-1].step, self.progress.seconds
        before, then = self.told
        if seconds > then:
            rate = self.plan.images_per_step * (step - before) / (seconds - then)
            self.writer.add_scalar("images per second", rate, step)
        self.told = (step, seconds)
        self.waiting.clear()

    def _picture(self, step: int) -> None:
        task = self.plan.task
        with torch.no_grad():
            pixels = task.transform.to("cpu").invert(self.progress.state.images.detach().cpu())
        labels = torch.arange(task.classes).repeat_interleave(task.ipc)
        array = draw_grid(pixels, labels, task.classes)
        self.writer.add_image("synthetic images", array, step, dataformats="HWC"[: array.ndim])

    def close(self) -> None:
        """Write what waits, and end the file."""
        self.flush()
        self.writer.close()
