"""Learners, whose weights are values, against PyTorch's own training of a module."""

import copy

import pytest
import torch
from torch.nn.functional import cross_entropy

from distilset.training import Protocol, TrainSettings
from distilset.training.learner import Learners
from tests.training.small_networks import NETWORKS, made

RULE = Protocol("x", 1, batch=9, lr=0.05, schedule="step", momentum=0.8, weight_decay=0.01)


def drawn(n, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 2, 8, 8, generator=generator, dtype=dtype), torch.arange(n) % 3


def learners_of(network, chunk=3, **settings):
    return Learners(network.requires_grad_(False), RULE, TrainSettings(**settings), chunk)


@pytest.mark.parametrize("options", NETWORKS)
def test_updates_are_those_of_pytorchs_sgd(options):
    network = made(**options).double()
    before, learners = copy.deepcopy(network.state_dict()), learners_of(network)
    learner = learners.start()
    batches = [drawn(n, seed) for seed, n in enumerate((7, 5, 6))]
    for batch in batches:
        learners.update(learner, *batch)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    network.requires_grad_(True)
    optimizer = torch.optim.SGD(
        network.parameters(), lr=RULE.lr, momentum=RULE.momentum, weight_decay=RULE.weight_decay
    )
    for images, labels in batches:
        optimizer.zero_grad()
        cross_entropy(network(images), labels).backward()
        optimizer.step()
    expected = network.state_dict()
    assert {name.removeprefix("network.") for name in learner.values} == set(expected)
    for name, value in learner.values.items():
        torch.testing.assert_close(value, expected[name.removeprefix("network.")])


@pytest.mark.parametrize("options", NETWORKS)
@pytest.mark.parametrize("chunk", [1, 3, 50])
def test_features_are_the_networks_own_and_reach_the_images(options, chunk):
    network = made(**options).double()
    learners = learners_of(network, chunk)
    images = drawn(7)[0].requires_grad_(True)
    found = learners.features(learners.start(), images)
    expected = network.features(images).last
    torch.testing.assert_close(found, expected)
    weights = torch.randn(found.shape, generator=torch.Generator().manual_seed(2)).double()
    (gradient,) = torch.autograd.grad((found * weights).sum(), images)
    (wanted,) = torch.autograd.grad((expected * weights).sum(), images)
    torch.testing.assert_close(gradient, wanted, rtol=1e-6, atol=1e-9)
    assert learners.failure is None
