import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from distilset.rng import Rng
from distilset.selectors.features import class_features
from distilset.selectors.kcenter import pick, select
from tests.references import selectors as references


@settings(max_examples=40, deadline=None)
@given(n=st.integers(3, 30), d=st.integers(2, 8), seed=st.integers(0, 2**31), part=st.floats(0, 1))
def test_equals_oracle(n, d, seed, part):
    vectors = torch.randn(n, d, generator=torch.Generator().manual_seed(seed))
    ipc = max(1, int(part * n))
    assert pick(vectors, ipc).tolist() == references.kcenter(vectors, ipc)


def test_equals_oracle_on_images(make_set):
    train = make_set((40, 30))
    expected = [
        train.offsets[c] + i
        for c in range(2)
        for i in references.kcenter(class_features(train, c, None), 12)
    ]
    assert select(train, 12, Rng(0)).tolist() == expected


def test_picks_the_middle_then_the_ends():
    vectors = torch.tensor([[0.0], [4.0], [5.0], [11.0]])
    assert pick(vectors, 3).tolist() == [2, 3, 0]


def test_among_equals_the_first():
    vectors = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, 0.0], [0.0, 0.0]])
    vectors = torch.cat([vectors, torch.tensor([[0.0, -1.0]])])
    assert pick(vectors, 6).tolist() == [3, 0, 1, 2, 5, 4]


@settings(max_examples=60, deadline=None)
@given(
    points=st.lists(st.tuples(st.integers(-9, 9), st.integers(-9, 9)), min_size=1, max_size=9),
    ipc=st.integers(1, 4),
)
def test_radius_is_at_most_twice_the_best(points, ipc):
    ipc = min(ipc, len(points))
    picked = pick(torch.tensor(points, dtype=torch.float32), ipc).tolist()
    assert len(set(picked)) == ipc
    best = references.smallest_radius(points, ipc)
    assert references.radius(points, picked) <= 2 * best + 1e-6
