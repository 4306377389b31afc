r"""Continual learning on a folder of images or on digits, by the command line, method by method.

    python benchmarks/continual.py digits
    python benchmarks/continual.py FOLDER --like cifar10 --ipc 20 --steps 200 --bank 100 \
        --network convnet --compile auto --out runs/continual-cifar10

The second takes about half an hour on two free cores. ATOM comes first: the targets in its banks
serve DataDAM and DM, too.

Does what is missing, so an interrupted call goes on where it stopped; prints the command, a
Markdown table with n, and the seconds, or with --json all numbers.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

METHODS = ("atom", "datadam", "dm", "herding", "random")


def command(arguments: argparse.Namespace) -> list[str]:
    """Return the words after ``distilset`` that make the study."""
    words = ["continual", arguments.data, "--out", arguments.out, "--resume"]
    for name in ("tasks", "ipc", "orders", "trials", "steps", "bank", "protocol", "network"):
        words += [f"--{name}", str(getattr(arguments, name))]
    words += ["--compile", arguments.compile, "--seed", str(arguments.seed)]
    words += ["--like", arguments.like] if arguments.like else []
    words += ["--zca"] if arguments.zca else []
    return words + [word for name in arguments.methods for word in ("--method", name)]


def run(words: list[str]) -> tuple[dict, float]:
    """Run the command; return its JSON document and its seconds."""
    shown = " ".join(words)
    print(f"$ distilset {shown}", file=sys.stderr)
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "distilset", *words, "--json"],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return json.loads(done.stdout), time.perf_counter() - start


def main() -> None:
    """Make the study and print its table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])  # type: ignore[union-attr]
    parser.add_argument("data", nargs="?", default="digits")
    parser.add_argument("--like")
    parser.add_argument("--zca", action="store_true")
    parser.add_argument("--out", default="runs/continual")
    parser.add_argument("--tasks", type=int, default=5)
    parser.add_argument("--ipc", type=int, default=5)
    parser.add_argument("--orders", type=int, default=2)
    parser.add_argument("--trials", type=int, default=1)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--bank", type=int, default=50)
    parser.add_argument("--protocol", default="quick")
    parser.add_argument("--network", default="convnet:width=32")
    parser.add_argument("--compile", default="off")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    words = command(arguments)
    document, seconds = run(words)
    if arguments.json:
        print(json.dumps({"command": words, "seconds": seconds, **document}, indent=2))
        return
    print(f"    distilset {' '.join(words)}\n")
    print((Path(arguments.out) / "table.md").read_text("utf-8"))
    print(f"{seconds:.0f} s for what was missing.")


if __name__ == "__main__":
    main()
