"""The only loop over synthetic images."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from distilset.compilation import mark_step
from distilset.hardware import exact_float32
from distilset.methods.base import Episodes


@dataclass
class State:
    """What a run is after ``step`` episodes; all that is needed to go on exactly.

    ``images`` live in normalised space, where the learning rate is meant, class by class;
    ``momentum`` is None before the first update. ``halvings`` counts how often the learning rate
    was halved. ``torn`` says that an episode has changed the images and has not ended: only a step
    that failed leaves it so.
    """

    images: Float[Tensor, "n c h w"]
    momentum: Float[Tensor, "n c h w"] | None = None
    step: int = 0
    halvings: int = 0
    torn: bool = False


@dataclass(frozen=True)
class Record:
    """One episode: its number (from 1) and its loss, left on the device until somebody reads it."""

    step: int
    loss: Float[Tensor, ""]


def descend(
    state: State, method: Episodes, *, steps: int, image_lr: float, momentum: float
) -> Iterator[Record]:
    """Descend with SGD until ``steps`` episodes are done, updating ``state`` after each.

    The learning rate is per pixel of normalised space and is not divided by anything: the losses
    are sums over classes, as published. Between two records the state is complete, so a caller may
    save it, or stop, there.
    """
    images = state.images.detach().requires_grad_(True)
    optimizer = torch.optim.SGD([images], lr=image_lr, momentum=momentum)
    if state.momentum is not None:
        optimizer.state[images]["momentum_buffer"] = state.momentum
    while state.step < steps:
        mark_step()
        with exact_float32(images.device):  # not around the yield: the caller's code is not ours
            loss = _episode(method, images, state, optimizer)
        state.images = images.detach()
        state.momentum = optimizer.state[images].get("momentum_buffer")
        state.step, state.torn = state.step + 1, False
        yield Record(state.step, loss)


def _episode(
    method: Episodes, images: Tensor, state: State, optimizer: torch.optim.Optimizer
) -> Float[Tensor, ""]:
    """Make the updates of one episode; return the sum of their losses."""
    loss = images.new_zeros(())
    for update in method.episode(images, state.step):
        optimizer.zero_grad()
        for part in update:
            part.backward()
            loss += part.detach()
        state.torn = True
        optimizer.step()
    return loss
