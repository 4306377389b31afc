"""Which image goes where: the rows of every part, sorted by class, from the labels alone."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int64

from distilset.data.assemble import ROLES, check_classes
from distilset.data.split import mark_test, mark_val
from distilset.types import DatasetInfo, Role


@dataclass(frozen=True)
class Arrangement:
    """For every part, which images of the source it has, in its order, and where classes begin.

    Images of a source are numbered through its parts, train first, unreadable ones too.
    """

    rows: dict[Role, Int64[np.ndarray, " n"]]
    offsets: dict[Role, tuple[int, ...]]
    carved: bool

    @property
    def order(self) -> Int64[np.ndarray, " n"]:
        """The number of every image of the map: train, val, test."""
        return np.concatenate(list(self.rows.values()))


def arrange(
    labels: Sequence[np.ndarray],
    keep: Bool[np.ndarray, " n"],
    classes: tuple[str, ...],
    info: DatasetInfo,
) -> Arrangement:
    """Split and sort images as `assemble` does it with images in memory.

    ``labels`` are those of the source's parts, ``keep`` marks the images that can be read.

    Raises:
        DataError: a class without training images.
        ConfigError: nothing to carve a validation part from.
    """
    codes = np.concatenate(labels)
    first = len(labels[0])
    train = np.flatnonzero(keep[:first])
    check_classes(codes[train], classes)
    rows: dict[Role, np.ndarray] = {}
    marked = np.zeros(len(train), dtype=bool)
    if len(labels) == 1:
        marked = mark_test(codes[train], len(classes), info.split_seed)
        if marked.any():
            rows["test"] = train[marked]
    else:
        rows["test"] = first + np.flatnonzero(keep[first:])
    train, carved = train[~marked], bool(marked.any())
    marked = mark_val(codes[train], len(classes), info)
    if marked.any():
        rows["val"] = train[marked]
    rows["train"] = train[~marked]
    ordered: dict[Role, np.ndarray] = {}
    offsets: dict[Role, tuple[int, ...]] = {}
    for role in ROLES:
        if role in rows:
            ordered[role] = rows[role][np.argsort(codes[rows[role]], kind="stable")]
            offsets[role] = _offsets(codes[ordered[role]], len(classes))
    return Arrangement(ordered, offsets, carved)


def _offsets(codes: np.ndarray, classes: int) -> tuple[int, ...]:
    return (0, *(int(v) for v in np.bincount(codes, minlength=classes).cumsum()))
