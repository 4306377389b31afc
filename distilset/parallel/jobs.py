"""Lists of independent jobs, spread over the processes of a run."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from distilset.parallel import group

T = TypeVar("T")

Report = Callable[[int, int], None]


def unwatched(_done: int, _total: int) -> None:
    """Watch nothing."""


def spread(jobs: Sequence[Callable[[], T]], report: Report = unwatched) -> list[T]:
    """Do every job in one of the processes; return the results in order, in every process.

    Each takes the next job as soon as it has time, so jobs may be of different length. The list
    must be the same in all processes, and results must be picklable. ``report`` is told in rank 0
    how many jobs were begun before one of its own, and their total.
    """
    if group.size() == 1:
        return [job() for job in jobs]
    done: dict[int, T] = {}
    for number in group.numbers(len(jobs)):
        if group.leads():
            report(number, len(jobs))
        done[number] = jobs[number]()
    group.meet()
    if group.leads():
        report(len(jobs), len(jobs))
    found: dict[int, T] = {}
    for some in group.collect(done):
        found |= some
    return [found[number] for number in range(len(jobs))]
