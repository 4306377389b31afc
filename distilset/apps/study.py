"""A class-incremental study: what is asked, and the jobs that it is made of."""

import re
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from distilset.apps.curves import Curve, check_jobs, curves, plot, summarise
from distilset.apps.folder import AppFolder, run_jobs, share
from distilset.apps.remembering import check_budget, remember
from distilset.apps.stream import class_tasks, of_classes
from distilset.augment import AugmentConfig
from distilset.config import Tables
from distilset.data.normalise import Transform
from distilset.errors import ConfigError, DataError, unknown_name
from distilset.evaluation.judge import Judge, Trainers
from distilset.evaluation.matrix import Request
from distilset.evaluation.variants import PIXELS, Variant
from distilset.hardware import threads as limit_threads
from distilset.models import NetworkConfig
from distilset.rng import Rng
from distilset.store import CARD, DistilledSet
from distilset.training.protocols import Protocol
from distilset.training.step import TrainSettings
from distilset.types import ImageSet

Watch = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and the total."""


@dataclass(frozen=True)
class Study:
    """What is asked: see `continual` for what each is.

    Raises:
        ConfigError: a number below 1, an unknown word.
    """

    tasks: int = 5
    ipc: int = 20
    methods: tuple[str, ...] = ("datadam",)
    orders: int = 5
    trials: int = 3
    protocol: str = "quick"
    epochs: int | None = None
    split: str = "test"
    pixels: str = "float"
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.methods:
            raise ConfigError("name at least one method or selector")
        for method in self.methods:
            check_budget(method, self.ipc)
        if self.orders < 1 or not 0 <= self.seed < 2**63:
            raise ConfigError(
                f"orders must be 1 or more and the seed 0 to 2**63 - 1; got {self.orders} and "
                f"{self.seed}"
            )
        if self.pixels not in ("float", "png"):
            raise unknown_name("pixels", self.pixels, [word for word in PIXELS if word != "both"])
        self.asked()

    def asked(self) -> Protocol:
        """Return the protocol with its number of epochs; checks the trials and the split, too."""
        asked = Request(
            protocols=(self.protocol,), epochs=self.epochs, trials=self.trials, split=self.split
        )
        return asked.protocol(self.protocol)


@dataclass(frozen=True)
class Step:
    """One method in one order at one task, counted from 1; its rows are one job's."""

    order: int
    task: int
    method: str

    @property
    def key(self) -> str:
        """What the job is called on file."""
        return f"order {self.order}, {self.method}, task {self.task}"

    @property
    def folder(self) -> str:
        """Where its memory lies, in the folder's ``work``."""
        name = re.sub(r"[^\w.-]", "-", self.method)
        return f"order-{self.order}/task-{self.task}/{name}"


@dataclass(frozen=True)
class Bench:
    """All that the jobs of a study share.

    ``transform`` has the whole training part's mean and std, as in the papers (and its whitening,
    if it is asked for), which a stream would not tell beforehand.
    """

    study: Study
    train: ImageSet
    test: ImageSet
    stated: Tables
    transform: Transform
    network: NetworkConfig
    settings: TrainSettings
    threads: int | None = None
    trainers: Trainers = field(default_factory=Trainers)

    def steps(self) -> list[Step]:
        """Return all jobs: order by order, task by task, method by method."""
        study = self.study
        return [
            Step(order, task, method)
            for order in range(1, study.orders + 1)
            for task in range(1, study.tasks + 1)
            for method in study.methods
        ]

    def tasks(self, order: int) -> list[list[int]]:
        """Return the classes of each task of an order."""
        return class_tasks(len(self.train.classes), self.study.tasks, self.study.seed, order)

    def _seed(self, purpose: str, step: Step) -> int:
        """Return a seed for an order and a task: the same for all methods, which are compared."""
        return Rng(self.study.seed).key(purpose, step.order, step.task) >> 1

    def remember(self, step: Step, folder: Path, watch: Watch) -> None:
        """Make the memory of a task's classes, from the training images of these alone."""
        train = of_classes(self.train, self.tasks(step.order)[step.task - 1])
        seed, ipc = self._seed("memory", step), self.study.ipc
        remember(
            train, step.method, ipc, seed, self.stated, self.transform, folder / step.folder,
            lambda done, total: watch(step.key, done, total),
        )  # fmt: skip

    def memory(self, step: Step, folder: Path) -> list[DistilledSet]:
        """Return what is in memory after a task: a set for each task so far.

        Raises:
            DataError: a set that holds other classes than its task.
        """
        kept = []
        for task, classes in enumerate(self.tasks(step.order)[: step.task], 1):
            path = folder / replace(step, task=task).folder
            loaded = DistilledSet.load(path)
            if loaded.classes != tuple(self.train.classes[c] for c in classes):
                raise DataError(f"{path} holds other classes than its task; start a new study")
            kept.append(loaded)
        return kept

    def learn(self, step: Step, folder: Path) -> list[dict[str, Any]]:
        """Train fresh networks on the memory after a task; return a row for each."""
        kept = self.memory(step, folder)
        tasks = self.tasks(step.order)
        seen = [c for task in tasks[: step.task] for c in task]
        images, labels = self._tensors(kept)
        judge = Judge(
            of_classes(self.test, seen),
            self.transform,
            self.network,
            self.study.asked(),
            self.study.trials,
            self._seed("learner", step),
            AugmentConfig(),
            self.settings,
            self.trainers,
        )
        results = judge.run(lambda trial: (images, labels))
        facts = {
            **{"method": step.method, "order": step.order, "task": step.task, "seen": len(seen)},
            "classes": " | ".join(self.train.classes[c] for c in tasks[step.task - 1]),
            "images": len(images),
            "bytes": sum(one.pixels.numel() for one in kept),
        }
        return [{**facts, "trial": trial, **asdict(r)} for trial, r in enumerate(results, 1)]

    def _tensors(self, kept: Sequence[DistilledSet]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return all images in normalised space, and labels counted on from task to task."""
        variant = Variant(pixels="png" if self.study.pixels == "png" else "float")
        pairs = [variant.tensors(replace(one, transform=self.transform)) for one in kept]
        starts = [sum(len(one.classes) for one in kept[:k]) for k in range(len(kept))]
        labels = [own + start for (_, own), start in zip(pairs, starts, strict=True)]
        return torch.cat([images for images, _ in pairs]), torch.cat(labels)

    def run(self, folder: AppFolder, watch: Watch) -> list[Curve]:
        """Make every memory, then train on them, as far as it is not on file; write the results.

        Raises:
            DataError: rows on file that were damaged; before anything is trained.
        """
        jobs = [(step.key, step) for step in self.steps()]
        keys, trials = [key for key, _ in jobs], self.study.trials
        check_jobs(folder.path, folder.rows(), keys, trials)
        paths = {step.key: folder.work / step.folder / CARD for _, step in jobs}
        with nullcontext() if self.threads is None else limit_threads(self.threads):
            share(
                folder,
                jobs,
                lambda key: paths[key].is_file(),
                lambda key, step: self.remember(step, folder.work, watch),
                lambda done, total: watch("memories", done, total),
            )
            run_jobs(
                folder,
                jobs,
                lambda step: self.learn(step, folder.work),
                lambda done, total: watch("trainings", done, total),
            )
        rows = folder.rows()
        check_jobs(folder.path, rows, keys, trials)  # what came of hours may have been edited since
        found = curves(rows, self.study.tasks)
        folder.finish(summarise(found, folder.settings))
        plot(found, folder.path)
        return found
