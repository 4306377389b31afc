import pytest
import torch

import distilset
from distilset.data.normalise import Transform, fit_transform
from distilset.errors import ConfigError, DataError
from distilset.initial import check_init, initial_images
from distilset.rng import Rng
from distilset.selectors import SELECTORS
from distilset.types import ImageSet
from tests.small import distil, splits


@pytest.fixture
def train() -> ImageSet:
    return splits().train


@pytest.fixture
def transform(train) -> Transform:
    return fit_transform(train)


def initial(init, train, transform, ipc=2, seed=0):
    return initial_images(str(init), train, transform, ipc, Rng(seed))


@pytest.mark.parametrize("name", SELECTORS)
def test_selectors_give_real_images_class_by_class(name, train, transform):
    images = initial(name, train, transform)
    pixels = (transform.invert(images) * 255).round().byte()
    for row, image in enumerate(pixels):
        own = train.of_class(row // 2)
        assert any(torch.equal(image, real) for real in own)
    assert torch.equal(images, initial(name, train, transform))


def test_the_selection_of_the_same_seed_is_where_a_run_starts(train):
    chosen = distilset.select(train, "random", 2, seed=3)
    images = initial("random", train, chosen.transform, seed=3)
    assert torch.allclose(chosen.tensors()[0], images, atol=1e-5)


def test_noise_is_standard_normal_and_knows_no_class_size(train, transform):
    noise = initial("noise", train, transform, ipc=200)
    assert noise.shape == (600, 3, 8, 8)
    assert abs(float(noise.mean())) < 0.02
    assert abs(float(noise.std()) - 1) < 0.02
    assert torch.equal(noise, initial("noise", train, transform, ipc=200))
    assert not torch.equal(noise, initial("noise", train, transform, ipc=200, seed=1))


@pytest.mark.parametrize("zca", [False, True])
def test_another_run_is_where_a_run_starts(train, tmp_path, zca):
    other = distil(train, ipc=2, zca=zca, out=tmp_path / "other")
    images = initial(tmp_path / "other", train, other.transform)
    assert torch.allclose(images, other.tensors()[0], atol=1e-4)
    plain = fit_transform(train)
    assert torch.allclose(plain.invert(initial(tmp_path / "other", train, plain)), other.pixels)


def test_a_run_that_does_not_fit_is_refused(train, transform, tmp_path):
    distil(train, ipc=1, steps=0).save(tmp_path / "small")
    with pytest.raises(ConfigError, match="init needs"):
        initial(tmp_path / "small", train, transform)
    classes = splits(counts=(6, 6)).train
    with pytest.raises(ConfigError, match="other classes"):
        initial(tmp_path / "small", classes, transform)
    with pytest.raises(DataError, match="no run folder"):
        initial(tmp_path, train, transform)


def test_the_smallest_class_is_named_with_its_count(transform):
    uneven = splits(counts=(6, 2, 5)).train
    check_init("random", uneven, 2)
    with pytest.raises(ConfigError) as caught:
        check_init("kcenter", uneven, 3)
    assert "ipc 3" in str(caught.value)
    assert "'class 1'" in str(caught.value)
    assert "(2)" in str(caught.value)
    check_init("noise", uneven, 300)


def test_an_unknown_name_gets_a_hint(train):
    with pytest.raises(ConfigError, match="did you mean 'herding'"):
        check_init("hering", train, 1)


def test_more_images_than_fit_into_memory_are_refused(train):
    with pytest.raises(ConfigError, match="more than this machine has"):
        check_init("noise", train, 10**9)
