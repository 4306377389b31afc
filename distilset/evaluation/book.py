"""Trained networks on file, a row of CSV for each: what an interrupted call goes on from."""

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock

from distilset.cache import cache_folder
from distilset.errors import DataError
from distilset.evaluation.judge import Judge, Sets, TrialResult
from distilset.evaluation.score import Score
from distilset.files import write_text
from distilset.parallel import group
from distilset.parallel.jobs import spread
from distilset.training.step import TrainSettings
from distilset.untrusted import MOST_ROWS, MOST_SECONDS, accuracy_in, number_in, read_text

_OWN = ("trial", "accuracy", "seconds", "compute", "key")


class Book:
    """Reads and writes rows; with ``again`` only those count that were made through this object.

    A row belongs to a key, a hash of all that decides its accuracy but the trial. Of rows with the
    same key and trial the last counts. Rows without a key, from earlier versions, are kept in their
    file but do not count.
    """

    def __init__(self, *, again: bool = False) -> None:
        self._again = again
        self._made: set[tuple[str, int]] = set()

    def counts(self, key: str, trial: int) -> bool:
        """Tell whether a result on file is good enough."""
        return not self._again or (key, trial) in self._made

    def made(self, key: str, trials: Iterable[int]) -> None:
        """Remember that results were made by this call."""
        self._made.update((key, trial) for trial in trials)

    def told(self, others: Iterable["Book"]) -> None:
        """Let count what other processes of this call have made."""
        for other in others:
            self._made |= other._made

    def read(self, path: Path, key: str) -> dict[int, TrialResult]:
        """Return the results of a key that count, by trial.

        Raises:
            DataError: a file that is no CSV.
        """
        found: dict[int, TrialResult] = {}
        for row in _read(path)[1]:
            if row.get("key") != key:
                continue
            try:
                trial, compute = int(row["trial"]), row["compute"] or ""
                seconds = number_in(float(row["seconds"]), high=MOST_SECONDS)
                result = TrialResult(accuracy_in(row["accuracy"]), seconds, compute)
            except (KeyError, TypeError, ValueError):
                continue  # a row that was damaged by hand
            if self.counts(key, trial):
                found[trial] = result
        return found

    def append(
        self, path: Path, key: str, facts: Mapping[str, Any], results: Mapping[int, TrialResult]
    ) -> None:
        """Append a row for each result; ``facts`` are the columns before it.

        The file is replaced as a whole, under a lock: a kill damages nothing, and of two processes
        that append at once neither loses a row.
        """
        rows = [
            {
                **{name: unrisky(value) for name, value in facts.items()},
                "trial": trial,
                "accuracy": repr(result.accuracy),
                "seconds": f"{result.seconds:.3f}",
                "compute": result.compute,
                "key": key,
            }
            for trial, result in results.items()
        ]
        with FileLock(_lock(path)):
            names, old = _read(path)
            write_text(path, _text([*dict.fromkeys([*names, *facts, *_OWN])], [*old, *rows]))
        self.made(key, results)


def finish(
    judge: Judge,
    sets: Sets,
    book: Book,
    path: Path | None,
    key: str,
    facts: Mapping[str, Any],
    only: Sequence[int] | None = None,
) -> list[TrialResult]:
    """Return the results of all trials of a judge, training only those that are not on file.

    Each is on file as soon as it is there. Without a ``path`` all are trained and none is kept;
    several processes share that work. ``only`` are the trials that are wanted, if not all.
    """
    wanted = range(judge.trials) if only is None else only
    done = {} if path is None else book.read(path, key)
    missing = [trial for trial in wanted if trial not in done]
    if path is None:
        jobs = [partial(_trained, judge, sets, some) for some in batches(missing, judge.settings)]
        for results in spread(jobs):
            done |= results
    elif missing:
        for results in judge.each(sets, missing):
            book.append(path, key, facts, results)
            done |= results
    return [done[trial] for trial in wanted]


def _trained(judge: Judge, sets: Sets, trials: Sequence[int]) -> dict[int, TrialResult]:
    found: dict[int, TrialResult] = {}
    for results in judge.each(sets, trials):
        found |= results
    return found


def batches(trials: Sequence[int], settings: TrainSettings) -> list[Sequence[int]]:
    """Cut trials into jobs for processes: one each, or as many as are trained together.

    One process has one job, and sees by itself how many networks its memory takes.
    """
    alone = settings.together or (1 if torch.device(settings.device).type == "cpu" else len(trials))
    size = max(1, len(trials) if group.size() == 1 else alone)
    return [trials[first : first + size] for first in range(0, len(trials), size)]


def append_baseline(path: Path, score: Score) -> None:
    """Append a baseline's row, as in ``--json``, to a file of JSON lines, unless it is there."""
    line = json.dumps(score.as_row(), allow_nan=False) + "\n"
    with FileLock(_lock(path)):
        old = _content(path)
        if line not in old:  # replaced as a whole: a link would be written through
            whole = old if old.endswith("\n") or not old else f"{old}\n"
            write_text(path, whole + line)


def unrisky(value: Any) -> Any:
    """Keep a spreadsheet from running a name as a formula."""
    return f"'{value}" if isinstance(value, str) and value[:1] in tuple("=+-@") else value


def _lock(path: Path) -> Path:
    """Return the lock of a file; beside the file it would be one more file of a run."""
    name = blake2b(str(path.resolve()).encode(), digest_size=16).hexdigest()
    return cache_folder("locks") / f"{name}.lock"


def _read(path: Path) -> tuple[list[str], list[dict[str, Any]]]:
    """Return the heading and the rows of a file; nothing if there is none."""
    if not path.is_file():
        return [], []
    try:
        reader = csv.DictReader(io.StringIO(_content(path), newline=""))
        return list(reader.fieldnames or ()), list(reader)
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"{path} is damaged: {error}; move it away or mend it") from None


def _content(path: Path) -> str:
    return read_text(path, MOST_ROWS, errors="replace") if path.exists() else ""


def _text(names: list[str], rows: list[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, names, restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
