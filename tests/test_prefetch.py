from dataclasses import replace
from threading import Event

import pytest
import torch

from distilset.config import build
from distilset.data.normalise import fit_transform
from distilset.estimates import estimated_bytes
from distilset.plan import make_task, resolve
from distilset.prefetch import Ahead
from distilset.task import Task
from tests.small import ENGINE, NETWORK, distil, same_images, splits


def task(steps=4, mapped=True, zca=False):
    train = replace(splits().train, mapped=mapped)
    tables = {
        **{"data": {"source": "x"}, "network": NETWORK, "engine": ENGINE},
        "distill": {"steps": steps, "batch_real": 4},
    }
    config, _ = resolve(build(tables), train)
    return make_task(config, train, fit_transform(train, zca=zca))


@pytest.fixture
def read(monkeypatch):
    """Return a list that gets the steps that are read ahead."""
    steps, look = [], Ahead._look

    def spy(self, step, stop):
        steps.append(step)
        return look(self, step, stop)

    monkeypatch.setattr(Ahead, "_look", spy)
    return steps


def test_every_next_step_is_read_and_none_after_the_last(read):
    ahead = Ahead(task(steps=4))
    for step in range(4):
        ahead.turn(step)
    ahead.settle()
    assert read == [1, 2, 3]


def test_only_the_rows_of_the_step_are_looked_at():
    made = task()
    assert Ahead(made)._look(2, Event()) == sum(map(len, made.draw_real(2))) == 12
    stop = Event()
    stop.set()
    assert Ahead(made)._look(2, stop) == 0


@pytest.mark.parametrize("settings", [{"mapped": False}, {"zca": True}])
def test_nothing_is_read_ahead_where_nothing_waits_for_a_disk(read, settings):
    ahead = Ahead(task(**settings))
    ahead.turn(0)
    assert ahead.settle() == 0
    assert read == []


def test_what_goes_wrong_beside_a_step_is_raised_by_the_next(monkeypatch):
    ahead = Ahead(task())
    with monkeypatch.context() as patch:
        patch.setattr(Task, "draw_real", lambda self, step: 1 / 0)
        ahead.turn(0)
        with pytest.raises(ZeroDivisionError):
            ahead.turn(1)
    ahead.turn(1)
    ahead.settle()


def test_a_run_is_the_same_with_images_read_ahead(read):
    train = splits().train
    state = torch.get_rng_state()
    first, second = distil(train), distil(replace(train, mapped=True))
    assert same_images(first, second)
    assert torch.equal(state, torch.get_rng_state())
    assert {1, 2, 3, 4, 5} <= {*read}
    assert max(read) == 5


def test_mapped_images_are_no_memory_that_a_run_needs():
    here, there = task(mapped=False), task(mapped=True)
    assert estimated_bytes(here) - estimated_bytes(there) == here.train.images.numel()
