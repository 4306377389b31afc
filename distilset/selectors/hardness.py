"""How hard real images are, by networks in training on all of them; kept in the cache.

The trainings are those of Toneva et al. and Paul et al., which agree: 200 epochs of batches of 128,
SGD with learning rate 0.1, x0.2 after 60, 120 and 160 epochs, momentum 0.9, weight decay 5e-4.
Departures: they train ResNet-18 with Nesterov's momentum on cropped and mirrored images; ours is
the package's ConvNet with InstanceNorm, plain momentum, and images as they are.
"""

import io
from collections.abc import Callable
from dataclasses import asdict, replace
from hashlib import blake2b
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from distilset.cache import cache_folder
from distilset.compilation import has_cpp_compiler
from distilset.data.normalise import Transform
from distilset.errors import DataError
from distilset.files import write_atomically
from distilset.hardware import default_chunk, resolve_device, resolve_precision
from distilset.models import NetworkConfig, build_network, initialise, settled
from distilset.rng import Rng
from distilset.training.protocols import Protocol
from distilset.training.step import TrainSettings, settle
from distilset.training.trainer import Before, Trainer
from distilset.types import ImageSet

EPOCHS, BATCH, LEARNING_RATE, MOMENTUM, WEIGHT_DECAY = 200, 128, 0.1, 0.9, 5e-4
"""The published training (Toneva et al., ICLR 2019; Paul et al., NeurIPS 2021)."""

NETWORK = NetworkConfig()
"""The network that is trained: a departure, both papers have ResNet-18."""

SEED = 0
"""The seed of the trainings: the same for all callers, so that a data set pays for them once."""

_VERSION = 1

Measure = Callable[[Trainer, "Probe"], Tensor]
"""Trains a fresh network and returns a score for every image, ``[n]``."""


class Probe:
    """The training images, ready to train on and to be scored."""

    def __init__(self, train: ImageSet, protocol: Protocol, settings: TrainSettings) -> None:
        self.images = train.images.to(settings.device)
        self.labels = train.labels.to(settings.device)
        self.transform = Transform(train.info.mean, train.info.std).to(settings.device)
        self.protocol = protocol
        self.chunk = min(2 * default_chunk(train.spec, settings.device), BATCH)
        self.rng = Rng(SEED)

    def fit(self, trainer: Trainer, before: Before | None = None) -> None:
        """Train a fresh network.

        Raises:
            DataError: it diverged.
        """
        apply = self.transform.apply
        initialise(trainer.network, self.rng, "weights")
        arguments = (self.images, self.labels, self.protocol, self.rng)
        trainer.train(*arguments, prepare=apply, before=before)
        if not all(bool(weights.isfinite().all()) for weights in trainer.network.parameters()):
            raise DataError("a network that was to tell hard images diverged on the training data")

    @torch.no_grad()
    def scores(self, trainer: Trainer, images: Tensor) -> Float32[Tensor, "n classes"]:
        """Return the class scores of normalised images."""
        return trainer.step.scores(images, self.chunk)


def published(epochs: int = EPOCHS) -> Callable[[int], Protocol]:
    """Return the published training for ``n`` images, ended after its first ``epochs``."""

    def of(n: int) -> Protocol:
        whole = Protocol(
            "published", EPOCHS, BATCH, LEARNING_RATE, "fifths", MOMENTUM, WEIGHT_DECAY
        )
        return replace(whole, updates=epochs * whole.updates_per_epoch(n))

    return of


def measured(
    name: str, measure: Measure, train: ImageSet, networks: int, epochs: int
) -> Float32[Tensor, " n"]:
    """Return the mean score of every image over ``networks`` trainings, from the cache if there.

    It computes where it can best: on a GPU if there is one. On a CPU it may take long, for it
    trains ``networks`` x ``epochs`` times on all images.

    Raises:
        DataError: a network diverged.
    """
    protocol = published(epochs)(len(train))
    settings = _settings(train, networks, protocol)
    path = cache_folder("hardness") / f"{_key(name, train, networks, protocol, settings)}.npy"
    known = _read(path, len(train))
    if known is not None:
        return known
    network = build_network(settled(NETWORK, train.spec), train.spec, len(train.classes))
    trainer, probe = Trainer(network, settings), Probe(train, protocol, settings)
    total = torch.zeros(len(train))
    for number in range(networks):
        probe.rng = Rng(SEED).child("hardness", name, number)
        total += measure(trainer, probe).cpu()
    found = total / networks
    write_atomically(path, lambda partial: _write(partial, found))
    return found


def _settings(train: ImageSet, networks: int, protocol: Protocol) -> TrainSettings:
    device = resolve_device("auto")
    reduced = resolve_precision("auto", device)[0] == "bf16"
    settings = TrainSettings(device, "bf16" if reduced else "fp32", has_cpp_compiler())
    passes = networks * protocol.total_updates(len(train)) * min(len(train), BATCH)
    return settle(settings, passes, train.spec)[0]


def _key(
    name: str, train: ImageSet, networks: int, protocol: Protocol, settings: TrainSettings
) -> str:
    """Hash all that decides the scores."""
    facts = (
        *(_VERSION, name, SEED, train.digest, train.info.mean, train.info.std, networks),
        *(asdict(protocol), asdict(settings), asdict(NETWORK), torch.__version__),  # type: ignore[call-overload]
    )
    return blake2b(repr(facts).encode(), digest_size=16).hexdigest()


def _write(path: Path, scores: Tensor) -> None:
    path.write_bytes(_content(scores))


def _content(scores: Tensor) -> bytes:
    """Return the ``.npy`` file of scores."""
    file = io.BytesIO()
    np.save(file, scores.numpy(), allow_pickle=False)
    return file.getvalue()


def _read(path: Path, n: int) -> Tensor | None:
    """Return scores from the cache; None if there are none that can be read.

    All but the scores is known beforehand, so nothing that a damaged file says is believed.
    """
    usual = _content(torch.zeros(n))
    start = len(usual) - 4 * n
    try:
        with path.open("rb") as file:
            content = file.read(len(usual) + 1)
    except OSError:
        return None
    if len(content) != len(usual) or content[:start] != usual[:start]:
        return None
    scores = torch.from_numpy(np.frombuffer(content, np.float32, offset=start).copy())
    return scores if bool((scores >= 0).all()) else None  # NaN is not; infinite ones are meant
