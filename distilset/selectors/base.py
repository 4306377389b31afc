"""What every selector shares: its type, the check of a request, the loop over classes."""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from distilset.errors import ConfigError
from distilset.rng import Rng
from distilset.selectors.features import Features, class_features
from distilset.types import ImageSet

Pick = Callable[[Float[Tensor, "m d"], int], Int64[Tensor, " ipc"]]


@runtime_checkable
class Selector(Protocol):
    """Picks ``ipc`` images of every class, and returns their rows in ``train``, class by class.

    ``features`` maps uint8 images ``[n, channels, height, width]`` to ``[n, d]``; without it the
    features are the flattened normalised pixels. A selector that needs none ignores it.

    Raises:
        ConfigError: if ``train`` is a test split, or ``ipc`` is below 1 or above a class's size.

    """

    def __call__(
        self, train: ImageSet, ipc: int, rng: Rng, features: Features | None = None
    ) -> Int64[Tensor, " rows"]:
        """Select."""
        ...


def check_request(train: ImageSet, ipc: int) -> None:
    """Refuse a test split, and an ``ipc`` that the smallest class cannot serve.

    Raises:
        ConfigError: with the class and its count.

    """
    if train.role == "test":
        raise ConfigError("images cannot be selected from the test split; give the train split")
    if ipc < 1:
        raise ConfigError(f"ipc is {ipc}; it must be at least 1")
    count, name = min(zip(train.counts, train.classes, strict=True), key=lambda pair: pair[0])
    if ipc > count:
        raise ConfigError(
            f"ipc is {ipc} but class {name!r} has only {count} images; "
            f"where real images are selected it must be at most that"
        )


def select_by(
    pick: Pick, train: ImageSet, ipc: int, features: Features | None
) -> Int64[Tensor, " rows"]:
    """Apply ``pick`` to the features of each class in turn; one class is in memory at a time."""
    check_request(train, ipc)
    rows = [
        pick(class_features(train, c, features), ipc).cpu() + train.offsets[c]
        for c in range(len(train.classes))
    ]
    return torch.cat(rows)
