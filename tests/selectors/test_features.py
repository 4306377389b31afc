import pytest
import torch

from distilset.errors import ConfigError
from distilset.models import NetworkConfig
from distilset.rng import Rng
from distilset.selectors import SELECTORS, get_selector
from distilset.selectors.features import (
    class_features,
    distances,
    network_features,
    normalised_pixels,
)

by_distance = pytest.mark.parametrize("name", ["herding", "kcenter"])


def test_pixels_are_normalised_per_channel(make_set):
    train = make_set()
    vectors = normalised_pixels(train.images, train.info)
    assert vectors.shape == (22, 60)
    expected = (train.images[5, 2, 3, 1] / 255 - 0.5) / 0.1
    torch.testing.assert_close(vectors[5].view(3, 4, 5)[2, 3, 1], expected)
    assert torch.equal(class_features(train, 1, None), vectors[9:15])


@by_distance
def test_pixels_are_the_default(name, make_set):
    train = make_set()
    given = SELECTORS[name](train, 4, Rng(0), lambda x: normalised_pixels(x, train.info))
    assert torch.equal(given, SELECTORS[name](train, 4, Rng(0)))


@by_distance
def test_given_features_are_used(name, make_set):
    train = make_set((30,))
    first_pixel = SELECTORS[name](train, 5, Rng(0), lambda x: x[:, 0, 0, :1].double())
    assert not torch.equal(first_pixel, SELECTORS[name](train, 5, Rng(0)))


@by_distance
def test_features_of_another_shape_are_refused(name, make_set):
    with pytest.raises(ConfigError, match=r"as many vectors, \[9, d\]; got shape \[9, 3, 4, 5\]"):
        SELECTORS[name](make_set(), 2, Rng(0), lambda x: x.float())


def test_distances():
    vectors = torch.randn(40, 6, generator=torch.Generator().manual_seed(0))
    expected = ((vectors.double() - vectors[3].double()) ** 2).sum(1).sqrt()
    torch.testing.assert_close(distances(vectors, vectors[3]).double(), expected)
    assert distances(vectors, vectors[3])[3] == 0


def test_features_of_a_network_are_its_last_ones(make_set):
    train = make_set()
    config = NetworkConfig(width=8, depth=1, norm="batch")
    features = network_features(config, train, Rng(0))
    vectors = features(train.images)
    assert vectors.shape == (len(train), 8 * 2 * 2)
    assert torch.allclose(features(train.images[3:5]), vectors[3:5], atol=1e-6)
    assert torch.equal(vectors, network_features(config, train, Rng(0))(train.images))
    assert not torch.equal(vectors, network_features(config, train, Rng(1))(train.images))
    rows = get_selector("kcenter")(train, 3, Rng(0), features)
    assert sorted(train.labels[rows].tolist()) == [0, 0, 0, 1, 1, 1, 2, 2, 2]
