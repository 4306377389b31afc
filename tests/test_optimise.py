import numpy as np
import torch

from distilset.optimise import State, descend


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
    resumed = State(halted.images.clone(), halted.momentum.clone(), halted.step)
    list(descend(resumed, Quadratic(), steps=6, image_lr=0.1, momentum=0.5))
    assert torch.equal(straight.images, resumed.images)


def test_no_steps_left_is_no_work():
    state = State(torch.zeros(1, 1, 2, 2), step=4)
    assert list(descend(state, Quadratic(), steps=4, image_lr=1.0, momentum=0.0)) == []
