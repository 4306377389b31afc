from functools import partial

import numpy as np
import pytest
import torch

from distilset.cache import cache_folder
from distilset.errors import DataError
from distilset.rng import Rng
from distilset.selectors import el2n, forgetting, hardness
from distilset.selectors.base import hardest
from distilset.testing import drawn_images
from distilset.training import Trainer


@pytest.fixture
def train():
    return drawn_images((1, 8, 8), (20, 20), role="train", seed=0)


@pytest.fixture
def trainings(monkeypatch):
    seen, original = [], Trainer.train

    def counted(self, *rest, **more):
        seen.append(self)
        return original(self, *rest, **more)

    monkeypatch.setattr(Trainer, "train", counted)
    return seen


def test_the_published_training():
    protocol = hardness.published()(50_000)
    assert protocol.total_epochs(50_000) == 200
    first = {e: protocol.lr_at(391 * e, 50_000) for e in (0, 59, 60, 119, 120, 159, 160, 199)}
    expected = [0.1, 0.1, 0.02, 0.02, 0.004, 0.004, 0.0008, 0.0008]
    assert list(first.values()) == pytest.approx(expected)
    early = hardness.published(20)(50_000)
    assert (early.total_epochs(50_000), early.total_updates(50_000)) == (20, 20 * 391)
    assert early.lr_at(391 * 20 - 1, 50_000) == 0.1


def test_hardest_first_class_by_class_and_of_equals_the_first(train):
    scores = torch.zeros(40)
    scores[[3, 7, 25]] = torch.tensor([1.0, torch.inf, 2.0])
    assert hardest(train, 3, scores).tolist() == [7, 3, 0, 25, 20, 21]


@pytest.mark.parametrize("module", [el2n, forgetting])
def test_a_data_set_is_paid_for_once(module, train, trainings):
    first = module.select(train, 3, Rng(0))
    number = len(trainings)
    assert number == module.NETWORKS
    assert torch.equal(module.select(train, 3, Rng(5)), first)
    assert module.select(train, 5, Rng(0)).tolist()[:3] == first.tolist()[:3]
    assert len(trainings) == number
    module.select(train.take(range(38), "train"), 3, Rng(0))
    module.select(train, 3, Rng(0), epochs=4)
    module.select(train, 3, Rng(0), networks=3)
    assert len(trainings) == 3 * number + 3


def test_settings_are_handed_over_as_any_function_is(train, trainings):
    partial(el2n.select, networks=4)(train, 2, Rng(0), None)
    assert len(trainings) == 4


def test_damaged_scores_are_made_anew(train, trainings):
    first = el2n.select(train, 3, Rng(0))
    (path,) = cache_folder("hardness").iterdir()
    good = path.read_bytes()
    for content in (b"", good[:-5], b"\x93NUMPY" + bytes(90)):
        trainings.clear()
        path.write_bytes(content)
        assert torch.equal(el2n.select(train, 3, Rng(0)), first)
        assert len(trainings) == 2
    np.save(path, np.full(40, np.nan, np.float32))
    assert torch.equal(el2n.select(train, 3, Rng(0)), first)


@pytest.mark.parametrize("module", [el2n, forgetting])
def test_wrong_labels_are_the_hardest(module):
    """Two classes that pixels tell apart, but for an image of each among the other's."""
    train = drawn_images((1, 8, 8), (20, 20), role="train", seed=0)
    train.images[:20] //= 8
    train.images[20:] = 255 - train.images[20:] // 8
    train.images[4], train.images[33] = train.images[33].clone(), train.images[4].clone()
    assert module.select(train, 1, Rng(0), epochs=12).tolist() == [4, 33]


def test_a_network_that_diverges_is_told(train, monkeypatch):
    monkeypatch.setattr(hardness, "LEARNING_RATE", 1e30)
    with pytest.raises(DataError, match="diverged"):
        el2n.select(train, 1, Rng(0), epochs=5)
    assert not list(cache_folder("hardness").iterdir())


@pytest.mark.parametrize("damage", ["zip", "short", "long", "huge", "nan", "negative"])
def test_damaged_scores_are_not_believed(tmp_path, damage):
    path = tmp_path / "scores.npy"
    hardness._write(path, torch.tensor([1.0, torch.inf, 0.0]))
    assert hardness._read(path, 3).tolist() == [1.0, float("inf"), 0.0]
    assert hardness._read(path, 4) is None
    good = path.read_bytes()
    path.write_bytes(
        {
            "zip": b"PK\x03\x04" + good[4:],
            "short": good[:-1],
            "long": good + b"x",
            "huge": good.replace(b"(3,), }", b"(3333333333,), }"),
            "nan": good[:-4] + np.float32(np.nan).tobytes(),
            "negative": good[:-4] + np.float32(-1).tobytes(),
        }[damage]
    )
    assert hardness._read(path, 3) is None
