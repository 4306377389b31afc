"""From the rows of a continual-learning study to its curves, table and plot."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from distilset.apps.onfile import check_rows, count, damaged, percent
from distilset.apps.plots import colour, figure, marker, plain, save
from distilset.reporting.applications import Summary

PLOT = "plot-accuracy"

Order = dict[int, dict[int, Mapping[str, str]]]
"""The rows of one order of the classes, by task and trial."""


@dataclass(frozen=True)
class Spread:
    """Accuracies in per cent of all orders and trials, and how they spread (ddof 0).

    ``values`` has a tuple of trials for each order. ``std`` is over all of them,
    ``std_orders`` over the orders' means, ``std_trials`` within an order: with as many trials in
    every order the squares of the latter two add up to that of the first. A network that diverged
    has NaN, and then so have they all.
    """

    values: tuple[tuple[float, ...], ...]

    @property
    def all(self) -> np.ndarray:
        """All accuracies."""
        return np.array([value for order in self.values for value in order])

    @property
    def n(self) -> int:
        """The number of networks."""
        return len(self.all)

    @property
    def mean(self) -> float:
        """The mean of all."""
        return float(self.all.mean())

    @property
    def std(self) -> float:
        """The spread of all."""
        return float(self.all.std())

    @property
    def std_orders(self) -> float:
        """The spread of the orders' means."""
        return float(np.std([np.mean(order) for order in self.values]))

    @property
    def std_trials(self) -> float:
        """The spread of trials around their order's mean."""
        around = [value - np.mean(order) for order in self.values for value in order]
        return float(np.sqrt(np.mean(np.square(around))))

    @property
    def text(self) -> str:
        """``mean ± std (n)``, or how many diverged."""
        diverged = int(np.isnan(self.all).sum())
        if diverged:
            return f"diverged ({diverged} of {self.n})"
        spread = f" ± {self.std:.2f}" if self.n > 1 else ""
        return f"{self.mean:.2f}{spread} ({self.n})"

    def facts(self) -> dict[str, Any]:
        """Return the numbers, fit for JSON: None for NaN."""
        numbers = {
            name: value if math.isfinite(value := getattr(self, name)) else None
            for name in ("mean", "std", "std_orders", "std_trials")
        }
        values = [[v if math.isfinite(v) else None for v in order] for order in self.values]
        return {"n": self.n, "orders": len(self.values), **numbers, "values": values}


@dataclass(frozen=True)
class Point:
    """What a method has reached after a task: the classes seen, its memory, its accuracy."""

    task: int
    seen: int
    images: int
    bytes: int
    accuracy: Spread


@dataclass(frozen=True)
class Curve:
    """A method's accuracy after every task.

    ``average`` is the average incremental accuracy: of each order and trial, the mean over tasks.
    """

    method: str
    points: tuple[Point, ...]

    @property
    def average(self) -> Spread:
        """The mean over tasks of each order and trial."""
        stacked = [point.accuracy.values for point in self.points]
        return Spread(
            tuple(
                tuple(sum(values) / len(values) for values in zip(*trials, strict=True))
                for trials in zip(*stacked, strict=True)
            )
        )

    def facts(self) -> list[dict[str, Any]]:
        """Return a row for each task, fit for JSON."""
        return [
            {
                "method": self.method,
                "task": point.task,
                "seen": point.seen,
                "images": point.images,
                "bytes": point.bytes,
                **point.accuracy.facts(),
            }
            for point in self.points
        ]


def curves(rows: Sequence[Mapping[str, str]], tasks: int) -> list[Curve]:
    """Return a curve for each method, in the order in which they come in ``rows``.

    Orders that do not have all their tasks yet are left out, and rows damaged by hand.
    """
    found: dict[str, dict[int, Order]] = {}
    for row in rows:
        if _whole(row):
            order = found.setdefault(row["method"], {}).setdefault(int(row["order"]), {})
            order.setdefault(int(row["task"]), {}).setdefault(int(row["trial"]), row)
    whole = {
        method: [order for _, order in sorted(orders.items()) if _complete(order, tasks)]
        for method, orders in found.items()
    }
    return [
        Curve(method, tuple(_point(task, orders) for task in range(1, tasks + 1)))
        for method, orders in whole.items()
        if orders
    ]


