"""The parquet export, read by the library of the hub itself."""

import numpy as np
import pytest
from datasets import ClassLabel, load_dataset

import distilset
from distilset.errors import DataError
from distilset.grid import to_bytes


@pytest.mark.parametrize("soft", [False, True])
def test_the_hubs_library_reads_the_folder(make, tmp_path, monkeypatch, soft):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    made = make(2, classes=("zebra", "<b>", "ant: 'x'"), soft=soft)
    distilset.export_set(made, "parquet", tmp_path / "set")
    found = load_dataset(str(tmp_path / "set"), split="train", cache_dir=str(tmp_path / "cache"))
    assert isinstance(found.features["label"], ClassLabel)
    assert found.features["label"].names == list(made.classes)
    assert found["label"] == made.hard_labels.tolist()
    images = np.stack([np.asarray(image) for image in found["img"]])
    assert np.array_equal(images, to_bytes(made.pixels).permute(0, 2, 3, 1).numpy())
    if soft:
        assert np.allclose(found["soft_label"], made.labels.numpy())


def test_soft_labels_of_different_lengths_are_refused(tmp_path, make, train):
    import pyarrow as pa
    import pyarrow.parquet as pq

    distilset.export_set(make(1), "parquet", tmp_path / "set")
    file = next((tmp_path / "set").rglob("*.parquet"))
    table = pq.read_table(file).append_column("soft_label", pa.array([[1.0], [1.0, 0.0], [0.0]]))
    pq.write_table(table, file)
    with pytest.raises(DataError, match="soft labels that cannot be read"):
        distilset.import_set(tmp_path / "set", train)
