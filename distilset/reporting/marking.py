"""Which rows may be called best: those whose lead is larger than its uncertainty."""

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np

LEVEL = 0.95
RULE = (
    "Best (bold) and second-best (underlined) are marked within one column among sets of the same "
    "data, the same number of images per class and the same factor, and only where the lead is "
    "certain: the 95 % Welch t interval of the difference of means excludes 0 against every row "
    "below. A row of one network, or whose networks all agree, has no spread: it is never marked, "
    "and nothing is marked as better than it. ± is the standard deviation over the n networks "
    "(ddof 0). Training on the whole data is a reference and takes no part."
)
"""The rule in words, for a table's caption."""

Mark = Literal["", "best", "second"]


def surely_above(first: Sequence[float], second: Sequence[float]) -> bool:
    """Tell whether the mean of ``first`` is above that of ``second`` beyond its uncertainty.

    The 95 % interval of the difference of means must exclude 0, by Welch's t with the
    Welch-Satterthwaite degrees of freedom (Biometrika 34, 1947). A sample of one, or one without
    spread, allows no such statement.
    """
    if min(len(first), len(second)) < 2:
        return False
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    variances = np.array([a.var(ddof=1) / len(a), b.var(ddof=1) / len(b)])
    if not np.isfinite(variances).all() or variances.min() <= 0:
        return False
    from scipy.special import stdtrit

    total = float(variances.sum())
    freedom = total**2 / float((variances**2 / np.array([len(a) - 1, len(b) - 1])).sum())
    margin = float(stdtrit(freedom, 0.5 + LEVEL / 2)) * math.sqrt(total)
    return float(a.mean() - b.mean()) > margin


def marks(samples: Sequence[Sequence[float]]) -> list[Mark]:
    """Mark the best and second-best of several samples of accuracies.

    The best is surely above every other. The second-best is marked only below a best, surely above
    all that remain, of which there must be one.
    """
    found: list[Mark] = [""] * len(samples)
    means = [float(np.mean(sample)) if len(sample) else math.nan for sample in samples]
    order = sorted(range(len(samples)), key=lambda i: (math.isnan(means[i]), -means[i]))
    for place, mark in enumerate(("best", "second")):
        rest = [samples[i] for i in order[place + 1 :]]
        if not rest or not all(surely_above(samples[order[place]], other) for other in rest):
            break
        found[order[place]] = mark
    return found
