import json
from math import e, nan

import pytest

from distilset.errors import ConfigError
from distilset.evaluation import Book, Entry, Ranking, Request, rank
from distilset.evaluation import baselines as module
from distilset.evaluation.ranking import (
    augmentation_robust_score,
    hard_label_recovery,
    improvement_over_random,
    label_robust_score,
    scaled,
)
from distilset.training import Protocol
from tests.small import distil, splits

FACTS = {
    "run": "a", "method": "dm", "dataset": "d", "ipc": 1, "network": "convnet", "norm": "none",
    "protocol": "dm", "split": "test", "labels": "soft", "trials": 5, "whole_trials": 1,
}  # fmt: skip


def test_worked_by_hand():
    """Whole 0.8, hard 0.4, own 0.6, random 0.4: HLR 0.4, IOR 0.2, so a = 0.1 - 0.2 = -0.1."""
    assert hard_label_recovery(0.8, 0.4) == pytest.approx(0.4)
    assert improvement_over_random(0.6, 0.4) == pytest.approx(0.2)
    # e^-0.1 = 0.9048374, e^-1 = 0.3678794, e - e^-1 = 2.3504024
    assert label_robust_score(0.8, 0.4, 0.6, 0.4) == pytest.approx(0.2284540, abs=1e-6)
    # gains 0.2 and 0.4: b = 0.3; e^0.3 = 1.3498588
    assert augmentation_robust_score(0.6, 0.4, 0.7, 0.3) == pytest.approx(0.4177920, abs=1e-6)


def test_a_set_as_good_as_random_and_as_the_whole_data_scores_the_middle():
    middle = (1 - 1 / e) / (e - 1 / e)
    assert label_robust_score(0.5, 0.5, 0.5, 0.5) == pytest.approx(middle)
    assert augmentation_robust_score(0.5, 0.5, 0.2, 0.2) == pytest.approx(middle)


def test_the_scale_runs_from_0_to_1():
    assert scaled(-1.0) == 0
    assert scaled(1.0) == 1
    assert label_robust_score(0.0, 1.0, 1.0, 0.0) == 1
    assert augmentation_robust_score(0.0, 1.0, 0.0, 1.0) == 0


def test_rows_are_made_from_per_cents():
    accuracies = {"whole": 80.0, "random": 40.0, "random_plain": 30.0}
    accuracies |= {"own": 60.0, "hard": 40.0, "own_plain": 70.0}
    row = Ranking.of(accuracies, **FACTS)
    assert (row.hlr, row.ior) == (pytest.approx(0.4), pytest.approx(0.2))
    assert (row.lrs, row.ars) == (
        pytest.approx(0.228454, abs=1e-6),
        pytest.approx(0.417792, abs=1e-6),
    )
    diverged = Ranking.of(accuracies | {"hard": nan}, **FACTS).as_row()
    assert (diverged["hard"], diverged["hlr"], diverged["lrs"]) == (None, None, None)
    assert json.loads(json.dumps(diverged, allow_nan=False))["ars"] == pytest.approx(row.ars)


@pytest.fixture
def entry(tmp_path, monkeypatch):
    short = Protocol("whole", epochs=None, batch=8, lr=0.01, schedule="cosine", updates=2)
    monkeypatch.setattr(module, "WHOLE", short)
    made = distil(steps=1)
    return Entry("run", made, splits(), made.save(tmp_path / "run"))


def test_what_the_scores_need_is_trained_once(entry):
    asked, watched = Request(epochs=1, trials=2), []

    def watch(name, networks):
        return lambda trial, done, total: watched.append((name, networks))

    (first,) = rank([entry], asked, watch)
    needed = {("run, convnet, dm", 2), ("baseline whole, convnet, dm", 1)}
    assert set(watched) == {*needed, ("baseline random, convnet, dm", 2)}
    assert first.own == first.hard  # these labels are hard: one row
    part = {n: getattr(first, n) / 100 for n in ("whole", "hard", "own", "random")}
    assert first.lrs == pytest.approx(label_robust_score(**part))
    watched.clear()
    assert list(rank([entry], asked, watch)) == [first]
    assert not watched
    list(rank([entry], asked, watch, Book(again=True)))
    assert len({name for name, _ in watched}) == 3


def test_random_images_must_be_there(entry):
    few = Entry("run", distil(steps=1, ipc=2), splits(counts=(6, 1, 6)))
    with pytest.raises(ConfigError, match="has only 1 images"):
        next(rank([few], Request(epochs=1, trials=1)))
