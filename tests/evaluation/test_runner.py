from dataclasses import replace

import pytest
import torch
from torch.nn.functional import one_hot

from distilset.errors import ConfigError, DataError
from distilset.evaluation import Trainer, Trainers, score_images
from distilset.evaluation.checks import label_kind
from distilset.evaluation.judge import Judge
from distilset.training.step import TrainSettings
from distilset.training.together import Together


@pytest.fixture
def few(digits, transform):
    """Four images per class, normalised, and their labels."""
    train = digits["train"]
    rows = torch.cat([torch.arange(4) + offset for offset in train.offsets[:-1]])
    return transform.apply(train.images[rows]), train.labels[rows]


@pytest.fixture
def score(few, digits, transform, network, protocol, augmentation):
    def run(images=few[0], labels=few[1], test=digits["test"], **options):
        options = {"trials": 2, "augmentation": augmentation, **options}
        return score_images(images, labels, test, transform, network, protocol, **options)

    return run


def accuracies(results):
    return [result.accuracy for result in results]


def test_learns_and_is_reproducible(score):
    before = torch.get_rng_state()
    first = score()
    assert min(accuracies(first)) > 50  # chance is 10
    assert accuracies(score()) == accuracies(first)
    assert accuracies(score(trials=1)) == accuracies(first)[:1]
    assert accuracies(score(seed=1)) != accuracies(first)
    assert torch.equal(before, torch.get_rng_state())
    assert first[0].compute == "fp32, eager (as set)"


def test_networks_are_reused_without_a_trace(score):
    trainers = Trainers()
    first = accuracies(score(trainers=trainers))
    assert accuracies(score(trainers=trainers)) == first
    assert len(trainers._made) == 1


def test_short_training_is_not_compiled(score):
    result = score(trials=1, settings=TrainSettings(precision="bf16", compile=True))[0]
    assert result.compute == "fp32, eager (too short to compile)"


def test_soft_labels(score, few):
    soft = one_hot(few[1], 10).float() * 0.9 + 0.01
    assert min(accuracies(score(labels=soft))) > 50
    assert (label_kind(soft), label_kind(few[1])) == ("soft", "hard")


def test_progress(score):
    seen = []
    score(progress=lambda *at: seen.append(at))
    assert seen[0] == (0, 10, 40)
    assert seen[-1] == (1, 40, 40)


def test_flip_only_where_mirror_images_keep_their_class(
    digits, transform, network, protocol, augmentation
):
    def operations(mirror: bool, augments: bool = True):
        test = digits["test"].with_info(mirror=mirror)
        kept = replace(protocol, augment=augments)
        settings, trainers = TrainSettings(), Trainers()
        return Judge(
            test, transform, network, kept, 1, 0, augmentation, settings, trainers
        ).operations

    assert operations(mirror=True) == augmentation
    assert operations(mirror=False) == augmentation.without_flip()
    assert operations(mirror=True, augments=False) is None


def test_refuses_to_score_on_training_images(score, digits):
    with pytest.raises(ConfigError, match="test or val part; got a train part"):
        score(test=digits["train"])


def test_refuses_no_trials(score):
    with pytest.raises(ConfigError, match="trials must be 1 or more; got 0"):
        score(trials=0)


def test_refuses_what_does_not_fit(score, few):
    images, labels = few
    with pytest.raises(DataError, match="do not fit test images of 1x8x8"):
        score(images=images[:, :, :4])
    with pytest.raises(DataError, match=r"class indices in 0\.\.9"):
        score(labels=labels + 1)
    with pytest.raises(DataError, match="as many labels"):
        score(labels=labels[:3])
    with pytest.raises(DataError, match=r"soft labels need shape \[40, 10\]"):
        score(labels=torch.rand(40, 3))


@pytest.fixture
def counted(monkeypatch):
    """Count the networks of every training, together or alone."""
    seen, together, alone = [], Together.train, Trainer.train

    def several(self, starts, *rest):
        seen.append(len(starts))
        return together(self, starts, *rest)

    def one(self, *rest):
        seen.append(1)
        return alone(self, *rest)

    monkeypatch.setattr(Together, "train", several)
    monkeypatch.setattr(Trainer, "train", one)
    return seen


def test_trials_do_not_depend_on_how_many_are_trained_together(score, counted):
    expected, seen = score(trials=5), []
    counted.clear()
    found = score(
        trials=5, settings=TrainSettings(together=2), progress=lambda *at: seen.append(at)
    )
    assert counted == [2, 2, 1]
    assert accuracies(found) == pytest.approx(accuracies(expected), abs=0.5)  # 898 test images
    assert len(set(accuracies(found))) > 1
    assert [result.compute for result in found[::4]] == [
        "fp32, eager (as set), 2 networks together (as asked)",
        "fp32, eager (as set), one by one (as asked)",
    ]
    assert found[0].seconds == found[1].seconds != found[2].seconds
    steps = [40 * trial + done for trial, done, total in seen if total == 40]
    assert len(steps) == len(seen)
    assert steps == sorted(steps)
    assert seen[3] == (1, 40, 40)
    assert seen[-1] == (4, 40, 40)


def test_soft_labels_together(score, few):
    soft = one_hot(few[1], 10).float() * 0.9 + 0.01
    expected = accuracies(score(labels=soft))
    found = score(labels=soft, settings=TrainSettings(together=2))
    assert accuracies(found) == pytest.approx(expected, abs=0.5)


def test_what_cannot_be_trained_together_is_trained_one_by_one(score, monkeypatch):
    def out_of_memory(self, *_):
        raise torch.OutOfMemoryError("CUDA out of memory\nlong story")

    expected = accuracies(score())
    monkeypatch.setattr(Together, "train", out_of_memory)
    found = score(settings=TrainSettings(together=2))
    assert accuracies(found) == expected
    reason = "one by one (2 together failed: CUDA out of memory)"
    assert all(result.compute.endswith(reason) for result in found)
