"""Judging a set of images: fresh networks trained on it, each scored once."""

from jaxtyping import Float
from torch import Tensor

from distilset.augment import AugmentConfig
from distilset.data.normalise import Transform
from distilset.evaluation.judge import Judge, Progress, Trainers, TrialResult
from distilset.models import NetworkConfig
from distilset.training.protocols import Protocol
from distilset.training.step import Labels, TrainSettings
from distilset.types import ImageSet


def score_images(
    images: Float[Tensor, "n c h w"],
    labels: Labels,
    test: ImageSet,
    transform: Transform,
    network: NetworkConfig,
    protocol: Protocol,
    *,
    trials: int = 5,
    seed: int = 0,
    augmentation: AugmentConfig | None = None,
    settings: TrainSettings | None = None,
    trainers: Trainers | None = None,
    progress: Progress | None = None,
) -> list[TrialResult]:
    """Train ``trials`` fresh networks on a set and score each once on a test or validation part.

    Args:
        images: in the space of ``transform``: normalised, and whitened if it whitens.
        labels: class indices ``[n]``, or probabilities ``[n, classes]``.
        test: the part to score on, which is the only one that is.
        transform: brings the test images to the space of ``images``.
        network: which network.
        protocol: how to train it.
        trials: how many networks.
        seed: decides weights, shuffling and augmentation; trial t is the same whatever ``trials``.
        augmentation: DSA's strengths; used if the protocol augments, without flip where the data's
            mirror images change class. None: no augmentation.
        settings: device, precision, compilation, and how many networks are trained at once.
        trainers: networks made and compiled earlier, to be used again.
        progress: called during training.

    Raises:
        ConfigError: a part that is not to be scored on; ``trials`` below 1.
        DataError: images or labels that do not fit the test part.
    """
    judge = Judge(
        test,
        transform,
        network,
        protocol,
        trials,
        seed,
        augmentation,
        settings or TrainSettings(),
        trainers or Trainers(),
        progress,
    )
    return judge.run(lambda trial: (images, labels))
