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


def hardest(train: ImageSet, ipc: int, hardness: Float[Tensor, " n"]) -> Int64[Tensor, " rows"]:
    """Pick the images of each class with the largest scores, hardest first; of equals the first."""
    parts = hardness.split(train.counts)
    rows = [
        part.argsort(descending=True, stable=True)[:ipc] + offset
        for part, offset in zip(parts, train.offsets, strict=False)
    ]
    return torch.cat(rows)


def selector_name(selector: Selector) -> str:
    """Return what a function is called in cards and tables."""
    return str(getattr(selector, "__name__", type(selector).__name__))


def check_rows(name: str, rows: object, train: ImageSet, ipc: int) -> Int64[Tensor, " rows"]:
    """Return the rows that a selector picked, or refuse them.

    Raises:
        ConfigError: unless they are ``ipc`` different rows of every class, class by class.
    """
    wanted = f"int64 rows of the train part, {ipc} different ones of every class, class by class"
    if not isinstance(rows, Tensor) or rows.dtype != torch.int64 or rows.ndim != 1:
        got = f"{rows.dtype} {list(rows.shape)}" if isinstance(rows, Tensor) else repr(type(rows))
        raise ConfigError(f"selector {name} must return {wanted}; got {got}")
    rows = rows.cpu()
    inside = bool(((rows >= 0) & (rows < len(train))).all())
    labels = torch.arange(len(train.classes)).repeat_interleave(ipc)
    fits = inside and torch.equal(train.labels[rows], labels)
    if not fits or len(rows.unique()) < len(rows):
        raise ConfigError(f"selector {name} must return {wanted}; got {rows.tolist()[:10]}")
    return rows
