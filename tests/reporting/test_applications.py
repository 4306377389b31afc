"""An application's folder in a report: nothing in it becomes markup."""

import pytest

from distilset.errors import DataError
from distilset.reporting import report
from distilset.reporting.applications import Summary, write_summary
from tests.reporting.runs import EVIL


def write(folder, text=EVIL):
    folder.mkdir()
    (folder / "app.toml").write_text(f"[app]\nkind = 'study'\n[\"{'<i>'}\"]\nkey = '{EVIL}'\n")
    (folder / "plot-a.svg").write_text(f"<svg>{EVIL}</svg>")
    write_summary(folder, Summary(text, text, text, (text, "b"), ((text, text),)))


def test_everything_that_comes_from_a_study_is_escaped(tmp_path):
    write(tmp_path / "study")
    html = report([tmp_path / "study"], tmp_path / "page.html").read_text()
    assert EVIL not in html
    assert "<i>" not in html
    assert html.count("data:image/svg+xml;base64,") == 1


def test_a_study_without_results_is_told(tmp_path):
    write(tmp_path / "study")
    (tmp_path / "study" / "summary.json").unlink()
    with pytest.raises(DataError, match="is not finished; finish it with --resume"):
        report([tmp_path / "study"], tmp_path / "page.html")


def test_a_summary_is_a_rectangle():
    with pytest.raises(ValueError, match="another number of cells"):
        Summary("a", "b", "c", ("d",), (("1", "2"),))
