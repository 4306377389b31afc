"""Runs x networks x protocols, then baselines: the rows of one table."""

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from distilset.augment import AugmentConfig
from distilset.errors import ConfigError, DataError, unknown_name
from distilset.evaluation.baselines import BASELINES, score_baseline
from distilset.evaluation.judge import Progress, Trainers, TrialResult
from distilset.evaluation.runner import score_images
from distilset.evaluation.score import Score
from distilset.models import NETWORKS, NetworkConfig, network_label, settled
from distilset.selectors.base import check_request
from distilset.store import DistilledSet
from distilset.training.protocols import Protocol, get_protocol
from distilset.training.step import TrainSettings
from distilset.types import ImageSet, Splits


@dataclass(frozen=True)
class Request:
    """What is asked of every run.

    ``networks`` are settings stated for each network (``{"name": "convnet", "width": 64}``); empty
    means the run's own network. ``norm`` None is the run's.
    """

    networks: Sequence[Mapping[str, Any]] = ()
    norm: str | None = None
    protocols: Sequence[str] = ("dm",)
    baselines: Sequence[str] = ()
    split: str = "test"
    epochs: int | None = None
    trials: int = 5
    seed: int = 0
    settings: TrainSettings = field(default_factory=TrainSettings)
    augmentation: AugmentConfig = field(default_factory=AugmentConfig)

    def __post_init__(self) -> None:
        for name in self.protocols:
            get_protocol(name)
        for name in self.baselines:
            if name not in BASELINES:
                raise unknown_name("baseline", name, BASELINES)
        if self.split not in ("test", "val"):
            raise ConfigError(f"--split must be test or val; got {self.split!r}")
        if self.trials < 1 or (self.epochs is not None and self.epochs < 1):
            raise ConfigError(
                f"trials and epochs must be 1 or more; got {self.trials} and {self.epochs}"
            )

    def protocol(self, name: str) -> Protocol:
        """Return a protocol, with the number of epochs asked for."""
        protocol = get_protocol(name)
        return protocol if self.epochs is None else protocol.with_epochs(self.epochs)

    def networks_of(self, distilled: DistilledSet) -> list[NetworkConfig]:
        """Return the networks for a run: those asked for, or its own, with the norm asked for."""
        own = distilled.settings.get("network", {}) or {"name": distilled.card.network}
        asked = {} if self.norm is None else {"norm": self.norm}
        return [
            settled(network_config({"norm": distilled.card.norm, **table, **asked}), distilled.spec)
            for table in self.networks or [own]
        ]


def network_config(table: Mapping[str, Any]) -> NetworkConfig:
    """Check settings of a network.

    Raises:
        ConfigError: naming the bad setting.
    """
    from pydantic import ValidationError

    try:
        config = NetworkConfig(**table)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(map(str, problem["loc"]))
        raise ConfigError(f"network {where}: {problem['msg']}; got {problem['input']!r}") from None
    if config.name not in NETWORKS:
        raise unknown_name("network", config.name, NETWORKS)
    return config


@dataclass(frozen=True)
class Entry:
    """A run to judge, its name in the table, and the data it is judged on."""

    name: str
    distilled: DistilledSet
    splits: Splits

    def part(self, split: str) -> ImageSet:
        """Return the part to score on.

        Raises:
            ConfigError: if the data have none of that name, or do not fit the run.
        """
        found = self.splits.test if split == "test" else self.splits.val
        if found is None:
            hint = "distil with --val F, or score --split test" if split == "val" else "none came"
            raise ConfigError(f"the data of {self.name} have no {split} part; {hint}")
        check_fit(self.name, self.distilled, found)
        return found


def check_fit(name: str, distilled: DistilledSet, part: ImageSet) -> None:
    """Refuse data of other classes or another image shape than the run's."""
    if part.classes != distilled.classes:
        raise DataError(
            f"{name} was made from {len(distilled.classes)} classes "
            f"({', '.join(distilled.classes[:3])}, ...); the data have {len(part.classes)} "
            f"({', '.join(part.classes[:3])}, ...)"
        )
    if part.spec != distilled.spec:
        raise DataError(f"{name} has images of {distilled.spec}; the data have {part.spec}")


