"""What run folders hold, read for a report: the set, the losses, the scores, the files."""

import csv
import io
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from distilset.card import labelled
from distilset.errors import DataError, plain
from distilset.store import BASELINES, METRICS, SCORES, DistilledSet
from distilset.untrusted import MOST_ROWS, json_lines, read_text

SETTING = ("network", "norm", "protocol", "epochs", "labels", "augmentation", "split", "pixels")
"""The columns that say how a row was trained and scored; rows that agree in them are compared."""


_MOST = 1e15
"""Steps, seconds and losses beyond this are damage, and would break the axes of charts."""


@dataclass(frozen=True)
class Loss:
    """One line of ``metrics.jsonl``; ``loss`` is None where it was not finite."""

    step: int
    loss: float | None
    seconds: float


@dataclass(frozen=True)
class Result:
    """Accuracies in per cent of networks trained on one set in one way (`SETTING`).

    A network that diverged has NaN. ``steps`` is the number of distillation steps that the set had
    then; ``baseline`` says that the images are no run's own; with a ``factor`` above 1 several
    images were decoded from each stored one, which ``ipc`` counts. ``seconds`` is the time of
    training and scoring them all.
    """

    name: str
    method: str
    dataset: str
    fingerprint: str
    ipc: int | None
    images: int
    setting: Mapping[str, str]
    accuracies: tuple[float, ...]
    seconds: float
    steps: int = 0
    baseline: bool = False
    factor: int = 1

    @property
    def title(self) -> str:
        """The name, and the factor if there is one."""
        return labelled(self.name, self.factor)

    @property
    def finite(self) -> tuple[float, ...]:
        """The accuracies of the networks that did not diverge."""
        return tuple(value for value in self.accuracies if math.isfinite(value))

    @property
    def diverged(self) -> int:
        """How many networks diverged."""
        return len(self.accuracies) - len(self.finite)

    @property
    def mean(self) -> float:
        """The mean accuracy in per cent; NaN if a network diverged."""
        return sum(self.accuracies) / len(self.accuracies)

    @property
    def std(self) -> float:
        """The spread with ddof 0, as in `Score`; NaN if a network diverged."""
        mean = self.mean
        return math.sqrt(sum((v - mean) ** 2 for v in self.accuracies) / len(self.accuracies))

    @property
    def reference(self) -> bool:
        """Whether this is training on the whole data, which competes with nothing."""
        return self.ipc is None


@dataclass(frozen=True)
class RunFacts:
    """A finished run: its folder, its images, and what was written beside them.

    ``results`` are of the images as they are now, ``earlier`` of fewer steps.
    """

    path: Path
    distilled: DistilledSet
    losses: tuple[Loss, ...]
    results: tuple[Result, ...]
    earlier: tuple[Result, ...]
    baselines: tuple[Result, ...]
    files: tuple[tuple[str, int], ...]

    @property
    def name(self) -> str:
        """What the run is called in tables."""
        return str(self.path)


def read_run(run: Path) -> RunFacts:
    """Read a run folder.

    Raises:
        DataError: if there is no finished run, or one of its files is damaged.
    """
    distilled = DistilledSet.load(run)
    results = read_scores(run, distilled)
    now = distilled.card.steps
    return RunFacts(
        path=run,
        distilled=distilled,
        losses=tuple(read_losses(run / METRICS)),
        results=tuple(r for r in results if r.steps == now),
        earlier=tuple(r for r in results if r.steps < now),
        baselines=tuple(read_baselines(run / BASELINES, distilled.card.dataset.fingerprint)),
        files=tuple(sorted((p.name, p.stat().st_size) for p in run.iterdir() if p.is_file())),
    )


def read_runs(runs: Iterable[str | PathLike[str]]) -> list[RunFacts]:
    """Read run folders, each once.

    Raises:
        DataError: if one is not a finished run, or is damaged.
    """
    return [read_run(Path(run)) for run in dict.fromkeys(map(Path, runs))]


def read_losses(path: Path) -> Iterator[Loss]:
    """Yield the lines of ``metrics.jsonl``; one that a kill cut off is left out."""
    for line in json_lines(path):
        step, loss, seconds = (line.get(key) for key in ("step", "loss", "seconds"))
        if isinstance(step, int) and isinstance(seconds, int | float):
            known = float(loss) if isinstance(loss, int | float) and abs(loss) < _MOST else None
            if 0 <= step < _MOST and 0 <= seconds < _MOST:
                yield Loss(step, known, float(seconds))


