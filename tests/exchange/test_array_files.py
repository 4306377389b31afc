import numpy as np
import torch

import distilset


def test_a_pt_file_is_tensors_and_text(make, tmp_path):
    made = make(2, zca=True)
    distilset.export_set(made, "pt", tmp_path / "x.pt")
    found = torch.load(tmp_path / "x.pt", weights_only=True)
    assert torch.equal(found["images"], made.pixels)
    assert torch.equal(found["labels"], made.labels)
    assert found["classes"] == list(made.classes)
    flat = (found["images"] - found["mean"][:, None, None]) / found["std"][:, None, None]
    whitened = (flat.flatten(1) - found["zca_mean"]) @ found["zca_matrix"]
    assert torch.allclose(whitened.view_as(flat), made.tensors()[0], atol=1e-4)
    distilset.export_set(make(2), "pt", tmp_path / "plain.pt")
    assert not any(key.startswith("zca") for key in torch.load(tmp_path / "plain.pt"))


def test_an_npz_file_needs_no_pickles(make, tmp_path):
    made = make(2, soft=True)
    distilset.export_set(made, "npz", tmp_path / "x")
    with np.load(tmp_path / "x", allow_pickle=False) as file:
        assert file["images"].shape == (6, 8, 8, 3)
        assert np.array_equal(file["pixels"], made.pixels.numpy())
        assert np.array_equal(file["soft_labels"], made.labels.numpy())
        assert file["labels"].tolist() == [0, 0, 1, 1, 2, 2]
        assert file["classes"].tolist() == list(made.classes)
