"""What every process of a group does to test it: run as ``python -m tests.parallel.exchanges``."""

import time
from functools import partial

import torch

from distilset.parallel import group
from distilset.parallel.environment import rank
from distilset.parallel.jobs import spread
from distilset.share import Share


def check_talk(rank):
    assert group.lead(lambda: ["from", rank]) == ["from", 0]
    assert group.largest(rank, 5 - rank) == [group.size() - 1, 5]
    assert group.agree(rank == 1) is True
    assert group.agree(False) is False
    assert group.collect(rank * 2) == [2 * r for r in range(group.size())]


def check_rows(rank):
    share = Share(((0, 1), (1, 4)), rank, group.total)
    everything = torch.arange(24.0).reshape(8, 3)
    own = share.own(everything.reshape(8, 3, 1, 1), 2).reshape(-1, 3)
    assert torch.equal(group.whole(own, share, 2), everything)
    gathered = group.gathered(own, share, 2)
    assert (gathered is None) == (rank > 0)
    assert gathered is None or torch.equal(gathered, everything)


def check_total(rank):
    """The loss ``sum over processes of (r + 1) * S^2`` with S the sum of all x."""
    x = torch.tensor([1.0 + rank], requires_grad=True)
    added = group.total(x)
    assert added.item() == 3
    ((rank + 1) * added.square()).sum().backward()
    assert x.grad.item() == 3 * 2 * 3


def job(number, rank):
    time.sleep(0.2 if number == 0 else 0.01)
    return number, rank


def check_jobs(rank):
    seen = []
    jobs = [partial(job, number, rank) for number in range(9)]
    found = spread(jobs, lambda done, total: seen.append((done, total)))
    assert [number for number, _ in found] == list(range(9))
    ranks = [r for _, r in found]
    assert sorted({*ranks}) == [0, 1]
    assert ranks.count(ranks[0]) < 5, "who has the long job has few"
    assert (seen[-1] == (9, 9)) if rank == 0 else seen == []


if __name__ == "__main__":
    group.start()
    for check in (check_talk, check_rows, check_total, check_jobs):
        check(rank())
        group.meet()
