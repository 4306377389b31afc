"""The family of DM, DataDAM and ATOM: match class means of per-image statistics."""

from collections.abc import Iterator, Sequence

from jaxtyping import Float
from torch import Tensor

from distilset.bank import Bank
from distilset.engine import Engine, Piece
from distilset.losses.statistics import Statistic, usable
from distilset.methods.base import Update
from distilset.targets import Fresh, Stream, Target
from distilset.task import Task


class MeanMatching:
    """One update per random network: descend on the squared distance of class means.

    A method of the family says which statistics it matches and with which weights.
    """

    def __init__(self, task: Task, statistics: Sequence[Statistic]) -> None:
        kept, empty = usable(statistics, task.map_shapes())
        self.task = task
        self.engine = Engine(task.network, kept, task.settings)
        self.groups = self.engine.groups(task.ipc, task.classes)
        bank = Bank(task, self.engine, task.bank, task.bank_seed) if task.bank else None
        self.bank = bank
        self.stream: Stream = bank or Fresh(task, self.engine)
        self.left_out = [f"{statistic} is left out: it has one entry" for statistic in empty]

    @property
    def notes(self) -> list[str]:
        """Say which statistics are left out, and whether a compilation failed."""
        failure = self.engine.forward.failure
        failed = [] if failure is None else [f"compilation failed, running eagerly: {failure}"]
        return self.left_out + failed

    def episode(self, images: Float[Tensor, "n c h w"], step: int) -> Iterator[Update]:
        """Yield the one update of this step's target."""
        yield self.loss(images, self.stream.target(step))

    def loss(self, images: Float[Tensor, "n c h w"], target: Target) -> Update:
        """Yield the loss against a target, a group of classes at a time."""

        def fetch(piece: Piece) -> Float[Tensor, "n c h w"]:
            own = images[piece.rows]
            return self.task.augmented(own, target.augmentation, piece.class_of_row)

        return self.engine.parts(self.groups, target.means, fetch)
