"""A file in every peer's layout, made here from the layout's description."""

import numpy as np
import pytest
import torch

from distilset.errors import ConfigError, DataError
from distilset.exchange.layouts import Where, read_stored

IMAGES, LABELS = torch.randn(6, 3, 8, 8), torch.arange(3).repeat_interleave(2)
ACCURACIES = {"ConvNet": [np.float64(0.4)]}


def read(path, **where):
    return read_stored(path, Where(**where))


def saved(path, thing):
    torch.save(thing, path)
    return path


def assert_same(stored, images=IMAGES, labels=LABELS):
    assert torch.equal(stored.images, images)
    assert torch.equal(stored.labels, labels)


def test_dc_dsa_dm_and_datadam(tmp_path):
    """One experiment after the other in ``data``, accuracies beside them."""
    second = [IMAGES + 1, LABELS.flip(0)]
    thing = {"data": [[IMAGES, LABELS], second], "accs_all_exps": ACCURACIES}
    file = saved(tmp_path / "res_DM_CIFAR10_ConvNet_10ipc.pt", thing)
    assert_same(read(file))
    assert read(file).notes == ("experiment 0 of 2 in the file",)
    assert_same(read(file, index=1), *second)
    for index in (2, -1):
        with pytest.raises(ConfigError, match=r"0\.\.1"):
            read(file, index=index)
    with pytest.raises(ConfigError, match="--labels"):
        read(file, labels=file)


def test_mtt_folder_and_file(tmp_path):
    saved(tmp_path / "labels_best.pt", LABELS)
    images = saved(tmp_path / "images_best.pt", IMAGES)
    assert_same(read(tmp_path))
    assert_same(read(images))
    saved(tmp_path / "labels_5000.pt", LABELS.flip(0))
    assert_same(read(images, labels=tmp_path / "labels_5000.pt"), labels=LABELS.flip(0))
    assert_same(read(saved(tmp_path / "images_5000.pt", IMAGES)), labels=LABELS.flip(0))


def test_images_without_labels(tmp_path):
    for name in ("images_best.pt", "x.pt"):
        with pytest.raises(DataError, match="--labels"):
            read(saved(tmp_path / name, IMAGES))
    with pytest.raises(ConfigError, match="--index"):
        read(tmp_path / "x.pt", index=0)


@pytest.mark.parametrize("pair", [list, tuple])
def test_idc_and_ncfm(tmp_path, pair):
    file = saved(tmp_path / "data_best.pt", pair([IMAGES, LABELS]))
    assert_same(read(file))
    for where in ({"index": 0}, {"labels": file}):
        with pytest.raises(ConfigError):
            read(file, **where)


@pytest.mark.parametrize(
    "thing",
    [{"model": {"w": torch.rand(2)}}, [], [1, 2], [IMAGES], "text", 3, {}, [LABELS.tolist()]],
)
def test_other_content_is_described(tmp_path, thing):
    with pytest.raises(DataError, match=r"no known layout .*known are"):
        read(saved(tmp_path / "x.pt", thing))


@pytest.mark.parametrize(
    "data", [[], [[IMAGES]], [IMAGES], [[IMAGES.tolist(), LABELS]], [[IMAGES, [1, 2]]]]
)
def test_broken_experiments(tmp_path, data):
    with pytest.raises((DataError, ConfigError)):
        read(saved(tmp_path / "x.pt", {"data": data}))


def test_an_empty_folder(tmp_path):
    with pytest.raises(DataError, match="neither class folders"):
        read(tmp_path)
