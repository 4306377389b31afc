"""Who owns which classes: contiguous spans of nearly equal cost."""

from collections.abc import Callable, Sequence
from itertools import accumulate

import torch

from distilset.engine import EngineSettings, Piece, cut, cut_evenly, takes_own_rows
from distilset.errors import ConfigError
from distilset.models import couples_images
from distilset.parallel.environment import local_rank, rank, size
from distilset.parallel.group import total
from distilset.share import Share
from distilset.task import Task

BACKWARD = 3
"""What a synthetic image costs in passes of a real one: forward, and twice that back."""

Cost = Callable[[int, int], int]


def check_device(device: str) -> None:
    """Refuse a device that every process would take, or that this one does not have.

    Raises:
        ConfigError: more processes on a machine than GPUs, or a GPU by its number.
    """
    if torch.device(device).type != "cuda":
        return
    number = torch.cuda.device_count()
    if torch.device(device).index is not None:
        raise ConfigError(f"each process takes a GPU of its own: give --device cuda; got {device}")
    if local_rank() >= number:
        raise ConfigError(
            f"this machine has {number} GPUs for process {local_rank() + 1} on it; "
            "start at most as many processes as GPUs"
        )


def check_spread(name: str, method: object, task: Task) -> None:
    """Refuse to spread a method over processes that does not tell the losses of single classes.

    Raises:
        ConfigError: with the method's name.
    """
    if task.share is not None and not hasattr(method, "losses"):
        raise ConfigError(
            f"method {name} cannot be spread over processes: it does not tell the losses of "
            "single classes; run it in one process"
        )


def share_of(task: Task) -> Share | None:
    """Return what this process owns; None where it is the only one.

    Raises:
        ConfigError: more processes than classes, or than GPUs of this machine.
    """
    if size() == 1:
        return None
    check_device(task.settings.device)
    if size() > task.classes:
        raise ConfigError(
            f"{task.classes} classes can be spread over {task.classes} processes at most; "
            f"got {size()}"
        )
    counts = [min(count, task.batch_real) for count in task.train.counts]
    coupled = all(map(couples_images, task.networks))
    cost = cost_of(counts, task.decoded_ipc, task.settings, coupled=coupled)
    return Share(balanced(task.classes, size(), cost), rank(), total)


def cost_of(counts: Sequence[int], ipc: int, settings: EngineSettings, *, coupled: bool) -> Cost:
    """Return the cost of owning classes ``first`` to ``last``, in rows of forward passes.

    A piece that two processes share costs both of them all of it, unless they take their own rows.
    """
    if takes_own_rows(coupled, settings.device):
        ends = [0, *accumulate(count + BACKWARD * ipc for count in counts)]
        return lambda first, last: ends[last] - ends[first]
    costs = [0] * (len(counts) + 1)  # of pieces by their first class
    ended = [0] * (len(counts) + 1)  # of pieces by the class after their last

    def enter(pieces: Sequence[Piece], times: int) -> None:
        for piece in pieces:
            rows = piece.size if settings.compile else piece.rows.stop - piece.rows.start
            costs[piece.classes.start] += times * rows
            ended[piece.classes.stop] += times * rows

    enter(cut(counts, settings.chunk), 1)
    enter(cut_evenly(ipc, len(counts), max(ipc, settings.chunk)), BACKWARD)
    begun, over = [0, *accumulate(costs)], list(accumulate(ended))
    return lambda first, last: begun[last] - over[first]


def balanced(classes: int, parts: int, cost: Cost) -> tuple[tuple[int, int], ...]:
    """Cut ``classes`` into ``parts`` spans, none empty, whose largest cost is the smallest."""
    low, high = 0, cost(0, classes)
    while low < high:
        middle = (low + high) // 2
        if _filled(classes, parts, cost, middle) is None:
            low = middle + 1
        else:
            high = middle
    spans = _filled(classes, parts, cost, low)
    assert spans is not None, "one process can own everything at the cost of everything"
    return spans


def _filled(classes: int, parts: int, cost: Cost, most: int) -> tuple[tuple[int, int], ...] | None:
    """Give each part as many classes as ``most`` allows; None if that does not suffice."""
    spans, first = [], 0
    for left in range(parts - 1, -1, -1):
        last = first + 1
        if cost(first, last) > most:
            return None
        while last < classes - left and cost(first, last + 1) <= most:
            last += 1
        spans.append((first, last))
        first = last
    return tuple(spans) if first == classes else None
