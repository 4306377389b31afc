"""The cross-entropy of synthetic images under trained networks, beside what is matched."""

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import cross_entropy

from distilset.config import build
from distilset.errors import ConfigError
from distilset.plan import make_plan
from distilset.schooling import ExpertsConfig
from distilset.testing import drawn_images, small_config
from tests.small import distil

TRAIN = drawn_images((3, 8, 8), (30, 20, 40))


def plan_of(weight, bank=0, **distill):
    config = small_config("atom", {"class_weight": weight})
    config = replace(
        config,
        distill=replace(config.distill, ipc=2, init="noise", bank=bank, **distill),
        experts=ExpertsConfig(1, 6, 2),
        augmentation=replace(config.augmentation, operations=()),
    )
    plan = make_plan(config, TRAIN)
    plan.task.train_experts()
    return plan


def loss_and_gradient(plan, images):
    leaf = images.clone().requires_grad_(True)
    (update,) = plan.method.episode(leaf, 0)
    loss = sum(update)
    (gradient,) = torch.autograd.grad(loss, leaf)
    return loss.detach(), gradient


@pytest.mark.parametrize("bank", [0, 1])
@pytest.mark.parametrize("factor", [1, 2])
def test_it_adds_the_cross_entropy_of_every_class(bank, factor):
    images = torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    with_it, without = (plan_of(weight, bank, factor=factor) for weight in (3.0, 0.0))
    loss, gradient = loss_and_gradient(with_it, images)
    base, base_gradient = loss_and_gradient(without, images)
    leaf = images.clone().double().requires_grad_(True)
    network, task = with_it.task.network.double(), with_it.task
    labels = torch.arange(3).repeat_interleave(task.decoded_ipc)
    scores = network(task.decode(leaf))
    expected = 3.0 * cross_entropy(scores, labels, reduction="sum") / task.decoded_ipc
    expected.backward()
    torch.testing.assert_close((loss - base).double(), expected.detach(), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close((gradient - base_gradient).double(), leaf.grad, rtol=1e-2, atol=1e-3)


def test_it_needs_trained_networks():
    with pytest.raises(ConfigError, match="give --experts 1 or more"):
        distil(settings={"method": {"class_weight": 1.0}})


def test_it_needs_a_classifier_by_name():
    from distilset.methods import mean_matching

    config = replace(small_config("atom", {}), experts=ExpertsConfig(1, 2, 1))
    task = make_plan(config, TRAIN).task
    mean_matching.check_classifiers(task)
    right = task.network.classifier
    for wrong in (torch.nn.Linear(7, 3), None, torch.nn.Linear(right.in_features, 3)):
        task.network.classifier = wrong
        task.network.forward = lambda images: right(task.network.features(images).last)
        with pytest.raises(ConfigError, match="by an attribute of that name; ConvNet is none"):
            mean_matching.check_classifiers(task)


def test_it_costs_a_bank_nothing():
    plain, with_it = plan_of(0.0, 2), plan_of(3.0, 2)
    plain.method.bank.build()
    assert with_it.method.bank.missing == 0
    alone = make_plan(
        replace(
            with_it.config,
            method=replace(
                with_it.config.method, spatial_weight=0.0, channel_weight=0.0, mmd_weight=0.0
            ),
        ),
        TRAIN,
    )
    assert alone.method.bank.missing == 0
    assert alone.method.bank.target(0).means == ()


def test_bad_weights_are_refused():
    with pytest.raises(ConfigError, match=r"method\.class_weight"):
        build({"method": {"name": "atom", "class_weight": -1.0}})
