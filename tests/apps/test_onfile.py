"""Rows that somebody edited: told by their key before anything is trained."""

import pytest

from distilset.apps.curves import check_jobs, curves
from distilset.apps.folder import AppFolder
from distilset.apps.onfile import on_file
from distilset.errors import DataError
from tests.apps.test_curves import ROWS

KEYS = [f"order {order}, dm, task {task}" for order in (1, 2) for task in (1, 2)]
KEYED = [{**row, "key": KEYS[2 * int(row["order"]) + int(row["task"]) - 3]} for row in ROWS]
ODD = ["", "x", "1e999", "-1", "101", "9" * 5000]


def test_rows_as_they_were_written_and_of_jobs_to_come(tmp_path):
    check_jobs(tmp_path, KEYED, KEYS, 2)
    check_jobs(tmp_path, KEYED[:2], KEYS, 2)
    check_jobs(tmp_path, [*KEYED, {"key": "other", "accuracy": "x"}], KEYS, 2)


@pytest.mark.parametrize("name", ["accuracy", "order", "task", "trial", "seen", "bytes", "images"])
@pytest.mark.parametrize("value", ODD)
def test_a_study_with_a_damaged_row_is_told(tmp_path, name, value):
    if value == "101" and name in ("seen", "bytes", "images"):
        return
    rows = [*KEYED[:-1], {**KEYED[-1], name: value}]
    with pytest.raises(DataError, match=r"rows\.csv is damaged: 'order 2, dm, task 2'"):
        check_jobs(tmp_path, rows, KEYS, 2)
    assert len(curves(rows, 2)[0].average.values) == 1  # the order is left out


def test_a_study_without_a_row_or_a_column_is_told(tmp_path):
    with pytest.raises(DataError, match=r"task 2' .* a row for each of 2 trials"):
        check_jobs(tmp_path, KEYED[:-1], KEYS, 2)
    lost = [{k: v for k, v in row.items() if k != "seen"} for row in KEYED]
    with pytest.raises(DataError, match="there is no column seen"):
        check_jobs(tmp_path, lost, KEYS, 2)


def test_other_tasks_than_there_are_and_doubled_rows():
    """They were a KeyError, and a wider spread."""
    assert curves([row for row in ROWS if row["task"] == "2"], 1) == []
    assert curves([*ROWS, ROWS[0]], 2) == curves(ROWS, 2)


SEARCH = {
    "proxy": "whole", "member": "a", "trial": "0", "accuracy": "50.0", "test": "", "seconds": "0.1",
    "passes": "10", "source": "trained", "compute": "eager",
}  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    return AppFolder(tmp_path / "a", "nas", {})


def test_a_search_as_it_was_written(folder):
    folder.add("whole | a | 0", SEARCH)
    folder.add("whole | b | 0", {**SEARCH, "member": "b", "accuracy": "nan", "test": "nan"})
    assert set(on_file(folder)) == {"whole | a | 0", "whole | b | 0"}


@pytest.mark.parametrize("name", ["accuracy", "test", "seconds", "passes", "trial", "member"])
@pytest.mark.parametrize("value", ODD)
def test_a_search_with_a_damaged_row_is_told(folder, name, value):
    if (value, name) in (("", "test"), ("101", "seconds"), ("101", "passes")):
        return
    folder.add("whole | a | 0", {**SEARCH, name: value})
    with pytest.raises(DataError, match=r"rows\.csv is damaged: 'whole \| a \| 0' has other"):
        on_file(folder)


@pytest.mark.parametrize("name", SEARCH)
def test_a_search_without_a_column_is_told(folder, name):
    folder.add("whole | a | 0", {k: v for k, v in SEARCH.items() if k != name})
    with pytest.raises(DataError, match=f"there is no column {name}"):
        on_file(folder)
