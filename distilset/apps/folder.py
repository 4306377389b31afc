"""The folder of an application: its settings, a row for each result, and jobs done once.

Several processes may work in one folder: every job has a lock, which the operating system takes
back from a process that dies, and rows are appended under another.
"""

import csv
import io
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from os import PathLike
from pathlib import Path
from shutil import rmtree
from typing import Any, TypeVar

from filelock import FileLock, Timeout

from distilset.cache import cache_folder
from distilset.config import Tables, differences, to_toml
from distilset.errors import ConfigError, DataError
from distilset.files import write_text
from distilset.plan import versions
from distilset.reporting.applications import (
    SETTINGS,
    SUMMARY,
    Summary,
    is_app,
    read_settings,
    write_summary,
)
from distilset.store import claim, refuse_used
from distilset.untrusted import MOST_ROWS, read_text

ROWS, TABLE = "rows.csv", "table.md"
WORK = "work"
"""The folder inside an application's for whatever else it keeps, such as distilled sets."""
PICTURES = ("plot*.png", "plot*.svg")
"""Names of plots; with `--overwrite` those of an earlier run are removed, and no others."""
KEY = "key"
WAIT_SECONDS = 0.5

T = TypeVar("T")
Row = Mapping[str, Any]
Progress = Callable[[int, int], None]
"""Called with the number of jobs done and their total."""


class AppFolder:
    """Where an application keeps its settings (``app.toml``) and its results (``rows.csv``).

    Args:
        path: the folder; made, unless it is there.
        kind: the application, e.g. ``continual``.
        settings: tables of everything that decides the rows; None states nothing.
        resume: go on with what is there, or start.
        overwrite: replace what an earlier run has written.
        may_change: settings (``section.key``) that may be others when a run is resumed.

    Raises:
        ConfigError: resumed with other settings, which are listed, or another application's folder.
        DataError: a folder in use that may not be written to, or a damaged ``app.toml``.
    """

    def __init__(
        self,
        path: str | PathLike[str],
        kind: str,
        settings: Tables,
        *,
        resume: bool = False,
        overwrite: bool = False,
        may_change: Sequence[str] = (),
    ) -> None:
        self.path, self.kind = Path(path), kind
        self.settings = _plain(settings)
        with FileLock(_lock(self.path, "open")):  # of two that start at once, one is the first
            self._open(resume, overwrite, may_change)

    def _open(self, resume: bool, overwrite: bool, may_change: Sequence[str]) -> None:
        old = read_settings(self.path) if resume and is_app(self.path) else None
        if old is None:
            check_free(self.path, resume=resume, overwrite=overwrite)
            self._clear(overwrite)
        else:
            self._check_same(old, may_change)
        tables = {"app": {"kind": self.kind}, **self.settings, "made": versions()}
        if old is None or {**old, "made": {}} != {**tables, "made": {}}:
            write_text(self.path / SETTINGS, to_toml(tables))

    def _clear(self, overwrite: bool) -> None:
        """Make the folder, and remove what an earlier run or application left in it."""
        earlier = is_app(self.path)
        claim(self.path, overwrite=overwrite)
        if not earlier:  # what lies there is not an application's
            return
        patterns = (ROWS, TABLE, SUMMARY, *PICTURES, SETTINGS)
        for path in [found for pattern in patterns for found in self.path.glob(pattern)]:
            path.unlink()
        rmtree(self.path / WORK, ignore_errors=True)

    def _check_same(self, old: Tables, may_change: Sequence[str]) -> None:
        kind = old["app"]["kind"]
        if kind != self.kind:
            raise ConfigError(f"{self.path} holds results of {kind}, not of {self.kind}")
        found = differences(old, self.settings, ignore=may_change)
        found += [
            f"{section}.{key}: {value!r} -> none"
            for section, values in old.items()
            for key, value in values.items()
            if section not in ("app", "made") and key not in self.settings.get(section, {})
        ]
        if found:
            raise ConfigError(
                f"{self.path} was made with other settings ({'; '.join(found)}); "
                "give the same to go on with it, or choose another folder"
            )

    @property
    def work(self) -> Path:
        """The folder for whatever else the application keeps."""
        return self.path / WORK

    def rows(self) -> list[dict[str, str]]:
        """Return the rows on file, values as text; lines that are damaged are passed over."""
        return read_rows(self.path)

    def done(self, key: str) -> bool:
        """Tell whether a job's rows are on file."""
        return any(row[KEY] == key for row in self.rows())

    def add(self, key: str, rows: Row | Sequence[Row]) -> None:
        """Append the row or rows of a job, all at once, unless the job has some on file.

        The file is replaced as a whole, under a lock: a kill damages nothing, and of two processes
        that append at once neither loses a row.
        """
        new = [rows] if isinstance(rows, Mapping) else list(rows)
        with FileLock(_lock(self.path, ROWS)):
            old = self.rows()
            if any(row[KEY] == key for row in old):
                return
            found = [*old, *({KEY: key, **row} for row in new)]
            write_text(self.path / ROWS, _csv_text(found))

    def finish(self, summary: Summary) -> None:
        """Write the table that reports show, and as Markdown beside it."""
        write_text(self.path / TABLE, summary.markdown())
        write_summary(self.path, summary)

    @contextmanager
    def taken(self, name: str) -> Iterator[bool]:
        """Hold the lock of a piece of work; gives False if another process holds it."""
        lock = FileLock(_lock(self.path, "job " + name))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            yield False
            return
        try:
            yield True
        finally:
            lock.release()


