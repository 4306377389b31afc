"""Forgetting events (Toneva et al., ICLR 2019)."""

import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from distilset.rng import Rng
from distilset.selectors.base import check_request, hardest
from distilset.selectors.features import Features
from distilset.selectors.hardness import EPOCHS, Probe, measured
from distilset.training.trainer import Trainer
from distilset.types import ImageSet

NETWORKS = 1
"""Trainings whose counts are averaged; Toneva et al. rank by one and show that others agree."""


def select(
    train: ImageSet,
    ipc: int,
    rng: Rng,
    features: Features | None = None,
    *,
    networks: int | None = None,
    epochs: int | None = None,
) -> Int64[Tensor, " rows"]:
    """Select the images that a network in training forgets most often; see `Selector`.

    An image is forgotten when it is classified wrongly having been classified correctly when it
    was last in a batch; one that is never classified correctly counts as forgotten most. Hardest
    first, as published to choose large parts of a data set: at a few images per class it is known
    to be worse than random (DeepCore, Guo et al., 2022). ``networks`` [1] trainings of ``epochs``
    [200, as published] on all of ``train`` are needed, once per data set; see `hardness`. ``rng``
    and ``features`` are not used.

    Raises:
        DataError: a network diverged.
    """
    check_request(train, ipc)
    networks = NETWORKS if networks is None else networks
    epochs = EPOCHS if epochs is None else epochs
    return hardest(train, ipc, measured("forgetting", forgotten, train, networks, epochs))


def forgotten(trainer: Trainer, probe: Probe) -> Float32[Tensor, " n"]:
    """Train a fresh network and return how often it forgot each image."""
    count = Events(probe.labels)
    probe.fit(trainer, lambda rows, batch: count.seen(rows, probe.scores(trainer, batch)))
    return count.events()


class Events:
    """Counts how often each image goes from right to wrong, from one time it is seen to the next.

    Example:
        >>> events = Events(torch.tensor([0, 1]))
        >>> for scores in ([[1.0, 0.0], [1.0, 0.0]], [[0.0, 1.0], [1.0, 0.0]]):
        ...     events.seen(torch.arange(2), torch.tensor(scores))
        >>> events.events()
        tensor([1., inf])
    """

    def __init__(self, labels: Int64[Tensor, " n"]) -> None:
        self.labels = labels
        self.right = torch.zeros_like(labels, dtype=torch.bool)
        self.ever, self.count = self.right.clone(), torch.zeros_like(labels)

    def seen(self, rows: Int64[Tensor, " b"], scores: Float32[Tensor, "b classes"]) -> None:
        """Note how a batch is classified before it is trained on."""
        now = scores.argmax(1) == self.labels[rows]
        self.count[rows] += self.right[rows] & ~now
        self.right[rows] = now
        self.ever[rows] |= now

    def events(self) -> Float32[Tensor, " n"]:
        """Return the counts; infinity for images that were never right."""
        return torch.where(self.ever, self.count.float(), torch.inf)
