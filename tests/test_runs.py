"""Starting, stopping and going on: sessions, run folders, metrics."""

import math
import shutil

import pytest
import torch

from distilset import DataError, DistilledSet
from distilset.checkpoint import CURRENT, PREVIOUS
from distilset.lock import LOCK
from distilset.metrics import Metrics
from distilset.optimise import Record
from distilset.runfolder import RunFolder
from distilset.session import open_session
from tests.small import (
    ENGINE,
    NETWORK,
    PULL,
    content,
    distil,
    metrics,
    same_images,
    splits,
    start,
    tree,
)


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    run = tmp_path_factory.mktemp("straight") / "run"
    start(run, steps=6)
    return run


def test_the_same_seed_gives_the_same_bytes_and_another_one_others(straight, tmp_path):
    start(tmp_path / "again")
    assert content(tmp_path / "again") == content(straight)
    first, second = (distil(steps=1, seed=seed) for seed in (0, 1))
    assert not same_images(first, second)


def test_threads_outside_a_run_do_not_change_a_whitened_one(tmp_path):
    first = distil(zca=True, steps=2)
    torch.set_num_threads(2)
    try:
        second = distil(zca=True, steps=2)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    assert same_images(first, second)
    assert first.card.zca == second.card.zca


@pytest.mark.parametrize("stop_at", [1, 2, 5])
def test_a_run_that_stops_and_goes_on_equals_one_that_does_not(straight, tmp_path, stop_at):
    run = tmp_path / "run"
    assert start(run, stop_at=stop_at) == list(range(1, stop_at + 1))
    with pytest.raises(DataError, match="not finished"):
        DistilledSet.load(run)
    assert start(run, resume=True) == list(range(stop_at + 1, 7))
    assert content(run) == content(straight)
    assert [line["step"] for line in metrics(run)] == [1, 2, 3, 4, 5, 6]
    losses = [[line["loss"] for line in metrics(folder)] for folder in (run, straight)]
    assert losses[0] == losses[1]
    seconds = [line["seconds"] for line in metrics(run)]
    assert seconds == sorted(seconds)


def test_what_a_killed_write_left_is_gone_after_resuming(tmp_path):
    run = tmp_path / "run"
    start(run, stop_at=2)
    for name in (".checkpoint.safetensors.new.1.partial", ".mine.1.partial"):
        (run / name).write_bytes(b"half")
    start(run, resume=True)
    assert {p.name for p in run.glob(".*")} == {".mine.1.partial", LOCK}


def test_a_stop_at_the_last_step_finishes(tmp_path):
    assert start(tmp_path / "run", steps=3, stop_at=3) == [1, 2, 3]
    assert DistilledSet.load(tmp_path / "run").card.steps == 3


def test_metrics_past_the_checkpoint_are_dropped_and_cut_lines_passed_over(tmp_path):
    run = tmp_path / "run"
    start(run, stop_at=4)
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 5, "loss": 1.0}\n[1]\n{"step": "x"}\n{"step": 6, "lo')
    start(run, resume=True)
    assert [line["step"] for line in metrics(run)] == [1, 2, 3, 4, 5, 6]


def test_metrics_are_flushed_at_least_every_ten_steps(tmp_path):
    run = tmp_path / "run"
    stated = {"data": {"source": "drawn"}, "method": {"name": PULL}, "network": NETWORK}
    stated |= {"engine": {**ENGINE, "checkpoint_every": 1000}, "distill": {"steps": 31, "ipc": 1}}
    folder = RunFolder(run)
    session = open_session(folder.settle(stated), splits().train, folder)
    for record in session.records():
        assert len(metrics(run)) >= record.step - 9
    assert [line["step"] for line in metrics(run)] == list(range(1, 32))


def test_the_previous_checkpoint_is_used_and_named(straight, tmp_path):
    run = tmp_path / "run"
    start(run, stop_at=4)
    (run / CURRENT).write_bytes((run / CURRENT).read_bytes()[:-5])
    assert start(run, resume=True) == [3, 4, 5, 6]
    assert content(run) == content(straight)
    assert [line["step"] for line in metrics(run)] == [1, 2, 3, 4, 5, 6]
    assert any(CURRENT in note for note in DistilledSet.load(run).card.notes)


def test_without_a_good_checkpoint_there_is_a_sentence_and_nothing_is_lost(tmp_path):
    run = tmp_path / "run"
    start(run, stop_at=4)
    for name in (CURRENT, PREVIOUS):
        (run / name).write_bytes(b"garbage")
    before = tree(run)
    with pytest.raises(DataError, match="no usable checkpoint"):
        start(run, resume=True)
    assert tree(run) == before


def test_a_checkpoint_of_other_images_is_refused(tmp_path):
    run, other = tmp_path / "run", tmp_path / "other"
    start(run, stop_at=2)
    distil(ipc=2, steps=2, out=other)
    shutil.copy(other / CURRENT, run / CURRENT)
    with pytest.raises(DataError, match="the settings say"):
        start(run, resume=True)


def test_losses_are_fetched_all_at_once(tmp_path, monkeypatch):
    fetches, original = [], torch.Tensor.tolist
    counted = lambda self: fetches.append(len(self)) or original(self)  # noqa: E731
    written = Metrics(tmp_path / "metrics.jsonl", 0)
    losses = torch.tensor([0.1, math.inf, math.nan, *range(9)])
    monkeypatch.setattr(torch.Tensor, "tolist", counted)
    monkeypatch.setattr(torch.Tensor, "__float__", None)
    for step, loss in enumerate(losses, 1):
        written.add(Record(step, loss), seconds=1.0)
    written.flush()
    written.flush()
    assert fetches == [10, 2]
    lines = metrics(tmp_path)
    assert [line["step"] for line in lines] == list(range(1, 13))
    assert [line["loss"] for line in lines[:4]] == [float(losses[0].numpy()), None, None, 0.0]
