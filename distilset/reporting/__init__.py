"""From finished runs to what people read: one table of scores, one HTML page."""

from distilset.reporting.collect import Result, RunFacts, all_results, read_run, read_runs
from distilset.reporting.formats import FORMATS, check_format, render
from distilset.reporting.page import Real, write_page
from distilset.reporting.tables import ScoreTable, tabulate
from distilset.reporting.writing import report

__all__ = [
    "FORMATS",
    "Real",
    "Result",
    "RunFacts",
    "ScoreTable",
    "all_results",
    "check_format",
    "read_run",
    "read_runs",
    "render",
    "report",
    "tabulate",
    "write_page",
]
