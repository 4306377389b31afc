"""Every format: there and back, never over what is not ours, whole or not at all."""

import pytest
import torch

import distilset
from distilset.errors import ConfigError, DataError
from distilset.exchange import FORMATS
from distilset.exchange.exporting import FILES
from distilset.grid import to_bytes
from tests.small import tree

NASTY = ("../x", "<img src=x onerror=alert(1)>", "tab\tand\nline")


@pytest.mark.parametrize("format", ["imagefolder", "parquet", "npz"])
@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 6, 9)])
def test_load_data_gives_the_same_bytes_and_labels(make, tmp_path, format, shape):
    made = make(1, shape=shape)
    path = tmp_path / ("set.npz" if format == "npz" else "set")
    distilset.export_set(made, format, path)
    splits = distilset.load_data(str(path))
    assert splits.test is None  # one image of each class: there is nothing to carve
    assert torch.equal(splits.train.images, to_bytes(made.pixels))
    assert torch.equal(splits.train.labels, made.labels)
    assert len(splits.train.classes) == 3


@pytest.mark.parametrize("format", ["imagefolder", "parquet", "npz"])
def test_load_data_loses_no_image(make, tmp_path, format):
    made = make(6, classes=("zebra", "ant", "10"))
    path = tmp_path / ("set.npz" if format == "npz" else "set")
    distilset.export_set(made, format, path)
    splits = distilset.load_data(str(path))
    for label in range(3):
        parts = (splits.train.of_class(label), splits.test.of_class(label))
        found = sorted(image.numpy().tobytes() for part in parts for image in part)
        own = to_bytes(made.pixels[made.labels == label])
        assert found == sorted(image.numpy().tobytes() for image in own)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("zca", [False, True])
def test_an_export_comes_back(make, train, tmp_path, format, zca):
    """Floats where the format has them; DD-Ranking's are normalised, so rounded a little."""
    made = make(2, zca=zca)
    path = tmp_path / ("set.pt" if format == "pt" else "set.npz" if format == "npz" else "set")
    distilset.export_set(made, format, path)
    space = {"space": "normalised"} if format == "ddranking" else {}
    back = distilset.import_set(path, train, zca=zca, **space)
    rough = format in ("imagefolder", "parquet")
    expected = to_bytes(made.pixels).float() / 255 if rough else made.pixels
    assert torch.allclose(back.pixels, expected, atol=1e-6)
    assert torch.equal(back.labels, made.labels)
    assert back.card.zca == made.card.zca
    assert (back.card.ipc, back.classes) == (2, made.classes)
    assert torch.allclose(back.tensors()[0], back.transform.apply(expected), atol=1e-4)


@pytest.mark.parametrize("format", ["parquet", "npz", "pt", "ddranking"])
def test_soft_labels_come_back(make, train, tmp_path, format):
    made = make(2, soft=True)
    path = tmp_path / ("set.npz" if format == "npz" else "set")
    distilset.export_set(made, format, path)
    space = {"space": "normalised"} if format == "ddranking" else {}
    back = distilset.import_set(path, train, **space)
    assert torch.allclose(back.labels, made.labels)


@pytest.mark.parametrize("format", FORMATS)
def test_nasty_class_names_stay_inside_and_come_back(make, train, tmp_path, format):
    made = make(2, classes=NASTY)
    target = tmp_path / "inside" / ("set.npz" if format == "npz" else "set")
    target.parent.mkdir()
    distilset.export_set(made, format, target)
    assert set(tmp_path.iterdir()) == {target.parent}
    assert set(target.parent.iterdir()) == {target}
    for name in tree(tmp_path):
        assert not set(name) & set("<>\n\t\\:")
    named = type(train)(train.images, train.offsets, NASTY, train.role, train.info)
    space = {"space": "normalised"} if format == "ddranking" else {}
    back = distilset.import_set(target, named, **space)
    assert back.classes == NASTY
    assert torch.equal(back.labels, made.labels)


def test_files_with_classes_in_another_order_are_put_right(make, train, tmp_path):
    """Labels of hard and soft kinds follow their names."""
    order = (2, 0, 1)
    names = tuple(train.classes[c] for c in order)
    for soft in (False, True):
        path = tmp_path / f"{soft}.pt"
        made = make(2, classes=names, soft=soft)
        distilset.export_set(made, "pt", path)
        back = distilset.import_set(path, train)
        for label, c in enumerate(order):
            own = made.pixels[made.hard_labels == label]
            assert torch.equal(back.pixels[back.hard_labels == c], own)


@pytest.mark.parametrize("format", FORMATS)
def test_what_is_there_is_replaced_only_if_that_is_asked_for(make, tmp_path, format):
    path = tmp_path / "set"
    distilset.export_set(make(1), format, path)
    before = tree(tmp_path)
    with pytest.raises(DataError, match="--overwrite"):
        distilset.export_set(make(2), format, path)
    assert tree(tmp_path) == before
    distilset.export_set(make(2), format, path, overwrite=True)
    assert tree(tmp_path) != before
    assert {p.name for p in tmp_path.iterdir()} == {"set"}


def test_folders_with_other_files_are_left_alone(make, tmp_path):
    path = tmp_path / "set"
    distilset.export_set(make(1), "imagefolder", path)
    (path / "notes.txt").write_text("mine")
    before = tree(path)
    for format in ("imagefolder", "parquet"):
        with pytest.raises(DataError, match=r"no export wrote \(notes.txt\)"):
            distilset.export_set(make(2), format, path, overwrite=True)
    with pytest.raises(DataError, match="is a folder and the format needs a file"):
        distilset.export_set(make(2), "npz", path, overwrite=True)
    assert tree(path) == before
    (path / "notes.txt").unlink()
    distilset.export_set(make(2), "parquet", path, overwrite=True)
    assert not list(path.glob("class*"))
    (path / FILES).write_text("[]")
    with pytest.raises(DataError, match="no export wrote"):
        distilset.export_set(make(2), "parquet", path, overwrite=True)


def test_an_export_that_fails_leaves_nothing(make, tmp_path, monkeypatch):
    path = tmp_path / "set"
    distilset.export_set(make(1), "imagefolder", path)
    before = tree(tmp_path)

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr("distilset.exchange.imagefolder.write_card", fail)
    with pytest.raises(OSError, match="disk full"):
        distilset.export_set(make(2), "imagefolder", path, overwrite=True)
    assert tree(tmp_path) == before
    assert {p.name for p in tmp_path.iterdir()} == {"set"}


def test_wrong_exports_are_told(make, tmp_path):
    with pytest.raises(ConfigError, match="did you mean 'parquet'"):
        distilset.export_set(make(), "parket", tmp_path / "x")
    with pytest.raises(DataError, match="there is no folder"):
        distilset.export_set(make(), "npz", tmp_path / "none" / "x.npz")
    for format in ("imagefolder", "parquet", "ddranking"):
        with pytest.raises(DataError, match="1 or 3 channels"):
            distilset.export_set(make(shape=(4, 8, 8)), format, tmp_path / "x")
    with pytest.raises(DataError, match="soft labels"):
        distilset.export_set(make(soft=True), "imagefolder", tmp_path / "x")
    assert not list(tmp_path.iterdir())


def test_four_channels_go_into_arrays(make, tmp_path):
    made = make(1, shape=(4, 8, 8))
    distilset.export_set(made, "npz", tmp_path / "x.npz")
    splits = distilset.load_data(str(tmp_path / "x.npz"))
    assert torch.equal(splits.train.images, to_bytes(made.pixels))
