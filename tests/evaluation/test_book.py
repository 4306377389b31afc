import csv
from concurrent.futures import ThreadPoolExecutor
from math import isnan, nan

import pytest

from distilset.errors import DataError
from distilset.evaluation import Book, TrialResult
from tests.small import mutations

FACTS = {"run": "a", "protocol": "dm", "pixels": "float"}
OLD = "run,protocol,trial,accuracy,seconds,compute\nold,dm,0,50.0,1.0,fp32\n"


def result(accuracy=1 / 3, compute='a "reason", with\na break'):
    return TrialResult(accuracy, 1.5, compute)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "scores.csv"


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_what_is_appended_is_read_by_its_key(path):
    book = Book()
    assert book.read(path, "k") == {}
    book.append(path, "k", FACTS, {0: result(), 3: result(nan)})
    book.append(path, "other", FACTS, {1: result()})
    found = Book().read(path, "k")
    assert sorted(found) == [0, 3]
    assert found[0] == result()
    assert isnan(found[3].accuracy)
    assert [row["trial"] for row in rows(path)] == ["0", "3", "1"]


def test_of_equal_rows_the_last_counts(path):
    for accuracy in (10.0, 20.0):
        Book().append(path, "k", FACTS, {0: result(accuracy)})
    assert Book().read(path, "k")[0].accuracy == 20.0
    assert len(rows(path)) == 2


def test_again_counts_only_what_it_made_itself(path):
    Book().append(path, "k", FACTS, {0: result(10.0), 1: result(11.0)})
    book = Book(again=True)
    assert book.read(path, "k") == {}
    book.append(path, "k", FACTS, {1: result(21.0)})
    assert {trial: r.accuracy for trial, r in book.read(path, "k").items()} == {1: 21.0}
    assert sorted(Book().read(path, "k")) == [0, 1]


def test_rows_of_earlier_versions_are_kept_under_the_longer_heading(path):
    path.write_text(OLD)
    assert Book().read(path, "") == {}
    Book().append(path, "k", FACTS, {0: result(2.0)})
    old, new = rows(path)
    assert (old["run"], old["accuracy"], old["key"], old["pixels"]) == ("old", "50.0", "", "")
    assert (new["run"], new["accuracy"], new["key"]) == ("a", "2.0", "k")


@pytest.mark.parametrize("value", ["1e999", "-1", "101", "x"])
def test_accuracies_that_are_none_do_not_count(path, value):
    Book().append(path, "k", FACTS, {0: result(5.25), 1: result(float("nan"))})
    assert set(Book().read(path, "k")) == {0, 1}
    path.write_text(path.read_text().replace("5.25", value))
    assert set(Book().read(path, "k")) == {1}


def test_damaged_files_are_read_as_far_as_they_go_or_refused(path):
    Book().append(path, "k", FACTS, {trial: result(float(trial)) for trial in range(3)})
    for damaged in mutations(path.read_bytes(), 60):
        path.write_bytes(damaged)
        try:
            Book().read(path, "k")
            Book().append(path, "k", FACTS, {7: result(7.0)})
        except DataError:
            continue
        assert path.is_file()


def test_appends_at_once_lose_nothing(path):
    def append(worker):
        for trial in range(5):
            Book().append(path, f"k{worker}", FACTS, {trial: result(float(trial))})

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(append, range(4)))
    assert all(sorted(Book().read(path, f"k{w}")) == list(range(5)) for w in range(4))
