import json

import pytest

from distilset.apps.folder import read_rows
from tests.ranks import launch, results, together
from tests.small import call, refused

ONE = ["mlp"]
MEMBERS = ["convnet:width=4,depth=1", "convnet:width=8,depth=1,norm=none", "mlp"]


def members():
    return iter(MEMBERS)


QUICK = [
    *("--space", f"{__name__}:members", "--epochs", "1", "--reference-updates", "2"),
    *("--threads", "1", "--precision", "fp32", "--device", "cpu"),
]


@pytest.fixture
def run(tmp_path, capsys):
    code, _, _ = call(capsys, "select", "digits", "--ipc", "1", "--val", "0.1",
                      "--out", tmp_path / "r")  # fmt: skip
    assert code == 0
    return tmp_path / "r"


def test_a_search_on_digits(run, tmp_path, capsys):
    out = tmp_path / "s"
    code, text, err = call(capsys, "nas", run, *QUICK, "--baseline", "early", "--out", out)
    assert code == 0, err
    assert "3 of 3 networks" in err
    assert "9 of 9 trainings" in err
    assert "Rank correlation of proxy with whole-data accuracy over 3 networks" in text
    assert len(read_rows(out)) == 9
    code, text, _ = call(capsys, "nas", run, *QUICK, "--baseline", "early", "--out", out,
                         "--resume", "--json")  # fmt: skip
    document = json.loads(text)
    assert code == 0
    assert [one["name"] for one in document["findings"]] == ["r", "early", "whole"]
    assert {one["n"] for one in document["findings"]} == {3}
    code, _, _ = call(capsys, "report", out, "--out", tmp_path / "report.html")
    assert code == 0


def test_processes_of_torchrun_share_a_search(run, tmp_path, capsys):
    """Two ranks find what one process finds; they share the folder, and the first prints."""
    alone, out, cache = tmp_path / "alone", tmp_path / "s", {"DISTILSET_CACHE": tmp_path / "cache"}
    quick = ["--space", "tests.test_cli_nas:members", *QUICK[2:]]  # ranks are not in pytest's path
    assert call(capsys, "nas", run, *quick, "--out", alone)[0] == 0
    words = ["-m", "distilset", "nas", run, *quick, "--out"]
    ended = results(launch(2, *words, out, "--json", cwd=tmp_path, **cache))
    assert [code for code, _, _ in ended] == [0, 0], ended
    document = json.loads(ended[0][1])
    assert ended[1][1:] == ("", "")
    known = json.loads((alone / "findings.json").read_text())
    for found in (document, known):
        for one in found["findings"]:
            del one["seconds"]
    assert document == known
    times = ("seconds", "source")
    rows = [[{k: v for k, v in row.items() if k not in times} for row in read_rows(folder)]
            for folder in (alone, out)]  # fmt: skip
    assert sorted(map(str, rows[0])) == sorted(map(str, rows[1]))
    assert "2 of" not in together(2, *words, out, "--resume", "--json", cwd=tmp_path, **cache)
    ended = results(launch(2, *words, out, cwd=tmp_path, **cache))
    assert ended[0][0] == 2
    assert "holds results" in ended[0][2] or "--resume" in ended[0][2]


def test_a_plan_names_what_is_left_out_and_trains_nothing(run, tmp_path, capsys):
    code, _, err = call(capsys, "nas", run, "--sample", "6", "--out", tmp_path / "s", "--dry-run")
    assert code == 0
    assert "6 of 480 networks" in err
    assert err.count("120 left out") == 2
    assert "T operations, estimated" in err
    assert not (tmp_path / "s").exists()


def test_bad_input_is_one_sentence(run, tmp_path, capsys):
    out = ["--out", tmp_path / "s"]
    assert "unknown space 'convnet71'" in refused(capsys, "nas", run, "--space", "convnet71", *out)
    assert "from 2 to 480" in refused(capsys, "nas", run, "--sample", "481", *out)
    assert "unknown baseline" in refused(capsys, "nas", run, "--baseline", "best", *out)
    call(capsys, "select", "digits", "--ipc", "1", "--out", tmp_path / "plain")
    assert "no val part" in refused(capsys, "nas", tmp_path / "plain", *out)
    assert "share their data" in refused(
        capsys, "nas", run, tmp_path / "plain", "--split", "test", *out
    )
    one = ["--space", f"{__name__}:ONE"]
    assert "needs two networks" in refused(capsys, "nas", run, *one, *out)
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "mine.txt").write_text("x")
    assert "not empty" in refused(capsys, "nas", run, *QUICK, *out)
