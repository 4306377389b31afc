import torch

from distilset.rng import Rng
from distilset.selectors.random import select


def test_another_seed_picks_others(make_set):
    train = make_set((50, 50))
    assert not torch.equal(select(train, 5, Rng(0)), select(train, 5, Rng(1)))


def test_every_image_is_picked_equally_often(make_set):
    train = make_set((4, 6))
    rows = torch.cat([select(train, 2, Rng(seed)) for seed in range(1500)])
    share = torch.bincount(rows, minlength=10) / 1500
    expected = torch.tensor([2 / 4] * 4 + [2 / 6] * 6)
    assert (share - expected).abs().max() < 0.055  # more than four standard deviations
