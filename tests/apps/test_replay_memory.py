"""A memory that a user's own learner holds."""

import numpy as np
import pytest
import torch

from distilset import ReplayMemory
from distilset.errors import ConfigError, DataError

SMALL = {"network": "convnet:width=8,depth=2", "batch_real": 4, "device": "cpu"}
SMALL |= {"precision": "fp32", "compile": "off", "threads": 1}


def drawn(classes, per_class=6, seed=0, shape=(3, 8, 8)):
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (len(classes) * per_class, *shape), dtype=np.uint8)
    return images, np.repeat(classes, per_class)


def test_images_are_kept_class_by_class_and_labels_as_given():
    memory = ReplayMemory(ipc=2, method="random")
    first, labels = drawn([7, 3])
    kept = memory.observe(torch.from_numpy(first), torch.from_numpy(labels))
    assert (len(memory), memory.bytes, memory.classes) == (4, 4 * 3 * 64, (3, 7))
    assert kept.classes == ("3", "7")
    memory.observe(*drawn([5], seed=1))
    pixels, kept_labels = memory.dataset(normalised=False)[:]
    assert kept_labels.tolist() == [3, 3, 7, 7, 5, 5]
    assert (len(memory), memory.bytes) == (6, 6 * 3 * 64)
    own = first[labels == 7].astype(np.float32) / 255
    for image in pixels[2:4].numpy():
        assert (own == image).all((1, 2, 3)).any()


def test_the_first_tasks_statistics_hold_for_all():
    memory = ReplayMemory(ipc=1, method="random")
    first, labels = drawn([0, 1])
    memory.observe(first, labels)
    before = memory.transform
    memory.observe(drawn([2])[0] // 4, drawn([2])[1])
    assert memory.transform is before
    pixels = first / 255
    assert memory.transform.mean == pytest.approx(pixels.mean((0, 2, 3)), abs=1e-6)
    given = ReplayMemory(ipc=1, method="random", mean=(0.5,) * 3, std=(0.25,) * 3)
    given.observe(first, labels)
    normal, _ = given.dataset()[:]
    assert torch.allclose(normal, given.dataset(normalised=False)[:][0] * 4 - 2, atol=1e-5)


def test_distilled_memories_are_drawn_by_the_seed_and_the_task():
    def run(seed):
        memory = ReplayMemory(ipc=1, method="dm", seed=seed, steps=2, **SMALL)
        steps = []
        images, _ = drawn([0, 1])
        memory.observe(images, ["a"] * 6 + ["b"] * 6, lambda *told: steps.append(told))
        memory.observe(images, ["c"] * 6 + ["d"] * 6)
        assert steps == [(1, 2), (2, 2)]
        return memory.dataset()[:]

    images, labels = run(0)
    assert labels.tolist() == [0, 1, 2, 3]
    assert torch.equal(images, run(0)[0])
    assert not torch.equal(images, run(1)[0])
    assert not torch.equal(images[:2], images[2:])


def test_whitening_is_fitted_on_the_first_task():
    memory = ReplayMemory(ipc=1, method="dm", steps=1, zca=True, **SMALL)
    memory.observe(*drawn([0, 1]))
    zca = memory.transform.zca
    kept = memory.observe(*drawn([2], seed=3))
    assert zca is not None
    assert torch.equal(kept.transform.zca.matrix, zca.matrix)


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (*drawn([3]), "class 3 is in memory already"),
        (*drawn([4], shape=(3, 9, 8)), r"images are \(3, 9, 8\); those in memory \(3, 8, 8\)"),
        (drawn([4])[0], ["x"] * 6, "labels are names or whole numbers, not both"),
        (drawn([4])[0] * 2.0, drawn([4])[1], "leave normalisation out"),
        (drawn([4])[0], drawn([4])[1][:5], "6 images need as many labels"),
        (drawn([4])[0][0], [4], r"images must have shape \[n, channels"),
        (drawn([4])[0], np.full(6, 0.5), "labels must be a list of whole numbers or of names"),
    ],
)
def test_what_does_not_fit_is_refused_and_changes_nothing(images, labels, message):
    memory = ReplayMemory(ipc=2, method="random")
    memory.observe(*drawn([7, 3]))
    with pytest.raises(DataError, match=message):
        memory.observe(images, labels)
    assert (len(memory), memory.classes) == (4, (3, 7))


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"ipc": 0}, "a budget below one image per class"),
        ({"method": "herdin"}, "unknown method or selector 'herdin'.*did you mean 'herding'"),
        ({"mean": (0.5,)}, "mean and std are given together"),
        ({"step": 3}, "unknown option 'step'"),
    ],
)
def test_wrong_settings_are_told_at_once(wanted, message):
    with pytest.raises(ConfigError, match=message):
        ReplayMemory(**wanted)


def test_an_empty_memory_says_so():
    memory = ReplayMemory()
    assert (len(memory), memory.bytes) == (0, 0)
    with pytest.raises(DataError, match="nothing is in memory yet"):
        memory.dataset()
    with pytest.raises(ConfigError, match=r"class '0' has only 6 images"):
        ReplayMemory(ipc=7, method="random").observe(*drawn([0]))
