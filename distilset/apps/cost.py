"""What training a network will cost, estimated from its shape: for plans and for the time left."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from distilset.models import NetworkConfig, build_network, is_own
from distilset.types import ImageSpec

ACTIVATION = 1000.0
"""Operations in whose time one activation goes through memory, forward and backward."""

UPDATE = 1e9
"""Operations in whose time one update is prepared and launched (about 3 ms on a CPU)."""


def shape_only(config: NetworkConfig, spec: ImageSpec, classes: int) -> nn.Module:
    """Build a network without memory for its weights; somebody's own is built as it is.

    Raises:
        ConfigError: if it cannot take such images.
    """
    with torch.device("cpu" if is_own(config.name) else "meta"):
        return build_network(config, spec, classes)


@torch.no_grad()
def forward_work(network: nn.Module, spec: ImageSpec) -> tuple[int, int]:
    """Count, for one image, the operations of convolutions and products, and the activations.

    What attention multiplies besides its layers is not counted.
    """
    operations, numbers = [0], [0]

    def count(layer: nn.Module, _inputs: Sequence[Tensor], output: Tensor) -> None:
        numbers[0] += output.numel()
        if isinstance(layer, nn.Conv2d | nn.Linear):
            operations[0] += 2 * output.numel() * layer.weight[0].numel()

    layers = [module for module in network.modules() if not list(module.children())]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    device = next(network.parameters()).device
    network.eval()(torch.zeros(1, *spec.shape, device=device))
    for hook in hooks:
        hook.remove()
    return operations[0], numbers[0]


def image_cost(network: nn.Module, spec: ImageSpec) -> float:
    """Estimate training on one image once, in operations: three forward passes, and memory."""
    operations, numbers = forward_work(network, spec)
    return 3 * operations + ACTIVATION * numbers


def training_cost(per_image: float, passes: int, updates: int, scored: int) -> float:
    """Estimate a training of ``passes`` images in ``updates``, and scoring ``scored`` images."""
    return per_image * (passes + scored / 3) + UPDATE * updates
