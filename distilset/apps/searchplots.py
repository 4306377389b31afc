"""The pictures of a search: proxy against whole-data accuracy, and the correlations."""

from collections.abc import Sequence
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np

from distilset.apps.correlation import Correlation, best_of
from distilset.apps.findings import Finding, Trainings
from distilset.apps.plots import INK, colour, figure, marker, plain, save
from distilset.apps.trainings import WHOLE

SCATTER, BARS = "plot_accuracies", "plot_correlations"
COLUMNS = 3


def draw(
    folder: Path, trained: Sequence[Trainings], found: Sequence[Finding], split: str
) -> list[Path]:
    """Draw both pictures as PNG and SVG into a folder; return their paths."""
    proxies = [one for one in trained if one.proxy.name != WHOLE]
    reference = next(one.means for one in trained if one.proxy.name == WHOLE)
    scatter = _scatter(proxies, reference, found, split)
    bars = _bars([one for one in found if one.proxy.name != WHOLE])
    return [*save(scatter, folder, SCATTER), *save(bars, folder, BARS)]


def _scatter(
    proxies: Sequence[Trainings], reference: np.ndarray, found: Sequence[Finding], split: str
) -> Any:
    """Draw a panel for each proxy: every network a point, the best fifth and the pick marked."""
    columns = min(COLUMNS, len(proxies))
    rows = ceil(len(proxies) / columns)
    made, axes = figure(3.2 * columns, 3.1 * rows, rows, columns)
    top = set(best_of(reference).tolist())
    y = np.nan_to_num(reference)
    for number, (ax, one, finding) in enumerate(zip(axes.flat, proxies, found, strict=False)):
        x = np.nan_to_num(one.means)
        best = np.array([i in top for i in range(len(x))])
        ax.scatter(x[~best], y[~best], s=22, facecolors="none", edgecolors=colour(number))
        ax.scatter(x[best], y[best], s=26, color=colour(number), label="best fifth")
        pick = int(x.argmax())
        ax.scatter(
            x[pick], y[pick], s=90, marker="s", facecolors="none", edgecolors=INK, label="picked"
        )
        ax.set_title(f"{plain(one.proxy.name)}: Spearman {_text(finding.space)}", fontsize=9)
        ax.set_xlabel("accuracy after training on it, %", fontsize=9)
        ax.set_ylabel("after the whole data, %", fontsize=9)
    for ax in axes.flat[len(proxies) :]:
        ax.set_visible(False)
    axes.flat[0].legend(fontsize=8, frameon=False, loc="best")
    made.suptitle(f"Accuracy of {len(reference)} networks on the {split} part", fontsize=10)
    return made


def _bars(found: Sequence[Finding]) -> Any:
    """Draw Spearman's and Kendall's correlations with their intervals, proxies side by side."""
    groups = [
        (f"all {found[0].space.n} networks", [one.space for one in found]),
        (f"best fifth ({found[0].top.n})", [one.top for one in found]),
    ]
    made, axes = figure(7.2, 1.6 + 0.42 * len(found), 1, 2)
    for ax, (title, correlations) in zip(axes.flat, groups, strict=True):
        for number, one in enumerate(correlations):
            values = (one.spearman, one.spearman_low, one.spearman_high)
            _bar(ax, number - 0.12, values, colour(0), marker(0), "Spearman", number == 0)
            values = (one.kendall, one.kendall_low, one.kendall_high)
            _bar(ax, number + 0.12, values, colour(1), marker(1), "Kendall", number == 0)
        ax.axvline(0, color=INK, linewidth=0.8)
        ax.set_xlim(-1.05, 1.05)
        ax.set_ylim(len(found) - 0.5, -0.5)
        ax.set_yticks(range(len(found)), [plain(one.proxy.name) for one in found])
        ax.set_title(title, fontsize=9)
        ax.set_xlabel("rank correlation, 95 % interval", fontsize=9)
    axes.flat[1].set_yticklabels([])
    axes.flat[0].legend(fontsize=8, frameon=False, loc="best")
    return made


def _bar(
    ax: Any,
    at: float,
    values: tuple[float | None, float | None, float | None],
    ink: str,
    form: str,
    label: str,
    first: bool,
) -> None:
    value, low, high = values
    if value is None:
        return
    if low is not None and high is not None:
        ax.plot([low, high], [at, at], color=ink, linewidth=2, alpha=0.5)
    ax.plot([value], [at], form, color=ink, markersize=6, label=label if first else None)


def _text(correlation: Correlation) -> str:
    rho = correlation.spearman
    return "undefined" if rho is None else f"{rho:.2f}"
