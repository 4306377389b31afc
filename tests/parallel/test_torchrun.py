"""The command line in several processes: failures, restarts, stops, machines, tables."""

import csv
import re
import signal
import sys
import time

import pytest

from tests.ranks import ROOT, free_port, launch, results, together
from tests.small import ARGS, call, content, metrics, write_npz

FAULTY = [*ARGS, "--method", "tests.ranks:Faulty", "--device", "cpu", "--checkpoint-every", 3]
TORCHRUN = ("-m", "torch.distributed.run", "--nproc-per-node")


def distill(out, *more):
    return ["-m", "distilset", "distill", "drawn.npz", "--out", out, "--steps", 20, *FAULTY, *more]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    write_npz(tmp_path / "drawn.npz")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return tmp_path


@pytest.fixture
def wanted(folder, capsys):
    """Distil in this process, and return the bytes."""
    code, _, err = call(capsys, *distill("one")[2:])
    assert code == 0, err
    return content(folder / "one")


def agent(*words, cwd, **more):
    """Start torchrun itself."""
    import os
    import subprocess

    return subprocess.Popen(
        [sys.executable, *map(str, words)],
        cwd=cwd,
        env={**os.environ, **more},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def errors(text):
    return [line for line in text.splitlines() if re.match(r"error:|rank \d|Traceback", line)]


def test_the_first_error_is_told_alone(folder):
    before = time.monotonic()
    ended = results(launch(2, *distill("run"), cwd=folder, FAULT="1:4:error"))
    (first, _, quiet), (second, _, told) = ended
    assert (first, second) == (1, 2)
    assert errors(quiet) == []
    assert told == "error: rank 1: the fault that was asked for\n"
    assert time.monotonic() - before < 300


def test_a_killed_process_stops_the_others_and_a_restart_goes_on(folder, wanted):
    words = [*TORCHRUN, 2, "--max-restarts", 1, *distill("run")]
    ((code, out, err),) = results([agent(*words, cwd=folder, FAULT="1:10:9")])
    assert code == 0, err
    assert "ended without a word" in "".join(errors(err)), err
    assert len(errors(err)) == 1
    assert "resumed" in err
    assert out.startswith("run: 3 images")
    assert content(folder / "run") == wanted


def test_a_signal_to_one_stops_all_after_the_same_step(folder, wanted):
    processes = launch(2, *distill("run"), cwd=folder, SLOW="0.2")
    while not (folder / "run" / "checkpoint.safetensors").is_file():
        time.sleep(0.05)
        assert processes[0].poll() is None
    processes[1].send_signal(signal.SIGTERM)
    ended = results(processes)
    assert [code for code, _, _ in ended] == [130, 130]
    assert "stopped after step" in ended[0][2]
    assert ended[1][1:] == ("", "")
    step = int(re.findall(r"after step (\d+) of", ended[0][2])[0])
    assert [line["step"] for line in metrics(folder / "run")] == list(range(1, step + 1))
    together(3, *distill("run", "--resume"), cwd=folder)
    assert content(folder / "run") == wanted


def test_adams_moments_are_shared_out_and_put_together(folder, capsys, monkeypatch):
    """A run that one process left goes on in two, and one that two left in one."""
    adam = ("--optimizer", "adam", "--set", "distill.schedule=cosine")
    assert call(capsys, *distill("one", *adam)[2:])[0] == 0
    monkeypatch.setenv("FAULT", "0:10:error")
    assert call(capsys, *distill("first", *adam)[2:])[0] == 2
    assert {code for code, _, _ in results(launch(2, *distill("second", *adam), cwd=folder))} != {0}
    monkeypatch.delenv("FAULT")
    together(2, *distill("first", "--resume"), cwd=folder)
    code, _, err = call(capsys, *distill("second", "--resume")[2:])
    assert code == 0
    assert "after step 9" in err
    for name in ("first", "second"):
        assert content(folder / name) == content(folder / "one")


def test_two_machines_meet_and_agree(folder, wanted):
    port = free_port()
    where = ("--nnodes", 2, "--master-addr", "127.0.0.2", "--master-port", port)
    agents = [
        agent(*TORCHRUN, 1, *where, "--node-rank", node, *distill("run"), cwd=folder)
        for node in range(2)
    ]
    ended = results(agents)
    assert [code for code, _, _ in ended] == [0, 0], ended
    assert ended[1][1] == ""
    assert content(folder / "run") == wanted


def test_a_table_is_made_by_all_and_printed_by_one(folder, wanted, capsys):
    words = ("evaluate", "one", "--epochs", 1, "--trials", 3, "--baseline", "random")
    words = (*words, "--device", "cpu", "--ranking")
    out = together(2, "-m", "distilset", *words, cwd=folder)
    assert "DD-Ranking" in out
    with (folder / "one" / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    keys = [(row["key"], row["trial"]) for row in rows]
    assert len(keys) == len(set(keys))
    kept = (folder / "one" / "scores.csv").read_bytes()
    code, alone, _ = call(capsys, *words)
    assert code == 0
    assert (folder / "one" / "scores.csv").read_bytes() == kept, "nothing is trained again"
    assert alone == out


def test_other_commands_are_rank_0s(folder, wanted):
    out = together(2, "-m", "distilset", "show", "one", cwd=folder)
    assert out.count("tests.ranks:Faulty") == 1
