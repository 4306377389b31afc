import csv
from dataclasses import replace
from itertools import product

import pytest
from torch.nn.functional import one_hot

from distilset.errors import ConfigError, DataError
from distilset.evaluation import Book, Entry, Request, Trainer, TrainSettings, matrix
from distilset.evaluation.judge import Judge
from distilset.models import network_config
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
        {"epochs": 0}, {"augment": "maybe"}, {"labels": "soft"}, {"pixels": "jpg"},
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


@pytest.fixture
def kept(entries, tmp_path):
    """A run whose results are kept, and a counter of the networks that are trained."""
    return replace(entries[0], folder=tmp_path)


@pytest.fixture
def trained(monkeypatch):
    seen, original = [], Trainer.train

    def counted(self, *rest):
        seen.append(self)
        return original(self, *rest)

    monkeypatch.setattr(Trainer, "train", counted)
    return seen


def rows_of(folder):
    with (folder / "scores.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_what_is_done_is_not_done_again(kept, trained):
    (three, _), = matrix([kept], request(trials=3))  # fmt: skip
    assert len(trained) == 3
    (five, results), = matrix([kept], request(trials=5))  # fmt: skip
    assert len(trained) == 5
    assert five.accuracies[:3] == three.accuracies
    assert five.trials == len(results) == 5
    (fresh, _), = matrix([replace(kept, folder=None)], request(trials=5))  # fmt: skip
    assert fresh.accuracies == five.accuracies
    assert [row["trial"] for row in rows_of(kept.folder)] == list("01234")


def test_an_interrupted_call_keeps_what_is_done(kept, trained, monkeypatch):
    original = Judge.trial

    def broken(self, trial, *rest, **more):
        if trial == 2:
            raise KeyboardInterrupt
        return original(self, trial, *rest, **more)

    monkeypatch.setattr(Judge, "trial", broken)
    with pytest.raises(KeyboardInterrupt):
        list(matrix([kept], request(trials=4)))
    monkeypatch.setattr(Judge, "trial", original)
    assert len(rows_of(kept.folder)) == 2
    list(matrix([kept], request(trials=4)))
    assert len(trained) == 4


@pytest.mark.parametrize(
    "changed",
    [
        {"seed": 1}, {"epochs": 2}, {"protocols": ("quick",)}, {"split": "val"}, {"norm": "none"},
        {"networks": (SMALL,)}, {"augment": "off"}, {"pixels": "png"},
        {"settings": TrainSettings(precision="bf16")},
    ],
)  # fmt: skip
def test_what_differs_in_anything_is_trained(kept, trained, changed):
    list(matrix([kept], request()))
    list(matrix([kept], request(**changed)))
    assert len(trained) == 2


def test_other_images_of_the_same_run_are_trained_on(kept, trained):
    list(matrix([kept], request()))
    longer = replace(kept, distilled=distil(steps=2))
    list(matrix([longer], request()))
    assert len(trained) == 2
    assert [row["steps"] for row in rows_of(kept.folder)] == ["1", "2"]


def test_again_trains_anew(kept, trained):
    for _ in range(2):
        list(matrix([kept], request(baselines=("random",)), book=Book(again=True)))
    assert len(trained) == 4


def test_baselines_are_kept_for_all_runs_of_their_kind(entries, trained):
    asked = request(trials=2, baselines=("random", "kcenter"))
    first = [score for score, _ in matrix(entries[:1], asked)]
    assert len(trained) == 6
    trained.clear()
    again = [score for score, _ in matrix(entries[:1], replace(asked, trials=3))]
    assert len(trained) == 3 + 2  # a run without a folder keeps nothing
    assert [s.accuracies[:2] for s in again[1:]] == [s.accuracies for s in first[1:]]


def test_variants_are_rows_and_equal_ones_are_one(entries):
    soft = one_hot(entries[0].distilled.labels, 3).float() * 0.7 + 0.1
    softened = replace(entries[0], distilled=replace(entries[0].distilled, labels=soft))
    asked = request(augment="both", labels="both", pixels="both", baselines=("random",))
    found = [(s.labels, s.augmentation, s.pixels) for s, _ in matrix([softened], asked)]
    expected = product(("dsa", "none"), ("soft", "hard"), ("float", "png"))
    assert found[:8] == [(labels, how, pixels) for how, labels, pixels in expected]
    assert found[8:] == [("hard", "dsa", "float"), ("hard", "none", "float")]
    assert len(list(matrix(entries[:1], request(augment="both", labels="both")))) == 2
