import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from distilset.data import fit_zca
from distilset.errors import ConfigError, DataError
from tests.references.zca import zca as reference


def draw(n=60, shape=(2, 3, 4), seed=0):
    generator = torch.Generator().manual_seed(seed)
    size = int(np.prod(shape))
    mix = torch.randn(size, size, generator=generator)
    return (torch.randn(n, size, generator=generator) @ mix + 0.5).view(n, *shape)


@pytest.mark.parametrize("n", [60, 10])
@pytest.mark.parametrize("eps", [0.1, 1.0])
def test_equals_the_reference(n, eps):
    x = draw(n)
    zca = fit_zca(x, eps)
    mean, matrix, inverse = reference(x, eps)
    assert np.allclose(zca.mean, mean, atol=1e-6)
    assert np.allclose(zca.matrix, matrix, atol=1e-4 * np.abs(matrix).max())
    assert np.allclose(zca.inverse, inverse, atol=1e-4 * np.abs(inverse).max())
    white = (x.flatten(1).double().numpy() - mean) @ matrix
    assert np.allclose(zca.apply(x).flatten(1), white, atol=1e-3)


def test_equals_whitening_pca_turned_back():
    x = draw(200)
    rows = x.flatten(1).double().numpy()
    pca = PCA(whiten=True, svd_solver="full").fit(rows)
    turned_back = pca.transform(rows) @ pca.components_
    assert np.allclose(fit_zca(x, 1e-9).apply(x).flatten(1), turned_back, atol=2e-3)


def test_inverts_and_is_symmetric_and_whitens():
    x = draw(300)
    zca = fit_zca(x)
    assert torch.allclose(zca.invert(zca.apply(x)), x, atol=1e-4)
    assert torch.allclose(zca.matrix, zca.matrix.T, atol=1e-6)
    assert {zca.mean.dtype, zca.matrix.dtype, zca.inverse.dtype} == {torch.float32}
    cov = torch.cov(fit_zca(x, 1e-6).apply(x).flatten(1).T)
    assert torch.allclose(cov, torch.eye(len(cov)), atol=1e-2)


def test_chunks_and_preparation_change_nothing(monkeypatch):
    x = (draw(50).abs() * 20).clamp(0, 255).to(torch.uint8)
    whole = fit_zca(x.float() / 255)
    monkeypatch.setattr("distilset.data.zca._CHUNK", 7)
    chunked = fit_zca(x, prepare=lambda chunk: chunk.float() / 255)
    assert torch.allclose(whole.matrix, chunked.matrix, atol=1e-4)


def test_refusals():
    with pytest.raises(ConfigError, match=r"65x8 images needs a matrix of 1560x1560.*64 pixels"):
        fit_zca(torch.zeros(3, 3, 65, 8))
    with pytest.raises(ConfigError, match="eps above 0"):
        fit_zca(draw(), 0.0)
    with pytest.raises(DataError, match="two training images"):
        fit_zca(draw(1))
