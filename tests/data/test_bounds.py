"""Headers, strips, links and paths that would take memory or never end."""

import os
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from distilset.data import load_data
from distilset.data.arrays import resize
from distilset.data.labels import natural_key
from distilset.data.pixels import MOST_BYTES
from distilset.errors import ConfigError, DataError


def npz_of(path, header, size=100):
    """Write an .npz whose arrays have a header of one's own."""
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("images", "labels"):
            text = header.encode().ljust(117) + b"\n"
            magic = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text))
            archive.writestr(f"{name}.npy", magic + text + b"\0" * size)
    return path


@pytest.mark.parametrize(
    "shape", ["(1000000, 1000000, 3)", "(2,)*9", "(-1, 4)", "(9" + "9" * 30 + ",)"]
)
@pytest.mark.parametrize("kind", ["|u1", "<U0", "|O"])
def test_npz_headers_that_claim_what_is_not_there(tmp_path, shape, kind):
    header = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}"
    with pytest.raises(DataError, match="without pickles"):
        load_data(npz_of(tmp_path / "x.npz", header))


def test_npz_bombs_are_not_unpacked(tmp_path, monkeypatch):
    np.savez_compressed(tmp_path / "x.npz", images=np.zeros((9, 100, 100)), labels=np.arange(9))
    monkeypatch.setattr("distilset.untrusted.memory_bytes", lambda: 100_000)
    with pytest.raises(DataError, match="more than the memory"):
        load_data(tmp_path / "x.npz")


def test_a_file_that_only_says_it_is_npz(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros(3))
    (tmp_path / "x.npy").rename(tmp_path / "x.npz")
    with pytest.raises(DataError, match="without pickles"):
        load_data(tmp_path / "x.npz")


@pytest.mark.parametrize(
    ("images", "labels"),
    [(np.zeros((4, 0, 5)), np.arange(4)), (np.zeros((4, 8, 8)), np.array(3)), (np.array(1), [1])],
)
def test_npz_arrays_without_pixels_or_labels(tmp_path, images, labels):
    np.savez(tmp_path / "x.npz", images=images, labels=labels)
    with pytest.raises(DataError, match="one pixel or more"):
        load_data(tmp_path / "x.npz")


def test_a_strip_is_not_grown_to_gigabytes():
    strip = torch.zeros(1, 1, 1, 100_000, dtype=torch.uint8)
    with pytest.raises(DataError, match="too long and narrow"):
        resize(strip, (224, 224))
    assert resize(strip[..., :1000], (8, 8)).shape == (1, 1, 8, 8)


def test_files_larger_than_any_image_are_not_read(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for i in range(30):
            Image.new("L", (8, 8)).save(tmp_path / name / f"{i}.png")
    with (tmp_path / "a" / "huge.png").open("wb") as file:
        file.truncate(MOST_BYTES + 1)  # sparse: takes no room on disk
    assert load_data(tmp_path).info.skipped == ("a/huge.png",)


@pytest.mark.parametrize("form", ["PNG", "GIF", "BMP"])
def test_images_that_declare_a_huge_size_are_passed_over(tmp_path, form):
    offset, order, width = {"PNG": (16, ">", 4), "GIF": (6, "<", 2), "BMP": (18, "<", 4)}[form]
    for i in range(30):
        (tmp_path / "a").mkdir(exist_ok=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "a" / f"{i}.png")
    Image.new("RGB", (8, 8)).save(tmp_path / "a" / f"bomb.{form.lower()}")
    content = bytearray((tmp_path / "a" / f"bomb.{form.lower()}").read_bytes())
    big = struct.pack(order + ("I" if width == 4 else "H"), 60_000)
    content[offset : offset + 2 * width] = big + big
    (tmp_path / "a" / f"bomb.{form.lower()}").write_bytes(bytes(content))
    assert load_data(tmp_path).info.skipped == (f"a/bomb.{form.lower()}",)


def test_folders_deeper_than_python_recurses(tmp_path):
    (tmp_path / "data").mkdir()
    here = os.open(tmp_path / "data", os.O_RDONLY)
    for _ in range(120):
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    with pytest.raises(DataError, match="deep"):
        load_data(tmp_path / "data")


def test_links_of_a_class_to_its_parent_end(tmp_path):
    (tmp_path / "data" / "a").mkdir(parents=True)
    for i in range(3):
        Image.new("L", (8, 8)).save(tmp_path / "data" / "a" / f"{i}.png")
    (tmp_path / "data" / "b").symlink_to(tmp_path / "data")
    assert load_data(tmp_path / "data").train.classes == ("a", "b")


def test_a_billion_labels_in_a_few_bytes(tmp_path, monkeypatch):
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table({"img": [b"x"] * 100_000, "label": [0] * 100_000})
    pq.write_table(table, tmp_path / "train.parquet")
    assert (tmp_path / "train.parquet").stat().st_size < 10_000
    monkeypatch.setattr("distilset.untrusted.memory_bytes", lambda: 1_000_000)
    with pytest.raises(DataError, match="100,000 labels"):
        load_data(tmp_path / "train.parquet")


def test_metadata_of_parquet_nested_too_deep(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([("img", pa.binary()), ("label", pa.int64())])
    schema = schema.with_metadata({"huggingface": "[" * 100_000})
    pq.write_table(pa.table({"img": [b"x"], "label": [0]}, schema), tmp_path / "train.parquet")
    with pytest.raises(DataError, match="cannot be read"):
        load_data(tmp_path / "train.parquet")


def test_labels_of_thousands_of_digits_have_an_order():
    names = ["10" * 4000, "9", "10", "2", "02"]
    assert sorted(names, key=natural_key) == ["02", "2", "9", "10", "10" * 4000]


def test_paths_that_are_no_paths(tmp_path):
    for path, part in (
        ("~nobody-of-this-name/x", "not known here"),
        (os.fsdecode(os.fsencode(tmp_path) + b"/\xff"), "UTF-8"),
        (tmp_path / ("x" * 300), "name too long"),
        (tmp_path / "loop", "links"),
    ):
        (tmp_path / "loop").unlink(missing_ok=True)
        (tmp_path / "loop").symlink_to(tmp_path / "loop")
        with pytest.raises((DataError, ConfigError), match=f"(?i){part}"):
            load_data(Path(path))