def judge_run(
    entry: Entry,
    request: Request,
    network: NetworkConfig,
    protocol: Protocol,
    trainers: Trainers,
    progress: Progress | None = None,
) -> tuple[Score, list[TrialResult]]:
    """Train and score the networks of one cell of the table; return its row and the trials."""
    images, labels = entry.distilled.tensors()
    part, card = entry.part(request.split), entry.distilled.card
    results = score_images(
        images,
        labels,
        part,
        entry.distilled.transform,
        network,
        protocol,
        trials=request.trials,
        seed=request.seed,
        augmentation=request.augmentation,
        settings=request.settings,
        trainers=trainers,
        progress=progress,
    )
    score = Score.of(
        [result.accuracy for result in results],
        seconds=sum(result.seconds for result in results),
        run=entry.name,
        method=card.method,
        dataset=card.dataset.name,
        ipc=card.ipc,
        network=network_label(network, part.spec),
        norm=network.norm,
        protocol=protocol.name,
        epochs=protocol.total_epochs(len(images)),
        labels="soft" if labels.is_floating_point() else "hard",
        augmentation="dsa" if protocol.augment else "none",
        split=part.role,
        images=len(images),
        seed=request.seed,
        device=request.settings.device,
    )
    return score, results


Watch = Callable[[str, int], Progress | None]
"""Given a row's name and its number of networks, return what to call during its training."""


def matrix(
    entries: Sequence[Entry], request: Request, watch: Watch = lambda name, networks: None
) -> Iterator[tuple[Score, list[TrialResult]]]:
    """Yield the rows, runs x networks x protocols as given, baselines last.

    A baseline is scored once for each kind of run: the same data, images per class, transform,
    network and protocol. Everything is checked before the first network is trained.
    """
    for entry in entries:
        entry.part(request.split)
        if set(request.baselines) - {"whole"}:
            check_request(entry.splits.train, entry.distilled.card.ipc)
    cells = [
        (entry, network, request.protocol(name))
        for entry in entries
        for network in request.networks_of(entry.distilled)
        for name in request.protocols
    ]
    trainers = Trainers()
    for entry, network, protocol in cells:
        title = f"{entry.name}, {network.name}, {protocol.name}"
        yield judge_run(entry, request, network, protocol, trainers, watch(title, request.trials))
    done = set()
    for entry, network, protocol in cells:
        for name in request.baselines:
            card = entry.distilled.card
            fixed = name == "whole"
            key = (name, entry.splits.train.digest, card.zca, network)
            key = key if fixed else (*key, card.ipc, protocol)
            if key in done:
                continue
            done.add(key)
            title = f"baseline {name}, {network.name}, {protocol.name}"
            seen = watch(title, 1 if fixed else request.trials)
            yield _baseline(name, entry, request, network, protocol, trainers, seen), []


def _baseline(
    name: str,
    entry: Entry,
    request: Request,
    network: NetworkConfig,
    protocol: Protocol,
    trainers: Trainers,
    progress: Progress | None,
) -> Score:
    return score_baseline(
        name,
        entry.splits.train,
        entry.part(request.split),
        entry.distilled.transform,
        network,
        protocol,
        ipc=entry.distilled.card.ipc,
        trials=request.trials,
        seed=request.seed,
        augmentation=request.augmentation,
        settings=request.settings,
        trainers=trainers,
        progress=progress,
    )


def append_scores(path: Path, score: Score, results: Sequence[TrialResult], steps: int) -> None:
    """Append a row for each trained network to a CSV file; the first row makes the heading.

    ``steps`` tells rows of a run apart that was lengthened in between.
    """
    facts = score.as_row() | {"steps": steps}
    for key in ("accuracy_mean", "accuracy_std", "accuracies", "seconds", "trials"):
        facts.pop(key)
    text = io.StringIO()
    names = [*facts, "trial", "accuracy", "seconds", "compute"]
    writer = csv.DictWriter(text, names, lineterminator="\n")
    if not path.exists():
        writer.writeheader()
    for trial, result in enumerate(results):
        own = {"accuracy": f"{result.accuracy:.4f}", "seconds": f"{result.seconds:.3f}"}
        writer.writerow({**facts, "trial": trial, **own, "compute": result.compute})
    with path.open("a", encoding="utf-8", newline="") as file:
        file.write(text.getvalue())
