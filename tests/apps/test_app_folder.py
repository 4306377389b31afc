"""The folder of an application: who may write, rows that are whole or not there, jobs done once."""

import subprocess
import sys

import pytest

from distilset.apps.folder import AppFolder, run_jobs
from distilset.errors import ConfigError, DataError
from distilset.reporting.applications import Summary, read_application

SETTINGS = {"study": {"ipc": 3, "methods": ["dm", "random"], "norm": None, "sizes": (1, 2)}}


def make(path, settings=SETTINGS, kind="study", **allowed):
    return AppFolder(path, kind, settings, **allowed)


def test_rows_come_back_as_text_and_a_job_counts_once(tmp_path):
    folder = make(tmp_path / "a")
    folder.add("one", {"accuracy": 0.1 + 0.2, "class": 'a,"b"\nc'})
    folder.add("two", [{"accuracy": 1.0, "trial": 0}, {"accuracy": 2.0, "trial": 1}])
    folder.add("one", {"accuracy": 9.0})
    rows = folder.rows()
    assert [row["key"] for row in rows] == ["one", "two", "two"]
    assert float(rows[0]["accuracy"]) == 0.1 + 0.2
    assert rows[0]["class"] == 'a,"b"\nc'
    assert [row["trial"] for row in rows] == ["", "0", "1"]
    assert folder.done("two")
    assert not folder.done("three")


@pytest.mark.parametrize("lost", range(1, 12))
def test_a_line_that_was_cut_off_is_passed_over(tmp_path, lost):
    folder = make(tmp_path / "a")
    folder.add("one", {"accuracy": "12.5", "n": "100"})
    folder.add("two", {"accuracy": "13.5", "n": "200"})
    path = folder.path / "rows.csv"
    path.write_bytes(path.read_bytes()[:-lost])
    assert [row["n"] for row in folder.rows()] == ["100"]
    folder.add("two", {"accuracy": "14.5", "n": "300"})
    assert [row["n"] for row in folder.rows()] == ["100", "300"]


def test_only_the_same_settings_go_on(tmp_path):
    make(tmp_path / "a").add("one", {"x": 1})
    assert make(tmp_path / "a", resume=True).done("one")
    with pytest.raises(DataError, match="is not empty"):
        make(tmp_path / "a")
    other = {"study": {**SETTINGS["study"], "ipc": 4, "norm": "batch"}}
    with pytest.raises(ConfigError, match=r"study\.ipc: 3 -> 4; study\.norm: None -> 'batch'"):
        make(tmp_path / "a", other, resume=True)
    less = {"study": {"ipc": 3, "sizes": [1, 2]}}
    with pytest.raises(ConfigError, match=r"study\.methods: \['dm', 'random'\] -> none"):
        make(tmp_path / "a", less, resume=True)
    with pytest.raises(ConfigError, match="holds results of study, not of other"):
        make(tmp_path / "a", kind="other", resume=True)
    more = {"study": {**SETTINGS["study"], "methods": ["dm"]}}
    assert make(tmp_path / "a", more, resume=True, may_change=("study.methods",)).done("one")
    assert 'methods = [\n    "dm",\n]' in (tmp_path / "a" / "app.toml").read_text()


def test_overwriting_removes_what_was_ours_and_nothing_else(tmp_path):
    folder = make(tmp_path / "a")
    folder.add("one", {"x": 1})
    folder.work.mkdir()
    for name in ("plot.svg", "plot-a.png", "table.md", "work/set", "mine.png", "notes.md"):
        (folder.path / name).write_text("")
    again = make(tmp_path / "a", overwrite=True)
    assert again.rows() == []
    assert {p.name for p in again.path.iterdir()} == {"app.toml", "mine.png", "notes.md"}


def test_a_folder_of_somebody_elses_is_left_alone(tmp_path):
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "thesis").write_text("")
    for allowed in ({}, {"resume": True}):
        with pytest.raises(DataError, match="is not empty"):
            make(tmp_path, **allowed)
    make(tmp_path, overwrite=True)
    assert (tmp_path / "work" / "thesis").exists()


@pytest.mark.parametrize("text", ["", "x = ", "app = 1", "[app]\nkind = 3", "kind = 'study'"])
def test_damaged_settings_are_told(tmp_path, text):
    make(tmp_path / "a")
    (tmp_path / "a" / "app.toml").write_text(text)
    with pytest.raises(DataError, match=r"app\.toml is damaged"):
        make(tmp_path / "a", resume=True)


def test_jobs_on_file_are_not_done_again(tmp_path):
    folder, did, told = make(tmp_path / "a"), [], []

    def do(job):
        did.append(job)
        if job == 3:
            raise RuntimeError("killed")
        return {"square": job**2}

    jobs = [(f"job {n}", n) for n in range(5)]
    with pytest.raises(RuntimeError):
        run_jobs(folder, jobs, do)
    did.clear()
    run_jobs(folder, jobs, lambda job: [{"square": job**2}], lambda *count: told.append(count))
    assert [row["square"] for row in folder.rows()] == ["0", "1", "4", "9", "16"]
    assert told == [(3, 5), (4, 5), (5, 5)]


WORKER = """
import sys, time
from distilset.apps.folder import AppFolder, run_jobs
folder = AppFolder(sys.argv[1], "study", {}, resume=True)
def do(job):
    time.sleep(0.2)
    return {"by": sys.argv[2], "job": job}
run_jobs(folder, [(str(n), n) for n in range(8)], do)
assert len(folder.rows()) == 8
"""


def test_two_processes_share_the_jobs(tmp_path):
    make(tmp_path / "a", {})
    words = [sys.executable, "-c", WORKER, str(tmp_path / "a")]
    workers = [subprocess.Popen([*words, name]) for name in "ab"]
    assert [worker.wait(120) for worker in workers] == [0, 0]
    rows = make(tmp_path / "a", {}, resume=True).rows()
    assert sorted(row["job"] for row in rows) == [str(n) for n in range(8)]


def test_a_summary_is_read_back_and_written_as_markdown(tmp_path):
    folder = make(tmp_path / "a")
    with pytest.raises(DataError, match="is not finished"):
        read_application(folder.path)
    summary = Summary("Study", "What it was.", "% (n)", ("set", "a"), (("dm", "1 (2)"),))
    folder.finish(summary)
    (folder.path / "plot-a.svg").write_text("<svg/>")
    facts = read_application(folder.path)
    assert (facts.kind, facts.summary, facts.plots) == (
        "study",
        summary,
        (("plot-a.svg", "<svg/>"),),
    )
    table = "| set | a |\n| --- | ---: |\n| dm | 1 (2) |\n\n% (n)\n"
    assert (folder.path / "table.md").read_text() == table


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"title": 1}', '{"head": 3, "rows": []}', "[" * 100_000]
)
def test_a_damaged_summary_is_told(tmp_path, text):
    folder = make(tmp_path / "a")
    (folder.path / "summary.json").write_text(text)
    with pytest.raises(DataError, match="is damaged"):
        read_application(folder.path)
