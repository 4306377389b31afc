"""The protocol's bookkeeping: what is in memory and what is scored, resume, refusals."""

import csv
import shutil

import pytest
import torch

import distilset
from distilset.apps import study as module
from distilset.apps.continual import make_bench
from distilset.apps.stream import class_tasks
from distilset.apps.study import Step, Study
from distilset.errors import ConfigError, DataError
from distilset.store import DistilledSet
from distilset.testing import drawn_images
from distilset.types import Splits
from tests.small import PULL

FAST = {"network": "convnet:width=8,depth=2", "batch_real": 4, "device": "cpu"}
FAST |= {"precision": "fp32", "compile": "off", "threads": 1, "steps": 3}
SHAPE, TRAIN, TEST = (3, 8, 8), [6, 5, 7, 6, 6], [1, 2, 3, 4, 5]


def parts():
    return drawn_images(SHAPE, TRAIN, seed=0), drawn_images(SHAPE, TEST, role="test", seed=1)


def study(out, **flags):
    wanted = {"methods": ("dm", "random"), "tasks": 3, "ipc": 2, "orders": 2, "trials": 2}
    wanted |= {"epochs": 2, **FAST, **flags}
    return distilset.continual(*parts(), out=out, **wanted)


def rows(out):
    with (out / "rows.csv").open() as file:
        return list(csv.DictReader(file))


def told(out):
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows(out)]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    out = tmp_path_factory.mktemp("made") / "cl"
    study(out)
    return out


def test_what_is_in_memory_and_what_is_scored_after_each_task(tmp_path, monkeypatch):
    """5 classes in 3 tasks are 2, 2 and 1; the classes of an order are set by hand."""
    monkeypatch.setattr(module, "class_tasks", lambda *_: [[4, 1], [0, 3], [2]])
    seen = []

    class Judge(module.Judge):
        def run(self, sets):
            images, labels = sets(0)
            seen.append((self.test.classes, len(self.test), len(images), labels.tolist()))
            assert images.shape[1:] == SHAPE
            return super().run(sets)

    monkeypatch.setattr(module, "Judge", Judge)
    study(tmp_path / "cl", methods="random", orders=1, trials=1)
    names = parts()[0].classes
    a, b, c, d, e = names
    assert seen == [
        ((e, b), 5 + 2, 4, [0, 0, 1, 1]),
        ((e, b, a, d), 5 + 2 + 1 + 4, 8, [0, 0, 1, 1, 2, 2, 3, 3]),
        ((e, b, a, d, c), 15, 10, [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]),
    ]
    columns = [(r["seen"], r["images"], r["bytes"], r["classes"]) for r in rows(tmp_path / "cl")]
    assert columns == [
        ("2", "4", str(4 * 192), f"{e} | {b}"),
        ("4", "8", str(8 * 192), f"{a} | {d}"),
        ("5", "10", str(10 * 192), c),
    ]


def test_a_task_sees_its_own_classes_alone(made):
    train = parts()[0]
    for order in (1, 2):
        for task, classes in enumerate(class_tasks(5, 3, 0, order), 1):
            folder = made / "work" / f"order-{order}" / f"task-{task}"
            kept = DistilledSet.load(folder / "random")
            assert kept.classes == tuple(train.classes[c] for c in classes)
            own = torch.cat([train.of_class(c) for c in classes]).float() / 255
            for image in kept.pixels:
                assert (own == image).flatten(1).all(1).any()
            assert DistilledSet.load(folder / "dm").card.steps == 3


def test_all_that_is_written(made):
    assert len(rows(made)) == 2 * 2 * 3 * 2  # methods, orders, tasks, trials
    names = {path.name for path in made.iterdir()}
    assert names == {
        *("app.toml", "rows.csv", "summary.json", "table.md", "work"),
        *("plot-accuracy.png", "plot-accuracy.svg"),
    }


def test_methods_are_compared_on_the_same_draws_and_tasks_are_not(made):
    folders = (made / "work").glob("order-*/task-*")
    seeds = [{DistilledSet.load(f / m).card.seed for m in ("dm", "random")} for f in folders]
    assert [len(pair) for pair in seeds] == [1] * 6
    assert len(set.union(*seeds)) == 6


class Killed(Exception):
    """What ends a study in the middle."""


def killed_at(number, real):
    calls = []

    def one(self, *args):
        calls.append(1)
        if len(calls) == number:
            raise Killed
        return real(self, *args)

    return one


