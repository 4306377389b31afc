"""Lists of independent jobs, spread over the processes of a run."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from distilset.parallel import group

T = TypeVar("T")


def spread(jobs: Sequence[Callable[[], T]]) -> list[T]:
    """Do every job in one of the processes; return the results in order, in every process.

    Each takes the next job as soon as it has time, so jobs may be of different length. The list
    must be the same in all processes, and results must be picklable.
    """
    if group.size() == 1:
        return [job() for job in jobs]
    done = {number: jobs[number]() for number in group.numbers(len(jobs))}
    group.meet()
    found: dict[int, T] = {}
    for some in group.collect(done):
        found |= some
    return [found[number] for number in range(len(jobs))]
