"""How much memory a run will take, estimated before it starts."""

from collections.abc import Callable
from functools import partial

import numpy as np

from distilset.config import Optimizer
from distilset.models import couples_images
from distilset.optimise import state_bytes
from distilset.task import Task
from distilset.workers import BYTES


def estimated_bytes(
    task: Task, optimizer: Optimizer = "sgd", *, real: bool = True, twice: bool = False
) -> int:
    """Estimate the memory of a run: data, synthetic images, the largest forward and backward pass.

    Mapped data count nothing: what is read of them the system gives up for others. An activation
    counts three times (convolution, norm, activation) for the backward pass and twice for the
    forward pass alone; ``twice``: nine times where the backward pass is differentiated. Of a pool,
    the largest network counts. ``real``: whether real images are passed.
    """
    return most(partial(_bytes_with, optimizer, real, 9 if twice else 3), task)


def most(needed: Callable[[Task], int], task: Task) -> int:
    """Return the largest need of memory among the networks of a task."""
    return max(needed(task.alone(number)) for number in range(len(task.networks)))


def _bytes_with(optimizer: Optimizer, real: bool, times: int, task: Task) -> int:
    pixels = int(np.prod(task.train.spec.shape))
    synthetic = task.classes * task.ipc
    seen, each = task.classes * task.decoded_ipc, task.decoded_ipc
    coupled = couples_images(task.network)
    group = seen if coupled else min(seen, max(each, task.settings.chunk))
    return (
        (0 if task.train.mapped else task.train.images.numel())
        + state_bytes(optimizer) * synthetic * pixels
        + max(_real_bytes(task) if real else 0, times * group * _bytes_per_image(task))
    )


def _bytes_per_image(task: Task) -> int:
    width = 2 if task.settings.precision == "bf16" else 4
    return width * sum(int(np.prod(shape)) for shape in task.map_shapes())


def _real_bytes(task: Task) -> int:
    """Estimate the activations of the largest forward pass of real images."""
    whole = task.classes * task.batch_real
    number = whole if couples_images(task.network) else task.settings.chunk
    return 2 * number * _bytes_per_image(task)


def worker_bytes(task: Task) -> int:
    """Estimate the memory of a process that computes targets: its own, a batch, a forward pass."""
    batch = 4 * task.classes * task.batch_real * int(np.prod(task.train.spec.shape))
    zca = task.transform.zca
    return BYTES + batch + _real_bytes(task) + (0 if zca is None else 8 * zca.matrix.numel())
