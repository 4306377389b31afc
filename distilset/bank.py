"""A bank of targets: computed once, kept in the cache on disk, cycled in random order.

The real half of a step is the larger one; with a bank it is paid once for a finite number of
networks and shared by every run that looks at the same data in the same way, whatever its images
per class, learning rate or weights. A run with a bank never touches the real images after its
initial ones.

On disk a bank is a folder with one file for each statistic: float16 class means ``[targets,
classes, d]``, appended to when a larger bank or another statistic is asked for. Its name is a hash
of all that shapes the means.
"""

import json
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing, contextmanager, nullcontext
from dataclasses import asdict, replace
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor

from distilset.cache import cache_folder
from distilset.data.zca import zca_digest
from distilset.engine import Engine, Means
from distilset.errors import DataError
from distilset.files import write_text
from distilset.hardware import send, threads
from distilset.losses.statistics import Statistic
from distilset.models import code_digest
from distilset.parallel import group
from distilset.rng import Rng
from distilset.share import Share
from distilset.targets import Target, fresh
from distilset.task import Task
from distilset.workers import gather, packed

VERSION = 1
LEAST = 8
"""Targets that each process must have to compute: fewer do not repay its start, some seconds.

Where targets are quick more may not, either; but then no more than the start is lost.
"""

Report = Callable[[int, int], None]


