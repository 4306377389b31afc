import io
import socket
import time

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from distilset.data import KNOWN, load_data
from distilset.errors import DataError

NAMES = ["airplane", "car", "bird"]


def png(seed, size=(4, 4)):
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue(), pixels


def make_dataset(labels, image="img", label="label", seed=0, names=NAMES, **more):
    features = {image: datasets.Image(), label: datasets.ClassLabel(names=names)}
    columns = {
        image: [{"bytes": png(seed + i)[0], "path": None} for i in range(len(labels))],
        label: labels,
    }
    for name, values in more.items():
        features[name] = datasets.ClassLabel(names=["p", "q"])
        columns[name] = values
    return datasets.Dataset.from_dict(columns, features=datasets.Features(features))


@pytest.fixture
def hub_folder(tmp_path):
    """Files as the hub lays them out, the training part in two pieces."""
    data = tmp_path / "copy" / "data"
    data.mkdir(parents=True)
    for i in range(2):
        part = make_dataset([2, 0, 1, 1], seed=10 * i)
        part.to_parquet(data / f"train-0000{i}-of-00002.parquet")
    make_dataset([0, 2], seed=50).to_parquet(data / "test-00000-of-00001.parquet")
    return tmp_path / "copy"


def check(splits):
    assert splits.train.classes == tuple(NAMES)
    assert splits.train.counts == (2, 4, 2)
    assert splits.test.counts == (1, 0, 1)
    assert splits.info.test_part == "official"
    expected = [png(i)[1].transpose(2, 0, 1) for i in (1, 11, 2, 3, 12, 13, 0, 10)]
    assert (splits.train.images.numpy() == np.stack(expected)).all()


def test_folder_of_parquet_files(hub_folder):
    check(load_data(hub_folder))
    check(load_data(hub_folder / "data"))


def test_parquet_copy_of_a_known_name(hub_folder, monkeypatch):
    monkeypatch.setenv("DISTILSET_DATA", str(hub_folder.parent))
    hub_folder.rename(hub_folder.parent / "cifar10")
    splits = load_data("cifar10", resolution=4)
    check(splits)
    assert splits.info.mean == KNOWN["cifar10"].mean


def test_one_parquet_file_is_carved(tmp_path):
    make_dataset([0, 1, 2] * 5).to_parquet(tmp_path / "things.parquet")
    splits = load_data(tmp_path / "things.parquet")
    assert splits.train.counts == (4, 4, 4)
    assert splits.info.name == "things"


def test_fine_labels_win_and_known_columns_are_used(tmp_path, monkeypatch):
    both = make_dataset([0, 1, 2] * 2, label="fine_label", coarse_label=[0, 1] * 3)
    (tmp_path / "cifar100").mkdir()
    both.to_parquet(tmp_path / "cifar100" / "train.parquet")
    assert load_data(tmp_path / "cifar100").train.classes == tuple(NAMES)
    monkeypatch.setenv("DISTILSET_DATA", str(tmp_path))
    assert load_data("cifar100", resolution=4).train.classes == tuple(NAMES)


def test_an_imagenet_subset_of_a_table(tmp_path, monkeypatch):
    names = [f"class {i}" for i in range(1000)]
    labels = [c for c in KNOWN["imagewoof"].class_subset or () for _ in range(2)] + [0, 1, 2]
    (tmp_path / "imagenet-1k").mkdir()
    data = make_dataset(labels[::-1], image="image", names=names)
    data.to_parquet(tmp_path / "imagenet-1k" / "train-0.parquet")
    monkeypatch.setenv("DISTILSET_DATA", str(tmp_path))
    train = load_data("imagewoof", resolution=4).train
    assert train.classes[:2] == ("class 193", "class 182")
    assert train.counts == (1,) * 10


def test_plain_parquet_without_features(tmp_path):
    images = [png(i)[0] for i in range(6)]
    table = pa.table({"picture": images, "label": ["x10", "x9"] * 3, "id": list(range(6))})
    pq.write_table(table, tmp_path / "validation.parquet")
    pq.write_table(table, tmp_path / "train.parquet")
    splits = load_data(tmp_path)
    assert splits.test is not None
    assert splits.train.classes == ("x9", "x10")
    assert len(splits.test) == 6


