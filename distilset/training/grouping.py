"""How many networks are trained at once: by rule, never by timing."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from distilset.hardware import free_device_bytes
from distilset.training.step import TrainSettings
from distilset.types import ImageSpec

MEMORY_SHARE = 0.5
"""The share of a GPU's free memory that networks trained together may be estimated to need."""

_ACTIVATION_BYTES = 4 * 3
"""Of each activation: its value, its gradient, and a copy in the order that stacking needs."""

_WEIGHT_BYTES = 4 * 5
"""Of each weight: its value, gradient, momentum, and copies in lower precision and of a graph."""


def how_many(
    trials: int, network: nn.Module, settings: TrainSettings, spec: ImageSpec, rows: int
) -> tuple[int, str]:
    """Return how many of ``trials`` networks are trained at once, and why not all of them.

    ``rows`` is the number of images in a batch. Without a wish in the settings several are trained
    at once on a GPU only, which one small network leaves idle, and as many as memory allows. The
    reason is empty where there is nothing to explain: one trial, or a CPU.
    """
    if trials < 2:
        return 1, ""
    if settings.together == 1:
        return 1, "as asked"
    if _draws_in_forward(network):
        return 1, "dropout draws in the forward pass"
    if settings.together is not None:
        return min(trials, settings.together), "as asked"
    free = free_device_bytes(settings.device)
    if free is None:
        return 1, ""
    most = int(MEMORY_SHARE * free) // bytes_of_one(network, spec, rows)
    return max(1, min(trials, most)), "as memory allows"


def groups(trials: int, size: int) -> list[range]:
    """Cut trials into runs of at most ``size``, as few as there can be and nearly equal.

    Example:
        >>> groups(10, 4)
        [range(0, 4), range(4, 7), range(7, 10)]
    """
    number = -(-trials // size)
    small, larger = divmod(trials, number)
    starts = [k * small + min(k, larger) for k in range(number + 1)]
    return [range(a, b) for a, b in pairwise(starts)]


def _draws_in_forward(network: nn.Module) -> bool:
    """Tell whether the forward pass draws random numbers, which stacked networks would share."""
    return any(isinstance(module, nn.modules.dropout._DropoutNd) for module in network.modules())


def bytes_of_one(network: nn.Module, spec: ImageSpec, rows: int) -> int:
    """Estimate the memory in which one of several stacked networks trains on batches of ``rows``.

    An estimate, high rather than low: three float32 tensors for each activation.
    """
    weights = sum(parameter.numel() for parameter in network.parameters())
    return _ACTIVATION_BYTES * rows * activations(network, spec) + _WEIGHT_BYTES * weights


@torch.no_grad()
def activations(network: nn.Module, spec: ImageSpec) -> int:
    """Return how many numbers the layers of a network give out for one image."""
    sizes: list[int] = []

    def count(_module: nn.Module, _inputs: Sequence[Tensor], output: Tensor) -> None:
        sizes.append(output.numel())

    layers = [module for module in network.modules() if not list(module.children())]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    training, device = network.training, next(network.parameters()).device
    try:
        network.eval()(torch.zeros(1, *spec.shape, device=device))
    finally:
        network.train(training)
        for hook in hooks:
            hook.remove()
    return sum(sizes)
