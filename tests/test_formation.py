import numpy as np
import pytest
import torch

from distilset.errors import ConfigError
from distilset.formation import check_factor, decode, decode_labels, encode
from distilset.types import ImageSpec
from tests.references import formation as reference

SIZES = [((3, 8, 8), 2), ((1, 8, 12), 2), ((3, 12, 24), 3), ((1, 16, 16), 4)]


def noise(n, shape):
    return torch.randn(n, *shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("shape", "factor"), SIZES)
def test_decoding_equals_one_piece_after_the_other(shape, factor):
    images = noise(2, shape)
    expected = [
        one for image in images for one in reference.decoded(image.double().numpy(), factor)
    ]
    found = decode(images, factor)
    assert found.shape == (2 * factor**2, *shape)
    assert np.allclose(found.double().numpy(), np.stack(expected), atol=1e-5)


@pytest.mark.parametrize(("shape", "factor"), SIZES)
def test_every_stored_pixel_is_in_one_decoded_image_alone(shape, factor):
    images = noise(2, shape).requires_grad_(True)
    reached = torch.zeros_like(images)
    for one in decode(images, factor):
        (gradient,) = torch.autograd.grad(one.sum(), images, retain_graph=True)
        reached += gradient != 0
        assert float(gradient.sum()) == pytest.approx(one.numel(), rel=1e-4)
    assert bool((reached == 1).all())


@pytest.mark.parametrize(("shape", "factor"), SIZES)
def test_encoding_puts_means_of_blocks_in_the_order_of_decoding(shape, factor):
    images = noise(2 * factor**2, shape)
    stored = encode(images, factor)
    assert stored.shape == (2, *shape)
    channels, height, width = shape
    blocks = images.numpy().reshape(-1, channels, height // factor, factor, width // factor, factor)
    small = torch.from_numpy(blocks.mean((3, 5)))
    pieces = decode(stored, factor)
    for piece, own in zip(pieces, small, strict=True):
        inner = torch.nn.functional.interpolate(own[None], shape[1:], mode="bilinear")[0]
        assert torch.allclose(piece, inner, atol=1e-5)
    flat = torch.arange(2.0 * factor**2)[:, None, None, None].expand(-1, *shape)
    assert torch.allclose(decode(encode(flat, factor), factor), flat, atol=1e-5)


def test_a_factor_of_one_gives_the_very_tensor():
    images, labels = noise(2, (3, 8, 8)), torch.arange(2)
    assert decode(images, 1) is images
    assert encode(images, 1) is images
    assert decode_labels(labels, 1) is labels


def test_labels_are_those_of_the_stored_image():
    assert decode_labels(torch.tensor([2, 0]), 2).tolist() == [2, 2, 2, 2, 0, 0, 0, 0]
    soft = torch.eye(3)[:2]
    assert torch.equal(decode_labels(soft, 3), soft.repeat_interleave(9, 0))


@pytest.mark.parametrize(
    ("factor", "part"),
    [
        (0, "1 or more; got 0"),
        (-2, "1 or more; got -2"),
        (3, "3 does not divide the sides of images of 1x8x12"),
        (8, "8 does not divide"),
        (4, "pieces of less than 4 pixels a side"),
    ],
)
def test_factors_that_do_not_fit(factor, part):
    with pytest.raises(ConfigError, match=part):
        check_factor(factor, ImageSpec(1, 8, 12))


def test_tiny_images_may_be_stored_whole():
    check_factor(1, ImageSpec(1, 2, 3))
    check_factor(2, ImageSpec(1, 8, 12))
