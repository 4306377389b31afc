import math

import numpy as np
import pytest
import torch

from distilset.config import build
from distilset.optimise import State, descend, scheduled, with_rates


class Quadratic:
    """The loss |images - step|^2 in two parts."""

    notes = ()

    def episode(self, images, step):
        yield [(image - step).square().sum() for image in images.split(1)]


def test_equals_sgd_with_momentum_by_hand():
    start = torch.randn(2, 1, 2, 2)
    state = State(start.clone())
    losses = [
        float(record.loss)
        for record in descend(state, Quadratic(), steps=5, image_lr=0.1, momentum=0.5)
    ]
    images, velocity = start.double().numpy(), 0.0
    for step in range(5):
        assert np.isclose(losses[step], ((images - step) ** 2).sum(), rtol=1e-5)
        velocity = 0.5 * velocity + 2 * (images - step)
        images = images - 0.1 * velocity
    assert np.allclose(state.images, images, atol=1e-5)
    assert state.step == 5
    assert not state.images.requires_grad


def test_stopping_anywhere_and_going_on_changes_no_bit():
    start = torch.randn(2, 1, 2, 2)
    straight = State(start.clone())
    list(descend(straight, Quadratic(), steps=6, image_lr=0.1, momentum=0.5))
    halted = State(start.clone())
    for record in descend(halted, Quadratic(), steps=6, image_lr=0.1, momentum=0.5):
        if record.step == 3:
            break
    resumed = State(halted.images.clone(), halted.moments, halted.step)
    list(descend(resumed, Quadratic(), steps=6, image_lr=0.1, momentum=0.5))
    assert torch.equal(straight.images, resumed.images)


def test_no_steps_left_is_no_work():
    state = State(torch.zeros(1, 1, 2, 2), step=4)
    assert list(descend(state, Quadratic(), steps=4, image_lr=1.0, momentum=0.0)) == []


# Adam, and a learning rate that falls


class Several(Quadratic):
    """Two updates in the first of three steps, three in the next, one in the last."""

    def episode(self, images, step):
        for number in range((2, 3, 1)[step % 3]):
            yield [(images - step - number).square().sum()]


ADAM = {"image_lr": 0.1, "momentum": 0.8, "optimizer": "adam"}


def test_equals_the_published_adam_by_hand():
    """Algorithm 1 of Kingma and Ba, in float64; every update counts, not every step."""
    start = torch.randn(2, 1, 3, 3)
    state = State(start.clone())
    list(descend(state, Several(), steps=6, **ADAM))
    images, mean, square, t = start.double().numpy(), 0.0, 0.0, 0
    for step in range(6):
        for number in range((2, 3, 1)[step % 3]):
            gradient, t = 2 * (images - step - number), t + 1
            mean = 0.8 * mean + (1 - 0.8) * gradient
            square = 0.999 * square + (1 - 0.999) * gradient**2
            unbiased = mean / (1 - 0.8**t), square / (1 - 0.999**t)
            images = images - 0.1 * unbiased[0] / (np.sqrt(unbiased[1]) + 1e-8)
    assert np.allclose(state.images, images, atol=1e-5)
    assert np.allclose(state.moments["momentum"], mean, rtol=1e-5, atol=1e-5)
    assert np.allclose(state.moments["square"], square, rtol=1e-5, atol=1e-6)
    assert (state.step, state.updates) == (6, t) == (6, 12)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("over", [None, 9])
@pytest.mark.parametrize("stop", [1, 2, 5])
def test_stopping_changes_no_bit_for_any_optimiser_and_schedule(optimizer, over, stop):
    how = {**ADAM, "optimizer": optimizer, "falls_over": over}
    start = torch.randn(2, 1, 5, 7)
    straight, halted = State(start.clone()), State(start.clone())
    list(descend(straight, Several(), steps=9, **how))
    list(descend(halted, Several(), steps=stop, **how))
    moments = {name: moment.clone() for name, moment in halted.moments.items()}
    resumed = State(halted.images.clone(), moments, stop, updates=halted.updates)
    list(descend(resumed, Several(), steps=9, **how))
    assert torch.equal(straight.images, resumed.images)
    for name, moment in straight.moments.items():
        assert torch.equal(moment, resumed.moments[name])


def test_some_images_alone_become_what_they_become_among_others():
    """Processes that share a run each update their own; vectors end elsewhere then."""
    start = torch.randn(9, 1, 5, 7)
    whole = State(start.clone())
    list(descend(whole, Several(), steps=5, **ADAM))
    for rows in (slice(4), slice(3, 7), slice(8, 9)):
        own = State(start[rows].clone())
        list(descend(own, Several(), steps=5, **ADAM))
        assert torch.equal(own.images, whole.images[rows])


def test_the_rate_falls_along_half_a_cosine():
    """Under a loss that is the sum of the images, SGD moves them by the rate."""

    class Sum:
        notes = ()

        def episode(self, images, step):
            yield [images.sum()]

    state, values = State(torch.zeros(1, 1, 1, 1)), [0.0]
    how = {"image_lr": 0.5, "momentum": 0.0, "falls_over": 8}
    for _ in descend(state, Sum(), steps=8, **how):
        values.append(float(state.images))
    moved = -np.diff(values)
    assert np.allclose(moved[[0, 4]], [0.5, 0.25])
    assert math.isclose(moved[7], 0.5 * math.sin(math.pi / 16) ** 2, rel_tol=1e-4)
    assert (np.diff(moved) < 0).all()
    assert scheduled(0.5, 8, 8) == scheduled(0.5, 9, 8) == scheduled(0.5, 1, 0) == 0.0


@pytest.mark.parametrize(
    ("stated", "rates"),
    [
        ({}, (1.0, 0.5)),
        ({"optimizer": "adam"}, (0.02, 0.9)),
        ({"optimizer": "adam", "ipc": 51}, (0.02, 0.9)),
        ({"optimizer": "adam", "image_lr": 0.3, "momentum": 0.0}, (0.3, 0.0)),
        ({"momentum": 0.0}, (1.0, 0.0)),
    ],
)
def test_rates_that_are_left_open_suit_the_optimiser(stated, rates):
    distill = with_rates(build({"data": {"source": "x"}, "distill": stated}).distill)
    assert (distill.image_lr, distill.momentum) == rates
    assert with_rates(distill) == distill