def check_jobs(
    path: Path, rows: Sequence[Mapping[str, str]], jobs: Sequence[str], trials: int
) -> None:
    """Check those of ``jobs`` that are on file in the study at ``path``: whole rows, one a trial.

    Raises:
        DataError: naming the first job whose rows are damaged.
    """
    wanted = {key: set[int]() for key in jobs}
    rows = [row for row in rows if row["key"] in wanted]
    check_rows(path, rows, _check)
    for row in rows:
        wanted[row["key"]].add(int(row["trial"]))
    numbers = set(range(1, trials + 1))
    for key in {row["key"]: None for row in rows}:
        if wanted[key] != numbers:
            raise damaged(path, key, f"it needs a row for each of {trials} trials")


def _check(row: Mapping[str, str]) -> None:
    percent(row, "accuracy")
    order, task, _ = (count(row, name) for name in ("order", "task", "trial"))
    for name in ("seen", "images", "bytes"):
        count(row, name)
    key = f"order {order}, {row.get('method')}, task {task}"
    if row.get("key", key) != key:
        raise ValueError(f"it says {key}")


def _whole(row: Mapping[str, str]) -> bool:
    try:
        _check(row)
        return "method" in row
    except ValueError:
        return False


def _complete(order: Order, tasks: int) -> bool:
    """Tell whether an order has all its tasks, and the same networks after each."""
    same = len({frozenset(trials) for trials in order.values()}) == 1
    return same and set(order) == set(range(1, tasks + 1))


def _point(task: int, orders: Sequence[Order]) -> Point:
    networks = [[row for _, row in sorted(order[task].items())] for order in orders]
    first = networks[0][0]
    values = tuple(tuple(float(row["accuracy"]) for row in order) for order in networks)
    seen, images, size = (int(first[name]) for name in ("seen", "images", "bytes"))
    return Point(task, seen, images, size, Spread(values))


def summarise(found: Sequence[Curve], settings: Mapping[str, Mapping[str, Any]]) -> Summary:
    """Put the curves into the table that reports show."""
    asked, data = settings["continual"], settings["data"]
    last = found[0].points[-1]
    head = [f"after {point.seen} classes" for point in found[0].points]
    rows = [
        (
            curve.method,
            *(point.accuracy.text for point in curve.points),
            curve.average.text,
            *_parts(curve.average),
        )
        for curve in found
    ]
    return Summary(
        title=f"Continual learning on {data['name']}: {len(head)} tasks",
        lede=(
            "Classes arrive task by task; after each task a fresh network is trained on the memory "
            f"alone, {asked['ipc']} images per class, and scored on the {asked['split']} images of "
            f"the classes seen so far. The memory ends at {last.images} images, {last.bytes:,} "
            "bytes at 8 bits a channel."
        ),
        caption=(
            "Accuracy in %, mean ± std (n) over class orders and, within each, networks; average: "
            "the mean over tasks, with the part of its spread that is between orders and the part "
            f"that is between networks. Protocol {asked['protocol']}, images per class: "
            f"{asked['ipc']}."
        ),
        head=("method", *head, "average", "std of orders", "std of networks"),
        rows=tuple(rows),
    )


def _parts(average: Spread) -> tuple[str, str]:
    """Return the two parts of a spread as text; a dash where there is but one to spread."""
    orders, trials = len(average.values), max(len(order) for order in average.values)
    between = f"{average.std_orders:.2f}" if orders > 1 else "–"
    return between, f"{average.std_trials:.2f}" if trials > 1 else "–"


def plot(found: Sequence[Curve], folder: Path) -> None:
    """Draw accuracy over classes seen, a line for each method with a band of one std."""
    drawn, axes = figure()
    ax = axes[0, 0]
    for number, curve in enumerate(found):
        seen = [point.seen for point in curve.points]
        mean = np.array([point.accuracy.mean for point in curve.points])
        std = np.array([point.accuracy.std for point in curve.points])
        tone = colour(number)
        ax.fill_between(seen, mean - std, mean + std, color=tone, alpha=0.18, linewidth=0)
        ax.plot(seen, mean, color=tone, marker=marker(number), label=plain(curve.method))
    ax.set_xticks([point.seen for point in found[0].points])
    ax.set_xlabel("classes seen")
    ax.set_ylabel("accuracy on them, %")
    ax.legend(frameon=False)
    save(drawn, folder, PLOT)
