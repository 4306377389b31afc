import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from distilset.rng import Rng
from distilset.selectors.features import class_features
from distilset.selectors.herding import pick, select
from tests.references import selectors as references


@settings(max_examples=40, deadline=None)
@given(n=st.integers(3, 30), d=st.integers(2, 8), seed=st.integers(0, 2**31), part=st.floats(0, 1))
def test_equals_oracle(n, d, seed, part):
    vectors = torch.randn(n, d, generator=torch.Generator().manual_seed(seed))
    ipc = max(1, int(part * n))
    assert pick(vectors, ipc).tolist() == references.herding(vectors, ipc)


def test_equals_oracle_on_images(make_set):
    train = make_set((40, 30))
    expected = [
        train.offsets[c] + i
        for c in range(2)
        for i in references.herding(class_features(train, c, None), 12)
    ]
    assert select(train, 12, Rng(0)).tolist() == expected


@pytest.mark.parametrize("shift", [0.0, 100.0])
def test_first_pick_is_nearest_the_mean(shift):
    vectors = torch.tensor([[0.0], [4.0], [5.0], [11.0]]) + shift
    assert pick(vectors, 4).tolist()[0] == 2
    assert sorted(pick(vectors, 4).tolist()) == [0, 1, 2, 3]