def run_jobs(
    folder: AppFolder,
    jobs: Sequence[tuple[str, T]],
    do: Callable[[T], Row | Sequence[Row]],
    progress: Progress | None = None,
) -> None:
    """Do the jobs whose rows are not on file, in order, and put their rows there.

    ``jobs`` are pairs of a key and whatever ``do`` takes. Other processes in the same folder do
    some of them; this returns when all are on file.
    """
    share(folder, jobs, folder.done, lambda key, job: folder.add(key, do(job)), progress)


def share(
    folder: AppFolder,
    jobs: Sequence[tuple[str, T]],
    done: Callable[[str], bool],
    do: Callable[[str, T], None],
    progress: Progress | None = None,
) -> None:
    """Do the jobs that are not ``done``, with whatever other processes work in the same folder.

    A job that another process is at is passed over, and looked at again at the end: should that
    process have died, it is done here.
    """
    waiting = [(key, job) for key, job in jobs if not done(key)]
    report = progress or (lambda done, total: None)
    report(len(jobs) - len(waiting), len(jobs))
    while waiting:
        left: list[tuple[str, T]] = []
        for number, (key, job) in enumerate(waiting, 1):
            with folder.taken(key) as ours:
                if ours and not done(key):
                    do(key, job)
                if not ours:
                    left.append((key, job))
            report(len(jobs) - len(waiting) + number - len(left), len(jobs))
        if len(left) == len(waiting):
            time.sleep(WAIT_SECONDS)
        waiting = left


def check_free(path: Path, *, resume: bool, overwrite: bool) -> None:
    """Raise a DataError if a folder holds something that may be neither resumed nor replaced.

    To be called before data are read, which may take long.
    """
    if not (resume and is_app(path)):
        refuse_used(path, overwrite=overwrite)


def read_rows(path: Path) -> list[dict[str, str]]:
    """Return the rows in an application's folder, values as text; damaged lines are left out."""
    file = path / ROWS
    if not file.is_file():
        return []
    try:
        text = read_text(file, MOST_ROWS, errors="replace")
        whole = text[: text.rfind("\n") + 1]  # a line without its end may have lost some of it
        reader = csv.DictReader(io.StringIO(whole, newline=""))
        rows = [row for row in reader if None not in row and None not in row.values()]
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"{file} is damaged: {error}; move it away or mend it") from None
    return [row for row in rows if row.get(KEY)]


def _csv_text(rows: Sequence[Row]) -> str:
    names = dict.fromkeys(name for row in rows for name in row if name != KEY)
    text = io.StringIO()
    writer = csv.DictWriter(text, [KEY, *names], restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _lock(path: Path, name: str) -> Path:
    """Return the file of a lock; in the folder it would be one more file of the results."""
    digest = blake2b(f"{path.resolve()}\n{name}".encode(), digest_size=16).hexdigest()
    return cache_folder("locks") / f"{digest}.lock"


def _plain(tables: Tables) -> dict[str, dict[str, Any]]:
    """Return tables as TOML gives them back: lists for tuples, nothing for None."""

    def plain(value: Any) -> Any:
        is_list = isinstance(value, Iterable) and not isinstance(value, str | Mapping)
        return list(value) if is_list else value

    return {
        section: {key: plain(value) for key, value in values.items() if value is not None}
        for section, values in tables.items()
    }
