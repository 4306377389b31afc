import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from distilset.data import Transform, channel_statistics, fit_transform, load_data
from distilset.errors import ConfigError
from distilset.types import DatasetInfo, ImageSet

BYTES = torch.randint(0, 256, (50, 3, 5, 4), generator=torch.Generator().manual_seed(0)).byte()
TRANSFORM = Transform((0.49, 0.48, 0.45), (0.2, 0.25, 0.3))


def test_bytes_and_pixels_are_normalised_alike_and_come_back():
    expected = (BYTES.double() / 255 - torch.tensor(TRANSFORM.mean)[:, None, None]) / torch.tensor(
        TRANSFORM.std
    )[:, None, None]
    x = TRANSFORM.apply(BYTES)
    assert x.dtype == torch.float32
    assert torch.allclose(x.double(), expected, atol=1e-6)
    assert torch.allclose(TRANSFORM.apply(BYTES.double() / 255), x, atol=1e-6)
    assert torch.allclose(TRANSFORM.invert(x), BYTES / 255, atol=1e-6)


@given(
    st.lists(st.tuples(st.floats(0, 1), st.floats(0.05, 1)), min_size=1, max_size=4),
    st.integers(0, 99),
)
def test_round_trip(channels, seed):
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.rand(3, len(channels), 2, 3, generator=generator) * 3 - 1  # not clamped
    transform = Transform(tuple(m for m, _ in channels), tuple(s for _, s in channels))
    assert torch.allclose(transform.invert(transform.apply(pixels)), pixels, atol=1e-5)


def test_inputs_are_left_alone_and_gradients_pass():
    pixels = torch.rand(4, 3, 5, 4, requires_grad=True)
    before = pixels.detach().clone()
    TRANSFORM.invert(TRANSFORM.apply(pixels)).sum().backward()
    assert torch.equal(pixels.detach(), before)
    assert pixels.grad is not None
    assert torch.allclose(pixels.grad, torch.ones(()), atol=1e-5)
    copy = BYTES.clone()
    TRANSFORM.apply(copy)
    assert torch.equal(copy, BYTES)


@pytest.mark.parametrize("zca", [False, True])
def test_fitted_on_the_training_set(zca):
    train = load_data("digits").train
    transform = fit_transform(train, zca=zca)
    x = transform.apply(train.images)
    assert abs(x.mean()) < 1e-4
    assert torch.allclose(transform.invert(x) * 255, train.images.float(), atol=0.01)
    moved = transform.to("cpu")
    assert torch.equal(moved.apply(train.images), x)
    assert (moved.mean, moved.std) == (transform.mean, transform.std)
    if not zca:
        assert abs(x.std(correction=0) - 1) < 1e-4


def test_zca_is_refused_above_64_pixels():
    info = DatasetInfo("x", "x", (0.5,), (0.5,))
    images = torch.zeros(4, 1, 65, 65, dtype=torch.uint8)
    train = ImageSet.from_labels(images, [0, 0, 1, 1], ["a", "b"], "train", info)
    with pytest.raises(ConfigError, match="64 pixels"):
        fit_transform(train, zca=True)


@given(st.integers(1, 5), st.integers(1, 4), st.integers(0, 1000))
def test_statistics_equal_numpy(n, channels, seed):
    images = np.random.default_rng(seed).integers(0, 256, (n, channels, 4, 3), dtype=np.uint8)
    mean, std = channel_statistics(images)
    pixels = images.astype(np.float64) / 255
    assert np.allclose(mean, pixels.mean(axis=(0, 2, 3)))
    assert np.allclose(std, pixels.std(axis=(0, 2, 3)))
    assert channel_statistics(torch.from_numpy(images)) == (mean, std)


def test_a_constant_channel_has_std_one(monkeypatch):
    monkeypatch.setattr("distilset.data.normalise._CHUNK", 2)
    images = torch.zeros(5, 2, 3, 3, dtype=torch.uint8)
    images[:, 1] = 255
    assert channel_statistics(images) == ((0.0, 1.0), (1.0, 1.0))
