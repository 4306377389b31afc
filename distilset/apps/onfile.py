"""Rows of a study's file, checked before anything is made of them: who edits them is told.

Lines that are no rows are passed over when the file is read, and their jobs done again. A row that
is one, with values that are none, cannot be: its job counts as done.
"""

from collections.abc import Callable, Mapping, Sequence
from math import isnan
from pathlib import Path

from distilset.apps.folder import KEY, ROWS
from distilset.errors import DataError
from distilset.untrusted import MOST_SECONDS, number_in

MOST = 2.0**53
"""Whole numbers up to this are exact as floats, too; bytes of images have some digits fewer."""

Text = Mapping[str, str]


def percent(row: Text, name: str) -> float:
    """Return an accuracy in per cent; NaN if the network diverged.

    Raises:
        ValueError: anything else.
    """
    value = float(_text(row, name))
    return value if isnan(value) else number_in(value)


def seconds(row: Text) -> float:
    """Return how long a job took.

    Raises:
        ValueError: anything that is no time.
    """
    return number_in(float(_text(row, "seconds")), high=MOST_SECONDS)


def count(row: Text, name: str, least: int = 1) -> int:
    """Return a whole number.

    Raises:
        ValueError: below ``least``, or no number.
    """
    value = int(_text(row, name))
    number_in(value, float(least), MOST)
    return value


def _text(row: Text, name: str) -> str:
    if name not in row:
        raise ValueError(f"there is no column {name}")
    return row[name]


def check_rows(path: Path, rows: Sequence[Text], check: Callable[[Text], None]) -> None:
    """Check every row of the study at ``path``.

    Raises:
        DataError: naming the first row of which ``check`` raises a ValueError.
    """
    for row in rows:
        try:
            check(row)
        except ValueError as error:
            raise damaged(path, row[KEY], str(error)) from None


def damaged(path: Path, key: str, why: str) -> DataError:
    """Build the error for a row, or a job's rows, that cannot be used."""
    return DataError(
        f"{path / ROWS} is damaged: {key[:200]!r} has other values than were written ({why:.200}); "
        "remove its lines and go on with --resume, which does that job again"
    )
