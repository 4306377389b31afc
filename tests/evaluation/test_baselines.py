import pytest
import torch

from distilset.cache import cache_folder
from distilset.errors import ConfigError
from distilset.evaluation import Trainer, TrainSettings, score_baseline
from distilset.evaluation import baselines as module
from distilset.evaluation.baselines import baseline_sets
from distilset.evaluation.judge import TrialResult
from distilset.training.protocols import Protocol


@pytest.fixture
def run(digits, transform, network, protocol, augmentation):
    def score(name, train=digits["train"], transform=transform, **options):
        options = {"ipc": 2, "trials": 2, "augmentation": augmentation, **options}
        test = options.pop("test", digits["test"])
        return score_baseline(name, train, test, transform, network, protocol, **options)

    return score


@pytest.fixture
def trainings(monkeypatch) -> list[int]:
    """Shorten the whole-data schedule, and count trainings by their number of images."""
    seen, original = [], Trainer.train

    def counted(self, images, *rest):
        seen.append(len(images))
        return original(self, images, *rest)

    short = Protocol("whole", None, 64, 0.05, "cosine", updates=30)
    monkeypatch.setattr(module, "WHOLE", short)
    monkeypatch.setattr(Trainer, "train", counted)
    return seen


def test_random_draws_a_set_per_trial_and_others_one(digits):
    sets = baseline_sets("random", digits["train"], 2, 3, seed=0)
    assert len({tuple(rows.tolist()) for rows in sets}) == 3
    again = baseline_sets("random", digits["train"], 2, 2, seed=0)
    assert all(torch.equal(a, b) for a, b in zip(again, sets, strict=False))
    assert len(baseline_sets("kcenter", digits["train"], 2, 3, seed=0)) == 1
    assert len(baseline_sets("herding", digits["train"], 2, 3, seed=0)) == 1


@pytest.mark.parametrize(("name", "sets"), [("random", "2 sets"), ("kcenter", "1 set")])
def test_row_of_a_selector(run, name, sets):
    score = run(name, seed=3)
    assert score.run == f"baseline {name} (ipc 2, seed 3, {sets})"
    assert (score.method, score.ipc, score.images, score.seed) == (name, 2, 20, 3)
    assert (score.trials, score.protocol, score.epochs) == (2, "short", 20)
    assert (score.labels, score.augmentation, score.split) == ("hard", "dsa", "test")
    assert score.network == "convnet:width=16,depth=2"
    assert (score.norm, score.dataset) == ("instance", "digits")
    assert score.accuracy_mean > 30
    assert run(name, seed=3).accuracies == score.accuracies


def test_whole_is_trained_once_and_then_read(run, trainings, digits):
    first = run("whole")
    assert trainings == [len(digits["train"])]
    assert first.run == "baseline whole (all images, seed 0, 1 set)"
    assert (first.ipc, first.trials, first.protocol, first.epochs) == (None, 1, "whole", 2)
    assert first.accuracy_mean > 60
    assert run("whole") == first
    assert len(trainings) == 1


def test_whole_is_trained_again_when_anything_differs(run, trainings, digits, monkeypatch):
    run("whole")
    run("whole", seed=1)
    run("whole", augmentation=None)
    run("whole", test=digits["test"].take(range(100), "test"))
    run("whole", train=digits["train"].take(range(500), "train"))
    longer = Protocol("whole", None, 64, 0.05, "cosine", updates=31)
    monkeypatch.setattr(module, "WHOLE", longer)
    run("whole")
    assert len(trainings) == 6


def test_damaged_cache_is_made_anew(run, trainings):
    first = run("whole")
    (path,) = cache_folder("whole").iterdir()
    path.write_text('{"result": ')
    assert run("whole").accuracies == first.accuracies
    assert len(trainings) == 2


@pytest.mark.parametrize("value", ["NaN", "101", "-1", '"90"', "true", "null"])
def test_cached_accuracies_that_are_none_do_not_count(tmp_path, value):
    good = '{"result": {"accuracy": 90, "seconds": 1.5, "compute": "eager"}}'
    for number in ("90", "1.5"):
        (tmp_path / "a").write_text(good)
        assert module._read(tmp_path / "a") == TrialResult(90.0, 1.5, "eager")
        (tmp_path / "a").write_text(good.replace(number, value))
        if (number, value) != ("1.5", "101"):
            assert module._read(tmp_path / "a") is None


def test_refusals(run, digits):
    with pytest.raises(ConfigError, match="unknown baseline"):
        run("randm")
    with pytest.raises(ConfigError, match="train part; got a test part"):
        run("random", train=digits["test"])
    with pytest.raises(ConfigError, match="test or val part; got a train part"):
        run("random", test=digits["train"])


@pytest.mark.parametrize("name", ["random", "kcenter"])
def test_selected_sets_are_trained_on_together_too(run, name):
    alone = run(name, trials=3)
    together = run(name, trials=3, settings=TrainSettings(together=3))
    assert together.accuracies == pytest.approx(alone.accuracies, abs=0.5)


def test_together_changes_nothing_of_the_whole_data(run, trainings):
    first = run("whole")
    assert run("whole", settings=TrainSettings(together=5)) == first
    assert len(trainings) == 1
