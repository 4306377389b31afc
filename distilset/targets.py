"""Targets: what the real images look like through one random network and one augmentation draw.

Distilling by mean matching is descending against a stream of them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from distilset.augment import Draw
from distilset.engine import Engine, Means, Piece
from distilset.hardware import exact_float32
from distilset.prefetch import Ahead
from distilset.task import Task


@dataclass(frozen=True)
class Target:
    """Class means of every statistic of the real images, and the draws they were made with.

    ``step`` keys the network's weights; ``augmentation`` has one draw per class, to be applied to
    the synthetic images of that class too. ``network`` is the number of the task's network.
    """

    step: int
    augmentation: Draw
    means: Means
    network: int = 0


@runtime_checkable
class Stream(Protocol):
    """A stream of targets, by step."""

    def target(self, step: int) -> Target:
        """Return the target of a step, and leave its weights in its network."""
        ...


@dataclass(frozen=True)
class Fresh:
    """A new network and new real images at every step, as in the papers."""

    task: Task
    engines: Sequence[Engine]

    @cached_property
    def _ahead(self) -> Ahead:
        return Ahead(self.task)

    def target(self, step: int) -> Target:
        """Make the target of a step, by the engine of the network that is drawn for it."""
        self._ahead.turn(step)
        number = self.task.choice(step)
        return replace(fresh(self.task, self.engines[number], step), network=number)


def fresh(task: Task, engine: Engine, step: int) -> Target:
    """Make the target of one step: a new network and new real images, as in the papers.

    The step's network, which is to be the engine's, is left with the target's weights.
    """
    batch = task.draw_real(step)
    rows = torch.cat(batch)
    return target_of(
        task, engine, step, [len(part) for part in batch], lambda part: task.real(rows[part])
    )


def target_of(
    task: Task,
    engine: Engine,
    step: int,
    counts: Sequence[int],
    real: Callable[[slice], Float[Tensor, "n c h w"]],
) -> Target:
    """Make the target of one step of real images that were drawn already.

    ``real`` gives rows of the batch in normalised space; ``counts`` has the batch's images of each
    class. The step's network is left with the target's weights.
    """
    task.draw_network(step)
    draw = task.draw_augmentation(step)

    def fetch(piece: Piece) -> Float[Tensor, "n c h w"]:
        return task.augmented(real(piece.rows), draw, piece.class_of_row)

    with exact_float32(task.settings.device):
        means = engine.class_means(engine.cut(counts), task.classes, fetch)
    return Target(step, draw, means)
