"""Rows of a study's file, checked before anything is made of them: who edits them is told.

Lines that are no rows are passed over when the file is read, and their jobs done again. A row that
is one, with values that are none, cannot be: its job counts as done.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from distilset.apps.folder import KEY, ROWS, AppFolder
from distilset.apps.reference import Known
from distilset.errors import DataError
from distilset.untrusted import MOST_SECONDS, accuracy_in, number_in

MOST = 2.0**53
"""Whole numbers up to this are exact as floats, too; bytes of images have some digits fewer."""

Text = Mapping[str, str]


def percent(row: Text, name: str) -> float:
    """Return an accuracy in per cent; NaN if the network diverged.

    Raises:
        ValueError: anything else.
    """
    return accuracy_in(_text(row, name))


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


def on_file(folder: AppFolder) -> dict[str, dict[str, str]]:
    """Return the rows of a search by their keys.

    Raises:
        DataError: a row that was damaged.
    """
    rows = folder.rows()
    check_rows(folder.path, rows, _check_training)
    return {row["key"]: row for row in rows}


def _check_training(row: Text) -> None:
    lost = [name for name in ("proxy", "member", "test", "source", "compute") if name not in row]
    if lost:
        raise ValueError(f"there is no column {lost[0]}")
    key = f"{row['proxy']} | {row['member']} | {count(row, 'trial', 0)}"
    if row["key"] != key:
        raise ValueError(f"it says {key}")
    count(row, "passes", 0)
    known_of(row)


def known_of(row: Text) -> Known:
    """Return what came of a training, from its row.

    Raises:
        ValueError: numbers that are none.
    """
    test = percent(row, "test") if row["test"] else None
    accuracy = percent(row, "accuracy")
    return Known(accuracy, test, seconds(row), row["compute"], row["source"])
