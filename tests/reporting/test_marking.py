"""The marking rule, against a case worked by hand and against SciPy's own test."""

import numpy as np
import pytest
from scipy.stats import ttest_ind

from distilset.reporting.marking import marks, surely_above


def test_a_case_worked_by_hand():
    """Means 62 and 60, variances 1 and 1, n 3 each: t(4, .975) = 2.776, margin 2.776 * .8165.

    That is 2.267: a lead of 2 is uncertain, one of 3 is not.
    """
    low = [59.0, 60.0, 61.0]
    assert not surely_above([61.0, 62.0, 63.0], low)
    assert surely_above([62.0, 63.0, 64.0], low)
    assert not surely_above(low, [62.0, 63.0, 64.0])


def test_it_agrees_with_welchs_test():
    rng = np.random.default_rng(0)
    seen = set()
    for _ in range(200):
        a = rng.normal(60.5, rng.uniform(0.1, 2), rng.integers(2, 8))
        b = rng.normal(60, rng.uniform(0.1, 2), rng.integers(2, 8))
        certain = ttest_ind(a, b, equal_var=False).pvalue < 0.05 and a.mean() > b.mean()
        seen.add(bool(certain))
        assert surely_above(a.tolist(), b.tolist()) == certain
    assert seen == {True, False}


HIGH, MIDDLE, LOW = [70.0, 71.0, 72.0], [60.0, 61.0, 62.0], [50.0, 51.0, 52.0]


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        ([LOW, HIGH, MIDDLE], ["", "best", "second"]),
        ([HIGH, [70.5, 71.5, 72.5], LOW], ["", "", ""]),  # the two highest cannot be told apart
        ([HIGH, MIDDLE, [60.5, 61.5, 62.5]], ["best", "", ""]),
        ([HIGH, MIDDLE], ["best", ""]),  # of two, the second is the last
        ([HIGH], [""]),
        ([], []),
        ([[90.0], MIDDLE, LOW], ["", "", ""]),  # one network: no spread, never better
        ([HIGH, MIDDLE, [50.0]], ["", "", ""]),  # and nothing is better than it
        ([[70.0, 70.0], MIDDLE, LOW], ["", "", ""]),  # all agree: no spread
    ],
)
def test_only_certain_leads_are_marked(samples, expected):
    assert marks(samples) == expected
