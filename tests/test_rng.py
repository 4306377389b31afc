import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from distilset.rng import Rng, philox4x32

ONES = 0xFFFFFFFF


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [  # the known answers of Random123 1.09, philox4x32 with 10 rounds
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((ONES,) * 4, (ONES, ONES), (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_philox_known_answers(counter, key, words):
    assert tuple(philox4x32(np.array(counter, dtype=np.uint32), key)) == words


@given(st.integers(0, 2**63 - 1), st.integers(0, 2**40), st.lists(st.integers(0, 999), max_size=5))
@settings(max_examples=50, deadline=None)
def test_a_class_draws_the_same_alone_and_in_company(seed, step, classes):
    rng = Rng(seed)
    together = rng.uniform("purpose", step, classes, 7)
    assert together.shape == (len(classes), 7)
    for row, c in zip(together, classes, strict=True):
        assert (rng.uniform("purpose", step, [c], 7)[0] == row).all()


def test_purpose_step_class_and_seed_all_count():
    draws = [
        Rng(0).uniform("a", 0, [0], 4),
        Rng(1).uniform("a", 0, [0], 4),
        Rng(0).uniform("b", 0, [0], 4),
        Rng(0).uniform("a", 1, [0], 4),
        Rng(0).uniform("a", 0, [1], 4),
        Rng(0).uniform("a", 2**32, [0], 4),
    ]
    assert len({tuple(draw[0]) for draw in draws}) == len(draws)


@given(st.integers(1, 60), st.integers(1, 80), st.integers(0, 100))
@settings(max_examples=60, deadline=None)
def test_sample_is_without_replacement(count, n, step):
    picked = Rng(3).sample("batch", step, 0, count, n)
    assert len(picked) == min(n, count) == len(set(picked.tolist()))
    assert 0 <= picked.min() <= picked.max() < count


def test_sample_is_uniform():
    picks = np.concatenate([Rng(5).sample("batch", step, 0, 20, 5) for step in range(4000)])
    counts = np.bincount(picks, minlength=20)
    assert ((counts - 1000) ** 2 / 1000).sum() < 50  # chi-square, 19 degrees: p about 1e-4


def test_global_state_is_left_alone():
    before = torch.get_rng_state()
    with Rng(0).as_global("weights", 1):
        first = torch.rand(3)
    assert torch.equal(before, torch.get_rng_state())
    with Rng(0).as_global("weights", 1):
        assert torch.equal(first, torch.rand(3))
