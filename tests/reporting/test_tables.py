import csv
import io
import re

import pytest

from distilset.reporting.collect import all_results, read_runs
from distilset.reporting.formats import FORMATS, render
from distilset.reporting.tables import plain, tabulate
from tests.reporting.runs import add_baseline, add_scores, make_run


@pytest.fixture
def table(tmp_path):
    """Three runs of which the first is best and the second second, a baseline, the whole data."""
    runs = []
    for name, base in (("a_b", 70), ("c|d", 60), ("e", 50)):
        run = make_run(tmp_path / name, method=f"m_{name}")
        add_scores(run, [base, base + 1, base + 2])
        runs.append(run)
    add_scores(runs[0], [88.0], protocol="dm")
    add_baseline(runs[0], "random", [30.0, 31.0, 32.0])
    add_baseline(runs[0], "random", [30.0, None], ipc=10)
    add_baseline(runs[0], "whole", [95.0], ipc=None, protocol="whole")
    return tabulate(all_results(read_runs(runs)))


def test_rows_are_sets_and_columns_ways_of_training(table):
    assert [column["protocol"] for column in table.columns] == ["quick", "dm", "whole"]
    assert [row.method for row in table.rows] == [
        "m_a_b", "m_c|d", "m_e", "random", "random", "whole"
    ]  # fmt: skip
    assert [row.ipc_text for row in table.rows] == ["2"] * 4 + ["10", "all"]
    assert [c.mark for row in table.rows[:4] if (c := row.cells[0])] == ["best", "second", "", ""]
    assert table.rows[0].cells[1].text == "88.00 (1)"
    assert table.rows[1].cells[1] is None
    assert table.rows[4].cells[0].text == "diverged (1 of 2)"
    assert table.rows[5].cells[2].mark == ""


def test_the_whole_data_never_compete(tmp_path):
    run = make_run(tmp_path / "run")
    add_scores(run, [50.0, 51.0, 52.0])
    add_baseline(run, "random", [30.0, 31.0, 32.0])
    add_baseline(run, "whole", [90.0, 91.0, 92.0], ipc=None)
    rows = tabulate(all_results(read_runs([run]))).rows
    assert [row.cells[0].mark for row in rows] == ["best", "", ""]


def test_sets_of_other_sizes_data_and_splits_are_not_compared(tmp_path):
    one, two = make_run(tmp_path / "one"), make_run(tmp_path / "two", ipc=3)
    other = make_run(tmp_path / "other", dataset={"fingerprint": "f2"})
    val = make_run(tmp_path / "val")
    for run, base in ((one, 70), (two, 50), (other, 40)):
        add_scores(run, [base, base + 1, base + 2])
    add_scores(val, [30.0, 31.0, 32.0], split="val")
    rows = tabulate(all_results(read_runs([one, two, other, val]))).rows
    assert {cell.mark for row in rows for cell in row.cells if cell} == {""}


def test_markdown(table):
    lines = render(table, "markdown").splitlines()
    assert r"a\_b" in lines[2]
    assert "**71.00 ± 0.82 (3)**" in lines[2]
    assert r"c\|d" in lines[3]
    assert "<ins>61.00 ± 0.82 (3)</ins>" in lines[3]
    columns = {len(re.findall(r"(?<!\\)\|", line)) for line in lines[:8]}
    assert columns == {8}
    assert "Welch" in lines[-1]


def test_latex(table):
    text = render(table, "latex")
    body = text.split("\\midrule")[1].split("\\bottomrule")[0]
    assert r"m\_a\_b" in body
    assert r"\textbf{71.00 $\pm$ 0.82 (3)}" in body
    assert r"\underline{61.00 $\pm$ 0.82 (3)}" in body
    assert "_" not in body.replace(r"\_", "")
    rows = [line for line in body.splitlines() if line]
    assert {line.count(" & ") for line in rows} == {6}


def test_latex_escapes_every_special_character(tmp_path):
    run = make_run(tmp_path / "r", method=r"\50% & $x_1^2#{~}")
    add_scores(run, [50.0])
    text = render(tabulate(all_results(read_runs([run]))), "latex")
    assert r"\textbackslash{}50\% \& \$x\_1\textasciicircum{}2\#\{\textasciitilde{}\}" in text


def test_csv(table):
    rows = list(csv.DictReader(io.StringIO(render(table, "csv"))))
    first = {key.partition(": ")[2]: v for key, v in rows[0].items() if "quick" in key}
    assert first == {
        "mean": "71.0000", "std": "0.8165", "n": "3", "diverged": "0", "seconds": "4.500",
        "mark": "best",
    }  # fmt: skip
    assert rows[4]["convnet instance, quick (120 epochs): diverged"] == "1"


def test_csv_keeps_a_spreadsheet_from_running_a_name(tmp_path):
    run = make_run(tmp_path / "r", method="=1+1")
    add_scores(run, [50.0])
    row = next(csv.DictReader(io.StringIO(FORMATS["csv"](tabulate(all_results(read_runs([run])))))))
    assert row["method"] == "'=1+1"


def test_names_stay_on_one_line():
    assert plain("a\nb\x1b[31m\u202ec") == "a b [31m c"
