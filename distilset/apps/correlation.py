"""Rank correlations of two lists of accuracies, with intervals that show what is uncertain."""

from dataclasses import dataclass
from math import ceil

import numpy as np
from jaxtyping import Float, Int

from distilset.rng import Rng

Values = Float[np.ndarray, " n"]
DRAWS = 1000
"""Bootstrap draws: networks drawn anew with replacement."""

TOP = 0.2
"""The share of the best networks among which correlations are reported too."""

LOW, HIGH = 2.5, 97.5


@dataclass(frozen=True)
class Correlation:
    """Spearman's rho and Kendall's tau-b over ``n`` networks, each with its 95 % interval.

    The intervals are percentiles of bootstrap draws over the networks. None where a value is
    undefined: fewer than 2 networks, or all of one accuracy; intervals need 3 networks.
    """

    n: int
    spearman: float | None
    spearman_low: float | None
    spearman_high: float | None
    kendall: float | None
    kendall_low: float | None
    kendall_high: float | None


def correlate(proxy: Values, reference: Values, rng: Rng) -> Correlation:
    """Correlate two lists; a network that diverged (NaN) counts as the worst, at accuracy 0."""
    x, y = np.nan_to_num(proxy, nan=0.0), np.nan_to_num(reference, nan=0.0)
    rows = resamples(len(x), rng)
    rho, tau = spearman(x[None], y[None]), kendall(x, y, np.ones((1, len(x))))
    ends = _interval(spearman(x[rows], y[rows])), _interval(kendall(x, y, _counts(rows)))
    if len(x) < 3:
        ends = (None, None), (None, None)
    return Correlation(len(x), _number(rho[0]), *ends[0], _number(tau[0]), *ends[1])


def worse(proxy: Values, best: Values, reference: Values, rng: Rng) -> bool:
    """Tell whether a proxy's Spearman correlation is below another's beyond doubt.

    By the same draws of networks for both: whether 97.5 % of the differences are below 0.
    """
    x, other, y = (np.nan_to_num(v, nan=0.0) for v in (proxy, best, reference))
    rows = resamples(len(x), rng)
    difference = spearman(x[rows], y[rows]) - spearman(other[rows], y[rows])
    high = _interval(difference)[1]
    return len(x) >= 3 and high is not None and high < 0


def best_of(reference: Values, share: float = TOP) -> Int[np.ndarray, " k"]:
    """Return the positions of the best ``share`` of networks, rounded up, two at least.

    Those that are as good as the last of them are in it, too.
    """
    values = np.nan_to_num(reference, nan=0.0)
    k = min(len(values), max(2, ceil(round(share * len(values), 9))))
    return np.flatnonzero(values >= np.sort(values)[-k])


def resamples(n: int, rng: Rng) -> Int[np.ndarray, "draws n"]:
    """Draw networks with replacement, the same for every proxy that is compared."""
    return rng.numpy("bootstrap", n).integers(0, n, size=(DRAWS, n))


def spearman(
    x: Float[np.ndarray, "rows n"], y: Float[np.ndarray, "rows n"]
) -> Float[np.ndarray, " rows"]:
    """Pearson's correlation of average ranks, row by row; NaN where a row is constant."""
    from scipy.stats import rankdata

    a, b = (rankdata(values, axis=1) for values in (x, y))
    a, b = (ranks - ranks.mean(1, keepdims=True) for ranks in (a, b))
    return _ratio((a * b).sum(1), np.sqrt((a**2).sum(1) * (b**2).sum(1)))


def kendall(
    x: Values, y: Values, counts: Float[np.ndarray, "rows n"]
) -> Float[np.ndarray, " rows"]:
    """Kendall's tau-b where network i is there ``counts[row, i]`` times; NaN as for Spearman.

    With s the signs of the differences of all pairs, tau-b is sum(s_x s_y) over
    sqrt(sum(s_x^2) sum(s_y^2)); a network and its own copy are a tie.
    """
    a, b = (np.sign(values[:, None] - values[None, :]) for values in (x, y))
    both, first, second = (((counts @ pairs) * counts).sum(1) for pairs in (a * b, a**2, b**2))
    return _ratio(both, np.sqrt(first * second))


def _counts(rows: Int[np.ndarray, "draws n"]) -> Float[np.ndarray, "draws n"]:
    n = rows.shape[1]
    flat = (rows + n * np.arange(len(rows))[:, None]).ravel()
    return np.bincount(flat, minlength=rows.size).reshape(rows.shape).astype(float)


def _ratio(over: np.ndarray, under: np.ndarray) -> np.ndarray:
    return np.divide(over, under, out=np.full_like(over, np.nan), where=under > 0)


def _interval(values: np.ndarray) -> tuple[float | None, float | None]:
    finite = values[np.isfinite(values)]
    if not len(finite):
        return None, None
    return float(np.percentile(finite, LOW)), float(np.percentile(finite, HIGH))


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
