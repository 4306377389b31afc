import pytest
import torch

from distilset.cache import cache_folder
from distilset.data import fit_transform, fit_zca, whitening
from distilset.data.zca import zca_digest
from distilset.errors import DataError
from distilset.testing import drawn_images

SHAPE, COUNTS = (3, 8, 8), (6, 6, 6)


@pytest.fixture
def fits(monkeypatch):
    """Count the fits of transforms that are kept whatever their size."""
    made = []

    def counted(*arguments):
        made.append(arguments)
        return fit_zca(*arguments)

    monkeypatch.setattr(whitening, "KEPT_FROM", 1)
    monkeypatch.setattr(whitening, "fit_zca", counted)
    return made


def test_an_equal_fit_is_read_and_has_the_same_bits(fits):
    train = drawn_images(SHAPE, COUNTS)
    first, second = fit_transform(train, zca=True), fit_transform(train, zca=True)
    assert len(fits) == 1
    assert zca_digest(first.zca) == zca_digest(second.zca)
    assert torch.equal(first.apply(train.images), second.apply(train.images))


def test_what_shapes_a_fit_makes_another(fits, monkeypatch):
    train = drawn_images(SHAPE, COUNTS)
    fit_transform(train, zca=True)
    fit_transform(train, zca=True, eps=0.2)
    fit_transform(train.take(range(len(train) - 1), "train"), zca=True)
    fit_transform(train.with_info(mean=(0.1,) * train.spec.channels), zca=True)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 77)
    fit_transform(train, zca=True)
    assert len(fits) == 5


@pytest.mark.parametrize("kind", ["fits", "transforms"])
@pytest.mark.parametrize("content", [b"", b"[]", b'{"zca": 3}', b'{"zca": "x"}', b"\xff" * 40])
def test_what_is_damaged_or_gone_is_fitted_again(fits, kind, content):
    train = drawn_images(SHAPE, COUNTS)
    expected = zca_digest(fit_transform(train, zca=True).zca)
    (path,) = cache_folder(kind).iterdir()
    path.write_bytes(content)
    assert zca_digest(fit_transform(train, zca=True).zca) == expected
    path.unlink()
    assert zca_digest(fit_transform(train, zca=True).zca) == expected
    assert zca_digest(fit_transform(train, zca=True).zca) == expected
    assert len(fits) == 3


def test_a_line_that_names_the_transform_of_other_images_is_not_followed(fits):
    small, large = drawn_images(SHAPE, COUNTS), drawn_images((3, 12, 12), COUNTS)
    for train in (small, large):
        fit_transform(train, zca=True)
    first, second = cache_folder("fits").iterdir()
    first.write_bytes(second.read_bytes())
    for train in (small, large):
        assert fit_transform(train, zca=True).zca.mean.numel() == train.images[0].numel()


def test_small_images_leave_nothing():
    fit_transform(drawn_images(SHAPE, COUNTS), zca=True)
    assert not list(cache_folder("fits").iterdir())


def test_too_few_images_are_refused_as_ever(fits):
    with pytest.raises(DataError, match="two training images"):
        fit_transform(drawn_images(SHAPE, COUNTS).take([0], "train"), zca=True)
    assert not list(cache_folder("fits").iterdir())
