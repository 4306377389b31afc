"""The code in README and docs runs as printed."""

import re
import sys
from pathlib import Path

import torch

import distilset
from distilset.testing import check_method

ROOT = Path(distilset.__file__).parent.parent


def blocks(path):
    return re.findall(r"^```python\n(.*?)^```$", (ROOT / path).read_text("utf-8"), re.S | re.M)


def test_the_method_of_the_docs_conforms(tmp_path, monkeypatch):
    code, call = blocks("docs/adding-a-method.md")
    assert len(code.splitlines()) < 100
    (tmp_path / "moments.py").write_text(code, "utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    try:
        exec(call, {})
        check_method("moments:Moments", {"variance_weight": 0.5})
    finally:
        sys.modules.pop("moments", None)


def test_the_five_calls_of_the_readme(tmp_path, monkeypatch, capsys):
    """As printed, but for the length of the run and of the training."""
    code = next(block for block in blocks("README.md") if "ds.distill(" in block)
    shorter = code.replace("ipc=10)", "ipc=10, steps=3)").replace("trials=5", "trials=2, epochs=2")
    assert shorter.count("steps=3") == shorter.count("epochs=2") == 1
    monkeypatch.chdir(tmp_path)
    exec(shorter, {})
    assert (tmp_path / "runs" / "a" / "distilled.safetensors").is_file()
    assert "accuracy" in capsys.readouterr().out


def test_the_training_loop_of_the_readme(tmp_path, monkeypatch, capsys):
    """As printed, on a selection; its accuracy is far above chance."""
    code = next(block for block in blocks("README.md") if "LazyLinear" in block)
    splits = distilset.load_data("digits")
    distilset.select(splits.train, "random", 10).save(tmp_path / "runs" / "a")
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    assert float(capsys.readouterr().out.split()[1].rstrip("%")) > 50


def test_the_code_of_the_exchange_docs(tmp_path, monkeypatch):
    """Export, then load as every section says."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    shown = blocks("docs/exchange.md")
    splits = distilset.load_data("digits")
    monkeypatch.chdir(tmp_path)
    distilset.select(splits.train, "random", 5).save("runs/a")
    torch.save({"data": [[torch.rand(20, 1, 8, 8), torch.arange(20) % 10]]}, "res_DM.pt")
    assert len(shown) >= 5
    for code in shown:
        exec(code, {})


def test_the_learner_of_the_continual_docs(capsys):
    (code,) = blocks("docs/continual.md")
    exec(code, {})
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "10 images, 640 bytes, classes (0, 1)"
    assert lines[2] == "25 images, 1600 bytes, classes (0, 1, 2, 3, 4)"
    assert float(lines[3].split()[-1].rstrip("%")) > 60


def test_the_example_of_the_replay_memory():
    import doctest

    from distilset.apps import memory, stream

    for module in (memory, stream):
        found = doctest.testmod(module)
        assert found.attempted
        assert not found.failed


def test_the_search_of_the_docs(tmp_path, monkeypatch, capsys):
    """As printed, but for the length of the trainings."""
    (code,) = blocks("docs/search.md")
    shorter = code.replace("reference_updates=100)", "reference_updates=2, epochs=1, threads=1)")
    assert shorter != code
    monkeypatch.chdir(tmp_path)
    exec(shorter, {})
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == [
        "kcenter-5",
        "whole",
    ]
