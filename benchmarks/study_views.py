"""What a study's CSV says: a table in Markdown, bars, accuracy against seconds or steps."""

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from study_cells import SETTINGS, Cell, free

ACROSS = ("distill_seconds", "steps")
"""What accuracy may be drawn against."""
SETS = tuple(name for name in SETTINGS if name != "seed")

Settings = tuple[tuple[str, str], ...]
Groups = dict[Settings, list[Cell]]
Lines = dict[Settings, list[tuple[float, list[float]]]]


def grouped(rows: Sequence[Cell], where: Sequence[str]) -> Groups:
    """Return the lines of every setting: one for each of its seeds."""
    for condition in where:
        name, _, value = condition.partition("=")
        if name not in SETTINGS:
            raise SystemExit(f"unknown setting {name!r}; known are {SETTINGS}")
        value = free(value) if name == "set" else value
        rows = [row for row in rows if row[name] == value]
    groups: Groups = {}
    for row in rows:
        groups.setdefault(tuple((name, row[name]) for name in SETS), []).append(row)
    if not groups:
        raise SystemExit(f"the CSV has no line where {' '.join(where) or 'anything'}")
    return groups


def accuracies(rows: Sequence[Cell]) -> list[float]:
    """Return the accuracy of every seed: the mean of its networks."""
    return [float(row["mean"]) for row in rows]


def seconds(rows: Sequence[Cell]) -> float:
    """Return the seconds that distilling took: the median over the seeds."""
    return statistics.median(float(row["distill_seconds"]) for row in rows)


def varying(groups: Sequence[Settings] | Groups, by: Sequence[str]) -> list[str]:
    """Return the settings that tell the groups apart; those of ``by`` first, in their order."""
    if unknown := [name for name in by if name not in SETS]:
        raise SystemExit(f"--by takes {SETS}; got {unknown}")
    settings = [dict(key) for key in groups]
    apart = [name for name in SETS if len({setting.get(name) for setting in settings}) > 1]
    return [*by, *(name for name in apart if name not in by)]


def shown(values: Sequence[float]) -> str:
    """Return mean, spread over sets where there are several, and n."""
    if len(values) == 1:
        return f"{values[0]:.1f} (n = 1)"
    spread = statistics.stdev(values)
    return f"{statistics.fmean(values):.1f} ± {spread:.1f} (n = {len(values)})"


def table(groups: Groups, by: Sequence[str], with_seconds: bool) -> str:
    """Return a line for every setting: what tells it apart, its accuracy, its seconds."""
    names = varying(groups, by)
    lines = [[*names, "accuracy", *(["seconds"] if with_seconds else [])]]
    lines.append(["---"] * len(lines[0]))
    for key, rows in sorted(groups.items()):
        setting = dict(key)
        line = [*(setting[name] for name in names), shown(accuracies(rows))]
        lines.append([*line, *([f"{seconds(rows):.0f}"] if with_seconds else [])])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def label(key: Settings, names: Sequence[str]) -> str:
    """Return what a legend calls a setting; free settings have names of their own."""
    setting = dict(key)
    words = (
        setting["set"] or "no set" if name == "set" else _named(setting, name) for name in names
    )
    return ", ".join(words)


def _named(setting: Cell, name: str) -> str:
    return f"{name} {setting[name] or 'none'}"


def lines_of(groups: Groups, across: str) -> Lines:
    """Return the points of every line: settings that differ in steps alone are one line's."""
    lines: Lines = {}
    for key, rows in groups.items():
        line = tuple((name, value) for name, value in key if name != "steps")
        x = seconds(rows) if across == "distill_seconds" else float(dict(key)["steps"])
        lines.setdefault(line, []).append((x, accuracies(rows)))
    return {line: sorted(points) for line, points in lines.items()}


def plot(groups: Groups, by: Sequence[str], across: str | None, out: Path) -> None:
    """Draw bars, or lines against seconds or steps."""
    import matplotlib

    matplotlib.use("Agg")
    figure = _bars(groups, by) if across is None else _lines(groups, by, across)
    figure.savefig(out, dpi=150)


def _bars(groups: Groups, by: Sequence[str]) -> Any:
    from matplotlib import pyplot

    names = varying(groups, by)
    settings = {key: accuracies(rows) for key, rows in groups.items()}
    bars = sorted((statistics.fmean(values), key, values) for key, values in settings.items())
    figure, axes = pyplot.subplots(figsize=(8, 1 + 0.28 * len(bars)), layout="constrained")
    axes.barh(range(len(bars)), [mean for mean, _, _ in bars], color="#2a7f7f")
    for height, (_, _, values) in enumerate(bars):
        axes.plot(values, [height] * len(values), "k|")
    axes.set_yticks(range(len(bars)), [label(key, names) for _, key, _ in bars], fontsize=7)
    axes.set_xlabel("accuracy (%); ticks are single sets")
    return figure


def _lines(groups: Groups, by: Sequence[str], across: str) -> Any:
    from matplotlib import pyplot

    lines = lines_of(groups, across)
    names = [name for name in varying(list(lines), by) if name != "steps"]
    figure, axes = pyplot.subplots(figsize=(9, 5), layout="constrained")
    for key, points in lines.items():
        x = [at for at, _ in points]
        mean = [statistics.fmean(values) for _, values in points]
        spread = [statistics.stdev(values) if len(values) > 1 else 0.0 for _, values in points]
        axes.errorbar(x, mean, yerr=spread, marker="o", capsize=3, label=label(key, names))
    nothing = any(at == 0 for points in lines.values() for at, _ in points)
    axes.set_xscale("symlog" if nothing else "log")  # no step at all has no logarithm
    axes.set_xlabel("steps" if across == "steps" else "seconds of distilling (median)")
    axes.set_ylabel("accuracy (%); bars are the spread over seeds")
    if names:
        figure.legend(loc="outside right upper", fontsize=7)
    return figure
