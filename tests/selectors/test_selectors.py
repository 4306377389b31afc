import pytest
import torch

from distilset.errors import ConfigError
from distilset.rng import Rng
from distilset.selectors import SELECTORS, get_selector

every = pytest.mark.parametrize("name", sorted(SELECTORS))


@every
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("ipc", [1, 4, 6])
def test_gives_different_rows_class_by_class(name, channels, ipc, make_set):
    train = make_set(channels=channels)
    rows = get_selector(name)(train, ipc, Rng(0))
    assert rows.dtype == torch.int64
    assert train.labels[rows].tolist() == [c for c in range(3) for _ in range(ipc)]
    assert len(set(rows.tolist())) == 3 * ipc


@every
def test_same_seed_same_rows_and_no_global_randomness(name, make_set):
    train, state = make_set(), torch.get_rng_state()
    first = SELECTORS[name](train, 3, Rng(4))
    assert torch.equal(first, SELECTORS[name](train, 3, Rng(4)))
    assert torch.equal(state, torch.get_rng_state())


@every
def test_one_class_of_one_image(name, make_set):
    assert SELECTORS[name](make_set((1,)), 1, Rng(0)).tolist() == [0]


@every
def test_equal_images_are_still_picked_once(name, make_set):
    train = make_set((5, 5))
    train.images[:] = 7
    assert sorted(SELECTORS[name](train, 5, Rng(0)).tolist()) == list(range(10))


@every
@pytest.mark.parametrize("ipc", [0, -1])
def test_ipc_below_one_is_refused(name, ipc, make_set):
    with pytest.raises(ConfigError, match=f"ipc is {ipc}; it must be at least 1"):
        SELECTORS[name](make_set(), ipc, Rng(0))


@every
def test_ipc_above_the_smallest_class_is_refused(name, make_set):
    with pytest.raises(ConfigError, match="ipc is 7 but class 'class1' has only 6 images"):
        SELECTORS[name](make_set(), 7, Rng(0))
    with pytest.raises(ConfigError, match="class 'class1' has only 0 images"):
        SELECTORS[name](make_set((3, 0)), 1, Rng(0))


@every
def test_the_test_split_is_refused(name, make_set):
    with pytest.raises(ConfigError, match="test split"):
        SELECTORS[name](make_set(role="test"), 1, Rng(0))


def test_unknown_name_is_refused():
    with pytest.raises(ConfigError, match=r"unknown selector 'kcentre'.*did you mean 'kcenter'"):
        get_selector("kcentre")
