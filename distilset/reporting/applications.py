"""What applications leave in their folders, read for a report: settings, plots, a table."""

import base64
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from distilset.errors import DataError
from distilset.files import write_text
from distilset.store import CARD
from distilset.untrusted import MOST_JSON, MOST_TOML, parse_json, parse_toml, read_text

SETTINGS, SUMMARY = "app.toml", "summary.json"
PLOTS = "plot*.svg"


@dataclass(frozen=True)
class Summary:
    """An application's result as a reader sees it: a table of texts under a title.

    ``lede`` is a sentence above the table, ``caption`` says what its cells are. The first column
    names the row; the others are set to the right.

    Raises:
        ValueError: a row of another length than the heading, or what is not text.
    """

    title: str
    lede: str
    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def __post_init__(self) -> None:
        words = (self.title, self.lede, self.caption, *self.head)
        cells = (cell for row in self.rows for cell in row)
        if not all(isinstance(text, str) for text in (*words, *cells)):
            raise ValueError("a summary is made of text")
        if any(len(row) != len(self.head) for row in self.rows):
            raise ValueError(f"a row has another number of cells than the heading {self.head}")

    def markdown(self) -> str:
        """Write the table with its caption as Markdown."""
        rule = ("---", *["---:"] * (len(self.head) - 1))
        lines = [f"| {' | '.join(cells)} |" for cells in (self.head, rule, *self.rows)]
        return "\n".join([*lines, "", self.caption, ""])


@dataclass(frozen=True)
class AppFacts:
    """An application's folder: its kind, settings, summary, and plots as SVG by file name."""

    path: Path
    kind: str
    settings: Mapping[str, Mapping[str, Any]]
    summary: Summary
    plots: tuple[tuple[str, str], ...]

    @property
    def pictures(self) -> list[str]:
        """The plots as data URIs for images, in which no script can run."""
        packed = (base64.b64encode(text.encode("utf-8")).decode("ascii") for _, text in self.plots)
        return [f"data:image/svg+xml;base64,{text}" for text in packed]

    @property
    def shown_settings(self) -> list[tuple[str, list[tuple[str, str]]]]:
        """The tables of ``app.toml`` as texts."""
        tables = self.settings.items()
        return [(name, [(k, str(v)) for k, v in table.items()]) for name, table in tables]


def is_app(path: Path) -> bool:
    """Tell whether a folder is an application's."""
    return (path / SETTINGS).is_file() and not (path / CARD).is_file()


def read_settings(path: Path) -> dict[str, dict[str, Any]]:
    """Read ``app.toml``.

    Raises:
        DataError: if it is missing or damaged.
    """
    file = path / SETTINGS
    try:
        tables = parse_toml(read_text(file, MOST_TOML))
    except (OSError, ValueError) as error:
        raise DataError(f"{file} is damaged: {error}") from None
    whole = all(isinstance(table, dict) for table in tables.values())
    if not whole or not isinstance(tables.get("app", {}).get("kind"), str):
        raise DataError(f"{file} is damaged: it needs tables, and app.kind")
    return tables


def write_summary(path: Path, summary: Summary) -> None:
    """Write a summary into an application's folder."""
    write_text(path / SUMMARY, json.dumps(asdict(summary), indent=2, ensure_ascii=False) + "\n")


def read_application(path: Path) -> AppFacts:
    """Read an application's folder.

    Raises:
        DataError: if it has no results yet, or is damaged.
    """
    settings = read_settings(path)
    if not (path / SUMMARY).is_file():
        raise DataError(f"the study at {path} is not finished; finish it with --resume first")
    plots = tuple((p.name, _read_plot(p)) for p in sorted(path.glob(PLOTS)))
    return AppFacts(path, settings["app"]["kind"], settings, _read_summary(path / SUMMARY), plots)


def _read_plot(file: Path) -> str:
    try:
        return read_text(file, MOST_JSON)
    except (OSError, ValueError) as error:
        raise DataError(f"{file} is damaged: {error}") from None


def _read_summary(file: Path) -> Summary:
    try:
        found = parse_json(read_text(file, MOST_JSON))
        head, rows = tuple(found.pop("head")), tuple(tuple(row) for row in found.pop("rows"))
        return Summary(head=head, rows=rows, **found)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise DataError(f"{file} is damaged: {error!r}") from None
