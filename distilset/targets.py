"""Targets: what the real images look like through one random network and one augmentation draw.

Distilling by mean matching is descending against a stream of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from distilset.augment import Draw
from distilset.engine import Engine, Means, Piece
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

    def target(self, step: int) -> Target:
        """Make the target of a step, by the engine of the network that is drawn for it."""
        number = self.task.choice(step)
        return replace(fresh(self.task, self.engines[number], step), network=number)


def fresh(task: Task, engine: Engine, step: int) -> Target:
    """Make the target of one step: a new network and new real images, as in the papers.

    The step's network, which is to be the engine's, is left with the target's weights.
    """
    task.draw_network(step)
    draw = task.draw_augmentation(step)
    batch = task.draw_real(step)
    rows = torch.cat(batch)

    def fetch(piece: Piece) -> Float[Tensor, "n c h w"]:
        return task.augmented(task.real(rows[piece.rows]), draw, piece.class_of_row)

    pieces = engine.cut([len(part) for part in batch])
    return Target(step, draw, engine.class_means(pieces, task.classes, fetch))
