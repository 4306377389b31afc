import pytest
import torch
from torch import nn

from distilset.models.whole import whole_batch


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("shape", [(6, 4, 5, 3), (7, 4)])
def test_a_batch_of_one_process_is_normalised_as_by_pytorch(shape, affine):
    kind = nn.BatchNorm2d if len(shape) == 4 else nn.BatchNorm1d
    layer = kind(shape[1], affine=affine).double()
    if affine:
        nn.init.normal_(layer.weight)
        nn.init.normal_(layer.bias)
    images = (3 + 2 * torch.randn(shape)).requires_grad_(True)
    given = torch.randn(shape)
    layer(images.double()).backward(given.double())
    expected, images.grad = images.grad, None
    wanted, name, calls = layer(images.double()).detach(), repr(layer), []
    with whole_batch(layer.float(), lambda x: (calls.append(1), x)[1]):
        result = layer(images)
        assert repr(layer) == name
    result.backward(given)
    assert len(calls) == 2
    torch.testing.assert_close(result.double(), wanted, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(images.grad, expected, rtol=1e-4, atol=1e-5)
    assert "forward" not in vars(layer)


def test_layers_that_do_not_train_are_left_alone():
    layer = nn.BatchNorm2d(2).eval()
    with whole_batch(layer, lambda x: x):
        assert "forward" not in vars(layer)


def test_two_halves_with_added_statistics_are_the_whole():
    layer, images = nn.BatchNorm2d(3), torch.randn(8, 3, 4, 4)
    sums = []
    for half in images.split((5, 3)):  # what each of two processes would contribute
        sums.append([torch.cat([half.sum((0, 2, 3)), torch.tensor([half.numel() / 3])])])
    mean = (sums[0][0] + sums[1][0])[:3] / (8 * 16)
    for number, half in enumerate(images.split((5, 3))):
        sums[number].append((half - mean.view(1, 3, 1, 1)).square().sum((0, 2, 3)))
    added = [sums[0][k] + sums[1][k] for k in range(2)]
    found = []
    for half in images.split((5, 3)):
        totals = iter(added)
        with whole_batch(layer, lambda x, totals=totals: next(totals)):
            found.append(layer(half))
    torch.testing.assert_close(torch.cat(found), layer(images))
