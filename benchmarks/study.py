r"""A declared grid of settings, distilled and scored by the command line, within a budget of time.

    python benchmarks/study.py run CIFAR10 --grid benchmarks/grids/reproduction.toml \
        --stage norm-zca-ipc1 --minutes 60
    python benchmarks/study.py table --by norm zca power
    python benchmarks/study.py plot --by norm zca --out study.png
    python benchmarks/study.py plot --by factor set --x distill_seconds --where ipc=10

``run`` appends a line to the CSV for every cell (setting and seed) that it lacks; a cell is begun
only while minutes are left, and one that was interrupted goes on from its checkpoint. A cell that
fails is told of, left out, and begun again by the next ``run``; the exit code is 1 then.
``run --list`` prints what is lacking. Choosing between settings is done on a validation part of the
training data (``val`` is its share, and sets do not see it; 0 is none), ``split`` says which part
scores: a set that was scored on the one can be scored on the other. ``table`` prints the mean
accuracy of every setting over its seeds as Markdown, n and the spread with it; ``plot`` draws the
same, ``plot --x`` against seconds or steps. Both read only the CSV.

``judge`` in a grid is the network that scores, if not the one that distilled; sets that are scored
in several ways are distilled once. ``set`` has free settings, as ``distilset distill --set`` takes
them: a text of one or more ``section.key=value`` is one value, a list of texts an axis.
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import study_views
from study_cells import POWERS, SETTINGS, Cell, append, cells, folder, rows_of, told

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "study.csv"
FLAGS = ("method", "ipc", "factor", "norm", "init", "batch_real", "steps", "bank", "network")
FLAGS += ("seed",)
"""The settings that are flags of ``distilset distill``."""
INTERRUPTED = 130
"""The exit code of a command that somebody stopped."""


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
    words += ["--val", cell["val"]] if float(cell["val"]) else []
    words += ["--zca" if cell["zca"] == "true" else "--no-zca"]
    for name in FLAGS:
        words += ["--" + name.replace("_", "-"), cell[name]]
    words += ["--set", f"distill.image_lr={cell['image_lr']}"]
    for setting in POWERS.get(cell["method"], ()):
        words += ["--set", f"{setting}={cell['power']}"]
    for pair in cell["set"].split():
        words += ["--set", pair]
    return words


def distil(words: list[str], out: Path) -> float:
    """Distil, or find what another cell has left; return the seconds that it took."""
    noted = out.with_name(f"{out.name}.seconds")
    if not noted.exists():
        _, seconds = distilset(*words)
        noted.write_text(f"{seconds:.1f}\n", "utf-8")
    return float(noted.read_text("utf-8"))


def measure(cell: Cell, data: str, like: str | None, out: Path) -> Cell:
    """Distil and score one cell; return its line."""
    distilled = distil(distilling(cell, data, like, out), out)
    words = ["--split", cell["split"], "--protocol", cell["protocol"], "--trials", cell["trials"]]
    words += ["--network", cell["judge"]] if cell["judge"] else []
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


def run(arguments: argparse.Namespace) -> int:
    """Measure what the CSV lacks, while minutes are left; return 1 where a cell failed."""
    grid = tomllib.loads(arguments.grid.read_text("utf-8"))
    name = grid["common"].get("like") or Path(arguments.data).name
    wanted = list(cells(grid, arguments.stage, name))
    known = {tuple(row[key] for key in SETTINGS) for row in rows_of(arguments.csv)}
    missing = [cell for cell in wanted if tuple(cell.values()) not in known]
    print(f"{len(wanted)} cells, {len(missing)} to do", file=sys.stderr)
    if arguments.list:
        for cell in missing:
            print(told(cell, wanted))
        return 0
    failed = _measure_all(missing, wanted, grid["common"].get("like"), arguments)
    if failed:
        print(f"{failed} cells failed and are not in the CSV", file=sys.stderr)
    return int(failed > 0)


def _measure_all(
    missing: list[Cell], wanted: list[Cell], like: str | None, arguments: argparse.Namespace
) -> int:
    """Measure cells while minutes are left; return how many failed."""
    start, failed = time.perf_counter(), 0
    for done, cell in enumerate(missing):
        if (time.perf_counter() - start) / 60 > arguments.minutes:
            print(f"time is up: {len(missing) - done} cells are left", file=sys.stderr)
            break
        try:
            row = measure(cell, arguments.data, like, arguments.out / folder(cell))
        except subprocess.CalledProcessError as error:
            if error.returncode == INTERRUPTED:
                raise SystemExit(INTERRUPTED) from None
            failed += 1
            print(f"failed ({error.returncode}): {told(cell, wanted)}", file=sys.stderr)
        else:
            append(arguments.csv, row)
    return failed


def table(arguments: argparse.Namespace) -> int:
    """Print a line for every setting: what tells it apart, and its accuracy."""
    groups = study_views.grouped(rows_of(arguments.csv), arguments.where)
    print(study_views.table(groups, arguments.by, arguments.seconds))
    return 0


def plot(arguments: argparse.Namespace) -> int:
    """Draw a bar for every setting, or a line against seconds or steps."""
    groups = study_views.grouped(rows_of(arguments.csv), arguments.where)
    study_views.plot(groups, arguments.by, arguments.x, arguments.out)
    return 0


def main(argv: list[str] | None = None) -> int:
    """Read the command line and do what it says; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])  # type: ignore[union-attr]
    parser.add_argument("--csv", type=Path, default=RESULTS)
    does = parser.add_subparsers(required=True)
    running = does.add_parser("run")
    running.add_argument("data")
    running.add_argument("--grid", type=Path, default=HERE / "grids" / "reproduction.toml")
    running.add_argument("--stage", nargs="+", default=[], help="only these stages")
    running.add_argument("--minutes", type=float, default=float("inf"))
    running.add_argument("--out", type=Path, default=Path("runs/study"))
    running.add_argument("--list", action="store_true", help="print the missing cells only")
    running.set_defaults(do=run)
    for function in (table, plot):
        reading = does.add_parser(function.__name__)
        reading.add_argument("--by", nargs="+", default=[], help="settings to name first")
        reading.add_argument("--where", nargs="+", default=[], metavar="SETTING=VALUE")
        reading.set_defaults(do=function)
        if function is plot:
            reading.add_argument("--x", choices=study_views.ACROSS, help="lines against this")
            reading.add_argument("--out", type=Path, default=Path("study.png"))
        else:
            reading.add_argument("--seconds", action="store_true", help="a column of seconds")
    arguments = parser.parse_args(argv)
    return arguments.do(arguments)


if __name__ == "__main__":
    sys.exit(main())
