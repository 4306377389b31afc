"""The commands `import`, `export` and `train`."""

import os

import numpy as np
import pytest
import torch

import distilset
from tests.small import call, distil, refused, tree, write_npz

LABELS = torch.arange(3).repeat_interleave(2)


@pytest.fixture
def data(tmp_path):
    return write_npz(tmp_path / "drawn.npz")


@pytest.fixture
def run(tmp_path):
    distil(steps=1, ipc=2).save(tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def peer(tmp_path):
    torch.save([torch.randn(6, 3, 8, 8), LABELS], tmp_path / "peer.pt")
    return tmp_path / "peer.pt"


def test_an_imported_file_is_a_run_like_any_other(capsys, tmp_path, data, peer):
    out = tmp_path / "run"
    args = ("import", peer, "--dataset", data, "--out", out, "--method", "ncfm", "--zca")
    code, told, notes = call(capsys, *args)
    assert code == 0
    assert told.startswith(f"{out}: 6 images of 3 classes")
    assert "whitened (ZCA)" in notes
    assert distilset.DistilledSet.load(out).card.method == "ncfm"
    fast = ("--epochs", 1, "--trials", 1, "--network", "convnet:width=8,depth=2", "--device", "cpu")
    code, table, _ = call(capsys, "evaluate", out, *fast, "--baseline", "random")
    assert code == 0
    assert "ncfm" in table
    assert "already" in refused(capsys, *args) or "not empty" in refused(capsys, *args)
    assert call(capsys, *args, "--overwrite")[0] == 0


@pytest.mark.parametrize(
    ("more", "part"),
    [
        (("--space", "rgb"), "unknown space"),
        (("--space", "whitened"), "--zca"),
        (("--index", 0), "--index is for"),
        (("--factor", 3), "does not divide"),
        (("--softmax",), "for scores"),
    ],
)
def test_wrong_imports_are_one_sentence(capsys, tmp_path, data, peer, more, part):
    out = tmp_path / "run"
    assert part in refused(capsys, "import", peer, "--dataset", data, "--out", out, *more)
    assert not out.exists()


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("fired",)


def test_a_file_that_would_run_code_is_one_sentence(capsys, tmp_path, data, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save([Bomb(), LABELS], tmp_path / "bomb.pt")
    args = ("import", "bomb.pt", "--dataset", data, "--out", "run")
    assert "could run code" in refused(capsys, *args)
    assert not (tmp_path / "fired").exists()
    assert not (tmp_path / "run").exists()


def test_missing_things(capsys, tmp_path, data, peer):
    missing = tmp_path / "none.pt"
    out = ("--out", tmp_path / "x")
    assert "no file or folder" in refused(capsys, "import", missing, "--dataset", data, *out)
    assert "no file or folder" in refused(capsys, "import", peer, "--dataset", "./none", *out)
    assert "no run" in refused(capsys, "export", missing, "--format", "npz", *out)
    assert "no run" in refused(capsys, "train", missing, *out)


def test_exports_are_written_and_kept(capsys, tmp_path, run):
    args = ("export", run, "--format", "npz", "--out", tmp_path / "x.npz")
    code, out, _ = call(capsys, *args)
    assert code == 0
    assert "6 images as npz" in out
    with np.load(tmp_path / "x.npz") as file:
        assert len(file["images"]) == 6
    assert "--overwrite" in refused(capsys, *args)
    assert call(capsys, *args, "--overwrite")[0] == 0
    wrong = ("export", run, "--format", "zip", "--out", tmp_path / "y")
    assert "unknown format 'zip'" in refused(capsys, *wrong)
    assert not (tmp_path / "y").exists()


def test_train_writes_a_network(capsys, tmp_path, run):
    out = tmp_path / "model.safetensors"
    fast = ("--network", "convnet:width=8,depth=2", "--epochs", 2, "--device", "cpu")
    code, told, _ = call(capsys, "train", run, "--out", out, *fast, "--norm", "none", "--seed", 3)
    assert code == 0
    assert "convnet with" in told
    trained = distilset.load_network(out)
    assert trained.facts["seed"] == 3
    assert trained.facts["network"]["norm"] == "none"
    before = tree(tmp_path)
    assert "--overwrite" in refused(capsys, "train", run, "--out", out, *fast)
    assert tree(tmp_path) == before
    wrong = ("train", run, "--out", tmp_path / "y", "--protocol", "long")
    assert "unknown protocol" in refused(capsys, *wrong)
