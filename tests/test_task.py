import pytest
import torch

from distilset import task as module
from distilset.config import build
from distilset.data.normalise import fit_transform
from distilset.plan import make_task, resolve
from tests.small import ENGINE, NETWORK, splits


def task(zca: bool = False):
    train = splits().train
    tables = {"data": {"source": "x"}, "network": NETWORK, "engine": ENGINE}
    config, _ = resolve(build(tables), train)
    return make_task(config, train, fit_transform(train, zca=zca))


@pytest.mark.parametrize("zca", [False, True])
@pytest.mark.parametrize("kept", [False, True])
def test_real_images_are_the_same_wherever_they_are_kept(zca, kept, monkeypatch):
    asked = []
    monkeypatch.setattr(module, "fits", lambda *size: asked.append(size) or kept)
    made, rows = task(zca), torch.tensor([5, 0, 17])
    expected = made.transform.apply(made.train.images[rows])
    torch.testing.assert_close(made.real(rows), expected, rtol=1e-4, atol=1e-5)
    made.real(rows)
    assert asked == ([] if zca else [(18 * 3 * 8 * 8, "cpu")])  # once, and not beside whitened ones
    assert zca or (made._resident is not None) == kept
