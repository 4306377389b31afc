"""Judging a set of images: fresh networks trained on it, each scored once."""

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter

import torch
from jaxtyping import Float
from torch import Tensor

from distilset.augment import AugmentConfig
from distilset.data.normalise import Transform
from distilset.errors import ConfigError, DataError
from distilset.evaluation.protocols import Protocol
from distilset.evaluation.step import Labels, TrainSettings, settle
from distilset.evaluation.trainer import Trainer
from distilset.models import NetworkConfig, build_network, initialise
from distilset.rng import Rng
from distilset.types import ImageSet, ImageSpec

Progress = Callable[[int, int, int], None]
"""Called with the trial, counted from 0, its updates done and their total."""

Prepare = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class TrialResult:
    """One trained network: accuracy in per cent (NaN if it diverged), and wall-clock seconds.

    ``compute`` says how it was computed, and why not faster.
    """

    accuracy: float
    seconds: float
    compute: str


class Trainers:
    """Trainers kept for reuse, so that a network of one shape is built and compiled once."""

    def __init__(self) -> None:
        self._made: dict[tuple[NetworkConfig, ImageSpec, int, TrainSettings], Trainer] = {}

    def get(
        self, network: NetworkConfig, spec: ImageSpec, classes: int, settings: TrainSettings
    ) -> Trainer:
        """Return the trainer of a network; its weights are to be drawn anew."""
        key = (network, spec, classes, settings)
        if key not in self._made:
            self._made[key] = Trainer(build_network(network, spec, classes), settings)
        return self._made[key]


@dataclass(frozen=True)
class Judge:
    """All that stays the same from one trial to the next; ``trial`` trains and scores a network.

    Raises:
        ConfigError: if ``test`` is not a test or validation part, or ``trials`` is below 1.
    """

    test: ImageSet
    transform: Transform
    network: NetworkConfig
    protocol: Protocol
    trials: int
    seed: int
    augmentation: AugmentConfig | None
    settings: TrainSettings
    trainers: Trainers
    progress: Progress | None = None

    def __post_init__(self) -> None:
        check_scored(self.test)
        if self.trials < 1:
            raise ConfigError(f"trials must be 1 or more; got {self.trials}")

    @property
    def operations(self) -> AugmentConfig | None:
        """DSA as this protocol and these data want it: without flip where mirroring is wrong."""
        if self.augmentation is None or not self.protocol.augment:
            return None
        kept = self.augmentation if self.test.info.mirror else self.augmentation.without_flip()
        return kept if kept.operations else None

    def trial(
        self, trial: int, images: Tensor, labels: Labels, prepare: Prepare | None = None
    ) -> TrialResult:
        """Train a fresh network on normalised ``images``, or ``prepare``'d ones; score it once."""
        check_images(images, labels, self.test)
        start = perf_counter()
        rng = Rng(self.seed).child("trial", trial)
        n = len(images)
        passes = self.trials * self.protocol.total_updates(n) * min(n, self.protocol.batch)
        settings, reason = settle(self.settings, passes, self.test.spec)
        trainer = self.trainers.get(self.network, self.test.spec, len(self.test.classes), settings)
        initialise(trainer.network, rng, "weights")
        report = self.progress
        trainer.train(
            images,
            labels,
            self.protocol,
            rng,
            self.operations,
            None if report is None else lambda done, total: report(trial, done, total),
            prepare,
        )
        accuracy = trainer.accuracy(self.test.images, self.test.labels, self.transform)
        how = "compiled" if trainer.step.compiled else f"eager ({trainer.step.note or reason})"
        return TrialResult(
            100 * accuracy, perf_counter() - start, f"{trainer.step.settings.precision}, {how}"
        )


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
        settings: device, precision and compilation.
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
    return [judge.trial(trial, images, labels) for trial in range(trials)]


def check_scored(test: ImageSet) -> None:
    """Raise a ConfigError unless a set may be scored on."""
    if test.role not in ("test", "val"):
        raise ConfigError(f"networks are scored on a test or val part; got a {test.role} part")
    if not len(test):
        raise DataError(f"the {test.role} part of {test.info.name} has no images to score on")


def check_images(images: Tensor, labels: Tensor, test: ImageSet) -> None:
    """Raise a DataError unless images and labels fit the part that is scored."""
    classes = len(test.classes)
    if images.ndim != 4 or tuple(images.shape[1:]) != test.spec.shape:
        raise DataError(
            f"images of shape {tuple(images.shape)} do not fit test images of {test.spec}"
        )
    if len(labels) != len(images) or not len(images):
        raise DataError(f"{len(images)} images need as many labels, at least 1; got {len(labels)}")
    if labels.is_floating_point():
        if labels.shape[1:] != (classes,):
            raise DataError(
                f"soft labels need shape [{len(images)}, {classes}]; got {tuple(labels.shape)}"
            )
    elif labels.ndim != 1 or not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        raise DataError(
            f"labels must be class indices in 0..{classes - 1}, shape [n]; got "
            f"{tuple(labels.shape)} from {int(labels.min())} to {int(labels.max())}"
        )


def label_kind(labels: Tensor) -> str:
    """Return ``soft`` for probabilities and ``hard`` for class indices."""
    return "soft" if torch.is_floating_point(labels) else "hard"
