"""The program that measures a GPU, gone through on a CPU at tiny sizes."""

import importlib
import json
import sys
from pathlib import Path

import pytest
import torch

import distilset

FOLDER = Path(distilset.__file__).parent.parent / "benchmarks"
SHARED = ("gpu", "step", "twin", "common")


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    yield importlib.import_module("gpu")
    for name in SHARED:
        sys.modules.pop(name, None)


def test_without_cuda_it_says_so(gpu, capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit) as end:
        gpu.main([])
    out, err = capsys.readouterr()
    assert (end.value.code, out) == (2, "")
    assert err == "no GPU was measured: PyTorch finds no CUDA device here\n"


def test_it_runs_on_a_cpu(gpu, capsys, tmp_path):
    gpu.main(["--device", "cpu", "--quick", "--json", str(tmp_path / "gpu.json")])
    result = json.loads(capsys.readouterr().out)
    assert result == json.loads((tmp_path / "gpu.json").read_text())
    assert result["quick"] is True
    step, networks = result["step"], result["networks"]
    assert step["ratio"] > 0
    assert step["differences"]["gradient_cosine"] > 0.99
    assert networks["compute"]["together"].endswith("2 networks together (as asked)")
    assert networks["compute"]["one_by_one"].endswith("one by one (as asked)")
    assert networks["largest_accuracy_gap"] <= 5  # 40 images are scored
