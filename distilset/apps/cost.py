"""What training a network will cost, estimated from its shape: for plans and for the time left."""

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from distilset.models import NetworkConfig, build_network, is_own
from distilset.training.grouping import activations
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
def forward_flops(network: nn.Module, spec: ImageSpec) -> int:
    """Count the operations of a forward pass on one image."""
    device = next(network.parameters()).device
    with FlopCounterMode(display=False) as counter:
        network.eval()(torch.zeros(1, *spec.shape, device=device))
    return counter.get_total_flops()


def image_cost(network: nn.Module, spec: ImageSpec) -> float:
    """Estimate training on one image once, in operations: three forward passes, and memory."""
    return 3 * forward_flops(network, spec) + ACTIVATION * activations(network, spec)


def training_cost(per_image: float, passes: int, updates: int, scored: int) -> float:
    """Estimate a training of ``passes`` images in ``updates``, and scoring ``scored`` images."""
    return per_image * (passes + scored / 3) + UPDATE * updates
