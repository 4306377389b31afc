"""EL2N, the norm of the error vector early in training (Paul et al., NeurIPS 2021)."""

import torch
from jaxtyping import Float32, Int64
from torch import Tensor
from torch.nn.functional import one_hot

from distilset.rng import Rng
from distilset.selectors.base import check_request, hardest
from distilset.selectors.features import Features
from distilset.selectors.hardness import Probe, measured
from distilset.training.trainer import Trainer
from distilset.types import ImageSet

NETWORKS, EPOCHS = 10, 20
"""Scores are averaged over ten networks, each after 20 of 200 epochs, as published."""

_ROWS = 1024


def select(
    train: ImageSet,
    ipc: int,
    rng: Rng,
    features: Features | None = None,
    *,
    networks: int | None = None,
    epochs: int | None = None,
) -> Int64[Tensor, " rows"]:
    """Select the images on which networks err most early in training; see `Selector`.

    The score is the mean over ``networks`` [10] of ``|softmax - onehot|_2`` after ``epochs`` [20]
    of training on all of ``train``, done once per data set; see `hardness`. Hardest first, as
    published to choose large parts of a data set: at a few images per class it is known to be
    worse than random (DeepCore, Guo et al., 2022). ``rng`` and ``features`` are not used.

    Raises:
        DataError: a network diverged.
    """
    check_request(train, ipc)
    networks = NETWORKS if networks is None else networks
    epochs = EPOCHS if epochs is None else epochs
    return hardest(train, ipc, measured("el2n", errors, train, networks, epochs))


def errors(trainer: Trainer, probe: Probe) -> Float32[Tensor, " n"]:
    """Train a fresh network and return the norm of its error on each image."""
    probe.fit(trainer)
    trainer.network.eval()
    parts = zip(probe.images.split(_ROWS), probe.labels.split(_ROWS), strict=True)
    found = [
        error_norm(probe.scores(trainer, probe.transform.apply(images)), labels)
        for images, labels in parts
    ]
    return torch.cat(found)


def error_norm(
    scores: Float32[Tensor, "n classes"], labels: Int64[Tensor, " n"]
) -> Float32[Tensor, " n"]:
    """Return the Euclidean norm of probabilities minus the one-hot label.

    Example:
        >>> error_norm(torch.zeros(1, 4), torch.tensor([2]))  # 3/16 + 9/16 under the root
        tensor([0.8660])
    """
    return (scores.softmax(1) - one_hot(labels, scores.shape[1])).norm(dim=1)
