"""Small charts: positions are computed here, the SVG is drawn by a template that escapes."""

from collections.abc import Sequence
from dataclasses import dataclass

from distilset.errors import plain
from distilset.reporting.collect import Loss, Result, RunFacts
from distilset.reporting.scales import Scale, room, seconds_text, short, smoothed
from distilset.reporting.tables import Column

WIDTH, HEIGHT = 640.0, 300.0
LEFT, RIGHT, TOP, BOTTOM = 62.0, 34.0, 14.0, 46.0
MOST_POINTS = 300


@dataclass(frozen=True)
class Tick:
    """A mark on an axis, in picture units, with one or two lines of text."""

    at: float
    text: str
    below: str = ""


@dataclass(frozen=True)
class Dot:
    """A point with its uncertainty (upper and lower end, in picture units) and what it says."""

    x: float
    y: float
    low: float
    high: float
    says: str


@dataclass(frozen=True)
class Line:
    """A polyline as SVG points, its dots, its name and the number of its colour, from 0."""

    points: str
    name: str
    colour: int = 0
    kind: str = "line"
    dots: tuple[Dot, ...] = ()


@dataclass(frozen=True)
class Chart:
    """All that the template draws; ``says`` is the picture in words."""

    title: str
    says: str
    across: str
    up: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    lines: tuple[Line, ...]
    legend: bool = False
    width: float = WIDTH
    height: float = HEIGHT
    left: float = LEFT
    right: float = WIDTH - RIGHT
    top: float = TOP
    bottom: float = HEIGHT - BOTTOM


def loss_chart(run: RunFacts) -> Chart | None:
    """Draw the loss over the steps, with the time below; None where fewer than two are finite."""
    losses = [line for line in run.losses if line.loss is not None]
    values = [line.loss for line in losses if line.loss is not None]
    if len(values) < 2:
        return None
    log = min(values) > 0 and max(values) / min(values) > 20
    x = Scale(float(losses[0].step), float(losses[-1].step), LEFT, WIDTH - RIGHT)
    y = Scale(*room(values, log), HEIGHT - BOTTOM, TOP, log)
    steps = [float(line.step) for line in losses]
    trend = smoothed(values, max(1, len(values) // 40))
    title = f"Loss over time: {plain(run.name)}"
    return Chart(
        title=title,
        says=f"{title}. {len(values)} steps in {seconds_text(losses[-1].seconds)}; from "
        f"{short(trend[0])} to {short(trend[-1])}, smoothed.",
        across="step, and time",
        up="loss" + " (logarithmic)" * log,
        x_ticks=tuple(_step_tick(s, losses, x) for s in x.ticks(6) if s == int(s)),
        y_ticks=tuple(Tick(y(value), short(value)) for value in y.ticks()),
        lines=(
            Line(_points(x, y, steps, values), "each step", 0, "faint"),
            Line(_points(x, y, steps, trend), "smoothed", 0),
        ),
    )


def _step_tick(step: float, losses: Sequence[Loss], x: Scale) -> Tick:
    """Say the time at a step: of the line that is nearest."""
    nearest = min(losses, key=lambda line: abs(line.step - step))
    return Tick(x(step), f"{step:g}", seconds_text(nearest.seconds))


def _points(x: Scale, y: Scale, across: Sequence[float], up: Sequence[float]) -> str:
    """Join points, evenly thinned to `MOST_POINTS` and the last."""
    every = -(-len(across) // MOST_POINTS)
    kept = sorted({*range(0, len(across), every), len(across) - 1})
    return " ".join(f"{x(across[i])},{y(up[i])}" for i in kept)


def cost_charts(runs: Sequence[RunFacts], results: Sequence[Result]) -> list[Chart]:
    """Draw accuracy over the seconds of distilling: a chart for each way of training.

    Runs that were lengthened between two evaluations have a point for each; baselines and
    selections cost nothing and are lines across.
    """
    groups: dict[Column, list[Result]] = {}
    for result in [*results, *(r for run in runs for r in run.earlier)]:
        if not result.diverged:
            groups.setdefault(Column(tuple(result.setting.values())), []).append(result)
    by_name = {run.name: run for run in runs}
    charts = [_cost_chart(column, group, by_name) for column, group in groups.items()]
    return [chart for chart in charts if chart is not None]


def seconds_at(run: RunFacts, steps: int) -> float | None:
    """Return the seconds of distilling after ``steps``; None where nothing says it."""
    card = run.distilled.card
    if steps == card.steps:
        return card.seconds
    return next((line.seconds for line in run.losses if line.step == steps), None)


def _cost_chart(column: Column, group: Sequence[Result], runs: dict[str, RunFacts]) -> Chart | None:
    paid: dict[str, list[tuple[float, Result]]] = {}
    free = []
    for result in group:
        run = runs.get(result.name)
        if result.baseline or run is None or run.distilled.card.kind == "selection":
            free.append(result)
        elif (seconds := seconds_at(run, result.steps)) is not None:
            paid.setdefault(result.title, []).append((seconds, result))
    if not paid:
        return None
    most = max(seconds for points in paid.values() for seconds, _ in points)
    x = Scale(0.0, (most or 1.0) * 1.06, LEFT, WIDTH - RIGHT)
    ends = [e for r in group for e in (r.mean - r.std, r.mean + r.std)]
    low, high = room(ends)
    y = Scale(low, min(high, max(100.0, max(ends))), HEIGHT - BOTTOM, TOP)
    lines = [
        _paid_line(x, y, name, sorted(points, key=lambda p: p[0]), i)
        for i, (name, points) in enumerate(paid.items())
    ]
    lines += [_free_line(x, y, result, len(paid) + i) for i, result in enumerate(free)]
    title = f"Accuracy over cost: {plain(column.title)}"
    told = "; ".join(f"{plain(r.title)} {r.mean:.1f} %" for r in group)
    return Chart(
        title=title,
        says=f"{title}. {told}. Bars are one standard deviation.",
        across="seconds of distilling",
        up="accuracy, %",
        x_ticks=tuple(Tick(x(v), seconds_text(v)) for v in x.ticks(6)),
        y_ticks=tuple(Tick(y(v), short(v)) for v in y.ticks()),
        lines=tuple(lines),
        legend=True,
    )


def _paid_line(
    x: Scale, y: Scale, name: str, points: Sequence[tuple[float, Result]], colour: int
) -> Line:
    dots = tuple(
        Dot(x(s), y(r.mean), y(r.mean - r.std), y(r.mean + r.std),
            f"{plain(name)}: {r.mean:.2f} % after {seconds_text(s)}, {r.steps} steps")
        for s, r in points
    )  # fmt: skip
    return Line(" ".join(f"{d.x},{d.y}" for d in dots), plain(name), colour % 6, "line", dots)


def _free_line(x: Scale, y: Scale, result: Result, colour: int) -> Line:
    up = y(result.mean)
    points = f"{x.start},{up} {x.end},{up}"
    return Line(points, plain(result.name), colour % 6, "dashed")
