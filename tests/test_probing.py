import pytest
import torch

from distilset.plan import make_plan
from distilset.probing import PROBED, probe
from distilset.testing import drawn_images, small_config
from tests.small import splits
from tests.test_plan import config


def test_a_probe_leaves_the_run_as_it_was():
    plan = make_plan(config(), splits().train)
    images = torch.zeros(3, 3, 8, 8)
    assert probe(plan, images) > 0
    assert not images.any()


def test_a_probe_waits_until_cuda_graphs_are_replayed(monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda f, **_: f)
    plan = make_plan(config(engine={"compile": "on"}), splits().train)
    steps, episode = [], plan.method.episode
    monkeypatch.setattr(plan.method, "episode", lambda *at: steps.append(at[1]) or episode(*at))
    for graphs, expected in ((False, [0, 1]), (True, [0, 1, 2, 3])):
        monkeypatch.setattr("distilset.probing.uses_graphs", lambda device, graphs=graphs: graphs)
        steps.clear()
        probe(plan, torch.zeros(3, 3, 8, 8))
        assert steps == expected


def test_only_some_updates_of_a_long_episode_are_made(monkeypatch):
    train = drawn_images((3, 8, 8), (3, 3))
    plan = make_plan(small_config("frepo", {"networks": 1, "age": 50}), train)
    made, original = [], plan.method.episode

    def episode(images, step):
        for update in original(images, step):
            made.append(step)
            yield update

    monkeypatch.setattr(plan.method, "episode", episode)
    clock = iter([10.0, 12.0])
    monkeypatch.setattr("distilset.probing.time.perf_counter", lambda: next(clock))
    assert probe(plan, torch.zeros(2, 3, 8, 8)) == pytest.approx(2.0 * 50 / PROBED)
    assert made == [0] * PROBED + [1] * PROBED
