"""Initial synthetic images: real ones that a selector picks, noise, or another run's."""

import math
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from distilset.data.normalise import Transform
from distilset.errors import ConfigError, unknown_name
from distilset.formation import encode
from distilset.memory import memory_bytes
from distilset.optimise import state_bytes
from distilset.rng import Rng
from distilset.selectors import SELECTORS
from distilset.store import DistilledSet
from distilset.types import ImageSet


def check_init(init: str, train: ImageSet, ipc: int, factor: int = 1) -> None:
    """Refuse an unknown name, and more images per class than there are to pick from or than fit."""
    size = state_bytes() * len(train.classes) * ipc * math.prod(train.spec.shape)
    if size > (memory_bytes() or size):
        raise ConfigError(
            f"ipc {ipc} needs {size / 1e9:.0f} GB for the synthetic images of {train.spec} alone, "
            "more than this machine has; take a smaller ipc"
        )
    if init in SELECTORS:
        smallest = min(range(len(train.classes)), key=train.counts.__getitem__)
        if ipc * factor**2 > train.counts[smallest]:
            asked = f"ipc {ipc}" + f" x {factor**2} (factor {factor})" * (factor > 1)
            raise ConfigError(
                f"{asked} is more than class {train.classes[smallest]!r} has images "
                f"({train.counts[smallest]}); take a smaller ipc, or init noise"
            )
    elif init != "noise" and not Path(init).exists():
        raise unknown_name("init", init, [*SELECTORS, "noise", "the folder of a run"])


def initial_images(
    init: str, train: ImageSet, transform: Transform, ipc: int, rng: Rng, factor: int = 1
) -> Float[Tensor, "n c h w"]:
    """Make the images that a run starts from, in normalised space, class by class.

    Noise is standard normal in normalised space. Real images are not augmented; with a factor
    above 1 each stored image is a grid of ``factor ** 2`` of them, made smaller.
    """
    check_init(init, train, ipc, factor)
    if init in SELECTORS:
        rows = SELECTORS[init](train, ipc * factor**2, rng.child("init"))
        return encode(transform.apply(train.images[rows]), factor)
    shape = (len(train.classes) * ipc, *train.spec.shape)
    if init == "noise":
        return torch.randn(shape, generator=rng.torch("init"))
    return transform.apply(_from_run(init, train, shape, factor))


def _from_run(run: str, train: ImageSet, shape: tuple[int, ...], factor: int) -> Tensor:
    other = DistilledSet.load(run)
    if other.classes != train.classes:
        raise ConfigError(f"the run {run} has other classes than the data; init needs the same")
    if other.card.factor != factor:
        raise ConfigError(f"the run {run} has factor {other.card.factor}; init needs {factor}")
    if other.pixels.shape != shape:
        raise ConfigError(
            f"the run {run} has images {tuple(other.pixels.shape)}; init needs {tuple(shape)}"
        )
    return other.pixels[torch.argsort(other.hard_labels, stable=True)]
