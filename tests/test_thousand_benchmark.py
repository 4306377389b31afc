"""The program that measures large data, gone through at a tiny size."""

import importlib
import json
import os
import sys
from pathlib import Path

import pytest

import distilset

ROOT = Path(distilset.__file__).parent.parent


@pytest.fixture
def thousand(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    yield importlib.import_module("thousand")
    for name in ("thousand", "common", "processes"):
        sys.modules.pop(name, None)


@pytest.mark.skipif(sys.platform != "linux", reason="it reads memory from /proc")
def test_the_stages_in_one_process(thousand, tmp_path, capsys):
    sizes = ["--classes", "3", "--per-class", "5", "--side", "8", "--steps", "2", "--width", "8"]
    more = ["--batch-real", "2", "--compile", "off", "--folder", str(tmp_path)]
    command = [*sizes, *more, "--json", str(tmp_path / "result.json")]
    thousand.main([*command, "--only", "draw", "build", "open"])
    thousand.main([*command, "--only", "draw", "build", "distil-1"])  # the first two are there
    result = json.loads((tmp_path / "result.json").read_text())
    assert json.loads(capsys.readouterr().out.strip().split("\n}\n")[-1]) == result
    assert (result["build"]["train"], result["build"]["map_bytes"]) == (12, 15 * 192)
    assert "decoded once" in result["build"]["notes"][0]
    assert result["open"]["notes"] == []
    assert result["open"]["fingerprint"] == result["build"]["fingerprint"]
    assert 0 < result["open"]["ready"] <= result["open"]["seconds"]
    assert result["distil-1"]["seconds_per_step"] > 0
    assert result["distil-1"]["processes"][0]["peak_resident"] > 100e6
    with pytest.raises(SystemExit, match="results of other settings"):
        thousand.main([*command, "--ipc", "2"])
