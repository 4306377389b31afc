from collections import Counter
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distilset.apps.sampling import stratified
from distilset.errors import ConfigError
from distilset.rng import Rng


def levels_of(sizes):
    members = list(product(*(range(size) for size in sizes)))
    return {str(f): [m[f] for m in members] for f in range(len(sizes))}, len(members)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_every_level_of_every_factor_comes_equally_often(data):
    sizes = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    levels, count = levels_of(sizes)
    number = data.draw(st.integers(1, count))
    chosen = stratified(levels, count, number, Rng(data.draw(st.integers(0, 9))))
    assert chosen == sorted(set(chosen))
    assert len(chosen) == number
    for factor, size in zip(levels.values(), sizes, strict=True):
        counts = Counter(factor[i] for i in chosen)
        assert max(counts.values()) - min(counts.get(k, 0) for k in range(size)) <= 1


@pytest.mark.parametrize("number", [24, 30, 360, 719])
def test_the_papers_space_is_sampled_in_balance(number):
    levels, count = levels_of((4, 4, 5, 3, 3))
    assert count == 720
    chosen = stratified(levels, count, number, Rng(0))
    for factor in levels.values():
        counts = Counter(factor[i] for i in chosen)
        assert max(counts.values()) - min(counts.values()) <= 1


def test_the_seed_decides_the_sample():
    levels, count = levels_of((4, 4, 5))
    draws = [tuple(stratified(levels, count, 20, Rng(seed))) for seed in (0, 0, 1, 2)]
    assert draws[0] == draws[1]
    assert len(set(draws)) == 3


def test_a_list_without_factors_is_sampled_too():
    assert len(stratified({}, 10, 4, Rng(0))) == 4


@pytest.mark.parametrize("number", [0, 11])
def test_a_sample_that_cannot_be_is_refused(number):
    with pytest.raises(ConfigError, match="1 to 10"):
        stratified({}, 10, number, Rng(0))
