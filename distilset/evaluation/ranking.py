"""DD-Ranking's scores (Li et al., 2025) of distilled sets, at fixed protocol.

DD-Ranking looks for the learning rate with the best accuracy, for each set and setting, and reports
that accuracy; here every network is trained by one protocol. Hence "at fixed protocol": the numbers
rank sets judged by us, and are not those of its leaderboard. Accuracies are fractions here.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from math import e, exp, isfinite
from typing import Any

from distilset.card import labelled
from distilset.evaluation.book import Book
from distilset.evaluation.cells import Bench, Cell, Watch, baseline_key, cells_of, unwatched
from distilset.evaluation.judge import Trainers
from distilset.evaluation.matrix import Entry, Request
from distilset.evaluation.score import Score
from distilset.evaluation.variants import Variant
from distilset.models import network_label
from distilset.selectors.base import check_request

WEIGHT = 0.5
"""DD-Ranking's weight of the first term in both scores; the second has the rest."""


def hard_label_recovery(whole: float, hard: float) -> float:
    """HLR: what a set with hard labels still lacks to the whole data; the lower the better."""
    return whole - hard


def improvement_over_random(own: float, random: float) -> float:
    """IOR: what a set, with whatever labels it has, gains over random real images."""
    return own - random


def scaled(value: float) -> float:
    """Bring a difference of accuracies in -1..1 to 0..1, growing: (e^a - e^-1) / (e - e^-1)."""
    return (exp(value) - exp(-1)) / (e - exp(-1))


def label_robust_score(whole: float, hard: float, own: float, random: float) -> float:
    """LRS: both of the above, half each: `scaled` 0.5 IOR - 0.5 HLR."""
    gain, gap = improvement_over_random(own, random), hard_label_recovery(whole, hard)
    return scaled(WEIGHT * gain - (1 - WEIGHT) * gap)


def augmentation_robust_score(
    augmented: float, random_augmented: float, plain: float, random_plain: float
) -> float:
    """ARS: the gain over random with augmentation and without, half each, `scaled`."""
    with_it = improvement_over_random(augmented, random_augmented)
    without = improvement_over_random(plain, random_plain)
    return scaled(WEIGHT * with_it + (1 - WEIGHT) * without)


@dataclass(frozen=True)
class Ranking:
    """The scores of one run on one network, from mean accuracies in per cent.

    ``own``, ``hard`` and ``random`` are with augmentation, ``own_plain`` and ``random_plain``
    without; random images have hard labels. ``trials`` networks are behind each of them, one behind
    ``whole``, which is trained by a schedule of its own. ``hlr`` and ``ior`` are fractions, ``lrs``
    and ``ars`` lie in 0..1.
    """

    run: str
    method: str
    dataset: str
    ipc: int | None
    factor: int = field(default=1, kw_only=True)
    network: str
    norm: str
    protocol: str
    split: str
    labels: str
    trials: int
    whole_trials: int
    whole: float
    random: float
    random_plain: float
    own: float
    hard: float
    own_plain: float
    hlr: float
    ior: float
    lrs: float
    ars: float

    @property
    def label(self) -> str:
        """The method, and the factor if there is one."""
        return labelled(self.method, self.factor)

    @classmethod
    def of(cls, accuracies: dict[str, float], **facts: Any) -> "Ranking":
        """Make a row from the six accuracies in per cent, by name, and the facts about them."""
        part = {name: value / 100 for name, value in accuracies.items()}
        stated: dict[str, Any] = {**facts, **accuracies}
        return cls(
            **stated,
            hlr=hard_label_recovery(part["whole"], part["hard"]),
            ior=improvement_over_random(part["own"], part["random"]),
            lrs=label_robust_score(part["whole"], part["hard"], part["own"], part["random"]),
            ars=augmentation_robust_score(
                part["own"], part["random"], part["own_plain"], part["random_plain"]
            ),
        )

    def as_row(self) -> dict[str, Any]:
        """Return the fields in order, fit for JSON: None for what a diverged network leaves."""
        row = asdict(self)
        return {
            name: None if isinstance(value, float) and not isfinite(value) else value
            for name, value in row.items()
        }


def check_random(entries: Sequence[Entry]) -> None:
    """Refuse runs of more images per class than random ones can be drawn.

    Raises:
        ConfigError: with the class and its count.
    """
    for entry in entries:
        check_request(entry.splits.train, entry.distilled.card.ipc)


def rank(
    entries: Sequence[Entry],
    request: Request,
    watch: Watch = unwatched,
    book: Book | None = None,
) -> Iterator[Ranking]:
    """Yield the scores of every run on every network by every protocol.

    What they need and is not on file is trained: the run with its own and with hard labels and
    without augmentation, random images with and without, the whole data. ``request`` says networks,
    protocols, split, trials and seed; its baselines and variants do not matter.
    """
    check_random(entries)
    bench = Bench(request, Trainers(), book or Book())
    baselines: dict[tuple[Any, ...], Score] = {}

    def baseline(name: str, cell: Cell) -> Score:
        key = baseline_key(name, cell)
        if key not in baselines:
            number = 1 if name == "whole" else request.trials
            seen = watch(f"baseline {name}, {cell.network.name}, {cell.protocol.name}", number)
            baselines[key] = bench.baseline(name, cell, seen)
        return baselines[key]

    for cell in _bare(cells_of(entries, request)):
        yield _ranking(bench, cell, watch, baseline)


def trained_for(
    entries: Sequence[Entry], request: Request
) -> tuple[list[Cell], list[tuple[str, Cell]]]:
    """Return the cells whose networks `rank` needs, and the baselines, each beside a cell."""
    cells, beside = [], []
    for cell in _bare(cells_of(entries, request)):
        plain = cell.varied(Variant(augment=False))
        cells += [cell, cell.varied(Variant(augment=True, labels="hard")), plain]
        beside += [("whole", cell), ("random", cell), ("random", plain)]
    return cells, beside


def _bare(cells: list[Cell]) -> list[Cell]:
    """Return the cells as ranking wants them, each once: augmented, own labels, floats."""
    found: list[Cell] = []
    for cell in (cell.varied(Variant(augment=True)) for cell in cells):
        if cell not in found:
            found.append(cell)
    return found


def _ranking(bench: Bench, cell: Cell, watch: Watch, baseline: Any) -> Ranking:
    def score(cell: Cell) -> Score:
        return bench.score(cell, watch(cell.title, bench.request.trials))[0]

    plain = cell.varied(Variant(augment=False))
    own, whole = score(cell), baseline("whole", cell)
    accuracies = {
        "whole": whole.accuracy_mean,
        "random": baseline("random", cell).accuracy_mean,
        "random_plain": baseline("random", plain).accuracy_mean,
        "own": own.accuracy_mean,
        "hard": score(cell.varied(Variant(augment=True, labels="hard"))).accuracy_mean,
        "own_plain": score(plain).accuracy_mean,
    }
    return Ranking.of(
        accuracies,
        run=own.run,
        method=own.method,
        dataset=own.dataset,
        ipc=own.ipc,
        factor=own.factor,
        network=network_label(cell.network, cell.entry.distilled.spec),
        norm=own.norm,
        protocol=own.protocol,
        split=own.split,
        labels=own.labels,
        trials=own.trials,
        whole_trials=whole.trials,
    )
