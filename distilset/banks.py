"""Banks of a pool of networks: each has its share of the targets, and they are cycled as one.

A bank holds targets of one network, so that a pool and runs on one of its networks share them.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from distilset.bank import Bank, Report
from distilset.engine import Engine
from distilset.errors import ConfigError
from distilset.rng import Rng
from distilset.targets import Target
from distilset.task import Task


class Banks:
    """The banks of several networks, in the place of one.

    Args:
        banks: a bank for each network of the task, in their order.
        order: decides in which order targets are used, as in `Bank`.
    """

    def __init__(self, banks: Sequence[Bank], order: Rng) -> None:
        self.parts, self.order = tuple(banks), order
        self._slots = [(k, i) for k, bank in enumerate(banks) for i in range(bank.size)]
        self._epoch: tuple[int, np.ndarray] | None = None

    @property
    def size(self) -> int:
        """The number of targets of all."""
        return len(self._slots)

    @property
    def missing(self) -> int:
        """The number of targets that are still to be computed."""
        return sum(bank.missing for bank in self.parts)

    @property
    def workers(self) -> int:
        """The number of processes that would build what is missing."""
        return max(bank.workers for bank in self.parts)

    def build(self, report: Report = lambda done, total: None) -> None:
        """Compute what is missing, bank by bank; see `Bank.build`."""
        total, done = self.missing, 0
        for bank in self.parts:
            missing = bank.missing
            bank.build(lambda number, _, before=done: report(before + number, total))
            done += missing

    def target(self, step: int) -> Target:
        """Return the target of a step, and leave its weights in its network."""
        epoch, position = divmod(step, self.size)
        if self._epoch is None or self._epoch[0] != epoch:
            self._epoch = (epoch, self.order.numpy("bank order", epoch).permutation(self.size))
        number, index = self._slots[int(self._epoch[1][position])]
        return replace(self.parts[number].read(index), network=number)


def make_bank(task: Task, engines: Sequence[Engine]) -> Bank | Banks:
    """Make the bank of a task: of its one network, or of each of its pool.

    Raises:
        ConfigError: fewer targets than networks.
    """
    number = len(engines)
    if number == 1:
        return Bank(task, engines[0], task.bank, task.bank_seed)
    if task.bank < number:
        raise ConfigError(
            f"a bank of {task.bank} targets cannot serve a pool of {number} networks; "
            f"distill.bank must be {number} or more"
        )
    sizes = [(task.bank + number - 1 - k) // number for k in range(number)]
    banks = [
        Bank(task.alone(k), engine, size, task.bank_seed)
        for k, (engine, size) in enumerate(zip(engines, sizes, strict=True))
    ]
    return Banks(banks, task.rng)
