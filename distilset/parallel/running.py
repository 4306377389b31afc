"""What a run asks of its processes: to stop together, and losses as one process would have them."""

import time
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from distilset.engine import cut_evenly
from distilset.parallel.group import largest, whole
from distilset.share import Share

R = TypeVar("R")

ASK_SECONDS = 0.5
"""The processes ask each other about this often whether one is to stop: it costs 0.2 ms."""

HELD = 10
"""Losses are gathered after so many steps."""


class Together:
    """Asks all processes whether to stop, every half second or step; the answer is one for all.

    Rank 0 says after how many steps they ask again: clocks differ, steps are counted.
    """

    def __init__(self, stop: Callable[[], bool]) -> None:
        self.stop = stop
        self.left = 1
        self.steps = 1
        self.since = time.perf_counter()

    def __call__(self) -> bool:
        """Tell whether to stop, after a step; called by all processes after the same steps."""
        self.left -= 1
        if self.left > 0:
            return False
        now = time.perf_counter()
        each = max(now - self.since, 1e-6) / self.steps
        wanted = min(max(1, int(ASK_SECONDS / each)), 10 * self.steps)
        flag, self.steps = largest(int(self.stop()), wanted)
        self.left, self.since = self.steps, now
        return flag > 0


class Losses(Generic[R]):
    """Records of steps whose losses are still spread over processes.

    In one process each is whole at once.
    """

    def __init__(self, share: Share | None, ipc: int, classes: int, chunk: int) -> None:
        self.share = share
        groups = cut_evenly(ipc, classes, max(ipc, chunk))
        self.groups = [piece.classes for piece in groups]
        self.held: list[R] = []
        self.own: list[Tensor] = []

    def add(self, record: R, own: Sequence[Tensor]) -> None:
        """Take a step's record, and the losses of this process's classes."""
        self.held.append(record)
        if self.share is not None:
            self.own.append(torch.cat(list(own)))

    def due(self) -> bool:
        """Tell whether it is time to gather."""
        return self.share is None or len(self.held) >= HELD

    def gather(self) -> list[tuple[R, Float[Tensor, ""] | None]]:
        """Return the records and, of several processes, their losses; all processes get them."""
        held, self.held = self.held, []
        if self.share is None or not held:
            return [(record, None) for record in held]
        table = whole(torch.stack(self.own, 1), self.share).T.contiguous()
        self.own.clear()
        return [(record, self._sum(row)) for record, row in zip(held, table, strict=True)]

    def _sum(self, losses: Float[Tensor, " classes"]) -> Float[Tensor, ""]:
        """Add up group by group, as one process does: floating-point sums have an order."""
        loss = losses.new_zeros(())
        for classes in self.groups:
            loss += losses[classes].sum()
        return loss
