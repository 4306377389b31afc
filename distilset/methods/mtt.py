"""MTT: Dataset Distillation by Matching Training Trajectories (Cazenavette et al., CVPR 2022)."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar

import torch
from jaxtyping import Float
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from distilset.augment import augment, draw_per_image
from distilset.compilation import failures_told
from distilset.errors import ConfigError
from distilset.methods.base import STRICT, Update
from distilset.schooling import ExpertsConfig
from distilset.task import Task
from distilset.training.protocols import Protocol
from distilset.training.together import State
from distilset.training.trainer import batches
from distilset.training.unrolled import Batch, Unrolled

Count = Annotated[int, Field(ge=1, le=100_000)]


@dataclass(frozen=True, config=STRICT)
class MTTConfig:
    """Settings of MTT: what a student does, and which part of an expert's training it is to copy.

    A student starts where an expert was after one of its first ``latest`` moments, or before
    training, takes ``updates`` steps of gradient descent at rate ``lr`` on ``batch`` decoded images
    each (None: on all of them), and is to arrive where the expert was ``span`` moments later.
    Experts have ``experts.snapshots`` moments.
    """

    updates: Count = 20
    span: Count = 4
    latest: Annotated[int, Field(ge=0)] = 12
    batch: Count | None = None
    lr: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.03


class MTT:
    """Descend on how far students trained on the synthetic images end from where experts went.

    The loss is the squared distance between the student's last weights and the expert's, over the
    squared distance that the expert covered (equation 2). It is differentiated back through every
    step of the student.

    Departures: the student's rate is given (published: learnt along with the images); images are
    updated by Adam (published: SGD at a rate of 100 to 1,000); experts see batches of 128
    (published: 256), and their gradients are clipped at a norm of 2 and their weights decayed by
    5e-4 (published: neither).
    """

    Config: ClassVar[type] = MTTConfig
    defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "distill": {"optimizer": "adam", "schedule": "cosine", "image_lr": 0.02},
        "experts": {
            "number": 4,
            "updates": 800,
            "snapshots": 16,
            "lr": 0.01,
            "momentum": 0.0,
            "schedule": "constant",
        },
    }
    decodes = True
    draws_real = False
    differentiates_twice = True

    def __init__(self, config: MTTConfig, task: Task) -> None:
        if not task.experts:
            raise ConfigError("method mtt follows trained networks: give --experts 1 or more")
        _check(config, task.experts[0].config)
        self.config, self.task = config, task
        self.labels = task.labels
        self.protocol = Protocol(
            "mtt",
            epochs=None,
            updates=config.updates,
            batch=config.batch or len(self.labels),
            lr=config.lr,
            schedule="constant",
        )
        self.students = tuple(
            Unrolled(network, task.training, task.settings.chunk) for network in task.networks
        )

    @property
    def notes(self) -> Sequence[str]:
        """Say whether a compilation failed."""
        return failures_told(failure for one in self.students for failure in one.failures)

    @property
    def images_per_step(self) -> int:
        """How many images a student sees in all."""
        return self.protocol.images_seen(len(self.labels))

    @property
    def held_bytes(self) -> int:
        """What the way back needs: the weights before every step, and the images of every step.

        Of these three times as much: as they are decoded, augmented, and by their derivatives.
        """
        weights = max(sum(p.numel() for p in one.parameters()) for one in self.task.networks)
        pixels = math.prod(self.task.train.spec.shape)
        return 4 * (self.config.updates * weights + 3 * self.images_per_step * pixels)

    def episode(self, images: Float[Tensor, "n c h w"], step: int) -> Iterator[Update]:
        """Yield the one image update of a student."""
        yield self._update(images, step)

    def _update(self, images: Tensor, step: int) -> Update:
        config, task = self.config, self.task
        start, goal = task.draw_segment(step, config.span, config.latest)
        student = self.students[task.choice(step)]
        seen = self._seen(task.decode(images), step)
        fed = [Batch(pixels.detach(), labels) for pixels, labels in seen]
        walk = student.train(start, fed, config.lr)
        loss, adjoint = _distance(walk.end, start, goal, student.names)
        slopes = student.back(walk, fed, config.lr, adjoint)
        along = [(pixels * by).sum() for (pixels, _), by in zip(seen, slopes, strict=True)]
        yield _of_value(torch.stack(along).sum(), loss)

    def _seen(self, decoded: Tensor, step: int) -> list[tuple[Tensor, Tensor]]:
        """Draw what the student sees in every step, differentiable in the images."""
        rng, augmentation = self.task.rng.child("inner", step), self.task.augmentation
        draws, seen = rng.torch("augment"), []
        for rows in batches(len(self.labels), self.protocol, rng):
            draw = draw_per_image(augmentation, draws, len(rows))
            pixels = augment(decoded[rows.to(decoded.device)], draw, augmentation)
            seen.append((pixels, self.labels[rows].to(decoded.device)))
        return seen


def _check(config: MTTConfig, experts: ExpertsConfig) -> None:
    """Refuse experts in whose training there are no such starts and goals."""
    if config.latest + config.span > experts.snapshots:
        raise ConfigError(
            f"method.latest + method.span is {config.latest + config.span}, and experts have "
            f"{experts.snapshots} moments (experts.snapshots)"
        )
    if experts.updates < experts.snapshots:
        raise ConfigError(
            f"experts.updates is {experts.updates}: too few for {experts.snapshots} moments "
            "(experts.snapshots), between which an expert is to move"
        )
    if experts.batch_norm == "running":
        raise ConfigError(
            "method mtt trains students, whose BatchNorm normalises by their batch; leave "
            "experts.batch_norm at batch"
        )


@torch.no_grad()
def _distance(
    end: State, start: State, goal: State, names: Sequence[str]
) -> tuple[Float[Tensor, ""], State]:
    """Return the loss, and its gradient by the student's last weights."""
    covered = sum((start[name] - goal[name]).square().sum() for name in names)
    missed = {name: end[name] - goal[name] for name in names}
    loss = torch.stack([off.square().sum() for off in missed.values()]).sum() / covered
    return loss, {name: 2 / covered * off for name, off in missed.items()}


def _of_value(slope: Float[Tensor, ""], value: Float[Tensor, ""]) -> Float[Tensor, ""]:
    """Return a number with the derivatives of one and the value of another."""
    return value + (slope - slope.detach())
