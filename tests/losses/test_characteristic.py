import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from distilset.config import build
from distilset.errors import ConfigError
from distilset.losses.characteristic import OCTAVES, characteristic, draw_frequencies
from distilset.losses.statistics import Statistic
from tests.references.convnet import characteristic as reference


def drawn(n, width, seed=0):
    return torch.randn(n, width, generator=torch.Generator().manual_seed(seed))


@given(n=st.integers(1, 4), width=st.integers(1, 9), count=st.integers(1, 8))
def test_equals_the_reference(n, width, count):
    last, frequencies = drawn(n, width), draw_frequencies(width, count, 1.5)
    ours = characteristic(last, frequencies)
    expected = [reference(row, frequencies.double().numpy()) for row in last.double().numpy()]
    assert np.allclose(ours, expected, atol=1e-5)
    assert torch.allclose(ours.square().sum(1), torch.ones(n))


def test_distances_of_means_are_those_of_a_sum_of_gaussian_kernels():
    real, synthetic = drawn(40, 6, 1), 0.3 * drawn(30, 6, 2) + 1
    bandwidth = 1.2
    frequencies = draw_frequencies(6, 60_000, bandwidth)
    values = [characteristic(one, frequencies) for one in (real, synthetic)]
    ours = float((values[0].mean(0) - values[1].mean(0)).square().sum())

    def kernel(first, second):
        first, second = (x.double() / x.double().norm(dim=1, keepdim=True) for x in (first, second))
        squared = torch.cdist(first, second) ** 2
        widths = [octave * bandwidth for octave in OCTAVES]
        return float(sum((-squared * w**2 / 2).exp().mean() for w in widths)) / len(widths)

    pairs = kernel(real, real) + kernel(synthetic, synthetic) - 2 * kernel(real, synthetic)
    assert ours == pytest.approx(pairs, rel=0.02)


def test_it_sees_a_spread_that_means_do_not():
    narrow = torch.tensor([[1.0, 0.1], [1.0, -0.1]])
    wide = torch.tensor([[1.0, 1.0], [1.0, -1.0]])
    assert torch.equal(narrow.mean(0), wide.mean(0))
    means = [characteristic(one, draw_frequencies(2, 64, 2.0)).mean(0) for one in (narrow, wide)]
    assert float((means[0] - means[1]).square().sum()) > 0.01


def test_frequencies_are_the_same_every_time_and_follow_their_bandwidth():
    assert torch.equal(draw_frequencies(5, 6, 1.0), draw_frequencies.__wrapped__(5, 6, 1.0))
    spread = draw_frequencies(400, 30, 2.0).std(0)
    expected = torch.tensor(OCTAVES).repeat(10) * 2.0
    assert torch.allclose(spread, expected, rtol=0.2)


def test_a_blank_image_gives_a_finite_value_and_gradient():
    last = torch.zeros(2, 4, requires_grad=True)
    characteristic(last, draw_frequencies(4, 3, 2.0)).sum().backward()
    assert bool(last.grad.isfinite().all())


def test_what_shapes_the_values_is_in_their_name():
    names = {
        Statistic("characteristic", 1.0, frequencies=count, bandwidth=width).name
        for count in (8, 16)
        for width in (1.0, 1.5)
    }
    assert len(names) == 4
    assert Statistic("features", 1.0).name == "features"
    assert Statistic("spatial", 1.0, 1, 4.0).name == "spatial-1-4"


@pytest.mark.parametrize("setting", [("frequencies", 0), ("bandwidth", 0.0)])
def test_bad_settings_are_refused(setting):
    with pytest.raises(ConfigError, match=rf"method\.{setting[0]}"):
        build({"method": {"name": "atom", setting[0]: setting[1]}})
