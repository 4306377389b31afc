"""BatchNorm over a batch that several processes share: statistics of all its images."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn

Total = Callable[[Tensor], Tensor]
"""Adds a tensor up over processes; its gradient is added up, too."""


@contextmanager
def whole_batch(network: nn.Module, total: Total) -> Iterator[None]:
    """Let the BatchNorm layers of a network normalise by the whole batch inside the block.

    Every process must call the network equally often. Layers in evaluation mode are left alone;
    running statistics are not kept. The modules stay what they are: their names decide keys.
    """
    layers = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    layers = [layer for layer in layers if layer.training]
    for layer in layers:
        layer.forward = partial(_normalised, layer, total)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


def _normalised(layer: nn.modules.batchnorm._BatchNorm, total: Total, images: Tensor) -> Tensor:
    axes = (0, *range(2, images.ndim))
    shape = (1, -1, *[1] * (images.ndim - 2))
    with torch.autocast(images.device.type, enabled=False):
        x = images.float()
        count = x.new_tensor([x.numel() / x.shape[1]])
        sums = total(torch.cat([x.sum(axes), count]))
        number = sums[-1].detach()
        centred = x - (sums[:-1] / number).view(shape)
        # centred first: a difference of large sums would lose what a small variance has
        variance = total(centred.square().sum(axes)) / number
        scale = (variance + layer.eps).rsqrt()
        if layer.affine:
            scale = scale * layer.weight
        result = centred * scale.view(shape)
        if layer.affine:
            result = result + layer.bias.view(shape)
    return result.to(images.dtype)
