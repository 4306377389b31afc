"""The command `continual`: its table, its JSON document, its refusals, its place in a report."""

import json
import os
import subprocess
import sys

import pytest

from distilset.apps.folder import read_rows
from distilset.reporting.applications import read_application
from tests.small import call, refused, write_npz

FAST = ("--network", "convnet:width=8,depth=2", "--device", "cpu", "--compile", "off")
FAST += ("--threads", 1, "--batch-real", 4, "--steps", 2, "--epochs", 1, "--precision", "fp32")
SIZE = ("--tasks", 2, "--ipc", 1, "--orders", 2, "--trials", 1)


@pytest.fixture
def data(tmp_path):
    return write_npz(tmp_path / "drawn.npz")


def test_tiny_digits_from_the_command_to_the_report(tmp_path, capsys):
    out, page = tmp_path / "cl", tmp_path / "report.html"
    methods = ("--method", "datadam", "--method", "kcenter")
    args = ("continual", "digits", "--out", out, *SIZE, *FAST, *methods)
    code, text, err = call(capsys, *args)
    assert code == 0, err
    assert "after 5 classes" in text
    assert "kcenter" in text
    assert "trainings: 8/8" in err
    assert refused(capsys, *args).endswith(
        "go on with --resume, or replace the run in it with --overwrite"
    )
    code, text, _ = call(capsys, *args, "--resume", "--json")
    document = json.loads(text)
    assert list(document) == ["rows", "average"]
    assert [row["method"] for row in document["rows"]] == ["datadam"] * 2 + ["kcenter"] * 2
    assert [row["bytes"] for row in document["rows"]] == [5 * 64, 10 * 64] * 2
    assert document["average"][0]["n"] == 2
    code, _, err = call(capsys, "report", out, "--out", page)
    assert code == 0, err
    html = page.read_text()
    facts = read_application(out)
    assert facts.pictures[0] in html
    for text in (facts.summary.title, facts.summary.rows[0][1], "[continual]"):
        assert text in html
    assert "Scores</h2>" not in html


def test_a_study_beside_a_run_in_one_report(tmp_path, data, capsys):
    out, run, page = tmp_path / "cl", tmp_path / "run", tmp_path / "report.html"
    assert call(capsys, "continual", data, "--out", out, *SIZE, *FAST, "--method", "random")[0] == 0
    assert call(capsys, "select", data, "--out", run, "--ipc", 1)[0] == 0
    code, _, err = call(capsys, "report", run, out, "--out", page)
    assert code == 0, err
    html = page.read_text()
    assert 'id="run-1"' in html
    assert 'href="#study-1"' in html


def test_validation_part_and_options(tmp_path, data, capsys):
    out = tmp_path / "cl"
    more = ("--split", "val", "--val", 0.25, "--bank", 2, "--pixels", "png", "--zca")
    args = ("continual", data, "--out", out, *SIZE, *FAST, *more, "--method", "dm", "--json")
    code, text, err = call(capsys, *args)
    assert code == 0, err
    assert json.loads(text)["rows"][1]["seen"] == 3
    settings = read_application(out).settings
    assert (settings["data"]["val"], settings["data"]["zca"]) == (0.25, True)
    assert settings["continual"]["split"] == "val"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--tasks", 4), "4 tasks need as many classes at least; the data have 3"),
        (("--tasks", 0), "tasks must be 1 or more; got 0"),
        (("--ipc", 0), "ipc is 0, a budget below one image per class"),
        (("--ipc", 9, "--tasks", 2, "--method", "random"), "images; where real images are"),
        (("--method", "kcentre"), "unknown method or selector 'kcentre'"),
        (("--split", "val", "--tasks", 2), "have no val part; carve one out with --val F"),
        (("--split", "train"), "--split must be test or val; got 'train'"),
        (("--protocol", "slow"), "unknown protocol 'slow'"),
        (("--zca", "--pixels", "8"), "unknown pixels '8'"),
    ],
)
def test_refusals_are_one_sentence_and_write_nothing(tmp_path, data, capsys, words, message):
    assert message in refused(capsys, "continual", data, "--out", tmp_path / "cl", *words)
    assert not (tmp_path / "cl").exists()


def test_a_folder_in_use_is_refused_before_the_data_are_read(tmp_path, capsys):
    (tmp_path / "thesis.txt").write_text("")
    assert "is not empty" in refused(capsys, "continual", "nowhere", "--out", tmp_path)


def command(data, out, *more):
    words = ["continual", data, "--out", out, *SIZE, *FAST, "--method", "dm", *more]
    return ["-m", "distilset", *map(str, words)]


def rows(out):
    return {tuple(v for k, v in row.items() if k != "seconds") for row in read_rows(out)}


def test_processes_share_a_study(tmp_path, data, capsys):
    """Two started by hand and two started by torchrun do together what one does alone."""
    assert call(capsys, *command(data, tmp_path / "alone")[2:])[0] == 0
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    by_hand = command(data, tmp_path / "cl", "--resume", "--json")
    started = [
        subprocess.Popen([sys.executable, *words], env=environment, stdout=subprocess.PIPE)
        for words in (by_hand, [*torchrun, *by_hand])
    ]
    told = [one.communicate(timeout=300)[0] for one in started]
    assert [one.returncode for one in started] == [0, 0]
    assert json.loads(told[0]) == json.loads(told[1])
    assert rows(tmp_path / "cl") == rows(tmp_path / "alone")


def test_processes_need_a_study_to_share(tmp_path, data, capsys, monkeypatch):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    told = refused(capsys, *command(data, tmp_path / "cl")[2:])
    assert "several processes work on one study only with --resume" in told
