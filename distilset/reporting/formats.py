"""The table of scores as text: Markdown, CSV, LaTeX, and cells for the terminal."""

import csv
import io
import re
from collections.abc import Callable, Mapping

from distilset.errors import unknown_name
from distilset.evaluation.book import unrisky
from distilset.reporting.marking import RULE
from distilset.reporting.tables import Cell, Row, ScoreTable

HEAD = ("set", "method", "data", "ipc")


def names(row: Row) -> tuple[str, str, str, str]:
    """Return what stands before a row's cells."""
    return row.name, row.method, row.dataset, row.ipc_text


def markdown(table: ScoreTable) -> str:
    """Write a Markdown table: best bold, second-best underlined, the rule below."""
    head = [*HEAD, *(column.title for column in table.columns)]
    lines = ["| " + " | ".join(map(_markdown, head)) + " |"]
    lines.append("|" + "---|" * 3 + "---:|" * (len(head) - 3))
    styles = {"": "{}", "best": "**{}**", "second": "<ins>{}</ins>"}
    for row in table.rows:
        cells = [_styled(cell, styles, _markdown) for cell in row.cells]
        lines.append("| " + " | ".join([*map(_markdown, names(row)), *cells]) + " |")
    return "\n".join([*lines, "", f"Accuracy in %, mean ± std (n). {RULE}", ""])


def _markdown(text: str) -> str:
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_{}\[\]#|~!])", r"\\\1", text)


def latex(table: ScoreTable) -> str:
    """Write a LaTeX tabular for booktabs: best bold, second-best underlined, the rule below."""
    heads = [*HEAD, *(column.title for column in table.columns)]
    lines = [
        r"% needs \usepackage{booktabs}",
        r"\begin{tabular}{lllr" + "r" * len(table.columns) + "}",
        r"\toprule",
        " & ".join(map(_latex, heads)) + r" \\",
        r"\midrule",
    ]
    styles = {"": "{}", "best": r"\textbf{{{}}}", "second": r"\underline{{{}}}"}
    for row in table.rows:
        cells = [_styled(cell, styles, _latex) for cell in row.cells]
        lines.append(" & ".join([*map(_latex, names(row)), *cells]) + r" \\")
    note = "% " + RULE
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", note, ""])


_LATEX: Mapping[str, str] = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    **{char: "\\" + char for char in "&%$#_{}"},
}


def _latex(text: str) -> str:
    return "".join(_LATEX.get(char, char) for char in text)


def _styled(cell: Cell | None, styles: Mapping[str, str], escape: Callable[[str], str]) -> str:
    return "" if cell is None else styles[cell.mark].format(escape(cell.text))


def comma_separated(table: ScoreTable) -> str:
    """Write CSV with mean, std, n, diverged, seconds and mark of every column, unrounded."""
    parts = ("mean", "std", "n", "diverged", "seconds", "mark")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    titles = (unrisky(f"{c.title}: {p}") for c in table.columns for p in parts)
    writer.writerow([*HEAD, *titles])
    for row in table.rows:
        values = [value for cell in row.cells for value in _numbers(cell)]
        writer.writerow([*map(unrisky, names(row)), *values])
    return text.getvalue()


def _numbers(cell: Cell | None) -> tuple[object, ...]:
    if cell is None:
        return ("",) * 6
    result, whole = cell.result, not cell.result.diverged
    mean, std = (f"{result.mean:.4f}", f"{result.std:.4f}") if whole else ("", "")
    n = len(result.accuracies)
    return mean, std, n, result.diverged, f"{result.seconds:.3f}", cell.mark


FORMATS: Mapping[str, Callable[[ScoreTable], str]] = {
    "markdown": markdown,
    "csv": comma_separated,
    "latex": latex,
}


def check_format(form: str) -> None:
    """Raise a ConfigError unless a table can be had in this form."""
    if form != "terminal" and form not in FORMATS:
        raise unknown_name("format", form, ("terminal", *FORMATS))


def render(table: ScoreTable, form: str) -> str:
    """Write a table in one of `FORMATS`."""
    return FORMATS[form](table)
