import pytest
import torch
from torch import nn

from distilset.models.resnet import Pointwise


@pytest.mark.parametrize("channels", [4, 8])
@pytest.mark.parametrize(("side", "stride"), [((8, 8), 2), ((7, 5), 2), ((8, 4), 1)])
def test_a_pointwise_convolution_is_that_of_pytorch(channels, side, stride):
    """Below 8 channels, channels last, PyTorch's own overran the gradient of its input."""
    torch.manual_seed(0)
    ours = Pointwise(channels, 6, kernel_size=1, stride=stride, bias=False)
    theirs = nn.Conv2d(channels, 6, kernel_size=1, stride=stride, bias=False)
    theirs.load_state_dict(ours.state_dict())
    ours = ours.to(memory_format=torch.channels_last)
    x = torch.randn(3, channels, *side)
    last = x.to(memory_format=torch.channels_last)  # theirs may overrun there, ours may not
    first, second = (one.clone().requires_grad_(True) for one in (last, x))
    weights = torch.randn_like(theirs(second))
    for module, image in ((ours, first), (theirs, second)):
        (module(image) * weights).sum().backward()
    torch.testing.assert_close(ours(first), theirs(second))
    torch.testing.assert_close(first.grad, second.grad)
    torch.testing.assert_close(ours.weight.grad, theirs.weight.grad)


@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_a_narrow_network_has_no_strided_pointwise_convolution(norm):
    from distilset.models import NetworkConfig, build_network
    from distilset.types import ImageSpec

    network = build_network(NetworkConfig("resnet18", width=4, norm=norm), ImageSpec(3, 32, 32), 2)
    strided = [
        module
        for module in network.modules()
        if isinstance(module, nn.Conv2d)
        and module.stride != (1, 1)
        and module.kernel_size == (1, 1)
    ]
    assert strided
    assert all(isinstance(module, Pointwise) for module in strided)
