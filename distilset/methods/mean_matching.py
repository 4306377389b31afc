"""The family of DM, DataDAM and ATOM: match class means of per-image statistics."""

from collections.abc import Callable, Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from distilset.banks import make_bank
from distilset.compilation import failures_told
from distilset.engine import Engine, Piece
from distilset.errors import ConfigError
from distilset.losses.statistics import Statistic, usable
from distilset.methods.base import Update
from distilset.targets import Fresh, Stream, Target
from distilset.task import Task


class MeanMatching:
    """One update per random network: descend on the squared distance of class means.

    A method of the family says which statistics it matches, with which weights, of a network with
    so many maps. ``losses`` has those of the last update class by class, of the classes that this
    process owns: what several processes put together as one would have. The means are those of
    decoded images.
    """

    decodes = True

    def __init__(self, task: Task, statistics: Callable[[int], Sequence[Statistic]]) -> None:
        self.task = task
        self.losses: list[Tensor] = []
        self.left_out: list[str] = []
        self.engines = tuple(
            self._engine(number, statistics) for number in range(len(task.networks))
        )
        self.groups = [engine.groups(task.decoded_ipc, task.classes) for engine in self.engines]
        self.bank = make_bank(task, self.engines) if task.bank else None
        self.stream: Stream = self.bank or Fresh(task, self.engines)

    def _engine(self, number: int, statistics: Callable[[int], Sequence[Statistic]]) -> Engine:
        task = self.task
        shapes, network = task.map_shapes(number), task.networks[number]
        kept, empty = usable(statistics(len(shapes)), shapes)
        of = f" of {type(network).__name__}" if task.pool else ""
        self.left_out += [f"{statistic}{of} is left out: it has one entry" for statistic in empty]
        width = task.last_width(number)
        return Engine(network, [one.of_width(width) for one in kept], task.settings, task.share)

    @property
    def notes(self) -> list[str]:
        """Say which statistics are left out, and whether a compilation failed."""
        return self.left_out + failures_told(engine.forward.failure for engine in self.engines)

    def episode(self, images: Float[Tensor, "n c h w"], step: int) -> Iterator[Update]:
        """Yield the one update of this step's target."""
        yield self.loss(images, self.stream.target(step))

    def loss(self, images: Float[Tensor, "n c h w"], target: Target) -> Update:
        """Yield the loss against a target, a group of classes at a time."""
        task = self.task

        def fetch(piece: Piece) -> Float[Tensor, "n c h w"]:
            some = task.decode(self._stored(images, piece.rows))
            return task.augmented(some, target.augmentation, piece.class_of_row)

        self.losses.clear()
        engine, groups = self.engines[target.network], self.groups[target.network]
        return engine.parts(groups, target.means, fetch, self.losses.append)

    def _stored(
        self, images: Float[Tensor, "own c h w"], rows: slice
    ) -> Float[Tensor, "rows c h w"]:
        """Return the stored images behind rows of decoded ones, which are whole classes."""
        task, each = self.task, self.task.factor**2
        rows = slice(rows.start // each, rows.stop // each)
        return images[rows] if task.share is None else task.share.filled(images, rows, task.ipc)


@torch.no_grad()
def check_classifiers(task: Task) -> None:
    """Refuse to match classes by networks that do not know them.

    Raises:
        ConfigError: untrained networks; one whose scores are not its ``classifier`` of the last
            features.
    """
    if not task.experts:
        raise ConfigError(
            "method.class_weight needs networks that were trained: give --experts 1 or more"
        )
    for network in task.networks:
        if not _classifies(network, task):
            raise ConfigError(
                "method.class_weight needs networks whose scores are classifier(features.last), "
                "by an attribute of that name; "
                f"{type(getattr(network, 'network', network)).__name__} is none"
            )


def _classifies(network: nn.Module, task: Task) -> bool:
    classifier = getattr(network, "classifier", None)
    if not isinstance(classifier, nn.Module):
        return False
    images = torch.rand(2, *task.train.spec.shape, generator=torch.Generator().manual_seed(0))
    images = images.to(next(network.parameters()).device)
    training = network.training
    network.eval()
    try:
        last = network.features(images).last  # type: ignore[operator]
        return torch.allclose(classifier(last), network(images), rtol=1e-3, atol=1e-3)
    except RuntimeError:  # shapes that do not fit
        return False
    finally:
        network.train(training)
