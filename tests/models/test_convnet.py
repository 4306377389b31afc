import numpy as np
import pytest
import torch

from distilset.errors import ConfigError
from distilset.models import (
    NORMS,
    NetworkConfig,
    build_network,
    couples_images,
    initialise,
    network_label,
    network_table,
)
from distilset.rng import Rng
from distilset.types import ImageSpec
from tests.references import convnet as reference

CIFAR = ImageSpec(3, 32, 32)


def size(network):
    return sum(p.numel() for p in network.parameters())


def stages_of(network):
    return [
        [p.detach().double().numpy() for p in (*s.conv.parameters(), *s.norm.parameters())]
        for s in network.stages
    ]


@pytest.mark.parametrize(
    ("norm", "expected"),
    [  # 3 convolutions, the norm's gains and biases, the classifier; instance is the published size
        ("instance", 320_010),
        ("batch", 320_010),
        ("group", 320_010),
        ("none", 319_242),
        ("layer", 319_242 + 2 * 128 * (32 * 32 + 16 * 16 + 8 * 8)),
    ],
)
def test_parameter_counts_at_32(norm, expected):
    assert size(build_network(NetworkConfig(norm=norm), CIFAR, 10)) == expected


def test_depth_follows_resolution():
    for side, depth in ((8, 3), (32, 3), (64, 4), (128, 5)):
        network = build_network(NetworkConfig(width=8), ImageSpec(3, side, side), 2)
        assert len(network.stages) == depth


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 12, 20), (4, 16, 8), (2, 9, 7)])
@pytest.mark.parametrize("norm", NORMS)
def test_any_channels_and_sizes(shape, norm):
    network = build_network(NetworkConfig(norm=norm, width=8), ImageSpec(*shape), 5)
    images = torch.randn(3, *shape)
    features = network.features(images)
    assert network(images).shape == (3, 5)
    assert all(min(m.shape[2:]) >= 2 for m in features.maps)
    assert torch.allclose(network.classifier(features.last), network(images))


def test_features_equal_the_float64_reference():
    network = build_network(NetworkConfig(width=8, depth=3), ImageSpec(3, 8, 12), 4)
    initialise(network, Rng(0), "weights")
    image = np.random.default_rng(0).normal(size=(3, 8, 12))
    maps, last = reference.features(image, stages_of(network))
    ours = network.features(torch.from_numpy(image).float()[None])
    for expected, got in zip(maps, ours.maps, strict=True):
        assert np.allclose(expected, got[0].detach(), atol=1e-4)
    assert np.allclose(last, ours.last[0].detach(), atol=1e-4)


def test_initialise_draws_pytorchs_defaults_by_key():
    network = build_network(NetworkConfig(), CIFAR, 10)
    initialise(network, Rng(0), "weights", 1)
    first = network.stages[1].conv.weight.clone()
    initialise(network, Rng(0), "weights", 2)
    assert not torch.equal(first, network.stages[1].conv.weight)
    initialise(network, Rng(0), "weights", 1)
    assert torch.equal(first, network.stages[1].conv.weight)
    bound = 1 / np.sqrt(128 * 9)  # uniform in +-1/sqrt(fan in)
    assert 0.99 * bound < first.abs().max() <= bound
    assert torch.equal(network.stages[0].norm.weight, torch.ones(128))


def test_only_batch_norm_couples_images():
    coupled = {
        norm: couples_images(build_network(NetworkConfig(norm=norm), CIFAR, 2)) for norm in NORMS
    }
    assert [norm for norm, yes in coupled.items() if yes] == ["batch"]


def test_settings_from_text():
    assert network_table("convnet:depth=4,norm=batch") == {
        "name": "convnet", "depth": 4, "norm": "batch"}  # fmt: skip
    with pytest.raises(ConfigError, match=r"unknown network 'convnt'.*did you mean 'convnet'"):
        network_table("convnt")
    with pytest.raises(ConfigError, match="key=value"):
        network_table("convnet:deep")


def test_labels_tell_networks_apart():
    def label(**options):
        return network_label(NetworkConfig(**options), CIFAR)

    assert label() == label(depth=3, norm="batch") == "convnet"
    assert label(depth=4, width=64, pooling="max") == "convnet:width=64,depth=4,pooling=max"


def test_too_many_channels_and_too_small_images_are_refused():
    with pytest.raises(ConfigError, match="1 to 4 channels"):
        build_network(NetworkConfig(), ImageSpec(5, 32, 32), 2)
    with pytest.raises(ConfigError, match="4x4 pixels and more"):
        build_network(NetworkConfig(), ImageSpec(3, 2, 32), 2)
