"""Each method's loss on a whole step equals the formulas in float64, and so does its gradient."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from distilset.losses.characteristic import draw_frequencies
from distilset.plan import make_plan
from distilset.testing import drawn_images, small_config
from tests.models.test_convnet import stages_of
from tests.references import convnet as reference
from tests.references.formation import decoded

POWER = 4.0
MATCHING = ("atom", "datadam", "dm")


def statistics(method, stages):
    """Pairs of weight and vector of one image, as each paper's loss has them."""

    def maps(image):
        return reference.features(image, stages)[0]

    def last(image):
        return reference.features(image, stages)[1]

    if method == "dm":
        return [(1.0, last)]
    pairs = [(100.0, lambda image: reference.spatial(maps(image)[0], POWER)), (1.0, last)]
    if method == "atom":
        pairs.append((100.0, lambda image: reference.channel(maps(image)[0], POWER)))
    return pairs


def prepared(method, factor=1, **settings):
    """A task with all real images in the batch and no augmentation; images of noise."""
    train = drawn_images((3, 8, 8), (3, 2, 4))
    config = small_config(method, settings)
    config = replace(
        config,
        distill=replace(config.distill, ipc=2, factor=factor, init="noise", batch_real=8),
        augmentation=replace(config.augmentation, operations=()),
    )
    plan = make_plan(config, train)
    images = torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    return plan, train, images.requires_grad_(True)


def loss_of(plan, images, step=0):
    return sum(part for update in plan.method.episode(images, step) for part in update)


def shown(flat, factor):
    """The images that networks see of stored ones, class by class."""
    stored = flat.reshape(6, 3, 8, 8)
    seen = [one for image in stored for one in decoded(image, factor)] if factor > 1 else stored
    return np.stack(list(seen)).reshape(3, 2 * factor**2, 3, 8, 8)


@pytest.mark.parametrize("factor", [1, 2])
@pytest.mark.parametrize("method", MATCHING)
def test_loss_equals_the_formula(method, factor):
    plan, train, images = prepared(method, factor)
    ours = float(loss_of(plan, images).detach())
    stages = stages_of(plan.task.network)  # still the weights of step 0
    real = [plan.task.transform.apply(train.of_class(c)).double().numpy() for c in range(3)]
    synthetic = shown(images.detach().double().numpy(), factor)
    expected = sum(
        weight * reference.mean_matching(real, synthetic, vector)
        for weight, vector in statistics(method, stages)
    )
    assert np.isclose(ours, expected, rtol=1e-4)


@pytest.mark.parametrize(("method", "factor"), [*((m, 1) for m in MATCHING), ("atom", 2)])
def test_gradient_equals_a_central_difference_of_the_formula(method, factor):
    plan, train, images = prepared(method, factor)
    loss_of(plan, images).backward()
    stages = stages_of(plan.task.network)
    real = [plan.task.transform.apply(train.of_class(c)).double().numpy() for c in range(3)]

    def formula(flat):
        return sum(
            weight * reference.mean_matching(real, shown(flat, factor), vector)
            for weight, vector in statistics(method, stages)
        )

    start = images.detach().double().numpy().reshape(-1)
    direction = np.random.default_rng(1).normal(size=start.size)
    step = 1e-5
    slope = (formula(start + step * direction) - formula(start - step * direction)) / (2 * step)
    assert images.grad is not None
    assert bool((images.grad != 0).all())
    assert np.isclose(images.grad.double().numpy().reshape(-1) @ direction, slope, rtol=2e-3)


def test_characteristic_functions_are_added():
    plan, train, images = prepared("atom", characteristic_weight=2.0, frequencies=5, bandwidth=3.0)
    without, _, _ = prepared("atom")
    ours = float((loss_of(plan, images) - loss_of(without, images)).detach())
    stages = stages_of(plan.task.network)
    real = [plan.task.transform.apply(train.of_class(c)).double().numpy() for c in range(3)]
    width = plan.task.last_width()
    frequencies = draw_frequencies(width, 5, 3.0).double().numpy()

    def vector(image):
        return reference.characteristic(reference.features(image, stages)[1], frequencies)

    synthetic = shown(images.detach().double().numpy(), 1)
    expected = 200.0 * reference.mean_matching(real, synthetic, vector)
    assert expected > 1
    assert np.isclose(ours, expected, rtol=1e-3)


def test_atom_without_channel_attention_is_datadam():
    atom, _, images = prepared("atom")
    datadam, _, _ = prepared("datadam")
    config = replace(atom.config, method=replace(atom.config.method, channel_weight=0.0))
    without = make_plan(config, atom.task.train)
    assert torch.equal(loss_of(without, images), loss_of(datadam, images))


def test_mmd_weight_follows_the_resolution():
    for side, weight in ((64, 1.0), (128, 2.0)):
        plan = make_plan(small_config("datadam", {}), drawn_images((3, side, side), (1, 1)))
        features = [s for s in plan.method.engines[0].statistics if s.kind == "features"]
        assert [s.weight for s in features] == [weight]


def test_single_entry_attention_is_named_in_the_notes():
    config = small_config("datadam", {"layers": (0, 1)})
    config = replace(config, network=replace(config.network, width=4, norm="none"))
    plan = make_plan(config, drawn_images((3, 4, 4), (2, 2)))
    assert plan.method.notes == []
