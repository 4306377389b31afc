"""Real images read from disk while a step is computed, so that the next does not wait for them."""

from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event

import torch

from distilset.task import Task

_ROWS = 256
_PAGE = 4096  # bytes; where pages are larger, each is looked at more than once


class Ahead:
    """Looks at the real images of the step after this one, in a thread beside it.

    Only for images in a memory map that are drawn anew at every step. Nothing is kept here: what
    was looked at stays in the system's file cache, so that a step is computed from the same bytes
    with or without, and memory does not grow with the batch.
    """

    def __init__(self, task: Task) -> None:
        self.task = task
        self.pool = ThreadPoolExecutor(1) if task.reads_disk else None
        self._stop = Event()
        self._reading: Future[int] | None = None

    def turn(self, step: int) -> None:
        """Say that a step begins: what is not read for it yet it reads itself.

        Raises whatever reading ahead raised. After the last step nothing is read.
        """
        self.settle()
        if self.pool is not None and step + 1 < self.task.steps:
            self._stop = Event()
            self._reading = self.pool.submit(self._look, step + 1, self._stop)

    def settle(self) -> int:
        """Stop reading ahead; return how many images were looked at since the last step began."""
        self._stop.set()
        reading, self._reading = self._reading, None
        return 0 if reading is None else reading.result()

    def _look(self, step: int, stop: Event) -> int:
        """Look at a byte of every page of the step's images: the system reads the rest.

        So few at a time that PyTorch takes no further threads for it.
        """
        images = self.task.train.images
        flat = images.view(len(images), -1)
        size, seen = flat.shape[1], 0
        at = torch.tensor(sorted({*range(0, size, _PAGE), size - 1}))
        for rows in torch.cat(self.task.draw_real(step)).split(_ROWS):
            if stop.is_set():
                break
            flat[rows[:, None], at].sum()
            seen += len(rows)
        return seen
