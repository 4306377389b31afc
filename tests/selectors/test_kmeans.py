import warnings

import torch

from distilset.rng import Rng
from distilset.selectors import SELECTORS, kmeans


def blobs(sizes=(30, 20, 10), spread=0.1):
    centres = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    generator = torch.Generator().manual_seed(0)
    parts = [
        centre + spread * torch.randn(size, 2, generator=generator)
        for centre, size in zip(centres, sizes, strict=True)
    ]
    return torch.cat(parts), centres


def test_picks_are_the_vectors_nearest_to_the_blobs_means_the_largest_blob_first():
    vectors, _ = blobs()
    expected = []
    for part, offset in zip(vectors.split((30, 20, 10)), (0, 30, 50), strict=True):
        gaps = (part - part.mean(0)).norm(dim=1)
        expected.append(int(gaps.argmin()) + offset)
    assert kmeans.pick(vectors, 3).tolist() == expected


def test_equal_vectors_are_picked_once_each():
    picked = kmeans.pick(torch.ones(6, 3), 4)
    assert len(set(picked.tolist())) == 4


def test_all_of_a_class_may_be_picked(make_set):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rows = SELECTORS["kmeans"](make_set((4, 4)), 4, Rng(0))
    assert sorted(rows.tolist()) == list(range(8))


def test_the_seed_decides(make_set):
    train = make_set((40, 40))
    first, again, other = (SELECTORS["kmeans"](train, 5, Rng(seed)) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
