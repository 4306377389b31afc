"""The first table: distilled sets beside coresets on a folder of images, by the command line.

    python benchmarks/first_table.py FOLDER --like cifar10 --out runs/first-table

Runs what is missing, so an interrupted call goes on where it stopped; prints a Markdown table and
writes the rows to OUT/rows.json.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

RUNS = (("datadam", 1), ("atom", 1), ("dm", 1), ("atom", 10))
BASELINES = ("random", "kcenter")


def distilset(*arguments: str) -> str:
    """Run one command of the command line; return its standard output."""
    command = [sys.executable, "-m", "distilset", *arguments]
    print("$ distilset", *arguments, file=sys.stderr)
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def distill_all(arguments: argparse.Namespace) -> list[str]:
    """Distil every run of the table; return the run folders."""
    folders = []
    for method, ipc in RUNS:
        folder = f"{arguments.out}/{method}-{ipc}"
        like = ["--like", arguments.like] if arguments.like else []
        options = ["--method", method, "--ipc", str(ipc), "--steps", str(arguments.steps)]
        distilset("distill", arguments.data, *like, *options, "--out", folder, "--resume")
        folders.append(folder)
    return folders


def markdown(rows: list[dict]) -> str:
    """Format rows as a Markdown table, by images per class."""
    lines = [
        "| method | images per class | accuracy % | networks | epochs | seconds |",
        "|---|---|---|---|---|---|",
    ]
    for row in sorted(rows, key=lambda row: (row["ipc"], row["accuracy_mean"])):
        lines.append(
            f"| {row['method']} | {row['ipc']} | {row['accuracy_mean']:.1f} ± "
            f"{row['accuracy_std']:.1f} | {row['trials']} | {row['epochs']} | "
            f"{row['seconds']:.0f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Distil, evaluate, print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])  # type: ignore[union-attr]
    parser.add_argument("data")
    parser.add_argument("--like")
    parser.add_argument("--out", default="runs/first-table")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--trials", type=int, default=3)
    parser.add_argument("--protocol", default="dm")
    arguments = parser.parse_args()
    folders = distill_all(arguments)
    path = Path(arguments.out) / "rows.json"
    if not path.exists():
        baselines = [word for name in BASELINES for word in ("--baseline", name)]
        options = ["--protocol", arguments.protocol, "--trials", str(arguments.trials), *baselines]
        path.write_text(distilset("evaluate", *folders, *options, "--json"))
    print(markdown(json.loads(path.read_text())["rows"]))


if __name__ == "__main__":
    main()
