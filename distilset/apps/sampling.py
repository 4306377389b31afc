"""A seeded sample of a list in which every level of every factor comes about equally often."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Int

from distilset.errors import ConfigError
from distilset.rng import Rng

Levels = Mapping[str, Sequence[object]]
"""For each factor the level that each member has."""


def stratified(levels: Levels, count: int, number: int, rng: Rng) -> list[int]:
    """Return ``number`` different positions below ``count``, ascending, balanced over levels.

    Begins with a uniform draw and swaps a member inside for one outside as long as that lowers the
    sum of squared counts over all levels of all factors, the largest gain first. In a full product
    of factors this ends with counts of each factor that differ by at most 1: were level a there
    two times more often than b, some member with a inside would have its like with b outside, and
    the swap would gain. In other lists it comes as close as single swaps can.

    Raises:
        ConfigError: ``number`` below 1 or above ``count``.
    """
    if not 1 <= number <= count:
        raise ConfigError(f"a sample must have 1 to {count} members of the space; got {number}")
    coded = [np.unique(_texts(level), return_inverse=True)[1] for level in levels.values()]
    codes = np.array(coded, dtype=np.int64).reshape(len(levels), count)
    inside = np.zeros(count, dtype=bool)
    inside[rng.numpy("sample").permutation(count)[:number]] = True
    while (swap := _best_swap(codes, inside)) is not None:
        inside[list(swap)] = [False, True]
    return [int(position) for position in np.flatnonzero(inside)]


def _texts(level: Sequence[object]) -> list[str]:
    return [str(value) for value in level]


def _best_swap(
    codes: Int[np.ndarray, "factors members"], inside: Bool[np.ndarray, " members"]
) -> tuple[int, int] | None:
    """Return the member to take out and the one to put in; None where no swap gains."""
    chosen, others = np.flatnonzero(inside), np.flatnonzero(~inside)
    if not len(others):
        return None
    change = np.zeros((len(chosen), len(others)), dtype=np.int64)
    for factor in codes:
        counts = np.bincount(factor[chosen], minlength=int(factor.max()) + 1)
        out, into = factor[chosen][:, None], factor[others][None, :]
        change += np.where(out == into, 0, counts[into] - counts[out] + 1)
    best = int(change.argmin())
    if change.flat[best] >= 0:
        return None
    row, column = divmod(best, len(others))
    return int(chosen[row]), int(others[column])
