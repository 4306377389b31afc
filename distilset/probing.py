"""How long an episode takes, measured before a run starts."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from torch import Tensor

from distilset.compilation import GRAPH_CALLS, uses_graphs
from distilset.methods.base import Episodes, Update
from distilset.optimise import State
from distilset.plan import Plan, updates_per_episode

PROBED = 10
"""Updates of a long episode that are timed."""


@dataclass(frozen=True)
class _Shortened:
    """A method whose episodes end after so many updates."""

    method: Episodes
    updates: int

    def episode(self, images: Tensor, step: int) -> Iterator[Update]:
        return islice(self.method.episode(images, step), self.updates)


def probe(plan: Plan, images: Tensor) -> float:
    """Return the seconds of one episode on a copy of this process's images.

    Of an episode of many updates some are timed, and the rest is taken to be like them.
    """
    settings, updates = plan.task.settings, updates_per_episode(plan.config)
    timed = min(updates, PROBED)
    method = plan.method if timed == updates else _Shortened(plan.method, timed)
    first = GRAPH_CALLS if settings.compile and uses_graphs(settings.device) else 1
    records = plan.descend(State(images.clone()), first + 1, method)
    for _ in range(first):
        float(next(records).loss)
    start = time.perf_counter()
    float(next(records).loss)
    return (time.perf_counter() - start) * updates / timed