class Bank:
    """``size`` targets of a task, drawn from a seed of their own.

    Two runs with the same bank seed share the bank, and see the same networks and real images: a
    spread over seeds needs a bank for each seed.
    """

    def __init__(self, task: Task, engine: Engine, size: int, seed: int) -> None:
        number = task.bank_threads or torch.get_num_threads()
        self.task = replace(task, rng=Rng(seed).child("bank"), bank_threads=number)
        self.order = task.rng
        self.engine, self.size = engine, size
        self.key = bank_key(self.task, seed)
        digest = blake2b(json.dumps(self.key, sort_keys=True).encode(), digest_size=16)
        self.folder = cache_folder("banks") / digest.hexdigest()
        self._epoch: tuple[int, np.ndarray] | None = None
        self._maps: dict[str, np.ndarray] = {}

    @property
    def parts(self) -> tuple["Bank", ...]:
        """The banks of single networks: this one."""
        return (self,)

    def path(self, statistic: Statistic) -> Path:
        """Return the file of a statistic."""
        return self.folder / f"{statistic.name}.f16"

    def counts(self) -> list[int]:
        """Return how many whole targets each statistic has on disk."""
        widths = self._widths
        found = []
        for statistic in self.engine.matched:
            path = self.path(statistic)
            size = path.stat().st_size if path.is_file() else 0
            found.append(size // (2 * self.task.classes * widths[path.name]))
        return found

    @property
    def missing(self) -> int:
        """The number of targets that are still to be computed."""
        return max(0, self.size - min(self.counts(), default=self.size))

    @property
    def missing_bytes(self) -> int:
        """The bytes on disk of the targets that are still to be computed."""
        row = 2 * self.task.classes
        widths = [self._widths[self.path(one).name] for one in self.engine.matched]
        pairs = zip(self.counts(), widths, strict=True)
        return sum(max(0, self.size - count) * row * width for count, width in pairs)

    @cached_property
    def _widths(self) -> dict[str, int]:
        """Return the length of every statistic's vector, by file name."""
        device = self.task.settings.device
        images = torch.zeros(2, *self.task.train.spec.shape, device=device)
        with torch.no_grad():
            values = self.engine.forward.eager(images)
        pairs = zip(self.engine.statistics, values, strict=True)
        return {self.path(one).name: value.shape[1] for one, value in pairs if one.matched}

    def build(self, report: Report = lambda done, total: None) -> None:
        """Compute what is missing, written target by target; interrupted work is kept.

        One run builds at a time, by up to ``bank_workers`` processes; another waits for it and
        finds the work done.

        Raises:
            DataError: if a mean is not finite, or too large for half precision.
            ConfigError: if a process that computes is ended by somebody.
        """
        if self.task.experts:
            group.lead(self._follow_experts)
        if self.task.share is not None:
            self._build_together(self.task.share, report)
            return
        if not self.missing:
            return
        with self._locked():
            counts = self._truncate()
            first = min(counts)
            with closing(self._computed(range(first, self.size))) as computed:
                for index, means in enumerate(computed, first):
                    self._append(index, means, counts)
                    report(index + 1 - first, self.size - first)
        self._maps.clear()

    def _build_together(self, share: Share, report: Report) -> None:
        """Let every process of a run compute the means of its classes; the leading one writes."""
        if not group.lead(lambda: self.missing):
            return
        leads = group.leads()
        with self._locked() if leads else nullcontext():
            counts = group.lead(self._truncate)
            first = min(counts)
            for index in range(first, self.size):
                own = (mean[share.first : share.last] for mean in self.compute(index).means)
                means = [group.gathered(mean, share) for mean in own]
                if leads:
                    self._append(index, tuple(mean for mean in means if mean is not None), counts)
                    report(index + 1 - first, self.size - first)
        group.meet()
        self._maps.clear()
        if self.missing:
            raise DataError(
                f"the bank at {self.folder} cannot be seen by all processes; the cache folder "
                "must be one that all machines share"
            )

    def _follow_experts(self) -> None:
        """Drop what was computed with other weights: experts trained again may differ in bits."""
        if self.task.experts[0].missing:  # the cache was cleared since: the run has them open
            return
        with self._locked():
            known, now = self.folder / "experts", self.task.experts[0].content()
            if known.is_file() and known.read_text("ascii", errors="replace") != now:
                for path in self.folder.glob("*.f16"):
                    path.unlink()
            write_text(known, now)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Take the folder, and say what it is for."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder / "lock"):
            (self.folder / "key.json").write_text(json.dumps(self.key, indent=2) + "\n", "utf-8")
            yield

    @property
    def workers(self) -> int:
        """The number of processes that would build what is missing, beside those of the run."""
        if self.task.share is not None:
            return 1
        return max(1, min(self.task.bank_workers, self.missing // LEAST))

    def compute(self, index: int) -> Target:
        """Compute a target, with the threads that are part of the bank's name."""
        with threads(self.task.bank_threads):
            return fresh(self.task, self.engine, index)

    def _computed(self, indices: range) -> Generator[Means, None, None]:
        """Yield the means of targets in order: the number of processes changes no bit of them."""
        number, made = self.workers, None
        if number > 1:
            with threads(self.task.bank_threads):  # it may whiten
                made = packed(self.task, self.engine)
        if made is not None:
            yield from gather(self.task, self.engine, made, indices, number)
            return
        for index in indices:
            yield self.compute(index).means

    def _truncate(self) -> list[int]:
        """Cut off what an interrupted build left of a target."""
        counts, widths = self.counts(), self._widths
        for statistic, count in zip(self.engine.matched, counts, strict=True):
            path = self.path(statistic)
            if path.is_file():
                with path.open("r+b") as file:
                    file.truncate(count * 2 * self.task.classes * widths[path.name])
        return counts

    def _append(self, index: int, means: Means, counts: list[int]) -> None:
        rows = zip(self.engine.matched, means, counts, strict=True)
        for statistic, mean, count in rows:
            if index < count:
                continue
            values = mean.to("cpu", torch.float16)
            if not bool(values.isfinite().all()):
                raise DataError(
                    f"target {index} of the bank has {statistic} that are infinite or not a "
                    "number in half precision; run without a bank"
                )
            with self.path(statistic).open("ab") as file:
                file.write(values.numpy().tobytes())

    def target(self, step: int) -> Target:
        """Return the target of a step, and leave its weights in the task's network.

        Every target is used once before any is used again, in an order of the run's own seed. One
        that is not on disk is computed, so that the result never depends on what is.
        """
        epoch, position = divmod(step, self.size)
        if self._epoch is None or self._epoch[0] != epoch:
            order = self.order.numpy("bank order", epoch).permutation(self.size)
            self._epoch = (epoch, order)
        return self.read(int(self._epoch[1][position]))

    def read(self, index: int) -> Target:
        """Return a target by its number."""
        stored = [self._row(statistic, index) for statistic in self.engine.matched]
        if any(row is None for row in stored):
            target = self.compute(index)
            return replace(target, means=tuple(m.half().float() for m in target.means))
        device = self.task.settings.device
        means: Means = tuple(send(row, device).float() for row in stored if row is not None)
        self.task.draw_network(index)
        return Target(index, self.task.draw_augmentation(index), means)

    def _row(self, statistic: Statistic, index: int) -> Tensor | None:
        path = self.path(statistic)
        if path.name not in self._maps:
            self._maps |= self._open()
        mapped = self._maps.get(path.name)
        if mapped is None or index >= len(mapped):
            return None
        row = np.array(mapped[index])
        # none is written that is not finite: the file is damaged, and what it had is computed
        return torch.from_numpy(row) if bool(np.isfinite(row).all()) else None

    def _open(self) -> dict[str, np.ndarray]:
        widths, opened = self._widths, {}
        for statistic, count in zip(self.engine.matched, self.counts(), strict=True):
            path = self.path(statistic)
            if count:
                shape = (count, self.task.classes, widths[path.name])
                opened[path.name] = np.memmap(path, np.float16, "r", shape=shape)
        return opened


def bank_key(task: Task, seed: int) -> Mapping[str, Any]:
    """Return all that shapes the means, but for the statistics, which have a file each.

    ``threads`` are those of each process that computes; how many processes there are shapes
    nothing.
    """
    transform = task.transform
    return {
        "version": VERSION,
        "train": task.train.digest,
        "mean": list(transform.mean),
        "std": list(transform.std),
        # hashed: fitted by another number of threads, its bits differ
        "zca": transform.zca is not None and zca_digest(transform.zca),
        "network": repr(task.network),
        "code": code_digest(task.network, task.train.spec),
        "augmentation": asdict(task.augmentation),  # type: ignore[call-overload]
        "batch_real": task.batch_real,
        "settings": asdict(task.settings),
        "threads": task.bank_threads or torch.get_num_threads(),
        "torch": torch.__version__,
        "seed": seed,
        **_experts_key(task),
    }


def _experts_key(task: Task) -> Mapping[str, Any]:
    """Return what experts add to a key: nothing where there are none, as before there were any."""
    if not task.experts:
        return {}
    config = task.experts[0].config
    running = {"batch_norm": config.batch_norm} if config.batch_norm != "batch" else {}
    digests = [one.digest for one in task.experts]
    return {"experts": digests, "number of experts": config.number, **running}
