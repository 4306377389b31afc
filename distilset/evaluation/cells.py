"""Runs x networks x protocols x variants, then baselines: the rows of one table."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from distilset.evaluation.baselines import score_baseline
from distilset.evaluation.book import Book, finish
from distilset.evaluation.checks import label_kind
from distilset.evaluation.identity import digest_of, judge_facts, tensors_digest
from distilset.evaluation.judge import Judge, Progress, Trainers, TrialResult
from distilset.evaluation.matrix import Entry, Request
from distilset.evaluation.score import Score
from distilset.evaluation.variants import Variant
from distilset.models import NetworkConfig, network_label
from distilset.selectors.base import check_request
from distilset.store import SCORES
from distilset.training.protocols import Protocol

Watch = Callable[[str, int], Progress | None]
"""Given a row's name and its number of networks, return what to call during its training."""


def unwatched(_name: str, _networks: int) -> None:
    """Watch nothing."""


@dataclass(frozen=True)
class Cell:
    """One row of a run: what is trained on what, and how.

    ``protocol`` is the one asked for; the variant may switch its augmentation.
    """

    entry: Entry
    network: NetworkConfig
    protocol: Protocol
    variant: Variant

    @property
    def title(self) -> str:
        """What is shown while it is trained."""
        return f"{self.entry.name}, {self.network.name}, {self.protocol.name}"

    def varied(self, variant: Variant) -> "Cell":
        """Return the cell of another variant."""
        settled = variant.settled(self.entry.distilled, self.protocol)
        return Cell(self.entry, self.network, self.protocol, settled)


@dataclass(frozen=True)
class Bench:
    """What all rows of a call share: the request, the trainers, the results on file."""

    request: Request
    trainers: Trainers
    book: Book

    def score(
        self, cell: Cell, progress: Progress | None = None, only: Sequence[int] | None = None
    ) -> tuple[Score, list[TrialResult]]:
        """Train and score what of a cell is not on file; return its row and its trials.

        ``only`` are the trials that are wanted, if not all.
        """
        judge, distilled = self._judge(cell, progress), cell.entry.distilled
        images, labels = cell.variant.tensors(distilled)
        key = digest_of(judge_facts(judge) | {"images": tensors_digest(images, labels)})
        folder = cell.entry.folder
        path = None if folder is None else folder / SCORES
        facts = _facts(cell, judge, label_kind(labels))
        rows = facts | {"steps": distilled.card.steps}
        sets = lambda trial: (images, labels)  # noqa: E731
        results = finish(judge, sets, self.book, path, key, rows, only)
        seconds = sum(result.seconds for result in results)
        return Score.of([r.accuracy for r in results], seconds=seconds, **facts), results

    def _judge(self, cell: Cell, progress: Progress | None) -> Judge:
        request = self.request
        return Judge(
            cell.entry.part(request.split),
            cell.entry.distilled.transform,
            cell.network,
            cell.variant.protocol(cell.protocol),
            request.trials,
            request.seed,
            request.augmentation,
            request.settings,
            self.trainers,
            progress,
        )

    def baseline(
        self,
        name: str,
        cell: Cell,
        progress: Progress | None = None,
        only: Sequence[int] | None = None,
    ) -> Score:
        """Score a baseline that stands beside a cell, as far as it is not in the cache."""
        entry, request = cell.entry, self.request
        return score_baseline(
            name,
            entry.splits.train,
            entry.part(request.split),
            entry.distilled.transform,
            cell.network,
            cell.variant.protocol(cell.protocol),
            ipc=entry.distilled.card.ipc,
            trials=request.trials,
            seed=request.seed,
            augmentation=request.augmentation,
            settings=request.settings,
            trainers=self.trainers,
            progress=progress,
            book=self.book,
            only=only,
        )


def _facts(cell: Cell, judge: Judge, labels: str) -> dict[str, Any]:
    """Return what a row says but for its results."""
    card, n = cell.entry.distilled.card, len(cell.entry.distilled)
    return {
        "run": cell.entry.name,
        "method": card.method,
        "dataset": card.dataset.name,
        "ipc": card.ipc,
        "factor": card.factor,
        "network": network_label(cell.network, judge.test.spec),
        "norm": cell.network.norm,
        "protocol": judge.protocol.name,
        "epochs": judge.protocol.total_epochs(n),
        "labels": labels,
        "augmentation": "none" if judge.operations is None else "dsa",
        "pixels": cell.variant.pixels,
        "split": judge.test.role,
        "images": n,
        "seed": judge.seed,
        "device": judge.settings.device,
    }


def cells_of(entries: Sequence[Entry], request: Request) -> list[Cell]:
    """Return the rows of runs that are asked for, in order, each once; check every run first.

    Raises:
        ConfigError: a network, a part or a baseline that a run cannot have.
        DataError: data that do not fit a run.
    """
    for entry in entries:
        entry.part(request.split)
        if set(request.baselines) - {"whole"}:
            check_request(entry.splits.train, entry.distilled.card.ipc)
    return [
        cell
        for entry in entries
        for network in request.networks_of(entry.distilled)
        for name in request.protocols
        for cell in _varied(entry, network, request.protocol(name), request)
    ]


def _varied(
    entry: Entry, network: NetworkConfig, protocol: Protocol, request: Request
) -> list[Cell]:
    """Return a cell for each variant; variants that come to the same for this run make one."""
    asked = (variant.settled(entry.distilled, protocol) for variant in request.variants)
    return [Cell(entry, network, protocol, variant) for variant in dict.fromkeys(asked)]


def matrix(
    entries: Sequence[Entry],
    request: Request,
    watch: Watch = unwatched,
    book: Book | None = None,
) -> Iterator[tuple[Score, list[TrialResult]]]:
    """Yield the rows, runs x networks x protocols x variants as given, baselines last.

    A baseline is scored once for each kind of run: the same data, images per class, transform,
    network, protocol and augmentation. Everything is checked before the first network is trained.
    Results of a run with a folder, and of baselines, are on file as soon as they are there; those
    that are on file, and count for ``book``, are not computed again.
    """
    cells, bench = cells_of(entries, request), Bench(request, Trainers(), book or Book())
    for cell in cells:
        yield bench.score(cell, watch(cell.title, request.trials))
    done = set()
    for cell in cells:
        for name in request.baselines:
            fixed = name == "whole"
            key = baseline_key(name, cell)
            if key in done:
                continue
            done.add(key)
            title = f"baseline {name}, {cell.network.name}, {cell.protocol.name}"
            seen = watch(title, 1 if fixed else request.trials)
            yield bench.baseline(name, cell, seen), []


def baseline_key(name: str, cell: Cell) -> tuple[Any, ...]:
    """Return what decides a baseline beside a cell; whole data know no ipc and no protocol."""
    card = cell.entry.distilled.card
    key = (name, cell.entry.splits.train.digest, card.zca, cell.network, cell.variant.augment)
    return key if name == "whole" else (*key, card.ipc, cell.protocol)
