r"""A declared grid of settings, distilled and scored by the command line, within a budget of time.

    python benchmarks/study.py run CIFAR10 --grid benchmarks/grids/reproduction.toml \
        --stage norm-zca-ipc1 --minutes 60
    python benchmarks/study.py table --by norm zca power
    python benchmarks/study.py plot --by norm zca --out study.png

``run`` appends a line to the CSV for every cell (setting and seed) that it lacks; a cell is begun
only while minutes are left, and one that was interrupted goes on from its checkpoint. Choosing
between settings is done on a validation part of the training data (``split = "val"`` in the grid).
``table`` prints the mean accuracy of every setting over its seeds as Markdown, n and the spread
with it; ``plot`` draws the same. Both read only the CSV.
"""

import argparse
import csv
import itertools
import json
import platform
import statistics
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "study.csv"
WHAT = ("data", "method", "ipc", "norm", "zca", "power", "init", "network", "seed")
HOW = ("batch_real", "steps", "bank", "image_lr", "split", "val", "protocol", "trials")
SETTINGS = (*WHAT, *HOW)
SECONDS = ("distill_seconds", "evaluate_seconds")
ACCURACY = ("accuracies", "mean", "std")
MEASURED = (*SECONDS, *ACCURACY, "commit", "device", "threads", "precision")
POWERS = {
    "datadam": ("method.power",),
    "atom": ("method.spatial_power", "method.channel_power"),
}
"""The settings that a power is, for each method that has one."""

Cell = dict[str, str]


def cells(grid: dict, stages: Sequence[str], data: str) -> Iterator[Cell]:
    """Yield the cells of the stages, as the CSV has them; each once."""
    known = [stage["name"] for stage in grid["stage"]]
    if unknown := set(stages) - set(known):
        raise SystemExit(f"unknown stages {sorted(unknown)}; the grid has {known}")
    seen = set()
    for stage in grid["stage"]:
        if stages and stage["name"] not in stages:
            continue
        axes = {key: value for key, value in {**grid["common"], **stage}.items() if key != "name"}
        lists = [value if isinstance(value, list) else [value] for value in axes.values()]
        for values in itertools.product(*lists):
            cell = _cell(dict(zip(axes, values, strict=True)), data)
            if tuple(cell.values()) not in seen:
                seen.add(tuple(cell.values()))
                yield cell


def _cell(values: dict, data: str) -> Cell:
    values = {"data": data} | {name: value for name, value in values.items() if name != "like"}
    if values["method"] not in POWERS:
        values["power"] = ""  # dm has none: one cell for all powers
    if wrong := set(values) ^ set(SETTINGS):
        raise SystemExit(f"a cell of the grid needs exactly {SETTINGS}; wrong: {sorted(wrong)}")
    return {name: _text(values[name]) for name in SETTINGS}


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def rows_of(path: Path) -> list[Cell]:
    """Return the lines of the CSV; none if there is no file yet."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def append(path: Path, row: Cell) -> None:
    """Add a line to the CSV."""
    new = not path.exists()
    with path.open("a", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [*SETTINGS, *MEASURED], lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerow(row)


def distilset(*words: str) -> tuple[str, float]:
    """Run one command of the command line; return its output and its seconds."""
    print("$ distilset", *words, file=sys.stderr, flush=True)
    start = time.perf_counter()
    command = [sys.executable, "-m", "distilset", *words]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout, time.perf_counter() - start


def distilling(cell: Cell, data: str, like: str | None, out: Path) -> list[str]:
    """Return the words of the command that distils a cell."""
    words = ["distill", data, "--out", str(out), "--resume"]
    words += ["--like", like] if like else []
    words += ["--val", cell["val"]] if cell["split"] == "val" else []
    words += ["--zca" if cell["zca"] == "true" else "--no-zca"]
    for name in ("method", "ipc", "norm", "init", "batch_real", "steps", "bank", "network", "seed"):
        words += ["--" + name.replace("_", "-"), cell[name]]
    words += ["--set", f"distill.image_lr={cell['image_lr']}"]
    for setting in POWERS.get(cell["method"], ()):
        words += ["--set", f"{setting}={cell['power']}"]
    return words


def measure(cell: Cell, data: str, like: str | None, out: Path) -> Cell:
    """Distil and score one cell; return its line."""
    _, distilled = distilset(*distilling(cell, data, like, out))
    words = ["--split", cell["split"], "--protocol", cell["protocol"], "--trials", cell["trials"]]
    printed, _ = distilset("evaluate", str(out), *words, "--json")
    (row,) = json.loads(printed)["rows"]
    card = json.loads((out / "distilled.json").read_text("utf-8"))
    accuracies = row["accuracies"]
    measured = {
        "distill_seconds": f"{distilled:.0f}",
        "evaluate_seconds": f"{row['seconds']:.0f}",
        "accuracies": " ".join(f"{value:.2f}" for value in accuracies),
        "mean": f"{statistics.fmean(accuracies):.2f}",
        "std": f"{statistics.pstdev(accuracies):.2f}",
        "commit": commit(),
        "device": f"{card['device']} {platform.machine()}",
        "threads": _threads(),
        "precision": card["precision"],
    }
    return cell | measured


def _threads() -> str:
    import torch

    return str(torch.get_num_threads())


def commit() -> str:
    """Return the commit of the program, marked where files were changed since."""
    command = ["git", "-C", str(HERE), "describe", "--always", "--dirty", "--exclude", "*"]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.stdout.strip() or "unknown"


def run(arguments: argparse.Namespace) -> None:
    """Measure what the CSV lacks, while minutes are left."""
    grid = tomllib.loads(arguments.grid.read_text("utf-8"))
    like, start = grid["common"].get("like"), time.perf_counter()
    name = like or Path(arguments.data).name
    wanted = list(cells(grid, arguments.stage, name))
    known = {tuple(row[key] for key in SETTINGS) for row in rows_of(arguments.csv)}
    missing = [cell for cell in wanted if tuple(cell.values()) not in known]
    print(f"{len(wanted)} cells, {len(missing)} to do", file=sys.stderr)
    for done, cell in enumerate(missing):
        if (time.perf_counter() - start) / 60 > arguments.minutes:
            print(f"time is up: {len(missing) - done} cells are left", file=sys.stderr)
            return
        folder = "-".join(cell[key].replace("/", "_") or "none" for key in SETTINGS)
        append(arguments.csv, measure(cell, arguments.data, like, arguments.out / folder))


Settings = tuple[tuple[str, str], ...]


def grouped(rows: Sequence[Cell], where: Sequence[str]) -> dict[Settings, list[float]]:
    """Return the accuracies of every setting over its seeds: the mean of each seed's networks."""
    for condition in where:
        name, _, value = condition.partition("=")
        if name not in SETTINGS:
            raise SystemExit(f"unknown setting {name!r}; known are {SETTINGS}")
        rows = [row for row in rows if row[name] == value]
    groups: dict[Settings, list[float]] = {}
    for row in rows:
        key = tuple((name, row[name]) for name in SETTINGS if name != "seed")
        groups.setdefault(key, []).append(float(row["mean"]))
    return groups


