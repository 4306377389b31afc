import torch

from distilset.parallel import running
from distilset.parallel.running import HELD, Losses, Together
from distilset.share import Share


def test_one_process_has_its_losses_at_once():
    losses = Losses(None, 1, 3, 32)
    losses.add("record", [])
    assert losses.due()
    assert losses.gather() == [("record", None)]
    assert losses.gather() == []


def test_losses_are_added_up_group_by_group(monkeypatch):
    share = Share(((0, 3), (3, 5)), 0, lambda x: x)
    losses, values = Losses(share, 1, 5, 2), torch.tensor([0.1, 0.2, 0.3, 0.4, 0.7])
    others = values[3:, None].expand(2, HELD)
    monkeypatch.setattr(running, "whole", lambda own, _: torch.cat([own, others]))
    for step in range(HELD):
        assert not losses.due()
        losses.add(step, [values[:1], values[1:3]])
    assert losses.due()
    found = losses.gather()
    assert [record for record, _ in found] == list(range(HELD))
    expected = torch.zeros(())
    for group in (values[:1], values[1:3], values[3:]):  # 5 classes in 3 groups
        expected += group.sum()
    assert all(torch.equal(loss, expected) for _, loss in found)


def test_processes_ask_each_other_less_often_when_steps_are_short(monkeypatch):
    clock = iter(range(1000))
    asked = []
    monkeypatch.setattr(running, "ASK_SECONDS", 40)
    monkeypatch.setattr(running.time, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(running, "largest", lambda flag, k: (asked.append(k), [flag, k])[1])
    stopped = Together(lambda: len(asked) > 2)
    answers = [stopped() for _ in range(1 + 10 + 100)]
    assert asked == [10, 100, 1000]  # after 1, 11 and 111 steps: at most ten times as many
    assert answers == [False] * 110 + [False]
    assert stopped.left == 1000
