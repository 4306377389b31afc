"""Students and the way back through their training, against autograd through the whole graph."""

import pytest
import torch
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from distilset.training import TrainSettings
from distilset.training.unrolled import Batch, Unrolled
from tests.training.small_networks import NETWORKS, made


def unrolled_of(network, chunk=3, **settings):
    return Unrolled(network.requires_grad_(False), TrainSettings(**settings), chunk)


def weights_of(network):
    return {name: value.detach().clone() for name, value in network.named_parameters()}


def drawn(n, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(n, 2, 8, 8, generator=generator, dtype=dtype)
    return Batch(images, torch.arange(n) % 3)


def like(weights, seed=5):
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(value.shape, generator=generator, dtype=value.dtype)
        for name, value in weights.items()
    }


def loss_of(network, weights, images, labels):
    return cross_entropy(functional_call(network, weights, (images,)), labels)


def close(found, expected):
    assert set(found) == set(expected)
    for name, value in found.items():
        torch.testing.assert_close(value, expected[name], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("options", NETWORKS)
@pytest.mark.parametrize("chunk", [1, 3, 50])
def test_gradients_and_products_are_autograds(options, chunk):
    network, batch = made(**options).double(), drawn(7)
    weights = weights_of(network)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    unrolled, direction = unrolled_of(network, chunk), like(weights)
    found = unrolled.gradient(weights, batch)
    by_weights, by_images = unrolled.product(weights, batch, direction)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert unrolled.failures == (None, None)

    leaves = {name: value.clone().requires_grad_(True) for name, value in weights.items()}
    images = batch.images.clone().requires_grad_(True)
    loss = loss_of(network, leaves, images, batch.labels)
    slopes = torch.autograd.grad(loss, list(leaves.values()), create_graph=True)
    expected = dict(zip(leaves, slopes, strict=True))
    close(found, {name: value.detach() for name, value in expected.items()})
    slope = torch.stack([(expected[name] * direction[name]).sum() for name in leaves]).sum()
    *second, wanted = torch.autograd.grad(slope, [*leaves.values(), images], allow_unused=True)
    # the last layer's bias adds the same to every gradient of a ViT's key bias: none, not zero
    zeros = [torch.zeros_like(leaf) for leaf in leaves.values()]
    pairs = zip(leaves, second, zeros, strict=True)
    close(by_weights, {name: zero if one is None else one for name, one, zero in pairs})
    torch.testing.assert_close(by_images, wanted, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("options", NETWORKS[:2])
def test_the_way_back_is_the_derivative_of_the_whole_training(options):
    network, rate = made(**options).double(), 0.05
    batches = [drawn(n, seed) for seed, n in enumerate((4, 7, 4, 5))]
    start = weights_of(network)
    unrolled, direction = unrolled_of(network), like(start)
    walk = unrolled.train(start, batches, rate)
    found = unrolled.back(walk, batches, rate, direction)

    weights = {name: value.clone().requires_grad_(True) for name, value in start.items()}
    images = [batch.images.clone().requires_grad_(True) for batch in batches]
    for pixels, batch in zip(images, batches, strict=True):
        loss = loss_of(network, weights, pixels, batch.labels)
        slopes = torch.autograd.grad(loss, list(weights.values()), create_graph=True)
        weights = {n: w - rate * s for (n, w), s in zip(weights.items(), slopes, strict=True)}
    close(walk.end, {name: value.detach() for name, value in weights.items()})
    worth = torch.stack([(weights[name] * direction[name]).sum() for name in weights]).sum()
    for one, wanted in zip(found, torch.autograd.grad(worth, images), strict=True):
        torch.testing.assert_close(one, wanted, rtol=1e-6, atol=1e-10)


@pytest.mark.parametrize("options", NETWORKS[:2])
def test_compiled_bfloat16_goes_the_same_way(options):
    network = made(**options)
    batches = [drawn(6, seed, torch.float32) for seed in range(3)]
    start = weights_of(network)
    direction = like(start)
    ways = []
    for settings in ({}, {"precision": "bf16", "compile": True}):
        unrolled = unrolled_of(network, 3, **settings)
        walk = unrolled.train(start, batches, 0.05)
        ways.append(torch.cat(unrolled.back(walk, batches, 0.05, direction)).flatten())
        assert unrolled.failures == (None, None)
    assert float(torch.cosine_similarity(*ways, dim=0)) > 0.97
    assert float(ways[1].norm() / ways[0].norm()) == pytest.approx(1, abs=0.1)
