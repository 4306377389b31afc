import csv

import pytest

from distilset.errors import ConfigError, DataError
from distilset.evaluation import Entry, Request, append_scores, matrix
from distilset.evaluation.judge import TrialResult
from distilset.evaluation.matrix import network_config
from distilset.types import Splits
from tests.small import distil, splits

SMALL = {"name": "convnet", "width": 8, "depth": 1}


@pytest.fixture(scope="module")
def entries():
    parts = splits()
    both = Splits(parts.train, parts.test, parts.test.take(range(6), "val"))
    sets = [distil(steps=1), distil(steps=1, ipc=2, method="dm", norm="batch")]
    return [Entry(f"run {i}", distilled, both) for i, distilled in enumerate(sets)]


def request(**changes) -> Request:
    return Request(**{"epochs": 1, "trials": 1, **changes})


def test_rows_are_runs_then_networks_then_protocols_then_baselines(entries):
    asked = request(
        networks=(SMALL, {**SMALL, "depth": 2}), protocols=("quick", "dm"), baselines=("herding",)
    )
    rows = [(s.run, s.protocol) for s, _ in matrix(entries, asked)]
    expected = [(f"run {i}", p) for i in (0, 1) for _ in range(2) for p in ("quick", "dm")]
    assert rows[:8] == expected
    assert all("baseline herding" in run for run, _ in rows[8:])
    assert len(rows) == 16  # the runs differ in ipc and norm


def test_networks_are_the_runs_own_unless_asked_for(entries):
    own = request().networks_of(entries[1].distilled)
    assert [(n.width, n.depth, n.norm) for n in own] == [(8, 2, "batch")]
    other = request(norm="none").networks_of(entries[1].distilled)
    assert [n.norm for n in other] == ["none"]
    named = request(networks=(SMALL, {**SMALL, "norm": "layer"}))
    assert [n.norm for n in named.networks_of(entries[0].distilled)] == ["instance", "layer"]


def test_rows_are_watched_with_their_number_of_networks(entries, monkeypatch):
    from distilset.evaluation import baselines
    from distilset.training.protocols import Protocol

    short = Protocol("whole", epochs=None, batch=8, lr=0.01, schedule="cosine", updates=2)
    monkeypatch.setattr(baselines, "WHOLE", short)
    seen = []

    def watch(name, networks):
        calls = []
        seen.append((name, networks, calls))
        return lambda trial, done, total: calls.append((trial, done, total))

    asked = request(trials=2, baselines=("random", "whole"))
    list(matrix(entries[:1], asked, watch))
    assert [networks for _, networks, _ in seen] == [2, 2, 1]
    for _, networks, calls in seen:
        trial, done, total = calls[-1]
        assert (trial, done) == (networks - 1, total)


def test_everything_is_checked_before_the_first_network_is_trained(entries):
    parts = splits()
    bad = [
        (Entry("other", entries[0].distilled, splits(counts=(4, 4))), request(), DataError),
        (Entry("shape", entries[0].distilled, splits(shape=(1, 8, 8))), request(), DataError),
        (Entry("none", entries[0].distilled, Splits(parts.train, None)), request(), ConfigError),
        (Entry("noval", entries[0].distilled, parts), request(split="val"), ConfigError),
        (entries[1], request(networks=({"name": "x"},)), ConfigError),
        (
            Entry("few", entries[1].distilled, splits(counts=(6, 1, 6))),
            request(baselines=("kcenter",)),
            ConfigError,
        ),
    ]
    for entry, asked, error in bad:
        with pytest.raises(error):
            next(matrix([entries[0], entry], asked))


@pytest.mark.parametrize(
    "wrong",
    [
        {"protocols": ("long",)}, {"baselines": ("best",)}, {"split": "train"}, {"trials": 0},
        {"epochs": 0},
    ],
)  # fmt: skip
def test_wrong_requests_are_refused(wrong):
    with pytest.raises(ConfigError):
        request(**wrong)


@pytest.mark.parametrize(
    ("table", "part"),
    [
        ({"name": "resnet"}, "unknown network 'resnet'"),
        ({"widht": 8}, "widht"),
        ({"width": "8"}, "width"),
        ({"norm": "bach"}, "norm"),
    ],
)
def test_wrong_networks_are_refused(table, part):
    with pytest.raises(ConfigError) as caught:
        network_config(table)
    assert part in str(caught.value)


def test_scores_are_appended_under_one_heading(entries, tmp_path):
    (score, results), *_ = matrix(entries[:1], request(trials=2))
    odd = [*results, TrialResult(50.0, 1.0, 'a "reason", with\na break')]
    for _ in range(2):
        append_scores(tmp_path / "scores.csv", score, odd, steps=4)
    with (tmp_path / "scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6
    assert [(row["trial"], row["steps"]) for row in rows] == [
        ("0", "4"),
        ("1", "4"),
        ("2", "4"),
    ] * 2
    assert rows[2]["compute"] == 'a "reason", with\na break'
    assert [float(row["accuracy"]) for row in rows[:2]] == pytest.approx(score.accuracies, abs=1e-3)
