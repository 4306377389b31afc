from pathlib import Path

import pytest
import torch

from distilset.data import KNOWN, channel_statistics, load_data
from distilset.data.parts import square
from distilset.errors import ConfigError, DataError


def no_hub(*args, **kwargs):
    raise AssertionError("the hub was asked")


@pytest.fixture(autouse=True)
def never_the_hub(monkeypatch):
    monkeypatch.setattr("distilset.data.hub.find_hub", no_hub)


def test_digits():
    splits = load_data("digits")
    assert splits.test is not None
    assert len(splits.train) + len(splits.test) == 1797
    assert splits.train.spec.shape == (1, 8, 8)
    assert (splits.train.images.min(), splits.train.images.max()) == (0, 255)
    info = splits.info
    assert (info.name, info.mirror, info.test_part) == ("digits", False, "carved")
    mean, std = channel_statistics(splits.train.images)
    assert (info.mean, info.std) == (mean, std)
    assert load_data("digits", resolution=16).train.spec.shape == (1, 16, 16)


@pytest.mark.parametrize("name", ["cifr10", "digit", "x", "imagenet"])
def test_an_unknown_bare_word_is_an_error_at_once(name):
    with pytest.raises(ConfigError, match=f"unknown data set '{name}'.*owner/name"):
        load_data(name)


@pytest.mark.parametrize("source", ["./nowhere", "/no/where", "a/b/c", "x.npz", "d/x.npz", ""])
def test_a_path_that_is_missing(source):
    with pytest.raises(DataError, match="no file or folder"):
        load_data(source)
    with pytest.raises(DataError, match=r"does not exist|no class folders"):
        load_data(Path("/nowhere") / source)


def test_a_file_of_another_kind(tmp_path):
    (tmp_path / "x.csv").write_text("a,b")
    with pytest.raises(DataError, match="is no kind of data set"):
        load_data(tmp_path / "x.csv")


@pytest.mark.parametrize("source", [None, 7, [], [1, 2], object()])
def test_objects_that_are_no_data(source):
    with pytest.raises(ConfigError, match="data must be"):
        load_data(source)


@pytest.mark.parametrize("resolution", [0, -3, 5000, 2.5, True, "32"])
def test_resolution_must_be_a_number_of_pixels(resolution):
    with pytest.raises(ConfigError, match="resolution must"):
        square(resolution)
    if type(resolution) is int:
        with pytest.raises(ConfigError, match="resolution must"):
            load_data("digits", resolution=resolution)


def test_a_relative_path_wins_over_the_hub_and_a_name_over_a_folder(make_folder, monkeypatch):
    root = make_folder({"a": 3}, name="own/digits")
    monkeypatch.chdir(root.parent.parent)
    assert load_data("own/digits").train.classes == ("a",)
    monkeypatch.chdir(root.parent)
    assert len(load_data("digits").train.classes) == 10
    assert load_data("./digits").train.classes == ("a",)


def test_like_gives_the_published_statistics(make_folder):
    root = make_folder({"a": 3})
    measured, like = load_data(root).info, load_data(root, like="svhn").info
    assert measured.mirror
    assert not like.mirror
    assert like.mean == KNOWN["svhn"].mean
    assert like.mean != measured.mean
    with pytest.raises(ConfigError, match="statistics of 1 channels"):
        load_data(root, like="mnist")
    with pytest.raises(ConfigError, match="did you mean 'cifar10'"):
        load_data(root, like="cifr10")


def test_local_copy_of_a_known_name(make_folder, monkeypatch):
    root = make_folder({"0": 3, "1": 3}, "train", "mnist", height=28, width=28, channels=1)
    make_folder({"0": 1, "1": 1}, "test", "mnist", height=28, width=28, channels=1)
    monkeypatch.setenv("DISTILSET_DATA", str(root.parent))
    splits = load_data("mnist")
    assert splits.train.spec.shape == (1, 32, 32)
    info = splits.info
    assert (info.name, info.mean, info.mirror) == ("mnist", (0.1307,), False)
    assert (info.source, info.resolution) == (str(root), 28)


def test_an_imagenet_subset_from_a_local_copy_of_the_whole(make_folder, monkeypatch):
    names = {f"n{i:08d}": 1 + (i % 2) for i in range(702)}
    root = make_folder(names, "train", "imagenet-1k", height=1, width=1)
    monkeypatch.setenv("DISTILSET_DATA", str(root.parent))
    train = load_data("imagenette", resolution=2).train
    assert train.classes[:3] == ("n00000000", "n00000217", "n00000482")
    assert len(train.classes) == 10


def test_the_table_of_known_names():
    assert " ".join(KNOWN) == (
        "mnist fashion-mnist svhn cifar10 cifar100 tiny-imagenet imagenet-1k imagenette imagewoof "
        "imagesquawk"
    )
    for known in KNOWN.values():
        assert len(known.mean) == len(known.std) in (1, 3)
        assert len(set(known.class_subset or range(10))) == 10
    assert [n for n, k in KNOWN.items() if not k.mirror] == ["mnist", "fashion-mnist", "svhn"]


def test_loading_leaves_the_global_generators_alone():
    before = torch.random.get_rng_state()
    load_data("digits", val=0.1)
    assert torch.equal(before, torch.random.get_rng_state())
