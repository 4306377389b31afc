import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distilset.data import load_data
from distilset.data.split import carve
from distilset.errors import ConfigError

COUNTS = st.lists(st.integers(1, 40), min_size=1, max_size=6)


@given(COUNTS, st.floats(0.01, 0.95), st.integers(0, 2**31))
def test_carving_is_stratified_and_leaves_one_image_to_each_class(counts, fraction, seed):
    labels = np.repeat(np.arange(len(counts)), counts)
    marked = carve(labels, len(counts), fraction, "split", seed)
    for c, count in enumerate(counts):
        taken = int(marked[labels == c].sum())
        assert taken <= count - 1
        assert taken >= min(1, count - 1)
        assert abs(taken - fraction * count) <= 1
    assert (marked == carve(labels, len(counts), fraction, "split", seed)).all()


@given(COUNTS, st.integers(0, 1000))
def test_a_class_is_carved_alike_whatever_lies_between_its_images(counts, seed):
    labels = np.repeat(np.arange(len(counts)), counts)
    shuffle = np.random.default_rng(seed).permutation(len(labels))
    sorted_marks = carve(labels, len(counts), 0.2, "split", seed)
    marks = carve(labels[shuffle], len(counts), 0.2, "split", seed)
    for c in range(len(counts)):
        assert (marks[labels[shuffle] == c] == sorted_marks[labels == c]).all()


def test_the_test_part_depends_on_the_split_seed_only():
    a, b = load_data("digits"), load_data("digits", val=0.25, split_seed=0)
    c = load_data("digits", split_seed=1)
    assert a.test is not None
    assert b.test is not None
    assert c.test is not None
    assert b.val is not None
    assert a.test.digest == b.test.digest != c.test.digest
    assert (b.val.role, b.info.val_fraction, c.info.split_seed) == ("val", 0.25, 1)
    assert len(b.val) + len(b.train) == len(a.train)
    assert len({a.info.fingerprint, b.info.fingerprint, c.info.fingerprint}) == 3
    assert a.info.fingerprint == load_data("digits").info.fingerprint


def test_no_image_is_lost_or_doubled():
    splits = load_data("digits", val=0.1)
    assert splits.test is not None
    assert splits.val is not None
    whole = np.concatenate([s.images.numpy() for s in (splits.train, splits.val, splits.test)])
    parts = np.sort([image.tobytes() for image in whole])
    from distilset.data.builtin import read_digits

    assert (parts == np.sort([image.tobytes() for image in read_digits().train.images])).all()


@pytest.mark.parametrize("val", [-0.1, 1.0, 2.0, float("nan")])
def test_val_must_be_a_fraction(val):
    with pytest.raises(ConfigError, match="val must be a fraction"):
        load_data("digits", val=val)


def test_classes_of_one_image_leave_no_test_and_no_val(make_folder):
    root = make_folder({"a": 1, "b": 1})
    splits = load_data(root)
    assert splits.test is None
    assert splits.info.test_part == "none"
    with pytest.raises(ConfigError, match="leaves no validation part"):
        load_data(root, val=0.5)
