import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from distilset.losses.attention import channel_attention, spatial_attention
from tests.references import convnet as reference


def maps(seed, shape=(3, 5, 4, 6)):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


@pytest.mark.parametrize("power", [1.0, 1.5, 2.0, 3.0, 4.0])
def test_equal_the_formulas(power):
    batch = maps(0)
    expected = [reference.spatial(one, power) for one in batch.numpy()]
    assert np.allclose(spatial_attention(batch, power), expected, atol=1e-6)
    expected = [reference.channel(one, power) for one in batch.numpy()]
    assert np.allclose(channel_attention(batch, power), expected, atol=1e-6)


@given(st.integers(0, 10_000), st.sampled_from([1.0, 2.0, 4.0, 2.5]), st.floats(0.1, 10))
@settings(max_examples=30, deadline=None)
def test_unit_length_and_scale_free(seed, power, factor):
    batch = maps(seed)
    for attention in (spatial_attention, channel_attention):
        vectors = attention(batch, power)
        assert torch.allclose(vectors.norm(dim=1), torch.ones(3), atol=1e-5)
        assert torch.allclose(vectors, attention(factor * batch, power), atol=1e-5)


def test_symmetries():
    batch = maps(1)
    turned = batch.flip(3)
    assert torch.allclose(channel_attention(batch, 4.0), channel_attention(turned, 4.0), atol=1e-6)
    mixed = batch[:, torch.randperm(5)]
    assert torch.allclose(spatial_attention(batch, 4.0), spatial_attention(mixed, 4.0), atol=1e-6)


def test_empty_map_gives_zero_and_finite_gradient():
    batch = torch.zeros(2, 3, 4, 4, requires_grad=True)
    for attention in (spatial_attention, channel_attention):
        vectors = attention(batch, 4.0)
        assert not vectors.any()
        (gradient,) = torch.autograd.grad(vectors.sum(), batch)
        assert torch.isfinite(gradient).all()


def test_reduced_precision_is_summed_in_float32():
    batch = maps(2, (2, 64, 16, 16)).to(torch.bfloat16)
    exact = [reference.spatial(one, 4.0) for one in batch.double().numpy()]
    assert spatial_attention(batch, 4.0).dtype == torch.float32
    assert np.allclose(spatial_attention(batch, 4.0), exact, atol=1e-6)