def test_unreadable_rows_are_skipped(tmp_path):
    images: list[bytes | None] = [png(i)[0] for i in range(60)]
    images[7], images[9] = b"nonsense", None
    pq.write_table(pa.table({"image": images, "label": [0, 1] * 30}), tmp_path / "train.parquet")
    info = load_data(tmp_path).info
    assert (info.skipped_count, info.skipped) == (2, ("row 7", "row 9"))


@pytest.mark.parametrize(
    ("table", "match"),
    [
        ({"image": [b"x"], "id": [1]}, "ClassLabel"),
        ({"a": [b"x"], "b": [b"y"], "label": [1]}, "2 columns could be the Image"),
        ({"image": [b"x"], "label": [None]}, "labels are missing"),
        ({"image": [b"x"], "label": [0.5]}, "whole numbers or text"),
    ],
)
def test_parquet_that_is_unfit(tmp_path, table, match):
    pq.write_table(pa.table(table), tmp_path / "train.parquet")
    with pytest.raises(DataError, match=match):
        load_data(tmp_path)


def test_parquet_that_is_damaged_or_of_two_configurations(hub_folder):
    (hub_folder / "other").mkdir()
    (hub_folder / "other" / "train.parquet").write_bytes(b"PAR1 nonsense")
    with pytest.raises(DataError, match=r"several folders \(data, other\)"):
        load_data(hub_folder)
    with pytest.raises(DataError, match="cannot be read"):
        load_data(hub_folder / "other")
    (hub_folder / "data" / "train-00000-of-00002.parquet").unlink()
    (hub_folder / "data" / "train-00001-of-00002.parquet").unlink()
    with pytest.raises(DataError, match="no training part"):
        load_data(hub_folder / "data")


@pytest.fixture
def fake_hub(monkeypatch):
    """A hub that answers with local tables; the calls it got are returned."""
    calls = []
    parts = {
        "train": make_dataset([2, 0, 1, 1, 2, 0, 1, 1]),
        "test": make_dataset([0, 2], seed=50),
    }

    def load_dataset(hub_id, config=None, split=None):
        calls.append((hub_id, config, split))
        found = datasets.DatasetDict(**parts)
        return [found[name] for name in split] if split else found

    monkeypatch.delenv("DISTILSET_DATA", raising=False)
    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.setattr("distilset.data.hub._probe", lambda: True)
    return calls, parts


def test_hub_ids_and_known_names(fake_hub):
    calls, _ = fake_hub
    assert load_data("owner/name").train.counts == (2, 4, 2)
    splits = load_data("owner/name:config")
    assert (splits.info.name, splits.info.source) == ("owner/name", "owner/name:config")
    known = load_data("cifar10", resolution=4)
    assert known.info.source == "uoft-cs/cifar10"
    assert known.info.mean == KNOWN["cifar10"].mean
    assert calls == [
        ("owner/name", None, None),
        ("owner/name", "config", None),
        ("uoft-cs/cifar10", None, ["train", "test"]),
    ]


def test_hub_splits(fake_hub):
    _, parts = fake_hub
    parts["validation"] = parts.pop("test")
    splits = load_data("owner/name")
    assert splits.test is not None
    assert len(splits.test) == 2
    del parts["validation"]
    assert load_data("owner/name").info.test_part == "carved"
    parts["other"] = parts.pop("train")
    with pytest.raises(DataError, match="no split train; its splits are other"):
        load_data("owner/name")


def test_what_the_hub_refuses_is_told(fake_hub, monkeypatch):
    def refuse(*args, **kwargs):
        raise RuntimeError("Dataset is gated\nmore")

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    with pytest.raises(DataError, match=r"RuntimeError: Dataset is gated\); put a copy.*DISTILSET"):
        load_data("imagenet-1k")


def test_without_a_network_one_short_try(monkeypatch):
    monkeypatch.delenv("DISTILSET_DATA", raising=False)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nobody listens: refused at once
    start = time.perf_counter()
    with pytest.raises(DataError, match=r"127.0.0.1:9 could not be reached.*DISTILSET_DATA"):
        load_data("cifar10")
    with pytest.raises(DataError, match=r"could not be reached.*no folder data/mine here"):
        load_data("data/mine")
    assert time.perf_counter() - start < 10


def test_a_network_that_never_answers(monkeypatch):
    monkeypatch.setattr("distilset.data.hub._PATIENCE", 0.3)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        start = time.perf_counter()
        with pytest.raises(DataError, match="could not be reached"):
            load_data("owner/name")
        assert time.perf_counter() - start < 8
