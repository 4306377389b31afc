"""Every network: published parameter counts, sizes, features, gradients, fresh weights."""

import pytest
import torch
from torch import nn

from distilset.errors import ConfigError
from distilset.losses.statistics import check_layers
from distilset.models import (
    NETWORKS,
    NetworkConfig,
    build_network,
    couples_images,
    initialise,
    network_config,
    network_label,
    network_table,
    settled,
)
from distilset.models.layers import make_norm
from distilset.models.vit import attend
from distilset.rng import Rng
from distilset.types import ImageSpec

CIFAR = ImageSpec(3, 32, 32)
NARROW = {
    "convnet": {"width": 8},
    "mlp": {"width": 8},
    "lenet": {},
    "alexnet": {"width": 8},
    **{name: {"width": 4} for name in ("vgg11", "vgg13", "vgg16", "vgg19", "resnet18")},
    "vit": {"width": 8, "depth": 2, "heads": 2},
}
MAPS = {"convnet": 3, "mlp": 0, "lenet": 2, "alexnet": 3, "resnet18": 4, "vit": 2}


def narrow(name, **options):
    return NetworkConfig(name=name, **{**NARROW[name], **options})


def size(name, **options):
    network = build_network(NetworkConfig(name=name, **options), CIFAR, 10)
    return sum(p.numel() for p in network.parameters())


def conv(inner, out, kernel, bias=True):
    return inner * out * kernel**2 + (out if bias else 0)


def linear(inner, out):
    return inner * out + out


def layered(convolutions, *, normed):
    """Count convolutions ``(out, kernel)`` in a row, each with a gain and a bias if normed."""
    total, inner = 0, 3
    for out, kernel in convolutions:
        total += conv(inner, out, kernel) + (2 * out if normed else 0)
        inner = out
    return total


def vgg(*stages):
    return layered([(c, 3) for c in stages], normed=True) + linear(512, 10)


def resnet18(last):
    total = conv(3, 64, 3, bias=False) + 2 * 64
    inner = 64
    for out in (64, 128, 256, 512):
        total += conv(inner, out, 3, bias=False) + 3 * conv(out, out, 3, bias=False) + 4 * 2 * out
        if inner != out:
            total += conv(inner, out, 1, bias=False) + 2 * out
        inner = out
    return total + linear(last, 10)


ALEXNET = [(128, 5), (192, 5), (256, 3), (192, 3), (192, 3)]
VIT_BLOCK = (
    2 * 2 * 192 + linear(192, 3 * 192) + linear(192, 192) + linear(192, 768) + linear(768, 192)
)
COUNTS = [
    ("mlp", {}, linear(3072, 128) + linear(128, 128) + linear(128, 10)),
    (
        "lenet",
        {},
        conv(3, 6, 5) + conv(6, 16, 5) + linear(400, 120) + linear(120, 84) + linear(84, 10),
    ),
    ("alexnet", {"norm": "none"}, layered(ALEXNET, normed=False) + linear(192 * 16, 10)),
    ("alexnet", {"norm": "batch"}, layered(ALEXNET, normed=True) + linear(192 * 16, 10)),
    ("vgg11", {}, vgg(64, 128, 256, 256, 512, 512, 512, 512)),
    ("vgg11", {"norm": "batch"}, vgg(64, 128, 256, 256, 512, 512, 512, 512)),
    ("vgg13", {}, vgg(64, 64, 128, 128, 256, 256, *[512] * 4)),
    ("vgg16", {}, vgg(64, 64, 128, 128, *[256] * 3, *[512] * 6)),
    ("vgg19", {}, vgg(64, 64, 128, 128, *[256] * 4, *[512] * 8)),
    *(("resnet18", {"norm": norm}, resnet18(512)) for norm in ("batch", "instance", "group")),
    ("resnet18", {"pooling": "avg"}, resnet18(512 * 16)),
    (
        "vit",
        {},
        conv(3, 192, 4) + 192 + 65 * 192 + 6 * VIT_BLOCK + 2 * 192 + linear(192, 10),
    ),
]


@pytest.mark.parametrize(("name", "options", "expected"), COUNTS)
def test_parameter_counts_at_32_are_those_of_the_published_layers(name, options, expected):
    assert size(name, **options) == expected


def test_known_totals():
    """As other people's counts have them: LeNet's 62,006 and ResNet-18's 11,173,962."""
    assert (size("lenet"), size("resnet18", norm="batch")) == (62_006, 11_173_962)


@pytest.mark.parametrize("shape", [(1, 8, 8), (2, 4, 6), (3, 32, 32), (4, 17, 23), (3, 64, 64)])
@pytest.mark.parametrize("name", NETWORKS)
def test_any_channels_and_sizes(name, shape):
    network = build_network(narrow(name), ImageSpec(*shape), 5)
    initialise(network, Rng(0), "weights")
    images = torch.randn(3, *shape, requires_grad=True)
    features = network.features(images)
    assert len(features.maps) == MAPS.get(name, 5) + (name == "convnet" and max(shape) > 32)
    assert all(m.ndim == 4 and min(m.shape[2:]) >= 2 for m in features.maps)
    assert torch.allclose(network.classifier(features.last), network(images), atol=1e-5)
    features.last.square().sum().backward()
    assert images.grad is not None
    assert all(grad.abs().max() > 0 for grad in images.grad)


@pytest.mark.parametrize("name", ["resnet18", "vit", "alexnet"])
def test_224_pixels(name):
    network = build_network(narrow(name), ImageSpec(3, 224, 224), 2)
    assert network(torch.randn(1, 3, 224, 224)).shape == (1, 2)


