"""Training what a table needs in several processes, before one of them prints it."""

from collections.abc import Callable, Sequence
from functools import partial

from distilset.evaluation.book import Book, batches
from distilset.evaluation.cells import Bench, Cell, baseline_key, cells_of
from distilset.evaluation.judge import Trainers
from distilset.evaluation.matrix import Entry, Request
from distilset.evaluation.ranking import trained_for
from distilset.parallel import group
from distilset.parallel.jobs import Report, spread, unwatched


def train_ahead(
    entries: Sequence[Entry],
    request: Request,
    book: Book,
    *,
    ranking: bool = False,
    report: Report = unwatched,
) -> None:
    """Train the networks that rows of a table, and its ranking, lack, in all processes of a run.

    Every result is on file when this returns, so that one process can then make the table; in a
    single process nothing is done, as making the table trains them.
    """
    if group.size() == 1:
        return
    bench = Bench(request, Trainers(), book)
    cells = cells_of(entries, request)
    beside = [(name, cell) for cell in cells for name in request.baselines]
    if ranking:
        more, others = trained_for(entries, request)
        cells, beside = cells + more, beside + others
    jobs = [*_baseline_jobs(bench, beside), *_jobs(bench, cells)]
    spread(jobs, report)
    book.told(group.collect(book))


def _jobs(bench: Bench, cells: Sequence[Cell]) -> Sequence[Callable[[], object]]:
    once: list[Cell] = []
    for cell in cells:
        if cell not in once:
            once.append(cell)
    parts = batches(range(bench.request.trials), bench.request.settings)
    return [partial(_train, bench, cell, part) for cell in once for part in parts]


def _baseline_jobs(
    bench: Bench, beside: Sequence[tuple[str, Cell]]
) -> Sequence[Callable[[], object]]:
    """Return the jobs of baselines, whole data first: they take longest."""
    once = {baseline_key(name, cell): (name, cell) for name, cell in beside}
    whole = [partial(_train_baseline, bench, *pair) for pair in once.values() if pair[0] == "whole"]
    parts = batches(range(bench.request.trials), bench.request.settings)
    return whole + [
        partial(_train_baseline, bench, *pair, part)
        for pair in once.values()
        for part in parts
        if pair[0] != "whole"
    ]


def _train(bench: Bench, cell: Cell, trials: Sequence[int]) -> None:
    bench.score(cell, only=trials)


def _train_baseline(
    bench: Bench, name: str, cell: Cell, trials: Sequence[int] | None = None
) -> None:
    bench.baseline(name, cell, only=trials)
