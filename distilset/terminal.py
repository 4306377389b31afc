"""What the command line shows: plans, progress and tables. Builds them; `cli` prints them."""

import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from distilset.errors import plain

PLAIN_INTERVAL = 5.0
"""Seconds between two lines of progress where standard error is no terminal."""


class _Plain(Console):
    """A console to which text cannot send escape sequences: names come from anywhere."""

    def print(self, *objects: Any, **options: Any) -> None:
        """Print as `Console` does, and text on one line, without markup."""
        shown = (plain(thing) if isinstance(thing, str) else thing for thing in objects)
        super().print(*shown, **options)


def stderr() -> Console:
    """Return a console on standard error; long lines are wrapped only on a terminal."""
    return _Plain(stderr=True, soft_wrap=not sys.stderr.isatty(), highlight=False, emoji=False)


def stdout() -> Console:
    """Return a console on standard output; tables are not squeezed where it is no terminal."""
    wide = None if sys.stdout.isatty() else 200
    return _Plain(width=wide, highlight=False, emoji=False)


def plain_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> Table:
    """Build a table of strings, shown as they are: a class may be called ``[b]``."""
    table = Table(title=title or None, title_justify="left")
    rows = [[plain(cell) for cell in row] for row in rows]
    for i, column in enumerate(columns):
        numeric = bool(rows) and all(_is_number(row[i]) for row in rows)
        justify = "right" if numeric else "left"
        table.add_column(Text(plain(column)), justify=justify, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def _is_number(text: str) -> bool:
    return text.split(" ")[0].replace(".", "", 1).replace(",", "").isdigit()


def duration(seconds: float) -> str:
    """Write seconds as ``1:02:03``, ``2:03`` or ``0.42 s``."""
    if seconds < 10:
        return f"{seconds:.2f} s"
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def size(count: int) -> str:
    """Write a number of bytes as MB or GB."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


class Bar:
    """Progress of one long piece of work: a bar on a terminal, a line now and then elsewhere."""

    counts = True
    """Whether what is done and the total are shown as numbers, not as a share alone."""

    def __init__(self, console: Console, title: str, total: int, done: int = 0) -> None:
        self.console, self.title, self.total, self.first = console, plain(title), total, done
        self.started = self.told = time.monotonic()
        self.bar = _rich_bar(console, self.counts) if console.is_terminal else None
        if self.bar is not None:
            self.task = self.bar.add_task(self.title, total=total, completed=done, note="")
            self.bar.start()

    def update(self, done: int, note: str = "") -> None:
        """Say how much is done; ``note`` is shown beside it."""
        if self.bar is not None:
            self.bar.update(self.task, completed=done, total=self.total, note=note)
            return
        now = time.monotonic()
        if now - self.told >= PLAIN_INTERVAL or (done == self.total and done > self.first):
            self.told = now
            rate = (done - self.first) / max(now - self.started, 1e-9)
            left = f", {duration((self.total - done) / rate)} left" if rate > 0 else ""
            note = f", {note}" if note else ""
            count = f"{done}/{self.total}" if self.counts else f"{100 * done / self.total:.1f} %"
            self.console.print(f"{self.title}: {count}{note}{left}", markup=False)

    def close(self) -> None:
        """Stop drawing."""
        if self.bar is not None:
            self.bar.stop()


class ShareBar(Bar):
    """A bar of parts of unequal size: what is done is a share of ``TOTAL``, by their estimates.

    Its time left thus follows from how long the parts that are done took for their size.
    """

    counts = False
    TOTAL = 100_000


@contextmanager
def share_bar(console: Console, title: str) -> Iterator[Any]:
    """Give a ``progress(done, total, note)`` function that shows a bar from its first call on."""
    shown: list[ShareBar] = []

    def progress(done: float, total: float, note: str) -> None:
        share = round(ShareBar.TOTAL * done / total) if total else ShareBar.TOTAL
        if not shown:
            shown.append(ShareBar(console, title, ShareBar.TOTAL, share))
        shown[0].update(share, note)

    try:
        yield progress
    finally:
        for bar in shown:
            bar.close()


def _rich_bar(console: Console, counts: bool = True) -> Progress:
    numbers = [TextColumn("{task.completed}/{task.total}")] if counts else []
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        *numbers,
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", style="dim", markup=False),
        console=console,
    )


@contextmanager
def bar(console: Console, title: str, total: int, done: int = 0) -> Iterator[Bar]:
    """Show progress inside the block."""
    shown = Bar(console, title, total, done)
    try:
        yield shown
    finally:
        shown.close()


def counter(console: Console, title: str) -> Any:
    """Return a ``progress(done, total)`` function that shows a bar from its first call on."""
    shown: list[Bar] = []

    def progress(done: int, total: int) -> None:
        if not shown:
            shown.append(Bar(console, title, total))
        shown[0].update(done)
        if done >= total:
            shown[0].close()

    return progress


@contextmanager
def training_bars(console: Console) -> Iterator[Any]:
    """Give what `matrix` calls when a row begins: it shows a bar over all updates of the row."""
    shown: list[Bar] = []

    def close() -> None:
        while shown:
            shown.pop().close()

    def watch(title: str, networks: int) -> Any:
        close()

        def progress(trial: int, done: int, total: int) -> None:
            if not shown:
                shown.append(Bar(console, title, total * networks, trial * total))
            shown[0].update(trial * total + done, f"network {trial + 1} of {networks}")
            if done >= total and trial + 1 >= networks:
                close()

        return progress

    try:
        yield watch
    finally:
        close()


@contextmanager
def job_bars(console: Console, phases: Sequence[str]) -> Iterator[Any]:
    """Give a ``watch(what, done, total)``: a bar for each phase, beside it what else is told."""
    shown: list[tuple[str, Bar]] = []
    reached = [0]

    def watch(what: str, done: int, total: int) -> None:
        if what not in phases:
            shown[0][1].update(reached[0], f"{what}: step {done} of {total}")
            return
        if not shown or shown[0][0] != what:
            while shown:
                shown.pop()[1].close()
            shown.append((what, Bar(console, what, total, done)))
        reached[0] = done
        shown[0][1].update(done)

    try:
        yield watch
    finally:
        while shown:
            shown.pop()[1].close()


_USUAL = {"factor": 1, "labels": "hard", "augmentation": "dsa", "pixels": "float"}
"""Columns that are shown only where a row has something else."""


def score_table(scores: Sequence[Any]) -> Table:
    """Build the table of results."""
    columns = ("run", "method", "ipc", "network", "norm", "protocol", "epochs", "split")
    varied = [
        name for name, usual in _USUAL.items() if any(getattr(s, name) != usual for s in scores)
    ]
    rows = [
        (
            s.run,
            s.method,
            "all" if s.ipc is None else s.ipc,
            s.network,
            s.norm,
            s.protocol,
            s.epochs,
            s.split,
            *(getattr(s, name) for name in varied),
            s.trials,
            f"{s.accuracy_mean:.2f} ± {s.accuracy_std:.2f}",
            f"{s.seconds:.1f}",
        )
        for s in scores
    ]
    return plain_table("", (*columns, *varied, "networks", "accuracy %", "seconds"), rows)


def ranking_table(ranks: Sequence[Any]) -> Table:
    """Build the table of DD-Ranking's scores."""
    columns = ("run", "method", "ipc", "network", "norm", "protocol", "labels", "split", "n")
    rows = [
        (
            *(
                r.run,
                r.label,
                r.ipc,
                r.network,
                r.norm,
                r.protocol,
                r.labels,
                r.split,
                r.trials,
            ),
            *(f"{100 * value:.1f}" for value in (r.hlr, r.ior, r.lrs, r.ars)),
        )
        for r in ranks
    ]
    title = (
        "DD-Ranking's scores x100, at fixed protocol (DD-Ranking tunes the learning rate); "
        "mean of n networks each, 1 for the whole data"
    )
    return plain_table(title, (*columns, "HLR", "IOR", "LRS", "ARS"), rows)


def marked_table(scores: Any) -> Table:
    """Build the terminal's table of a `ScoreTable`: best bold, second-best underlined."""
    styles = {"": "", "best": "bold", "second": "underline"}
    heads = ("set", "method", "data", "ipc", *(column.title for column in scores.columns))
    table = Table()
    for i, head in enumerate(heads):
        table.add_column(Text(head), justify="right" if i > 2 else "left", overflow="fold")
    for row in scores.rows:
        cells = [Text("") if c is None else Text(c.text, styles[c.mark]) for c in row.cells]
        names = (row.name, row.method, row.dataset, row.ipc_text)
        table.add_row(*map(Text, names), *cells)
    return table