@pytest.mark.parametrize("side", [8, 9, 16, 28, 32, 33])
@pytest.mark.parametrize(("name", "options"), [*NARROW.items(), ("resnet18", {"pooling": "avg"})])
def test_no_norm_meets_a_map_of_one_pixel(name, options, side):
    options = {**NARROW[name], **options}
    network = build_network(NetworkConfig(name=name, **options), ImageSpec(3, side, side), 2)
    met = []
    for module in network.modules():
        if isinstance(module, (nn.GroupNorm, nn.BatchNorm2d)):
            module.register_forward_hook(
                lambda _, given, __: met.append(given[0].shape[2:].numel())
            )
    network(torch.randn(2, 3, side, side))
    assert all(positions >= 4 for positions in met)


def test_the_head_pools_globally_but_for_the_published_size():
    for name, options in (("alexnet", {}), ("resnet18", {"pooling": "avg"})):
        networks = [
            build_network(narrow(name, **options), ImageSpec(1, side, side), 2)
            for side in (16, 32, 64)
        ]
        small, published, large = (int(n.classifier.weight.shape[1]) for n in networks)
        assert small == large == published // 16


def test_vgg_at_32_is_the_published_function():
    """There the last pooling goes from 2x2 to 1x1 by the maximum, and nothing else pools."""
    network = build_network(narrow("vgg11"), CIFAR, 2)
    features = network.features(torch.randn(2, 3, 32, 32))
    assert torch.equal(features.last, features.maps[-1].amax(dim=(2, 3)))


@pytest.mark.parametrize("name", NETWORKS)
def test_initialise_draws_every_weight_by_key(name):
    network = build_network(narrow(name), CIFAR, 3)
    drawn = []
    for key in (1, 2, 1):
        with torch.no_grad():
            for value in (*network.parameters(), *network.buffers()):
                value.fill_(7)
        initialise(network, Rng(0), "weights", key)
        drawn.append([p.clone() for p in (*network.parameters(), *network.buffers())])
    assert all(torch.equal(a, b) for a, b in zip(drawn[0], drawn[2], strict=True))
    for first, second in zip(drawn[0], drawn[1], strict=True):
        constant = first.unique().numel() == 1
        assert not (first == 7).any()
        assert constant or not torch.equal(first, second)


def test_only_batch_norm_couples_images():
    for name in ("alexnet", "vgg11", "resnet18"):
        for norm in NETWORKS[name].norms:
            network = build_network(narrow(name, norm=norm), CIFAR, 2)
            assert couples_images(network) == (norm == "batch")
    assert not any(
        couples_images(build_network(narrow(name), CIFAR, 2)) for name in ("mlp", "lenet", "vit")
    )


def test_group_norm_of_widths_that_four_does_not_divide():
    assert make_norm("group", 6, (4, 4)).num_groups == 2


def test_vit_takes_patches_that_leave_two_a_side_and_fills_up():
    for shape, grid in (((1, 8, 8), (2, 2)), ((1, 6, 9), (2, 3)), ((3, 17, 23), (5, 6))):
        network = build_network(narrow("vit"), ImageSpec(*shape), 2)
        assert network.features(torch.randn(1, *shape)).maps[0].shape[2:] == grid
    sides = {32: 4, 64: 4, 96: 8, 224: 16}
    for side, patch in sides.items():
        assert settled(NetworkConfig(name="vit"), ImageSpec(3, side, side)).patch == patch


def test_vit_tokens_lie_where_their_patches_lie():
    """A change in one patch changes that position most, before any block has mixed them much."""
    network = build_network(narrow("vit", depth=1), CIFAR, 2)
    initialise(network, Rng(0), "weights")
    images = torch.zeros(1, 3, 32, 32)
    before = network.features(images).maps[0]
    images[:, :, 8:12, 20:24] = 5
    moved = (network.features(images).maps[0] - before).norm(dim=1)[0]
    assert divmod(int(moved.argmax()), 8) == (2, 5)


def test_wrong_options_are_refused_in_one_sentence():
    for table, part in (
        ({"name": "lenet", "width": 8}, "lenet has no width; it takes no options"),
        ({"name": "mlp", "norm": "batch"}, "norm of mlp must be none; got 'batch'"),
        ({"name": "resnet18", "norm": "none"}, "batch or instance or group"),
        ({"name": "resnet18", "pooling": "max"}, "pooling of resnet18 must be none or avg"),
        ({"name": "vit", "depth": 0}, "network depth"),
        ({"name": "resnet"}, "unknown network 'resnet'"),
        ({"name": "convnet", "pool": ["resnet18:norm=none"]}, "pool: norm of resnet18"),
        ({"name": "convnet", "patch": 4}, "it takes norm, width, depth, activation, pooling"),
    ):
        with pytest.raises(ConfigError) as refusal:
            network_config(table)
        assert part in str(refusal.value)
    with pytest.raises(ConfigError, match="multiple of its heads"):
        build_network(NetworkConfig(name="vit", width=8, heads=3), CIFAR, 2)


@pytest.mark.parametrize("name", NETWORKS)
def test_labels_read_back(name):
    config = settled(narrow(name), CIFAR)
    assert settled(network_config(network_table(network_label(config, CIFAR))), CIFAR) == config
    assert network_label(NetworkConfig(name=name), CIFAR) == name


def test_attention_needs_maps():
    with pytest.raises(ConfigError, match=r"no activation maps.*method dm"):
        check_layers(None, 0)


def test_attention_written_out_is_the_fused_one():
    queries, keys, values = torch.randn(3, 2, 4, 17, 8, dtype=torch.float64)
    fused = torch.nn.functional.scaled_dot_product_attention(queries, keys, values)
    torch.testing.assert_close(attend(queries, keys, values), fused)
