"""The commands `report` and `compare`."""

import json

import pytest

from tests.reporting.runs import add_baseline, add_scores, make_run
from tests.small import ARGS, call, refused, write_npz


@pytest.fixture
def runs(tmp_path):
    made = [make_run(tmp_path / name, method=name) for name in ("one", "two", "three")]
    for run, base in zip(made, (70, 60, 50), strict=True):
        add_scores(run, [base, base + 1, base + 2])
    add_baseline(made[0], "whole", [95.0], ipc=None, protocol="whole")
    return made


def test_report_writes_a_file_and_says_so(capsys, runs, tmp_path):
    out = tmp_path / "my report.html"
    code, told, _ = call(capsys, "report", *runs, "--out", out, "--title", "Mine & yours")
    assert code == 0
    assert str(out) in told
    assert "<h1>Mine &amp; yours</h1>" in out.read_text("utf-8")


@pytest.mark.parametrize(
    ("form", "part"),
    [
        ("terminal", "71.00 ± 0.82 (3)"),
        ("markdown", "**71.00 ± 0.82 (3)**"),
        ("latex", r"\underline{61.00 $\pm$ 0.82 (3)}"),
        ("csv", "71.0000,0.8165,3,0,4.500,best"),
    ],
)
def test_compare_prints_the_table(capsys, runs, form, part):
    code, out, _ = call(capsys, "compare", *runs, "--format", form)
    assert code == 0
    assert part in out
    assert "whole" in out


def test_wrong_formats_and_runs_give_one_sentence(capsys, runs, tmp_path):
    told = refused(capsys, "compare", *runs, "--format", "latx")
    assert "did you mean 'latex'" in told
    assert "there is no run" in refused(capsys, "compare", tmp_path / "none")
    assert "there is no run" in refused(capsys, "report", runs[0], tmp_path / "none")
    unscored = make_run(tmp_path / "unscored")
    assert "distilset evaluate" in refused(capsys, "compare", unscored)


def test_what_evaluate_writes_is_what_compare_reads(capsys, tmp_path):
    data = write_npz(tmp_path / "drawn.npz")
    for name, ipc in (("one", "1"), ("two", "2")):
        words = ("distill", data, "--out", tmp_path / name, "--steps", 2, *ARGS, "--ipc", ipc)
        assert call(capsys, *words)[0] == 0
    runs = (tmp_path / "one", tmp_path / "two")
    fast = ("--epochs", 1, "--trials", 2, "--device", "cpu", "--baseline", "random")
    code, out, _ = call(capsys, "evaluate", *runs, *fast, "--json")
    assert code == 0
    rows = json.loads(out)["rows"]
    code, table, _ = call(capsys, "compare", *runs, "--format", "csv")
    assert code == 0
    for row in rows:
        assert f"{row['accuracy_mean']:.4f},{row['accuracy_std']:.4f},2,0" in table
    assert len(table.splitlines()) == 1 + len(rows) == 5
    beside = [json.loads(line) for line in (runs[1] / "baselines.jsonl").read_text().splitlines()]
    assert [row["ipc"] for row in beside] == [2]