def test_interrupted_and_resumed_equals_uninterrupted(made, tmp_path, monkeypatch):
    out = tmp_path / "cl"

    for phase, number in (("remember", 7), ("learn", 5)):
        with monkeypatch.context() as patch:
            patch.setattr(module.Bench, phase, killed_at(number, getattr(module.Bench, phase)))
            with pytest.raises(Killed):
                study(out, resume=True)
    again = []
    study(out, resume=True, progress=lambda what, done, total: again.append((what, done, total)))
    assert again[0] == ("memories", 12, 12)
    assert again[1] == ("trainings", 4, 12)
    assert told(out) == told(made)


def test_a_finished_study_trains_nothing(made, tmp_path, monkeypatch):
    out = shutil.copytree(made, tmp_path / "cl")
    monkeypatch.setattr(module.Bench, "learn", None)
    monkeypatch.setattr(module.Bench, "remember", None)
    found = study(out, resume=True)
    assert [curve.method for curve in found] == ["dm", "random"]


def test_a_study_may_be_resumed_with_more_methods_and_orders(made, tmp_path):
    out = shutil.copytree(made, tmp_path / "cl")
    found = study(out, resume=True, methods=("dm", "random", "herding"))
    assert [curve.method for curve in found] == ["dm", "random", "herding"]
    assert told(out)[: len(told(made))] == told(made)
    with pytest.raises(ConfigError, match=r"continual\.ipc: 2 -> 3"):
        study(out, resume=True, ipc=3)
    with pytest.raises(ConfigError, match=r"distill\.steps: 3 -> 4"):
        study(out, resume=True, steps=4)


def test_eight_bits_hold_less_than_floats(tmp_path):
    """Methods other than selection leave the 256 values; `png` rounds them back."""
    train, test = parts()
    bench = make_bench(Splits(train, test), Study(2, 1, (PULL,), 1, 1, pixels="png"), **FAST)
    step = Step(1, 1, PULL)
    bench.remember(step, tmp_path, lambda *_: None)
    images, _ = bench._tensors(bench.memory(step, tmp_path))
    pixels = bench.transform.invert(images) * 255
    assert torch.allclose(pixels, pixels.round(), atol=1e-3)
    assert pixels.min() >= -1e-3
    assert pixels.max() <= 255.001


def test_whitening_is_that_of_the_whole_data(tmp_path):
    train = parts()[0]
    study(tmp_path / "cl", methods=("dm", "random"), orders=1, trials=1, zca=True)
    transform = distilset.api.fit_transform(train, zca=True)
    for method in ("dm", "random"):
        kept = DistilledSet.load(tmp_path / "cl" / "work" / "order-1" / "task-2" / method)
        assert torch.allclose(kept.transform.zca.matrix, transform.zca.matrix)


@pytest.mark.parametrize(
    ("wanted", "error", "message"),
    [
        ({"tasks": 6}, ConfigError, "6 tasks need as many classes at least; the data have 5"),
        ({"tasks": 0}, ConfigError, "tasks must be 1 or more; got 0"),
        ({"ipc": 0}, ConfigError, "ipc is 0, a budget below one image per class"),
        ({"ipc": 6, "methods": "random"}, ConfigError, "has only 5 images"),
        ({"ipc": 6, "methods": "dm"}, ConfigError, "ipc 6 is more than class"),
        ({"methods": ("dm", "datadum")}, ConfigError, "unknown method or selector 'datadum'"),
        ({"methods": ()}, ConfigError, "name at least one"),
        ({"methods": "no_such_module:Thing"}, ConfigError, "no_such_module"),
        ({"orders": 0}, ConfigError, "orders must be 1 or more"),
        ({"trials": 0}, ConfigError, "trials and epochs must be 1 or more; got 0"),
        ({"protocol": "slow"}, ConfigError, "unknown protocol 'slow'"),
        ({"pixels": "both"}, ConfigError, "unknown pixels 'both'; allowed are float, png"),
        ({"batch_real": 0}, ConfigError, "distill.batch_real"),
        ({"bank": 5, "methods": PULL}, ConfigError, "cannot use a bank"),
        ({"device": "tpu"}, ConfigError, "tpu"),
    ],
)
def test_bad_requests_are_one_sentence_before_anything_is_written(tmp_path, wanted, error, message):
    with pytest.raises(error, match=message):
        study(tmp_path / "cl", **wanted)
    assert not (tmp_path / "cl").exists()


def test_parts_that_cannot_be_scored(tmp_path):
    train, _ = parts()
    lacking = drawn_images(SHAPE, [1, 0, 3, 4, 5], role="test")
    with pytest.raises(DataError, match="has no images in the test part"):
        distilset.continual(train, lacking, out=tmp_path / "cl", **FAST)
    with pytest.raises(ConfigError, match="have no val part; carve one out with --val"):
        make_bench(Splits(train, lacking), Study(split="val"), **FAST)
    with pytest.raises(ConfigError, match="have no test part"):
        make_bench(Splits(train, None), Study(), **FAST)
