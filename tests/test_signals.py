"""Runs that are struck by a signal: two of three in processes of their own."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import distilset
from distilset.checkpoint import load_checkpoint
from tests.small import ARGS, STRUCK, call, content, metrics, write_npz


def command(data, run, *more):
    args = [data, "--out", run, "--steps", 6, "--checkpoint-every", 2, "--method", STRUCK]
    return ["distill", *map(str, args), *ARGS, *map(str, more)]


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGKILL, -9), (signal.SIGINT, 130), (signal.SIGTERM, 130)]
)
def test_a_struck_run_goes_on_to_the_same_bytes(capsys, tmp_path, monkeypatch, number, code):
    data, run = write_npz(tmp_path / "data.npz"), tmp_path / "run"
    assert call(capsys, *command(data, tmp_path / "undisturbed"))[0] == 0
    monkeypatch.setenv("STRIKE", f"3:{int(number)}")
    if number == signal.SIGTERM:  # the handler is the same: no need for another process
        ended, _, err = call(capsys, *command(data, run))
    else:
        ended, err = struck(command(data, run))
    assert ended == code
    found = load_checkpoint(run)
    assert found is not None
    assert found[0].state.step == (2 if number == signal.SIGKILL else 4)
    if number != signal.SIGKILL:
        assert "stopped after step 4 of 6; go on with the same command and --resume" in err
        assert "Traceback" not in err
    monkeypatch.delenv("STRIKE")
    assert call(capsys, *command(data, run, "--resume"))[0] == 0
    assert content(run) == content(tmp_path / "undisturbed")
    assert [line["step"] for line in metrics(run)] == [1, 2, 3, 4, 5, 6]


def struck(args):
    done = subprocess.run(
        [sys.executable, "-m", "distilset", *args],
        cwd=Path(distilset.__file__).parent.parent,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.stdout == ""
    return done.returncode, done.stderr