def _number(text: Any) -> float:
    """Return a count or a time; nothing is none."""
    value = 0.0 if text in (None, "") else float(text)
    if not 0 <= value < _MOST:
        raise ValueError(f"{text!r} is no count or time")
    return value


def _accuracy(text: Any) -> float:
    value = float(text)
    if not (math.isnan(value) or 0 <= value <= 100):
        raise ValueError(f"{text!r} is no accuracy in per cent")
    return value


def read_scores(run: Path, distilled: DistilledSet) -> list[Result]:
    """Read ``scores.csv``, a row for each trained network, to a result for each way of training.

    Networks of several seeds are pooled; one that was trained twice with the same seed counts
    once, as trained last.
    """
    path = run / SCORES
    if not path.is_file():
        return []
    try:
        text = read_text(path, MOST_ROWS, errors="replace")
        groups = _grouped(path, csv.DictReader(io.StringIO(text, newline="")))
        return [
            _result(run, distilled, steps, way, list(rows.values()))
            for (steps, *way), rows in groups.items()
        ]
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"{path} is damaged: {error}") from None


def _grouped(
    path: Path, rows: Iterable[Mapping[Any, str]]
) -> dict[tuple[Any, ...], dict[tuple[str, str], Mapping[str, str]]]:
    """Group rows by steps and `SETTING`; in a group by seed and trial, the last one counts."""
    groups: dict[tuple[Any, ...], dict[tuple[str, str], Mapping[str, str]]] = {}
    for row in rows:
        row = {**row, "pixels": row.get("pixels") or "float"}  # earlier versions had no other
        missing = [key for key in (*SETTING, "accuracy") if row.get(key) is None]
        if missing or None in row:
            what = f"no {missing[0]}" if missing else "more cells than the heading"
            raise DataError(f"{path} is damaged: a row has {what}")
        key = (int(_number(row.get("steps"))), *(plain(row[name]) for name in SETTING))
        groups.setdefault(key, {})[row.get("seed") or "", row.get("trial") or ""] = row
    return groups


def _result(
    run: Path,
    distilled: DistilledSet,
    steps: int,
    way: Sequence[str],
    rows: Sequence[Mapping[str, str]],
) -> Result:
    card = distilled.card
    return Result(
        name=str(run),
        method=card.method,
        dataset=card.dataset.name,
        fingerprint=card.dataset.fingerprint,
        ipc=card.ipc,
        factor=card.factor,
        images=len(distilled),
        setting=dict(zip(SETTING, way, strict=True)),
        accuracies=tuple(_accuracy(row["accuracy"]) for row in rows),
        seconds=sum(_number(row.get("seconds")) for row in rows),
        steps=steps,
    )


def read_baselines(path: Path, fingerprint: str) -> Iterator[Result]:
    """Yield the rows of ``baselines.jsonl``; one scored again counts once, as scored last.

    ``fingerprint`` is that of the data of the run beside which they lie.
    """
    last: dict[tuple[Any, ...], Result] = {}
    for row in json_lines(path):
        try:
            setting = {name: plain(row[name]) for name in SETTING if name != "pixels"}
            setting["pixels"] = plain(row.get("pixels") or "float")
            values = tuple(math.nan if v is None else _accuracy(v) for v in row["accuracies"])
            method, dataset = str(row["method"]), str(row["dataset"])
            name, images = str(row["run"]), int(_number(row["images"]))
            ipc = None if row["ipc"] is None else int(_number(row["ipc"]))
            seconds = _number(row["seconds"])
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{path} is damaged: {error!r} in a row") from None
        if values:
            last[name, ipc, *setting.values()] = Result(
                name=name, method=method, dataset=dataset, fingerprint=fingerprint, ipc=ipc,
                images=images, setting=setting, accuracies=values, seconds=seconds, baseline=True,
            )  # fmt: skip
    yield from last.values()


def all_results(runs: Iterable[RunFacts]) -> list[Result]:
    """Return the results of runs, then their baselines, each baseline once."""
    runs = list(runs)
    seen: dict[tuple[Any, ...], Result] = {}
    for baseline in (b for run in runs for b in run.baselines):
        key = (baseline.name, baseline.fingerprint, baseline.ipc, *baseline.setting.values())
        seen.setdefault(key, baseline)
    return [*(result for run in runs for result in run.results), *seen.values()]
