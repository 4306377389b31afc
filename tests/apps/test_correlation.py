import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from distilset.apps.correlation import best_of, correlate, kendall, resamples, spearman, worse
from distilset.rng import Rng

RNG = Rng(0)
few = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=2, max_size=30)


@settings(max_examples=80, deadline=None)
@given(few)
def test_both_equal_scipys_with_and_without_ties(pairs):
    x, y = np.array(pairs, dtype=float).T
    with np.errstate(all="ignore"), warnings.catch_warnings(action="ignore"):
        wanted = [float(f(x, y).statistic) for f in (stats.spearmanr, stats.kendalltau)]
    got = correlate(x, y, RNG)
    for ours, theirs in zip((got.spearman, got.kendall), wanted, strict=True):
        assert (ours is None) == bool(np.isnan(theirs))
        assert ours is None or ours == pytest.approx(theirs, abs=1e-9)
    assert got.n == len(pairs)


def test_resampled_values_equal_scipys_on_the_resampled_networks():
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 9, 12).astype(float), rng.normal(size=12)
    rows = resamples(12, RNG)[:5]
    counts = np.stack([np.bincount(row, minlength=12) for row in rows]).astype(float)
    for got, taus, row in zip(spearman(x[rows], y[rows]), kendall(x, y, counts), rows, strict=True):
        assert got == pytest.approx(stats.spearmanr(x[row], y[row]).statistic)
        assert taus == pytest.approx(stats.kendalltau(x[row], y[row]).statistic)


def test_intervals_hold_the_value_and_shrink_with_more_networks():
    rng = np.random.default_rng(1)
    widths = []
    for n in (10, 400):
        x = rng.normal(size=n)
        found = correlate(x, x + rng.normal(size=n), RNG)
        rho = (found.spearman_low, found.spearman, found.spearman_high)
        tau = (found.kendall_low, found.kendall, found.kendall_high)
        assert None not in (*rho, *tau)
        assert list(rho) == sorted(rho)  # type: ignore[type-var]
        assert list(tau) == sorted(tau)  # type: ignore[type-var]
        widths.append(rho[2] - rho[0])  # type: ignore[operator]
    assert widths[1] < widths[0] / 3


def test_two_networks_have_no_interval_and_equal_ones_no_correlation():
    two = correlate(np.array([1.0, 2.0]), np.array([3.0, 4.0]), RNG)
    assert (two.spearman, two.spearman_low) == (1.0, None)
    same = correlate(np.full(5, 10.0), np.arange(5.0), RNG)
    assert (same.spearman, same.kendall, same.spearman_low) == (None, None, None)


def test_a_network_that_diverged_counts_as_the_worst():
    diverged = correlate(np.array([np.nan, 20.0, 30.0]), np.array([10.0, 20.0, 30.0]), RNG)
    assert diverged.spearman == 1.0


def test_the_best_fifth_is_rounded_up_and_has_all_that_tie():
    assert best_of(np.arange(10.0)).tolist() == [8, 9]
    assert best_of(np.arange(30.0)).tolist() == list(range(24, 30))
    assert best_of(np.arange(11.0)).tolist() == [8, 9, 10]
    assert best_of(np.array([5.0, 5.0, 1.0, 5.0])).tolist() == [0, 1, 3]
    assert best_of(np.array([1.0, np.nan])).tolist() == [0, 1]


def test_a_proxy_is_behind_only_where_the_difference_is_certain():
    rng = np.random.default_rng(2)
    y = rng.normal(size=60)
    good, noise = y + 0.1 * rng.normal(size=60), rng.normal(size=60)
    assert worse(noise, good, y, RNG)
    assert not worse(good, noise, y, RNG)
    assert not worse(y + 0.101 * rng.normal(size=60), good, y, RNG)
