"""Accuracy of the fast path: banks of several sizes, and bfloat16, against fresh float32.

    python benchmarks/fast_path.py FOLDER --like cifar10 --budget 600 --rows FILE.jsonl

Every cell of the study (images per class, targets, precision, seed) is one distilled set of 1,000
`atom` steps with 64 real images per class, scored on a validation part that is carved from train;
the test split is not touched. Every seed has a bank of its own. Rows are appended as they are made;
a call does the missing ones until ``--budget`` seconds are over, then prints the tables.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

import distilset as ds

STEPS = 1000
Cell = dict[str, Any]


def cells() -> Iterator[Cell]:
    """Yield the cells, in the order of worth; targets 0 means fresh ones."""
    for seed in range(3):
        for ipc in (1, 10):
            for targets in (200, 0, 1000, 50):
                if ipc == 1 or seed < 2:
                    yield {"ipc": ipc, "targets": targets, "precision": "bf16", "seed": seed}
        for targets in (200, 0):
            yield {"ipc": 1, "targets": targets, "precision": "fp32", "seed": seed}


def measure(cell: Cell, splits: ds.Splits, trials: int) -> dict:
    """Distil and score one cell."""
    assert splits.val is not None
    start = time.perf_counter()
    distilled = ds.distill(
        splits.train,
        method="atom",
        ipc=cell["ipc"],
        steps=STEPS,
        seed=cell["seed"],
        bank=cell["targets"],
        precision=cell["precision"],
        settings={
            "distill": {"bank_seed": cell["seed"]},
            "engine": {"compile": "on"},
        },
    )
    seconds = time.perf_counter() - start
    score = ds.evaluate(distilled, splits.val, protocol="dm", trials=trials, seed=1000)
    return {
        **cell,
        "steps": STEPS,
        "seconds": round(seconds, 1),
        "accuracy": score.accuracy_mean,
        "networks": trials,
        "torch": torch.__version__,
    }


def key(row: dict) -> tuple:
    """Return what identifies a cell."""
    return tuple(row[name] for name in ("ipc", "targets", "precision", "seed"))


def read(path: Path) -> list[dict]:
    """Read the rows that are there."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def summary(rows: list[dict]) -> str:
    """Return a Markdown table: mean and standard deviation over the sets of one setting."""
    groups: dict[tuple, list[float]] = {}
    for row in rows:
        name = (row["ipc"], row["targets"] or "fresh", row["precision"])
        groups.setdefault(name, []).append(row["accuracy"])
    lines = [
        "| images per class | targets | precision | accuracy % | sets |",
        "|---|---|---|---|---|",
    ]
    for name, values in sorted(groups.items(), key=str):
        spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
        cells_ = " | ".join(str(part) for part in name)
        lines.append(f"| {cells_} | {statistics.mean(values):.1f}{spread} | {len(values)} |")
    return "\n".join(lines)


def main() -> None:
    """Measure what is missing, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])  # type: ignore[union-attr]
    parser.add_argument("data")
    parser.add_argument("--like")
    parser.add_argument("--budget", type=float, default=0.0, help="seconds for new rows [0: none]")
    parser.add_argument("--trials", type=int, default=2)
    parser.add_argument("--rows", type=Path, required=True)
    arguments = parser.parse_args()
    start = time.perf_counter()
    done = {key(row) for row in read(arguments.rows)}
    missing = [cell for cell in cells() if key(cell) not in done] if arguments.budget else []
    splits = ds.load_data(arguments.data, like=arguments.like, val=0.1)
    for cell in missing:
        if time.perf_counter() - start >= arguments.budget:
            break
        row = measure(cell, splits, arguments.trials)
        print(row, file=sys.stderr)
        with arguments.rows.open("a") as file:
            file.write(json.dumps(row) + "\n")
    print(summary(read(arguments.rows)))
    print(f"{len(read(arguments.rows))} of {len(list(cells()))} cells")


if __name__ == "__main__":
    main()
