"""The only loop over synthetic images."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float
from torch import Tensor

from distilset.compilation import mark_step
from distilset.config import DistillConfig, Optimizer
from distilset.hardware import exact_float32
from distilset.methods.base import Episodes

MOMENTS: Mapping[Optimizer, Mapping[str, str]] = {
    "sgd": {"momentum": "momentum_buffer"},
    "adam": {"momentum": "exp_avg", "square": "exp_avg_sq"},
}
"""What an optimiser remembers of each value of the images, by our names and PyTorch's."""

SECOND_BETA = 0.999
"""How much of Adam's mean of squared gradients an update keeps: the paper's, and PyTorch's."""

ADAM_LR = 0.02
"""About how far Adam moves a value of normalised space in one update; not tuned."""


def with_rates(distill: DistillConfig) -> DistillConfig:
    """Return settings with an image learning rate and a momentum that suit the optimiser."""
    adam = distill.optimizer == "adam"
    rate = ADAM_LR if adam else 1.0 if distill.ipc <= 50 else 10.0
    momentum = (0.9 if adam else 0.5) if distill.momentum is None else distill.momentum
    return replace(distill, image_lr=distill.image_lr or rate, momentum=momentum)


def steps_told(distill: DistillConfig) -> str:
    """Return what a plan tells of its steps."""
    name = ", Adam" if distill.optimizer == "adam" else ""
    falling = " falling to 0 (cosine)" if distill.schedule == "cosine" else ""
    rates = f"image lr {distill.image_lr:g}{falling}, momentum {distill.momentum:g}"
    return f"{distill.steps}{name}, {rates}"


@dataclass
class State:
    """What a run is after ``step`` episodes; all that is needed to go on exactly.

    ``images`` live in normalised space, where the learning rate is meant, class by class;
    ``moments`` are what the optimiser remembers of them, by the names of `MOMENTS`, and empty
    before the first update. ``halvings`` counts how often the learning rate was halved, ``updates``
    the updates that Adam has made, of which an episode may have several; SGD counts none. ``torn``
    says that an episode has changed the images and has not ended: only a step that failed leaves it
    so.
    """

    images: Float[Tensor, "n c h w"]
    moments: dict[str, Float[Tensor, "n c h w"]] = field(default_factory=dict)
    step: int = 0
    halvings: int = 0
    updates: int = 0
    torn: bool = False


def state_bytes(optimizer: Optimizer = "sgd") -> int:
    """Return the bytes in memory for each value of a synthetic image, in float32.

    The value, its gradient and moments, and the value and moments that a run can go back to.
    """
    return 4 * (3 + 2 * len(MOMENTS[optimizer]))


@dataclass(frozen=True)
class Record:
    """One episode: its number (from 1) and its loss, left on the device until somebody reads it."""

    step: int
    loss: Float[Tensor, ""]


def descend(
    state: State,
    method: Episodes,
    *,
    steps: int,
    image_lr: float,
    momentum: float,
    optimizer: Optimizer = "sgd",
    falls_over: int | None = None,
) -> Iterator[Record]:
    """Descend until ``steps`` episodes are done, updating ``state`` after each.

    The learning rate is per pixel of normalised space and is not divided by anything: the losses
    are sums over classes, as published. It is constant, or falls to 0 over the first ``falls_over``
    episodes; see `scheduled`. ``momentum`` is Adam's first beta, too. Between two records the state
    is complete, so a caller may save it, or stop, there.
    """
    images = state.images.detach().requires_grad_(True)
    updating = _optimizer(images, state, optimizer, image_lr, momentum)
    while state.step < steps:
        mark_step()
        if falls_over is not None:
            updating.param_groups[0]["lr"] = scheduled(image_lr, state.step, falls_over)
        with exact_float32(images.device):  # not around the yield: the caller's code is not ours
            loss = _episode(method, images, state, updating)
        state.images = images.detach()
        _remember(state, optimizer, updating.state[images])
        state.step, state.torn = state.step + 1, False
        yield Record(state.step, loss)


def scheduled(image_lr: float, step: int, over: int) -> float:
    """Return the learning rate of the episode after ``step`` others, of ``over`` in all.

    Half a cosine: all of ``image_lr`` at the first episode, half of it after half of them, and 0
    after the last, which itself still moves the images.

    Example:
        >>> scheduled(1.0, 0, 8), round(scheduled(1.0, 4, 8), 9), scheduled(1.0, 8, 8)
        (1.0, 0.5, 0.0)
    """
    done = min(1.0, step / max(1, over))
    return image_lr * 0.5 * (1 + math.cos(math.pi * done))


def _optimizer(
    images: Tensor, state: State, name: Optimizer, image_lr: float, momentum: float
) -> torch.optim.Optimizer:
    """Make the optimiser of a leaf of images, as it was when the state was left."""
    if name == "adam":
        made = torch.optim.Adam([images], lr=image_lr, betas=(momentum, SECOND_BETA))
    else:
        made = torch.optim.SGD([images], lr=image_lr, momentum=momentum)
    if state.moments:
        remembered = {theirs: state.moments[ours] for ours, theirs in MOMENTS[name].items()}
        made.state[images].update(remembered)
        if name == "adam":
            made.state[images]["step"] = torch.tensor(float(state.updates))
    return made


def _remember(state: State, name: Optimizer, found: Mapping[str, Tensor | None]) -> None:
    """Note what an optimiser remembers after an episode; SGD without momentum has nothing."""
    moments = {ours: found.get(theirs) for ours, theirs in MOMENTS[name].items()}
    state.moments = {ours: moment for ours, moment in moments.items() if moment is not None}
    count = found.get("step")
    state.updates = 0 if count is None else int(count)


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
