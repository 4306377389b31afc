import pytest
import torch

from distilset.data.normalise import fit_transform
from distilset.errors import ConfigError, DataError
from distilset.exchange.spaces import SPACES, check_space, find_space, to_pixels


def values(low, high):
    return torch.linspace(low, high, 12).reshape(1, 3, 2, 2)


def test_the_range_tells_the_space():
    assert find_space(values(0, 1), zca=False) == "pixels"
    assert find_space(values(0.2, 0.9), zca=True) == "pixels"
    assert find_space(values(-2, 2.5), zca=False) == "normalised"
    assert find_space(values(-2, 2.5), zca=True) == "whitened"


@pytest.mark.parametrize(("low", "high"), [(-0.2, 1.2), (0, 255), (0.5, 1.5)])
def test_a_range_that_tells_nothing_is_refused(low, high):
    with pytest.raises(DataError, match="--space pixels"):
        find_space(values(low, high), zca=False)


def test_every_space_leads_back_to_the_pixels(train):
    transform = fit_transform(train, zca=True)
    pixels = train.images[:4].float() / 255
    mean, std = (torch.tensor(v)[:, None, None] for v in (transform.mean, transform.std))
    normalised = (pixels - mean) / std
    assert torch.equal(to_pixels(pixels, "pixels", transform), pixels)
    assert torch.allclose(to_pixels(normalised, "normalised", transform), pixels, atol=1e-5)
    whitened = transform.apply(train.images[:4])
    assert torch.allclose(to_pixels(whitened, "whitened", transform), pixels, atol=1e-4)


def test_wrong_spaces():
    for space in SPACES:
        check_space(space, zca=True)
    with pytest.raises(ConfigError, match="did you mean 'normalised'"):
        check_space("normalized", zca=False)
    with pytest.raises(ConfigError, match="--zca"):
        check_space("whitened", zca=False)
