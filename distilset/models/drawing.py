"""Drawing a network's weights from a keyed random stream, the same on every device."""

from copy import deepcopy
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from distilset.hardware import send
from distilset.models.resetting import draws, resets
from distilset.rng import Rng

_TWINS: WeakKeyDictionary[nn.Module, nn.Module] = WeakKeyDictionary()
"""Networks on the CPU in which the weights of those on other devices are drawn."""


def initialise(network: nn.Module, rng: Rng, purpose: str, *coordinates: int | str) -> None:
    """Draw all weights anew, in place, by the modules' own published initialisation.

    Global random state is left as it was. In place, so that a compiled network stays compiled, and
    CUDA graphs find the weights where they were. Drawn on the CPU whatever the device, whose own
    generator gives other numbers and has no keyed streams.
    """
    drawn = network if _on_cpu(network) else _twin(network)
    with rng.as_global(purpose, *coordinates):
        for reset in resets(drawn):
            reset()
    if drawn is not network:
        carry_over(drawn, network)


def _on_cpu(network: nn.Module) -> bool:
    return all(parameter.device.type == "cpu" for parameter in network.parameters())


def _twin(network: nn.Module) -> nn.Module:
    """Return the copy on the CPU, of the same memory format: numbers are drawn in memory order."""
    if network not in _TWINS:
        _TWINS[network] = deepcopy(network).to("cpu")
    return _TWINS[network]


def _drawn_values(network: nn.Module) -> list[Tensor]:
    """Return the parameters and buffers of all modules that draw them."""
    return [
        value
        for module in network.modules()
        if draws(module) is not None
        for value in (*module.parameters(), *module.buffers())
    ]


@torch.no_grad()
def carry_over(drawn: nn.Module, network: nn.Module) -> None:
    """Copy what was drawn in one network into another of the same build, in place.

    All values of a type travel as one, without waiting for the device.
    """
    pairs = list(zip(_drawn_values(drawn), _drawn_values(network), strict=True))
    for dtype in {source.dtype for source, _ in pairs}:
        same = [(source, target) for source, target in pairs if source.dtype == dtype]
        flat = torch.cat([source.flatten() for source, _ in same])
        parts = send(flat, same[0][1].device).split([source.numel() for source, _ in same])
        for (_, target), part in zip(same, parts, strict=True):
            target.copy_(part.view_as(target))
