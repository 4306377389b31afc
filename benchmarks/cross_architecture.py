"""Every comparison on every network: distilled sets and coresets of a folder, by the command line.

    python benchmarks/cross_architecture.py CIFAR10 --like cifar10 --ipc 10 20 --json FILE

Distils DataDAM, ATOM and DM at every ``--ipc`` with a bank of targets, trains every network on each
set and on random, herding and k-center picks, and writes FILE after every network. What is on file
is not done again: an interrupted call goes on where it stopped, and one with more ``--trials`` adds
the missing ones. ``--report`` writes the report of all runs.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

METHODS = ("dm", "datadam", "atom")
BASELINES = ("random", "herding", "kcenter")
NETWORKS = ("convnet", "alexnet", "vgg11", "resnet18", "vit")


def distilset(*arguments: str) -> str:
    """Run one command of the command line; return its standard output."""
    print("$ distilset", *arguments, file=sys.stderr, flush=True)
    command = [sys.executable, "-m", "distilset", *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def distil(arguments: argparse.Namespace, ipc: int) -> list[str]:
    """Distil with every method; return the run folders."""
    folders = []
    like = ["--like", arguments.like] if arguments.like else []
    for method in METHODS:
        folders.append(f"{arguments.out}/{method}-{ipc}")
        size = ["--ipc", str(ipc), "--steps", str(arguments.steps), "--bank", str(arguments.bank)]
        command = ["distill", arguments.data, *like, "--method", method, *size]
        distilset(*command, "--out", folders[-1], "--resume")
    return folders


def evaluate(arguments: argparse.Namespace, folders: list[str], network: str) -> list[dict]:
    """Train one network on every set and every selection; return the rows."""
    baselines = [word for name in BASELINES for word in ("--baseline", name)]
    options = ["--protocol", arguments.protocol, "--trials", str(arguments.trials), *baselines]
    return json.loads(distilset("evaluate", *folders, "--network", network, *options, "--json"))[
        "rows"
    ]


def save(path: Path, arguments: argparse.Namespace, rows: list[dict]) -> None:
    """Put rows in the place of earlier ones of the same cells."""

    def cell(row: dict) -> tuple:
        return row["method"], row["ipc"], row["network"], row["protocol"]

    known = json.loads(path.read_text())["rows"] if path.exists() else []
    rows = [row | {"run": f"{row['method']}-{row['ipc']}"} for row in rows]
    kept = [row for row in known if cell(row) not in {cell(new) for new in rows}]
    facts = {"like": arguments.like, "steps": arguments.steps, "bank": arguments.bank}
    path.write_text(json.dumps(facts | {"rows": kept + rows}, indent=2) + "\n")


def markdown(rows: list[dict]) -> str:
    """Format rows as a Markdown table for each number of images per class, sets by networks."""
    networks = list(dict.fromkeys(row["network"] for row in rows))
    lines = []
    for ipc in sorted({row["ipc"] for row in rows}):
        lines += [f"| {ipc} images per class | " + " | ".join(networks) + " |"]
        lines += ["|---" * (len(networks) + 1) + "|"]
        for name in (*BASELINES, *METHODS):
            cells = {
                row["network"]: row for row in rows if (row["method"], row["ipc"]) == (name, ipc)
            }
            shown = [_accuracy(cells[network]) if network in cells else "" for network in networks]
            lines.append(f"| {name} | " + " | ".join(shown) + " |")
        lines.append("")
    return "\n".join(lines)


def _accuracy(row: dict) -> str:
    spread = f" ± {row['accuracy_std']:.1f}" if row["trials"] > 1 else ""
    return f"{row['accuracy_mean']:.1f}{spread} ({row['trials']})"


def main() -> None:
    """Distil, evaluate, print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])  # type: ignore[union-attr]
    parser.add_argument("data")
    parser.add_argument("--like")
    parser.add_argument("--out", default="runs/cross-architecture")
    parser.add_argument("--ipc", type=int, nargs="+", default=[10, 20])
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--bank", type=int, default=200)
    parser.add_argument("--networks", nargs="+", default=NETWORKS)
    parser.add_argument("--trials", type=int, default=1)
    parser.add_argument("--protocol", default="quick")
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--report", type=Path)
    arguments = parser.parse_args()
    every = []
    for ipc in arguments.ipc:
        folders = distil(arguments, ipc)
        every += folders
        for network in arguments.networks:
            save(arguments.json, arguments, evaluate(arguments, folders, network))
    print(markdown(json.loads(arguments.json.read_text())["rows"]))
    if arguments.report:
        distilset("report", *every, "--no-real", "--out", str(arguments.report))


if __name__ == "__main__":
    main()