def varying(groups: dict[Settings, list[float]], by: Sequence[str]) -> list[str]:
    """Return the settings that tell the groups apart; those of ``by`` first, in their order."""
    values = {name: {dict(key)[name] for key in groups} for name in SETTINGS if name != "seed"}
    return [*by, *(name for name in values if name not in by and len(values[name]) > 1)]


def shown(values: Sequence[float]) -> str:
    """Return mean, spread over sets where there are several, and n."""
    if len(values) == 1:
        return f"{values[0]:.1f} (n = 1)"
    spread = statistics.stdev(values)
    return f"{statistics.fmean(values):.1f} ± {spread:.1f} (n = {len(values)})"


def table(arguments: argparse.Namespace) -> None:
    """Print a line for every setting: what tells it apart, and its accuracy."""
    groups = grouped(rows_of(arguments.csv), arguments.where)
    names = varying(groups, arguments.by)
    print("| " + " | ".join([*names, "accuracy"]) + " |")
    print("|" + "---|" * (len(names) + 1))
    for key, values in sorted(groups.items()):
        setting = dict(key)
        print("| " + " | ".join([*(setting[name] for name in names), shown(values)]) + " |")


def plot(arguments: argparse.Namespace) -> None:
    """Draw a bar for every setting, sorted."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    groups = grouped(rows_of(arguments.csv), arguments.where)
    names = varying(groups, arguments.by)
    bars = sorted((statistics.fmean(values), key, values) for key, values in groups.items())
    figure, axes = pyplot.subplots(figsize=(8, 1 + 0.28 * len(bars)), layout="constrained")
    labels = [", ".join(f"{name} {dict(key)[name]}" for name in names) for _, key, _ in bars]
    axes.barh(range(len(bars)), [mean for mean, _, _ in bars], color="#2a7f7f")
    for height, (_, _, values) in enumerate(bars):
        axes.plot(values, [height] * len(values), "k|")
    axes.set_yticks(range(len(bars)), labels, fontsize=7)
    axes.set_xlabel("accuracy (%); ticks are single sets")
    figure.savefig(arguments.out, dpi=150)


def main() -> None:
    """Read the command line and do what it says."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])  # type: ignore[union-attr]
    parser.add_argument("--csv", type=Path, default=RESULTS)
    does = parser.add_subparsers(required=True)
    running = does.add_parser("run")
    running.add_argument("data")
    running.add_argument("--grid", type=Path, default=HERE / "grids" / "reproduction.toml")
    running.add_argument("--stage", nargs="+", default=[], help="only these stages")
    running.add_argument("--minutes", type=float, default=float("inf"))
    running.add_argument("--out", type=Path, default=Path("runs/study"))
    running.set_defaults(do=run)
    for function in (table, plot):
        reading = does.add_parser(function.__name__)
        reading.add_argument("--by", nargs="+", default=[], help="settings to name first")
        reading.add_argument("--where", nargs="+", default=[], metavar="SETTING=VALUE")
        reading.set_defaults(do=function)
        if function is plot:
            reading.add_argument("--out", type=Path, default=Path("study.png"))
    arguments = parser.parse_args()
    arguments.do(arguments)


if __name__ == "__main__":
    main()
